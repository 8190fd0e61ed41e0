//! The ledger is away for long: the spool fills up to its bound, sources wait, nothing is dropped.

use crate::disk::noise;
use logseal::site::{AgentOptions, LedgerOptions};
use logseal_tests::{LIMIT, Running, file_source, wait_for};
use std::{fs, process::Command};

/// The least that can be configured.
const SPOOL_MIB: u64 = 64;

fn status(running: &Running) -> (Option<i32>, serde_json::Value) {
    let program = logseal::site::Programs::beside_this().unwrap().path("logseal-agent");
    let mut command = Command::new(program);
    command.args(["status", "--json", "--config"]).arg(running.site.path("gw01.toml"));
    let output = command.output().unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

#[test]
fn a_ledger_that_is_away_for_long_costs_no_record_and_no_more_disk_than_was_granted() {
    let mut running = Running::with(LedgerOptions::default(), |site| AgentOptions {
        spool_mib: SPOOL_MIB,
        ..AgentOptions::new("gw01", file_source("plain", &site.path("plain.log"), "raw"))
    });
    wait_for("the agent is connected", || {
        (status(&running).1["uplink"]["nodes"][0]["connected"] == true).then_some(())
    });
    running.ledger.kill().unwrap();
    // Half as much again as the spool may hold.
    let lines = noise(96);
    let path = running.site.path("plain.log");
    let mut text = lines.join(&b"\n"[..]);
    text.push(b'\n');
    fs::write(&path, text).unwrap();

    let held = wait_for("sources are held back", || {
        let (code, shown) = status(&running);
        (shown["spool"]["held_back"] == "limit").then_some((code, shown))
    });
    assert_eq!(held.0, Some(1), "somebody should look: {}", held.1);
    assert!(held.1["sources"][0]["lag_bytes"].as_u64() > Some(8 << 20), "{}", held.1);
    let used: u64 = fs::read_dir(running.site.path("gw01-spool"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    // The last segment may be allocated ahead, and one batch may be over the limit.
    assert!(used <= (SPOOL_MIB + 16) << 20, "{used} bytes");
    let lines_of_metrics = [
        "logseal_agent_held_back{reason=\"limit\"} 1",
        "logseal_agent_spool_limit_bytes 67108864",
        "logseal_agent_spool_lasts_seconds 0",
    ];
    wait_for("metrics that say so", || {
        let metrics = running.meter().text().unwrap();
        lines_of_metrics.iter().all(|line| metrics.contains(line)).then_some(())
    });
    let said = running.agent.log_text();
    assert!(said.contains("the spool has reached its size"), "{said}");
    wait_for("the log says that no receipts come, and for how long there is room", || {
        running.agent.log_text().contains("no receipts come from the ledger").then_some(())
    });

    running.ledger = running.site.start_ledger().unwrap();
    running.meter().wait_receipted(lines.len() as u64, LIMIT).unwrap();
    assert!(running.lines("plain") == lines, "every line once, the oldest first");
    let (_, shown) = status(&running);
    assert_eq!(shown["spool"]["held_back"], serde_json::Value::Null, "{shown}");
    assert!(running.agent.log_text().contains("the ledger gives receipts again"));
}
