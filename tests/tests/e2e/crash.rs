//! kill -9 at random moments, under load from a tailed file and a stock rsyslog.

use crate::rsyslog;
use logseal_tests::{
    Record, Running,
    cluster::{Dice, tell},
    kills::{Background, Durable, Fate, KILLS},
    kong_source, wait_for,
};
use std::{fs::File, io::Write, net::TcpStream, path::PathBuf, time::Duration};

const LEDGER_KILLS: usize = 20;

/// Writers that go on until they are told to end.
struct Load {
    file: Background<Vec<Vec<u8>>>,
    syslog: Background<Vec<Vec<u8>>>,
}

impl Load {
    fn start(path: PathBuf, rsyslog_port: u16) -> Self {
        let file = Background::start(move |goes_on| {
            let mut corpus = logseal::site::corpus::Corpus::new(11, 1_795_248_147_000);
            let (mut file, mut lines) = (File::create(path).unwrap(), Vec::new());
            while goes_on() {
                for _ in 0..20 {
                    let line = corpus.line("crash").into_bytes();
                    file.write_all(&line).unwrap();
                    file.write_all(b"\n").unwrap();
                    lines.push(line);
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
            lines
        });
        let syslog = Background::start(move |goes_on| {
            let mut stream = TcpStream::connect(("127.0.0.1", rsyslog_port)).unwrap();
            let mut messages = Vec::new();
            while goes_on() {
                let next: Vec<Vec<u8>> = (messages.len()..messages.len() + 5)
                    .map(|n| {
                        format!("<134>1 2026-11-21T08:00:00Z web01 app - - - load {n:08}")
                            .into_bytes()
                    })
                    .collect();
                rsyslog::send(&mut stream, &next);
                messages.extend(next);
                std::thread::park_timeout(Duration::from_millis(10));
            }
            let last = b"<134>1 2026-11-21T08:00:00Z web01 app - - - the end".to_vec();
            rsyslog::send(&mut stream, std::slice::from_ref(&last));
            messages.push(last);
            messages
        });
        Load { file, syslog }
    }

    fn end(self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        (self.file.end(), self.syslog.end())
    }
}

/// Lets some time pass until the next kill.
fn wait(dice: &mut Dice) {
    dice.pause_from(Duration::from_millis(20), Duration::from_millis(300));
}

struct Outcome {
    file: Fate,
    syslog: Fate,
    records: Vec<Record>,
}

fn under_load(seed: u64, kills: usize, mut kill: impl FnMut(&mut Running)) -> Outcome {
    let mut running = Running::start(|site| kong_source(site) + &site.syslog_source());
    let rsyslog = rsyslog::start(&running.site);
    let load = Load::start(running.site.path("kong.log"), rsyslog.port);
    let mut dice = Dice::new(seed);
    for _ in 0..kills {
        wait(&mut dice);
        kill(&mut running);
    }
    wait(&mut dice);
    let (lines, messages) = load.end();
    let end = messages.last().unwrap().clone();
    let records = wait_for("the last line and the last message", || {
        let records = running.records();
        let has = |line: &Vec<u8>| records.iter().any(|record| record.line == *line);
        (has(&end) && has(lines.last().unwrap())).then_some(records)
    });
    let of = |source: &str| -> Vec<Vec<u8>> {
        records.iter().filter(|r| r.source == source).map(|r| r.line.clone()).collect()
    };
    let (file, syslog) = (Fate::of(&lines, &of("kong")), Fate::of(&messages, &of("syslog")));
    Outcome { file, syslog, records }
}

#[test]
fn killing_the_ledger_loses_and_repeats_nothing() {
    let Outcome { file, syslog, records } = under_load(0x5eed_0001, LEDGER_KILLS, |running| {
        running.ledger.kill().unwrap();
        running.ledger = running.site.start_ledger().unwrap();
    });
    tell(&format!("{LEDGER_KILLS} kills of the ledger: file: {file}; rsyslog: {syslog}"));
    Durable::default().assert_in(&records);
    assert!(file.is_clean() && syslog.is_clean());
}

#[test]
fn killing_the_agent_loses_and_repeats_nothing_of_a_file() {
    let mut durable = Durable::default();
    let Outcome { file, syslog, records } = under_load(0x5eed_0002, KILLS, |running| {
        running.agent.kill().unwrap();
        durable.read(&running.site.path("gw01-spool"));
        running.agent = running.site.start_agent("gw01").unwrap();
    });
    tell(&format!(
        "{KILLS} kills of the agent: {} records seen durable; file: {file}; rsyslog by plain TLS, \
         which cannot know of losses: {syslog}",
        durable.count(),
    ));
    // So whatever is missing never became durable, and nobody had been told that it was.
    durable.assert_in(&records);
    assert!(file.is_clean());
    assert!(
        syslog.gaps <= KILLS,
        "at most one gap a kill: anything else was lost after it was received"
    );
}
