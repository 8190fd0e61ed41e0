//! The transport between nodes, over real TLS on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails loudly")]

mod frames;
mod refusals;
mod support;
mod trouble;
