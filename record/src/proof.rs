//! Offline-verifiable proofs of one entry, `.tlog-proof`: <https://c2sp.org/tlog-proof>.

use crate::{
    base64,
    checkpoint::parse_decimal,
    merkle::{
        EntryIndex, Hash, InclusionProof, MAX_PROOF_LEN, ProofError, leaf_hash, verify_inclusion,
    },
    note::{MAX_NOTE_LEN, NoteError, SignedNote},
    policy::{Policy, TrustError, VerifiedCheckpoint},
};
use std::fmt;

/// The most bytes of opaque extra data.
pub const MAX_EXTRA_LEN: usize = 1 << 16;

const MAGIC: &str = "c2sp.org/tlog-proof@v1";

/// An entry's index, its inclusion proof and the signed checkpoint, none of them verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Opaque data that is not authenticated; logseal writes none.
    pub extra: Option<Vec<u8>>,
    /// The entry's index in the log.
    pub index: EntryIndex,
    /// Its inclusion proof, from the leaf's sibling up.
    pub inclusion: InclusionProof,
    /// The signed checkpoint, verbatim.
    pub checkpoint: SignedNote,
}

/// Bytes are not a proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFormatError {
    /// Too long, or not UTF-8.
    #[error("the proof is not text, or longer than any proof can be")]
    Text,
    /// The first line.
    #[error("the proof does not begin with the line '{MAGIC}'")]
    Magic,
    /// The `extra` line.
    #[error("the proof's extra line is not base64 of at most {MAX_EXTRA_LEN} bytes")]
    Extra,
    /// The `index` line.
    #[error("the proof has no line 'index N'")]
    Index,
    /// A hash line.
    #[error("line {0} of the proof is not the base64 of a hash")]
    Hash(usize),
    /// More than [`MAX_PROOF_LEN`] hashes.
    #[error("the proof has more hashes than the tallest tree has levels")]
    TooManyHashes,
    /// The part behind the blank line.
    #[error("the proof's checkpoint: {0}")]
    Note(#[from] NoteError),
}

/// A proof does not show that the entry is in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// The checkpoint is not acceptable under the policy.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The entry is not what the checkpoint covers at that index.
    #[error("the entry is not the one at index {index} of '{origin}': {source}")]
    Inclusion {
        /// The log.
        origin: String,
        /// The claimed index.
        index: u64,
        /// Where it fails.
        source: ProofError,
    },
}

impl TlogProof {
    /// Parses a `.tlog-proof` file.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofFormatError> {
        if bytes.len() > MAX_NOTE_LEN + 2 * MAX_EXTRA_LEN {
            return Err(ProofFormatError::Text);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ProofFormatError::Text)?;
        let (head, note) = text.split_once("\n\n").ok_or(NoteError::NoSignatures)?;
        let mut lines = head.split('\n').enumerate().map(|(n, line)| (n + 1, line)).peekable();
        lines.next().filter(|(_, line)| *line == MAGIC).ok_or(ProofFormatError::Magic)?;
        let extra = match lines.peek().and_then(|(_, line)| line.strip_prefix("extra ")) {
            None => None,
            Some(encoded) => {
                lines.next();
                let extra = base64::decode(encoded).filter(|e| e.len() <= MAX_EXTRA_LEN);
                Some(extra.ok_or(ProofFormatError::Extra)?)
            }
        };
        let index = lines
            .next()
            .and_then(|(_, line)| parse_decimal(line.strip_prefix("index ")?))
            .ok_or(ProofFormatError::Index)?;
        let mut inclusion = Vec::new();
        for (number, line) in lines {
            if inclusion.len() == MAX_PROOF_LEN {
                return Err(ProofFormatError::TooManyHashes);
            }
            inclusion.push(Hash::from_base64(line).ok_or(ProofFormatError::Hash(number))?);
        }
        let checkpoint = SignedNote::parse(note.as_bytes())?;
        Ok(TlogProof { extra, index: EntryIndex(index), inclusion, checkpoint })
    }

    /// Checks that `entry` is in the log at this index, under a checkpoint that `policy` accepts.
    pub fn verify(
        &self,
        entry: &[u8],
        policy: &Policy,
    ) -> Result<VerifiedCheckpoint, EvidenceError> {
        let verified = policy.verify(&self.checkpoint)?;
        let tree = verified.checkpoint();
        verify_inclusion(&self.inclusion, leaf_hash(entry), self.index, tree.size, tree.root)
            .map_err(|source| EvidenceError::Inclusion {
                origin: tree.origin.to_string(),
                index: self.index.0,
                source,
            })?;
        Ok(verified)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MAGIC}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", base64::encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.inclusion {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::Checkpoint,
        merkle::{TreeSize, naive},
        note::{NoteSigner, SignatureType},
        policy::write_policy,
        time::UnixSeconds,
    };
    use zeroize::Zeroizing;

    fn sample() -> (Vec<u8>, TlogProof, Policy) {
        let seed = |n| Zeroizing::new([n; 32]);
        let log = NoteSigner::new("l.example".parse().unwrap(), SignatureType::Ed25519, &seed(1));
        let node =
            NoteSigner::new("l.example/n".parse().unwrap(), SignatureType::CosignatureV1, &seed(2));
        let entries: Vec<Vec<u8>> = (0..13u8).map(|n| vec![n; 5]).collect();
        let leaves: Vec<Hash> = entries.iter().map(|e| leaf_hash(e)).collect();
        let checkpoint =
            Checkpoint::new("l.example".parse().unwrap(), TreeSize(13), naive::root(&leaves));
        let mut note = SignedNote::new(checkpoint.text());
        note.put(log.sign(&checkpoint.text(), UnixSeconds(5)));
        note.put(node.sign(&checkpoint.text(), UnixSeconds(5)));
        let policy = write_policy(&[log.vkey().clone()], &[("n".into(), node.vkey().clone())], 1);
        let proof = TlogProof {
            extra: None,
            index: EntryIndex(11),
            inclusion: naive::path(11, &leaves),
            checkpoint: note,
        };
        (entries[11].clone(), proof, Policy::parse(policy.as_bytes()).unwrap())
    }

    #[test]
    fn a_proof_survives_its_text_form() {
        let (entry, proof, policy) = sample();
        let again = TlogProof::parse(proof.to_string().as_bytes()).unwrap();
        assert_eq!(again, proof);
        assert_eq!(again.verify(&entry, &policy).unwrap().checkpoint().size, TreeSize(13));
        let extra = TlogProof { extra: Some(vec![1, 2]), ..proof };
        assert_eq!(TlogProof::parse(extra.to_string().as_bytes()).unwrap(), extra);
    }

    #[test]
    fn any_flipped_bit_of_entry_or_proof_is_noticed() {
        let (entry, proof, policy) = sample();
        for at in 0..entry.len() * 8 {
            let mut bad = entry.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(proof.verify(&bad, &policy).is_err(), "entry bit {at}");
        }
        let text = proof.to_string().into_bytes();
        for at in 0..text.len() * 8 {
            let mut bad = text.clone();
            bad[at / 8] ^= 1 << (at % 8);
            // A change may make a signature line one of an unknown key, which is ignored; then
            // the log or the quorum is missing.
            let holds = TlogProof::parse(&bad).is_ok_and(|p| p.verify(&entry, &policy).is_ok());
            assert!(!holds, "proof bit {at}");
        }
    }

    #[test]
    fn text_that_is_not_quite_a_proof_is_refused() {
        let text = sample().1.to_string();
        for (from, to) in [
            ("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"),
            ("index 11", "index 011"),
            ("index 11", "extra ***\nindex 11"),
            ("index 11\n", ""),
            ("\n\nl.example", "\nl.example"),
            ("index 11\n", "index 11\nAAAA\n"),
        ] {
            assert!(text.contains(from));
            assert!(TlogProof::parse(text.replace(from, to).as_bytes()).is_err(), "{to:?}");
        }
    }
}
