//! The replica: what a node decides, without doing any of it.
//!
//! [`Replica`] takes verified batches, enrolments and the time; it answers with
//! [`Output`]s that its driver must carry out in order. It guarantees to the
//! ledger's users that
//!
//! - a block is executed before it is voted for, and its header names the
//!   resulting tree;
//! - a checkpoint is signed and cosigned only after the driver has said that
//!   the block is durable, and never two roots at one size;
//! - an agent's batches are taken in order, without gaps, once each.
//!
//! It names no clock, file, socket, runtime or random source.

pub mod base;
mod block;
mod engine;
pub mod entries;
pub mod execute;
mod members;
pub mod message;
mod now;
#[cfg(feature = "planted-bugs")]
pub mod planted;
mod pool;
mod replica;
pub mod state;

pub use base::{Base, BaseError, BaseLog, CHUNK, CHUNK_LEVEL, MAX_BASE_BYTES, MAX_NEWEST};
pub use block::{Block, BlockError, BlockHeader, Certificate};
#[cfg(feature = "byzantine")]
pub use engine::forge;
pub use engine::{EngineError, verify_certificate};
pub use execute::{BlockTree, ExecuteError, Executed, Placed};
pub use members::{MAX_NODES, Member, Members, MembersError, NodeIndex};
pub use message::{Message, MessageError};
pub use now::{Now, Ticks};
pub use pool::{Pending, PoolError};
pub use replica::{
    BlankStart, Event, Head, Identity, Objection, Output, PeerView, Replica, Settings, Slowness,
    Standing, Timing, Vouch, base_part, vote_log_height,
};
pub use state::{Conviction, LedgerState, Params, Pruned};
