//! One height: what the engine wants done, and when a height begins and ends.

use super::{Event, Output, Replica, proposals::Candidate};
use crate::{
    block::Certificate,
    engine::{Action, EngineError, Signed, Timer},
    execute::conviction,
    members::NodeIndex,
    message::Message,
};
use bytes::Bytes;
use record::{Hash, block::Height, equivocation::Equivocation};
use std::time::Duration;

/// How many of our own messages are kept for peers that come back.
const SAID: usize = 64;
/// How many messages of one node for the next height are kept.
const EARLY: usize = 256;
/// How many equivocations are remembered, so that each is reported once.
const CONVICTED: usize = 1024;

impl Replica {
    /// Begins the next height if there is something to decide.
    pub(super) fn consider_height(&mut self) -> Result<(), EngineError> {
        while self.writing.is_none() && self.running.is_none() && self.may_vote() && self.has_work()
        {
            self.start_height()?;
        }
        Ok(())
    }

    fn has_work(&self) -> bool {
        let next = Height(self.state.height.0 + 1);
        let early = |peer: &super::Peer| peer.early.iter().any(|(height, ..)| *height == next);
        !self.pool.is_empty()
            || self.peers.iter().any(early)
            || (self.idle_block_is_due() && self.wants_idle_block())
    }

    /// A block without batches and enrolments is worth it for equivocations, and for a node that waits
    /// for a height to be decided so that it may vote again.
    fn wants_idle_block(&self) -> bool {
        let tip = self.state.height;
        // It cannot honestly wait for more: it took the heights of others, and added two.
        let near = tip.0 + 1..=tip.0 + 2;
        let waits = |peer: &super::Peer| peer.up && near.contains(&peer.abstains_until.0);
        self.pool.has_equivocations() || self.peers.iter().any(waits)
    }

    fn idle_block_is_due(&self) -> bool {
        let since = self.now.wall.0.saturating_sub(self.state.time.0);
        Duration::from_millis(since) >= self.timing.idle_block
    }

    pub(super) fn start_height(&mut self) -> Result<(), EngineError> {
        let height = Height(self.state.height.0 + 1);
        self.running = Some(height);
        let remembered = std::mem::take(&mut self.remembered);
        self.engine.start(height, &remembered)?;
        self.drain()?;
        for peer in self.others() {
            let early = std::mem::take(&mut self.peers[usize::from(peer.0)].early);
            for (at, signed, header) in early {
                if at == height && self.running == Some(height) {
                    self.take_statement(peer, signed, header)?;
                } else if at > height {
                    self.peers[usize::from(peer.0)].early.push_back((at, signed, header));
                }
            }
        }
        Ok(())
    }

    /// A vote, proposal or certificate of the consensus engine.
    pub(super) fn handle_statement(
        &mut self,
        from: NodeIndex,
        bytes: &[u8],
        header: Option<Bytes>,
    ) -> Result<(), EngineError> {
        let Some(signed) = Signed::decode(bytes) else {
            self.fault(from, "a consensus message that cannot be read");
            return Ok(());
        };
        let (height, next) = (Height(signed.height()), Height(self.state.height.0 + 1));
        // Only a height that can be worked on now, or right after the one that is: what comes
        // after that is fetched.
        if height < next || height.0 > next.0 + 1 || !self.may_vote() {
            return Ok(());
        }
        if signed.is_single() {
            let signer = signed.verified_signer().and_then(|key| self.members.find_key(&key));
            if signer.is_none() {
                self.fault(from, "a consensus message without a valid signature of a node");
                return Ok(());
            }
        }
        if height > next || self.writing.is_some() {
            let early = &mut self.peers[usize::from(from.0)].early;
            if early.len() < EARLY {
                early.push_back((height, signed, header));
            }
            return Ok(());
        }
        if self.running.is_none() {
            self.start_height()?;
        }
        self.take_statement(from, signed, header)
    }

    fn take_statement(
        &mut self,
        from: NodeIndex,
        signed: Signed,
        header: Option<Bytes>,
    ) -> Result<(), EngineError> {
        if self.running != Some(Height(signed.height())) {
            return Ok(());
        }
        let proposed = signed.proposal().map(|place| (place, signed.verified_signer()));
        if let Err(problem) = self.engine.receive(signed) {
            self.fault(from, problem);
        }
        self.drain()?;
        if let Some(((round, pol_round, id), signer)) = proposed {
            let signer = signer.and_then(|key| self.members.find_key(&key));
            if let (Some(signer), Some(header)) = (signer, header) {
                self.handle_header(from, signer, (round, pol_round), id, &header)?;
            }
        }
        Ok(())
    }

    /// Carries out what the engine wants, until it wants nothing more.
    pub(super) fn drain(&mut self) -> Result<(), EngineError> {
        while let Some(action) = self.engine.action() {
            match action {
                Action::Remember(input) => self.log_input(&input),
                Action::Publish(signed) => self.publish(&signed),
                Action::Round(round) => self.note_round(round),
                Action::Schedule(timer, round) => {
                    let at = self.after(self.patience(timer, round));
                    self.timers.insert((timer, round), at);
                }
                Action::Cancel(timer, round) => drop(self.timers.remove(&(timer, round))),
                Action::CancelAll => self.timers.clear(),
                Action::Propose { round } => {
                    self.wanted = Some(round);
                    self.try_propose()?;
                }
                Action::Decided { id, certificate } => self.decided(id, certificate),
                Action::Equivocation(found) => found.into_iter().for_each(|e| self.convict(e)),
            }
        }
        Ok(())
    }

    fn publish(&mut self, signed: &Signed) {
        let bytes = Bytes::from(signed.encode());
        let header = signed.proposal().and_then(|(_, _, id)| match self.candidates.get(&id) {
            Some(Candidate::Ready(executed)) => Some(executed.block.header.encode().into()),
            _ => None,
        });
        let message = match header {
            Some(header) => Message::Proposal { signed: bytes, header },
            None => Message::Consensus(bytes),
        };
        if !self.said.contains(&message) {
            self.said.push_back(message.clone());
            if self.said.len() > SAID {
                self.said.pop_front();
            }
        }
        #[cfg(feature = "planted-bugs")]
        if crate::planted::has(crate::planted::Bug::VoteBeforeSync) {
            self.send(None, message);
            return self.sync_log();
        }
        self.sync_log();
        self.send(None, message);
    }

    /// How long a timer runs.
    fn patience(&self, timer: Timer, round: u32) -> Duration {
        let timing = &self.timing;
        let growth = timing.growth * round.min(64);
        let proposer = self.proposer(self.engine.height(), round);
        // After a turn of every node patience counts more than haste.
        let hasty = (round as usize) < 2 * self.members.count();
        let hopeless = hasty && proposer != self.own && self.is_slow(proposer);
        match timer {
            Timer::Propose | Timer::Prevote | Timer::Precommit if hopeless => timing.propose_slow,
            Timer::Propose => timing.propose + growth,
            Timer::Prevote | Timer::Precommit => timing.step + growth,
            Timer::Rebroadcast => timing.rebroadcast + growth,
        }
    }

    fn note_round(&mut self, round: u32) {
        self.wanted = None;
        if round == 0 {
            self.said.clear();
        }
    }

    fn decided(&mut self, id: Hash, certificate: Certificate) {
        let found = self.candidates.remove(&id);
        if let Some(Candidate::Ready(mut executed)) = found {
            executed.block.certificate = certificate;
            self.append(executed);
            return;
        }
        // Others have shown that it was decided; its bodies come with the block.
        self.sync.urge();
    }

    /// Hands a decided block to the driver.
    pub(super) fn append(&mut self, executed: Box<crate::execute::Executed>) {
        self.writing = Some(executed.block.header.height);
        self.timers.clear();
        self.wanted = None;
        self.out.push_back(Output::Append(executed));
    }

    /// Forgets what belonged to the height that is over.
    pub(super) fn end_height(&mut self) {
        self.running = None;
        self.engine.abandon();
        self.timers.clear();
        self.candidates.clear();
        self.objected.clear();
        self.logged.clear();
        self.remembered.clear();
        self.wanted = None;
        self.unsynced = false;
    }

    /// Reports an equivocation, and lets it become an entry.
    pub(super) fn convict(&mut self, equivocation: Equivocation) {
        let digest = record::batch::SealedBatch::digest(&equivocation.encode());
        if self.state.convicted.contains(&conviction(&equivocation)) {
            return;
        }
        if self.convicted.len() >= CONVICTED || !self.convicted.insert(digest) {
            return;
        }
        if self.pool.put_equivocation(equivocation.clone()) {
            let bytes = Bytes::from(equivocation.encode());
            self.send(None, Message::Body(crate::message::BodyKind::Equivocation, bytes));
        }
        self.event(Event::Equivocation(Box::new(equivocation)));
    }
}
