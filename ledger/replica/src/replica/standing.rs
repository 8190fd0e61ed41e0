//! Whether this node may vote.
//!
//! A node that lost its disk has forgotten its votes, and could vote twice.
//! So an empty store in a ledger that exists is refused; and with the
//! operator's word the node takes part only after it has seen a height decided
//! beyond all that the others were in when it came back. `docs/protocol.md`
//! has the reason.

use super::{Event, Output, Replica};
use crate::{
    members::{Members, NodeIndex},
    state::LedgerState,
};
use record::{FaultModel, block::Height};
use std::collections::BTreeMap;

/// Stands for a height that a node that does not vote does not know yet.
const UNKNOWN: Height = Height(u64::MAX);

/// What an empty store means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlankStart {
    /// This ledger begins: all nodes are empty.
    #[default]
    Genesis,
    /// This node lost its store, or is still coming back from that: the operator said so.
    Rejoin,
}

/// What a node may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It votes.
    Voting,
    /// Its store is empty. It does not vote until a quorum says that the ledger begins.
    Blank {
        /// Who said at which height it is.
        heard: BTreeMap<NodeIndex, Height>,
    },
    /// Its store is empty, but the ledger is not: it must not go on.
    Refused {
        /// The highest height that was heard of.
        height: Height,
    },
    /// It forgot its votes, and does not vote until `until` is decided.
    Rejoining {
        /// Who said at which height it was.
        heard: BTreeMap<NodeIndex, Height>,
        /// Known once a quorum of others has said where it is.
        until: Option<Height>,
    },
}

impl Standing {
    pub(super) fn at_start(
        members: &Members,
        state: &LedgerState,
        vote_log: &[Vec<u8>],
        blank: BlankStart,
    ) -> Self {
        if members.count() == 1 {
            return Standing::Voting;
        }
        match blank {
            BlankStart::Rejoin => Standing::Rejoining { heard: BTreeMap::new(), until: None },
            BlankStart::Genesis if state.height.0 == 0 && vote_log.is_empty() => {
                Standing::Blank { heard: BTreeMap::new() }
            }
            BlankStart::Genesis => Standing::Voting,
        }
    }
}

impl Replica {
    pub(super) fn may_vote(&self) -> bool {
        self.standing == Standing::Voting
    }

    /// The height before which this node does not vote, for its status; none is known at first.
    pub(super) fn abstains_until(&self) -> Height {
        match &self.standing {
            Standing::Voting => Height(0),
            Standing::Rejoining { until: Some(until), .. } => *until,
            _ => UNKNOWN,
        }
    }

    /// Another node said at which height it is, and whether it lost its own store.
    pub(super) fn heard_height(&mut self, from: NodeIndex, height: Height, forgot: bool) {
        match &mut self.standing {
            // It may have been further before, so its word bounds nothing.
            Standing::Rejoining { .. } if forgot => return,
            Standing::Blank { heard } => {
                heard.insert(from, height);
            }
            // The first word counts: later ones are about later heights.
            Standing::Rejoining { heard, until: None } => {
                heard.entry(from).or_insert(height);
            }
            _ => return,
        }
        self.reconsider_standing();
    }

    /// The newest of these heights that can be trusted not to be made up. Among those who may lie
    /// is this node itself, which forgot; so at most one fewer of the others do, and above the
    /// highest honest height are at most so many.
    fn newest_of(&self, heard: &BTreeMap<NodeIndex, Height>) -> Height {
        let liars = match self.members.fault_model() {
            FaultModel::Byzantine => self.members.tolerates().saturating_sub(1),
            FaultModel::Crash => 0,
        };
        let mut heights: Vec<Height> = heard.values().copied().collect();
        heights.sort_unstable_by(|a, b| b.cmp(a));
        heights.get(liars).copied().unwrap_or_default()
    }

    pub(super) fn reconsider_standing(&mut self) {
        let (quorum, liars) = (self.members.quorum(), self.members.tolerates());
        let enough = quorum.min(self.members.count() - 1);
        let next = match &self.standing {
            Standing::Blank { heard } => {
                let ahead = heard.values().filter(|height| height.0 > 0);
                if ahead.clone().count() > liars {
                    let height = ahead.max().copied().unwrap_or_default();
                    Standing::Refused { height }
                } else if heard.values().filter(|height| height.0 == 0).count() + 1 >= quorum {
                    Standing::Voting
                } else {
                    return;
                }
            }
            Standing::Rejoining { heard, until: None } if heard.len() >= enough => {
                // Each was in the height after its newest block. Our own last vote was there, or
                // one height further if we had decided that one before the others.
                let until = Some(Height(self.newest_of(heard).0.saturating_add(2)));
                Standing::Rejoining { heard: heard.clone(), until }
            }
            Standing::Rejoining { until: Some(until), .. } if self.state.height >= *until => {
                Standing::Voting
            }
            _ => return,
        };
        if matches!(self.standing, Standing::Blank { .. }) && next == Standing::Voting {
            self.log_begun();
        }
        self.standing = next.clone();
        self.out.push_back(Output::Event(Event::Standing(next)));
        self.next_status = self.now.ticks;
    }
}
