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
#[error("'{0}' is not a fault model: use 'byzantine' or 'crash'")]
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
        nodes.saturating_sub(self.quorum(nodes))
    }

    /// In a sentence what `nodes` under this model bear: `4 nodes, fault model byzantine: 1 may
    /// fail or lie`.
    pub fn explain(self, nodes: usize) -> String {
        let bears = match (self.tolerates(nodes), self) {
            (0, _) => "none may fail".to_owned(),
            (some, FaultModel::Byzantine) => format!("{some} may fail or lie"),
            (some, FaultModel::Crash) => format!("{some} may fail, none may lie"),
        };
        let plural = if nodes == 1 { "" } else { "s" };
        format!("{nodes} node{plural}, fault model {self}: {bears}")
    }

    /// What somebody who chose this model for `nodes` should know before he trusts them.
    pub fn warnings(self, nodes: usize) -> Vec<String> {
        let (mut warnings, explained) = (Vec::new(), self.explain(nodes));
        if nodes > 1 && self == FaultModel::Crash {
            warnings.push(format!(
                "{explained}: a node that lies can give two histories a quorum; that leaves proof, \
                 and is not prevented"
            ));
        }
        if nodes > 1 && self.tolerates(nodes) == 0 {
            warnings.push(format!(
                "{explained}: it tolerates no failure, less than a ledger of one node; 4 nodes \
                 tolerate one, and so do 3 with the fault model crash"
            ));
        }
        warnings
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
