//! The simulator itself: the same seed is the same world. `cargo xtask sim` runs many of them.

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

#[test]
fn a_few_worlds_are_well() {
    for seed in 4..16 {
        assert_eq!(run(seed, false).violation, None, "seed {seed}");
    }
}
