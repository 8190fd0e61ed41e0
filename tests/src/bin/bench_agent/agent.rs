//! The agent by itself: at rest, and from a file to its spool.

use crate::LIMIT;
use logseal::{
    demo::Meter,
    site::{AgentOptions, Process, Site},
};
use logseal_tests::{
    figures::{Usage, mib, write_corpus},
    wait_for,
};
use std::{
    process::Command,
    time::{Duration, Instant},
};

/// How long the agent is watched at rest.
const REST: Duration = Duration::from_secs(10);

/// What one round took.
pub struct Round {
    pub per_second: f64,
    pub us: f64,
}

/// Everything that the agent takes over here: log files, and RELP.
pub fn configure(site: &Site, relp_port: u16) {
    std::fs::create_dir_all(site.path("logs")).unwrap();
    let paths = site.path("logs/*.log");
    let files =
        format!("[[source.file]]\nname = \"kong\"\npaths = [{paths:?}]\nformat = \"kong\"\n");
    let sources = files + &crate::relp::source(relp_port);
    site.configure_agent(&AgentOptions::new("gw01", sources)).unwrap();
}

/// Memory after a few quiet seconds, and CPU during them.
pub fn idle(site: &Site) -> (f64, f64) {
    let mut agent = site.start_agent("gw01").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let before = Usage::of(&agent);
    std::thread::sleep(REST);
    let after = Usage::of(&agent);
    agent.stop(LIMIT).unwrap();
    let percent = 100.0 * (after.cpu - before.cpu).as_secs_f64() / REST.as_secs_f64();
    (mib(after.resident), percent)
}

/// A file that is there at once, to durable batches, while no node can be reached; all threads on
/// one core.
pub fn file_to_spool(site: &Site, lines: u64, round: u64) -> Round {
    let mut agent = site.start_agent("gw01").unwrap();
    pin(&agent);
    let meter = Meter::new(site.agent_metrics_port);
    let sealed = || {
        let text = meter.text().unwrap_or_default();
        let value =
            text.lines().find_map(|l| l.strip_prefix("logseal_agent_spool_records_waiting "));
        value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
    };
    let hidden = site.path("spool.corpus");
    write_corpus(&hidden, round + 1, lines);
    let (already, before) = (sealed(), Usage::of(&agent));
    let begun = Instant::now();
    std::fs::rename(&hidden, site.path(format!("logs/spool-{round}.log"))).unwrap();
    wait_for("all lines in the spool", || (sealed() >= already + lines).then_some(()));
    let took = begun.elapsed();
    let us = Usage::of(&agent).cpu_us_since(&before, lines);
    agent.stop(LIMIT).unwrap();
    let per_second = lines as f64 / took.as_secs_f64();
    println!(
        "spool       round {}: {per_second:.0} records/s on one core, {us:.2} µs a record",
        round + 1
    );
    Round { per_second, us }
}

/// Lets all threads of a process run on one core only.
fn pin(process: &Process) {
    let pid = process.pid().to_string();
    let done = Command::new("taskset").args(["-a", "-p", "-c", "1", &pid]).output();
    let done = done.expect("taskset (Debian: util-linux)");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
