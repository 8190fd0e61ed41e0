//! Reading entries: in steps, each believed once its hashes lead to the checkpoint.

use super::{
    Monitor, Word,
    alarm::{Found, as_evidence},
    proof::{Relation, relation},
};
use crate::{
    output::Failure,
    tiles::{FULL, TilesError},
};
use link::{Identity, Role, statement};
use record::{Checkpoint, Hash, TreeSize, follow::Follower, note::SignedNote};
use std::time::Duration;
use tokio::time::timeout;

/// Entries between two times that the state is written, on a long way.
const STEP: u64 = 1 << 16;
/// How long a node may take for them: one that dawdles must not blind us to the others.
const LIMIT: Duration = Duration::from_secs(120);
/// The most findings of a step that are told one by one.
const MAX_FINDINGS: usize = 100;

impl Monitor {
    /// Reads up to a node's checkpoint, which is known to extend what was read. False if the node
    /// does not give it.
    pub(super) async fn read_to(
        &mut self,
        node: usize,
        note: &SignedNote,
    ) -> Result<bool, Failure> {
        let Ok(Checkpoint { size, root, .. }) = Checkpoint::parse(note.text()) else {
            return Ok(false);
        };
        while self.history.follower.size() < size {
            let from = self.history.follower.size().0;
            let to = TreeSize(size.0.min((from / STEP + 1) * STEP));
            let step = match timeout(LIMIT, self.step(node, size, to)).await {
                Ok(Ok(step)) => step,
                Ok(Err(error)) => return self.not_read(node, &error).await.map(|()| false),
                Err(_) => {
                    let slow =
                        TilesError::Away(format!("it gives its entries too slowly: {LIMIT:?}"));
                    return self.not_read(node, &slow).await.map(|()| false);
                }
            };
            let leads = match self.leads_to(node, &step.follower, (size, root)).await {
                Ok(leads) => leads,
                Err(error) => return self.not_read(node, &error).await.map(|()| false),
            };
            if !leads {
                let problem = format!(
                    "the entries that it serves from {from} on are not those that its checkpoint of \
                     {size} was signed for"
                );
                let evidence = [("checkpoint", as_evidence(note))];
                self.raise(Word::BadEntry, Some(node), problem, &evidence).await?;
                return Ok(false);
            }
            self.tell_findings(node, note, step.findings, step.more).await?;
            self.history.follower = step.follower;
            if to == size {
                self.history.keep(note);
            }
            self.folder.save(&self.history)?;
            self.teller.progress(&self.history, size);
        }
        Ok(true)
    }

    /// Reads up to `to` of the node's `size` entries.
    async fn step(
        &mut self,
        node: usize,
        size: TreeSize,
        to: TreeSize,
    ) -> Result<Step, TilesError> {
        let mut step =
            Step { follower: self.history.follower.clone(), findings: Vec::new(), more: 0 };
        while step.follower.size() < to {
            let at = step.follower.size().0;
            let (index, begins) = (at / FULL, at / FULL * FULL);
            let width = (size.0 - begins).min(FULL);
            let entries = self.nodes[node]
                .with(&self.tls, async |tiles| tiles.bundle(index, width).await)
                .await?;
            let wanted = (at - begins) as usize..(to.0 - begins).min(width) as usize;
            entries.get(wanted).unwrap_or_default().iter().for_each(|entry| step.push(entry));
            if step.follower.size().0 == at {
                return Err(TilesError::Malformed(format!("bundle {index} is too short")));
            }
        }
        Ok(step)
    }

    /// True if what was read is the beginning of the checkpoint's tree.
    async fn leads_to(
        &mut self,
        node: usize,
        read: &Follower,
        checkpoint: (TreeSize, Hash),
    ) -> Result<bool, TilesError> {
        let here = (read.size(), read.root());
        if here.0 == checkpoint.0 {
            return Ok(here.1 == checkpoint.1);
        }
        let node = &mut self.nodes[node];
        let found = relation(node, &self.tls, checkpoint.0, here, checkpoint).await?;
        Ok(found == Relation::Extends)
    }
}

/// Entries that were read and are not believed yet.
struct Step {
    follower: Follower,
    findings: Vec<Found>,
    /// Findings that were left out.
    more: u64,
}

impl Step {
    fn push(&mut self, entry: &[u8]) {
        let mut found = Vec::new();
        self.follower.push(entry, &operator_signed, &mut found);
        let room = MAX_FINDINGS.saturating_sub(self.findings.len());
        self.more += found.len().saturating_sub(room) as u64;
        let found = found.into_iter().take(room);
        self.findings.extend(found.map(|finding| Found { finding, entry: entry.to_vec() }));
    }
}

/// True if the holder of an operator's certificate signed the text. Whether the ledger's CA
/// issued the certificate, its nodes have checked; it may have run out since.
fn operator_signed(certificate: &[u8], text: &[u8], signature: &[u8]) -> bool {
    let operator = Identity::from_der(certificate).is_ok_and(|id| id.role == Role::Operator);
    operator && statement::verifies(certificate, text, signature)
}
