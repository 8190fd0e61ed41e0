//! Known bugs, one of which can be switched on for the replicas of a thread: the simulator must
//! find each. Exists under the feature `planted-bugs` only.

use std::cell::Cell;

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A block is cosigned when it is voted for, not when it is decided and durable.
    CosignBeforeCommit,
    /// Votes leave before the vote log that holds them is synced.
    VoteBeforeSync,
    /// A batch is taken without looking whether its agent's log is where it begins.
    SkipGapCheck,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Gives the replicas of this thread a bug, or takes it from them.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

pub(crate) fn has(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
