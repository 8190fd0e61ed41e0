//! A ledger of one node, driven without a disk: what is decided, replayed and signed.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

extern crate logseal_replica as replica;

#[path = "support/cluster.rs"]
mod cluster;

use cluster::{Cluster, agent, builder, members, params};
use logseal_replica::{
    Block, ExecuteError, LedgerState, PoolError, execute::replay, verify_certificate,
};
use record::{
    FaultModel,
    batch::Codec,
    entry::Enterprise,
    merkle::{EntryIndex, range_proof},
    receipt::Receipt,
};

fn node() -> Cluster {
    Cluster::new(1, FaultModel::Byzantine)
}

#[test]
fn a_batch_gets_a_receipt_that_an_agent_can_check() {
    let mut node = node();
    node.enrol(0).unwrap();
    let mut builder = builder();
    for lines in [&["a", "b", "c"][..], &[], &["d"]] {
        node.now += 1000;
        let (taken, seal) = node.submit(0, &mut builder, lines);
        taken.unwrap();
        let executed = node.blocks[0].last().unwrap();
        let head = node.heads[0].as_ref().unwrap();
        let [placed] = &executed.placed[..] else { panic!("one batch a block") };
        let end = EntryIndex(placed.first.0 + u64::from(placed.count) + 1);
        let Ok(proof) = range_proof(&executed.tree, placed.first, end, executed.after.size());
        let checkpoint = head.checkpoint.clone();
        let receipt = Receipt { first: placed.first, proof, checkpoint };
        let at = (placed.first.0 - executed.tree.start().0) as usize;
        let leaves = &executed.tree.leaves()[at..at + placed.count as usize];
        let (policy, enterprise) = (node.policy(), Enterprise::default());
        receipt.verify(&policy, enterprise, leaves, &seal).unwrap();
        let mut other = seal.clone();
        other.seal.time.0 += 1;
        assert!(receipt.verify(&policy, enterprise, leaves, &other).is_err());
    }
    assert!(node.vote_logs[0].is_empty(), "nobody is told a vote, so none is remembered");
}

#[test]
fn a_gap_a_repetition_and_a_stranger_are_kept_out_of_the_pool() {
    let mut node = node();
    node.enrol(0).unwrap();
    assert_eq!(node.enrol(0), Err(PoolError::Enrolled));
    let mut builder = builder();
    let (first, _) = node.pending(0, &mut builder, &["a"]);
    node.hand(0, first.clone()).unwrap();
    assert_eq!(node.hand(0, first), Err(PoolError::NotNext { next: 1 }));
    assert_eq!(node.nodes[0].waiting(&agent(), EntryIndex(0)).count(), 0);
    assert_eq!(node.heights(), [2]);
}

#[test]
fn a_block_that_was_altered_does_not_replay() {
    let mut node = node();
    node.enrol(0).unwrap();
    let mut before = LedgerState::genesis();
    node.blocks[0][0].apply(&mut before);
    node.submit(0, &mut builder(), &["a", "b"]).0.unwrap();
    let executed = &node.blocks[0][1];
    let run = |block| replay(&params(), &before, block, &mut Codec::default()).unwrap_err();

    let mut root = executed.block.clone();
    root.header.root.0[0] ^= 1;
    assert_eq!(run(root), ExecuteError::Root(2));
    let mut parent = executed.block.clone();
    parent.header.parent.0[0] ^= 1;
    assert_eq!(run(parent), ExecuteError::Parent(2));
    let mut batch = executed.block.clone();
    let mut encoded = batch.batches[0].encoded.to_vec();
    *encoded.last_mut().unwrap() ^= 1;
    batch.batches[0].encoded = encoded.into();
    assert!(matches!(run(batch), ExecuteError::Batch { start: 0, .. }));

    let bytes = executed.block.encode_parts().concat();
    let members = members(1, FaultModel::Byzantine);
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        let noticed = Block::decode(&bad).map_or(true, |block| {
            let header = &block.header;
            !verify_certificate(&members, header.height, header.id(), &block.certificate)
                || replay(&params(), &before, block, &mut Codec::default()).is_err()
        });
        assert!(noticed, "byte {at}");
    }
}
