//! `cargo xtask bench agent`: what the agent weighs and how fast it is, with rsyslog and syslog-ng
//! beside it in the same run. The last line is JSON.
//!
//! Each shipper reads a growing file and sends over mutual TLS to a receiver of its own kind that
//! keeps what comes; only the shipper is measured. Rounds of all three alternate, each with the
//! machine to itself, so that their ratio holds even where the machine is busy.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

mod agent;
mod relp;
mod steady;
mod syslog_ng_pair;

use clap::Parser;
use logseal::site::{LedgerOptions, Site, free_ports};
use logseal_tests::figures::{median, round2};
use serde_json::json;
use std::{process::Command, time::Duration};
use steady::{Shipper, Weight};

/// Measures the agent next to rsyslog and syslog-ng.
#[derive(Parser)]
struct Args {
    /// Lines a second of the steady load
    #[arg(long, default_value_t = 5000)]
    rate: u64,
    /// Seconds of each steady round
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Lines of a round from file to spool
    #[arg(long, default_value_t = 500_000)]
    lines: u64,
    /// Messages of a round over RELP
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
}

/// The bound of every wait.
const LIMIT: Duration = Duration::from_secs(300);

fn main() {
    let args = Args::parse();
    let dir = tempfile::tempdir().unwrap();
    let site = Site::make(dir.path()).unwrap();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let [port] = free_ports().unwrap();
    agent::configure(&site, port);
    let mut ledger = site.start_ledger().unwrap();
    site.enrol("gw01").unwrap();

    let (idle_mib, idle_percent) = agent::idle(&site);
    println!("idle        agent {idle_mib:.1} MiB, {idle_percent:.2} % of a core");
    let mut weights: [Vec<Weight>; 3] = Default::default();
    for round in 0..args.rounds {
        for (shipper, weights) in Shipper::ALL.into_iter().zip(&mut weights) {
            let weight = steady::round(&site, shipper, args.rate, args.seconds);
            println!(
                "steady      round {}: {shipper:?} {:.1} MiB, {:.2} % of a core at {}/s",
                round + 1,
                weight.mib,
                weight.percent,
                args.rate
            );
            weights.push(weight);
        }
    }
    let relp: Vec<relp::Round> =
        (0..args.rounds).map(|round| relp::round(&site, port, args.messages, round)).collect();
    ledger.stop(LIMIT).unwrap();
    let spool: Vec<agent::Round> =
        (0..args.rounds).map(|round| agent::file_to_spool(&site, args.lines, round)).collect();
    let (binary, unstripped) = binary(&site);
    println!("binary      {binary:.1} MiB stripped, {unstripped:.1} MiB as built");

    let [agent, rsyslog, syslog_ng] = weights;
    let mib = |weights: &[Weight]| round2(median(weights.iter().map(|weight| weight.mib)));
    let percent = |weights: &[Weight]| round2(median(weights.iter().map(|w| w.percent)));
    let line = json!({
        "bench": "agent",
        "rss_mib_5k": mib(&agent),
        "cpu_pct_5k": percent(&agent),
        "rsyslog_rss_mib_5k": mib(&rsyslog),
        "rsyslog_cpu_pct_5k": percent(&rsyslog),
        "syslog_ng_rss_mib_5k": mib(&syslog_ng),
        "syslog_ng_cpu_pct_5k": percent(&syslog_ng),
        "idle_rss_mib": round2(idle_mib),
        "idle_cpu_pct": round2(idle_percent),
        "file_to_spool_per_s": median(spool.iter().map(|round| round.per_second)).round(),
        "us_per_record": round2(median(spool.iter().map(|round| round.us))),
        "relp_default_window_per_s": median(relp.iter().map(|round| round.per_second)).round(),
        "relp_us_per_message": round2(median(relp.iter().map(|round| round.us))),
        "binary_mib": round2(binary),
    });
    println!("{line}");
}

/// The size of the agent's program in MiB, stripped and as it was built.
fn binary(site: &Site) -> (f64, f64) {
    let program = logseal::site::Programs::beside_this().unwrap().path("logseal-agent");
    let stripped = site.path("stripped");
    let status = Command::new("strip").arg("-o").arg(&stripped).arg(&program).status();
    assert!(status.expect("strip (Debian: binutils)").success());
    let mib = |path| std::fs::metadata(path).unwrap().len() as f64 / 1_048_576.0;
    (mib(&stripped), mib(&program))
}
