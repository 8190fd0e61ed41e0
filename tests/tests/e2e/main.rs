//! End-to-end tests: real programs, real sockets on loopback, real files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails loudly")]

mod node;
mod seals;
mod spine;
