//! `cargo xtask bench cluster`: file to receipt with one agent and four nodes, next to a stock
//! rsyslog that carries the same lines from file to file. The last line is JSON.
//!
//! Everything runs on this machine: the agent and all nodes share its cores.
//! Rounds of the two systems alternate, each with the machine to itself, so
//! that their ratio holds even where the machine is busy with other things.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

mod catch_up;
mod cluster;
mod latency;
mod outage;
mod rsyslog;

use clap::Parser;
use cluster::{Round, Running};
use logseal_tests::figures::{median, mib, round2};
use rsyslog::Queue;
use serde_json::{Value, json};
use std::time::Duration;

/// Measures a cluster of four nodes, next to rsyslog.
#[derive(Parser)]
struct Args {
    /// Lines of the corpus
    #[arg(long, default_value_t = 300_000)]
    lines: u64,
    /// Rounds of each of the two systems; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Seconds of each latency measurement
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds for which the cluster's idle CPU is measured
    #[arg(long, default_value_t = 20)]
    idle_seconds: u64,
    /// Records that a blank node catches up with, at least
    #[arg(long, default_value_t = 1_000_000)]
    catch_up: u64,
    /// Measure only throughput
    #[arg(long)]
    throughput: bool,
}

/// The bound of every wait.
const LIMIT: Duration = Duration::from_secs(300);

fn main() {
    let args = Args::parse();
    let dir = tempfile::tempdir().unwrap();
    let site = cluster::make_site(&dir.path().join("cluster"));
    let mut figures = throughput(&args, &site);
    if !args.throughput {
        let mut running = Running::start(&site);
        figures.extend(idle(&running, args.idle_seconds));
        for rate in [100, 5000] {
            figures.extend(latency::measure(&running, rate, args.seconds));
        }
        figures.extend(outage::measure(&mut running));
        figures.extend(catch_up::measure(&mut running, args.catch_up));
        running.stop();
    }
    let mut line = json!({ "bench": "cluster" });
    for (name, value) in figures {
        line[name] = value;
    }
    println!("{line}");
}

/// Names and values for the last line.
type Figures = Vec<(String, Value)>;

fn figure(name: &str, value: f64) -> (String, Value) {
    (name.to_owned(), json!(round2(value)))
}

/// Alternating rounds of both systems on the same lines.
fn throughput(args: &Args, site: &logseal::site::Site) -> Figures {
    println!("{:<18}  records/s  µs a record: sender, receiver(s)", "round");
    let (mut ours, mut stock, mut shipped) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=args.rounds {
        ours.push(our_round(site, args.lines, number));
        stock.push(other_round(site, args.lines, number, Queue::Stock));
        shipped.push(other_round(site, args.lines, number, Queue::Shipped));
    }
    let mut figures = our_figures(&ours);
    figures.extend(compared("rsyslog", "", &ours, &stock));
    figures.extend(compared("rsyslog_shipped", "_to_shipped", &ours, &shipped));
    figures
}

fn our_round(site: &logseal::site::Site, lines: u64, number: u64) -> Round {
    let round = cluster::round(site, lines, number);
    let nodes: Vec<String> = round.nodes_us.iter().map(|us| format!("{us:.2}")).collect();
    let (name, nodes) = (format!("{number} logseal"), nodes.join(" "));
    println!("{name:<18}  {:>9.0}  {:.2}, {nodes}", round.per_second, round.agent_us);
    round
}

fn other_round(
    site: &logseal::site::Site,
    lines: u64,
    number: u64,
    queue: Queue,
) -> rsyslog::Round {
    let round = rsyslog::round(site, lines, queue);
    let name = match queue {
        Queue::Stock => format!("{number} rsyslog stock"),
        Queue::Shipped => format!("{number} rsyslog shipped"),
    };
    println!(
        "{name:<18}  {:>9.0}  {:.2}, {:.2}; {:.0} bytes a record went to its disk queue",
        round.per_second, round.sender_us, round.receiver_us, round.queued
    );
    round
}

fn our_figures(rounds: &[Round]) -> Figures {
    let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
    println!(
        "throughput  {:.0} records/s; agent {:.2} µs, node {:.2} µs a record",
        of(|r| r.per_second),
        of(|r| r.agent_us),
        of(Round::node_us),
    );
    println!(
        "disk        agent {:.0}, node {:.0} bytes a record; {:.0} records a block",
        of(|r| r.agent_written),
        of(|r| r.node_written),
        of(|r| r.records_per_block),
    );
    println!(
        "memory      agent {:.0} MiB (at most {:.0}), largest node {:.0} MiB (at most {:.0})",
        of(|r| mib(r.agent_resident)),
        of(|r| mib(r.agent_peak)),
        of(|r| mib(r.node_resident)),
        of(|r| mib(r.node_peak)),
    );
    vec![
        figure("records_per_s", of(|r| r.per_second).round()),
        figure("agent_us_per_record", of(|r| r.agent_us)),
        figure("node_us_per_record", of(Round::node_us)),
        figure("agent_bytes_per_record", of(|r| r.agent_written)),
        figure("node_bytes_per_record", of(|r| r.node_written)),
        figure("records_per_block", of(|r| r.records_per_block)),
        figure("agent_rss_mib", of(|r| mib(r.agent_peak))),
        figure("node_rss_mib", of(|r| mib(r.node_peak))),
    ]
}

/// Another system's figures, and ours as multiples of them.
fn compared(name: &str, suffix: &str, ours: &[Round], others: &[rsyslog::Round]) -> Figures {
    let of = |value: fn(&rsyslog::Round) -> f64| median(others.iter().map(value));
    let ratio =
        median(ours.iter().zip(others).map(|(ours, other)| ours.per_second / other.per_second));
    let failed = others.iter().map(|round| round.failed).sum::<usize>();
    println!(
        "{name:<16}  {:.0} records/s, ours are {ratio:.2} times as many; {:.2} and {:.2} µs a record; \
         {failed} rounds in which lines did not arrive",
        of(|r| r.per_second),
        of(|r| r.sender_us),
        of(|r| r.receiver_us),
    );
    vec![
        figure(&format!("{name}_records_per_s"), of(|r| r.per_second).round()),
        figure(&format!("ratio{suffix}"), ratio),
        figure(&format!("{name}_us_per_record"), of(|r| r.sender_us + r.receiver_us)),
        figure(&format!("{name}_failed_rounds"), failed as f64),
    ]
}

/// What the nodes use when nothing happens but heartbeats.
fn idle(running: &Running<'_>, seconds: u64) -> Figures {
    let before = running.usage();
    std::thread::sleep(Duration::from_secs(seconds));
    let after = running.usage();
    let percent = |now: &logseal_tests::figures::Usage, then| {
        now.cpu_us_since(then, 1) / 1e4 / seconds as f64
    };
    let nodes: Vec<f64> =
        after.nodes.iter().zip(&before.nodes).map(|(now, then)| percent(now, then)).collect();
    let agent = percent(&after.agent, &before.agent);
    println!("idle        node {:.2} %, agent {agent:.2} % of a core", median(nodes.clone()));
    vec![figure("idle_node_percent", median(nodes)), figure("idle_agent_percent", agent)]
}
