//! Who waits for which answer, and the answers.

use super::{Command, Node, NodeError, Reply};
use crate::store::{BatchKey, BatchPlace, StoreReader, batch_receipt};
use link::message::{FromNode, Refusal, RefusalCode};
use record::{
    AgentName, Hash, TreeSize,
    batch::SealedBatch,
    declaration::Declaration,
    enrolment::Enrolment,
    merkle::{EntryIndex, range_proof},
};
use replica::{Executed, Head, Pending, PoolError};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use tokio::sync::oneshot;

/// Those who wait for a receipt, an enrolment or a declaration.
#[derive(Default)]
pub(super) struct Answers {
    batches: BTreeMap<BatchKey, Reply>,
    enrolments: BTreeMap<AgentName, oneshot::Sender<FromNode>>,
    /// By the digest.
    declarations: BTreeMap<Hash, oneshot::Sender<FromNode>>,
    /// Durable blocks that somebody waits for, and that no quorum stands behind yet.
    unpublished: VecDeque<Box<Executed>>,
    /// Those who asked for a batch when it was durable already, but no quorum stood behind it.
    late: Vec<(BatchKey, BatchPlace, Reply)>,
}

impl Answers {
    /// A block is durable.
    pub(super) fn appended(&mut self, executed: Box<Executed>) {
        let waits = |placed| self.batches.contains_key(&BatchKey::of_placed(placed));
        let enrols = |(agent, _): &(AgentName, _)| self.enrolments.contains_key(agent);
        let declares = |(digest, _): &(Hash, _)| self.declarations.contains_key(digest);
        let own = executed.enrolled.iter().any(enrols) || executed.declared.iter().any(declares);
        if own || executed.placed.iter().any(waits) {
            self.unpublished.push_back(executed);
        }
    }

    /// A quorum stands behind everything up to `head`: answers who waits for that.
    pub(super) fn published(&mut self, reader: &Arc<StoreReader>, head: &Head) {
        let text = head.checkpoint.to_string();
        self.late.retain(|(key, place, reply)| {
            let there = behind(key, place) <= head.size;
            if there {
                answer(reply, from_store(reader, key, place, head));
            }
            !there
        });
        while self.unpublished.front().is_some_and(|executed| executed.after.size() <= head.size) {
            let Some(executed) = self.unpublished.pop_front() else { break };
            for placed in &executed.placed {
                let key = BatchKey::of_placed(placed);
                let Some(reply) = self.batches.remove(&key) else { continue };
                let end = EntryIndex(placed.first.0 + u64::from(placed.count) + 1);
                let receipt = if executed.after.size() == head.size {
                    let Ok(proof) = range_proof(&executed.tree, placed.first, end, head.size);
                    FromNode::Receipt(batch_receipt(&key, placed.first, proof, text.clone()))
                } else {
                    let place = BatchPlace::of(&executed, placed);
                    from_store(reader, &key, &place, head)
                };
                answer(&reply, receipt);
            }
            for (agent, index) in &executed.enrolled {
                if let Some(reply) = self.enrolments.remove(agent) {
                    let _ = reply.send(FromNode::Enrolled { index: index.0, already: false });
                }
            }
            for (digest, index) in &executed.declared {
                if let Some(reply) = self.declarations.remove(digest) {
                    let _ = reply.send(FromNode::Declared { index: index.0 });
                }
            }
        }
    }

    /// A declaration will not be decided on.
    pub(super) fn declined(&mut self, digest: &Hash, why: String) {
        if let Some(reply) = self.declarations.remove(digest) {
            let _ = reply.send(refused(RefusalCode::Invalid, why, None));
        }
    }

    /// A batch will not be decided on: its agent sealed another one at its place.
    pub(super) fn dropped(&mut self, pending: &Pending) {
        let key = BatchKey::of(pending.batch());
        if let Some(reply) = self.batches.remove(&key) {
            answer(&reply, conflict(&key));
        }
    }
}

impl Node {
    pub(super) fn handle_command(&mut self, command: Command) -> Result<(), NodeError> {
        match command {
            Command::Batch { pending, reply } => self.handle_batch(*pending, reply)?,
            Command::Again { key, digest, reply } => self.handle_again(key, digest, reply)?,
            Command::Log { agent, reply } => {
                let _ = reply.send(self.replica.log_of(&agent).cloned());
            }
            Command::Enrol { enrolment, reply } => self.handle_enrolment(*enrolment, reply)?,
            Command::Declare { declaration, reply } => {
                self.handle_declaration(*declaration, reply)?;
            }
            Command::Mend(mends) => self.handle_mends(mends)?,
            Command::IndexBroken(problem) => return Err(self.store.condemn_index(problem).into()),
            Command::Stop => self.stopping = true,
        }
        Ok(())
    }

    fn handle_batch(&mut self, pending: Pending, reply: Reply) -> Result<(), NodeError> {
        let (key, digest) = (BatchKey::of(pending.batch()), pending.digest());
        if !self.view.accepting() {
            answer(&reply, busy("the node's disk is full; reading goes on"));
            return Ok(());
        }
        let now = self.now();
        match self.replica.handle_batch(now, pending)? {
            Ok(()) => {
                self.answers.batches.insert(key, reply);
            }
            // Another node may have had it first.
            Err(PoolError::NotNext { .. } | PoolError::NotEnrolled) => {
                self.handle_again(key, digest, reply)?;
            }
            Err(error @ (PoolError::Full | PoolError::Enrolled)) => {
                answer(&reply, busy(&error.to_string()));
            }
        }
        Ok(())
    }

    fn handle_again(&mut self, key: BatchKey, digest: Hash, reply: Reply) -> Result<(), NodeError> {
        if let Some(place) = self.store.reader().batch(&key)? {
            if place.digest != digest {
                answer(&reply, conflict(&key));
            } else {
                self.answer_known(key, &place, reply);
            }
            return Ok(());
        }
        if self.replica.waiting(&key.agent, key.start).any(|waiting| waiting == digest) {
            self.answers.batches.insert(key, reply);
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

    /// The batch is durable: its receipt goes out now, or when a quorum stands behind it.
    fn answer_known(&mut self, key: BatchKey, place: &BatchPlace, reply: Reply) {
        let head = self.view.head();
        match &head.checkpoint {
            Some(checkpoint) if behind(&key, place) <= head.size => {
                let message = match self.store.reader().receipt(&key, place, checkpoint) {
                    Ok(receipt) => FromNode::Receipt(receipt),
                    Err(error) => {
                        tracing::error!(%error, "a receipt cannot be made");
                        busy("the node cannot read its tree")
                    }
                };
                answer(&reply, message);
            }
            _ => self.answers.late.push((key, *place, reply)),
        }
    }

    fn handle_enrolment(
        &mut self,
        enrolment: Enrolment,
        reply: oneshot::Sender<FromNode>,
    ) -> Result<(), NodeError> {
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
            return Ok(());
        }
        if !self.view.accepting() {
            let _ = reply.send(busy("the node's disk is full"));
            return Ok(());
        }
        let now = self.now();
        match self.replica.handle_enrolment(now, enrolment)? {
            Ok(()) => {
                self.answers.enrolments.insert(agent, reply);
            }
            Err(error) => {
                let _ = reply.send(busy(&error.to_string()));
            }
        }
        Ok(())
    }
}

impl Node {
    fn handle_declaration(
        &mut self,
        declaration: Declaration,
        reply: oneshot::Sender<FromNode>,
    ) -> Result<(), NodeError> {
        if !self.view.accepting() {
            let _ = reply.send(busy("the node's disk is full"));
            return Ok(());
        }
        let digest = SealedBatch::digest(&declaration.encode());
        let stale = declaration.time <= self.replica.state().declared;
        let code = if stale { RefusalCode::NotNext } else { RefusalCode::Invalid };
        let now = self.now();
        match self.replica.handle_declaration(now, declaration)? {
            Ok(()) => {
                self.answers.declarations.insert(digest, reply);
            }
            Err(why) => {
                let _ = reply.send(refused(code, why, None));
            }
        }
        Ok(())
    }
}

/// The size of the ledger right behind a batch and its seal.
fn behind(key: &BatchKey, place: &BatchPlace) -> TreeSize {
    TreeSize(place.first.0 + u64::from(key.count) + 1)
}

fn from_store(reader: &StoreReader, key: &BatchKey, place: &BatchPlace, head: &Head) -> FromNode {
    match reader.receipt(key, place, &head.checkpoint) {
        Ok(receipt) => FromNode::Receipt(receipt),
        Err(error) => {
            tracing::error!(%error, "a receipt cannot be made");
            busy("the node cannot read its tree")
        }
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
