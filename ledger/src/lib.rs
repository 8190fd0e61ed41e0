//! A node of the ledger.
//!
//! ```text
//! agents ──mTLS──► intake (one task a connection: verify) ──► node (one thread: order, append,
//! cosign) ──► store            receipts ◄───────────────────┘        │
//! auditors ──HTTPS──► http: /checkpoint, /tile/… ◄── store reader ◄──┘
//! ```
//!
//! What was acknowledged with a receipt is durable, cosigned, and has its place
//! in a tree that only grows.

pub mod cli;
pub mod config;
pub mod http;
pub mod intake;
pub mod keys;
mod listen;
pub mod metrics;
pub mod node;
pub mod peers;
pub mod rejoin;
pub mod run;
pub mod scrub;
pub mod store;
pub mod view;
pub mod witnesses;
