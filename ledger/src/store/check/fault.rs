//! What can be wrong with a store, and what would mend it.

use record::{Hash, block::Height};
use replica::{BlockHeader, entries::Places};
use std::{fmt, ops::Range, path::PathBuf};

/// What kind of wrong it is: each calls for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// The end of the block log is incomplete, as a crash leaves it. The next start cuts it; nothing in it had been
    /// acknowledged, as far as can be told.
    TornTail,
    /// Bytes of the block log are not what was written: a disk did that. Others hold the same blocks.
    Damaged,
    /// A part of the block log is gone: a segment was cut short or deleted.
    Missing,
    /// What is there is whole, but it is not what was decided and signed for: somebody changed it.
    Rewritten,
    /// The store ends before what was signed for.
    CutOff,
    /// A hash of the tree files is not what the entries lead to. It is made again from them.
    Tree,
    /// The index does not know a place, or knows it otherwise. It is made again from the block log.
    Index,
    /// What is kept of blocks that were given up is damaged or missing.
    Base,
    /// Blocks are gone, and nothing in the store says that they were to be given up: somebody removed them.
    Undeclared,
    /// The kept checkpoint is missing, or is not one that can be believed.
    Checkpoint,
}

impl FaultKind {
    /// The word for it in reports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultKind::TornTail => "torn-tail",
            FaultKind::Damaged => "damaged",
            FaultKind::Missing => "missing",
            FaultKind::Rewritten => "rewritten",
            FaultKind::CutOff => "cut-off",
            FaultKind::Tree => "tree",
            FaultKind::Index => "index",
            FaultKind::Base => "base",
            FaultKind::Undeclared => "undeclared",
            FaultKind::Checkpoint => "checkpoint",
        }
    }

    /// What it means, and what is to be done, in a line.
    pub fn advice(self) -> &'static str {
        match self {
            FaultKind::TornTail => {
                "a crash leaves this; the node cuts it when it starts, and nothing acknowledged is lost"
            }
            FaultKind::Damaged | FaultKind::Missing => {
                "the disk lost it; a node of a cluster fetches it from the others by itself, a single one needs the \
                 segment from a backup"
            }
            FaultKind::Rewritten => {
                "this is no accident: keep the store as it is for the investigation, and go on with a copy from a backup \
                 or from the other nodes"
            }
            FaultKind::CutOff => {
                "its end was lost or replaced; restore the folder 'blocks', or let the node fetch it"
            }
            FaultKind::Tree | FaultKind::Index => {
                "the node makes it again from the block log by itself"
            }
            FaultKind::Base => {
                "a node of a cluster fetches it from the others by itself, a single one needs it from a backup"
            }
            FaultKind::Undeclared => {
                "entries were given up without a decision: keep the store for the investigation, and go on with a copy \
                 from a backup or from the other nodes"
            }
            FaultKind::Checkpoint => "compare with a checkpoint from another node or a witness",
        }
    }
}

/// What would mend a fault.
#[derive(Clone, Debug)]
pub enum Mend {
    /// The blocks of these heights, one past the last, from another node.
    Blocks(Range<u64>),
    /// The segment that begins with this block, written anew from what is in it.
    Segment(Height),
    /// What is kept of blocks that were given up, from memory or another node.
    Base,
    /// The leaf hashes of this chunk of entries that were given up, from another node.
    Chunk(u64),
    /// These leaf hashes, from this index on.
    Leaves {
        /// The first leaf.
        start: u64,
        /// The right hashes.
        hashes: Vec<Hash>,
    },
    /// This hash in an upper tree file.
    Upper {
        /// The level file.
        file: usize,
        /// Its place in the file.
        index: u64,
        /// The right hash.
        hash: Hash,
    },
    /// These places in the index.
    Index {
        /// The block's header.
        header: Box<BlockHeader>,
        /// Where its bodies stand.
        places: Places,
    },
}

/// Something in a store that is not as it should be.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What kind of wrong it is.
    pub kind: FaultKind,
    /// The file.
    pub file: PathBuf,
    /// The blocks concerned: the first and the last.
    pub blocks: Option<(Height, Height)>,
    /// The ledger entries concerned, one past the last.
    pub entries: Option<Range<u64>>,
    /// What is wrong, for people.
    pub problem: String,
    /// What would mend it.
    pub mend: Option<Mend>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        match &self.entries {
            Some(range) if range.end > range.start + 1 => {
                write!(f, "entries {} to {}: ", range.start, range.end - 1)?;
            }
            Some(range) => write!(f, "entry {}: ", range.start)?,
            None => {}
        }
        f.write_str(&self.problem)
    }
}
