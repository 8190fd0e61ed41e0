//! Nodes that are killed under load, one after the other and all at once.

use logseal::site::LedgerOptions;
use logseal_tests::{
    LIMIT,
    cluster::{Cluster, Dice, NODES, tell},
    wait_for,
};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// kill -9 of any one node, so often.
const KILLS: usize = 30;
/// Records that are written meanwhile.
const RECORDS: usize = 200_000;
/// How often all nodes are killed at once.
const BLACKOUTS: usize = 3;
/// Records that are written each time.
const BURST: usize = 40_000;

#[test]
fn killing_any_one_node_thirty_times_loses_and_repeats_nothing() {
    let mut cluster = Cluster::start(&LedgerOptions::default());
    let (mut dice, begun) = (Dice::new(0x5eed_0003), Instant::now());
    let (mut killed, mut loaded, mut longest) = ([0; NODES], 0, Duration::ZERO);
    let slice = RECORDS / (KILLS + 1);
    for _ in 0..KILLS {
        let written = cluster.log.count();
        cluster.log.write(slice);
        // Somewhere in the first half of these.
        let enough = written + 1 + dice.below(slice as u64 / 2);
        wait_for("receipts", || (cluster.receipted() >= enough).then_some(()));
        let index = dice.below(NODES as u64) as usize;
        loaded += usize::from(cluster.receipted() < cluster.log.count());
        cluster.kill(index);
        killed[index] += 1;
        dice.pause(Duration::from_millis(300));
        let down = Instant::now();
        cluster.restart(index);
        cluster.wait_back(index);
        longest = longest.max(down.elapsed());
    }
    cluster.log.write(RECORDS - cluster.log.lines.len());
    cluster.wait_receipted(RECORDS as u64);
    let took = begun.elapsed();
    assert!(loaded > KILLS * 2 / 3, "only {loaded} kills came while records had no receipts yet");
    cluster.assert_complete(&[0, 1, 2, 3]);
    cluster.assert_calm();
    tell(&format!(
        "{KILLS} kills of nodes {killed:?}, {loaded} of them with records under way, during {RECORDS} records: {took:.1?}, and {:.1?} with reading \
         all back from each; back after {longest:.1?} at the latest; 0 lost, 0 twice",
        begun.elapsed()
    ));
}

#[test]
fn killing_all_nodes_at_once_loses_nothing_that_had_a_receipt() {
    let mut cluster = Cluster::start(&LedgerOptions::default());
    let mut dice = Dice::new(0x5eed_0004);
    let mut restarts = Vec::new();
    for _ in 0..BLACKOUTS {
        let (written, before) = (cluster.log.count(), cluster.receipted());
        cluster.log.write(BURST);
        cluster.wait_receipted(before + 1 + dice.below(BURST as u64 / 4));
        cluster.nodes.iter().for_each(|node| node.signal(Signal::KILL).unwrap());
        cluster.nodes.iter_mut().for_each(|node| node.wait(LIMIT).map(drop).unwrap());
        let receipted = written + cluster.receipted() - before;
        assert!(receipted < cluster.log.count(), "it was under load");
        // The agent must not be able to send anything once more.
        cluster.agent.kill().unwrap();
        let down = Instant::now();
        (0..NODES).for_each(|index| cluster.restart(index));
        cluster.nodes.iter_mut().for_each(|node| node.wait_ready(LIMIT).unwrap());
        cluster.wait_agreed(&[0, 1, 2, 3], receipted);
        restarts.push(down.elapsed());
        for index in 0..NODES {
            let (_, records) = cluster.records_of(index);
            cluster.log.assert_begins_with(&records);
            let there = records.len() as u64;
            assert!(there >= receipted, "node {index} has {there}, {receipted} had receipts");
        }
        cluster.agent = cluster.site.start_agent("gw01").unwrap();
        cluster.wait_settled(&[0, 1, 2, 3]);
    }
    cluster.assert_complete(&[0, 1, 2, 3]);
    cluster.assert_calm();
    tell(&format!(
        "{BLACKOUTS} times all nodes killed at once: one checkpoint again after {restarts:.1?}; 0 lost, 0 twice"
    ));
}
