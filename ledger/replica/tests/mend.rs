//! Blocks that a node had and cannot read any more come from the others, and only as they were decided.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

extern crate logseal_replica as replica;

#[path = "support/cluster.rs"]
mod cluster;

use cluster::{Cluster, builder};
use logseal_replica::{Block, Message, NodeIndex};
use record::{FaultModel, block::Height};

/// Four nodes and some blocks.
fn ledger() -> Cluster {
    let mut ledger = Cluster::new(4, FaultModel::Byzantine);
    ledger.enrol(0).unwrap();
    let mut builder = builder();
    for lines in [&["a", "b"][..], &["c"], &["d", "e", "f"]] {
        ledger.now += 1000;
        ledger.submit(0, &mut builder, lines).0.unwrap();
    }
    assert!(ledger.blocks[2].len() >= 4);
    ledger
}

fn bytes_of(ledger: &Cluster, height: u64) -> Vec<u8> {
    ledger.blocks[2][height as usize - 1].block.encode_parts().concat()
}

#[test]
fn what_a_node_cannot_read_comes_back_as_it_was() {
    let mut ledger = ledger();
    ledger.nodes[2].mend([Height(2), Height(4), Height(99)]);
    ledger.pass(1000);
    let found: Vec<(u8, u64)> =
        ledger.mended.iter().map(|(node, height, _)| (*node, height.0)).collect();
    assert_eq!(found, [(2, 2), (2, 4)], "those it had, once each");
    for (_, height, bytes) in &ledger.mended {
        let (found, was) = (Block::decode(bytes).unwrap(), bytes_of(&ledger, height.0));
        // Each node keeps the votes that it saw first; everything else is the same.
        let was = Block::decode(&was).unwrap();
        assert_eq!((found.header, found.batches), (was.header, was.batches));
    }
}

#[test]
fn a_node_that_cannot_help_is_not_asked_without_end_and_the_next_one_is() {
    let mut ledger = ledger();
    ledger.blocks[0].clear();
    ledger.nodes[2].mend([Height(3)]);
    ledger.pass(10_000);
    assert_eq!(ledger.mended.len(), 1);
}

#[test]
fn what_was_never_decided_is_not_taken_whoever_sends_it() {
    let mut ledger = ledger();
    let genuine = Block::decode(&bytes_of(&ledger, 2)).unwrap();
    let mut certificate = genuine.clone();
    certificate.certificate.signatures.truncate(1);
    let mut root = genuine.clone();
    root.header.root.0[0] ^= 1;
    // The certificate does not cover the log that is kept with a batch.
    let other = &ledger.blocks[2][3].block;
    let mut log = genuine.clone();
    if let (Some(batch), Some(another)) = (log.batches.first_mut(), other.batches.first()) {
        batch.before = another.before.clone();
    }
    let now = ledger.time();
    for (what, lie) in [("certificate", certificate), ("root", root), ("log", log)] {
        ledger.nodes[2].mend([Height(2)]);
        let message = Message::Block(lie.encode_parts().concat().into());
        ledger.nodes[2].handle_message(now, NodeIndex(1), message).unwrap();
        ledger.settle();
        let lied =
            ledger.mended.iter().any(|(_, _, bytes)| Block::decode(bytes).unwrap() != genuine);
        // Another node may have sent the genuine one meanwhile, with votes of its own.
        let same = ledger.mended.iter().all(|(_, _, bytes)| {
            let found = Block::decode(bytes).unwrap();
            (found.header, found.batches) == (genuine.header.clone(), genuine.batches.clone())
        });
        assert!(same || !lied, "{what}");
        ledger.mended.clear();
    }
    let faults = ledger.events.iter().filter(|(node, _)| *node == 2).count();
    assert!(faults >= 2, "{:?}", ledger.events);
}
