//! What executing blocks leads to, and the parameters all nodes share.

use record::{
    AgentName, Hash, NodeName, Origin, TreeSize, UnixMillis, UnixSeconds,
    batch::LogState,
    block::Height,
    declaration::Prune,
    entry::Enterprise,
    equivocation::EquivocationKind,
    merkle::{EntryIndex, Frontier},
};
use std::collections::{BTreeMap, BTreeSet};

/// Who contradicted itself, and in what. One proof of it is an entry; more would show nothing new,
/// and whoever contradicts itself can make any number.
pub type Conviction = (NodeName, EquivocationKind);

/// What every node of a ledger must have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// The ledger's identity.
    pub origin: Origin,
    /// The enterprise number of the ledger's own entries.
    pub enterprise: Enterprise,
}

/// The ledger after a block: all that is needed to execute the next one.
#[derive(Clone, Debug)]
pub struct LedgerState {
    /// The height of the newest block; 0 before the first.
    pub height: Height,
    /// The identifier of the newest block; zeroes before the first.
    pub parent: Hash,
    /// The newest block's time.
    pub time: UnixMillis,
    /// The ledger tree.
    pub tree: Frontier,
    /// Every enrolled agent and where its log stands.
    pub agents: BTreeMap<AgentName, LogState>,
    /// Everybody whose equivocation is an entry.
    pub convicted: BTreeSet<Conviction>,
    /// When the newest declaration was signed; each is newer than the one before.
    pub declared: UnixSeconds,
    /// What was given up, if anything was.
    pub pruned: Option<Pruned>,
}

/// The newest decision to give up old entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// What was declared.
    pub prune: Prune,
    /// Where the declaration stands.
    pub index: EntryIndex,
}

impl LedgerState {
    /// The empty ledger.
    pub fn genesis() -> Self {
        LedgerState {
            height: Height(0),
            parent: Hash([0; 32]),
            time: UnixMillis(0),
            tree: Frontier::default(),
            agents: BTreeMap::new(),
            convicted: BTreeSet::new(),
            declared: UnixSeconds(0),
            pruned: None,
        }
    }

    /// How many entries were given up, from the first one on.
    pub fn dropped(&self) -> TreeSize {
        self.pruned.as_ref().map(|pruned| pruned.prune.size()).unwrap_or_default()
    }

    /// The newest block that was given up; 0 if none was.
    pub fn dropped_height(&self) -> Height {
        self.pruned.as_ref().map(|pruned| pruned.prune.height).unwrap_or_default()
    }
}

/// Who proposes a block, and when.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) proposer: NodeName,
    pub(crate) time: UnixMillis,
}
