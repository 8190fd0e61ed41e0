//! `cargo xtask bench store`: a node's store as it grows to ten million entries. The last line is JSON.
//!
//! The store is made by the node's own code without the network around it; everything that is
//! measured is done by the real programs: a node that starts, answers, and makes its index again,
//! and `logseal verify --store`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

mod proofs;

use clap::Parser;
use logseal::site::{LedgerOptions, Process, Programs, Site};
use logseal_tests::{
    figures::{median, mib, round2},
    generate::{Generator, disk_bytes},
};
use serde_json::{Value, json};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Measures the store of a node.
#[derive(Parser)]
struct Args {
    /// Entries, in millions, at each step
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3, 10])]
    millions: Vec<u64>,
    /// Records of a batch: what an agent gathers in 50 ms
    #[arg(long, default_value_t = 1000)]
    batch: usize,
    /// Proofs of random records
    #[arg(long, default_value_t = 2000)]
    proofs: u64,
    /// Starts at each step; the median counts
    #[arg(long, default_value_t = 5)]
    starts: usize,
}

const LIMIT: Duration = Duration::from_secs(600);

fn main() {
    let args = Args::parse();
    let dir = tempfile::tempdir().unwrap();
    let site = Site::make(dir.path()).unwrap();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let store = site.node_dir(0).join("store");
    let (mut steps, mut line_bytes) = (Vec::new(), 0);
    let mut generator = Generator::new(&site, args.batch);
    for millions in &args.millions {
        let begun = Instant::now();
        generator.add(millions * 1_000_000 - generator.records);
        line_bytes = generator.line_bytes;
        let (records, took) = (generator.records, begun.elapsed().as_secs_f64());
        generator.let_go();
        println!("{millions} million records ({took:.0} s to make them)");
        let step = step(&site, &store, &args, records, line_bytes);
        println!("  {step}");
        steps.push(step);
        generator.go_on();
    }
    drop(generator);
    let last = steps.last().cloned().unwrap_or_default();
    let verify = verify(&site, &store, &last);
    let rebuild = rebuild(&site, &store, &last);
    let each = |name: &str| steps.iter().map(|step| step[name].clone()).collect::<Vec<_>>();
    let line = json!({
        "bench": "store",
        "millions": args.millions,
        "cold_start_ms": last["cold_start_ms"],
        "cold_start_ms_each": each("cold_start_ms"),
        "proof_p50_ms": last["proof_p50_ms"],
        "proof_p99_ms": last["proof_p99_ms"],
        "proof_p99_ms_each": each("proof_p99_ms"),
        "verify_mb_per_s": verify["entry_mb_per_cpu_s"],
        "verify": verify,
        "disk_bytes_per_entry": last["disk_bytes_per_entry"],
        "line_bytes_per_entry": round2(line_bytes as f64 / last["entries"].as_f64().unwrap()),
        "index_bytes_per_entry": last["index_bytes_per_entry"],
        "rss_mib": last["rss_mib"],
        "rss_mib_each": each("rss_mib"),
        "rebuild_entries_per_s": rebuild,
    });
    println!("{line}");
}

/// What a store of this size costs.
fn step(site: &Site, store: &Path, args: &Args, records: u64, line_bytes: u64) -> Value {
    let starts: Vec<f64> = (0..args.starts).map(|_| start(site).1).collect();
    let (mut node, _) = start(site);
    let proofs = proofs::random(site, args.proofs, records);
    let resident = node.resident_bytes().unwrap();
    let entries = proofs.ledger_size;
    node.stop(LIMIT).unwrap();
    let bytes = disk_bytes(store);
    json!({
        "entries": entries,
        "cold_start_ms": median(starts).round(),
        "proof_p50_ms": round2(proofs.p50_ms),
        "proof_p99_ms": round2(proofs.p99_ms),
        "rss_mib": round2(mib(resident)),
        "disk_bytes_per_entry": round2(bytes as f64 / entries as f64),
        "index_bytes_per_entry": round2(disk_bytes(&store.join("index")) as f64 / entries as f64),
        "of_line_bytes": round2(bytes as f64 / line_bytes as f64),
    })
}

/// Starts the node with nothing of the store in the page cache; milliseconds until it is ready.
fn start(site: &Site) -> (Process, f64) {
    drop_caches();
    let begun = Instant::now();
    let node = site.start_ledger().unwrap();
    (node, begun.elapsed().as_secs_f64() * 1000.0)
}

fn drop_caches() {
    rustix::fs::sync();
    if let Err(error) = std::fs::write("/proc/sys/vm/drop_caches", "3") {
        println!("  the page cache stays warm: {error}");
    }
}

/// `logseal verify --store`, its CPU time and what it read.
fn verify(site: &Site, store: &Path, last: &Value) -> Value {
    let program = Programs::beside_this().unwrap().path("logseal");
    let policy = site.path("policy");
    let mut command = Command::new(program);
    command.args(["--json", "verify", "--store"]).arg(store).arg("--policy").arg(policy);
    drop_caches();
    let (begun, before) = (Instant::now(), children_cpu());
    let output = command.output().unwrap();
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), children_cpu() - before);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (entries, bytes) = (last["entries"].as_f64().unwrap(), disk_bytes(&store.join("blocks")));
    let entry_bytes = said["entry_bytes"].as_f64().unwrap_or_default();
    json!({
        "wall_s": round2(wall),
        "cpu_s": round2(cpu),
        "entries_per_cpu_s": (entries / cpu).round(),
        "entry_mb_per_cpu_s": round2(entry_bytes / 1e6 / cpu),
        "disk_mb_per_s": round2(bytes as f64 / 1e6 / wall),
    })
}

/// CPU seconds of all children that have ended.
fn children_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(13) + ticks(14)) / rustix::param::clock_ticks_per_second() as f64
}

/// Entries a second when the index was deleted.
fn rebuild(site: &Site, store: &Path, last: &Value) -> f64 {
    std::fs::remove_dir_all(store.join("index")).unwrap();
    let (mut node, ms) = start(site);
    node.stop(LIMIT).unwrap();
    (last["entries"].as_f64().unwrap() / (ms / 1000.0)).round()
}
