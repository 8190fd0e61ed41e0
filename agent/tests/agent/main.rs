//! The agent against a ledger of the test's own, over real TLS and on a real disk.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

mod config;
mod control;
mod failover;
mod fake_node;
mod full_disk;
mod local_sources;
mod process;
mod refusals;
mod reload;
mod shadow;
mod spool;
mod support;
#[cfg(feature = "top")]
mod top;
mod try_lines;
mod uplink;
