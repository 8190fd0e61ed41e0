//! Peers that die, fall silent, come back, or hold a certificate that no longer holds.

use crate::support::{Plan, Played, World, fast, listen, pair, server, soon, until};
use link::{Role, peer::Lane};
use logseal_ledger::peers::Timings;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_was_killed_and_started_again_gets_new_frames() {
    let world = World::new();
    let ((a, at_a), (b, at_b)) = (listen().await, listen().await);
    let mut a = Plan::new(&world, "node1", &[("node2", at_b)]).start(a);
    let b = Plan::new(&world, "node2", &[("node1", at_a)]).start(b);
    a.up("node2").await;
    let name = b.name.clone();
    b.stop();
    a.down("node2").await;
    assert!(!a.outlets.send(&name, Lane::Control, b"lost".as_slice().into()));
    assert!(a.metric("peer_frames_dropped_total", &["\"node2\"", "\"control\""]) >= 1.0);
    let listener = soon("the port", async {
        loop {
            match TcpListener::bind(at_b).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await;
    let began = Instant::now();
    let mut b = Plan::new(&world, "node2", &[("node1", at_a)]).start(listener);
    a.up("node2").await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    b.up("node1").await;
    assert!(a.send(&b, Lane::Control, b"new") && a.send(&b, Lane::Bulk, b"new too"));
    assert_eq!(b.control().await.frame, b"new");
    assert_eq!(b.bulk().await.frame, b"new too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_accepts_and_says_nothing_costs_a_bounded_time() {
    let world = World::new();
    let ((a, _), (mute, at_mute)) = (listen().await, listen().await);
    let timings = Timings { handshake: Duration::from_millis(200), ..fast() };
    let node = Plan::new(&world, "node1", &[("node2", at_mute)]).timings(timings).start(a);
    let mut held = Vec::new();
    // Each attempt is given up, and another made.
    while held.len() < 6 {
        held.push(soon("another attempt", mute.accept()).await.unwrap());
    }
    assert!(node.events.is_empty());
    assert!(!node.outlets.send(&"node2".parse().unwrap(), Lane::Control, b"x".as_slice().into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_falls_silent_is_down() {
    let world = World::new();
    let ((a, _), (played, at_played)) = (listen().await, listen().await);
    let tls = server(world.files(Role::Node, "node2"));
    let mut node = Plan::new(&world, "node1", &[("node2", at_played)]).timings(fast()).start(a);
    let _first = Played::accept(&played, &tls).await;
    let _second = Played::accept(&played, &tls).await;
    node.up("node2").await;
    let began = Instant::now();
    node.down("node2").await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_nothing_fills_its_outbox_and_no_more() {
    let world = World::new();
    let ((a, _), (played, at_played)) = (listen().await, listen().await);
    let tls = server(world.files(Role::Node, "node2"));
    let mut node = Plan::new(&world, "node1", &[("node2", at_played)]).timings(fast()).start(a);
    let (one, _) = Played::accept(&played, &tls).await;
    let (two, _) = Played::accept(&played, &tls).await;
    node.up("node2").await;
    let beats = [one, two].map(|mut played| {
        tokio::spawn(async move {
            while played.writer.beat().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    });
    let peer = "node2".parse().unwrap();
    let frame = bytes::Bytes::from(vec![0; 200 << 10]);
    until("control is full", || {
        (0..100).any(|_| !node.outlets.send(&peer, Lane::Control, frame.clone()))
    })
    .await;
    assert!(node.metric("peer_frames_dropped_total", &["\"node2\"", "\"control\""]) >= 1.0);
    assert!(node.outlets.send(&peer, Lane::Bulk, frame), "the other lane has its own room");
    assert!(node.events.is_empty(), "it lives");
    beats.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_dials_and_falls_silent_is_closed() {
    let world = World::new();
    let ((a, at_a), (_b, at_b)) = (listen().await, listen().await);
    let timings = Timings { bulk_silence: Duration::from_millis(700), ..fast() };
    let node = Plan::new(&world, "node1", &[("node2", at_b)]).timings(timings).start(a);
    let client = world.client(Role::Node, "node2");
    for lane in Lane::ALL {
        Played::welcome(at_a, &client, lane).await.closed().await;
    }
    assert_eq!(node.metric("peer_violations_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_connection_takes_the_older_ones_place() {
    let world = World::new();
    let ((a, at_a), (_b, at_b)) = (listen().await, listen().await);
    let mut node = Plan::new(&world, "node1", &[("node2", at_b)]).start(a);
    let client = world.client(Role::Node, "node2");
    let mut first = Played::welcome(at_a, &client, Lane::Bulk).await;
    first.send(b"first").await;
    assert_eq!(node.bulk().await.frame, b"first");
    let mut second = Played::welcome(at_a, &client, Lane::Bulk).await;
    first.closed().await;
    second.send(b"second").await;
    assert_eq!(node.bulk().await.frame, b"second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_its_peer_does_not_renew_is_closed() {
    let world = World::new();
    let ((a, at_a), (_b, at_b)) = (listen().await, listen().await);
    let timings = Timings { oldest: Duration::from_millis(300), ..Timings::default() };
    let node = Plan::new(&world, "node1", &[("node2", at_b)]).timings(timings).start(a);
    let client = world.client(Role::Node, "node2");
    Played::welcome(at_a, &client, Lane::Control).await.closed().await;
    node.metric_reaches("peer_violations_total", &["\"node2\""], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_certificate_is_revoked_is_down_at_the_next_renewal() {
    let world = World::new();
    let timings = Timings { renew: Duration::from_millis(300), ..fast() };
    let (mut a, b) = pair(&world, |plan| plan.timings(timings)).await;
    assert!(a.events.is_empty());
    world.revoke("node2");
    a.client.reload().unwrap();
    a.down("node2").await;
    assert!(!a.send(&b, Lane::Control, b"secret"));
}
