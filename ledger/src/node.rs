//! The node's thread: it alone drives the replica and writes the store.
//!
//! It takes batches that intake has verified, lets the replica decide, makes
//! the block durable, has the checkpoint cosigned, and only then answers with
//! receipts. A failed write stops it, and with it the program; a full disk
//! makes it wait.

use crate::{
    metrics::Metrics,
    store::{BatchKey, Store, StoreError},
    view::{Head, View},
};
use link::message::{FromNode, Refusal, RefusalCode};
use record::{
    AgentName, UnixSeconds,
    enrolment::Enrolment,
    merkle::{EntryIndex, range_proof},
    note::SignedNote,
};
use replica::{EngineError, Executed, Output, Pending, PoolError, Replica};
use service::signals::Shutdown;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for the node's thread. Each connection has few under way.
const QUEUE: usize = 256;
/// How often a full disk is looked at again.
const FULL_RETRY: Duration = Duration::from_millis(250);
/// How often tree and index are brought to the disk while blocks come in.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// How often free space is looked at.
const DISK_EVERY: Duration = Duration::from_secs(1);

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
        digest: record::Hash,
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
    /// Stop after what is under way.
    Stop,
}

/// The node must stop.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The consensus engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// How a node runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store's directory.
    pub dir: PathBuf,
    /// Batches are refused while fewer bytes are free.
    pub min_free: u64,
    /// The cosignature is renewed after so many seconds without a block.
    pub renew_seconds: u64,
}

/// The node's thread, before it starts.
pub struct Node {
    replica: Replica,
    store: Store,
    view: Arc<View>,
    metrics: Metrics,
    options: Options,
    commands: Receiver<Command>,
    /// Who waits for the receipt of a batch in the pool.
    waiting: BTreeMap<BatchKey, Reply>,
    enrolling: BTreeMap<AgentName, oneshot::Sender<FromNode>>,
    checkpoint: SignedNote,
    signed: UnixSeconds,
    /// Set while blocks are not flushed yet.
    unflushed: Option<Instant>,
    looked_at_disk: Option<Instant>,
    stopping: bool,
    shutdown: Shutdown,
}

impl Node {
    /// Puts a node together; its first checkpoint is signed here.
    pub fn new(
        mut replica: Replica,
        store: Store,
        name: record::NodeName,
        metrics: Metrics,
        options: Options,
        shutdown: Shutdown,
    ) -> (Self, Arc<View>, SyncSender<Command>) {
        let (sender, commands) = sync_channel(QUEUE);
        let signed = service::clock::now().seconds();
        let checkpoint = replica.checkpoint(signed);
        let height = replica.state().height;
        let head = Head { height, checkpoint: checkpoint.clone() };
        let view = Arc::new(View::new(name, head, replica.state().agents.clone()));
        let node = Node {
            replica,
            store,
            view: Arc::clone(&view),
            metrics,
            options,
            commands,
            waiting: BTreeMap::new(),
            enrolling: BTreeMap::new(),
            checkpoint,
            signed,
            unflushed: None,
            looked_at_disk: None,
            stopping: false,
            shutdown,
        };
        (node, view, sender)
    }

    /// Runs until told to stop, or until a write fails.
    pub fn run(mut self) -> Result<(), NodeError> {
        self.note_head();
        while !self.stopping {
            self.look_at_disk();
            match self.commands.recv_timeout(self.patience()) {
                Ok(command) => self.handle(command)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while !self.stopping
                && let Ok(command) = self.commands.try_recv()
            {
                self.handle(command)?;
            }
            while self.decide()? {}
            self.renew();
            self.flush_if_due(false)?;
        }
        self.flush_if_due(true)
    }

    fn patience(&self) -> Duration {
        let flush = self.unflushed.map_or(DISK_EVERY, |since| {
            (since + FLUSH_EVERY).saturating_duration_since(Instant::now())
        });
        flush.clamp(Duration::from_millis(1), DISK_EVERY)
    }

    fn handle(&mut self, command: Command) -> Result<(), NodeError> {
        match command {
            Command::Batch { pending, reply } => self.handle_batch(*pending, reply),
            Command::Again { key, digest, reply } => self.handle_again(key, digest, reply)?,
            Command::Log { agent, reply } => {
                let _ = reply.send(self.replica.log_of(&agent).cloned());
            }
            Command::Enrol { enrolment, reply } => self.handle_enrolment(*enrolment, reply),
            Command::Stop => self.stopping = true,
        }
        Ok(())
    }

    fn handle_batch(&mut self, pending: Pending, reply: Reply) {
        let key = BatchKey::of(pending.batch());
        if !self.view.accepting() {
            return answer(&reply, busy("the node's disk is full; reading goes on"));
        }
        match self.replica.handle_batch(pending) {
            Ok(()) => {
                self.waiting.insert(key, reply);
            }
            Err(PoolError::NotNext { next }) => {
                let message = format!("the next record of '{}' is {next}", key.agent);
                answer(&reply, refused(RefusalCode::NotNext, message, Some(next)));
            }
            Err(PoolError::NotEnrolled) => {
                let message = format!("agent '{}' is not enrolled", key.agent);
                answer(&reply, refused(RefusalCode::NotEnrolled, message, None));
            }
            Err(error @ (PoolError::Full | PoolError::Enrolled)) => {
                answer(&reply, busy(&error.to_string()));
            }
        }
    }

    fn handle_again(
        &mut self,
        key: BatchKey,
        digest: record::Hash,
        reply: Reply,
    ) -> Result<(), NodeError> {
        let reader = self.store.reader();
        if let Some(place) = reader.batch(&key)? {
            let message = if place.digest != digest {
                conflict(&key)
            } else {
                match reader.receipt(&key, &place, &self.checkpoint) {
                    Ok(receipt) => FromNode::Receipt(receipt),
                    Err(error) => {
                        tracing::error!(%error, "a receipt cannot be made");
                        busy("the node cannot read its tree")
                    }
                }
            };
            answer(&reply, message);
            return Ok(());
        }
        if self.replica.waiting(&key.agent, key.start).any(|waiting| waiting == digest) {
            self.waiting.insert(key, reply);
            return Ok(());
        }
        let next = self.replica.log_of(&key.agent).map(|log| log.frontier.size().0);
        let message = match next {
            Some(next) if key.start.0 < next => conflict(&key),
            Some(next) => {
                let message = format!("the next record of '{}' is {next}", key.agent);
                refused(RefusalCode::NotNext, message, Some(next))
            }
            None => {
                let message = format!("agent '{}' is not enrolled", key.agent);
                refused(RefusalCode::NotEnrolled, message, None)
            }
        };
        answer(&reply, message);
        Ok(())
    }

    fn handle_enrolment(&mut self, enrolment: Enrolment, reply: oneshot::Sender<FromNode>) {
        let agent = enrolment.agent.clone();
        if let Some(log) = self.replica.log_of(&agent) {
            let answer = if log.key == enrolment.key {
                FromNode::Enrolled { index: 0, already: true }
            } else {
                let message = format!(
                    "agent '{agent}' is enrolled with another key; enrol this key under a new name"
                );
                refused(RefusalCode::Conflict, message, None)
            };
            let _ = reply.send(answer);
            return;
        }
        if !self.view.accepting() {
            let _ = reply.send(busy("the node's disk is full"));
            return;
        }
        match self.replica.handle_enrolment(enrolment) {
            Ok(()) => {
                self.enrolling.insert(agent, reply);
            }
            Err(error) => {
                let _ = reply.send(busy(&error.to_string()));
            }
        }
    }

    /// Decides one block if there is work; true if there may be more.
    fn decide(&mut self) -> Result<bool, NodeError> {
        let begun = Instant::now();
        let now = service::clock::now();
        let Some(Output::Append(executed)) = self.replica.poll(now)? else { return Ok(false) };
        self.while_full(|store| store.append(&executed))?;
        self.while_full(|store| store.record(&executed))?;
        let header = &executed.block.header;
        let records: u64 = executed.placed.iter().map(|placed| u64::from(placed.count)).sum();
        self.metrics.blocks.inc();
        self.metrics.batches.inc_by(header.batches.len() as u64);
        self.metrics.records.inc_by(records);
        self.view.set_logs(executed.agents.clone());
        self.signed = self.signed.max(service::clock::now().seconds());
        self.checkpoint = self.replica.handle_durable(&executed, self.signed);
        self.note_head();
        self.answer_block(&executed);
        self.unflushed.get_or_insert_with(Instant::now);
        self.metrics.commit_seconds.observe(begun.elapsed().as_secs_f64());
        Ok(!self.stopping)
    }

    fn answer_block(&mut self, executed: &Executed) {
        let (size, text) = (executed.after.size(), self.checkpoint.to_string());
        for placed in &executed.placed {
            let key = BatchKey::of_placed(placed);
            let Some(reply) = self.waiting.remove(&key) else { continue };
            let end = EntryIndex(placed.first.0 + u64::from(placed.count) + 1);
            let Ok(proof) = range_proof(&executed.tree, placed.first, end, size);
            let receipt = crate::store::batch_receipt(&key, placed.first, proof, text.clone());
            answer(&reply, FromNode::Receipt(receipt));
        }
        for (agent, index) in &executed.enrolled {
            if let Some(reply) = self.enrolling.remove(agent) {
                let _ = reply.send(FromNode::Enrolled { index: index.0, already: false });
            }
        }
    }

    /// Repeats a write while the disk is full; batches are refused meanwhile, reading goes on.
    fn while_full(
        &mut self,
        mut write: impl FnMut(&mut Store) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        loop {
            match write(&mut self.store) {
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

    fn renew(&mut self) {
        let now = service::clock::now().seconds();
        if now.0 >= self.signed.0.saturating_add(self.options.renew_seconds) {
            self.signed = now;
            self.checkpoint = self.replica.checkpoint(now);
            self.note_head();
        }
    }

    fn note_head(&mut self) {
        let state = self.replica.state();
        self.metrics.height.set(state.height.0 as i64);
        self.metrics.size.set(state.tree.size().0 as i64);
        self.metrics.block_bytes.set(self.store.block_bytes() as i64);
        let head = Head { height: state.height, checkpoint: self.checkpoint.clone() };
        self.view.set_head(head);
    }

    fn flush_if_due(&mut self, now: bool) -> Result<(), NodeError> {
        let due = self.unflushed.is_some_and(|since| now || since.elapsed() >= FLUSH_EVERY);
        if !due {
            return Ok(());
        }
        match self.store.flush(&self.checkpoint) {
            Ok(()) => self.unflushed = None,
            // Nothing that was acknowledged depends on it; it is tried again.
            Err(error) if error.is_full() => self.unflushed = Some(Instant::now()),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn answer(reply: &Reply, message: FromNode) {
    // A connection has room for the answers to all it may have under way; one that is gone
    // will ask again.
    let _ = reply.try_send(message);
}

fn refused(code: RefusalCode, message: String, next: Option<u64>) -> FromNode {
    FromNode::Refused(Refusal { code, message, next })
}

fn busy(message: &str) -> FromNode {
    refused(RefusalCode::Busy, format!("{message}; try again later"), None)
}

fn conflict(key: &BatchKey) -> FromNode {
    let message = format!(
        "the ledger has another batch of '{}' at record {}: an agent must not seal two batches at \
         one place. Does another machine use this agent's name, or was an old spool restored?",
        key.agent, key.start
    );
    refused(RefusalCode::Conflict, message, None)
}
