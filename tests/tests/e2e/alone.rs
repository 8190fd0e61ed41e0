//! The store of a ledger of one, when its disk lies: what can be made again is, and what cannot is named.

use crate::{
    heal::{files, flip},
    prune,
};
use logseal::site::{LedgerOptions, Site};
use logseal_ledger::{
    config::Config,
    store::{
        Options, Store,
        check::{Checker, Depth, Fault, FaultKind, Mend, items},
    },
};
use logseal_tests::{
    LIMIT,
    cluster::Dice,
    generate::{Generator, options},
    new_site, wait_for,
};
use record::{batch::Codec, merkle::EntryIndex};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

const FLIPS: usize = 500;
const RECORDS: u64 = 2_000;
const SEGMENT_BYTES: u64 = 32 << 10;

/// A store as it was, to begin with again and again.
struct Pristine {
    _dir: TempDir,
    site: Site,
    store: PathBuf,
    options: Options,
    /// The first entry that was not given up.
    first: u64,
    /// From that one on.
    entries: Vec<Vec<u8>>,
}

impl Pristine {
    fn make() -> Self {
        let (dir, site) = new_site();
        site.configure_ledger(&LedgerOptions::default()).unwrap();
        let mut generator = Generator::with(&site, 100, Some(SEGMENT_BYTES));
        generator.add(RECORDS);
        generator.let_go();
        Self::of(dir, site)
    }

    /// A store whose older half was given up.
    fn pruned() -> Self {
        let (dir, site) = new_site();
        site.configure_ledger(&prune::options(prune::RETENTION)).unwrap();
        let mut generator = Generator::aged(&site, 100, Some(SEGMENT_BYTES), 500 * prune::DAY);
        generator.add(RECORDS);
        generator.pass(499 * prune::DAY);
        generator.add(RECORDS);
        generator.let_go();
        let mut node = site.start_ledger().unwrap();
        let (code, said) = prune::prune(&site, &["--yes"]);
        assert_eq!(code, 0, "{said}");
        wait_for("the base", || site.path("store/base").exists().then_some(()));
        node.stop(LIMIT).unwrap();
        Self::of(dir, site)
    }

    fn of(dir: TempDir, site: Site) -> Self {
        let path = site.node_dir(0).join("ledger.toml");
        let config = Config::load(&path).unwrap();
        let options = options(&config);
        let store = site.path("pristine");
        copy(&config.store, &store);
        let opened = Store::open(&config.store, &options).unwrap();
        let (end, reader) = (EntryIndex(opened.state.tree.size().0), opened.store.reader());
        let first = reader.dropped().0;
        let entries = reader.entries(EntryIndex(first), end).unwrap();
        Pristine { _dir: dir, site, store, options, first, entries }
    }

    /// A copy of the store, which may be damaged.
    fn copy(&self) -> PathBuf {
        let to = self.site.path("damaged");
        if to.exists() {
            fs::remove_dir_all(&to).unwrap();
        }
        copy(&self.store, &to);
        to
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Looks at everything, as the scrub does.
fn look(dir: &Path, store: &Store, options: &Options) -> Vec<Fault> {
    let reader = store.reader();
    let (tree, index) = (reader.tree().clone(), reader.index().clone());
    let params = options.params.clone();
    let mut checker = Checker::new(dir, params, Depth::Hashes, tree, Some(index), None);
    let chunks = checker.begin(reader.blocks(), reader.base()).unwrap();
    for chunk in 0..chunks {
        checker.chunk(chunk);
    }
    let mut codec = Codec::default();
    for extent in reader.blocks().segments() {
        let segment = reader.blocks().load(extent).unwrap();
        items(&options.params, &segment, false, &mut codec)
            .into_iter()
            .for_each(|item| checker.take(item));
    }
    checker.end();
    checker.take_faults()
}

/// What became of a damaged store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Nothing was wrong once the store was open: it had made again what was hit, or the bit meant nothing.
    Whole,
    /// Everything is as it was.
    Healed,
    /// What is lost is named, and everything else is there.
    Named,
    /// The node refuses to start, and says which file and what to do.
    Refused,
}

fn fate(pristine: &Pristine, dir: &Path, what: &str) -> Fate {
    let opened = match Store::open(dir, &pristine.options) {
        Ok(opened) => opened,
        Err(error) => {
            let said = error.to_string();
            let named = said.contains("blocks") || said.contains(&dir.display().to_string());
            let told = ["Restore", "backup", "delete", "again"].iter().any(|w| said.contains(w));
            assert!(named && told, "{what}: it does not say which file and what to do: {said}");
            return Fate::Refused;
        }
    };
    let mut store = opened.store;
    let first = look(dir, &store, &pristine.options);
    for mend in first.iter().filter_map(|fault| fault.mend.as_ref()) {
        store.mend(mend).unwrap();
    }
    let left = look(dir, &store, &pristine.options);
    let mut lost = Vec::new();
    for fault in &left {
        let gone = matches!(fault.mend, Some(Mend::Base | Mend::Chunk(_))) && pristine.first > 0;
        assert!(
            gone || matches!(fault.kind, FaultKind::Damaged | FaultKind::Missing),
            "{what}: not mended: {fault}"
        );
        assert!(fault.file.starts_with(dir), "{what}: it names no file: {fault}");
        match &fault.mend {
            Some(Mend::Blocks(_)) => {
                lost.push(fault.entries.clone().expect("lost entries are named"));
            }
            // The header of a segment that lacks blocks as well.
            Some(Mend::Segment(_)) => {}
            // What stays of entries that were given up: other nodes have it, or a backup.
            Some(Mend::Base | Mend::Chunk(_)) => {}
            other => panic!("{what}: {fault}: {other:?}"),
        }
    }
    // Whatever is not named as lost is there, bit for bit.
    let reader = store.reader();
    let (mut at, begin) = (pristine.first, pristine.first);
    let last = begin + pristine.entries.len() as u64;
    while at < last {
        if let Some(range) = lost.iter().find(|range| range.contains(&at)) {
            at = range.end;
            continue;
        }
        let end = lost.iter().map(|range| range.start).filter(|start| *start > at).min();
        let end = end.unwrap_or(last);
        let kept = reader.entries(EntryIndex(at), EntryIndex(end)).unwrap();
        let right = &pristine.entries[(at - begin) as usize..(end - begin) as usize];
        assert!(kept == right, "{what}: silently altered");
        at = end;
    }
    match (first.is_empty(), left.is_empty()) {
        (true, _) => Fate::Whole,
        (_, true) => Fate::Healed,
        _ => Fate::Named,
    }
}

#[test]
fn no_bit_that_flips_in_the_store_of_a_single_node_goes_unnoticed() {
    let pristine = Pristine::make();
    let mut dice = Dice::new(5);
    for (folder, suffix) in
        [("blocks", ".seg"), ("blocks", ".idx"), ("tree", ""), ("index", ""), ("", "checkpoint")]
    {
        let mut fates: BTreeMap<Fate, usize> = BTreeMap::new();
        for n in 0..FLIPS {
            let dir = pristine.copy();
            flip(&files(&dir.join(folder), suffix), 1, &mut dice);
            let what = format!("flip {n} in {folder}/*{suffix}");
            *fates.entry(fate(&pristine, &dir, &what)).or_default() += 1;
        }
        println!("{FLIPS} flips in {folder}/*{suffix}, one at a time: {fates:?}");
        if folder == "blocks" && suffix == ".seg" {
            assert!(fates.contains_key(&Fate::Named), "a flip in a block costs it: {fates:?}");
        } else {
            assert!(!fates.contains_key(&Fate::Named), "it can be made again: {fates:?}");
        }
    }
}

#[test]
fn what_stays_of_entries_that_were_given_up_is_watched_as_well() {
    let pristine = Pristine::pruned();
    let mut dice = Dice::new(8);
    for (folder, suffix) in [("", "base"), ("tree", ""), ("blocks", ".seg"), ("index", "")] {
        let mut fates: BTreeMap<Fate, usize> = BTreeMap::new();
        for n in 0..FLIPS {
            let dir = pristine.copy();
            flip(&files(&dir.join(folder), suffix), 1, &mut dice);
            let what = format!("flip {n} in {folder}/*{suffix}");
            *fates.entry(fate(&pristine, &dir, &what)).or_default() += 1;
        }
        println!("{FLIPS} flips in {folder}/*{suffix} of a pruned store: {fates:?}");
        if folder.is_empty() {
            assert_eq!(fates.get(&Fate::Named), Some(&FLIPS), "the base is all there is of them");
        }
    }
    cut_and_delete(&pristine);
}

#[test]
fn no_file_of_a_single_nodes_store_is_cut_or_deleted_unnoticed() {
    cut_and_delete(&Pristine::make());
}

fn cut_and_delete(pristine: &Pristine) {
    let mut dice = Dice::new(6);
    let mut fates: BTreeMap<(bool, Fate), usize> = BTreeMap::new();
    let names: Vec<PathBuf> = files(&pristine.store, "")
        .into_iter()
        .map(|path| path.strip_prefix(&pristine.store).unwrap().to_owned())
        .collect();
    for name in &names {
        // Deleted, cut to nothing, by a byte, and anywhere.
        let length = pristine.store.join(name).metadata().unwrap().len();
        let anywhere = (0..8).map(|_| dice.below(length + 1));
        let cuts = [None, Some(0), length.checked_sub(1)].into_iter().chain(anywhere.map(Some));
        for cut in cuts {
            let dir = pristine.copy();
            let file = dir.join(name);
            match cut {
                None => fs::remove_file(&file).unwrap(),
                Some(length) => {
                    fs::File::options().write(true).open(&file).unwrap().set_len(length).unwrap();
                }
            }
            let what = format!("{} cut to {cut:?}", name.display());
            *fates.entry((cut.is_none(), fate(pristine, &dir, &what))).or_default() += 1;
        }
    }
    println!("{} files deleted (true) or cut (false): {fates:?}", names.len());
}
