//! Why a spool cannot be used, and what to do.

use std::path::PathBuf;

use journal::{Damage, Seq};

use super::FormatError;

/// A spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// Machine, or another process: see the journal's own error.
    #[error("the spool: {0}")]
    Journal(#[from] journal::Error),
    /// Machine, or an intruder: records that no receipt covers are no longer what was written.
    #[error(
        "the spool in {} is damaged, and records without a receipt may be among what is lost ({damage}): restore the \
         directory from a backup; if there is none, keep it as it is and enrol this machine under a new name",
        dir.display()
    )]
    Damaged {
        /// The spool's directory.
        dir: PathBuf,
        /// What is damaged.
        damage: Box<Damage>,
    },
    /// A newer program, or an intruder: a record cannot be read although its checksum holds.
    #[error("the spool in {} holds a record ({seq}) that this program cannot read: {problem}", dir.display())]
    Format {
        /// The spool's directory.
        dir: PathBuf,
        /// The record.
        seq: Seq,
        /// What is wrong with it.
        problem: FormatError,
    },
    /// Machine, or an intruder: records do not follow each other.
    #[error(
        "the spool in {} does not hold together: record {seq} {problem}; restore the directory from a backup",
        dir.display()
    )]
    Inconsistent {
        /// The spool's directory.
        dir: PathBuf,
        /// The first record that does not follow.
        seq: Seq,
        /// What does not.
        problem: String,
    },
    /// Configuration: the spool is somebody else's.
    #[error(
        "the spool in {} belongs to {what} '{found}', but the configuration says '{configured}': configure the \
         directory, name, policy and key that belong together, or another directory", dir.display()
    )]
    Foreign {
        /// The spool's directory.
        dir: PathBuf,
        /// What differs: the agent, the ledger or the key.
        what: &'static str,
        /// What the spool says.
        found: String,
        /// What the configuration says.
        configured: String,
    },
}
