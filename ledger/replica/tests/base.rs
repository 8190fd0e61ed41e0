//! Bases: written as they are read, and leading to the ledger that executing the blocks led to.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

extern crate logseal_replica as replica;

#[path = "support/cluster.rs"]
mod cluster;

use cluster::Cluster;
use logseal_replica::{Base, BaseError, BlockHeader, CHUNK, LedgerState};
use proptest::prelude::*;
use record::{
    FaultModel, Hash, TreeSize, UnixMillis,
    block::Height,
    merkle::{EntryIndex, Frontier, leaf_hash, perfect_root},
};
use std::{collections::BTreeMap, sync::LazyLock};

/// Of a ledger with an agent, a declaration and what was given up before.
static EXAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut cluster = Cluster::new(4, FaultModel::Byzantine);
    let mut builder = cluster.old();
    cluster.give_up(4, &[0]);
    cluster.aged += 800 * cluster::DAY;
    (0..6).for_each(|_| cluster.fill(&mut builder, 60));
    cluster.base_of(0, 9).encode()
});

#[test]
fn a_base_leads_to_the_ledger_that_executing_led_to_also_behind_another_base() {
    let mut cluster = Cluster::new(4, FaultModel::Byzantine);
    cluster.old();
    cluster.give_up(4, &[1]);
    for height in 5..=cluster.heights()[0] {
        let (whole, behind) = (cluster.base_of(0, height), cluster.base_of(1, height));
        assert_eq!(whole.encode(), behind.encode(), "block {height}");
        let mut state = LedgerState::genesis();
        let blocks = cluster.blocks[0].iter().take(height as usize);
        blocks.for_each(|executed| executed.apply(&mut state));
        assert_eq!(format!("{:?}", whole.state().unwrap()), format!("{state:?}"));
        assert_eq!(Base::decode(&whole.encode()), Ok(whole.clone()));
        assert_eq!(whole.enrolled().count(), 1);
    }
}

#[test]
fn no_part_of_a_base_is_a_base() {
    let base = Base::decode(&EXAMPLE).unwrap();
    assert!(base.state().unwrap().pruned.is_some());
    for len in 0..EXAMPLE.len() {
        assert!(Base::decode(&EXAMPLE[..len]).is_err(), "{len} bytes");
    }
    let mut longer = EXAMPLE.clone();
    longer.push(0);
    assert!(Base::decode(&longer).is_err());
}

#[test]
fn what_does_not_fit_together_is_no_base() {
    let example = Base::decode(&EXAMPLE).unwrap();
    let refused = |change: &dyn Fn(&mut Base)| {
        let mut base = example.clone();
        change(&mut base);
        Base::decode(&base.encode()).unwrap_err()
    };
    assert_eq!(refused(&|base| base.header.root.0[0] ^= 1), BaseError::Root);
    assert_eq!(refused(&|base| base.frontier.push(leaf_hash(b"more"))), BaseError::Root);
    assert_eq!(refused(&|base| base.agents.clear()), BaseError::Agents);
    assert_eq!(refused(&|base| base.kept.retain(|index, _| index.0 > 2)), BaseError::Agents);
    let beyond = EntryIndex(example.header.size.0);
    assert_eq!(refused(&|base| drop(base.kept.insert(beyond, vec![]))), BaseError::Kept);
    assert_eq!(
        refused(&|base| drop(base.kept.insert(EntryIndex(9), b"x".to_vec()))),
        BaseError::Kept
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_of_bases_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3, prop::collection::vec(any::<u8>(), 0..3)), 0..4),
    ) {
        let mut bytes = EXAMPLE.clone();
        for (at, removed, inserted) in changes {
            let at = at.index(bytes.len() + 1);
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, inserted);
        }
        if let Ok(base) = Base::decode(&bytes) {
            prop_assert_eq!(base.encode(), bytes);
            prop_assert!(base.state().is_ok());
        }
    }
}

/// A ledger without agents of so many leaves.
fn large(size: u64) -> (Base, Vec<Hash>) {
    let leaves: Vec<Hash> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    let header = BlockHeader {
        height: Height(9),
        parent: Hash([0; 32]),
        time: UnixMillis(1),
        proposer: "n0".parse().unwrap(),
        first: EntryIndex(0),
        enrolments: vec![],
        batches: vec![],
        equivocations: vec![],
        declarations: vec![],
        size: TreeSize(size),
        root: frontier.root(),
    };
    let whole = leaves.chunks_exact(CHUNK as usize);
    let chunks = whole.map(|chunk| perfect_root(chunk.to_vec())).collect();
    let base = Base { header, frontier, chunks, agents: BTreeMap::new(), kept: BTreeMap::new() };
    (base, leaves)
}

#[test]
fn each_chunk_is_known_for_itself_the_last_one_too() {
    for size in [3, CHUNK, 2 * CHUNK + 5] {
        let (base, leaves) = large(size);
        let base = Base::decode(&base.encode()).unwrap();
        let chunks: Vec<&[Hash]> = leaves.chunks(CHUNK as usize).collect();
        assert_eq!(base.chunk_count(), chunks.len() as u64);
        for (number, chunk) in (0u64..).zip(&chunks) {
            assert_eq!(base.chunk_len(number), chunk.len());
            assert!(base.has_chunk(number, chunk));
            for other in (0..=base.chunk_count()).chain([u64::MAX]) {
                assert_eq!(base.has_chunk(other, chunk), other == number, "{other}");
            }
            assert!(!base.has_chunk(number, &chunk[1..]));
            assert!(!base.has_chunk(number, &[]));
            let mut wrong = chunk.to_vec();
            wrong[chunk.len() / 2].0[0] ^= 1;
            assert!(!base.has_chunk(number, &wrong));
            let mut longer = chunk.to_vec();
            longer.push(chunk[0]);
            assert!(!base.has_chunk(number, &longer));
        }
        assert_eq!(base.chunk_len(base.chunk_count()), 0);
    }
    let (mut base, _) = large(CHUNK + 1);
    base.chunks[0].0[0] ^= 1;
    assert_eq!(Base::decode(&base.encode()), Err(BaseError::Root));
    base.chunks.clear();
    assert!(Base::decode(&base.encode()).is_err());
}
