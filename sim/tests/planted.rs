//! The simulator finds what it is there for: each planted bug, within a few seeds that pass without
//! it.

use logseal_sim::run;
use replica::planted::{Bug, plant};

/// Within how many seeds a bug must show.
const SEEDS: u64 = 40;

/// The first seed that fails with the bug, and as what; it must pass without.
fn caught(bug: Bug) -> (u64, String) {
    let found = (1..=SEEDS).find_map(|seed| {
        plant(Some(bug));
        let violation = run(seed, false).violation;
        plant(None);
        Some((seed, violation?.0))
    });
    let (seed, what) = found.unwrap_or_else(|| panic!("{SEEDS} seeds pass with {bug:?}"));
    println!("{bug:?} shows in seed {seed}: {what}");
    assert_eq!(run(seed, false).violation, None, "seed {seed} without {bug:?}");
    (seed, what)
}

#[test]
fn a_cosignature_before_the_commit_is_caught() {
    let (_, what) = caught(Bug::CosignBeforeCommit);
    assert!(what.starts_with("TOO EARLY") || what.starts_with("TWO ROOTS"), "{what}");
}

#[test]
fn a_vote_before_its_sync_is_caught() {
    let (_, what) = caught(Bug::VoteBeforeSync);
    assert!(what.starts_with("CONTRADICTION"), "{what}");
}

#[test]
fn a_batch_that_does_not_follow_is_caught() {
    let (_, what) = caught(Bug::SkipGapCheck);
    // Or in the vote log of a node that voted for such a block, and cannot start with it.
    assert!(what.starts_with("GAP") || what.contains("the batch begins at record"), "{what}");
}
