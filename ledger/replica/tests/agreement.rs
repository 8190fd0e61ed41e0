//! Several nodes that agree, in memory: the plain cases. The simulator has the others.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

extern crate logseal_replica as replica;

#[path = "support/cluster.rs"]
mod cluster;

use cluster::{Cluster, builder};
use logseal_replica::{BlankStart, Event, Message, Standing, message::BodyKind};
use record::{FaultModel, UnixSeconds, enrolment::Enrolment};

fn four() -> Cluster {
    Cluster::new(4, FaultModel::Byzantine)
}

#[test]
fn what_one_node_takes_all_nodes_keep_and_cosign() {
    for (count, model) in [
        (4, FaultModel::Byzantine),
        (3, FaultModel::Byzantine),
        (3, FaultModel::Crash),
        (7, FaultModel::Byzantine),
    ] {
        let mut cluster = Cluster::new(count, model);
        cluster.enrol(1).unwrap();
        cluster.assert_agreed();
        let mut builder = builder();
        for at in [0, 1, 2, 0, 2] {
            cluster.submit(at, &mut builder, &["a", "b"]).0.unwrap();
        }
        cluster.assert_agreed();
        let heads: Vec<_> = cluster.heads.iter().map(|head| head.as_ref().unwrap()).collect();
        let policy = cluster.policy();
        for (head, height) in heads.iter().zip(cluster.heights()) {
            assert!(height >= 2, "{count} nodes, {model}");
            assert_eq!(head.height.0, height);
            assert_eq!(head.checkpoint.text(), heads[0].checkpoint.text());
            policy.verify(&head.checkpoint).unwrap();
        }
        let records: u32 = cluster.blocks[0].iter().flat_map(|b| &b.placed).map(|p| p.count).sum();
        assert_eq!(records, 10);
    }
}

#[test]
fn one_dead_node_of_four_is_hardly_noticed() {
    let mut cluster = four();
    cluster.enrol(0).unwrap();
    cluster.kill(2);
    let mut builder = builder();
    for _ in 0..12 {
        let before = cluster.heights()[0];
        cluster.submit(0, &mut builder, &["a"]).0.unwrap();
        cluster.pass(60);
        assert_eq!(cluster.heights()[0], before + 1, "each within 60 ms");
    }
    cluster.assert_agreed();
}

#[test]
fn a_node_that_was_away_catches_up_and_votes_again() {
    let mut cluster = four();
    cluster.enrol(0).unwrap();
    cluster.kill(3);
    let mut builder = builder();
    for _ in 0..30 {
        cluster.submit(1, &mut builder, &["a"]).0.unwrap();
        cluster.pass(60);
    }
    cluster.restart(3, BlankStart::Genesis);
    cluster.pass(1500);
    assert_eq!(cluster.heights(), vec![cluster.heights()[0]; 4]);
    cluster.kill(0);
    cluster.submit(3, &mut builder, &["b"]).0.unwrap();
    cluster.pass(200);
    assert_eq!(cluster.heights()[1..], vec![cluster.heights()[1]; 3]);
    assert!(cluster.heights()[3] > cluster.heights()[0]);
    cluster.assert_agreed();
}

#[test]
fn a_node_that_lost_its_disk_votes_only_after_heights_it_cannot_have_voted_in() {
    let mut cluster = four();
    cluster.enrol(0).unwrap();
    let mut builder = builder();
    cluster.submit(1, &mut builder, &["a"]).0.unwrap();
    cluster.kill(2);
    cluster.blocks[2].clear();
    cluster.vote_logs[2].clear();
    cluster.restart(2, BlankStart::Genesis);
    cluster.pass(1000);
    assert!(matches!(cluster.standing(2), Standing::Refused { .. }), "{:?}", cluster.standing(2));
    cluster.kill(2);
    cluster.restart(2, BlankStart::Rejoin);
    let tip = cluster.heights()[0];
    cluster.pass(4000);
    assert_eq!(cluster.standing(2), Standing::Voting);
    assert!(cluster.heights().iter().all(|height| *height >= tip + 2), "{:?}", cluster.heights());
    cluster.kill(0);
    cluster.submit(3, &mut builder, &["b"]).0.unwrap();
    cluster.pass(1000);
    assert!(cluster.heights()[2] > cluster.heights()[0]);
    cluster.assert_agreed();
}

#[test]
fn a_restart_in_the_middle_of_a_height_contradicts_nothing() {
    for stop_after in 0..60 {
        let mut cluster = four();
        cluster.enrol(0).unwrap();
        let (pending, _) = cluster.pending(0, &mut builder(), &["a"]);
        let now = cluster.time();
        cluster.nodes[0].handle_batch(now, pending).unwrap().unwrap();
        cluster.deliver(stop_after);
        for node in 0..4 {
            cluster.kill(node);
        }
        for node in 0..4 {
            cluster.restart(node, BlankStart::Genesis);
        }
        cluster.pass(3000);
        let equivocation = cluster.events.iter().find(|(_, e)| matches!(e, Event::Equivocation(_)));
        assert_eq!(equivocation, None, "after {stop_after} messages");
        cluster.assert_agreed();
        // Its agent has it in its spool, and sends it again if the ledger lacks it.
        let log = cluster.nodes[1].log_of(&cluster::agent()).unwrap();
        if log.frontier.size().0 == 0 {
            cluster.submit(1, &mut builder(), &["a"]).0.unwrap();
        }
        cluster.pass(3000);
        let records: u32 = cluster.blocks[0].iter().flat_map(|b| &b.placed).map(|p| p.count).sum();
        assert_eq!(records, 1, "after {stop_after} messages: {:?}", cluster.heights());
    }
}

#[test]
fn an_agent_that_seals_twice_is_convicted_in_the_ledger() {
    let mut cluster = four();
    cluster.enrol(0).unwrap();
    let (one, _) = cluster.pending(0, &mut builder(), &["a"]);
    let (other, _) = cluster.pending(1, &mut builder(), &["b"]);
    cluster.hand(0, one).unwrap();
    cluster.hand(1, other).unwrap_err();
    cluster.pass(2500);
    let equivocations: usize =
        cluster.blocks[0].iter().map(|executed| executed.block.equivocations.len()).sum();
    assert_eq!(equivocations, 1);
    cluster.assert_agreed();
}

#[test]
fn a_heartbeat_that_comes_again_is_not_taken_again() {
    let mut cluster = four();
    cluster.enrol(0).unwrap();
    let mut builder = builder();
    let (heartbeat, _) = cluster.pending(0, &mut builder, &[]);
    let encoded = heartbeat.batch().encode();
    cluster.hand(0, heartbeat).unwrap();
    cluster.pass(200);
    let body = Message::Body(BodyKind::Batch, encoded.into());
    (1..4).for_each(|node| cluster.queue.push_back((0, node, body.clone())));
    cluster.settle();
    cluster.submit(1, &mut builder, &["a"]).0.unwrap();
    cluster.pass(2000);
    let heartbeats = cluster.blocks[1].iter().flat_map(|b| &b.placed).filter(|p| p.count == 0);
    assert_eq!(heartbeats.count(), 1);
    cluster.assert_agreed();
}

#[test]
fn two_enrolments_of_an_agent_at_two_nodes_hold_nothing_up() {
    let mut cluster = four();
    for (at, time) in [(0, 1), (1, 2)] {
        let enrolment = Enrolment {
            agent: cluster::agent(),
            key: cluster::key(9).public(),
            time: UnixSeconds(time),
            certificate: vec![1],
            signature: vec![2],
        };
        let now = cluster.time();
        cluster.nodes[at].handle_enrolment(now, enrolment).unwrap().unwrap();
    }
    cluster.settle();
    cluster.pass(3000);
    assert!(cluster.nodes.iter().all(|node| node.log_of(&cluster::agent()).is_some()));
    let enrolled: usize = cluster.blocks[2].iter().map(|block| block.enrolled.len()).sum();
    assert_eq!(enrolled, 1);
    cluster.assert_agreed();
}
