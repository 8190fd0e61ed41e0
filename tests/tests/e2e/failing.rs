//! Disks that refuse: a sync that fails, a file system that is full at whatever write comes next. strace makes the system
//! calls of a real node fail.

use logseal::site::{AgentOptions, LedgerOptions, Process, Programs, Site, corpus::Corpus};
use logseal_tests::{LIMIT, Running, cluster::Dice, file_source, new_site, wait_for};
use std::{
    fs::File,
    io::Write,
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

const ROUNDS: usize = 12;

/// Starts the site's node so that these system calls fail.
fn start_failing(site: &Site, calls: &str, fault: &str) -> Process {
    let program = Programs::beside_this().unwrap().path("logseal-ledger").display().to_string();
    let config = site.path("ledger.toml").display().to_string();
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:{fault}"));
    let args = [
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &inject,
        &program,
        "run",
        "--config",
        &config,
    ];
    Process::start(Path::new("strace"), &args, &site.path("ledger.log")).unwrap()
}

/// Ends strace and the node below it, at once.
fn kill(site: &Site, process: &mut Process) {
    let pid = process.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    for child in children.split_whitespace() {
        let killed = Command::new("kill").args(["-9", child]).status().unwrap();
        assert!(killed.success(), "the node that strace started");
    }
    process.kill().unwrap();
    // Its threads end one by one.
    wait_for("the node's end", || {
        TcpListener::bind(("127.0.0.1", site.agents_port)).ok().map(drop)
    });
}

/// Feeds a node whose system calls fail, round after round; after each an ordinary one must have everything.
fn survive(calls: &str, fault: impl Fn(&mut Dice) -> String) -> [usize; 2] {
    let (dir, site) = new_site();
    let mut running = Running::on(dir, site, LedgerOptions::default(), |site| {
        AgentOptions::new("gw01", file_source("plain", &site.path("plain.log"), "raw"))
    });
    let mut file = File::create(running.site.path("plain.log")).unwrap();
    let (mut corpus, mut lines, mut dice) = (Corpus::new(3, 0), Vec::new(), Dice::new(99));
    let [mut ended, mut went_on] = [0; 2];
    for round in 0..ROUNDS {
        running.ledger.stop(LIMIT).unwrap();
        let fault = fault(&mut dice);
        let mut failing = start_failing(&running.site, calls, &fault);
        let begun = Instant::now();
        // Some seconds of load, or until it ends.
        while begun.elapsed() < Duration::from_secs(4) && failing.is_running() {
            for _ in 0..20 {
                let line = corpus.line("f");
                writeln!(file, "{line}").unwrap();
                lines.push(line.into_bytes());
            }
            dice.pause(Duration::from_millis(40));
        }
        if failing.is_running() {
            went_on += 1;
            kill(&running.site, &mut failing);
        } else {
            ended += 1;
            let said = failing.log_text();
            assert!(
                said.contains("rror"),
                "round {round}, {fault}: it ended without a word: {said}"
            );
        }
        running.ledger = running.site.start_ledger().unwrap();
        running.meter().wait_receipted(lines.len() as u64, LIMIT).unwrap_or_else(|failure| {
            panic!("round {round}, {fault}: {failure}\n{}", running.ledger.log_tail())
        });
    }
    assert!(running.lines("plain") == lines, "every line once and in order");
    running.ledger.stop(LIMIT).unwrap();
    let program = Programs::beside_this().unwrap().path("logseal");
    let mut verify = Command::new(program);
    let verify = verify.args(["verify", "--deep", "--store"]).arg(running.site.path("store"));
    let output = verify.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    println!(
        "{calls}: {ROUNDS} rounds, {ended} ended the node, {went_on} did not; {} lines, 0 lost, 0 twice",
        lines.len()
    );
    [ended, went_on]
}

#[test]
fn after_a_sync_that_failed_the_node_stops_and_nothing_acknowledged_is_lost() {
    let [ended, _] =
        survive("fdatasync,fsync", |dice| format!("error=EIO:when={}", 4 + dice.below(60)));
    assert!(ended * 2 > ROUNDS, "most of the syncs that fail are those of the block log");
}

#[test]
fn a_disk_that_is_full_at_any_write_costs_nothing_that_was_acknowledged() {
    survive("pwrite64,pwritev,fallocate,ftruncate", |dice| {
        let first = 20 + dice.below(200);
        format!("error=ENOSPC:when={first}..{}", first + 1 + dice.below(30))
    });
}
