//! What a replica is made with.

use super::standing::BlankStart;
use crate::{
    members::Members,
    state::{LedgerState, Params},
};
use record::{NodeName, declaration::Declaration, enrolment::Enrolment, note::NoteSigner};
use std::time::Duration;

/// Who this node is, and what it signs with.
#[derive(Debug)]
pub struct Identity {
    /// The node's name.
    pub name: NodeName,
    /// Signs checkpoints under the ledger's origin.
    pub log: NoteSigner,
    /// Cosigns checkpoints in the node's own name.
    pub cosigner: NoteSigner,
}

/// Why a node does not agree to a declaration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// No operator signed it: whoever sent it is at fault.
    #[error("a declaration by no operator")]
    Unsigned,
    /// This node's policy or store speaks against it.
    #[error("{0}")]
    Policy(String),
}

/// Checks what only the world outside can tell.
pub trait Vouch: Send {
    /// True if an operator whose certificate holds today signed this enrolment.
    fn operator_signed(&self, enrolment: &Enrolment) -> bool;

    /// Whether an operator whose certificate holds today signed this declaration, whether what it says about old
    /// blocks is so, and whether this node keeps to its own policy if they go. `state` is the newest.
    ///
    /// # Errors
    /// Why this node does not agree to it, for people.
    fn declaration(&self, declaration: &Declaration, state: &LedgerState) -> Result<(), Objection> {
        let _ = (declaration, state);
        Err(Objection::Policy("this node agrees to no declarations".to_owned()))
    }
}

/// How long things may take. None of it decides what is true, only how soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a proposal is waited for in a height's first round.
    pub propose: Duration,
    /// The same if its proposer cannot be reached, or was too slow lately.
    pub propose_slow: Duration,
    /// How long more votes are waited for once there is a quorum of different ones.
    pub step: Duration,
    /// By how much all of these grow with each round.
    pub growth: Duration,
    /// How often votes are repeated while nothing happens.
    pub rebroadcast: Duration,
    /// How often a node says where it stands.
    pub status: Duration,
    /// How long a missing body is waited for before another node is asked.
    pub fetch: Duration,
    /// How long another node may be one block ahead before its block is fetched.
    pub lag: Duration,
    /// How long fetched blocks are waited for before another node is asked.
    pub sync: Duration,
    /// How long a node that was too slow, or lied, is not waited for.
    pub distrust: Duration,
    /// The least time between blocks that hold no batch and no enrolment.
    pub idle_block: Duration,
    /// How far a proposer's clock may be from this node's.
    pub max_drift: Duration,
    /// Cosignatures are renewed in each interval of so many seconds.
    pub renew_seconds: u64,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Timing {
            propose: ms(1000),
            propose_slow: ms(20),
            step: ms(200),
            growth: ms(250),
            rebroadcast: ms(1000),
            status: ms(500),
            fetch: ms(100),
            lag: ms(300),
            sync: ms(2000),
            distrust: ms(30_000),
            idle_block: ms(1000),
            max_drift: ms(2000),
            renew_seconds: 60,
        }
    }
}

/// What a replica is made with.
pub struct Settings {
    /// What all nodes share.
    pub params: Params,
    /// The nodes.
    pub members: Members,
    /// This one.
    pub identity: Identity,
    /// How long things may take.
    pub timing: Timing,
    /// Checks enrolments that other nodes took.
    pub vouch: Box<dyn Vouch>,
    /// What an empty store means.
    pub blank: BlankStart,
}
