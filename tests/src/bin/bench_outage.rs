//! `cargo xtask bench outage`: the ledger is away for an hour while an agent reads on. The last
//! line is JSON.
//!
//! Shows minute by minute what the spool holds and what the agent says it has room for. When the
//! node is back, every line of the file must be in the ledger once and in order.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use clap::Parser;
use logseal::{
    client::{block_on, read_policy},
    site::{AgentOptions, LedgerOptions, Process, Site},
    tiles::Tiles,
};
use logseal_tests::{
    Running, auditor,
    figures::{Usage, mib, round2, write_lines},
    file_source, new_site, wait_for,
};
use record::entry::{Entry, Kind, restore};
use serde_json::json;
use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Takes the ledger away from an agent for long.
#[derive(Parser)]
struct Args {
    /// Lines a second
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// Minutes for which there is no ledger
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// What the spool may hold, in MiB
    #[arg(long, default_value_t = 1024)]
    spool_mib: u64,
}

/// What the agent was seen to need while it was alone.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    spool_mib: f64,
    rss_mib: f64,
    held_back: bool,
}

/// The bound of the wait for the last receipt.
const LIMIT: Duration = Duration::from_secs(1800);

fn main() {
    let args = Args::parse();
    let count = args.rate * args.minutes * 60;
    let (dir, site) = new_site();
    let path = site.path("outage.log");
    let mut running = Running::on(dir, site, LedgerOptions::default(), |_| AgentOptions {
        spool_mib: args.spool_mib,
        ..AgentOptions::new("gw01", file_source("outage", &path, "kong"))
    });
    wait_for("the agent is connected", || {
        let metrics = running.meter().text().ok()?;
        metrics.contains("logseal_agent_uplink_connected").then_some(())
    });
    running.ledger.kill().unwrap();
    println!("no ledger for {} minutes at {} lines/s", args.minutes, args.rate);
    let writer = write_lines(path.clone(), args.rate, count);
    let peak = watch(&running.site, &running.agent, &writer);
    writer.join().unwrap();

    let begun = Instant::now();
    running.ledger = running.site.start_ledger().unwrap();
    running.meter().wait_receipted(count, LIMIT).unwrap();
    let took = begun.elapsed().as_secs_f64();
    println!("all receipts {took:.1} s after the node was started");
    let stored = compare(&running.site, &path);
    let line = json!({
        "bench": "outage",
        "minutes": args.minutes,
        "lines": count,
        "stored_in_order": stored,
        "lost": count - stored,
        "spool_limit_mib": args.spool_mib,
        "spool_peak_mib": round2(peak.spool_mib),
        "held_back": peak.held_back,
        "rss_peak_mib": round2(peak.rss_mib),
        "drained_per_s": (count as f64 / took).round(),
    });
    println!("{line}");
    assert_eq!(stored, count, "every line, once, the oldest first");
}

/// Tells every minute how it stands until the writer is done.
fn watch(site: &Site, agent: &Process, writer: &JoinHandle<Vec<Instant>>) -> Peak {
    let (mut peak, begun, mut told) = (Peak::default(), Instant::now(), 0);
    while !writer.is_finished() {
        let shown = status(site);
        let usage = Usage::of(agent);
        let used = mib(shown["spool"]["bytes"].as_u64().unwrap_or(0));
        peak.spool_mib = peak.spool_mib.max(used);
        peak.rss_mib = peak.rss_mib.max(mib(usage.peak));
        peak.held_back |= shown["spool"]["held_back"] == "limit";
        let minute = begun.elapsed().as_secs() / 60;
        if minute > told {
            told = minute;
            println!(
                "minute {minute:>3}: spool {used:.1} MiB, lasts {} s, held back: {}, agent {:.1} MiB",
                shown["spool"]["lasts_s"],
                shown["spool"]["held_back"],
                mib(usage.resident)
            );
        }
        std::thread::park_timeout(Duration::from_secs(1));
    }
    peak
}

fn status(site: &Site) -> serde_json::Value {
    let program = logseal::site::Programs::beside_this().unwrap().path("logseal-agent");
    let mut command = std::process::Command::new(program);
    command.args(["status", "--json", "--config"]).arg(site.path("gw01.toml"));
    serde_json::from_slice(&command.output().unwrap().stdout).unwrap_or_default()
}

/// How many lines of the file are in the ledger, in order and nothing between them.
fn compare(site: &Site, path: &Path) -> u64 {
    let (_, policy) = read_policy(&site.path("policy")).unwrap();
    let mut lines = BufReader::new(File::open(path).unwrap()).split(b'\n');
    let mut same = 0;
    block_on(async {
        let address = format!("127.0.0.1:{}", site.https_port);
        let mut tiles = Tiles::connect(&address, auditor(site)).await?;
        tiles
            .read_all(&policy, |entry| {
                if Entry::parse(entry).unwrap().kind() == Kind::Record {
                    let line = lines.next().expect("no more records than lines").unwrap();
                    assert!(restore(entry).unwrap().line == line, "record {same} is another line");
                    same += 1;
                }
            })
            .await
    })
    .unwrap();
    same
}
