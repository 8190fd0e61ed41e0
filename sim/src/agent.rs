//! Agents: they seal, keep, send to one node at a time, and let go when they hold a receipt.

use crate::{cast, rng::Rng};
use bytes::Bytes;
use record::{
    Hash, UnixSeconds,
    batch::{Codec, SealedBatch},
    merkle::Frontier,
};
use std::collections::VecDeque;

/// How long an agent waits for a receipt before it goes to another node, in microseconds.
pub const PATIENCE: u64 = 3_000_000;
/// How many batches may be under way.
const WINDOW: usize = 4;

/// A sealed batch.
#[derive(Clone, Debug)]
pub struct Spooled {
    /// Its bytes, always the same.
    pub encoded: Bytes,
    /// Their digest.
    pub digest: Hash,
    /// It has no records.
    pub heartbeat: bool,
}

/// A connection, as the agent sees it.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// To which node.
    pub node: usize,
    /// Which one.
    pub connection: u64,
    /// How many batches of the spool were sent.
    pub sent: usize,
    /// When the last one arrives, so that the next one comes after it.
    pub last: u64,
}

/// An agent.
pub struct Agent {
    /// Its number.
    pub number: usize,
    log: Frontier,
    /// The log before the newest batch.
    before: Frontier,
    sealed: UnixSeconds,
    /// What has no receipt.
    pub spool: VecDeque<Spooled>,
    /// Its connection, if it has one.
    pub link: Option<Link>,
    connections: u64,
    /// When it last heard good news.
    pub progress: u64,
    /// When it may connect again.
    pub rest: u64,
    /// The node it tries next.
    pub next: usize,
    /// It is enrolled.
    pub enrolled: bool,
    /// It has sealed twice at one size, and nothing is promised to it any more.
    pub split: bool,
    codec: Codec,
}

impl Agent {
    /// An agent that has sealed nothing.
    pub fn new(number: usize, next: usize) -> Self {
        Agent {
            number,
            log: Frontier::default(),
            before: Frontier::default(),
            sealed: UnixSeconds(0),
            spool: VecDeque::new(),
            link: None,
            connections: 0,
            progress: 0,
            rest: 0,
            next,
            enrolled: false,
            split: false,
            codec: Codec::default(),
        }
    }

    /// Seals a batch of some records, or none, and keeps it.
    pub fn seal(&mut self, rng: &mut Rng, now: UnixSeconds) -> Hash {
        let newer = now.0 > self.sealed.0;
        let count = rng.within(u64::from(!newer)..4);
        let before = self.log.clone();
        let spooled = self.make(before, count, "a", now);
        let digest = spooled.digest;
        self.spool.push_back(spooled);
        digest
    }

    /// Seals another batch at the place of the newest one, and does not keep it.
    pub fn seal_again(&mut self, now: UnixSeconds) -> Option<Spooled> {
        let newest = self.spool.back()?;
        let batch = SealedBatch::decode(&newest.encoded).ok().filter(|batch| batch.count > 0)?;
        let log = self.log.clone();
        let before = self.before.clone();
        let other = self.make(before, u64::from(batch.count), "b", now);
        self.log = log;
        self.split = true;
        Some(other)
    }

    fn make(&mut self, before: Frontier, count: u64, word: &str, now: UnixSeconds) -> Spooled {
        let time = UnixSeconds(now.0.max(self.sealed.0));
        let lines: Vec<String> =
            (0..count).map(|n| format!("{word} {}", before.size().0 + n)).collect();
        let sealed = cast::seal(self.number, before.clone(), &lines, time, &mut self.codec);
        self.before = before;
        (self.log, self.sealed) = (sealed.after, time);
        let encoded = Bytes::from(sealed.batch.encode());
        Spooled { digest: SealedBatch::digest(&encoded), encoded, heartbeat: count == 0 }
    }

    /// Connects to the next node.
    pub fn connect(&mut self, nodes: usize, now: u64) {
        self.connections += 1;
        self.progress = now;
        self.link = Some(Link { node: self.next, connection: self.connections, sent: 0, last: 0 });
        self.next = (self.next + 1) % nodes;
    }

    /// Gives its connection up, and rests for a while.
    pub fn leave(&mut self, until: u64) {
        self.link = None;
        self.rest = until;
    }

    /// The next batch to send, if there is one and the window allows it. Nothing is sent behind a
    /// heartbeat that has no receipt: it leaves no gap in the log if it comes too late, and then it
    /// could never be taken.
    pub fn next_to_send(&mut self) -> Option<Spooled> {
        let link = self.link.as_mut().filter(|link| link.sent < WINDOW)?;
        let last = link.sent.checked_sub(1).and_then(|last| self.spool.get(last));
        if last.is_some_and(|last| last.heartbeat) {
            return None;
        }
        let next = self.spool.get(link.sent)?.clone();
        link.sent += 1;
        Some(next)
    }

    /// Takes a verified receipt. They come in order; one for another batch than the oldest is late.
    pub fn release(&mut self, digest: Hash, now: u64) {
        if self.spool.front().is_some_and(|oldest| oldest.digest == digest) {
            self.spool.pop_front();
            self.progress = now;
            if let Some(link) = &mut self.link {
                link.sent = link.sent.saturating_sub(1);
            }
        }
    }
}
