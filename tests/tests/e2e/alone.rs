//! The store of a ledger of one, when its disk lies: what can be made again is, and what cannot is named.

use crate::heal::{files, flip};
use logseal::site::{LedgerOptions, Site};
use logseal_ledger::{
    config::Config,
    store::{
        Options, Store,
        check::{Checker, Depth, Fault, FaultKind, Mend, items},
    },
};
use logseal_tests::{
    cluster::Dice,
    generate::{Generator, options},
    new_site,
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
    entries: Vec<Vec<u8>>,
}

impl Pristine {
    fn make() -> Self {
        let (dir, site) = new_site();
        site.configure_ledger(&LedgerOptions::default()).unwrap();
        let path = site.node_dir(0).join("ledger.toml");
        let mut generator = Generator::with(&site, 100, Some(SEGMENT_BYTES));
        generator.add(RECORDS);
        generator.let_go();
        let config = Config::load(&path).unwrap();
        let options = options(&config);
        let store = site.path("pristine");
        copy(&config.store, &store);
        let opened = Store::open(&config.store, &options).unwrap();
        let (end, reader) = (EntryIndex(opened.state.tree.size().0), opened.store.reader());
        let entries = reader.entries(EntryIndex(0), end).unwrap();
        Pristine { _dir: dir, site, store, options, entries }
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
        assert!(
            matches!(fault.kind, FaultKind::Damaged | FaultKind::Missing),
            "{what}: not mended: {fault}"
        );
        assert!(fault.file.starts_with(dir), "{what}: it names no file: {fault}");
        match &fault.mend {
            Some(Mend::Blocks(_)) => {
                lost.push(fault.entries.clone().expect("lost entries are named"));
            }
            // The header of a segment that lacks blocks as well.
            Some(Mend::Segment(_)) => {}
            other => panic!("{what}: {fault}: {other:?}"),
        }
    }
    // Whatever is not named as lost is there, bit for bit.
    let reader = store.reader();
    let mut at = 0;
    while at < pristine.entries.len() as u64 {
        if let Some(range) = lost.iter().find(|range| range.contains(&at)) {
            at = range.end;
            continue;
        }
        let end = lost.iter().map(|range| range.start).filter(|start| *start > at).min();
        let end = end.unwrap_or(pristine.entries.len() as u64);
        let kept = reader.entries(EntryIndex(at), EntryIndex(end)).unwrap();
        assert!(kept == pristine.entries[at as usize..end as usize], "{what}: silently altered");
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
fn no_file_of_a_single_nodes_store_is_cut_or_deleted_unnoticed() {
    let pristine = Pristine::make();
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
            *fates.entry((cut.is_none(), fate(&pristine, &dir, &what))).or_default() += 1;
        }
    }
    println!("{} files deleted (true) or cut (false): {fates:?}", names.len());
}
