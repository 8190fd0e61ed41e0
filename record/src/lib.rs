//! What an auditor needs to check logseal's evidence, and what the agent and
//! the ledger need to make it: entries, batches, Merkle trees, notes,
//! checkpoints, seals, receipts and proofs.
//!
//! This crate is pure. It names no file, socket, clock, runtime or random
//! source; time and key material come in as arguments. Every decoder takes
//! bytes from anywhere and answers with a checked type or with an error; none
//! panics, and none allocates more than its documented bound.
//!
//! The formats are written down, with examples, in `docs/formats.md`.

pub mod batch;
pub mod block;
pub mod bytes;
pub mod checkpoint;
pub mod cosignature;
pub mod crypto;
pub mod declaration;
pub mod enrolment;
pub mod entry;
pub mod equivocation;
pub mod fault;
pub mod follow;
pub mod merkle;
pub mod name;
pub mod note;
pub mod policy;
pub mod proof;
pub mod receipt;
pub mod seal;
pub mod time;
pub mod witness;

mod base64;

pub use checkpoint::{Checkpoint, Origin};
pub use fault::FaultModel;
pub use merkle::{Hash, TreeSize};
pub use name::{AgentName, NodeName};
pub use time::{UnixMillis, UnixSeconds};
