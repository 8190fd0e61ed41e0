//! Proposals: making one, and judging those of others before they are voted for.

use super::{Event, Replica};
use crate::{
    block::{Block, BlockHeader, MAX_BLOCK_BYTES},
    engine::EngineError,
    execute::{self, ExecuteError, Executed, Named},
    members::NodeIndex,
    message::{BodyKind, Message},
    now::Ticks,
    pool::Body,
    state::Slot,
};
use bytes::Bytes;
use record::Hash;

/// The most blocks that are looked at in one height.
const MAX_CANDIDATES: usize = 64;

/// A round, and the round of its proof of lock.
pub(super) type Rounds = (u32, Option<u32>);

/// A block that was proposed.
#[derive(Debug)]
pub(super) enum Candidate {
    /// Executed, and as its header says.
    Ready(Box<Executed>),
    /// Some of its bodies are missing.
    Waiting(Box<Waiting>),
    /// Not to be voted for.
    Invalid,
}

/// A block whose bodies are not all here.
#[derive(Debug)]
pub(super) struct Waiting {
    header: BlockHeader,
    /// Who sent it last: has the bodies.
    from: NodeIndex,
    /// In which rounds it was proposed.
    rounds: Vec<Rounds>,
    /// When the bodies were asked for.
    asked: Ticks,
}

/// Why a proposed block is not voted for.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("it does not follow this node's newest block")]
    Place,
    #[error("it names '{0}' as its proposer")]
    Proposer(String),
    #[error("its time is {0} ms {1} this node's clock: check both clocks")]
    Time(u64, &'static str),
    #[error("its time is before its predecessor's")]
    TimeOrder,
    #[error("it holds nothing, and it is too soon for that")]
    Empty,
    #[error("it is larger than blocks may be")]
    TooLarge,
    #[error("it holds a declaration that this node does not agree to: {0}")]
    Declaration(String),
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

impl Replica {
    /// Proposes a block if one is wanted and there is something to put into it.
    pub(super) fn try_propose(&mut self) -> Result<(), EngineError> {
        let Some(round) = self.wanted else { return Ok(()) };
        let time = self.now.wall.max(self.state.time);
        let due = time.0 - self.state.time.0 >= self.timing.idle_block.as_millis() as u64;
        if self.pool.is_empty() && !due {
            return Ok(());
        }
        let slot = Slot { proposer: self.identity.name.clone(), time };
        let picked = self.pool.pick();
        let executed = execute::propose(&self.params, &self.members, &self.state, &slot, picked);
        let header = &executed.block.header;
        if header.is_bare() && !due {
            return Ok(());
        }
        self.wanted = None;
        self.pool.note_tried(&header.declarations);
        let id = header.id();
        self.candidates.insert(id, Candidate::Ready(Box::new(executed)));
        self.log_block(id);
        self.engine.propose(round, id)
    }

    /// A signed proposal came with this header.
    pub(super) fn handle_header(
        &mut self,
        from: NodeIndex,
        signer: NodeIndex,
        rounds: Rounds,
        id: Hash,
        header: &[u8],
    ) -> Result<(), EngineError> {
        let decoded = BlockHeader::decode(header).ok().filter(|header| header.id() == id);
        let Some(header) = decoded else {
            self.fault(from, "a proposal without the header that it is for");
            return Ok(());
        };
        let height = self.engine.height();
        let known = self.candidates.get_mut(&id);
        match known {
            Some(Candidate::Ready(_)) => {
                let valid = rounds.1.is_some() || !self.objected.contains(&id);
                return self.judge(rounds, id, valid);
            }
            Some(Candidate::Waiting(waiting)) => {
                waiting.rounds.push(rounds);
                waiting.from = from;
                return Ok(());
            }
            // A block that came too late for its own round may be right in a later one.
            Some(Candidate::Invalid) if rounds.1.is_none() => {
                return self.judge(rounds, id, false);
            }
            Some(Candidate::Invalid) | None => {}
        }
        if self.proposer(height, rounds.0) != signer || self.candidates.len() >= MAX_CANDIDATES {
            return Ok(());
        }
        if let Err(refusal) = self.check_header(&header, signer, rounds) {
            return self.refuse(signer, &[rounds], id, &refusal);
        }
        let asked = self.now.ticks;
        let waiting = Waiting { header, from, rounds: vec![rounds], asked };
        self.candidates.insert(id, Candidate::Waiting(Box::new(waiting)));
        self.complete(id, true)
    }

    /// Checks what can be checked without the bodies.
    fn check_header(
        &self,
        header: &BlockHeader,
        signer: NodeIndex,
        (round, pol_round): Rounds,
    ) -> Result<(), Refusal> {
        let state = &self.state;
        let follows = header.height.0 == state.height.0 + 1
            && header.parent == state.parent
            && header.first.0 == state.tree.size().0;
        if !follows {
            return Err(Refusal::Place);
        }
        let named = self.members.find(&header.proposer);
        if named.is_none() || (pol_round.is_none() && named != Some(signer)) {
            return Err(Refusal::Proposer(header.proposer.to_string()));
        }
        if header.time < state.time {
            return Err(Refusal::TimeOrder);
        }
        let (now, drift) = (self.now.wall.0, self.timing.max_drift.as_millis() as u64);
        if header.time.0 > now.saturating_add(drift) {
            return Err(Refusal::Time(header.time.0 - now, "ahead of"));
        }
        // A block that a quorum prevoted before was timely then.
        let on_the_way = (self.timing.propose + self.timing.growth * round.min(64)).as_millis();
        let oldest = now.saturating_sub(drift.saturating_add(on_the_way as u64));
        if pol_round.is_none() && header.time.0 < oldest {
            return Err(Refusal::Time(now - header.time.0, "behind"));
        }
        let idle = self.timing.idle_block.as_millis() as u64;
        if header.is_bare() && header.time.0 - state.time.0 < idle {
            return Err(Refusal::Empty);
        }
        Ok(())
    }

    /// Executes a block if all its bodies are here; else asks for them.
    fn complete(&mut self, id: Hash, ask: bool) -> Result<(), EngineError> {
        let Some(Candidate::Waiting(waiting)) = self.candidates.get(&id) else { return Ok(()) };
        let header = &waiting.header;
        let missing = header.digests().filter(|digest| !self.pool.has(digest));
        let missing: Vec<Hash> = missing.copied().collect();
        if !missing.is_empty() {
            if ask {
                let from = waiting.from;
                self.send(Some(from), Message::Fetch(missing));
            }
            return Ok(());
        }
        let named = Named {
            enrolments: header.enrolments.iter().filter_map(|d| self.pool.enrolment(d)).collect(),
            batches: header.batches.iter().filter_map(|d| self.pool.batch(d)).collect(),
            equivocations: header
                .equivocations
                .iter()
                .filter_map(|d| self.pool.equivocation(d))
                .collect(),
            declarations: header
                .declarations
                .iter()
                .filter_map(|d| self.pool.declaration(d))
                .collect(),
        };
        let Some(Candidate::Waiting(waiting)) = self.candidates.remove(&id) else {
            return Ok(());
        };
        let executed = match self.execute(&waiting.header, named) {
            Ok(executed) => executed,
            Err(refusal) => return self.refuse(waiting.from, &waiting.rounds, id, &refusal),
        };
        let objection = self.objection(&executed.block.header.declarations);
        self.candidates.insert(id, Candidate::Ready(Box::new(executed)));
        if let Some(why) = &objection {
            self.objected.insert(id);
            let problem = Refusal::Declaration(why.clone()).to_string();
            self.event(Event::Refused { peer: waiting.from, problem });
        }
        // What a quorum prevoted before binds this node whatever it thinks of it: who is locked on it votes for
        // nothing else, and a few who object could hold the ledger up for ever.
        for rounds in waiting.rounds {
            self.judge(rounds, id, rounds.1.is_some() || objection.is_none())?;
        }
        Ok(())
    }

    fn execute(&mut self, header: &BlockHeader, named: Named) -> Result<Executed, Refusal> {
        let own = named.enrolments.len() + named.batches.len();
        let found = own + named.equivocations.len() + named.declarations.len();
        if found != header.digests().count() {
            // A body under the digest of another kind.
            return Err(ExecuteError::Unreadable.into());
        }
        let size = |body: &Body| match body {
            Body::Verified(pending) => pending.encoded().len(),
            Body::Loose(bytes) => bytes.len(),
        };
        let others = named.enrolments.iter().map(|(_, encoded)| encoded.len());
        let others = others.chain(named.equivocations.iter().map(|(_, encoded)| encoded.len()));
        let others = others.chain(named.declarations.iter().map(|(_, encoded)| encoded.len()));
        let total = named.batches.iter().map(size).chain(others).sum::<usize>();
        if total > MAX_BLOCK_BYTES {
            return Err(Refusal::TooLarge);
        }
        let (params, members, state) = (&self.params, &self.members, &self.state);
        Ok(execute::validate(params, members, state, header, named, &mut self.codec)?)
    }

    fn refuse(
        &mut self,
        proposer: NodeIndex,
        rounds: &[Rounds],
        id: Hash,
        refusal: &Refusal,
    ) -> Result<(), EngineError> {
        self.event(Event::Refused { peer: proposer, problem: refusal.to_string() });
        self.candidates.insert(id, Candidate::Invalid);
        for rounds in rounds {
            self.judge(*rounds, id, false)?;
        }
        Ok(())
    }

    fn judge(
        &mut self,
        (round, pol_round): Rounds,
        id: Hash,
        valid: bool,
    ) -> Result<(), EngineError> {
        if valid {
            self.note_proposal(self.proposer(self.engine.height(), round));
            self.log_block(id);
            #[cfg(feature = "planted-bugs")]
            if crate::planted::has(crate::planted::Bug::CosignBeforeCommit) {
                self.cosign_early(id);
            }
        }
        self.engine.judge(round, pol_round, id, valid)?;
        self.drain()
    }

    /// A body arrived: blocks may have waited for it.
    pub(super) fn body_arrived(&mut self, digest: Hash) -> Result<(), EngineError> {
        let waits = |(id, candidate): (&Hash, &Candidate)| match candidate {
            Candidate::Waiting(waiting) => {
                waiting.header.digests().any(|named| *named == digest).then_some(*id)
            }
            _ => None,
        };
        for id in self.candidates.iter().filter_map(waits).collect::<Vec<_>>() {
            self.complete(id, false)?;
        }
        Ok(())
    }

    /// Refuses blocks that wait for a declaration that this node does not agree to.
    pub(super) fn refuse_waiting(&mut self, digest: Hash, why: &str) -> Result<(), EngineError> {
        let waits = |(id, candidate): (&Hash, &Candidate)| match candidate {
            Candidate::Waiting(waiting) => {
                let named = waiting.header.declarations.contains(&digest);
                named.then(|| (*id, waiting.from, waiting.rounds.clone()))
            }
            _ => None,
        };
        let refusal = Refusal::Declaration(why.to_owned());
        for (id, from, rounds) in self.candidates.iter().filter_map(waits).collect::<Vec<_>>() {
            self.refuse(from, &rounds, id, &refusal)?;
        }
        Ok(())
    }

    /// When missing bodies should be asked for again.
    pub(super) fn fetch_deadline(&self) -> Option<Ticks> {
        let asked = self.candidates.values().filter_map(|candidate| match candidate {
            Candidate::Waiting(waiting) => Some(waiting.asked),
            _ => None,
        });
        asked.min().map(|asked| asked + self.timing.fetch)
    }

    /// Asks everybody for bodies that did not come.
    pub(super) fn fetch_again(&mut self) {
        let (now, patience) = (self.now.ticks, self.timing.fetch);
        let mut missing = Vec::new();
        for candidate in self.candidates.values_mut() {
            if let Candidate::Waiting(waiting) = candidate
                && waiting.asked + patience <= now
            {
                waiting.asked = now;
                let named = waiting.header.digests();
                missing.extend(named.filter(|digest| !self.pool.has(digest)).copied());
            }
        }
        if !missing.is_empty() {
            missing.truncate(crate::message::MAX_DIGESTS);
            self.send(None, Message::Fetch(missing));
        }
    }

    /// A body of a block that is executed but not durable yet: after a restart the pool is empty,
    /// and whoever is locked on that block must be able to show all of it.
    pub(super) fn candidate_body(&self, digest: &Hash) -> Option<(BodyKind, Bytes)> {
        self.candidates.values().find_map(|candidate| match candidate {
            Candidate::Ready(executed) => body_of(&executed.block, digest),
            _ => None,
        })
    }

    /// A block of what waits here, as of another time than the one that was proposed.
    #[cfg(feature = "byzantine")]
    pub fn forge_block(&self, time: record::UnixMillis) -> BlockHeader {
        let slot = Slot { proposer: self.identity.name.clone(), time };
        let picked = self.pool.pick();
        execute::propose(&self.params, &self.members, &self.state, &slot, picked).block.header
    }
}

fn body_of(block: &Block, digest: &Hash) -> Option<(BodyKind, Bytes)> {
    let at = |named: &[Hash]| named.iter().position(|named| named == digest);
    let header = &block.header;
    if let Some(at) = at(&header.batches) {
        return Some((BodyKind::Batch, block.batches[at].encoded.clone()));
    }
    if let Some(at) = at(&header.enrolments) {
        return Some((BodyKind::Enrolment, block.enrolments[at].clone()));
    }
    if let Some(at) = at(&header.equivocations) {
        return Some((BodyKind::Equivocation, block.equivocations[at].clone()));
    }
    at(&header.declarations).map(|at| (BodyKind::Declaration, block.declarations[at].clone()))
}
