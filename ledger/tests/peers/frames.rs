//! Frames between nodes that are as they should be.

use crate::support::{Plan, World, fast, listen, pair, until};
use link::peer::{Lane, MAX_BULK, MAX_CONTROL};
use logseal_ledger::peers::{Incoming, Timings};
use std::time::{Duration, Instant};

fn number(n: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![n as u8; len.max(4)];
    frame[..4].copy_from_slice(&n.to_be_bytes());
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_arrive_whole_and_in_order_on_each_lane() {
    let world = World::new();
    let (a, mut b) = pair(&world, |plan| plan).await;
    let control: Vec<Vec<u8>> = (0..1000)
        .map(|n| number(n, if n % 100 == 7 { MAX_CONTROL / 2 } else { n as usize }))
        .collect();
    let mut bulk: Vec<Vec<u8>> = (0..100).map(|n| number(n, 5000 * n as usize)).collect();
    bulk.push(number(100, MAX_BULK));
    for frame in &control {
        assert!(a.send(&b, Lane::Control, frame.clone()));
    }
    for frame in &bulk {
        assert!(a.send(&b, Lane::Bulk, frame.clone()));
    }
    let same = |found: Incoming, sent: &Vec<u8>| found.from == a.name && found.frame == *sent;
    for frame in &control {
        assert!(same(b.control().await, frame));
    }
    for frame in &bulk {
        assert!(same(b.bulk().await, frame));
    }
    let bytes: usize = control.iter().chain(&bulk).map(Vec::len).sum();
    let label = ["peer=\"node1\""];
    assert_eq!(b.metric("peer_received_bytes_total", &label), bytes as f64);
    a.metric_reaches("peer_sent_bytes_total", &["peer=\"node2\""], bytes as f64).await;
    for labels in [["lane=\"control\"", "\"in\""], ["lane=\"bulk\"", "\"out\""]] {
        assert_eq!(b.metric("peer_connections", &labels), 1.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn votes_do_not_wait_behind_batches_that_nobody_takes() {
    let world = World::new();
    let (a, mut b) = pair(&world, |plan| plan.room(2)).await;
    let full = || !a.send(&b, Lane::Bulk, vec![1; 4 << 20]);
    until("the bulk lane is full", full).await;
    let mut slowest = Duration::ZERO;
    for n in 0..200u32 {
        let sent = Instant::now();
        assert!(a.send(&b, Lane::Control, number(n, 100)));
        assert_eq!(b.control().await.frame, number(n, 100));
        slowest = slowest.max(sent.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(a.metric("peer_frames_dropped_total", &["\"node2\"", "\"bulk\""]) >= 1.0);
    // What was taken is still there, and the connection lived through it.
    assert_eq!(b.bulk().await.frame.len(), 4 << 20);
    assert!(a.events.is_empty() && b.events.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_floods_leaves_room_for_the_others() {
    let world = World::new();
    let ((a, at_a), (b, at_b), (c, at_c)) = (listen().await, listen().await, listen().await);
    let peers = [("node2", at_b), ("node3", at_c)];
    let mut a = Plan::new(&world, "node1", &peers).start(a);
    let mut flooder = Plan::new(&world, "node2", &[("node1", at_a)]).start(b);
    let mut quiet = Plan::new(&world, "node3", &[("node1", at_a)]).start(c);
    flooder.up("node1").await;
    quiet.up("node1").await;
    for lane in Lane::ALL {
        until("the flooder is held back", || {
            let sent = (0..100_000).all(|_| flooder.send(&a, lane, [0; 100]));
            !sent
        })
        .await;
        let inlet = |a: &crate::support::Node| match lane {
            Lane::Control => a.control.len(),
            Lane::Bulk => a.bulk.len(),
        };
        let share = match lane {
            Lane::Control => 512,
            Lane::Bulk => 64,
        };
        until("the flooder's share is used", || inlet(&a) == share).await;
        assert!(quiet.send(&a, lane, b"quiet"));
        until("the other's frame is there", || inlet(&a) == share + 1).await;
    }
    // Taking its frames gives the flooder its share back.
    for _ in 0..2000 {
        a.control().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_with_one_inlet_that_is_small_are_served_in_turn() {
    let world = World::new();
    let ((a, at_a), (b, at_b), (c, at_c)) = (listen().await, listen().await, listen().await);
    let peers = [("node2", at_b), ("node3", at_c)];
    let mut a = Plan::new(&world, "node1", &peers).room(2).start(a);
    let mut flooder = Plan::new(&world, "node2", &[("node1", at_a)]).start(b);
    let mut quiet = Plan::new(&world, "node3", &[("node1", at_a)]).start(c);
    flooder.up("node1").await;
    quiet.up("node1").await;
    until("the inlet is full", || {
        flooder.send(&a, Lane::Control, [0; 100]);
        a.control.capacity() == 0
    })
    .await;
    assert!(quiet.send(&a, Lane::Control, b"quiet"));
    a.metric_reaches("peer_received_bytes_total", &["\"node3\""], 5.0).await;
    let mut before = 0;
    while a.control().await.from != quiet.name {
        before += 1;
    }
    assert!(before < 10, "{before} frames of the flooder came first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_renewed_without_losing_a_frame() {
    let world = World::new();
    let renew = Duration::from_millis(100);
    let timings = Timings { renew, ..Timings::default() };
    let (a, mut b) = pair(&world, |plan| plan.timings(timings)).await;
    let connections = || b.metric("peer_connections", &["\"in\"", "\"control\""]);
    assert_eq!(connections(), 1.0);
    let began = Instant::now();
    let mut n = 0;
    while began.elapsed() < 20 * renew {
        for lane in Lane::ALL {
            assert!(a.send(&b, lane, number(n, 1000)));
        }
        assert_eq!(b.control().await.frame, number(n, 1000));
        assert_eq!(b.bulk().await.frame, number(n, 1000));
        n += 1;
    }
    assert!(a.events.is_empty() && b.events.is_empty(), "nobody was ever down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_transport_takes_nothing_and_closes_its_connections() {
    let world = World::new();
    let (a, mut b) = pair(&world, |plan| plan.timings(fast())).await;
    let outlets = a.outlets.clone();
    a.stop();
    b.down("node1").await;
    until("it takes nothing", || !outlets.send(&b.name, Lane::Control, b"x".as_slice().into()))
        .await;
}
