//! The durable append-only log that is the only way anything becomes durable: the agent's spool, the ledger's block
//! log and the consensus write-ahead log are each one [`Journal`].
//!
//! What a caller may rely on:
//!
//! * **A record that [`Journal::sync`] acknowledged is there after any crash**, byte for byte, or the journal says by
//!   name what became of it. Nothing that was acknowledged disappears silently behind something that is still there.
//! * **A crash leaves a prefix.** Records that were appended but not acknowledged survive up to some point and none
//!   beyond it, even when the disk kept later ones. What survived is made durable before [`Journal::open`] returns.
//! * **A torn tail is not damage, and damage is not a torn tail.** Every record carries the number of records that
//!   were durable when it was written, so a later record proves which earlier ones had been acknowledged. Unreadable
//!   bytes that nothing proves durable are cut; unreadable bytes that something does are reported as [`Damage`], and
//!   the valid records behind them stay readable. A clean close leaves such a proof for the last records too; after
//!   a crash the last synced group has none, so damage done to that group looks like a torn tail.
//! * **A failed write or sync ends writing.** After a failed fsync nobody knows what the disk holds: the journal
//!   refuses everything further ([`Error::Poisoned`]) and the process is to be stopped. A full disk is different:
//!   [`Error::Full`] means that nothing of the refused record counts, and that the call may be repeated.
//! * **No bytes on disk make it panic**, and no size read from disk is allocated before it has been checked.
//!
//! What it cannot know: whether whole segments at its front were released or removed by somebody, and whether the
//! directory as a whole is an older copy of itself. Its users compare it with what others hold.
//!
//! The bytes on disk are described in `docs/formats.md`.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! use logseal_journal::{Journal, Options, Seq};
//!
//! let (mut journal, recovery) = Journal::open(dir.path().join("spool"), Options::default())?;
//! assert!(recovery.damage.is_empty());
//! let seq = journal.append(&[b"head, ", b"body"])?;
//! assert_eq!(journal.sync()?, Seq(1));
//! assert_eq!(journal.reader().read(seq)?, b"head, body");
//! journal.close()?;
//! # Ok(())
//! # }
//! ```

mod active;
mod error;
mod files;
mod format;
mod index;
mod journal;
mod reader;
mod recover;
mod restore;
mod scan;
mod sealed;
mod segment;

use std::fmt;

pub use error::{Damage, DamageKind, Error, TornTail};
pub use format::{MAX_RECORD_BYTES, MAX_SEGMENT_BYTES};
pub use journal::{Journal, Options};
pub use reader::{Iter, Reader, open_read_only, open_read_only_as};
pub use recover::{Look, Recovery};
#[doc(hidden)]
pub use scan::{Gap, HeaderState, Scan, scan};
#[doc(hidden)]
pub use sealed::decode_offsets;
pub use segment::{Extent, Segment};

/// The number of a record: the first record of a journal is 0, and there are no holes. Also used for ends of ranges,
/// where it is one past the last record. Always below 2^63.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
