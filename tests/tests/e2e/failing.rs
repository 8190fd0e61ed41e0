//! Disks that refuse: a sync that fails, a file system that is full at whatever call comes next. strace makes the system
//! calls of a real node fail.

use crate::{disk::endless_noise, heal::files};
use logseal::site::{AgentOptions, LedgerOptions, Programs, Site, corpus::Corpus};
use logseal_tests::{
    LIMIT, Running,
    cluster::{Cluster, Dice, tell},
    faults::{Failing, Fault},
    file_source, kong_source, new_site, wait_for,
};
use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

const ROUNDS: usize = 12;
const LOAD: Duration = Duration::from_secs(2);
/// Blocks of a test, at most.
const BLOCKS: u64 = 2000;

/// Feeds a node whose system calls fail, round after round; after each an ordinary one must have everything. Answers
/// with how many rounds ended the node, and how many did not.
fn survive(
    what: &str,
    mut next: impl FnMut() -> Vec<u8>,
    fault: impl Fn(&Site, &mut Dice) -> Fault,
) -> [usize; 2] {
    let (dir, site) = new_site();
    let mut running = Running::on(dir, site, LedgerOptions::default(), |site| {
        AgentOptions::new("gw01", file_source("plain", &site.path("plain.log"), "raw"))
    });
    small_segments(&running.site);
    let mut file = File::create(running.site.path("plain.log")).unwrap();
    let (mut lines, mut dice) = (Vec::new(), Dice::new(99));
    let [mut ended, mut went_on, mut failed] = [0; 3];
    for round in 0..ROUNDS {
        running.ledger.stop(LIMIT).unwrap();
        let fault = fault(&running.site, &mut dice);
        let mut failing = Failing::node(&running.site, &fault);
        let begun = Instant::now();
        // Some seconds of load, or until it ends.
        while begun.elapsed() < LOAD && failing.is_running() {
            for _ in 0..20 {
                let line = next();
                file.write_all(&[line.as_slice(), b"\n"].concat()).unwrap();
                lines.push(line);
            }
            dice.pause(Duration::from_millis(40));
        }
        let over = end(&mut failing, round % 2 == 0);
        failed += failing.failed();
        match over {
            End::Ours => went_on += 1,
            End::Its => {
                ended += 1;
                expect_reason(&failing, &format!("round {round}, {}", fault.how));
            }
        }
        running.ledger = running.site.start_ledger().unwrap();
        running.meter().wait_receipted(lines.len() as u64, LIMIT).unwrap_or_else(|failure| {
            panic!("round {round}, {}: {failure}\n{}", fault.how, running.ledger.log_tail())
        });
    }
    assert!(running.lines("plain") == lines, "every line once and in order");
    running.ledger.stop(LIMIT).unwrap();
    verify(&running.site.path("store"));
    assert!(failed >= ROUNDS / 2, "only {failed} calls failed");
    tell(&format!(
        "{what}: {failed} failed in {ROUNDS} rounds, {ended} ended the node, {went_on} did not; {} lines with receipts, \
         0 lost, 0 twice",
        lines.len()
    ));
    [ended, went_on]
}

/// How a program ended.
pub enum End {
    /// As it was told to.
    Ours,
    /// Because of what failed.
    Its,
}

/// Ends a program if it has not ended by itself: at once, or in order, which writes what a kill leaves undone.
pub fn end(failing: &mut Failing, kill: bool) -> End {
    match (failing.is_running(), kill) {
        (true, true) => failing.kill(),
        (true, false) => failing.stop(),
        (false, _) => {}
    }
    if failing.last_words().is_empty() { End::Ours } else { End::Its }
}

/// A program that ends says where the trouble is, and what to do if that is a full disk; a full disk is no defect.
pub fn expect_reason(failing: &Failing, when: &str) {
    let (words, said) = (failing.last_words(), failing.said());
    let places = ["/store", "-spool", "-disk", "/keys", ".key"];
    assert!(
        places.iter().any(|place| words.contains(place)),
        "{when}: it ended, but where? {said}"
    );
    let full = words.to_lowercase().contains("no space left");
    assert!(!full || words.contains("free space"), "{when}: and what is to be done? {said}");
    assert!(!words.contains("please report"), "{when}: {said}");
}

/// Segments of 1 MiB, so that some seconds of load need new ones.
pub fn small_segments(site: &Site) {
    let config = site.path("ledger.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replacen("[store]\n", "[store]\nsegment_mib = 1\n", 1)).unwrap();
}

/// `logseal verify --store` finds nothing.
pub fn verify(store: &Path) {
    let program = Programs::beside_this().unwrap().path("logseal");
    let mut verify = Command::new(program);
    let output = verify.args(["verify", "--deep", "--store"]).arg(store).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The files that a journal makes: segments under their first name, and what is kept beside them.
pub fn made_by_journal(dir: &Path, records: u64) -> Vec<PathBuf> {
    let names =
        (0..records).flat_map(|base| [format!("{base:020}.new"), format!("{base:020}.idx")]);
    names.map(|name| dir.join(name)).collect()
}

/// What a gateway writes.
pub fn access_log() -> impl FnMut() -> Vec<u8> {
    let mut corpus = Corpus::new(3, 0);
    move || corpus.line("f").into_bytes()
}

#[test]
fn after_a_sync_that_failed_the_node_stops_and_nothing_acknowledged_is_lost() {
    let calls = "fdatasync,fsync";
    let [ended, _] = survive(calls, access_log(), |_, dice| {
        let error = ["EIO", "ENOSPC"][dice.below(2) as usize];
        Fault::of(calls, format!("error={error}:when={}", 1 + dice.below(30)))
    });
    assert!(ended * 2 > ROUNDS, "most of the syncs that fail are those of the block log");
}

#[test]
fn a_disk_that_is_full_at_any_write_costs_nothing_that_was_acknowledged() {
    let calls = "pwrite64,pwritev,fallocate,ftruncate";
    survive(calls, access_log(), |_, dice| {
        // As far as this the calls of the node's thread come.
        let first = 1 + dice.below(40);
        Fault::of(calls, format!("error=ENOSPC:when={first}..{}", first + 1 + dice.below(30)))
    });
}

#[test]
fn what_could_not_be_synced_is_not_taken_for_synced() {
    let (dir, site) = new_site();
    let mut running = Running::on(dir, site, LedgerOptions::default(), |site| {
        AgentOptions::new("gw01", file_source("plain", &site.path("plain.log"), "raw"))
    });
    let mut file = File::create(running.site.path("plain.log")).unwrap();
    let store = running.site.path("store");
    // What a flush syncs, and how.
    let synced =
        [("tree/level-0", "fdatasync"), ("index/db", "fdatasync"), ("checkpoint.new", "fsync")];
    let faults = synced.iter().flat_map(|at| ["EIO", "ENOSPC"].map(|error| (*at, error)));
    for (round, ((name, call), error)) in faults.enumerate() {
        running.ledger.stop(LIMIT).unwrap();
        let kept = fs::read(store.join("checkpoint")).unwrap();
        let fault = Fault::of(call, format!("error={error}"));
        let mut failing = Failing::node(&running.site, &fault.on(vec![store.join(name)]));
        failing.wait_ready().unwrap_or_else(|_| panic!("{}", failing.said()));
        writeln!(file, "line {round}").unwrap();
        running.wait_receipted(round as u64 + 1);
        failing.stop();
        let words = failing.last_words();
        assert!(words.contains(name) && words.contains("synced"), "{error} at {name}: {words}");
        assert!(
            fs::read(store.join("checkpoint")).unwrap() == kept,
            "no checkpoint says otherwise"
        );
        running.ledger = running.site.start_ledger().unwrap();
    }
    assert_eq!(running.lines("plain").len(), 6);
    running.ledger.stop(LIMIT).unwrap();
    verify(&store);
}

#[test]
fn a_node_whose_index_cannot_be_synced_at_its_start_says_so_and_starts_later() {
    let mut running = Running::start(kong_source);
    let mut file = File::create(running.site.path("kong.log")).unwrap();
    for (round, error) in (1..).zip(["EIO", "ENOSPC"]) {
        writeln!(file, "line {round}").unwrap();
        running.wait_receipted(round);
        running.ledger.stop(LIMIT).unwrap();
        // sled does it when it opens its file, and once more when it closes it.
        let fault = Fault::of("fsync,fdatasync", format!("error={error}"));
        let fault = fault.on(vec![running.site.path("store/index/db")]);
        let index = running.site.path("store/index/db");
        let before = index.metadata().unwrap().ino();
        let mut failing = Failing::node(&running.site, &fault);
        failing.wait_ready().unwrap_err();
        expect_reason(&failing, error);
        let kept = index.metadata().is_ok_and(|now| now.ino() == before);
        assert_eq!(kept, error == "ENOSPC", "for want of space no index is made again");
        running.ledger = running.site.start_ledger().unwrap();
    }
    running.wait_receipted(2);
    assert_eq!(running.lines("kong").len(), 2);
    running.ledger.stop(LIMIT).unwrap();
    verify(&running.site.path("store"));
}

/// One of four, whose votes are in a log of their own: the others go on without it, and it says nothing that it could
/// not write.
#[test]
fn a_full_disk_or_a_failed_sync_under_the_votes_of_a_node_costs_the_ledger_nothing() {
    const HURT: usize = 1;
    let mut cluster = Cluster::start(&LedgerOptions::default());
    let name = cluster.site.node_name(HURT);
    let (config, log) = (format!("{name}/ledger.toml"), format!("{name}.log"));
    let votes = cluster.site.node_dir(HURT).join("store/votes");
    let mut dice = Dice::new(41);
    let [mut ended, mut went_on, mut failed] = [0; 3];
    for round in 0..ROUNDS {
        cluster.nodes[HURT].stop(LIMIT).unwrap();
        let calls = ["pwrite64,pwritev,fallocate", "fdatasync"][round % 2];
        let (error, first) = (["ENOSPC", "EIO"][round % 2], 1 + dice.below(20));
        let how = format!("error={error}:when={first}..{}", first + 1 + dice.below(8));
        let fault = Fault::of(calls, how).on(files(&votes, ".seg"));
        let program = ["logseal-ledger", config.as_str(), log.as_str()];
        let mut failing = Failing::start(&cluster.site, program, &fault);
        let begun = Instant::now();
        while begun.elapsed() < LOAD && failing.is_running() {
            cluster.log.write(20);
            dice.pause(Duration::from_millis(40));
        }
        let over = end(&mut failing, true);
        failed += failing.failed();
        match over {
            End::Ours => went_on += 1,
            End::Its => {
                ended += 1;
                expect_reason(&failing, &format!("round {round}, {}", fault.how));
            }
        }
        cluster.restart(HURT);
        cluster.wait_back(HURT);
    }
    let all = [0, 1, 2, 3];
    cluster.wait_settled(&all);
    cluster.assert_complete(&all);
    cluster.assert_calm();
    assert!(failed >= ROUNDS / 2, "only {failed} calls failed");
    tell(&format!(
        "the votes of one of four: {failed} calls failed in {ROUNDS} rounds, {ended} ended the node, {went_on} did not; \
         {} lines, 0 lost, 0 twice",
        cluster.log.count()
    ));
}

/// What a node in use makes anew in its store, under names that can be known: checkpoint, segments, what is beside them.
/// Only calls on these fail: sockets, the log and what wakes a thread are written to by the same calls.
fn made_anew(site: &Site) -> Vec<PathBuf> {
    let store = site.path("store");
    let mut paths = made_by_journal(&store.join("blocks"), BLOCKS);
    paths.push(store.join("checkpoint.new"));
    paths
}

#[test]
fn a_disk_that_is_full_for_new_files_costs_nothing_that_was_acknowledged() {
    let calls = "openat,write,writev,rename";
    // So much that every round needs new segments.
    let mut noise = endless_noise();
    let [_, went_on] = survive(
        calls,
        || noise.next().unwrap_or_default(),
        |site, dice| {
            let first = 1 + dice.below(5);
            let how = format!("error=ENOSPC:when={first}..{}", first + dice.below(3));
            Fault::of(calls, how).on(made_anew(site))
        },
    );
    assert_eq!(went_on, ROUNDS, "all of these can be written later, or are waited for");
}

/// The kinds of calls that need space, each by itself.
pub const NEEDING_SPACE: [&str; 3] = [
    "mkdir,openat,bind",
    "write,writev,pwrite64,pwritev,fallocate,ftruncate",
    "rename,linkat,renameat2",
];

/// All files and folders below this one, and by which names they may be made.
pub fn all_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for file in files(dir, "") {
        found.extend(file.parent().map(Path::to_owned));
        for suffix in ["new", "generating"] {
            let mut name = file.file_name().unwrap().to_owned();
            name.push(format!(".{suffix}"));
            found.extend([file.with_extension(suffix), file.with_file_name(name)]);
        }
        found.push(file);
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn a_node_whose_first_start_finds_a_full_disk_starts_when_there_is_space() {
    let (_dir, site) = new_site();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let store = site.path("store");
    let mut ledger = site.start_ledger().unwrap();
    site.configure_agent(&AgentOptions::new(
        "gw01",
        file_source("plain", &site.path("plain.log"), "raw"),
    ))
    .unwrap();
    ledger.stop(LIMIT).unwrap();
    let (places, [mut ended, mut went_on, mut failed]) = (all_below(&store), [0; 3]);
    for (place, calls) in places.iter().flat_map(|p| NEEDING_SPACE.map(|calls| (p, calls))) {
        fs::remove_dir_all(&store).unwrap();
        let fault = Fault::of(calls, "error=ENOSPC:when=1").on(vec![place.clone()]);
        let mut failing = Failing::node(&site, &fault);
        match failing.wait_ready() {
            Ok(()) => failing.stop(),
            Err(_) => wait_for("its end", || (!failing.is_running()).then_some(())),
        }
        failed += failing.failed();
        if failing.last_words().is_empty() {
            went_on += 1;
        } else {
            ended += 1;
            expect_reason(&failing, &format!("{calls} at {}", place.display()));
        }
        let mut ledger = site.start_ledger().unwrap();
        site.enrol("gw01")
            .unwrap_or_else(|error| panic!("{calls} at {}: {error}", place.display()));
        ledger.stop(LIMIT).unwrap();
        verify(&store);
    }
    tell(&format!(
        "{failed} calls failed at {} places in an empty store: {ended} ended the node, {went_on} did not, and it starts after all",
        places.len()
    ));
}
