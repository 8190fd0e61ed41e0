//! Bodies that other nodes took: verified when they come, kept until they are decided on.

use super::Replica;
use crate::{
    engine::EngineError,
    execute::{ExecuteError, convicts},
    members::NodeIndex,
    message::{BodyKind, MAX_DIGESTS, Message},
    pool::{Body, Pending},
};
use bytes::Bytes;
use record::{
    Checkpoint, Hash,
    batch::{BatchError, LogState, SealedBatch},
    cosignature::Cosignature,
    enrolment::Enrolment,
    equivocation::{Equivocation, EquivocationKind, Statement},
    seal::{Seal, SealEntry},
};
use std::time::Duration;

/// How many bodies are sent for one request; what is still missing is asked for again.
const MAX_SERVED: usize = 256;
/// How long a body that came to this node first may wait before the others are told again.
const REMIND_AFTER: Duration = Duration::from_secs(1);
/// How many are named in a reminder.
const REMIND: usize = 256;

impl Replica {
    pub(super) fn handle_body(
        &mut self,
        from: NodeIndex,
        kind: BodyKind,
        bytes: Bytes,
    ) -> Result<(), EngineError> {
        let digest = SealedBatch::digest(&bytes);
        if self.pool.has_verified(&digest) {
            return Ok(());
        }
        let taken = match kind {
            BodyKind::Batch => self.take_batch(from, digest, bytes),
            BodyKind::Enrolment => self.take_enrolment(from, &bytes),
            BodyKind::Equivocation => self.take_equivocation(from, &bytes),
            BodyKind::Declaration => self.take_declaration(from, digest, &bytes)?,
        };
        if taken {
            self.body_arrived(digest)?;
        }
        self.retry_loose()
    }

    fn take_batch(&mut self, from: NodeIndex, digest: Hash, encoded: Bytes) -> bool {
        let batch = match SealedBatch::decode(&encoded) {
            Ok(batch) => batch,
            Err(error) => {
                self.fault(from, error.to_string());
                return false;
            }
        };
        let Some(log) = self.log_of(&batch.agent).cloned() else {
            // Its enrolment may be on its way.
            self.pool.put_loose(digest, encoded);
            return true;
        };
        if self.is_past(&batch) {
            return false;
        }
        let sealed = batch.seal_entry();
        if batch.start.0 != log.frontier.size().0 {
            self.compare_seals(&sealed);
            self.pool.put_loose(digest, encoded);
            return true;
        }
        match self.put_next(batch, log, digest, encoded.clone()) {
            Ok(put) => {
                if !put {
                    self.pool.put_loose(digest, encoded);
                }
                true
            }
            // On another branch of a log that its agent split, or from before a renewed seal.
            Err(BatchError::Root | BatchError::Time { .. }) => {
                self.compare_seals(&sealed);
                self.pool.put_loose(digest, encoded);
                true
            }
            // The pool has it already, or another of that second.
            Err(BatchError::Repeated(_)) => false,
            Err(error) => {
                self.fault(from, error.to_string());
                false
            }
        }
    }

    /// Verifies a batch against the log that its agent's next one must fit, and puts it into the
    /// pool; `false` if that is full.
    fn put_next(
        &mut self,
        batch: SealedBatch,
        log: LogState,
        digest: Hash,
        encoded: Bytes,
    ) -> Result<bool, BatchError> {
        let origin = &self.params.origin;
        let verified = batch.open(origin, &log, &mut self.codec, &mut self.scratch)?;
        Ok(self.pool.put(Pending::named(verified, log, encoded, digest)).is_ok())
    }

    /// True if the batch's agent is beyond it, or it is committed.
    fn is_past(&self, batch: &SealedBatch) -> bool {
        let Some(log) = self.state.agents.get(&batch.agent) else { return false };
        let (size, committed) = (batch.seal.size, log.frontier.size());
        let newer = batch.count == 0 && batch.seal.time > log.sealed;
        size < committed || (size == committed && !newer)
    }

    fn take_enrolment(&mut self, from: NodeIndex, bytes: &[u8]) -> bool {
        let Ok(enrolment) = Enrolment::decode(bytes) else {
            self.fault(from, "an enrolment that cannot be read");
            return false;
        };
        if self.state.agents.contains_key(&enrolment.agent) {
            return false;
        }
        if !self.vouch.operator_signed(&enrolment) {
            self.fault(from, format!("an enrolment of '{}' by no operator", enrolment.agent));
            return false;
        }
        self.pool.put_other_enrolment(enrolment)
    }

    fn take_equivocation(&mut self, from: NodeIndex, bytes: &[u8]) -> bool {
        let Ok(equivocation) = Equivocation::decode(bytes) else {
            self.fault(from, "an equivocation that cannot be read");
            return false;
        };
        match convicts(&self.params, &self.members, &self.state, &equivocation) {
            Ok(()) => {}
            // It may have been sent before the block that holds another one.
            Err(ExecuteError::Convicted(_)) => return false,
            Err(_) => {
                self.fault(from, "an equivocation that proves nothing");
                return false;
            }
        }
        let kept = self.pool.put_equivocation(equivocation.clone());
        self.convict(equivocation);
        kept
    }

    /// Looks again at batches that did not fit when they came.
    pub(super) fn retry_loose(&mut self) -> Result<(), EngineError> {
        loop {
            let mut progress = Vec::new();
            for (digest, encoded) in self.pool.loose() {
                let Ok(batch) = SealedBatch::decode(&encoded) else { continue };
                if self.is_past(&batch) {
                    self.pool.remove(std::iter::once(&digest));
                    continue;
                }
                let Some(log) = self.log_of(&batch.agent).cloned() else { continue };
                if batch.start.0 != log.frontier.size().0 {
                    continue;
                }
                if self.put_next(batch, log, digest, encoded) == Ok(true) {
                    progress.push(digest);
                }
            }
            if progress.is_empty() {
                return Ok(());
            }
            for digest in progress {
                self.body_arrived(digest)?;
            }
        }
    }

    pub(super) fn handle_have(&mut self, from: NodeIndex, digests: Vec<Hash>) {
        let missing: Vec<Hash> =
            digests.into_iter().filter(|digest| !self.pool.has(digest)).collect();
        if !missing.is_empty() {
            self.send(Some(from), Message::Fetch(missing));
        }
    }

    pub(super) fn handle_fetch(&mut self, from: NodeIndex, digests: &[Hash]) {
        for digest in digests.iter().take(MAX_SERVED) {
            let batch = self.pool.batch(digest).map(|body| match body {
                Body::Verified(pending) => pending.encoded().clone(),
                Body::Loose(bytes) => bytes,
            });
            let found = batch
                .map(|bytes| (BodyKind::Batch, bytes))
                .or_else(|| self.candidate_body(digest))
                .or_else(|| self.pool.enrolment(digest).map(|(_, b)| (BodyKind::Enrolment, b)))
                .or_else(|| {
                    self.pool.equivocation(digest).map(|(_, b)| (BodyKind::Equivocation, b))
                })
                .or_else(|| self.pool.declaration(digest).map(|(_, b)| (BodyKind::Declaration, b)));
            if let Some((kind, bytes)) = found {
                self.send(Some(from), Message::Body(kind, bytes));
            }
        }
    }

    /// Names bodies that came here first and are still not decided: somebody may lack them.
    pub(super) fn remind(&mut self, to: Option<NodeIndex>, all: bool) {
        let old = |since: &crate::now::Ticks| self.now.ticks.since(*since) >= REMIND_AFTER;
        let waiting = self.mine.iter().filter(|(_, since)| all || old(since));
        let digests: Vec<Hash> =
            waiting.map(|(digest, _)| *digest).take(REMIND.min(MAX_DIGESTS)).collect();
        if !digests.is_empty() {
            self.send(to, Message::Have(digests));
        }
    }

    /// Remembers the seals of a block's batches, to notice a second one at the same size.
    pub(super) fn keep_seals(&mut self, batches: &[Hash]) {
        for digest in batches {
            if let Some(Body::Verified(pending)) = self.pool.batch(digest) {
                let batch = pending.batch();
                self.seals.insert(batch.agent.clone(), batch.seal);
            }
        }
    }

    /// Two seals of one agent with different roots at one size are an equivocation.
    pub(super) fn compare_seals(&mut self, batch: &SealEntry) {
        let waiting = self.pool.waiting(&batch.agent, batch.start).map(|p| p.batch().seal);
        let other = waiting
            .chain(self.seals.get(&batch.agent).copied())
            .find(|seal| seal.size == batch.seal.size && seal.root != batch.seal.root);
        let key = self.state.agents.get(&batch.agent).map(|log| log.key);
        let (Some(other), Some(key)) = (other, key) else { return };
        let origin = self.params.origin.agent(&batch.agent);
        let statement = |seal: &Seal| {
            let text = Checkpoint::new(origin.clone(), seal.size, seal.root).text();
            Statement { bytes: Cosignature::statement(&text, seal.time), signature: seal.signature }
        };
        let culprit = batch.agent.as_str().parse().expect("names follow one rule");
        let statements = [statement(&other), statement(&batch.seal)];
        let equivocation = Equivocation::new(EquivocationKind::Seals, culprit, key, statements);
        if equivocation.verify().is_ok() {
            self.convict(equivocation);
        }
    }
}
