//! How a node begins a connection to another node, over a [`crate::frame`] connection.
//!
//! A node dials each of its peers once for each [`Lane`] and sends on what it
//! dialled; what it receives comes on connections that the peer dialled. The
//! first frame is [`PeerHello`], the answer [`PeerAnswer`]; both are at most
//! [`MAX_GREETING`] bytes. After a welcome, frames are what the lane carries,
//! and empty ones, which mean that the sender lives.
//!
//! These messages are transport only, like those of [`crate::message`].

use bincode::{Decode, Encode};
use std::fmt;

/// The version of what nodes say to each other. Both sides must have the same.
pub const PEER_PROTOCOL: u16 = 1;
/// The largest frame before the greeting is over, in bytes: a few names.
pub const MAX_GREETING: usize = 4 << 10;
/// The largest frame of [`Lane::Control`], in bytes: a proposal that names 1,024
/// batches and 256 enrolments, with the 64 signatures of its predecessor's certificate, is
/// below 64 KiB; the rest is room for the next version.
pub const MAX_CONTROL: usize = 256 << 10;
/// The largest frame of [`Lane::Bulk`], in bytes: a block of 8 MiB, its certificate, and half as
/// much again.
pub const MAX_BULK: usize = 12 << 20;

/// Which connection a frame takes, so that votes never wait behind batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Lane {
    /// Votes, proposals, questions: small, and all progress waits for them.
    Control,
    /// Batches and blocks.
    Bulk,
}

/// The first frame of a connection, from the node that dialled.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PeerHello {
    /// [`PEER_PROTOCOL`].
    pub protocol: u16,
    /// The ledger's origin.
    pub origin: String,
    /// The digest of who the members are.
    pub membership: [u8; 32],
    /// What this connection is for.
    pub lane: Lane,
    /// The program's version.
    pub version: String,
}

/// The answer to [`PeerHello`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PeerAnswer {
    /// Frames may follow.
    Welcome(PeerWelcome),
    /// The connection ends.
    Refused(PeerRefused),
}

/// A peer takes frames.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PeerWelcome {
    /// The peer's version.
    pub version: String,
}

/// A peer takes no frames.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PeerRefused {
    /// Why, for programs.
    pub code: PeerRefusal,
    /// Why, and what to do, for people.
    pub message: String,
}

/// Why a peer refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum PeerRefusal {
    /// The programs do not speak the same protocol.
    Protocol,
    /// The nodes belong to different ledgers.
    Origin,
    /// The nodes' members files do not say the same.
    Membership,
    /// The members file names no such node.
    Unknown,
}

impl Lane {
    /// Both.
    pub const ALL: [Lane; 2] = [Lane::Control, Lane::Bulk];

    /// The largest frame, in bytes.
    pub fn max_frame(self) -> usize {
        match self {
            Lane::Control => MAX_CONTROL,
            Lane::Bulk => MAX_BULK,
        }
    }

    /// Its name in log lines and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Control => "control",
            Lane::Bulk => "bulk",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PeerRefusal {
    /// One of a closed list of words, for counting.
    pub fn label(self) -> &'static str {
        match self {
            PeerRefusal::Protocol => "protocol",
            PeerRefusal::Origin => "origin",
            PeerRefusal::Membership => "membership",
            PeerRefusal::Unknown => "unknown-node",
        }
    }
}
