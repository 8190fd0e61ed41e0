//! How many nodes of a ledger may fail, and how many must agree.

use std::{fmt, str::FromStr};

/// What nodes of a ledger are assumed to do at worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FaultModel {
    /// Nodes may lie: any two quorums share an honest node as long as fewer than a third lie.
    #[default]
    Byzantine,
    /// Nodes may stop, but never lie: a majority is a quorum. Equivocation is detected and proven,
    /// not prevented.
    Crash,
}

/// A word that is no fault model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a fault model: use byzantine or crash")]
pub struct FaultModelError(String);

impl FaultModel {
    /// How many of `nodes` must agree.
    pub fn quorum(self, nodes: usize) -> usize {
        match self {
            FaultModel::Byzantine => 2 * nodes / 3 + 1,
            FaultModel::Crash => nodes / 2 + 1,
        }
    }

    /// How many of `nodes` may fail: lie, under [`FaultModel::Byzantine`]; stop, under
    /// [`FaultModel::Crash`].
    pub fn tolerates(self, nodes: usize) -> usize {
        nodes - self.quorum(nodes).min(nodes)
    }

    /// The word, as in files.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultModel::Byzantine => "byzantine",
            FaultModel::Crash => "crash",
        }
    }
}

impl fmt::Display for FaultModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FaultModel {
    type Err = FaultModelError;

    fn from_str(text: &str) -> Result<Self, FaultModelError> {
        let all = [FaultModel::Byzantine, FaultModel::Crash];
        let found = all.into_iter().find(|model| model.as_str() == text);
        found.ok_or_else(|| FaultModelError(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_are_the_smallest_that_overlap_as_they_must() {
        for nodes in 1..=64usize {
            let q = FaultModel::Byzantine.quorum(nodes);
            assert!(3 * q > 2 * nodes && 3 * (q - 1) <= 2 * nodes);
            let q = FaultModel::Crash.quorum(nodes);
            assert!(2 * q > nodes && 2 * (q - 1) <= nodes);
        }
        let tolerates = |n| (FaultModel::Byzantine.tolerates(n), FaultModel::Crash.tolerates(n));
        assert_eq!([1, 3, 4, 7].map(tolerates), [(0, 0), (0, 1), (1, 1), (2, 3)]);
    }
}
