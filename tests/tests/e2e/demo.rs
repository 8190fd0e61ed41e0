//! The README's first command, without the building.

use std::process::Command;

#[test]
fn the_demo_loses_nothing_proves_a_record_and_notices_tampering() {
    let programs = logseal::site::Programs::beside_this().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("run");
    let output = Command::new(programs.path("logseal"))
        .args(["demo", "--once", "--seconds", "4", "--dir"])
        .arg(&place)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{errors}");
    let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((last["lost"].as_u64(), last["duplicated"].as_u64()), (Some(0), Some(0)), "{said}");
    assert_eq!(last["records"], last["receipts"], "{said}");
    assert!(last["records"].as_u64().unwrap() > 1000, "{said}");
    assert_eq!(
        (last["verified"].as_bool(), last["tamper_detected"].as_bool()),
        (Some(true), Some(true))
    );
    assert!(last["p99_ms"].as_f64().unwrap() > 0.0, "{said}");
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
