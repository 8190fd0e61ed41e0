//! Why a connection between nodes ended, who is at fault, and what to do.

use link::{
    frame::FrameError,
    peer::PeerRefused,
    tls::{Fault, HandshakeError, Problem},
};
use record::NodeName;
use std::time::Duration;

/// Why a connection to or from a peer ended, or did not come about.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    /// No TLS connection.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// An established connection broke.
    #[error(transparent)]
    Broken(Problem),
    /// Another node than the one that should be there.
    #[error(
        "the node at {address} is '{found}', not '{expected}': correct the addresses in the \
         members file, or the node's certificate"
    )]
    WrongNode {
        /// Where we connected to.
        address: String,
        /// Who should be there.
        expected: NodeName,
        /// Who is there.
        found: String,
    },
    /// The peer does not take us.
    #[error("the peer refused: {}", .0.message.chars().take(500).collect::<String>())]
    Refused(PeerRefused),
    /// We do not take the peer; it has been told.
    #[error("{}", .0.message)]
    NotTaken(PeerRefused),
    /// What was sent is no frame, or too large.
    #[error(transparent)]
    Frame(FrameError),
    /// Frames where none may be.
    #[error("the peer sent frames on a connection on which it only receives")]
    Unasked,
    /// It closed the connection.
    #[error("the peer closed the connection")]
    Ended,
    /// Nothing came.
    #[error("nothing came from the peer for {0:?}: is it overloaded, or the network down?")]
    Silent(Duration),
    /// A newer connection of the same peer took its place.
    #[error("a newer connection took its place")]
    Replaced,
    /// It was not replaced in time.
    #[error("the peer did not renew the connection within {0:?}")]
    TooOld(Duration),
    /// The node no longer takes frames.
    #[error("this node is stopping")]
    Stopping,
}

impl PeerError {
    /// Who has to do something about it.
    pub(super) fn fault(&self) -> Fault {
        match self {
            PeerError::Handshake(error) => error.fault(),
            PeerError::Broken(problem) => problem.fault(),
            PeerError::WrongNode { .. } | PeerError::Refused(_) | PeerError::NotTaken(_) => {
                Fault::Configuration
            }
            PeerError::Frame(FrameError::Truncated { .. })
            | PeerError::Ended
            | PeerError::Silent(_)
            | PeerError::Replaced
            | PeerError::Stopping => Fault::Network,
            PeerError::Frame(_) | PeerError::Unasked | PeerError::TooOld(_) => Fault::Peer,
        }
    }

    /// One of a closed list of words, for counting and for telling situations apart.
    pub(super) fn label(&self) -> &'static str {
        match self {
            PeerError::Handshake(error) => error.problem.label(),
            PeerError::Broken(problem) => problem.label(),
            PeerError::WrongNode { .. } => "wrong-node",
            PeerError::Refused(refused) | PeerError::NotTaken(refused) => refused.code.label(),
            PeerError::Frame(_) => "frame",
            PeerError::Unasked => "unasked",
            PeerError::Ended => "ended",
            PeerError::Silent(_) => "silent",
            PeerError::Replaced => "replaced",
            PeerError::TooOld(_) => "too-old",
            PeerError::Stopping => "stopping",
        }
    }
}

impl From<FrameError> for PeerError {
    /// What TLS says through a read is said in its own words.
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => PeerError::Broken(Problem::from_io(error)),
            other => PeerError::Frame(other),
        }
    }
}
