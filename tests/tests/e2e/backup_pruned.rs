//! Backups of stores whose old blocks were given up, and of such in which that is going on.

use crate::{
    backup::{Case, flip},
    export::logseal,
};
use logseal::site::{LedgerOptions, Site};
use logseal_ledger::store::decode_base;
use logseal_tests::{LIMIT, generate::Generator, new_site, wait_for};
use record::crypto::sha256;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use service::members::FaultModel;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(86_400);
const RETENTION: &str = "[retention]\ndays = 365\n";
const SEGMENT_BYTES: u64 = 128 << 10;

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn options() -> LedgerOptions {
    LedgerOptions { extra: RETENTION.to_owned(), ..LedgerOptions::default() }
}

/// The store of a ledger of one node, filled.
fn old_store(old: u64) -> (TempDir, Case) {
    let (dir, site) = new_site();
    site.configure_ledger(&options()).unwrap();
    fill(&site, old);
    let store = site.path("store");
    (dir, Case::of(site, store))
}

/// Fills stores with so many records of two years ago, half as many of 500 days ago, and some of now.
fn fill(site: &Site, old: u64) {
    let mut generator = Generator::aged(site, 100, Some(SEGMENT_BYTES), 730 * DAY);
    generator.add(old);
    generator.pass(230 * DAY);
    generator.add(old / 2);
    generator.pass(499 * DAY);
    generator.add(1_000);
    generator.let_go();
}

/// Has a node give up what is older than so many days; what it answers, with the node stopped again.
fn prune(case: &Case, days: &str) -> Value {
    let mut node = case.site.start_ledger().unwrap();
    let pruned = give_up(case, days);
    node.stop(LIMIT).unwrap();
    pruned
}

/// As [`prune`], of a node that runs.
fn give_up(case: &Case, days: &str) -> Value {
    let (config, before) = (case.site.path("operator.toml"), first_segment(&case.store));
    let args = ["prune", "--config", shown(&config), "--older-than", days, "--yes"];
    let (code, answer) = case.run(&args);
    assert_eq!(code, 0, "{answer}");
    wait_for("deleted segments", || (first_segment(&case.store) > before).then_some(()));
    answer
}

/// The first record of the first segment.
fn first_segment(store: &Path) -> u64 {
    let names = fs::read_dir(store.join("blocks")).unwrap().map(|entry| entry.unwrap().file_name());
    let numbers = names.filter_map(|name| name.to_str()?.strip_suffix(".seg")?.parse::<u64>().ok());
    numbers.min().unwrap()
}

fn verify(case: &Case, store: &Path) -> (i32, Value) {
    let policy = ["--policy", shown(&case.policy)];
    case.run(&[&["verify", "--store", shown(store), "--deep"][..], &policy].concat())
}

/// Restores a snapshot into a new folder.
fn restore(case: &Case, answer: &Value, name: &str) -> (i32, Value, PathBuf) {
    let (to, id) = (case.site.path(name), answer["snapshot"].as_str().unwrap());
    let (code, restored) = case.run(&case.restore_args(&to, &["--snapshot", id]));
    (code, restored, to)
}

fn snapshot_path(case: &Case, answer: &Value) -> PathBuf {
    case.repo.join("snapshots").join(format!("{}.json", answer["snapshot"].as_str().unwrap()))
}

/// What a snapshot says.
fn snapshot(case: &Case, answer: &Value) -> Value {
    serde_json::from_slice(&fs::read(snapshot_path(case, answer)).unwrap()).unwrap()
}

fn object(case: &Case, object: &Value) -> PathBuf {
    let name = object["name"].as_str().unwrap();
    case.repo.join("objects").join(&name[..2]).join(name)
}

/// How many objects a repository has.
fn objects(case: &Case) -> usize {
    let folders = fs::read_dir(case.repo.join("objects")).into_iter().flatten();
    folders.map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
}

#[test]
fn snapshots_from_before_and_after_a_prune_come_back_as_they_were() {
    let (_dir, case) = old_store(90_000);
    let whole = case.backup(&[]);
    assert!(whole["dropped"] == 0 && whole["minimum_index"] == 0, "{whole}");
    let mut taken = Vec::new();
    for days in ["600", "365"] {
        let pruned = prune(&case, days);
        let answer = case.backup(&[]);
        assert_eq!(answer["dropped"], pruned["to"], "{answer}");
        assert_eq!(answer["minimum_index"], pruned["minimum_index"], "{answer}");
        let same = case.backup(&[]);
        assert_eq!((&same["new_objects"], &same["new_bytes"]), (&0.into(), &0.into()), "{same}");
        taken.push(answer);
    }
    let full = case.backup(&["--full"]);
    assert_eq!((&full["new_objects"], &full["dropped"]), (&0.into(), &taken[1]["dropped"]));
    let (first, second) = (snapshot(&case, &taken[0]), snapshot(&case, &taken[1]));
    let chunks = |snapshot: &Value| snapshot["base"]["chunks"].as_array().unwrap().clone();
    assert!(chunks(&first).len() == 2 && chunks(&second).len() == 3, "{first} {second}");
    assert_eq!(chunks(&first)[0], chunks(&second)[0], "whole chunks stay as they are");
    let (code, list) = case.run(&["backup", "list", shown(&case.repo)]);
    assert_eq!((code, &list["snapshots"][1]["dropped"]), (0, &taken[0]["dropped"]), "{list}");
    assert_eq!(case.check().0, 0);

    for (nth, answer) in [&whole, &taken[0], &taken[1]].into_iter().enumerate() {
        let (code, restored, to) = restore(&case, answer, &format!("restored-{nth}"));
        assert_eq!((code, &restored["proven"]), (0, &true.into()), "{restored}");
        let same = ["root", "size", "dropped", "minimum_index"];
        assert!(same.iter().all(|name| restored[name] == answer[name]), "{restored}");
        assert_eq!(to.join("base").exists(), nth > 0);
    }
    let scratch = case.site.path("scratch");
    fs::create_dir_all(&scratch).unwrap();
    let drill = ["drill", "--from", shown(&case.repo), "--scratch", shown(&scratch)];
    let (code, held) = case.run(&[&drill[..], &["--policy", shown(&case.policy)]].concat());
    assert_eq!((code, &held["dropped"]), (0, &taken[1]["dropped"]), "{held}");

    // A node goes on from it, and gives its proofs; the hashes of what was given up are those that they were.
    let hashes = fs::read(case.store.join("tree/level-0")).unwrap();
    fs::rename(&case.store, case.site.path("gone")).unwrap();
    fs::rename(case.site.path("restored-2"), &case.store).unwrap();
    let mut node = case.site.start_ledger().unwrap();
    let auditor = case.site.path("auditor.toml");
    let proof = |n: &str| {
        let out = case.site.path(format!("proof-{n}"));
        let args = ["proof", "--config", shown(&auditor), "--agent", "generated", "--n", n];
        case.run(&[&args[..], &["--output", shown(&out)]].concat())
    };
    let (code, kept) = proof("135500");
    assert_eq!(code, 0, "{kept}");
    let (code, gone) = proof("17");
    assert!(code == 2 && gone["error"].as_str().unwrap().contains("given up"), "{gone}");
    node.stop(LIMIT).unwrap();
    let (code, told) = verify(&case, &case.store);
    assert_eq!(code, 0, "{told}");
    let again = fs::read(case.store.join("tree/level-0")).unwrap();
    assert!(again.starts_with(&hashes));
    // What went on from it is backed up as what it is.
    let next = case.backup(&[]);
    assert_eq!(next["dropped"], taken[1]["dropped"], "{next}");

    // With the snapshots go the chunks that only they named.
    let (code, pruned) = case.run(&["backup", "prune", shown(&case.repo), "--keep", "1"]);
    assert!(code == 0 && pruned["objects"].as_u64().unwrap() > 1, "{pruned}");
    assert!(
        !object(&case, &chunks(&first)[1]).exists() && object(&case, &chunks(&first)[0]).exists()
    );
    assert_eq!(case.check().0, 0);
    assert_eq!(restore(&case, &next, "newest").0, 0);
}

#[test]
fn snapshots_of_older_programs_come_back_and_those_of_newer_ones_are_refused() {
    let (_dir, case) = old_store(2_000);
    let answer = case.backup(&[]);
    let (path, mut said) = (snapshot_path(&case, &answer), snapshot(&case, &answer));
    assert_eq!(said["version"], 2);
    said["version"] = 1.into();
    fs::write(&path, said.to_string()).unwrap();
    let (code, restored, _) = restore(&case, &answer, "old");
    assert_eq!((code, &restored["root"]), (0, &answer["root"]), "{restored}");
    assert_eq!(case.backup(&[])["new_objects"], 0, "all of it is read again, and is there");
    (said["version"], said["something"]) = (3.into(), "new".into());
    fs::write(&path, said.to_string()).unwrap();
    let (code, refused, _) = restore(&case, &answer, "new");
    let error = refused["error"].as_str().unwrap();
    assert!(code == 2 && error.contains("use a newer program"), "{refused}");
}

#[test]
fn a_pruned_store_can_be_put_together_by_hand() {
    let (_dir, case) = old_store(2_000);
    prune(&case, "365");
    let answer = case.backup(&[]);
    let said = snapshot(&case, &answer);
    fs::rename(&case.store, case.site.path("gone")).unwrap();
    let copy = |from: &Value, to: &str| {
        fs::copy(object(&case, from), case.store.join(to)).unwrap();
    };
    fs::create_dir_all(case.store.join("blocks")).unwrap();
    fs::create_dir_all(case.store.join("tree")).unwrap();
    for segment in said["segments"].as_array().unwrap() {
        let first = segment["first"].as_u64().unwrap();
        copy(&segment["object"], &format!("blocks/{first:020}.seg"));
    }
    copy(&said["base"]["object"], "base");
    copy(&said["base"]["chunks"][0], "tree/level-0");
    fs::write(case.store.join("checkpoint"), said["checkpoint"].as_str().unwrap()).unwrap();
    case.site.start_ledger().unwrap().stop(LIMIT).unwrap();
    let (code, told) = verify(&case, &case.store);
    assert_eq!(code, 0, "{told}");
}

#[test]
fn a_backup_during_a_prune_is_of_before_or_after_it() {
    let (_dir, case) = old_store(20_000);
    let mut node = case.site.start_ledger().unwrap();
    // It is stopped in the middle of copying segments that go then.
    let program = case.site.programs.path("logseal");
    let mut command = Command::new(program);
    let mut backup =
        command.arg("--json").args(case.backup_args(&[])).stdout(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&backup);
    wait_for("some segments", || (objects(&case) >= 3).then_some(()));
    kill_process(pid, Signal::STOP).unwrap();
    assert!(
        backup.try_wait().unwrap().is_none()
            && !case.repo.join("snapshots").read_dir().unwrap().any(|_| true)
    );
    let pruned = give_up(&case, "365");
    kill_process(pid, Signal::CONT).unwrap();
    let output = backup.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{answer}");
    assert_eq!(answer["dropped"], pruned["to"], "{answer}");
    let (code, restored, _) = restore(&case, &answer, "restored");
    assert_eq!((code, &restored["dropped"]), (0, &pruned["to"]), "{restored}");
    node.stop(LIMIT).unwrap();
}

#[test]
fn a_member_of_a_cluster_comes_back_from_a_backup_of_its_pruned_store() {
    let _turn = logseal_tests::cluster::turn();
    let dir = tempfile::tempdir().unwrap();
    let site = Site::make_with(dir.path(), 4, FaultModel::Byzantine).unwrap();
    site.configure_nodes(&options()).unwrap();
    fill(&site, 5_000);
    let mut nodes = site.start_nodes().unwrap();
    let store = site.node_dir(2).join("store");
    let case = Case::of(site, store);
    let pruned = give_up(&case, "600");
    let answer = case.backup(&[]);
    assert_eq!(answer["dropped"], pruned["to"], "{answer}");
    nodes[2].kill().unwrap();
    fs::remove_dir_all(&case.store).unwrap();
    let (code, restored) = case.run(&case.restore_args(&case.store, &[]));
    assert_eq!((code, &restored["rejoins"]), (0, &true.into()), "{restored}");
    nodes[2] = case.site.start_node(2).unwrap();
    wait_for("a vote", || (!case.store.join("rejoining").exists()).then_some(()));
    // Nothing is decided without it now, and it has what the next decision is made of.
    nodes[3].stop(LIMIT).unwrap();
    give_up(&case, "365");
    for node in &mut nodes[..3] {
        node.stop(LIMIT).unwrap();
    }
    let (code, told) = verify(&case, &case.store);
    assert_eq!(code, 0, "{told}");
}

#[test]
fn a_checkpoint_from_before_the_decision_is_waited_past() {
    let (_dir, case) = old_store(5_000);
    let (path, old) = (case.store.join("checkpoint"), case.site.path("old-checkpoint"));
    fs::copy(&path, &old).unwrap();
    let pruned = prune(&case, "365");
    let newest = case.site.path("newest-checkpoint");
    fs::rename(&path, &newest).unwrap();
    fs::copy(&old, &path).unwrap();
    let answer = std::thread::scope(|scope| {
        let backup = scope.spawn(|| case.backup(&[]));
        wait_for("segments", || (objects(&case) >= 1).then_some(()));
        fs::rename(&newest, &path).unwrap();
        backup.join().unwrap()
    });
    assert_eq!(answer["dropped"], pruned["to"], "{answer}");
    assert_eq!(restore(&case, &answer, "restored").0, 0);
}

#[test]
fn a_kill_at_any_moment_leaves_a_repository_and_no_half_a_pruned_store() {
    let (_dir, case) = old_store(20_000);
    prune(&case, "365");
    for round in 0..15u64 {
        case.run_and_kill(&case.backup_args(&[]), Duration::from_millis(11 * round));
        if case.repo.join("repository.json").exists() {
            let (code, answer) = case.check();
            assert_eq!(code, 0, "round {round}: {answer}");
        }
    }
    let answer = case.backup(&[]);
    assert_eq!(case.check().0, 0);
    let to = case.site.path("restored");
    for round in 0..15u64 {
        case.run_and_kill(&case.restore_args(&to, &[]), Duration::from_millis(7 * round));
        if to.exists() {
            let parts = ["checkpoint", "blocks", "base", "tree/level-0"];
            assert!(parts.iter().all(|part| to.join(part).exists()));
            fs::remove_dir_all(&to).unwrap();
        }
    }
    let (code, restored) = case.run(&case.restore_args(&to, &[]));
    assert_eq!((code, &restored["root"]), (0, &answer["root"]), "{restored}");
    assert!(!case.site.path("restored.restoring").exists());
}

#[test]
fn what_is_kept_of_given_up_blocks_is_what_it_was_or_is_refused() {
    let (_dir, case) = old_store(5_000);
    prune(&case, "365");
    let answer = case.backup(&[]);
    let said = snapshot(&case, &answer);
    let to = case.site.path("restored");
    for part in [&said["base"]["chunks"][0], &said["base"]["object"]] {
        let path = object(&case, part);
        flip(&path);
        let (code, told) = case.check();
        let problem = told["problems"][0].as_str().unwrap();
        assert!(code == 1 && problem.contains(shown(&path)), "{told}");
        let (code, told) = case.run(&case.restore_args(&to, &[]));
        let error = told["error"].as_str().unwrap();
        assert!(code == 2 && error.contains(shown(&path)) && !to.exists(), "{told}");
        flip(&path);
    }

    // In the store, too.
    for (name, shows) in [("tree/level-0", "level-0"), ("base", "base")] {
        let (path, other) = (case.store.join(name), case.site.path("other"));
        // In front of the end of what was given up, whatever stands behind that.
        let mut bytes = fs::read(&path).unwrap();
        bytes[1000] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let args = ["backup", "--store", shown(&case.store), "--to", shown(&other), "--policy"];
        let (code, told) = logseal(&case.site, &[&args[..], &[shown(&case.policy)]].concat());
        let error = told["error"].as_str().unwrap();
        assert!(code == 2 && error.contains(shown(&path)) && error.contains(shows), "{told}");
        bytes[1000] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let _ = fs::remove_dir_all(&other);
    }
    assert_eq!(case.backup(&["--full"])["new_objects"], 0);
    other_leaves_are_refused(&case, &answer, said.clone());
    another_base_is_refused(&case, &answer, said);
}

/// Puts bytes into a repository; the object.
fn add_object(case: &Case, bytes: &[u8]) -> Value {
    let name =
        sha256(&[bytes]).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let length = bytes.len();
    let added = json!({ "name": &name, "sha256": &name, "stored": length, "bytes": length });
    let path = object(case, &added);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    added
}

/// Leaf hashes that are other ones from the beginning, under a name of their own.
fn other_leaves_are_refused(case: &Case, answer: &Value, mut said: Value) {
    let mut leaves = fs::read(object(case, &said["base"]["chunks"][0])).unwrap();
    leaves[100] ^= 1;
    let other = add_object(case, &leaves);
    let name = other["name"].as_str().unwrap().to_owned();
    said["base"]["chunks"][0] = other;
    fs::write(snapshot_path(case, answer), said.to_string()).unwrap();
    let (code, told, to) = restore(case, answer, "other-leaves");
    let error = told["error"].as_str().unwrap();
    assert!(code == 2 && !to.exists() && error.contains(&name), "{told}");
}

/// A base that is sound in itself, and whose end is the same, but which nobody declared.
fn another_base_is_refused(case: &Case, answer: &Value, mut said: Value) {
    let file = fs::read(object(case, &said["base"]["object"])).unwrap();
    let mut base = (*decode_base(&file).unwrap().base).clone();
    for log in base.agents.values_mut() {
        log.newest.pop().unwrap();
    }
    let encoded = base.encode();
    let digest = replica::Base::digest_of(&encoded);
    said["base"]["object"] = add_object(case, &[&encoded[..], &digest.0].concat());
    fs::write(snapshot_path(case, answer), said.to_string()).unwrap();
    let (code, told, _) = restore(case, answer, "other-digest");
    let error = told["error"].as_str().unwrap();
    assert!(code == 2 && error.contains("not the one that the snapshot speaks of"), "{told}");
    said["base"]["digest"] = digest.to_string().into();
    fs::write(snapshot_path(case, answer), said.to_string()).unwrap();
    let (code, told, to) = restore(case, answer, "other-base");
    let error = told["error"].as_str().unwrap();
    let id = answer["snapshot"].as_str().unwrap();
    assert!(code == 2 && !to.exists() && error.contains(id), "{told}");
    assert!(
        error.contains("belongs to no decision") && error.contains(&digest.to_string()),
        "{told}"
    );
}
