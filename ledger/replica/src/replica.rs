//! The replica's state machine: `handle_*` in, outputs out.

use crate::{
    block::Certificate,
    engine::{Engine, EngineError},
    execute::{Executed, propose},
    pool::{Pending, Pool, PoolError},
    state::{LedgerState, Params, Slot},
};
use record::{
    AgentName, Checkpoint, Hash, NodeName, TreeSize, UnixMillis, UnixSeconds,
    batch::LogState,
    block::Height,
    crypto::SigningKey,
    enrolment::Enrolment,
    merkle::EntryIndex,
    note::{NoteSigner, SignedNote},
};

/// Who this node is, and what it signs with.
#[derive(Debug)]
pub struct Identity {
    /// The node's name.
    pub name: NodeName,
    /// Signs checkpoints under the ledger's origin.
    pub log: NoteSigner,
    /// Cosigns checkpoints in the node's own name.
    pub cosigner: NoteSigner,
}

/// What the driver must do, in this order.
#[derive(Debug)]
pub enum Output {
    /// Make the block durable, then say so with [`Replica::handle_durable`].
    Append(Box<Executed>),
}

/// A node's replica of the ledger.
pub struct Replica {
    params: Params,
    identity: Identity,
    state: LedgerState,
    engine: Engine,
    pool: Pool,
    /// The height that the driver is making durable.
    writing: Option<Height>,
    /// The largest checkpoint ever signed: never a second root at its size.
    signed: (TreeSize, Hash),
}

impl Replica {
    /// Goes on from `state`, which the driver has read from durable storage.
    /// `consensus` signs votes.
    pub fn new(
        params: Params,
        identity: Identity,
        state: LedgerState,
        consensus: SigningKey,
    ) -> Self {
        let engine = Engine::single(consensus, Height(state.height.0 + 1));
        let signed = (state.tree.size(), state.tree.root());
        Replica { params, identity, state, engine, pool: Pool::default(), writing: None, signed }
    }

    /// The ledger after its newest durable block.
    pub fn state(&self) -> &LedgerState {
        &self.state
    }

    /// The parameters all nodes share.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The log that the next batch of `agent` must fit: committed, or ahead of that by what waits.
    pub fn log_of(&self, agent: &AgentName) -> Option<&LogState> {
        self.pool.ahead(agent).or_else(|| self.state.agents.get(agent))
    }

    /// Digests of the batches of `agent` from `start` that wait for a block.
    pub fn waiting(&self, agent: &AgentName, start: EntryIndex) -> impl Iterator<Item = Hash> {
        self.pool.waiting(agent, start)
    }

    /// Takes a batch that was verified against [`Replica::log_of`] its agent.
    pub fn handle_batch(&mut self, pending: Pending) -> Result<(), PoolError> {
        let log = self.log_of(&pending.batch().agent).ok_or(PoolError::NotEnrolled)?;
        let next = log.frontier.size().0;
        if pending.batch().start.0 != next || pending.batch().seal.time < log.sealed {
            return Err(PoolError::NotNext { next });
        }
        self.pool.put(pending)
    }

    /// Takes an enrolment whose operator's signature was verified.
    pub fn handle_enrolment(&mut self, enrolment: Enrolment) -> Result<(), PoolError> {
        if self.state.agents.contains_key(&enrolment.agent) {
            return Err(PoolError::Enrolled);
        }
        self.pool.put_enrolment(enrolment)
    }

    /// Starts the next height if there is work and nothing is being written.
    pub fn poll(&mut self, now: UnixMillis) -> Result<Option<Output>, EngineError> {
        if self.writing.is_some() || self.pool.is_empty() {
            return Ok(None);
        }
        let (enrolments, batches) = self.pool.take();
        let time = now.max(self.state.time);
        let slot = Slot { proposer: self.identity.name.clone(), time };
        let mut executed = propose(&self.params, &self.state, &slot, enrolments, batches);
        let certificate: Certificate = self.engine.decide(&executed.block.header)?;
        executed.block.certificate = certificate;
        self.writing = Some(executed.block.header.height);
        Ok(Some(Output::Append(Box::new(executed))))
    }

    /// The block is durable: makes it the newest and returns its checkpoint, signed and cosigned.
    ///
    /// # Panics
    /// If it is not the block that was to be written.
    pub fn handle_durable(&mut self, executed: &Executed, now: UnixSeconds) -> SignedNote {
        assert_eq!(self.writing.take(), Some(executed.block.header.height), "one block at a time");
        executed.apply(&mut self.state);
        executed.agents.keys().for_each(|agent| self.pool.settle(agent));
        self.checkpoint(now)
    }

    /// The newest durable tree, signed and cosigned as of `now`. Called when idle, it renews the
    /// cosignature's time, so that a reader knows how fresh the checkpoint is.
    ///
    /// # Panics
    /// If it would sign two roots at one size, or a smaller tree than before.
    pub fn checkpoint(&mut self, now: UnixSeconds) -> SignedNote {
        let (size, root) = (self.state.tree.size(), self.state.tree.root());
        let (last_size, last_root) = self.signed;
        let grows = size > last_size || (size == last_size && root == last_root);
        assert!(grows, "a node never signs two roots at one size, nor a smaller tree");
        self.signed = (size, root);
        let text = Checkpoint::new(self.params.origin.clone(), size, root).text();
        let signatures = [&self.identity.log, &self.identity.cosigner].map(|s| s.sign(&text, now));
        let mut note = SignedNote::new(text);
        signatures.into_iter().for_each(|signature| note.put(signature));
        note
    }
}
