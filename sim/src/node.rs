//! A node: its disk and clock, which stay, and its process, which comes and goes.

use crate::{
    cast,
    clock::Clock,
    disk::{Disk, Kept, Shelf},
    liar::Liar,
};
use bytes::Bytes;
use record::{
    Hash,
    batch::LogState,
    declaration::{Declaration, MIN_RETENTION_DAYS},
    note::SignedNote,
};
use replica::{
    BlankStart, Executed, Head, Members, Message, NodeIndex, Output, Placed, Replica, Settings,
    Timing,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What comes in.
#[derive(Debug)]
pub enum Input {
    /// A node's message.
    Message(usize, Message),
    /// A connection is there.
    Up(usize),
    /// A connection is lost.
    Down(usize),
    /// A timer may have run out.
    Tick,
    /// An agent's batch, on a connection.
    Submit { agent: usize, connection: u64, encoded: Bytes },
    /// An operator enrols an agent.
    Enrol(usize),
    /// An operator declares something.
    Declare(Box<Declaration>),
}

/// What an agent is told.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Its batch is under this checkpoint.
    Receipt(Hash, Box<SignedNote>),
    /// Its batch is not taken.
    Refused,
}

/// An agent's connection, as the node sees it.
pub struct Session {
    /// Which one.
    pub connection: u64,
    /// What the agent's next batch must fit.
    pub log: Option<LogState>,
}

/// A running process.
pub struct Process {
    /// What it runs.
    pub replica: Replica,
    /// When it began, in microseconds.
    pub begun: u64,
    /// What it has not looked at.
    pub inbox: VecDeque<Input>,
    /// It writes, or waits for space.
    pub blocked: bool,
    /// What it was about to do.
    pub stalled: Option<Output>,
    /// The block that it writes.
    pub writing: Option<Box<Executed>>,
    /// Connections of agents.
    pub sessions: BTreeMap<usize, Session>,
    /// Who waits for the receipt of which batch: agent, connection.
    pub waiting: BTreeMap<Hash, (usize, u64)>,
    /// The ledger's size behind each durable batch.
    pub placed: BTreeMap<Hash, u64>,
    /// What receipts are made from.
    pub head: Option<Head>,
    /// When it will be woken at the latest, in microseconds.
    pub wake: u64,
    /// Ticks in a row that left something due.
    pub spins: u32,
    /// Who it was told is connected.
    pub told_up: BTreeSet<usize>,
    /// The base that its ledger will begin with.
    pub fetched: Option<Kept>,
    /// Leaf hashes that belong to it, by chunk.
    pub leaves: BTreeMap<u64, Vec<Hash>>,
}

/// A node.
pub struct Node {
    /// While it runs.
    pub process: Option<Process>,
    /// Counts processes.
    pub incarnation: u64,
    /// Its disk.
    pub disk: Disk,
    /// Its clocks.
    pub clock: Clock,
    /// If it lies.
    pub liar: Option<Liar>,
    /// Steps until its process ends.
    pub crash_in: Option<u32>,
    /// How long it will be down then.
    pub down: u64,
    /// Its next write fails.
    pub fail_write: bool,
    /// The newest checkpoint that it published, over all processes.
    pub published: Option<String>,
    /// How many days it keeps entries for.
    pub retention: u32,
}

impl Node {
    /// A node that has not been started.
    pub fn new(clock: Clock, liar: Option<Liar>) -> Self {
        Node {
            process: None,
            incarnation: 0,
            disk: Disk::default(),
            clock,
            liar,
            crash_in: None,
            down: 0,
            fail_write: false,
            published: None,
            retention: MIN_RETENTION_DAYS,
        }
    }

    /// Starts the process from what the disk holds.
    ///
    /// # Errors
    /// What the replica says.
    pub fn start(&mut self, node: usize, members: &Members, time: u64) -> Result<(), String> {
        let (shelf, lies) = (self.disk.shared(), self.liar.is_some());
        let blank = if self.disk.rejoining { BlankStart::Rejoin } else { BlankStart::Genesis };
        let settings = Settings {
            params: cast::params(),
            members: members.clone(),
            identity: cast::identity(node),
            timing: Timing::default(),
            vouch: Box::new(cast::Operators { shelf, retention: self.retention, lies }),
            blank,
        };
        let (state, votes) = (self.disk.state(), self.disk.recall());
        let (key, now) = (cast::consensus_key(node), self.clock.now(time, time));
        let replica =
            Replica::new(settings, state, &votes, key, now).map_err(|error| error.to_string())?;
        self.incarnation += 1;
        self.process = Some(Process {
            replica,
            begun: time,
            inbox: VecDeque::new(),
            blocked: false,
            stalled: None,
            writing: None,
            sessions: BTreeMap::new(),
            waiting: BTreeMap::new(),
            placed: placed(&self.disk.shelf()),
            head: None,
            wake: u64::MAX,
            spins: 0,
            told_up: BTreeSet::new(),
            fetched: None,
            leaves: BTreeMap::new(),
        });
        Ok(())
    }
}

/// The ledger's size behind each batch that agents may ask for again.
pub fn placed(shelf: &Shelf) -> BTreeMap<Hash, u64> {
    let kept = shelf.kept.iter().flat_map(|kept| kept.base.agents.values());
    let newest = kept.flat_map(|log| &log.newest).map(size_behind);
    newest.chain(shelf.blocks().flat_map(behind)).collect()
}

fn size_behind(placed: &Placed) -> (Hash, u64) {
    (placed.digest, placed.first.0 + u64::from(placed.count) + 1)
}

/// The ledger's size behind each of a block's batches.
pub fn behind(executed: &Executed) -> impl Iterator<Item = (Hash, u64)> {
    executed.placed.iter().map(size_behind)
}

/// A node's number as the replica wants it.
pub fn index(node: usize) -> NodeIndex {
    NodeIndex(node as u8)
}
