//! Reading a run of the ledger's entries: from a node over HTTPS, or from a store on this machine.
//!
//! What is read here is not verified. Whoever reads pushes the leaf hashes between the two halves of a
//! [`RangeProof`](record::merkle::RangeProof) and compares the root with a checkpoint that satisfies a
//! policy: then neither a node nor a disk has to be believed.

mod remote;
mod stored;

pub use remote::Remote;
pub use stored::Stored;

use crate::output::Failure;
use record::{
    Hash, UnixMillis,
    block::BlockEntry,
    entry::{Entry, Kind},
    merkle::{NodeId, NodeSource},
};
use std::ops::{ControlFlow, Range};

/// What is done with each entry: its index and its bytes. `Break` ends the reading.
pub type Each<'a> = dyn FnMut(u64, &[u8]) -> Result<ControlFlow<()>, Failure> + 'a;

/// Where entries are read from, at one size of the ledger.
pub enum Ledger {
    /// A node.
    Node(Remote),
    /// A store.
    Store(Stored),
}

impl NodeSource for Ledger {
    type Error = Failure;

    fn node(&self, id: NodeId) -> Result<Hash, Failure> {
        match self {
            Ledger::Node(remote) => remote.node(id),
            Ledger::Store(stored) => stored.node(id),
        }
    }
}

impl Ledger {
    /// The first entry that is there: those before it were given up. It is what the source says, and not verified.
    pub fn first(&self) -> u64 {
        match self {
            Ledger::Node(remote) => remote.first(),
            Ledger::Store(stored) => stored.first(),
        }
    }

    /// Reads the entries of a range that lies within the ledger, in order.
    ///
    /// # Errors
    /// They were given up, cannot be read, or `each` failed.
    pub fn entries(&self, range: Range<u64>, each: &mut Each<'_>) -> Result<(), Failure> {
        if range.start < self.first() && !range.is_empty() {
            let (start, first) = (range.start, self.first());
            return Err(Failure(format!(
                "entry {start} was given up, as an operator declared and the nodes agreed: {first} is the first that is there"
            )));
        }
        match self {
            Ledger::Node(remote) => remote.entries(range, each),
            Ledger::Store(stored) => stored.entries(range, each),
        }
    }

    /// The size that is read at.
    pub fn size(&self) -> u64 {
        match self {
            Ledger::Node(remote) => remote.size(),
            Ledger::Store(stored) => stored.size(),
        }
    }

    /// The entry that ends the block in which entry `index` is, and where it stands.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn block_of(&self, index: u64) -> Result<(u64, Vec<u8>, BlockEntry), Failure> {
        let mut found = None;
        self.entries(index..self.size(), &mut |at, bytes| {
            let entry = Entry::parse(bytes)
                .ok()
                .filter(|entry| entry.kind() == Kind::Block)
                .and_then(|entry| BlockEntry::decode(&entry));
            found = entry.map(|block| (at, bytes.to_vec(), block));
            Ok(if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        found.ok_or_else(|| Failure(format!("no block ends behind entry {index} of the ledger")))
    }

    /// The first entry of the first block whose time is not before `time`, of those that are there; the ledger's size
    /// if there is none. Block times never run backwards, so everything behind is later.
    ///
    /// # Errors
    /// Entries cannot be read, or are not in blocks.
    pub fn first_since(&self, time: UnixMillis) -> Result<u64, Failure> {
        let (mut low, mut high) = (self.first(), self.size());
        while low < high {
            let middle = low + (high - low) / 2;
            let (end, _, block) = self.block_of(middle)?;
            let first = block.first.0;
            if first > middle || first < low || end >= high {
                return Err(Failure(format!(
                    "the block that ends with entry {end} says that it begins at {first}: \
                     this is no ledger's history"
                )));
            }
            if block.time >= time {
                high = first;
            } else {
                low = end + 1;
            }
        }
        Ok(low)
    }
}
