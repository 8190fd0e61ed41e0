//! Why a connection to a node came to nothing, or to an end.

use std::time::Duration;

use link::{
    frame::FrameError,
    message::{PROTOCOL, Refusal, RefusalCode},
    tls::{HandshakeError, Problem},
};
use record::{
    AgentName, Origin,
    note::{NoteError, VerifierKey},
    receipt::ReceiptError,
};

use super::{StopReason, settings::Timing};

/// What happened with a node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// No connection.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The connection failed; with TLS 1.3 a refused certificate shows here.
    #[error("{0}")]
    Broken(Problem),
    /// Frames or messages that are none.
    #[error(transparent)]
    Frame(FrameError),
    /// The node closed the connection.
    #[error("the node closed the connection")]
    Closed,
    /// Nothing came for too long.
    #[error("the node was silent for {0:?}")]
    Silent(Duration),
    /// It lives, and gives no receipts.
    #[error(
        "the node gave no receipt for {0:?}: it, or the whole ledger, is overloaded or cannot reach a quorum"
    )]
    Slow(Duration),
    /// Nothing is wrong: another node is nearer.
    #[error("another node is nearer")]
    Nearer,
    /// An answer to nothing that was asked.
    #[error("the node sent a message that is no answer to an agent: do both run the same version?")]
    Unexpected,
    /// Certificate and words disagree.
    #[error("the node calls itself '{said}', but its certificate is that of '{certified}'")]
    NodeName {
        /// Its own word.
        said: String,
        /// Its certificate's.
        certified: String,
    },
    /// Another version of the messages.
    #[error(
        "the node speaks version {theirs} of the protocol, this agent version {PROTOCOL}: update the older of the two"
    )]
    Protocol {
        /// The node's version.
        theirs: u16,
    },
    /// Another ledger.
    #[error(
        "the node belongs to the ledger '{theirs}', but the policy is for '{ours}': correct 'ledger.nodes' or 'policy'"
    )]
    Origin {
        /// The node's ledger.
        theirs: String,
        /// Ours.
        ours: Origin,
    },
    /// Another enterprise number.
    #[error(
        "the ledger uses the enterprise number {theirs}, this agent {ours}: set 'enterprise = {theirs}'"
    )]
    Enterprise {
        /// The ledger's.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// The ledger does not know this agent.
    #[error(
        "agent '{agent}' is not enrolled, so the ledger takes nothing from it: let an operator run \
         logseal enrol --agent {agent} --vkey '{vkey}'"
    )]
    NotEnrolled {
        /// The agent.
        agent: AgentName,
        /// Its verifier key.
        vkey: Box<VerifierKey>,
    },
    /// Somebody else speaks for this agent.
    #[error(
        "another connection speaks for agent '{agent}' already: if that is not this agent's own last one, which ends \
         soon, another machine runs under the same name ({message})"
    )]
    AlreadyConnected {
        /// The agent.
        agent: AgentName,
        /// The node's words.
        message: String,
    },
    /// The node does not know yet what it gave receipts for, or has forgotten it.
    #[error(
        "the node has {next} records of this agent, but receipts for {base} were verified: it lags behind, or it has \
         lost what it signed for"
    )]
    Behind {
        /// Records it has.
        next: u64,
        /// Records with receipts.
        base: u64,
    },
    /// The node waits for another batch.
    #[error("the node waits for another batch of this agent: {0}")]
    NotNext(String),
    /// The node cannot take more.
    #[error("the node takes nothing at the moment: {0}")]
    Busy(String),
    /// The node refused a batch for what it is.
    #[error(
        "the node refused a batch ({code:?}): {message}; the batch stays in the spool and is offered again"
    )]
    Rejected {
        /// Why.
        code: RefusalCode,
        /// The node's words.
        message: String,
    },
    /// The node refused something else.
    #[error("the node refused ({code:?}): {message}")]
    Refused {
        /// Why.
        code: RefusalCode,
        /// The node's words.
        message: String,
    },
    /// A receipt that is no proof: the node is at fault.
    #[error(
        "the node gave a receipt that does not prove that records {start} to {end} are in the ledger: {problem}"
    )]
    Receipt {
        /// The batch's first record.
        start: u64,
        /// The index behind its last one.
        end: u64,
        /// Why it is none.
        problem: ReceiptProblem,
    },
    /// The agent must not go on.
    #[error(transparent)]
    Stop(#[from] StopReason),
}

/// Why a receipt is no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptProblem {
    /// The checkpoint is no note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// It does not verify.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// It verifies for another ledger.
    #[error("it is of the ledger '{0}'")]
    Ledger(Origin),
}

impl Trouble {
    /// What a refusal means.
    pub(super) fn refused(refusal: Refusal, agent: &AgentName, vkey: &VerifierKey) -> Self {
        let Refusal { code, message, .. } = refusal;
        let agent = agent.clone();
        match code {
            RefusalCode::NotEnrolled => {
                Trouble::NotEnrolled { agent, vkey: Box::new(vkey.clone()) }
            }
            RefusalCode::AlreadyConnected => Trouble::AlreadyConnected { agent, message },
            RefusalCode::NotNext => Trouble::NotNext(message),
            RefusalCode::Busy => Trouble::Busy(message),
            RefusalCode::Conflict | RefusalCode::Invalid => Trouble::Rejected { code, message },
            _ => Trouble::Refused { code, message },
        }
    }

    /// One of a closed list of words, for counting and for noticing a change.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Trouble::Handshake(error) => error.problem.label(),
            Trouble::Broken(problem) => problem.label(),
            Trouble::Frame(_) => "frame",
            Trouble::Closed => "closed",
            Trouble::Silent(_) => "silent",
            Trouble::Slow(_) => "slow",
            Trouble::Nearer => "nearer",
            Trouble::Unexpected => "unexpected",
            Trouble::NodeName { .. } => "node_name",
            Trouble::Protocol { .. } => "protocol",
            Trouble::Origin { .. } => "origin",
            Trouble::Enterprise { .. } => "enterprise",
            Trouble::NotEnrolled { .. } => "not_enrolled",
            Trouble::AlreadyConnected { .. } => "already_connected",
            Trouble::Behind { .. } => "behind",
            Trouble::NotNext(_) => "not_next",
            Trouble::Busy(_) => "busy",
            Trouble::Rejected { .. } => "rejected",
            Trouble::Refused { .. } => "refused_request",
            Trouble::Receipt { .. } => "bad_receipt",
            Trouble::Stop(_) => "stop",
        }
    }

    /// True if something is wrong with evidence, not merely with a connection.
    pub(super) fn is_grave(&self) -> bool {
        matches!(self, Trouble::Rejected { .. } | Trouble::Receipt { .. } | Trouble::Stop(_))
    }

    /// True if the node gave what it must not have: it is avoided for long.
    pub(super) fn is_lie(&self) -> bool {
        matches!(self, Trouble::Receipt { .. })
    }

    /// How long to wait at least before the nodes are asked once more.
    pub(super) fn pause(&self, timing: &Timing) -> Duration {
        match self {
            Trouble::Rejected { .. } => timing.pause_slow,
            Trouble::Protocol { .. }
            | Trouble::Origin { .. }
            | Trouble::Enterprise { .. }
            | Trouble::NotEnrolled { .. } => timing.pause_max,
            _ => Duration::ZERO,
        }
    }
}

impl From<FrameError> for Trouble {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Trouble::Broken(Problem::from_io(error)),
            other => Trouble::Frame(other),
        }
    }
}
