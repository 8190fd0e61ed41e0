//! The README's first command, without the building.

use logseal::site::Programs;
use serde_json::Value;
use std::{path::Path, process::Command};

/// Runs the demo with its files in `place`; what it printed, and its last line.
fn demo(place: &Path, options: &[&str]) -> (String, Value) {
    let programs = Programs::beside_this().unwrap();
    let output = Command::new(programs.path("logseal"))
        .args(["demo", "--once", "--dir"])
        .arg(place)
        .args(options)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{errors}");
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((last["lost"].as_u64(), last["duplicated"].as_u64()), (Some(0), Some(0)), "{said}");
    assert_eq!(last["records"], last["receipts"], "{said}");
    assert!(last["records"].as_u64().unwrap() > 1000, "{said}");
    assert_eq!(
        (last["verified"].as_bool(), last["tamper_detected"].as_bool()),
        (Some(true), Some(true))
    );
    assert!(last["p99_ms"].as_f64().unwrap() > 0.0, "{said}");
    (said, last)
}

#[test]
fn the_demo_loses_nothing_proves_a_record_and_notices_tampering() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("run");
    let (_, last) = demo(&place, &["--nodes", "1", "--seconds", "4"]);
    assert_eq!(last["nodes"], 1);
    for file in [
        "policy",
        "evidence/entry",
        "evidence/ledger.tlog-proof",
        "evidence/agent.tlog-proof",
        "evidence/policy",
        "evidence/agent-policy",
    ] {
        assert!(place.join(file).is_file(), "{file}");
    }
    assert_eq!(
        std::fs::read(place.join("policy")).unwrap(),
        std::fs::read(place.join("evidence/policy")).unwrap()
    );
}

#[test]
fn the_demo_of_four_nodes_bears_a_killed_node_and_a_lost_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (said, last) = demo(&dir.path().join("run"), &["--seconds", "6"]);
    assert_eq!(last["nodes"], 4);
    for step in ["node1 votes again", "node2 votes again", "4 nodes hold the same"] {
        assert!(said.contains(step), "{step} in {said}");
    }
}
