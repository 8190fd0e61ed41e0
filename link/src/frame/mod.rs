//! Frames: a length of four bytes, big-endian, and that many bytes.
//!
//! ```text
//! +------------+---------------------+
//! | length u32 | payload             |   1 <= length <= the reader's maximum
//! +------------+---------------------+
//! ```
//!
//! A length of zero or beyond the maximum is the peer's fault and ends the
//! connection; only between nodes an empty frame is a sign of life. Memory is taken as bytes arrive, never because a length
//! announced them.

mod codec;
mod reader;
mod writer;

use std::io;

pub use codec::{CodecError, MAX_MESSAGE_BYTES, from_bytes, to_bytes};
pub use reader::FrameReader;
pub use writer::FrameWriter;

/// The length's own length, in bytes.
pub const HEADER_BYTES: usize = 4;

/// Why frames cannot go on. The connection is to be dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Peer: a frame of no bytes.
    #[error("the peer sent an empty frame: it does not speak this protocol")]
    Empty,
    /// Peer: a frame beyond the maximum.
    #[error(
        "the peer announced a frame of {length} bytes, more than the {max} allowed: it does not \
         speak this protocol, or its limits are set higher than here"
    )]
    TooLong {
        /// What it announced, in bytes.
        length: u32,
        /// What is allowed, in bytes.
        max: u32,
    },
    /// Peer or network: the stream ended within a frame.
    #[error("the connection ended within a frame, after {had} of {wanted} bytes")]
    Truncated {
        /// How many bytes of the header or payload had come.
        had: usize,
        /// How many it has.
        wanted: usize,
    },
    /// This program: a message beyond what the peer will take. Nothing was sent.
    #[error(
        "a frame of {length} bytes is more than the {max} that may be sent: lower the limits \
             that make messages this large"
    )]
    TooLongToSend {
        /// Its length, in bytes.
        length: usize,
        /// What may be sent, in bytes.
        max: u32,
    },
    /// This program: a frame was left half written, so no other may follow.
    #[error("an earlier frame was given up half written: the connection must be dropped")]
    HalfWritten,
    /// Peer: the payload is no message. This program: a message has no encoding.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Network or peer: reading or writing failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// A maximum as a header can hold it.
fn checked_max(max: usize) -> u32 {
    let max = u32::try_from(max).expect("a frame's maximum must fit into its header");
    assert!(max > 0, "a maximum of nothing allows no frame");
    max
}
