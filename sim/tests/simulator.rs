//! The simulator itself: the same seed is the same world, and what once went wrong does not again.

use logseal_sim::run;

#[test]
fn a_seed_is_a_world() {
    let mut hashes = vec![];
    for seed in [1, 2, 3] {
        let (one, two) = (run(seed, false), run(seed, false));
        assert_eq!((one.trace, one.violation), (two.trace, two.violation), "seed {seed}");
        hashes.push(one.trace);
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 3, "different seeds are different worlds");
}

/// Seeds that found bugs of the replica, with what they found.
const FOUND: [(u64, &str); 4] = [
    (14, "a heartbeat was put into two blocks"),
    (35, "a heartbeat was put into two blocks"),
    (252, "a locked node did not give out an enrolment"),
    (208, "a liar that claimed to be ahead held sync up"),
];

#[test]
fn what_went_wrong_once_does_not_again() {
    for (seed, what) in FOUND {
        assert_eq!(run(seed, false).violation, None, "seed {seed}: {what}");
    }
}
