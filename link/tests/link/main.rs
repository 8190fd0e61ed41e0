//! Connections between real sockets with real certificates, and frames.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod agreement;
mod files;
mod frames;
mod handshakes;
mod messages;
mod reload;
mod support;
