//! The agent: from the lines of gateways to sealed batches in the ledger.
//!
//! ```text
//! sources ──events──► seal thread ──batches──► spool thread ──durable──► uplink ──► ledger
//!    ▲                (pipeline)   (inbox)     (one fdatasync            │
//!    │                                          a group)   ◄──release────┘ verified receipts
//!    └── positions of files are durable with the batch behind them
//! ```
//!
//! Every arrow is bounded, so whatever cannot go on holds back what is in front
//! of it, up to the files and senders. Nothing is acknowledged before it is
//! durable, nothing leaves the machine before it is durable, and nothing
//! durable is given up before its receipt was verified.

pub mod board;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod fatal;
pub mod leaves;
pub mod metrics;
pub mod prepare;
pub mod pulse;
pub mod run;
pub mod seal_key;
pub mod seal_loop;
pub mod shadow;
pub mod sources;
pub mod spool;
pub mod tickets;
pub mod uplink;
