//! kill -9 at random moments, under load from a tailed file and a stock rsyslog.

use crate::rsyslog;
use logseal_agent::spool::{Decoded, decode};
use logseal_tests::{
    Record, Running,
    cluster::{Dice, tell},
    kong_source, wait_for,
};
use record::batch::{Codec, SealedBatch};
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

const LEDGER_KILLS: usize = 20;
const AGENT_KILLS: usize = 100;

/// Writers that go on until they are told to end.
struct Load {
    going: Arc<AtomicBool>,
    file: JoinHandle<Vec<Vec<u8>>>,
    syslog: JoinHandle<Vec<Vec<u8>>>,
}

impl Load {
    fn start(path: PathBuf, rsyslog_port: u16) -> Self {
        let going = Arc::new(AtomicBool::new(true));
        let (a, b) = (Arc::clone(&going), Arc::clone(&going));
        let file = std::thread::spawn(move || {
            let mut corpus = logseal::site::corpus::Corpus::new(11, 1_795_248_147_000);
            let (mut file, mut lines) = (File::create(path).unwrap(), Vec::new());
            while a.load(Ordering::Relaxed) {
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
        let syslog = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", rsyslog_port)).unwrap();
            let mut messages = Vec::new();
            while b.load(Ordering::Relaxed) {
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
        Load { going, file, syslog }
    }

    fn end(self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        self.going.store(false, Ordering::Relaxed);
        (self.file.join().unwrap(), self.syslog.join().unwrap())
    }
}

/// Lets some time pass until the next kill.
fn wait(dice: &mut Dice) {
    dice.pause_from(Duration::from_millis(20), Duration::from_millis(300));
}

/// How many of `sent` are missing, in how many gaps, and how many came twice.
fn compare(sent: &[Vec<u8>], found: &[Vec<u8>]) -> (usize, usize, usize) {
    let mut count: HashMap<&[u8], usize> = HashMap::new();
    for line in found {
        *count.entry(line).or_default() += 1;
    }
    let present: Vec<usize> =
        sent.iter().map(|l| count.get(l.as_slice()).copied().unwrap_or(0)).collect();
    let lost = present.iter().filter(|n| **n == 0).count();
    let gaps = present.windows(2).filter(|pair| pair[0] > 0 && pair[1] == 0).count();
    let gaps = gaps + usize::from(present.first() == Some(&0));
    (lost, gaps, present.iter().map(|n| n.saturating_sub(1)).sum())
}

/// The records that were durable when the agent was killed, by number.
///
/// A message that rsyslog still had in a socket, or the agent in memory, is nobody's any more: plain
/// TCP acknowledges nothing. What the agent had made durable must not share its fate.
#[derive(Default)]
struct Durable {
    records: BTreeMap<u64, Vec<u8>>,
    codec: Codec,
}

impl Durable {
    /// Adds what a dead agent left. Batches whose space was given up had their receipts.
    fn read(&mut self, spool: &Path) {
        let (reader, found) = journal::open_read_only(spool).unwrap();
        assert!(found.damage.is_empty(), "a kill damages nothing: {:?}", found.damage);
        for item in reader.iter(reader.first_seq()) {
            let (_, bytes) = item.unwrap();
            if let Decoded::Batch(kept) = decode(&bytes).unwrap() {
                self.add(&kept.batch);
            }
        }
    }

    fn add(&mut self, batch: &SealedBatch) {
        let mut bundle = Vec::new();
        let places = self.codec.unpack(batch, &mut bundle).unwrap();
        for (n, place) in (batch.start.0..).zip(places) {
            let entry = self.records.entry(n).or_insert_with(|| bundle[place.clone()].to_vec());
            assert_eq!(*entry, bundle[place], "record {n} is never made a second time");
        }
    }

    /// Every one of them is in the ledger, bit for bit.
    fn assert_in(&self, ledger: &[Record]) {
        for (n, entry) in &self.records {
            let found = usize::try_from(*n).ok().and_then(|n| ledger.get(n));
            let found = found.unwrap_or_else(|| panic!("durable record {n} is in the ledger"));
            assert!(
                found.n == *n && found.entry == *entry,
                "record {n} is the one that was durable"
            );
        }
    }
}

struct Outcome {
    file: (usize, usize, usize),
    syslog: (usize, usize, usize),
    sent: (usize, usize),
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
    for (n, record) in records.iter().enumerate() {
        assert_eq!(record.n, n as u64, "numbers without gaps");
    }
    Outcome {
        file: compare(&lines, &of("kong")),
        syslog: compare(&messages, &of("syslog")),
        sent: (lines.len(), messages.len()),
        records,
    }
}

#[test]
fn killing_the_ledger_loses_and_repeats_nothing() {
    let outcome = under_load(0x5eed_0001, LEDGER_KILLS, |running| {
        running.ledger.kill().unwrap();
        running.ledger = running.site.start_ledger().unwrap();
    });
    let (lines, messages) = outcome.sent;
    tell(&format!(
        "{LEDGER_KILLS} kills of the ledger: file {lines} lines, rsyslog {messages} messages; lost, gaps, twice: file {:?}, rsyslog {:?}",
        outcome.file, outcome.syslog
    ));
    assert_eq!(outcome.file, (0, 0, 0));
    assert_eq!(outcome.syslog, (0, 0, 0));
}

#[test]
fn killing_the_agent_loses_and_repeats_nothing_of_a_file() {
    let mut durable = Durable::default();
    let outcome = under_load(0x5eed_0002, AGENT_KILLS, |running| {
        running.agent.kill().unwrap();
        durable.read(&running.site.path("gw01-spool"));
        running.agent = running.site.start_agent("gw01").unwrap();
    });
    let (lines, messages) = outcome.sent;
    let (lost, gaps, twice) = outcome.syslog;
    tell(&format!(
        "{AGENT_KILLS} kills of the agent: {} records seen durable; file {lines} lines, lost, gaps, twice {:?}; \
         rsyslog {messages} messages: {lost} lost in {gaps} gaps that plain TCP cannot know of, \
         {twice} sent again by rsyslog",
        durable.records.len(),
        outcome.file
    ));
    // So whatever is missing never became durable, and nobody had been told that it was.
    durable.assert_in(&outcome.records);
    assert!(!durable.records.is_empty(), "some batches were durable and had no receipt yet");
    assert_eq!(outcome.file, (0, 0, 0));
    assert!(
        gaps <= AGENT_KILLS,
        "at most one gap a kill: anything else was lost after it was received"
    );
}
