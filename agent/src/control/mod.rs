//! The agent's local socket: what it is doing, for whoever may open it.
//!
//! One request a connection, as a line of JSON; the answer is one line, or for a
//! tap one line a record until either side ends. The socket lies beside the spool
//! in a directory that belongs to the agent's user, and has mode 0600: whoever can
//! open it can read the spool anyway. It only tells; nothing can be changed by it.

mod client;
mod message;
mod server;

pub use client::{Client, ClientError};
pub use message::{
    Ask, FileStatus, LogStatus, NodeStatus, SourceStatus, SpoolStatus, Status, Tapped, UplinkStatus,
};
pub use server::{BindError, Control, Tap};
