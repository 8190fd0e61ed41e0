//! `logseal demo`: the whole way of a line on this machine, from a gateway's log to a proof.
//!
//! Every figure it prints is measured in the run: what was written is counted
//! by the writers, what arrived is read back from the ledger as an auditor
//! would, and latencies come from the agent's own histogram.

mod account;
mod meter;
mod tamper;
mod traffic;

use crate::{
    client::read_policy,
    evidence::Evidence,
    output::{Failure, fail},
    proof,
    site::{AgentOptions, LedgerOptions, Process, Site},
};
use account::Account;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
pub use meter::{Meter, Reading};
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use traffic::Traffic;

/// Show the whole way on this machine: a gateway's growing log and syslog over TLS become records
/// of a ledger, one of them is proven offline, and tampering is noticed.
///
/// Goes on until Ctrl-C. The last line is JSON with what was measured.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
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
    ledger: Process,
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
    let mut running = start(&dir)?;
    let traffic = Traffic::start(&running.site, args.rate, Arc::clone(&stop)).map_err(fail)?;
    let mut meter = Meter::new(running.site.agent_metrics_port);
    let round = Duration::from_secs(args.seconds);
    watch(&mut meter, &traffic, &stop, Some(round), true)?;
    let shown = prove(&running.site, &mut meter)?;
    if !args.once {
        say("running", "until Ctrl-C");
        watch(&mut meter, &traffic, &stop, None, false)?;
    }
    let written = traffic.finish().map_err(fail)?;
    say(
        "settling",
        &format!("{} lines were written; waiting for the last receipts", written.len()),
    );
    let last = meter.wait_receipted(written.len() as u64, SETTLE)?;
    let account = account::read(&running.site, &written)?;
    summary(args, &mut running, &account, &last, shown)?;
    let good = account.lost == 0 && account.duplicated == 0 && shown.verified && shown.tampered;
    if args.keep {
        keep(&mut running);
    } else {
        running.agent.stop(SETTLE).map_err(fail)?;
        running.ledger.stop(SETTLE).map_err(fail)?;
    }
    print_json(&account, &last, shown);
    Ok(good)
}

fn start(dir: &std::path::Path) -> Result<Running, Failure> {
    let site = Site::make(dir).map_err(fail)?;
    site.configure_ledger(&LedgerOptions::default()).map_err(fail)?;
    let log = site.path("kong.log");
    let file = format!(
        "[[source.file]]\nname = \"kong\"\npaths = [{log:?}]\nformat = \"kong\"\n{}",
        site.syslog_source()
    );
    site.configure_agent(&AgentOptions::new(AGENT, file)).map_err(fail)?;
    let ledger = site.start_ledger().map_err(fail)?;
    say("ledger", &format!("logseal-ledger node1, process {}", ledger.pid()));
    site.enrol(AGENT).map_err(fail)?;
    say("enrol", "the operator enrolled the key of agent gw01: an entry of the ledger");
    let agent = site.start_agent(AGENT).map_err(fail)?;
    say("agent", &format!("logseal-agent gw01, process {}", agent.pid()));
    Ok(Running { site, ledger, agent })
}

/// Shows progress until the time is over, or until Ctrl-C.
fn watch(
    meter: &mut Meter,
    traffic: &Traffic,
    stop: &AtomicBool,
    limit: Option<Duration>,
    rotate: bool,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let style = ProgressStyle::with_template("{spinner} {msg}");
    let bar = ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let mut rotated = !rotate;
    while !stop.load(Ordering::Relaxed) && limit.is_none_or(|limit| begun.elapsed() < limit) {
        if !rotated && limit.is_some_and(|limit| begun.elapsed() > limit / 2) {
            traffic.rotate();
            rotated = true;
            bar.suspend(|| say("rotate", "kong.log was renamed and a new one begun"));
        }
        let reading = meter.read()?;
        bar.set_message(progress_line(&reading, traffic.written()));
        bar.tick();
        std::thread::sleep(Duration::from_millis(200));
    }
    bar.finish_and_clear();
    say("traffic", &progress_line(&meter.read()?, traffic.written()));
    Ok(())
}

fn progress_line(reading: &Reading, written: u64) -> String {
    format!(
        "written {written}  read {}  sealed {}  committed {}  receipt p50 {:.0} ms, p99 {:.0} ms",
        reading.lines, reading.sealed, reading.receipted, reading.p50_ms, reading.p99_ms
    )
}

/// What the evidence of one record showed.
#[derive(Clone, Copy, Debug)]
struct Shown {
    verified: bool,
    tampered: bool,
}

fn prove(site: &Site, meter: &mut Meter) -> Result<Shown, Failure> {
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
    running.ledger.let_go();
    let (agent, ledger) = (running.agent.pid(), running.ledger.pid());
    say("kept", &format!("both programs are running; 'kill {agent} {ledger}' stops them"));
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
}

fn print_json(account: &Account, last: &Reading, shown: Shown) {
    let measured = Measured {
        records: account.records,
        receipts: last.receipted,
        lost: account.lost,
        duplicated: account.duplicated,
        verified: shown.verified,
        tamper_detected: shown.tampered,
        p50_ms: round(last.p50_ms),
        p99_ms: round(last.p99_ms),
    };
    println!("{}", serde_json::to_string(&measured).expect("plain numbers"));
}

fn round(ms: f64) -> f64 {
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
