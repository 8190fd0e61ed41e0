//! What a log and its outside witnesses say to each other: <https://c2sp.org/tlog-witness>.
//!
//! [`judge`] decides what a witness answers; it has no state and no clock. Whoever calls it must
//! hold the log's state from the judgement until the new one is durable: that is what makes a
//! witness's word worth something.

use crate::{
    checkpoint::parse_decimal,
    crypto::sha256,
    merkle::{Hash, TreeSize, empty_root, verify_consistency},
    note::{MAX_NOTE_LEN, NoteError, NoteSignature, SignedNote, VerifierKey},
};
use std::fmt;

/// The most lines of a consistency proof.
pub const MAX_PROOF_LINES: usize = 63;
/// The most bytes of a request here: a checkpoint of many signatures, and its proof.
pub const MAX_REQUEST: usize = 64 << 10;
/// The content type of the size that a conflict is answered with.
pub const SIZE_TYPE: &str = "text/x.tlog.size";

/// The body of an `add-checkpoint` request, nothing of it verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the checkpoint that the witness is thought to have cosigned last.
    pub old: TreeSize,
    /// That its tree is the beginning of the new one.
    pub proof: Vec<Hash>,
    /// The new checkpoint.
    pub checkpoint: SignedNote,
}

/// Bytes are not an `add-checkpoint` request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddCheckpointError {
    /// Longer than [`MAX_REQUEST`].
    #[error("the request is longer than {MAX_REQUEST} bytes")]
    TooLong,
    /// No blank line in front of the checkpoint, or not UTF-8.
    #[error("the request is not lines of text, a blank line and a checkpoint")]
    Text,
    /// The first line.
    #[error("the request does not begin with a line 'old SIZE'")]
    Old,
    /// A line of the proof.
    #[error("line {0} of the request is not the base64 of a hash")]
    Hash(usize),
    /// More than [`MAX_PROOF_LINES`].
    #[error("the proof has more than {MAX_PROOF_LINES} hashes")]
    TooManyHashes,
    /// The checkpoint is no note.
    #[error("the checkpoint: {0}")]
    Note(#[from] NoteError),
}

impl AddCheckpoint {
    /// Parses a request's body.
    pub fn parse(bytes: &[u8]) -> Result<Self, AddCheckpointError> {
        if bytes.len() > MAX_REQUEST.min(MAX_NOTE_LEN) {
            return Err(AddCheckpointError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| AddCheckpointError::Text)?;
        let (head, note) = text.split_once("\n\n").ok_or(AddCheckpointError::Text)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| parse_decimal(line.strip_prefix("old ")?));
        let old = TreeSize(old.ok_or(AddCheckpointError::Old)?);
        let mut proof = Vec::new();
        for (number, line) in (2..).zip(lines) {
            if proof.len() == MAX_PROOF_LINES {
                return Err(AddCheckpointError::TooManyHashes);
            }
            proof.push(Hash::from_base64(line).ok_or(AddCheckpointError::Hash(number))?);
        }
        Ok(AddCheckpoint { old, proof, checkpoint: SignedNote::parse(note.as_bytes())? })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// What the text of any log's checkpoint says. Unlike a [`crate::Checkpoint`] it may be of a log
/// whose origin is not one that logseal would give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// The log.
    pub origin: String,
    /// Its number of entries.
    pub size: TreeSize,
    /// The root at that size.
    pub root: Hash,
}

impl TreeHead {
    /// Reads a note's text; `None` if it is no checkpoint.
    pub fn of(note: &SignedNote) -> Option<Self> {
        let mut lines = note.text().strip_suffix('\n')?.split('\n');
        let mut line = || lines.next().filter(|line| !line.is_empty());
        let (origin, size, root) = (line()?, line()?, line()?);
        let head = TreeHead {
            origin: origin.to_owned(),
            size: TreeSize(parse_decimal(size)?),
            root: Hash::from_base64(root)?,
        };
        lines.all(|line| !line.is_empty()).then_some(head)
    }
}

/// Why a witness does not cosign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No key that is trusted for the log signed, or a signature of one does not hold.
    #[error("the checkpoint is not signed by a trusted key of its log: {0}")]
    Signature(NoteError),
    /// The old size is beyond the checkpoint's.
    #[error("the old size is greater than the checkpoint's")]
    OldBeyondNew,
    /// The old size is not that of the latest checkpoint that was cosigned.
    #[error("the latest checkpoint cosigned is of size {latest}")]
    Conflict {
        /// Which is.
        latest: TreeSize,
    },
    /// The checkpoint is no extension of the one cosigned before.
    #[error("the checkpoint is not shown to be consistent with the one cosigned before")]
    Inconsistent,
}

impl Refusal {
    /// The HTTP status that the specification asks for.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Signature(_) => 403,
            Refusal::OldBeyondNew => 400,
            Refusal::Conflict { .. } => 409,
            Refusal::Inconsistent => 422,
        }
    }
}

/// Decides whether a witness cosigns: `head` is what the request's checkpoint says, `keys` are
/// those trusted for its log, `latest` what was cosigned last.
///
/// # Errors
/// Why not, in the order in which the specification asks.
pub fn judge(
    request: &AddCheckpoint,
    head: &TreeHead,
    keys: &[VerifierKey],
    latest: Option<&TreeHead>,
) -> Result<(), Refusal> {
    request.checkpoint.verify(keys).map_err(Refusal::Signature)?;
    if request.old > head.size {
        return Err(Refusal::OldBeyondNew);
    }
    let empty = TreeHead { origin: head.origin.clone(), size: TreeSize(0), root: empty_root() };
    let latest = latest.unwrap_or(&empty);
    if request.old != latest.size {
        return Err(Refusal::Conflict { latest: latest.size });
    }
    if head.size.0 == 0 && head.root != empty_root() {
        return Err(Refusal::Inconsistent);
    }
    let (old, new) = ((latest.size, latest.root), (head.size, head.root));
    verify_consistency(&request.proof, old, new).map_err(|_| Refusal::Inconsistent)
}

/// The cosignatures in a witness's answer to the checkpoint with this text, not verified.
///
/// # Errors
/// The answer is not signature lines.
pub fn parse_cosignatures(text: &str, answer: &[u8]) -> Result<Vec<NoteSignature>, NoteError> {
    let note = [text.as_bytes(), b"\n", answer].concat();
    SignedNote::parse(&note).and_then(|note| match note.text() == text {
        true => Ok(note.signatures().to_vec()),
        false => Err(NoteError::NoSignatures),
    })
}

/// The size in a witness's answer to a checkpoint that does not follow its latest.
pub fn parse_size(answer: &[u8]) -> Option<TreeSize> {
    let text = std::str::from_utf8(answer).ok()?;
    parse_decimal(text.strip_suffix('\n')?).map(TreeSize)
}

/// How a witness's monitoring prefix names a log: the SHA-256 of its origin, in hexadecimal.
pub fn origin_hash(origin: &str) -> String {
    sha256(&[origin.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "witness/tests.rs"]
mod tests;
