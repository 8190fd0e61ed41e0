//! What logseal's programs say to each other over a [`crate::frame`] connection.
//!
//! These messages are transport only: nothing that is hashed, signed or stored
//! is encoded this way. Batches, enrolments and checkpoints travel as the bytes
//! that `docs/formats.md` defines. Every message carries bounded data; a frame
//! is refused before it is allocated when it is larger than [`MAX_FRAME`].

use bincode::{Decode, Encode};
use record::{
    batch::MAX_ENCODED_BATCH,
    merkle::{EntryIndex, Hash, RangeProof},
    note::{NoteError, SignedNote},
    receipt::Receipt,
};

/// The version of these messages. Both sides say theirs first; they must be equal.
pub const PROTOCOL: u16 = 1;

/// The largest frame, in bytes: an encoded batch and what goes with it.
pub const MAX_FRAME: usize = MAX_ENCODED_BATCH + (64 << 10);

/// What a client (an agent, an operator, an auditor) sends to a node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToNode {
    /// The first message. The node answers with [`FromNode::Welcome`].
    Hello {
        /// [`PROTOCOL`] of the client.
        protocol: u16,
        /// Name and version of the program, for the log.
        program: String,
    },
    /// An agent submits a batch. Several may be under way; answers come in the order of commits.
    Submit {
        /// A [`record::batch::SealedBatch`].
        batch: Vec<u8>,
    },
    /// An operator enrols an agent's key.
    Enrol {
        /// A [`record::enrolment::Enrolment`].
        enrolment: Vec<u8>,
    },
    /// An auditor or operator asks for one record and its proofs.
    Record {
        /// Whose log.
        agent: String,
        /// The index in it.
        n: u64,
    },
    /// An auditor or operator asks how the node is.
    Status,
    /// Keeps the connection alive.
    Ping,
    /// An auditor or operator asks how the nodes are together. A ledger of one node refuses it.
    Cluster,
    /// An auditor or operator asks how the node's store is.
    Store,
    /// An auditor or operator asks what the outside witnesses of the ledger say to this node.
    Witnesses,
    /// An operator asks what can be given up if entries are kept for so many days.
    PlanPrune {
        /// Days.
        days: u32,
    },
    /// An operator declares something.
    Declare {
        /// A [`record::declaration::Declaration`].
        declaration: Vec<u8>,
    },
    /// An auditor or operator asks how long entries are kept, and what was given up.
    Retention,
}

/// What a node sends to a client.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FromNode {
    /// The answer to `Hello`.
    Welcome(Welcome),
    /// The batch that begins at `start` and ends at `size` is in the ledger.
    Receipt(BatchReceipt),
    /// A batch, or another request, is refused.
    Refused(Refusal),
    /// The enrolment is in the ledger.
    Enrolled {
        /// The ledger index of the enrolment.
        index: u64,
        /// True if the same enrolment was there before.
        already: bool,
    },
    /// The record that was asked for.
    Record(Box<RecordEvidence>),
    /// How the node is.
    Status(NodeStatus),
    /// The answer to `Ping`.
    Pong,
    /// How the nodes are, as this one sees them.
    Cluster(Box<ClusterStatus>),
    /// How the store is.
    Store(StoreStatus),
    /// What outside witnesses say.
    Witnesses(WitnessesStatus),
    /// What can be given up.
    PrunePlan {
        /// A [`record::declaration::Prune`] as a [`record::declaration::Matter`] in its binary form.
        matter: Vec<u8>,
    },
    /// The declaration is in the ledger.
    Declared {
        /// Its ledger index.
        index: u64,
    },
    /// How long entries are kept, and what was given up.
    Retention(RetentionStatus),
}

/// What a node says about itself and about the agent that connected.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Welcome {
    /// [`PROTOCOL`] of the node.
    pub protocol: u16,
    /// The node's name.
    pub node: String,
    /// The ledger's origin.
    pub origin: String,
    /// The enterprise number of the ledger's own entries.
    pub enterprise: u32,
    /// The state of the agent's log; `None` if it is not enrolled or the client is no agent.
    pub agent: Option<AgentState>,
}

/// Where an agent's log stands in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AgentState {
    /// The enrolled public key.
    pub key: [u8; 32],
    /// The index of the next record.
    pub next: u64,
    /// The root of the agent's log at that size.
    pub root: [u8; 32],
    /// The time of its newest seal, seconds since 1970.
    pub sealed: u64,
}

/// A [`Receipt`] as it travels, with the batch it is for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BatchReceipt {
    /// The batch's first record in the agent's log.
    pub start: u64,
    /// The size of the agent's log after the batch.
    pub size: u64,
    /// The time of the batch's seal: tells heartbeats of one size apart.
    pub sealed: u64,
    /// The ledger index of the first record, or of the seal of a heartbeat.
    pub first: u64,
    /// Subtrees left of the batch.
    pub left: Vec<[u8; 32]>,
    /// Subtrees right of the batch's seal.
    pub right: Vec<[u8; 32]>,
    /// The signed and cosigned checkpoint, text.
    pub checkpoint: String,
}

impl BatchReceipt {
    /// The receipt, parsed and still unverified.
    pub fn receipt(&self) -> Result<Receipt, NoteError> {
        let hashes = |hashes: &[[u8; 32]]| hashes.iter().copied().map(Hash).collect();
        Ok(Receipt {
            first: EntryIndex(self.first),
            proof: RangeProof { left: hashes(&self.left), right: hashes(&self.right) },
            checkpoint: SignedNote::parse(self.checkpoint.as_bytes())?,
        })
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RefusalCode {
    /// The client's certificate has not the role for this.
    Role,
    /// The two programs do not speak the same protocol.
    Protocol,
    /// The agent has no enrolled key: an operator must enrol it.
    NotEnrolled,
    /// Another connection speaks for this agent already.
    AlreadyConnected,
    /// The batch is not the next of this agent; `next` says which is.
    NotNext,
    /// The batch differs from the one the ledger already has at this place.
    Conflict,
    /// The batch, or the enrolment, does not verify.
    Invalid,
    /// The node cannot take more at the moment (disk full, or too much under way): try later.
    Busy,
    /// There is no such record.
    NotFound,
    /// The node has failed and is stopping.
    Failed,
}

/// A request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Refusal {
    /// Why, for programs.
    pub code: RefusalCode,
    /// Why, and what to do, for people.
    pub message: String,
    /// The agent's next index, where that is known.
    pub next: Option<u64>,
}

/// One record with everything that proves it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RecordEvidence {
    /// The record's bytes.
    pub entry: Vec<u8>,
    /// The `.tlog-proof` in the agent's log, text.
    pub agent_proof: String,
    /// The `.tlog-proof` in the ledger, text.
    pub ledger_proof: String,
    /// The agent's verifier key, text.
    pub agent_vkey: String,
    /// The agent's enrolment, an entry of the ledger.
    pub enrolment: Vec<u8>,
    /// The `.tlog-proof` of the enrolment in the ledger, text.
    pub enrolment_proof: String,
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeStatus {
    /// The node's name.
    pub node: String,
    /// Its version.
    pub version: String,
    /// The height of the newest block.
    pub height: u64,
    /// Entries in the ledger.
    pub size: u64,
    /// The newest signed and cosigned checkpoint, text.
    pub checkpoint: String,
    /// Enrolled agents and where their logs stand.
    pub agents: Vec<AgentStatus>,
    /// Bytes free on the store's disk.
    pub disk_free: u64,
    /// True while the node takes batches.
    pub accepting: bool,
}

/// How a node's store is: what the scrub found, and what was mended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct StoreStatus {
    /// When everything in it was last looked at, seconds since 1970; 0 if that has not happened since the start.
    pub scrubbed: u64,
    /// Blocks that were looked at then.
    pub blocks: u64,
    /// What was found to be wrong then, by kind.
    pub faults: Vec<(String, u64)>,
    /// The first of these, for people; empty if there was none.
    pub first_fault: String,
    /// What was mended since the start, and when it started, by kind.
    pub mended: Vec<(String, u64)>,
}

/// How long a node keeps entries, and what its ledger gave up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct RetentionStatus {
    /// Days for which it keeps entries at least; `None` if it never agrees to give any up.
    pub days: Option<u32>,
    /// How many entries were given up, from the first one on.
    pub dropped: u64,
    /// The newest block that was given up.
    pub height: u64,
    /// The first entry that is still served in a full bundle (C2SP minimum index).
    pub minimum_index: u64,
}

/// The outside witnesses that a node asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct WitnessesStatus {
    /// How many of them must cosign a checkpoint before it is served.
    pub needed: u16,
    /// Entries under the newest checkpoint that so many cosigned; `None` if there is none.
    pub size: Option<u64>,
    /// Each of them.
    pub witnesses: Vec<WitnessStatus>,
}

/// An outside witness as a node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct WitnessStatus {
    /// The name of its key.
    pub name: String,
    /// Entries under the newest checkpoint that it cosigned for this node since this was started.
    pub size: u64,
    /// When it did, seconds since 1970; 0 if it has not.
    pub time: u64,
    /// What keeps it from cosigning; empty if nothing does.
    pub problem: String,
    /// True if the problem is that the ledger was rolled back or has two histories.
    pub contradicts: bool,
}

/// An agent as a node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AgentStatus {
    /// Its name.
    pub name: String,
    /// Records in its log.
    pub records: u64,
    /// The time of its newest seal, seconds since 1970; 0 if there is none.
    pub sealed: u64,
    /// True while it is connected.
    pub connected: bool,
}

/// How a node sees the nodes of its ledger and its own part in it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClusterStatus {
    /// What the nodes are protected against: `byzantine` or `crash`.
    pub fault_model: String,
    /// How many nodes must agree.
    pub quorum: u16,
    /// How many may fail, and lie if the model is `byzantine`.
    pub tolerates: u16,
    /// Who proposes the next block in its first round.
    pub proposer: String,
    /// What the node is doing.
    pub state: NodeState,
    /// The time of its newest cosignature, seconds since 1970.
    pub signed: u64,
    /// The size of the newest checkpoint that a quorum cosigned.
    pub checkpoint_size: u64,
    /// The quorum-th newest cosignature time on it, seconds since 1970.
    pub checkpoint_time: u64,
    /// The node's clock, milliseconds since 1970.
    pub clock: u64,
    /// The other nodes.
    pub peers: Vec<PeerStatus>,
}

/// What a node of several is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum NodeState {
    /// It takes part in decisions.
    Voting,
    /// It fetches the blocks that it lacks.
    Syncing {
        /// The height it is on the way to.
        to: u64,
    },
    /// It lost what it knew of its votes, and takes part again only above a height.
    Rejoining {
        /// That height.
        until: u64,
    },
    /// No other node is connected yet.
    Waiting,
}

/// Another node, as the one that answers sees it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub address: String,
    /// True while it is connected.
    pub connected: bool,
    /// Its version; empty if it never was connected.
    pub version: String,
    /// Its newest height.
    pub height: u64,
    /// Its number of entries.
    pub size: u64,
    /// Its clock minus ours, milliseconds.
    pub offset_ms: Option<i64>,
    /// How long a message and its answer take, microseconds.
    pub rtt_us: Option<u64>,
    /// The time of its newest cosignature seen here, seconds since 1970.
    pub signed: u64,
    /// True if its proposals are not waited for.
    pub slow: bool,
    /// Milliseconds since its last message.
    pub heard: Option<u64>,
}
