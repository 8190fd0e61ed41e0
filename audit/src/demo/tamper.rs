//! Flipping one byte of each piece of evidence, to see that it is noticed and named.

use crate::evidence::{AGENT_PROOF, Broken, ENTRY, Evidence, LEDGER_PROOF};

/// Flips one byte in the middle of the entry and of both proofs, each on its own. True if every
/// change was noticed.
pub(super) fn every_file(evidence: &Evidence, mut each: impl FnMut(&str, &Broken)) -> bool {
    type Part = fn(&mut Evidence) -> &mut Vec<u8>;
    let parts: [(&str, Part); 3] = [
        (ENTRY, |e| &mut e.entry),
        (LEDGER_PROOF, |e| &mut e.ledger_proof),
        (AGENT_PROOF, |e| &mut e.agent_proof),
    ];
    parts.into_iter().all(|(name, part)| {
        let mut altered = evidence.clone();
        let bytes = part(&mut altered);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        match altered.verify() {
            Ok(_) => false,
            Err(broken) => {
                each(name, &broken);
                true
            }
        }
    })
}
