//! What the tests that kill an agent share: work that goes on meanwhile, what the dead agent had
//! made durable, and what became of all that was sent.

use crate::{Record, cluster::Dice};
use logseal::site::Process;
use logseal_agent::spool::{Decoded, decode};
use record::batch::{Codec, SealedBatch};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// How often an agent is killed under each kind of source.
pub const KILLS: usize = 100;

/// Work that goes on in a thread until it is told to end.
pub struct Background<T> {
    going: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Background<T> {
    /// Begins it. The work asks, as often as it likes, whether it is to go on.
    pub fn start(work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static) -> Self {
        let going = Arc::new(AtomicBool::new(true));
        let goes = Arc::clone(&going);
        let thread = std::thread::spawn(move || work(&|| goes.load(Ordering::Relaxed)));
        Background { going, thread }
    }

    /// Tells it to end, and gives back what it came to.
    pub fn end(self) -> T {
        self.going.store(false, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// What became of what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// How many were sent; no two are the same.
    pub sent: usize,
    /// How many of them are nowhere.
    pub lost: usize,
    /// In how many gaps these lie.
    pub gaps: usize,
    /// How many are there once more than they were sent.
    pub twice: usize,
}

impl Fate {
    /// Looks for each of `sent` in what was found.
    pub fn of(sent: &[Vec<u8>], found: &[Vec<u8>]) -> Self {
        let mut count: HashMap<&[u8], usize> = HashMap::new();
        for line in found {
            *count.entry(line).or_default() += 1;
        }
        let present: Vec<usize> =
            sent.iter().map(|line| count.get(line.as_slice()).copied().unwrap_or(0)).collect();
        let begins = |pair: &&[usize]| pair[0] > 0 && pair[1] == 0;
        let gaps = present.windows(2).filter(begins).count();
        Fate {
            sent: sent.len(),
            lost: present.iter().filter(|n| **n == 0).count(),
            gaps: gaps + usize::from(present.first() == Some(&0)),
            twice: present.iter().map(|n| n.saturating_sub(1)).sum(),
        }
    }

    /// True if each is there, and once.
    pub fn is_clean(&self) -> bool {
        (self.lost, self.twice) == (0, 0)
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fate { sent, lost, gaps, twice } = self;
        let stored = sent - lost;
        write!(f, "{sent} sent, {stored} stored, {lost} lost in {gaps} gaps, {twice} twice")
    }
}

/// The records that were durable when the agent was killed, by number.
///
/// A message that its sender still had in a socket, or the agent in memory, is nobody's any more
/// where the protocol acknowledges nothing. What the agent had made durable must not share its fate.
#[derive(Default)]
pub struct Durable {
    records: BTreeMap<u64, Vec<u8>>,
    codec: Codec,
}

impl Durable {
    /// Adds what a dead agent left. Batches whose space was given up had their receipts.
    pub fn read(&mut self, spool: &Path) {
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

    /// How many there were. Some had no receipt yet, or nothing is shown by them.
    pub fn count(&self) -> usize {
        assert!(!self.records.is_empty(), "some batches were durable and had no receipt yet");
        self.records.len()
    }

    /// Every one of them is in the ledger, bit for bit, and the ledger's numbers have no gaps.
    pub fn assert_in(&self, ledger: &[Record]) {
        for (n, record) in (0..).zip(ledger) {
            assert_eq!(record.n, n, "numbers without gaps");
        }
        for (n, entry) in &self.records {
            let found = usize::try_from(*n).ok().and_then(|n| ledger.get(n));
            let found = found.unwrap_or_else(|| panic!("durable record {n} is in the ledger"));
            assert!(found.entry == *entry, "record {n} is the one that was durable");
        }
    }
}

/// Kills what `start` starts, again and again, while it runs and while it is starting. The last
/// one lives, and is ready.
pub fn kill_often(
    dice: &mut Dice,
    spool: &Path,
    mut start: impl FnMut() -> Process,
) -> (Process, Durable) {
    let mut durable = Durable::default();
    let mut agent = start();
    agent.wait_ready(crate::LIMIT).unwrap();
    for _ in 0..KILLS {
        dice.pause_from(Duration::from_millis(20), Duration::from_millis(300));
        agent.kill().unwrap();
        durable.read(spool);
        agent = start();
    }
    agent.wait_ready(crate::LIMIT).unwrap();
    (agent, durable)
}
