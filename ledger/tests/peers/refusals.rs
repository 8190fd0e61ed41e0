//! Who is not let in, and what both sides learn of it.

use crate::support::{Plan, Played, World, fast, hello, listen, name, server, until};
use link::{
    Role,
    peer::{Lane, PeerAnswer, PeerHello, PeerRefusal},
    tls::Problem,
};
use record::Hash;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_other_ledgers_are_told_why_they_are_refused() {
    let world = World::new();
    let (listener, address) = listen().await;
    let node = Plan::new(&world, "node1", &[("node2", address)]).start(listener);
    let good = hello(Lane::Control);
    let cases: [(&str, PeerHello, PeerRefusal, &[&str]); 5] = [
        ("node9", good.clone(), PeerRefusal::Unknown, &["node9", "members file of node1"]),
        ("node1", good.clone(), PeerRefusal::Unknown, &["node1"]),
        (
            "node2",
            PeerHello { membership: [8; 32], ..good.clone() },
            PeerRefusal::Membership,
            &["node node2", "members file of node1"],
        ),
        (
            "node2",
            PeerHello { origin: "other.example/x".into(), ..good.clone() },
            PeerRefusal::Origin,
            &["node node2", "other.example/x", "ledger.city.example/access"],
        ),
        (
            "node2",
            PeerHello { protocol: 2, ..good },
            PeerRefusal::Protocol,
            &["node node2 2", "same version"],
        ),
    ];
    for (who, hello, code, expected) in cases {
        let client = world.client(Role::Node, who);
        let (played, answer) = Played::dial(address, &client, &hello).await;
        let PeerAnswer::Refused(refused) = answer else { panic!("{who} is not refused") };
        assert_eq!(refused.code, code);
        for word in expected {
            assert!(refused.message.contains(word), "{word} in {}", refused.message);
        }
        played.writer.shutdown().await.unwrap();
        node.metric_reaches("peer_refused_total", &[&format!("\"{}\"", code.label())], 1.0).await;
    }
    assert_eq!(node.metric("peer_violations_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_in_another_role_gets_no_connection() {
    let world = World::new();
    let (listener, address) = listen().await;
    let node = Plan::new(&world, "node1", &[("gw01", address)]).start(listener);
    let client = world.client(Role::Agent, "gw01");
    let limit = std::time::Duration::from_secs(10);
    let connected = link::tls::connect(address, "127.0.0.1", &client, Role::Node, limit).await;
    // With TLS 1.3 the client learns it from its first read.
    let problem = match connected {
        Err(error) => error.problem,
        Ok((stream, _)) => match Played::new(stream).reader.next().await {
            Err(link::frame::FrameError::Io(error)) => Problem::from_io(error),
            other => panic!("{other:?}"),
        },
    };
    assert!(matches!(problem, Problem::Refused(_)), "{problem}");
    node.metric_reaches("peer_refused_total", &["\"wrong_role\""], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_different_members_do_not_connect() {
    let world = World::new();
    let ((a, at_a), (b, at_b)) = (listen().await, listen().await);
    let a = Plan::new(&world, "node1", &[("node2", at_b)]).start(a);
    let mut plan = Plan::new(&world, "node2", &[("node1", at_a)]);
    plan.settings.membership = Hash([8; 32]);
    let b = plan.start(b);
    for node in [&a, &b] {
        node.metric_reaches("peer_refused_total", &["\"membership\""], 4.0).await;
        assert!(node.events.is_empty());
    }
    assert!(!a.send(&b, Lane::Control, b"vote"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_under_another_name_is_not_taken_for_the_expected_one() {
    let world = World::new();
    let ((a, _), (other, at_other)) = (listen().await, listen().await);
    let tls = server(world.files(Role::Node, "node3"));
    let node = Plan::new(&world, "node1", &[("node2", at_other)]).start(a);
    // Handshakes succeed, unless that on the other lane failed earlier, and no greeting follows.
    let mut handshakes = 0;
    while handshakes < 4 {
        let (stream, _) = other.accept().await.unwrap();
        if let Ok((stream, _)) = link::tls::accept(stream, &tls, fast().handshake).await {
            let said = Played::new(stream).reader.next().await;
            assert!(matches!(said, Ok(None) | Err(_)), "{said:?}");
            handshakes += 1;
        }
    }
    assert!(node.events.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_large_a_frame_ends_the_connection_before_memory_is_taken() {
    let world = World::new();
    let ((a, at_a), (_b, at_b)) = (listen().await, listen().await);
    let mut node = Plan::new(&world, "node1", &[("node2", at_b)]).start(a);
    let client = world.client(Role::Node, "node2");
    for (lane, seen) in [(Lane::Control, 1.0), (Lane::Bulk, 2.0)] {
        let mut played = Played::welcome(at_a, &client, lane).await;
        played.send(b"good").await;
        let good = if lane == Lane::Control { node.control().await } else { node.bulk().await };
        assert_eq!((good.from, good.frame), (name("node2"), b"good".to_vec()));
        let frame = vec![0; lane.max_frame() + 1];
        // The node may close before all of it is written.
        let _ = played.writer.write(&frame).await;
        played.closed().await;
        node.metric_reaches("peer_violations_total", &["\"node2\""], seen).await;
    }
    let mut greeting = hello(Lane::Bulk);
    greeting.version = "x".repeat(5000);
    let connected = link::tls::connect(at_a, "127.0.0.1", &client, Role::Node, fast().handshake);
    let mut played = Played::new(connected.await.unwrap().0);
    played.writer.send(&greeting).await.unwrap();
    let _ = played.writer.flush().await;
    played.closed().await;
    node.metric_reaches("peer_refused_total", &["\"frame\""], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_the_connection_and_is_counted() {
    let world = World::new();
    let ((a, at_a), (_b, at_b)) = (listen().await, listen().await);
    let node = Plan::new(&world, "node1", &[("node2", at_b)]).start(a);
    let client = world.client(Role::Node, "node2");
    let connected = link::tls::connect(at_a, "127.0.0.1", &client, Role::Node, fast().handshake);
    let mut stream = connected.await.unwrap().0;
    let hello = link::frame::to_bytes(&hello(Lane::Control)).unwrap();
    stream.write_all(&(hello.len() as u32).to_be_bytes()).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    stream.flush().await.unwrap();
    until("it is taken", || node.metric("peer_connections", &["\"in\"", "\"control\""]) == 1.0)
        .await;
    // Read before the garbage goes out: the reset that follows may overtake what was not read.
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).await.unwrap();
    assert!(matches!(link::frame::from_bytes(&answer).unwrap(), PeerAnswer::Welcome(_)));
    // Bytes that are no TLS record.
    stream.get_mut().0.write_all(&[0x17, 3, 3, 0, 20, 1, 2, 3]).await.unwrap();
    stream.get_mut().0.write_all(&[9; 100]).await.unwrap();
    let mut played = Played::new(stream);
    played.closed().await;
    node.metric_reaches("peer_violations_total", &["\"node2\""], 1.0).await;

    let mut plain = tokio::net::TcpStream::connect(at_a).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    node.metric_reaches("peer_refused_total", &["\"plaintext\""], 1.0).await;
}
