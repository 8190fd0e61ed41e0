//! Receipts: verified here before anything is released, and kept as evidence when they are no proof.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use journal::Reader;
use link::{Identity, message::BatchReceipt};
use record::{
    Hash,
    batch::{Codec, SealedBatch},
    merkle::leaf_hash,
};

use super::{
    UplinkSettings,
    cursor::unreadable,
    trouble::{ReceiptProblem, Trouble},
    window::InFlight,
};
use crate::{
    config::NodeAddress,
    leaves::LeafHashes,
    spool::{BatchRecord, Decoded, decode},
};

/// How many receipts that are no proof are kept, at most. The first ones say most.
const MAX_EVIDENCE: usize = 100;

/// Verifies receipts.
pub(super) struct Verifier {
    settings: Arc<UplinkSettings>,
    reader: Reader,
    leaves: Arc<LeafHashes>,
}

impl Verifier {
    pub(super) fn new(
        settings: Arc<UplinkSettings>,
        reader: Reader,
        leaves: Arc<LeafHashes>,
    ) -> Self {
        Verifier { settings, reader, leaves }
    }

    /// Checks that the receipt proves this very batch, whole, under our policy and in our ledger.
    pub(super) fn verify(
        &self,
        node: (&NodeAddress, &Identity),
        batch: &InFlight,
        given: &BatchReceipt,
    ) -> Result<(), Trouble> {
        let leaves = self.leaves(batch)?;
        self.check(batch, given, &leaves).map_err(|problem| {
            self.settings.metrics.receipts_refused.inc();
            self.keep(node, batch, given, &problem);
            Trouble::Receipt { start: batch.start().0, end: batch.size().0, problem }
        })
    }

    fn check(
        &self,
        batch: &InFlight,
        given: &BatchReceipt,
        leaves: &[Hash],
    ) -> Result<(), ReceiptProblem> {
        let UplinkSettings { policy, enterprise, origin, .. } = &*self.settings;
        let receipt = given.receipt()?;
        let verified = receipt.verify(policy, *enterprise, leaves, &batch.seal)?;
        let found = &verified.checkpoint().origin;
        if found == origin { Ok(()) } else { Err(ReceiptProblem::Ledger(found.clone())) }
    }

    /// The leaf hashes of a batch: kept since it was sealed, or computed again from the spool.
    fn leaves(&self, batch: &InFlight) -> Result<Vec<Hash>, Trouble> {
        if batch.count == 0 {
            return Ok(Vec::new());
        }
        if let Some(leaves) = self.leaves.take(batch.start()) {
            assert_eq!(leaves.len(), batch.count as usize, "hashes are those of their batch");
            return Ok(leaves);
        }
        self.kept(batch, |record| compute_leaves(&record.batch).map_err(unreadable))?
    }

    /// Looks at a batch as the spool holds it.
    fn kept<T>(
        &self,
        batch: &InFlight,
        look: impl FnOnce(&BatchRecord<'_>) -> T,
    ) -> Result<T, Trouble> {
        let bytes = self.reader.read(batch.seq).map_err(unreadable)?;
        match decode(&bytes).map_err(unreadable)? {
            Decoded::Batch(record) => Ok(look(&record)),
            _ => unreachable!("a batch was read from this record before"),
        }
    }

    /// Keeps what a node gave instead of a proof: it is signed, or it should have been.
    fn keep(
        &self,
        (node, identity): (&NodeAddress, &Identity),
        batch: &InFlight,
        given: &BatchReceipt,
        problem: &ReceiptProblem,
    ) {
        let hashes = |hashes: &[[u8; 32]]| -> Vec<String> {
            hashes.iter().map(|hash| Hash(*hash).to_string()).collect()
        };
        // That the spool cannot be read shows again, and stops the agent, when the batch is resent.
        let digest = self.kept(batch, |record| SealedBatch::digest(record.encoded).to_string());
        let evidence = serde_json::json!({
            "node": node.to_string(),
            "certificate": identity.to_string(),
            "kept": service::clock::now().to_string(),
            "problem": problem.to_string(),
            "agent": self.settings.agent.to_string(),
            "start": batch.start().0,
            "size": batch.size().0,
            "root": batch.seal.seal.root.to_string(),
            "digest": digest.ok(),
            "seal": String::from_utf8_lossy(&batch.seal.encode(self.settings.enterprise)),
            "receipt": {
                "start": given.start,
                "size": given.size,
                "sealed": given.sealed,
                "first": given.first,
                "left": hashes(&given.left),
                "right": hashes(&given.right),
                "checkpoint": given.checkpoint,
            },
        });
        let dir = &self.settings.evidence;
        match keep(dir, batch.start().0, &format!("{evidence:#}\n")) {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                dir = %dir.display(),
                "{MAX_EVIDENCE} receipts that are no proof are kept already: this one is not"
            ),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "a receipt that is no proof cannot be kept");
            }
        }
    }
}

/// Computes the leaf hashes of a batch. The decompressor is not kept: this is rare, and it is large.
fn compute_leaves(batch: &SealedBatch) -> Result<Vec<Hash>, record::batch::BatchError> {
    let mut scratch = Vec::new();
    let ranges = Codec::default().unpack(batch, &mut scratch)?;
    Ok(ranges.into_iter().map(|range| leaf_hash(&scratch[range])).collect())
}

/// Writes a file under the first free number; `false` if there are enough.
fn keep(dir: &Path, start: u64, text: &str) -> io::Result<bool> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if std::fs::read_dir(dir)?.count() >= MAX_EVIDENCE {
        return Ok(false);
    }
    for number in 1..=MAX_EVIDENCE {
        let path = dir.join(format!("receipt-{start}-{number}.json"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match file {
            Ok(mut file) => {
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                File::open(dir)?.sync_all()?;
                tracing::error!(file = %path.display(), "a receipt that is no proof was kept");
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lying_node_cannot_fill_the_disk_with_evidence() {
        let dir = tempfile::tempdir().unwrap();
        let evidence = dir.path().join("evidence");
        let kept = (0..200).filter(|n| keep(&evidence, n % 3, "{}\n").unwrap()).count();
        assert_eq!(kept, MAX_EVIDENCE);
        assert_eq!(std::fs::read_dir(&evidence).unwrap().count(), MAX_EVIDENCE);
    }
}
