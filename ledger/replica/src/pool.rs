//! The pool: what waits to be put into a block.

use crate::block::{MAX_BLOCK_BATCHES, MAX_BLOCK_BYTES, MAX_BLOCK_ENROLMENTS};
use record::{
    AgentName, Hash,
    batch::{LogState, SealedBatch, VerifiedBatch},
    enrolment::Enrolment,
    merkle::EntryIndex,
};
use std::collections::{BTreeMap, VecDeque};

/// The most bytes that wait: four full blocks. Beyond that, agents are told to wait.
pub const MAX_POOL_BYTES: usize = 4 * MAX_BLOCK_BYTES;

/// A verified batch in its binary form, waiting.
#[derive(Clone, Debug)]
pub struct Pending {
    verified: VerifiedBatch,
    encoded: Vec<u8>,
    digest: Hash,
}

impl Pending {
    /// Pairs a verified batch with the bytes it was decoded from.
    pub fn new(verified: VerifiedBatch, encoded: Vec<u8>) -> Self {
        let digest = SealedBatch::digest(&encoded);
        Pending { verified, encoded, digest }
    }

    /// The batch.
    pub fn batch(&self) -> &SealedBatch {
        self.verified.batch()
    }

    /// Its digest.
    pub fn digest(&self) -> Hash {
        self.digest
    }

    pub(crate) fn into_parts(self) -> (VerifiedBatch, Vec<u8>, Hash) {
        (self.verified, self.encoded, self.digest)
    }
}

/// The pool does not take something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The agent is not enrolled.
    #[error("the agent is not enrolled")]
    NotEnrolled,
    /// The batch does not follow what the pool and the ledger have of this agent.
    #[error("the next record of this agent is {next}")]
    NotNext {
        /// The index it must begin with.
        next: u64,
    },
    /// Too much is waiting.
    #[error("{MAX_POOL_BYTES} bytes are waiting already")]
    Full,
    /// The agent is enrolled, or about to be.
    #[error("the agent is enrolled already, or is about to be")]
    Enrolled,
}

/// What waits, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    batches: VecDeque<Pending>,
    enrolments: VecDeque<Enrolment>,
    bytes: usize,
    /// The log of every agent with a waiting batch, after the last of them.
    ahead: BTreeMap<AgentName, LogState>,
}

impl Pool {
    /// The log of `agent` after everything that waits, if anything does.
    pub(crate) fn ahead(&self, agent: &AgentName) -> Option<&LogState> {
        self.ahead.get(agent)
    }

    /// The digest of the waiting batch of `agent` that begins at `start`, sealed at the same time.
    pub(crate) fn waiting(
        &self,
        agent: &AgentName,
        start: EntryIndex,
    ) -> impl Iterator<Item = Hash> {
        let same = move |p: &&Pending| p.batch().agent == *agent && p.batch().start == start;
        self.batches.iter().filter(same).map(Pending::digest)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.enrolments.is_empty()
    }

    pub(crate) fn put(&mut self, pending: Pending) -> Result<(), PoolError> {
        if self.bytes + pending.encoded.len() > MAX_POOL_BYTES {
            return Err(PoolError::Full);
        }
        self.bytes += pending.encoded.len();
        let log = pending.verified.log_state();
        self.ahead.insert(pending.batch().agent.clone(), log);
        self.batches.push_back(pending);
        Ok(())
    }

    pub(crate) fn put_enrolment(&mut self, enrolment: Enrolment) -> Result<(), PoolError> {
        if self.enrolments.iter().any(|e| e.agent == enrolment.agent) {
            return Err(PoolError::Enrolled);
        }
        if self.enrolments.len() == MAX_BLOCK_ENROLMENTS {
            return Err(PoolError::Full);
        }
        self.enrolments.push_back(enrolment);
        Ok(())
    }

    /// Takes out what fits into one block.
    pub(crate) fn take(&mut self) -> (Vec<Enrolment>, Vec<Pending>) {
        let enrolments = self.enrolments.drain(..).collect();
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.batches.front() {
            bytes += next.encoded.len();
            if batches.len() == MAX_BLOCK_BATCHES
                || (bytes > MAX_BLOCK_BYTES && !batches.is_empty())
            {
                break;
            }
            self.bytes -= next.encoded.len();
            batches.extend(self.batches.pop_front());
        }
        (enrolments, batches)
    }

    /// Forgets how far `agent` is ahead once nothing of it waits.
    pub(crate) fn settle(&mut self, agent: &AgentName) {
        if !self.batches.iter().any(|p| p.batch().agent == *agent) {
            self.ahead.remove(agent);
        }
    }
}
