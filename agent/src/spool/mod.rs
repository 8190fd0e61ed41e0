//! The spool: where sealed batches and source positions become durable, and
//! where batches stay until their receipts are verified.
//!
//! What others may rely on:
//!
//! - **A batch and the positions behind it are one write.** After any crash
//!   either both are there or neither is, so no line is lost between a source
//!   and the log, and none is taken twice.
//! - **Nothing leaves the machine before it is durable**: readers see durable
//!   batches only. Hence the same bytes are sent again after a restart, and no
//!   second seal is ever made at one size.
//! - **A batch stays** until [`Spool::release`] says that its receipt was verified.
//! - **A spool belongs to one agent, ledger and key**, and says so when it is
//!   opened for another.
//!
//! The bytes are described in `docs/formats.md`.

mod error;
mod format;
mod inbox;
mod positions;
mod recover;
mod store;
mod writer;

pub use error::SpoolError;
pub use format::{BatchRecord, Decoded, FormatError, StateRecord, decode};
pub use inbox::{Ended, Inbox, Item, MAX_QUEUED};
pub use positions::{NamedChange, Positions};
pub use recover::Backlog;
pub use store::{Durable, Owner, SourceNames, Spool, SpoolOptions};
pub use writer::{Writer, WriterParts};
