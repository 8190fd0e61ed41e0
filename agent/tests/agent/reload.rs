//! Sources that are changed while the agent runs.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crate::{
    fake_node::{Ledger, Mood},
    process::{Agent, enrolled},
    support::*,
};

/// A source that is there or not; the lines of its file are taken over all the same.
const SECOND: &str = r#"
[[source.file]]
name = "second"
paths = ["@/second.log"]
"#;

/// Writes numbered lines until it is told to stop; answers with how many.
fn writer(
    path: std::path::PathBuf,
    name: &str,
    stop: Arc<AtomicBool>,
) -> thread::JoinHandle<usize> {
    let name = name.to_owned();
    thread::spawn(move || {
        let mut log = OpenOptions::new().append(true).create(true).open(path).unwrap();
        for n in 0.. {
            if stop.load(Relaxed) {
                return n;
            }
            writeln!(log, "{name} {n}").unwrap();
            thread::park_timeout(Duration::from_micros(200));
        }
        unreachable!()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_is_lost_or_taken_twice_while_sources_come_change_and_go() {
    let ledger = Ledger::new();
    let (mut machine, _node) = enrolled(&ledger, Mood::Honest).await;
    let logs = machine.dir.path().join("log");
    let second = SECOND.replace('@', &logs.display().to_string());
    let plain = machine.text.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let first = writer(logs.join("access.log"), "first", Arc::clone(&stop));
    let others = writer(logs.join("second.log"), "second", Arc::clone(&stop));
    let agent = Agent::start(&machine.file());
    until("the log has begun", || ledger.records() > 10).await;
    for round in 0..12 {
        let changed =
            plain.replace("# max_line_kib = 3072", &format!("max_line_kib = {}", 64 + round));
        machine.text = if round % 2 == 0 { changed + &second } else { changed };
        machine.file();
        let before = ledger.records();
        agent.signal(rustix::process::Signal::HUP);
        until("lines come on", || ledger.records() > before + 50).await;
    }
    // Nothing is taken up from a configuration that is wrong.
    fs::write(machine.dir.path().join("agent.toml"), "[source").unwrap();
    agent.signal(rustix::process::Signal::HUP);
    let before = ledger.records();
    until("it goes on as it was", || ledger.records() > before + 50).await;
    machine.text = plain + &second;
    machine.file();
    agent.signal(rustix::process::Signal::HUP);
    stop.store(true, Relaxed);
    let counts = [("first", first.join().unwrap()), ("second", others.join().unwrap())];
    let all = (counts[0].1 + counts[1].1) as u64;
    until("all lines are there", || ledger.records() >= all).await;
    for (name, count) in counts {
        let state = ledger.state();
        let came: Vec<&String> = state.lines.iter().filter(|line| line.starts_with(name)).collect();
        let expected: Vec<String> = (0..count).map(|n| format!("{name} {n}")).collect();
        assert!(came.iter().copied().eq(&expected), "{name}: {} of {count}", came.len());
    }
}
