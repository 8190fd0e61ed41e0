//! Receipts: the proof that a whole batch and its seal are in the ledger.

use crate::{
    entry::Enterprise,
    merkle::{EntryIndex, Hash, RangeProof, leaf_hash},
    note::SignedNote,
    policy::{Policy, TrustError, VerifiedCheckpoint},
    seal::SealEntry,
};

/// What the ledger answers to a batch, not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The ledger index of the batch's first record, or of the seal of a heartbeat.
    pub first: EntryIndex,
    /// The subtrees around the batch's records and their seal.
    pub proof: RangeProof,
    /// The checkpoint, signed by a node and cosigned by a quorum.
    pub checkpoint: SignedNote,
}

/// A receipt does not show that the batch is in the ledger: the node that gave it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The checkpoint is not acceptable under the policy.
    #[error("the receipt's checkpoint: {0}")]
    Trust(#[from] TrustError),
    /// The batch is not under the checkpoint.
    #[error("the receipt does not prove that the batch is in the ledger at index {0}")]
    NotIncluded(EntryIndex),
}

impl Receipt {
    /// Checks the receipt for a batch: `leaves` are the leaf hashes of its records, in order.
    pub fn verify(
        &self,
        policy: &Policy,
        enterprise: Enterprise,
        leaves: &[Hash],
        seal: &SealEntry,
    ) -> Result<VerifiedCheckpoint, ReceiptError> {
        let verified = policy.verify(&self.checkpoint)?;
        let tree = verified.checkpoint();
        let mut run = Vec::with_capacity(leaves.len() + 1);
        run.extend_from_slice(leaves);
        run.push(leaf_hash(&seal.encode(enterprise)));
        let root = self.proof.root(self.first, &run, tree.size);
        if root != Some(tree.root) {
            return Err(ReceiptError::NotIncluded(self.first));
        }
        Ok(verified)
    }
}
