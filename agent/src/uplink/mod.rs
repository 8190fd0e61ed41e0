//! The uplink: hands sealed batches to the ledger and lets go of them only
//! when it has verified their receipts itself.
//!
//! - It reads durable batches from the spool by number, so what it sends after
//!   a restart is bit for bit what it sent before.
//! - A window of batches is under way at a time ([`window`]); reading and
//!   writing never wait for each other ([`session`]).
//! - The nearest healthy node is used ([`nodes`]). Nothing a node says makes it
//!   drop a batch: one that is down, refuses, lies, is silent or gives no receipts
//!   is named in the log, and the next one is tried.
//! - When the ledger holds another history than the spool, the agent stops
//!   ([`StopReason`]): going on could sign two roots at one size.

mod backoff;
mod cursor;
mod hello;
mod judge;
mod nodes;
mod reporter;
mod rounds;
mod session;
mod settings;
mod trouble;
mod verify;
mod window;

pub use judge::{Ours, StopReason, judge};
pub use rounds::{Feed, Uplink, establish};
pub use settings::{Timing, UplinkSettings};
