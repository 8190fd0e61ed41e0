//! What can go wrong, whose fault it is, and what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::Seq;

/// Why a journal operation did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Configuration: another process, or another handle in this one, writes to this journal.
    #[error(
        "{} is in use by another process: stop that process, or give this one another directory \
         (auditors can open it read-only meanwhile)", dir.display()
    )]
    Locked {
        /// The journal's directory.
        dir: PathBuf,
    },
    /// Configuration: an option is out of its bounds.
    #[error("journal option {option} is {value}: it must be {bounds}")]
    Options {
        /// The field of [`crate::Options`].
        option: &'static str,
        /// What it was set to.
        value: u64,
        /// What would be accepted.
        bounds: &'static str,
    },
    /// Caller: the record is longer than [`crate::Options::max_record_bytes`]. Nothing was written.
    #[error("a record of {length} bytes is larger than the journal's limit of {limit} bytes")]
    TooLarge {
        /// Payload bytes of the refused record.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Machine: no space. What was refused does not count, nothing that was acknowledged is affected, and the
    /// same call may be repeated when there is space again.
    #[error("no space left for the journal in {}: free space on this file system, then it goes on", dir.display())]
    Full {
        /// The journal's directory.
        dir: PathBuf,
    },
    /// Machine: the operating system refused an operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Machine: an earlier write or sync failed, so what the disk holds is unknown. The process must stop; the next
    /// start recovers what is there.
    #[error(
        "the journal in {} had a failed write: stop this process, check the disk and start again", dir.display()
    )]
    Poisoned {
        /// The journal's directory.
        dir: PathBuf,
    },
    /// Configuration: a segment was written by a newer version of this program. Nothing was changed.
    #[error(
        "{} has format version {found}, this program knows version {known}: use the newer program", segment.display()
    )]
    Version {
        /// The segment file.
        segment: PathBuf,
        /// The version in its header.
        found: u16,
        /// The version this program writes.
        known: u16,
    },
    /// Caller: the record was released, or the journal begins behind it.
    #[error("record {seq} was released: the journal begins at {first}")]
    Released {
        /// The record asked for.
        seq: Seq,
        /// The oldest record that is left.
        first: Seq,
    },
    /// Caller: the record is not durable yet, or does not exist. Records can be read, and released, once synced.
    #[error("record {seq} is not durable: the journal is durable up to {durable}")]
    NotDurable {
        /// The record asked for.
        seq: Seq,
        /// One past the last durable record.
        durable: Seq,
    },
    /// Caller: what is to be put back is not what is there, or does not belong there. Nothing was written.
    #[error("record {seq} cannot be put back into {}: what is there can be read, and is something else", segment.display())]
    Conflict {
        /// The segment that would have been written.
        segment: PathBuf,
        /// The record.
        seq: Seq,
    },
    /// Machine: the record was durable once, and its bytes are no longer what was written.
    #[error("{0}: restore the file from a copy, or fetch these records from another holder")]
    Damaged(Damage),
}

impl Error {
    /// For `map_err`: an operating system's error becomes [`Error::Io`] with a name for what was attempted.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// Whether the operating system's answer was that a file does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Whether an error says that there is no space, be it of the device or of a quota.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What was damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// A segment's header. Records are read without it, so by itself it costs none.
    Header,
    /// Bytes inside a segment that are neither a valid record nor unused space.
    Bytes,
    /// Records that should be there are gone without a trace: a segment was cut short or removed.
    Missing,
}

/// Something that had been durable and is no longer what was written: the machine's or an intruder's doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment file; for missing records, the one that they should follow in.
    pub segment: PathBuf,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// The first record lost.
    pub first_seq: Seq,
    /// One past the last record lost; equal to `first_seq` when bytes were hit that held no record.
    pub last_seq: Seq,
    /// What was damaged.
    pub kind: DamageKind,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            DamageKind::Header => "a damaged header",
            DamageKind::Bytes => "damaged bytes",
            DamageKind::Missing => "records missing",
        };
        write!(f, "{} has {what} at byte {}: ", self.segment.display(), self.offset)?;
        match self.last_seq.0.saturating_sub(self.first_seq.0) {
            0 => write!(f, "no record is lost"),
            1 => write!(f, "record {} is lost", self.first_seq),
            _ => write!(
                f,
                "records {} up to, not including, {} are lost",
                self.first_seq, self.last_seq
            ),
        }
    }
}

/// The unacknowledged end of a journal that a crash left incomplete. This is what a crash looks like, not a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The last segment.
    pub segment: PathBuf,
    /// Where it was cut, in bytes.
    pub offset: u64,
    /// Bytes that were cut, not counting unused space.
    pub bytes: u64,
    /// The number that the next record gets.
    pub next_seq: Seq,
}
