//! The pool: what waits to be put into a block.
//!
//! Batches of an agent form a chain: each fits the log that the one before it
//! leads to, beginning with the committed log. What cannot be part of such a
//! chain yet, or not any more, is kept as bytes for a while, in case somebody
//! proposes it.

use crate::{
    block::{
        MAX_BLOCK_BATCHES, MAX_BLOCK_BYTES, MAX_BLOCK_DECLARATIONS, MAX_BLOCK_ENROLMENTS,
        MAX_BLOCK_EQUIVOCATIONS,
    },
    execute::conviction,
    state::Conviction,
};
use bytes::Bytes;
use record::{
    AgentName, Hash,
    batch::{LogState, SealedBatch, VerifiedBatch},
    declaration::Declaration,
    enrolment::Enrolment,
    equivocation::Equivocation,
    merkle::EntryIndex,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// The most bytes of batches that wait: four full blocks. Beyond that, agents are told to wait.
pub const MAX_POOL_BYTES: usize = 4 * MAX_BLOCK_BYTES;
/// The most bytes of batches that are kept although they do not fit yet.
const MAX_LOOSE_BYTES: usize = 2 * MAX_BLOCK_BYTES;
/// The most enrolments that wait, those that other nodes took included.
const MAX_ENROLMENTS: usize = 4 * MAX_BLOCK_ENROLMENTS;
/// The most declarations that wait.
const MAX_DECLARATIONS: usize = 64;
/// How often a declaration is proposed: a block that others do not agree to holds everything up for a moment.
const DECLARATION_TRIES: u8 = 2;
/// Why one is given up after that.
const NOT_AGREED: &str = "the other nodes did not agree to it: their logs say why, most often that their own retention is \
     longer or not configured, or that an older version runs there";
/// The most equivocations that wait.
const MAX_EQUIVOCATIONS: usize = 16 * MAX_BLOCK_EQUIVOCATIONS;

/// A verified batch in its binary form, waiting. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pending {
    verified: Arc<VerifiedBatch>,
    before: Arc<LogState>,
    encoded: Bytes,
    digest: Hash,
}

impl Pending {
    /// Pairs a batch that was verified against the log `before` with the bytes it was decoded from.
    pub fn new(verified: VerifiedBatch, before: LogState, encoded: Bytes) -> Self {
        let digest = SealedBatch::digest(&encoded);
        Self::named(verified, before, encoded, digest)
    }

    /// As [`Pending::new`], for bytes whose digest is known.
    pub(crate) fn named(
        verified: VerifiedBatch,
        before: LogState,
        encoded: Bytes,
        digest: Hash,
    ) -> Self {
        Pending { verified: Arc::new(verified), before: Arc::new(before), encoded, digest }
    }

    /// The batch.
    pub fn batch(&self) -> &SealedBatch {
        self.verified.batch()
    }

    /// Its digest.
    pub fn digest(&self) -> Hash {
        self.digest
    }

    /// The batch, verified.
    pub(crate) fn verified(&self) -> &VerifiedBatch {
        &self.verified
    }

    /// The batch's bytes.
    pub(crate) fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// True if it was verified against this very log.
    pub(crate) fn fits(&self, log: &LogState) -> bool {
        #[cfg(feature = "planted-bugs")]
        if crate::planted::has(crate::planted::Bug::SkipGapCheck) {
            return true;
        }
        let before = &*self.before;
        before.key == log.key && before.sealed == log.sealed && before.frontier == log.frontier
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

/// What is picked for a block.
#[derive(Debug, Default)]
pub(crate) struct Picked {
    pub(crate) enrolments: Vec<(Enrolment, Bytes)>,
    pub(crate) batches: Vec<Pending>,
    pub(crate) equivocations: Vec<(Equivocation, Bytes)>,
    pub(crate) declarations: Vec<(Declaration, Bytes)>,
}

/// How a node sees a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// An operator brought it here: this node proposes it.
    Brought,
    /// Another node took it, and this one agrees.
    Agreed,
    /// Another node took it, and this one objects.
    Objected,
}

/// A declaration that waits.
#[derive(Debug)]
struct Declared {
    digest: Hash,
    declaration: Declaration,
    encoded: Bytes,
    /// How often this node may still propose it; nothing if another node took it, and proposes it.
    tries: Option<u8>,
    /// This node objects to it. It is here for a block that enough others agree to.
    objected: bool,
}

impl Declared {
    fn is_to_be_proposed(&self) -> bool {
        self.tries.is_some_and(|tries| tries > 0)
    }
}

/// A body that a header names.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// A batch that fitted the log it was verified against.
    Verified(Pending),
    /// A batch that was not verified.
    Loose(Bytes),
}

/// What waits, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    batches: BTreeMap<Hash, Pending>,
    order: VecDeque<Hash>,
    bytes: usize,
    /// The log of every agent with a waiting batch, after the last of them.
    ahead: BTreeMap<AgentName, LogState>,
    loose: BTreeMap<Hash, Bytes>,
    loose_order: VecDeque<Hash>,
    loose_bytes: usize,
    enrolments: VecDeque<(Hash, Enrolment, Bytes)>,
    equivocations: VecDeque<(Hash, Equivocation, Bytes)>,
    declarations: VecDeque<Declared>,
}

impl Pool {
    /// The log of `agent` after everything that waits, if anything does.
    pub(crate) fn ahead(&self, agent: &AgentName) -> Option<&LogState> {
        self.ahead.get(agent)
    }

    /// The waiting batches of `agent` that begin at `start`.
    pub(crate) fn waiting(
        &self,
        agent: &AgentName,
        start: EntryIndex,
    ) -> impl Iterator<Item = &Pending> {
        let same = move |p: &&Pending| p.batch().agent == *agent && p.batch().start == start;
        self.batches.values().filter(same)
    }

    /// True if there is nothing to decide on. Equivocation alone is not urgent.
    pub(crate) fn is_empty(&self) -> bool {
        let declares = self.declarations.iter().any(Declared::is_to_be_proposed);
        self.order.is_empty() && self.enrolments.is_empty() && !declares
    }

    pub(crate) fn has_equivocations(&self) -> bool {
        !self.equivocations.is_empty()
    }

    /// True while agents' batches can be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < MAX_POOL_BYTES / 2
    }

    /// True if this body is here.
    pub(crate) fn has(&self, digest: &Hash) -> bool {
        self.batches.contains_key(digest)
            || self.loose.contains_key(digest)
            || self.enrolments.iter().any(|(d, _, _)| d == digest)
            || self.equivocations.iter().any(|(d, _, _)| d == digest)
            || self.declarations.iter().any(|declared| declared.digest == *digest)
    }

    pub(crate) fn batch(&self, digest: &Hash) -> Option<Body> {
        let verified = self.batches.get(digest).cloned().map(Body::Verified);
        verified.or_else(|| self.loose.get(digest).cloned().map(Body::Loose))
    }

    pub(crate) fn enrolment(&self, digest: &Hash) -> Option<(Enrolment, Bytes)> {
        let found = self.enrolments.iter().find(|(d, _, _)| d == digest);
        found.map(|(_, enrolment, bytes)| (enrolment.clone(), bytes.clone()))
    }

    pub(crate) fn equivocation(&self, digest: &Hash) -> Option<(Equivocation, Bytes)> {
        let found = self.equivocations.iter().find(|(d, _, _)| d == digest);
        found.map(|(_, equivocation, bytes)| (equivocation.clone(), bytes.clone()))
    }

    pub(crate) fn declaration(&self, digest: &Hash) -> Option<(Declaration, Bytes)> {
        let found = self.declarations.iter().find(|declared| declared.digest == *digest);
        found.map(|declared| (declared.declaration.clone(), declared.encoded.clone()))
    }

    /// Takes a batch that follows [`Pool::ahead`].
    pub(crate) fn put(&mut self, pending: Pending) -> Result<(), PoolError> {
        if self.bytes + pending.encoded.len() > MAX_POOL_BYTES {
            return Err(PoolError::Full);
        }
        self.drop_loose(&pending.digest);
        self.bytes += pending.encoded.len();
        let log = pending.verified.log_state();
        self.ahead.insert(pending.batch().agent.clone(), log);
        self.order.push_back(pending.digest);
        self.batches.insert(pending.digest, pending);
        Ok(())
    }

    /// Keeps a batch that does not fit yet; the oldest such ones make room.
    pub(crate) fn put_loose(&mut self, digest: Hash, encoded: Bytes) {
        if self.has(&digest) || encoded.len() > MAX_LOOSE_BYTES {
            return;
        }
        while self.loose_bytes + encoded.len() > MAX_LOOSE_BYTES {
            let Some(oldest) = self.loose_order.front().copied() else { break };
            self.drop_loose(&oldest);
        }
        self.loose_bytes += encoded.len();
        self.loose_order.push_back(digest);
        self.loose.insert(digest, encoded);
    }

    /// True if this body is here and verified.
    pub(crate) fn has_verified(&self, digest: &Hash) -> bool {
        self.has(digest) && !self.loose.contains_key(digest)
    }

    fn drop_loose(&mut self, digest: &Hash) {
        if let Some(bytes) = self.loose.remove(digest) {
            self.loose_bytes -= bytes.len();
            self.loose_order.retain(|other| other != digest);
        }
    }

    /// All batches that did not fit, under their digests, to be looked at again.
    pub(crate) fn loose(&self) -> Vec<(Hash, Bytes)> {
        let known = |digest: &Hash| Some((*digest, self.loose.get(digest)?.clone()));
        self.loose_order.iter().filter_map(known).collect()
    }

    /// Takes an enrolment that an operator brought here.
    pub(crate) fn put_enrolment(&mut self, enrolment: Enrolment) -> Result<Hash, PoolError> {
        if self.enrolments.iter().any(|(_, e, _)| e.agent == enrolment.agent) {
            return Err(PoolError::Enrolled);
        }
        if self.enrolments.len() >= MAX_BLOCK_ENROLMENTS {
            return Err(PoolError::Full);
        }
        let encoded = Bytes::from(enrolment.encode());
        let digest = SealedBatch::digest(&encoded);
        self.enrolments.push_back((digest, enrolment, encoded));
        Ok(digest)
    }

    /// Takes a verified enrolment that another node took: also a second one of an agent, or a block
    /// with that one could not be looked at here. `false` if it is here, or there are too many.
    pub(crate) fn put_other_enrolment(&mut self, enrolment: Enrolment) -> bool {
        let encoded = Bytes::from(enrolment.encode());
        let digest = SealedBatch::digest(&encoded);
        if self.has(&digest) || self.enrolments.len() >= MAX_ENROLMENTS {
            return false;
        }
        self.enrolments.push_back((digest, enrolment, encoded));
        true
    }

    /// Takes a verified equivocation; `false` if it is here. The oldest makes room: another node's block
    /// may hold what is newest, and it is of no use here to have other equivocation instead.
    pub(crate) fn put_equivocation(&mut self, equivocation: Equivocation) -> bool {
        let encoded = Bytes::from(equivocation.encode());
        let digest = SealedBatch::digest(&encoded);
        if self.equivocations.iter().any(|(d, _, _)| *d == digest) {
            return false;
        }
        if self.equivocations.len() == MAX_EQUIVOCATIONS {
            self.equivocations.pop_front();
        }
        self.equivocations.push_back((digest, equivocation, encoded));
        true
    }

    /// Takes a verified declaration, which this node proposes if it was brought here; the oldest makes room. `false`
    /// if it is here. One that came from another node may be brought here, too: that node may be gone.
    pub(crate) fn put_declaration(&mut self, declaration: Declaration, view: View) -> bool {
        let (brought, objected) = (view == View::Brought, view == View::Objected);
        let encoded = Bytes::from(declaration.encode());
        let digest = SealedBatch::digest(&encoded);
        if let Some(known) = self.declarations.iter_mut().find(|known| known.digest == digest) {
            let anew = brought && known.tries.is_none();
            known.objected &= objected;
            known.tries = if anew { Some(DECLARATION_TRIES) } else { known.tries };
            return anew;
        }
        if self.declarations.len() == MAX_DECLARATIONS {
            self.declarations.pop_front();
        }
        let tries = brought.then_some(DECLARATION_TRIES);
        self.declarations.push_back(Declared { digest, declaration, encoded, tries, objected });
        true
    }

    /// True if this node objected to it when it came.
    pub(crate) fn is_objected(&self, digest: &Hash) -> bool {
        self.declarations.iter().any(|known| known.digest == *digest && known.objected)
    }

    /// These were proposed. Others may never agree to them, and must not be asked again and again.
    pub(crate) fn note_tried(&mut self, digests: &[Hash]) {
        let tried = self.declarations.iter_mut().filter(|d| digests.contains(&d.digest));
        tried.for_each(|d| d.tries = d.tries.map(|tries| tries.saturating_sub(1)));
    }

    /// Forgets declarations that were proposed often enough, and those that cannot be decided any more; gives back
    /// the digests of those that were brought here, and why.
    pub(crate) fn drop_declarations(
        &mut self,
        holds: impl Fn(&Declaration) -> Result<(), String>,
    ) -> Vec<(Hash, String)> {
        let mut dropped = Vec::new();
        self.declarations.retain(|declared| {
            let refused = match declared.tries {
                Some(0) => Err(NOT_AGREED.to_owned()),
                _ => holds(&declared.declaration),
            };
            match refused {
                Ok(()) => return true,
                Err(why) if declared.tries.is_some() => dropped.push((declared.digest, why)),
                Err(_) => {}
            }
            false
        });
        dropped
    }

    /// Picks what fits into one block; it stays in the pool until it is committed.
    pub(crate) fn pick(&self) -> Picked {
        let mut picked = Picked::default();
        let equivocation = self.equivocations.iter().take(MAX_BLOCK_EQUIVOCATIONS);
        picked.equivocations.extend(equivocation.map(|(_, e, b)| (e.clone(), b.clone())));
        let mut bytes: usize = picked.equivocations.iter().map(|(_, encoded)| encoded.len()).sum();
        for (_, enrolment, encoded) in self.enrolments.iter().take(MAX_BLOCK_ENROLMENTS) {
            bytes += encoded.len();
            if bytes > MAX_BLOCK_BYTES {
                return picked;
            }
            picked.enrolments.push((enrolment.clone(), encoded.clone()));
        }
        let declared = self.declarations.iter().filter(|d| d.is_to_be_proposed());
        for declared in declared.take(MAX_BLOCK_DECLARATIONS) {
            bytes += declared.encoded.len();
            picked.declarations.push((declared.declaration.clone(), declared.encoded.clone()));
        }
        for pending in self.order.iter().filter_map(|digest| self.batches.get(digest)) {
            bytes += pending.encoded.len();
            if picked.batches.len() == MAX_BLOCK_BATCHES || bytes > MAX_BLOCK_BYTES {
                break;
            }
            picked.batches.push(pending.clone());
        }
        picked
    }

    /// Takes out what a committed block holds.
    pub(crate) fn remove<'a>(&mut self, digests: impl Iterator<Item = &'a Hash>) {
        let digests: BTreeSet<&Hash> = digests.collect();
        for digest in &digests {
            if let Some(pending) = self.batches.remove(*digest) {
                self.bytes -= pending.encoded.len();
            }
            self.drop_loose(digest);
        }
        self.order.retain(|digest| !digests.contains(digest));
        self.enrolments.retain(|(digest, _, _)| !digests.contains(digest));
        self.equivocations.retain(|(digest, _, _)| !digests.contains(digest));
        self.declarations.retain(|declared| !digests.contains(&declared.digest));
    }

    /// Forgets the equivocations of those who are convicted of the same now.
    pub(crate) fn forget_convicted(&mut self, convicted: &BTreeSet<Conviction>) {
        self.equivocations.retain(|(_, e, _)| !convicted.contains(&conviction(e)));
    }

    /// Lines up what waits with the logs that a block changed, and gives back what does not fit any
    /// more.
    pub(crate) fn settle(&mut self, committed: &BTreeMap<AgentName, LogState>) -> Vec<Pending> {
        let (mut logs, mut dropped) = (committed.clone(), vec![]);
        committed.keys().for_each(|agent| drop(self.ahead.remove(agent)));
        for digest in std::mem::take(&mut self.order) {
            let Some(pending) = self.batches.get(&digest) else { continue };
            let agent = &pending.batch().agent;
            match logs.get_mut(agent) {
                Some(log) if !pending.fits(log) => {
                    self.bytes -= pending.encoded.len();
                    dropped.extend(self.batches.remove(&digest));
                    continue;
                }
                Some(log) => {
                    *log = pending.verified.log_state();
                    self.ahead.insert(agent.clone(), log.clone());
                }
                None => {}
            }
            self.order.push_back(digest);
        }
        self.enrolments.retain(|(_, enrolment, _)| !committed.contains_key(&enrolment.agent));
        dropped
    }
}
