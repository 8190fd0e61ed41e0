//! `cargo xtask bench spine`: file to receipt with one agent and one node. The last line is JSON.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use clap::Parser;
use logseal::{
    demo::Meter,
    site::{AgentOptions, LedgerOptions, Process, Site, corpus::Corpus},
};
use logseal_tests::figures::{median, round2, write_corpus};
use serde_json::json;
use std::{
    fs::File,
    io::Write,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

/// Measures the way from a file to receipts.
#[derive(Parser)]
struct Args {
    /// Lines of the corpus
    #[arg(long, default_value_t = 300_000)]
    lines: u64,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each latency measurement
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

const LIMIT: Duration = Duration::from_secs(120);

/// What one round took.
#[derive(Clone, Copy, Debug)]
struct Round {
    per_second: f64,
    agent_us: f64,
    node_us: f64,
}

fn main() {
    let args = Args::parse();
    let dir = tempfile::tempdir().unwrap();
    let site = Site::make(dir.path()).unwrap();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    configure(&site, 50);
    let mut ledger = site.start_ledger().unwrap();
    site.enrol("gw01").unwrap();
    let mut agent = site.start_agent("gw01").unwrap();
    let (idle_mib, idle_percent) = idle(&agent);
    println!("idle agent: {idle_mib:.1} MiB, {idle_percent:.2} % of a core");

    let mut receipted = 0;
    let rounds: Vec<Round> = (0..args.rounds)
        .map(|number| {
            let round = throughput(&site, &agent, &ledger, args.lines, number, receipted);
            receipted += args.lines;
            println!(
                "round {}: {:.0} records/s, agent {:.2} µs, node {:.2} µs a record",
                number + 1,
                round.per_second,
                round.agent_us,
                round.node_us
            );
            round
        })
        .collect();
    let loaded_mib = agent.resident_bytes().unwrap_or(0) as f64 / 1048576.0;
    agent.stop(LIMIT).unwrap();
    ledger.stop(LIMIT).unwrap();
    let disk = disk_bytes(&site.path("store")) as f64 / receipted as f64;

    let mut ledger = site.start_ledger().unwrap();
    let (p50, p99) = latency(&site, 50, args.seconds);
    println!("latency, linger 50 ms: p50 {p50:.1} ms, p99 {p99:.1} ms");
    let (p50_5, p99_5) = latency(&site, 5, args.seconds);
    println!("latency, linger 5 ms: p50 {p50_5:.1} ms, p99 {p99_5:.1} ms");
    ledger.stop(LIMIT).unwrap();

    let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
    let line = json!({
        "bench": "spine",
        "records_per_s": of(|r| r.per_second).round(),
        "agent_us_per_record": round2(of(|r| r.agent_us)),
        "node_us_per_record": round2(of(|r| r.node_us)),
        "disk_bytes_per_record": round2(disk),
        "p50_ms": round2(p50),
        "p99_ms": round2(p99),
        "p50_linger5_ms": round2(p50_5),
        "p99_linger5_ms": round2(p99_5),
        "agent_idle_rss_mib": round2(idle_mib),
        "agent_idle_cpu_percent": round2(idle_percent),
        "agent_loaded_rss_mib": round2(loaded_mib),
    });
    println!("{line}");
}

fn configure(site: &Site, linger_ms: u64) {
    let paths = site.path("logs/*.log");
    let source =
        format!("[[source.file]]\nname = \"kong\"\npaths = [{paths:?}]\nformat = \"kong\"\n");
    std::fs::create_dir_all(site.path("logs")).unwrap();
    let options = AgentOptions { linger_ms, ..AgentOptions::new("gw01", source) };
    site.configure_agent(&options).unwrap();
}

/// Memory after a few quiet seconds, and CPU during them.
fn idle(agent: &Process) -> (f64, f64) {
    let window = Duration::from_secs(5);
    let before = agent.cpu_time().unwrap();
    std::thread::sleep(window);
    let used = agent.cpu_time().unwrap() - before;
    let mib = agent.resident_bytes().unwrap() as f64 / 1048576.0;
    (mib, 100.0 * used.as_secs_f64() / window.as_secs_f64())
}

/// Moves a finished corpus into the watched folder and waits for all its receipts.
fn throughput(
    site: &Site,
    agent: &Process,
    ledger: &Process,
    lines: u64,
    number: usize,
    receipted: u64,
) -> Round {
    let hidden = site.path(format!("corpus-{number}"));
    write_corpus(&hidden, number as u64 + 1, lines);
    let cpu = |process: &Process| process.cpu_time().unwrap();
    let (agent_before, node_before, begun) = (cpu(agent), cpu(ledger), Instant::now());
    std::fs::rename(&hidden, site.path(format!("logs/{number}.log"))).unwrap();
    Meter::new(site.agent_metrics_port).wait_receipted(receipted + lines, LIMIT).unwrap();
    let elapsed = begun.elapsed().as_secs_f64();
    let per_record = |used: Duration| used.as_secs_f64() * 1e6 / lines as f64;
    Round {
        per_second: lines as f64 / elapsed,
        agent_us: per_record(cpu(agent) - agent_before),
        node_us: per_record(cpu(ledger) - node_before),
    }
}

/// Writes 100 lines a second; the time of each from its write to its receipt, as far as a look at
/// the agent's counter every millisecond or two can tell.
fn latency(site: &Site, linger_ms: u64, seconds: u64) -> (f64, f64) {
    configure(site, linger_ms);
    let mut agent = site.start_agent("gw01").unwrap();
    let meter = Meter::new(site.agent_metrics_port);
    let count = seconds * 100;
    let path = site.path(format!("logs/latency-{linger_ms}.log"));
    let writer = std::thread::spawn(move || {
        let mut file = File::create(path).unwrap();
        let mut corpus = Corpus::new(linger_ms, service::clock::now().0);
        let begun = Instant::now();
        let write = |number| {
            let due = begun + Duration::from_millis(10 * number);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let line = corpus.line("latency") + "\n";
            let at = Instant::now();
            file.write_all(line.as_bytes()).unwrap();
            at
        };
        (0..count).map(write).collect::<Vec<Instant>>()
    });
    let mut seen: Vec<Instant> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(seconds) + LIMIT;
    while (seen.len() as u64) < count {
        let receipted = meter.read().unwrap().receipted as usize;
        let now = Instant::now();
        assert!(now < deadline, "only {receipted} of {count} receipts");
        seen.resize(receipted.max(seen.len()), now);
        std::thread::sleep(Duration::from_millis(1));
    }
    let written = writer.join().unwrap();
    let mut waits: Vec<f64> =
        written.iter().zip(&seen).map(|(w, s)| (*s - *w).as_secs_f64() * 1000.0).collect();
    agent.stop(LIMIT).unwrap();
    waits.sort_by(f64::total_cmp);
    let at = |q: f64| waits[((waits.len() - 1) as f64 * q) as usize];
    (at(0.5), at(0.99))
}

fn disk_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let data = entry.metadata().unwrap();
            if data.is_dir() { disk_bytes(&entry.path()) } else { data.blocks() * 512 }
        })
        .sum()
}
