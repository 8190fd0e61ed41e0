//! What a replica wants of its driver.

use super::{Head, Standing};
use crate::{base::Base, execute::Executed, members::NodeIndex, message::Message, pool::Pending};
use bytes::Bytes;
use record::{Hash, block::Height, equivocation::Equivocation};
use std::sync::Arc;

/// What the driver must do, in this order.
#[derive(Debug)]
pub enum Output {
    /// Append a record to the vote log. It need not be durable yet.
    Log(Vec<u8>),
    /// Make the vote log durable before anything that follows leaves the process.
    SyncLog,
    /// Send a message to one node, or to all others.
    Send {
        /// To whom; `None` is everybody.
        to: Option<NodeIndex>,
        /// What.
        message: Message,
    },
    /// Make the block durable, then say so with [`super::Replica::handle_durable`].
    Append(Box<Executed>),
    /// A quorum stands behind this checkpoint: receipts up to it may go out.
    Published(Head),
    /// A node asks for decided blocks: send some, then [`Message::Served`].
    ServeBlocks {
        /// Who asks.
        to: NodeIndex,
        /// The first height.
        from: Height,
    },
    /// A node asks for the base with this digest, from this byte on: send [`super::base_part`] of it, if it is here.
    ServeBase {
        /// Who asks.
        to: NodeIndex,
        /// The digest.
        digest: Hash,
        /// The first byte.
        offset: u64,
    },
    /// A node asks for a chunk of leaf hashes.
    ServeLeaves {
        /// Who asks.
        to: NodeIndex,
        /// The chunk's number.
        chunk: u64,
    },
    /// A base that was looked for, verified.
    Base {
        /// The base.
        base: Arc<Base>,
        /// Its binary form.
        encoded: Bytes,
        /// True if the ledger is to begin with it once its leaf hashes are here: [`Output::Rebase`] says when.
        begins: bool,
    },
    /// A chunk of leaf hashes that was looked for, verified.
    Leaves {
        /// Its number.
        chunk: u64,
        /// The hashes.
        leaves: Vec<Hash>,
    },
    /// All that belongs to this base came: keep it, give up all that was before it, then call
    /// [`super::Replica::handle_rebased`].
    Rebase(Arc<Base>),
    /// A block that was looked for ([`super::Replica::mend`]), verified.
    Mended {
        /// Its height.
        height: Height,
        /// The block in its binary form.
        bytes: Bytes,
    },
    /// A batch that was taken does not fit any more: its agent sealed another one.
    Dropped(Box<Pending>),
    /// A declaration that was taken will not be decided on.
    Declined {
        /// Its digest.
        digest: Hash,
        /// Why, for people.
        why: String,
    },
    /// Something to log and count.
    Event(Event),
}

/// What an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node sent what no honest node sends.
    Fault {
        /// The node.
        peer: NodeIndex,
        /// What it sent.
        problem: String,
    },
    /// A proposal was not voted for.
    Refused {
        /// Who made it.
        peer: NodeIndex,
        /// Why.
        problem: String,
    },
    /// This node does not agree to a declaration that another one took.
    Disagreed {
        /// Who took it.
        peer: NodeIndex,
        /// What is declared.
        word: &'static str,
        /// Why not.
        problem: String,
    },
    /// Somebody contradicted itself, provably.
    Equivocation(Box<Equivocation>),
    /// A node cosigned another root at a size that this node has.
    Diverged {
        /// The node.
        peer: NodeIndex,
        /// The tree's size.
        size: u64,
    },
    /// A node's proposals are not waited for any more, or are again.
    Slow {
        /// The node.
        peer: NodeIndex,
        /// True if they are not.
        slow: bool,
    },
    /// What this node may do has changed.
    Standing(Standing),
}
