//! `logseal demo`: the whole way of a line on this machine, from a gateway's log to a proof.
//!
//! Every figure it prints is measured in the run: what was written is counted
//! by the writers, what arrived is read back from the ledger as an auditor
//! would, and latencies come from the agent's own histogram.

mod account;
mod meter;
mod outage;
mod tamper;
mod traffic;
mod watch;

use crate::{
    client::read_policy,
    evidence::Evidence,
    output::{Failure, fail},
    proof,
    site::{AgentOptions, LedgerOptions, Process, Site},
};
use account::Account;
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
pub use meter::{Meter, Reading};
use rustix::process::Signal;
use service::members::FaultModel;
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use traffic::Traffic;
use watch::Watcher;

/// Show the whole way on this machine: a gateway's growing log and syslog over TLS become records
/// of a ledger, one of them is proven offline, and tampering is noticed. In a ledger that bears it
/// a node is killed meanwhile, and another loses its disk; both come back.
///
/// Goes on until Ctrl-C. The last line is JSON with what was measured.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// How many nodes the ledger has
    #[arg(long, default_value = "4",
        value_parser = PossibleValuesParser::new(["1", "3", "4", "7"]).map(|n| n.parse::<usize>().unwrap_or(1)))]
    nodes: usize,
    /// What the nodes are protected against, 'byzantine' or 'crash' [default: byzantine; crash for
    /// 3 nodes, which bear nothing else]
    #[arg(long)]
    fault_model: Option<FaultModel>,
    /// Stop after one round
    #[arg(long)]
    once: bool,
    /// Keep the run's files here [default: a temporary folder that is removed]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the programs running after the summary
    #[arg(long)]
    keep: bool,
    /// Access-log lines a second
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    rate: u64,
    /// Seconds of traffic in a round
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(2..=3600))]
    seconds: u64,
}

impl DemoArgs {
    fn fault_model(&self) -> FaultModel {
        let default = if self.nodes == 3 { FaultModel::Crash } else { FaultModel::Byzantine };
        self.fault_model.unwrap_or(default)
    }
}

/// How long the last receipts may take.
const SETTLE: Duration = Duration::from_secs(60);
const AGENT: &str = "gw01";

/// Runs the demo.
pub fn run(args: &DemoArgs) -> ExitCode {
    match demo(args) {
        Ok(true) => ExitCode::from(service::exit::OK),
        Ok(false) => ExitCode::from(service::exit::BROKEN),
        Err(failure) => {
            service::exit::report("logseal demo", &failure);
            ExitCode::from(service::exit::USAGE)
        }
    }
}

/// Where the run's files are; a temporary folder goes when this does, however the run ended.
struct Place {
    dir: PathBuf,
    temporary: bool,
}

impl Place {
    fn new(args: &DemoArgs) -> Self {
        let own = || std::env::temp_dir().join(format!("logseal-demo-{}", std::process::id()));
        let temporary = args.dir.is_none() && !args.keep;
        Place { dir: args.dir.clone().unwrap_or_else(own), temporary }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.temporary {
            // Nothing is left to report it to; the system clears this folder too.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

struct Running {
    site: Site,
    nodes: Vec<Process>,
    agent: Process,
}

fn demo(args: &DemoArgs) -> Result<bool, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    on_interrupt(&stop)?;
    let place = Place::new(args);
    let dir = place.dir.clone();
    if dir.join("pki").exists() {
        let shown = dir.display();
        return Err(Failure(format!("{shown} holds an earlier run: remove it or name another")));
    }
    say("site", &format!("PKI, keys, policy and configurations in {}", dir.display()));
    let mut running = start(&dir, args)?;
    let traffic = Traffic::start(&running.site, args.rate, Arc::clone(&stop)).map_err(fail)?;
    let meter = Meter::new(running.site.agent_metrics_port);
    let watcher = Watcher { meter: &meter, traffic: &traffic, stop: &stop };
    let read_from = round(args, &mut running, &watcher)?;
    let shown = prove(&running.site, &meter)?;
    if !args.once {
        say("running", "until Ctrl-C");
        watcher.watch(None)?;
        watcher.say()?;
    }
    let written = traffic.finish().map_err(fail)?;
    say(
        "settling",
        &format!("{} lines were written; waiting for the last receipts", written.len()),
    );
    let last = meter.wait_receipted(written.len() as u64, SETTLE)?;
    outage::wait_agreed(&mut running)?;
    let account = account::read(&running.site, read_from, &written)?;
    summary(args, &mut running, &account, &last, shown)?;
    let good = account.lost == 0 && account.duplicated == 0 && shown.verified && shown.tampered;
    if args.keep {
        keep(&mut running);
    } else {
        end(&mut running)?;
    }
    print_json(args, &account, &last, shown);
    Ok(good)
}

fn start(dir: &std::path::Path, args: &DemoArgs) -> Result<Running, Failure> {
    let model = args.fault_model();
    let site = Site::make_with(dir, args.nodes, model).map_err(fail)?;
    site.configure_nodes(&LedgerOptions::default()).map_err(fail)?;
    let log = site.path("kong.log");
    let file = format!(
        "[[source.file]]\nname = \"kong\"\npaths = [{log:?}]\nformat = \"kong\"\n{}",
        site.syslog_source()
    );
    site.configure_agent(&AgentOptions::new(AGENT, file)).map_err(fail)?;
    let nodes = site.start_nodes().map_err(fail)?;
    for (index, node) in nodes.iter().enumerate() {
        let (name, pid) = (site.node_name(index), node.pid());
        say("ledger", &format!("logseal-ledger {name}, process {pid}"));
    }
    if nodes.len() > 1 {
        let must = model.quorum(nodes.len());
        say("cluster", &format!("{}; {must} must agree", model.explain(nodes.len())));
        model.warnings(nodes.len()).iter().for_each(|warning| say("warning", warning));
    }
    site.enrol(AGENT).map_err(fail)?;
    say("enrol", "the operator enrolled the key of agent gw01: an entry of the ledger");
    let agent = site.start_agent(AGENT).map_err(fail)?;
    say("agent", &format!("logseal-agent gw01, process {}", agent.pid()));
    Ok(Running { site, nodes, agent })
}

/// One round of traffic, with what may befall a ledger in its middle; gives back the node from
/// which the ledger is to be read.
fn round(args: &DemoArgs, running: &mut Running, watcher: &Watcher) -> Result<usize, Failure> {
    let half = Duration::from_secs(args.seconds) / 2;
    watcher.watch(Some(half))?;
    watcher.traffic.rotate();
    say("rotate", "kong.log was renamed and a new one begun");
    if args.fault_model().tolerates(args.nodes) == 0 {
        if args.nodes > 1 {
            say("outage", "none is shown: without any one of its nodes this ledger stands still");
        }
        watcher.watch(Some(half))?;
        watcher.say()?;
        return Ok(0);
    }
    watcher.watch(Some(half / 2))?;
    watcher.say()?;
    outage::show(running, watcher, half / 2)
}

/// What the evidence of one record showed.
#[derive(Clone, Copy, Debug)]
struct Shown {
    verified: bool,
    tampered: bool,
}

fn prove(site: &Site, meter: &Meter) -> Result<Shown, Failure> {
    let reading = meter.wait_receipted(1, SETTLE)?;
    let n = reading.receipted / 2;
    let dir = site.path("evidence");
    let exported = proof::export(&site.path("auditor.toml"), AGENT, n, &dir)?;
    say("proof", exported.text.lines().next().unwrap_or_default());
    let evidence = Evidence::load(&dir, Some(&site.path("policy")))?;
    let verified = match evidence.verify() {
        Ok(proven) => {
            let by: Vec<_> =
                proven.checkpoint.witnessed().iter().map(|w| w.witness.as_str()).collect();
            let place = format!("entry {} of {}", proven.index, proven.ledger);
            say("verify", &format!("HOLDS: {place}, cosigned by {}", by.join(", ")));
            true
        }
        Err(broken) => {
            say("verify", &format!("BROKEN: {broken}"));
            false
        }
    };
    let tampered = tamper::every_file(&evidence, |what, broken| {
        say("tamper", &format!("one byte of {what} flipped → BROKEN  {broken}"));
    });
    Ok(Shown { verified, tampered })
}

fn summary(
    args: &DemoArgs,
    running: &mut Running,
    account: &Account,
    last: &Reading,
    shown: Shown,
) -> Result<(), Failure> {
    let (_, policy) = read_policy(&running.site.path("policy"))?;
    say(
        "audit",
        &format!(
            "read all {} entries back under the policy's {} log key(s): {} of {} lines are there, {} lost, {} twice",
            account.entries,
            policy.logs().len(),
            account.found,
            account.written,
            account.lost,
            account.duplicated
        ),
    );
    say("latency", &format!("receipts after p50 {:.1} ms, p99 {:.1} ms", last.p50_ms, last.p99_ms));
    if !shown.tampered {
        say("tamper", "a flipped byte was NOT noticed");
    }
    if args.dir.is_some() {
        let dir = running.site.dir.display();
        say(
            "files",
            &format!("{dir}: policy, evidence/, *.toml, logs; 'logseal verify {dir}/evidence'"),
        );
    }
    Ok(())
}

fn keep(running: &mut Running) {
    running.agent.let_go();
    running.nodes.iter_mut().for_each(Process::let_go);
    let programs = std::iter::once(&running.agent).chain(&running.nodes);
    let pids: Vec<String> = programs.map(|program| program.pid().to_string()).collect();
    say("kept", &format!("all programs are running; 'kill {}' stops them", pids.join(" ")));
}

/// Stops everything; nodes all at once, so that none waits for the others.
fn end(running: &mut Running) -> Result<(), Failure> {
    running.agent.stop(SETTLE).map_err(fail)?;
    let runs: Vec<&mut Process> =
        running.nodes.iter_mut().filter_map(|node| node.is_running().then_some(node)).collect();
    runs.iter().try_for_each(|node| node.signal(Signal::TERM)).map_err(fail)?;
    runs.into_iter().try_for_each(|node| node.wait(SETTLE).map(drop)).map_err(fail)
}

/// The last line, in this order.
#[derive(serde::Serialize)]
struct Measured {
    records: u64,
    receipts: u64,
    lost: u64,
    duplicated: u64,
    verified: bool,
    tamper_detected: bool,
    p50_ms: f64,
    p99_ms: f64,
    nodes: usize,
}

fn print_json(args: &DemoArgs, account: &Account, last: &Reading, shown: Shown) {
    let measured = Measured {
        records: account.records,
        receipts: last.receipted,
        lost: account.lost,
        duplicated: account.duplicated,
        verified: shown.verified,
        tamper_detected: shown.tampered,
        p50_ms: tenths(last.p50_ms),
        p99_ms: tenths(last.p99_ms),
        nodes: args.nodes,
    };
    println!("{}", serde_json::to_string(&measured).expect("plain numbers"));
}

fn tenths(ms: f64) -> f64 {
    (ms * 10.0).round() / 10.0
}

fn say(step: &str, text: &str) {
    println!("{step:>9}  {text}");
}

/// Ctrl-C ends the traffic, not the programs: the summary comes first.
fn on_interrupt(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let stop = Arc::clone(stop);
    ctrlc::set_handler(move || stop.store(true, Ordering::Relaxed)).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        demo: DemoArgs,
    }

    #[test]
    fn nodes_are_killed_only_where_the_ledger_bears_it() {
        let bears = |args: &str| {
            let args = Cli::parse_from(format!("x {args}").split_whitespace()).demo;
            (args.nodes, args.fault_model(), args.fault_model().tolerates(args.nodes))
        };
        assert_eq!(bears(""), (4, FaultModel::Byzantine, 1));
        assert_eq!(bears("--nodes 1"), (1, FaultModel::Byzantine, 0));
        assert_eq!(bears("--nodes 3"), (3, FaultModel::Crash, 1));
        assert_eq!(bears("--nodes 3 --fault-model byzantine"), (3, FaultModel::Byzantine, 0));
        assert_eq!(bears("--nodes 7"), (7, FaultModel::Byzantine, 2));
        assert!(Cli::try_parse_from(["x", "--nodes", "2"]).is_err());
    }
}
