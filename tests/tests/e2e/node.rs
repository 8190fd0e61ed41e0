//! The node's own faults: configuration, ports, stores, restarts, and what auditors see.

use link::message::FromNode;
use logseal::site::{LedgerOptions, Process, Site};
use logseal_tests::{
    LIMIT, new_site, records,
    wire::{Log, Wire},
};
use std::{net::TcpListener, path::Path, process::Command};
use tempfile::TempDir;

fn configured() -> (TempDir, Site) {
    let (dir, site) = new_site();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    (dir, site)
}

/// Fills a ledger with batches of two lines each, and gives back the log.
fn fill(site: &Site, batches: usize) -> Log {
    let mut log = Log::new("gw01", 1);
    log.enrol(site);
    let (mut wire, _) = Wire::connect(site, "agent", "gw01");
    for number in 0..batches {
        let lines = [format!("line {number} a"), format!("line {number} b")];
        let sealed = log.seal(&[&lines[0], &lines[1]]);
        assert!(matches!(wire.submit(&sealed.batch.encode()), FromNode::Receipt(_)));
    }
    log
}

/// A program that must end by itself with this code; what it said.
fn fails(mut process: Process, code: i32) -> String {
    let status = process.wait(LIMIT).unwrap();
    assert_eq!(status.code(), Some(code), "{}", process.log_tail());
    process.log_tail()
}

fn check(site: &Site, program: &str, config: &str) -> (Option<i32>, String) {
    let output = Command::new(site.programs.path(program))
        .args(["check", "--config"])
        .arg(site.path(config))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said + &String::from_utf8_lossy(&output.stdout))
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is in {text}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_mistake_in_the_nodes_configuration_is_named_with_its_line() {
    let (_dir, site) = configured();
    assert_eq!(check(&site, "logseal-ledger", "ledger.toml").0, Some(0));
    let path = site.path("ledger.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let node1 = site.cert("node", "node1").display().to_string();
    let cases = [
        ("min_free_mib", "min_fre_mib", "ledger.toml:5: unknown field `min_fre_mib`"),
        ("name = \"node1\"", "name = \"Node 1\"", "ledger.toml:1: name: 'Node 1' is not a name"),
        ("name = \"node1\"", "name = \"node9\"", "access/node/node9' is needed here"),
        ("min_free_mib = 64", "min_free_mib = \"64\"", "ledger.toml:5: invalid type"),
        ("agents = \"127", "agents = \"x127", "listen.agents"),
        (&node1, "/nowhere.pem", "/nowhere.pem"),
        ("metrics = \"127.0.0.1", "metrics = \"0.0.0.0", "use loopback"),
    ];
    for (from, to, expected) in cases {
        std::fs::write(&path, &good).unwrap();
        replace(&path, from, to);
        let (code, said) = check(&site, "logseal-ledger", "ledger.toml");
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected), "{expected} in {said}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let (_dir, site) = configured();
    let _taken = TcpListener::bind(("127.0.0.1", site.agents_port)).unwrap();
    let said = fails(site.spawn("logseal-ledger", "ledger.toml", "ledger.log").unwrap(), 1);
    let address = format!("127.0.0.1:{} for agents", site.agents_port);
    assert!(said.contains(&address) && said.contains("another program uses this port"), "{said}");
}

#[test]
fn a_store_is_not_opened_by_two_processes() {
    let (_dir, mut site) = configured();
    let _first = site.start_ledger().unwrap();
    let [agents, https, metrics] = logseal::site::free_ports().unwrap();
    (site.agents_port, site.https_port, site.ledger_metrics_port) = (agents, https, metrics);
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let said = fails(site.spawn("logseal-ledger", "ledger.toml", "second.log").unwrap(), 1);
    assert!(said.contains("in use by another process"), "{said}");
}

#[test]
fn a_node_goes_on_after_a_stop_a_kill_and_the_loss_of_everything_derived() {
    let (_dir, site) = configured();
    let mut ledger = site.start_ledger().unwrap();
    let mut log = fill(&site, 20);
    let before = records(&site).0;
    ledger.stop(LIMIT).unwrap();
    let restart = |ledger: &mut Process| {
        *ledger = site.start_ledger().unwrap();
        records(&site).0
    };
    assert_eq!(restart(&mut ledger), before);
    ledger.kill().unwrap();
    assert_eq!(restart(&mut ledger), before);
    for lost in ["store/index", "store/tree"] {
        ledger.kill().unwrap();
        std::fs::remove_dir_all(site.path(lost)).unwrap();
        assert_eq!(restart(&mut ledger), before, "{lost}");
    }
    ledger.stop(LIMIT).unwrap();
    let db = site.path("store/index/db");
    let mut bytes = std::fs::read(&db).unwrap();
    bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(&db, bytes).unwrap();
    assert_eq!(restart(&mut ledger), before, "a damaged index");
    let (mut wire, _) = Wire::connect(&site, "agent", "gw01");
    let next = log.seal(&["after all that"]);
    assert!(matches!(wire.submit(&next.batch.encode()), FromNode::Receipt(_)));
    assert_eq!(records(&site).1.len(), 41);
}

#[test]
fn a_block_that_was_lost_or_kept_unacknowledged_is_neither_missing_nor_twice() {
    let (_dir, site) = configured();
    let mut ledger = site.start_ledger().unwrap();
    let mut log = fill(&site, 5);
    ledger.stop(LIMIT).unwrap();
    let copy = |from: &str, to: &str| {
        let (from, to) = (site.path(from), site.path(to));
        let _ = std::fs::remove_dir_all(&to);
        let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(copied.success());
    };
    copy("store", "old");
    let last = log.seal(&["the last one"]).batch.encode();
    let submit_last = || {
        let (mut wire, _) = Wire::connect(&site, "agent", "gw01");
        assert!(matches!(wire.submit(&last), FromNode::Receipt(_)));
        records(&site).1.len()
    };
    ledger = site.start_ledger().unwrap();
    assert_eq!(submit_last(), 11);
    ledger.stop(LIMIT).unwrap();
    // Kept: the block is durable, what is derived from it never came to the disk.
    copy("old/index", "store/index");
    copy("old/tree", "store/tree");
    ledger = site.start_ledger().unwrap();
    assert_eq!(records(&site).1.len(), 11);
    assert_eq!(submit_last(), 11);
    ledger.stop(LIMIT).unwrap();
    // Lost: the block never came to the disk, so nothing derived from it and no signature did.
    copy("old", "store");
    ledger = site.start_ledger().unwrap();
    assert_eq!(records(&site).1.len(), 10);
    assert_eq!(submit_last(), 11);
    ledger.stop(LIMIT).unwrap();
}

#[test]
fn a_node_whose_block_log_lost_what_was_signed_for_does_not_sign_a_second_history() {
    let (_dir, site) = configured();
    let mut ledger = site.start_ledger().unwrap();
    let mut log = fill(&site, 5);
    ledger.stop(LIMIT).unwrap();
    let paths = [site.path("store/blocks"), site.path("old")];
    assert!(Command::new("cp").arg("-a").args(paths).status().unwrap().success());
    ledger = site.start_ledger().unwrap();
    let (mut wire, _) = Wire::connect(&site, "agent", "gw01");
    wire.submit(&log.seal(&["the last one"]).batch.encode());
    drop(wire);
    ledger.stop(LIMIT).unwrap();
    std::fs::remove_dir_all(site.path("store/blocks")).unwrap();
    std::fs::rename(site.path("old"), site.path("store/blocks")).unwrap();
    let signed = std::fs::read(site.path("store/checkpoint")).unwrap();
    let refuse = || {
        let said = fails(site.spawn("logseal-ledger", "ledger.toml", "ledger.log").unwrap(), 2);
        assert!(said.contains("second history") && said.contains("backup"), "{said}");
        assert_eq!(std::fs::read(site.path("store/checkpoint")).unwrap(), signed);
    };
    refuse();
    // The same with nothing but the signed checkpoint left to tell.
    std::fs::remove_dir_all(site.path("store/index")).unwrap();
    refuse();
}

#[test]
fn a_wrong_hash_in_the_tree_files_is_put_right_at_the_next_start() {
    let (_dir, site) = configured();
    let mut ledger = site.start_ledger().unwrap();
    fill(&site, 100);
    let before = records(&site).0;
    ledger.stop(LIMIT).unwrap();
    let leaves = site.path("store/tree/level-0");
    let good = std::fs::read(&leaves).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    std::fs::write(&leaves, bad).unwrap();
    let _ledger = site.start_ledger().unwrap();
    assert_eq!(records(&site).0, before);
    assert!(std::fs::read(&leaves).unwrap() == good);
}

#[test]
fn an_audit_of_the_store_names_the_first_entry_that_was_altered() {
    let (_dir, site) = configured();
    let mut ledger = site.start_ledger().unwrap();
    fill(&site, 10);
    ledger.stop(LIMIT).unwrap();
    let verify = || {
        let output = Command::new(site.programs.path("logseal"))
            .args(["verify", "--json", "--store"])
            .arg(site.path("store"))
            .arg("--policy")
            .arg(site.path("policy"))
            .output()
            .unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = verify();
    assert_eq!((code, said["records"].as_u64()), (Some(0), Some(20)), "{said}");

    let leaves = site.path("store/tree/level-0");
    let good = std::fs::read(&leaves).unwrap();
    let mut bad = good.clone();
    bad[7 * 32 + 3] ^= 1;
    std::fs::write(&leaves, bad).unwrap();
    let (code, said) = verify();
    assert_eq!((code, said["entry"].as_u64()), (Some(1), Some(7)), "{said}");
    std::fs::write(&leaves, good).unwrap();

    let segment = std::fs::read_dir(site.path("store/blocks"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "seg"))
        .unwrap();
    let good = std::fs::read(&segment).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&segment, bad).unwrap();
    let (code, said) = verify();
    assert_eq!(code, Some(1), "{said}");
    let entry = said["entry"].as_u64().unwrap();
    assert!((1..40).contains(&entry), "{said}");
    std::fs::write(&segment, &good).unwrap();

    let checkpoint = site.path("store/checkpoint");
    let text = std::fs::read_to_string(&checkpoint).unwrap();
    let forged = text.replacen("\n42\n", "\n41\n", 1);
    assert_ne!(forged, text, "{text}");
    std::fs::write(&checkpoint, forged).unwrap();
    assert_eq!(verify().0, Some(1), "a forged checkpoint");
    std::fs::remove_file(&checkpoint).unwrap();
    assert_eq!(verify().0, Some(1), "a deleted checkpoint");
    std::fs::write(&checkpoint, text).unwrap();
    assert_eq!(verify().0, Some(0));
    let mut bad = good.clone();
    bad[20] ^= 1;
    std::fs::write(&segment, bad).unwrap();
    assert_eq!(verify().0, Some(1), "a damaged segment header");
}

#[test]
fn entries_need_a_role_and_hash_tiles_do_not_where_that_is_configured() {
    let (_dir, site) = configured();
    let _ledger = site.start_ledger().unwrap();
    fill(&site, 3);
    let curl = |path: &str, with_certificate: bool| {
        let address = format!("https://127.0.0.1:{}{path}", site.https_port);
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
            .arg(site.path("pki/ca.pem"))
            .arg(address);
        if with_certificate {
            curl.arg("--cert").arg(site.cert("auditor", "auditor"));
            curl.arg("--key").arg(site.key("auditor", "auditor"));
        }
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    };
    let size = records(&site).0.size.0;
    let (hashes, entries) =
        (format!("/tile/0/000.p/{size}"), format!("/tile/entries/000.p/{size}"));
    assert_eq!(curl("/checkpoint", false), "200");
    assert_eq!(curl(&hashes, false), "200");
    assert_eq!(curl(&entries, false), "403");
    assert_eq!(curl(&entries, true), "200");
    assert_eq!(curl("/tile/0/001", true), "404");
    assert_eq!(curl("/tile/0/0", true), "404");
    assert_eq!(curl("/", true), "404");
}
