//! The node's thread: it alone drives the replica, and writes the store and the vote log.
//!
//! It hands the replica what comes in (verified batches of agents, messages of
//! other nodes, the time) and carries out what the replica wants, in order: a
//! vote leaves after the vote log is synced, a cosignature after the block is
//! durable, a receipt after a quorum has cosigned. A failed write stops it, and
//! with it the program; a full disk makes it wait.

mod answers;
mod mend;
mod outputs;
mod prune;
mod report;
mod votelog;

pub use votelog::VoteLog;

use crate::{
    metrics::Metrics,
    peers::{Event as PeerEvent, Incoming, Outlets},
    store::{BatchKey, Store, StoreError, check::Mend},
    view::{Head, View},
};
use answers::Answers;
use link::message::FromNode;
use record::{
    AgentName, Checkpoint, Hash, NodeName, declaration::Declaration, enrolment::Enrolment,
    note::SignedNote,
};
use replica::{EngineError, Message, Now, Pending, Replica, Ticks};
use service::signals::Shutdown;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for the node's thread. Each connection has few under way.
pub const QUEUE: usize = 256;
/// How many inputs of one kind are handled before what they lead to is carried out: they share a
/// block and a sync.
const TOGETHER: usize = 256;
/// How often a full disk is looked at again.
const FULL_RETRY: Duration = Duration::from_millis(250);
/// How often tree and index are brought to the disk while blocks come in.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// How often free space is looked at.
const DISK_EVERY: Duration = Duration::from_secs(1);
/// How often others can see a new state of the cluster.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// Where the answer to a batch goes.
pub type Reply = mpsc::Sender<FromNode>;

/// What intake asks of the node.
pub enum Command {
    /// Put a verified batch into the ledger; the receipt goes to `reply`.
    Batch {
        /// The batch.
        pending: Box<Pending>,
        /// Where the receipt goes.
        reply: Reply,
    },
    /// A batch was sent again: answer with its receipt if it is known.
    Again {
        /// Which batch.
        key: BatchKey,
        /// Its digest.
        digest: Hash,
        /// Where the answer goes.
        reply: Reply,
    },
    /// The log that the agent's next batch must fit.
    Log {
        /// The agent.
        agent: AgentName,
        /// Where the answer goes; `None` if it is not enrolled.
        reply: oneshot::Sender<Option<record::batch::LogState>>,
    },
    /// Put an enrolment into the ledger, its operator's signature verified.
    Enrol {
        /// The enrolment.
        enrolment: Box<Enrolment>,
        /// Where the answer goes.
        reply: oneshot::Sender<FromNode>,
    },
    /// Put a declaration into the ledger, its operator's signature verified.
    Declare {
        /// The declaration.
        declaration: Box<Declaration>,
        /// Where the answer goes.
        reply: oneshot::Sender<FromNode>,
    },
    /// Mend what the scrub found.
    Mend(Vec<Mend>),
    /// The index cannot be used any more: stop, so that the next start makes it again.
    IndexBroken(String),
    /// Stop after what is under way.
    Stop,
}

/// The node must stop.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The vote log.
    #[error("the vote log: {0}")]
    VoteLog(#[from] journal::Error),
    /// The consensus engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store is empty, the ledger is not.
    #[error(
        "this node's store is empty, but the ledger is at height {height}. A node that lost its store has forgotten \
         its votes, and could vote twice. Restore the store; or, if it is lost, or this node was never part of the \
         ledger, start it once with 'logseal-ledger run --rejoin': it then fetches everything and votes only when \
         that is safe"
    )]
    Blank {
        /// The height that others are at.
        height: u64,
    },
    /// A marker file.
    #[error("{}: {source}", path.display())]
    Marker {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// How a node runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store's directory.
    pub dir: PathBuf,
    /// Batches are refused while fewer bytes are free.
    pub min_free: u64,
    /// Where each other node listens, for reports.
    pub addresses: BTreeMap<NodeName, String>,
}

/// What comes from other nodes, and the way to them.
pub struct PeerLinks {
    /// Messages that must not wait.
    pub control: mpsc::Receiver<Incoming>,
    /// Bodies and blocks.
    pub bulk: mpsc::Receiver<Incoming>,
    /// Nodes that come and go.
    pub events: mpsc::Receiver<PeerEvent>,
    /// The way out; `None` for a ledger of one.
    pub outlets: Option<Outlets>,
}

/// What a node is made of.
pub struct Parts {
    /// The state machine.
    pub replica: Replica,
    /// The store.
    pub store: Store,
    /// The vote log; `None` for a ledger of one, which needs none.
    pub votes: Option<VoteLog>,
    /// The connections with other nodes.
    pub links: PeerLinks,
    /// Metrics.
    pub metrics: Metrics,
    /// How it runs.
    pub options: Options,
    /// What is published already, from the last run.
    pub published: Option<SignedNote>,
}

/// The node's thread, before it starts.
pub struct Node {
    replica: Replica,
    store: Store,
    votes: Option<VoteLog>,
    links: PeerLinks,
    view: Arc<View>,
    metrics: Metrics,
    options: Options,
    commands: mpsc::Receiver<Command>,
    answers: Answers,
    mending: mend::Mending,
    pruning: prune::Pruning,
    /// What was logged of nodes that do what they should not.
    faults: report::Faults,
    /// The versions of the nodes that are connected.
    versions: BTreeMap<NodeName, String>,
    begun: Instant,
    /// Set while blocks are not flushed yet.
    unflushed: Option<Instant>,
    looked_at_disk: Option<Instant>,
    reported: Option<Instant>,
    stopping: bool,
    shutdown: Shutdown,
}

impl Node {
    /// Puts a node together.
    pub fn new(
        parts: Parts,
        begun: Instant,
        shutdown: Shutdown,
    ) -> (Self, Arc<View>, mpsc::Sender<Command>) {
        let Parts { replica, store, votes, links, metrics, options, published } = parts;
        let (sender, commands) = mpsc::channel(QUEUE);
        let (state, members) = (replica.state(), replica.members());
        let own = members.get(replica.own()).name.clone();
        // An older one than the store is at would be a step back behind what was served before.
        let size = state.tree.size();
        let newest = published
            .filter(|note| Checkpoint::parse(note.text()).is_ok_and(|kept| kept.size == size));
        // Without a newest checkpoint beside it the store is not complete.
        let unflushed = (newest.is_none() && state.height.0 > 0).then_some(begun);
        let head = Head { height: state.height, size, checkpoint: newest };
        let view = Arc::new(View::new(own, head, state.agents.clone()));
        let node = Node {
            replica,
            store,
            votes,
            links,
            view: Arc::clone(&view),
            metrics,
            options,
            commands,
            answers: Answers::default(),
            mending: mend::Mending::default(),
            pruning: prune::Pruning::default(),
            faults: report::Faults::default(),
            versions: BTreeMap::new(),
            begun,
            unflushed,
            looked_at_disk: None,
            reported: None,
            stopping: false,
            shutdown,
        };
        (node, view, sender)
    }

    /// Runs until told to stop, or until a write fails.
    pub async fn run(mut self) -> Result<(), NodeError> {
        self.carry_out()?;
        while !self.stopping {
            self.look_at_disk();
            self.report();
            self.wait().await?;
            if self.now().ticks >= self.replica.deadline() {
                let now = self.now();
                self.replica.handle_tick(now)?;
            }
            self.mend_blocks()?;
            self.carry_out()?;
            self.prune_if_due()?;
            self.flush_if_due(false)?;
        }
        self.flush_if_due(true)
    }

    /// Waits for something to do, and hands it to the replica with what came along with it.
    async fn wait(&mut self) -> Result<(), NodeError> {
        let deadline = self.begun + Duration::from_millis(self.replica.deadline().0);
        let deadline = deadline.min(Instant::now() + REPORT_EVERY).into();
        let room = self.replica.has_room();
        tokio::select! {
            biased;
            Some(event) = self.links.events.recv() => self.handle_event(event),
            Some(frame) = self.links.control.recv() => self.handle_frame(frame)?,
            else_ = async {
                tokio::select! {
                    command = self.commands.recv(), if room => Woken::Command(command),
                    Some(frame) = self.links.bulk.recv() => Woken::Bulk(frame),
                    () = tokio::time::sleep_until(deadline) => Woken::Late,
                }
            } => match else_ {
                Woken::Command(Some(command)) => self.handle_command(command)?,
                Woken::Command(None) => self.stopping = true,
                Woken::Bulk(frame) => self.handle_frame(frame)?,
                Woken::Late => {}
            },
        }
        self.take_more()
    }

    /// Takes what else is there already, so that it shares blocks and syncs.
    fn take_more(&mut self) -> Result<(), NodeError> {
        for _ in 0..TOGETHER {
            let Ok(frame) = self.links.control.try_recv() else { break };
            self.handle_frame(frame)?;
        }
        for _ in 0..TOGETHER {
            if self.stopping || !self.replica.has_room() {
                break;
            }
            let Ok(command) = self.commands.try_recv() else { break };
            self.handle_command(command)?;
        }
        Ok(())
    }

    fn handle_frame(&mut self, incoming: Incoming) -> Result<(), NodeError> {
        let Some(from) = self.replica.members().find(&incoming.from) else { return Ok(()) };
        let Incoming { from: name, frame, .. } = incoming;
        match Message::decode(&frame.into()) {
            Ok(message) => {
                let now = self.now();
                Ok(self.replica.handle_message(now, from, message)?)
            }
            Err(error) => {
                self.metrics.peers.violation(&name);
                if let Some(since) = self.faults.note(name.as_str()) {
                    tracing::error!(peer = %name, %error, since, "a node sent what is no message");
                }
                Ok(())
            }
        }
    }

    fn handle_event(&mut self, event: PeerEvent) {
        let now = self.now();
        match event {
            PeerEvent::Up { peer, version } => {
                tracing::info!(%peer, version, "connected with a node");
                if let Some(index) = self.replica.members().find(&peer) {
                    self.replica.handle_up(now, index);
                }
                self.versions.insert(peer, version);
            }
            PeerEvent::Down { peer } => {
                tracing::warn!(%peer, "the connection with a node is lost");
                if let Some(index) = self.replica.members().find(&peer) {
                    self.replica.handle_down(now, index);
                }
                self.versions.remove(&peer);
            }
        }
    }

    fn now(&self) -> Now {
        let ticks = Ticks(self.begun.elapsed().as_millis() as u64);
        Now { ticks, wall: service::clock::now() }
    }

    /// Repeats a write while the disk is full; batches are refused meanwhile, reading goes on.
    fn while_full<E: IsFull>(
        &mut self,
        mut write: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            match write(self) {
                Err(error) if error.is_full() && !self.shutdown.requested() => {
                    self.set_accepting(false);
                    // Only a stop is heard while waiting; everything else stays in its queue.
                    std::thread::sleep(FULL_RETRY);
                }
                other => return other,
            }
        }
    }

    fn look_at_disk(&mut self) {
        if self.looked_at_disk.is_some_and(|at| at.elapsed() < DISK_EVERY) {
            return;
        }
        self.looked_at_disk = Some(Instant::now());
        match service::disk::free_bytes(&self.options.dir) {
            Ok(free) => {
                self.metrics.disk_free.set(i64::try_from(free).unwrap_or(i64::MAX));
                self.set_accepting(free >= self.options.min_free);
            }
            Err(error) => tracing::warn!(%error, "free space cannot be determined"),
        }
        self.metrics.connected.set(self.view.connected() as i64);
    }

    fn set_accepting(&mut self, accepting: bool) {
        self.metrics.accepting.set(accepting.into());
        if !self.view.set_accepting(accepting) {
            return;
        }
        let (dir, needed) = (self.options.dir.display(), self.options.min_free);
        if accepting {
            tracing::info!(%dir, "there is space again: batches are taken");
        } else {
            tracing::error!(%dir, needed, "the disk is full: batches are refused until space is freed; reading goes on");
        }
    }

    fn flush_if_due(&mut self, now: bool) -> Result<(), NodeError> {
        let due = self.unflushed.is_some_and(|since| now || since.elapsed() >= FLUSH_EVERY);
        let (true, Some(checkpoint)) = (due, self.view.head().checkpoint.clone()) else {
            return Ok(());
        };
        match self.store.flush(&checkpoint) {
            Ok(()) => self.unflushed = None,
            // Nothing that was acknowledged depends on it; it is tried again, and the next start does without.
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "the disk is full: tree, index and checkpoint are brought to it later");
                self.unflushed = Some(Instant::now());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// What ended a wait.
enum Woken {
    Command(Option<Command>),
    Bulk(Incoming),
    Late,
}

/// Errors that a full disk causes.
trait IsFull {
    fn is_full(&self) -> bool;
}

impl IsFull for StoreError {
    fn is_full(&self) -> bool {
        StoreError::is_full(self)
    }
}

impl IsFull for journal::Error {
    fn is_full(&self) -> bool {
        matches!(self, journal::Error::Full { .. })
    }
}
