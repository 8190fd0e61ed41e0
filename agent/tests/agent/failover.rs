//! Several nodes, some of them down, slow, refusing, lying or far away: the batches go elsewhere, and
//! nothing is lost or sealed twice.

use std::time::{Duration, Instant};

use logseal_agent::{metrics::NodeLabel, uplink::UplinkSettings};

use crate::{
    fake_node::{Mood, Node},
    support::*,
    uplink::{World, drain, fill, problems, receipted, serve, total},
};

fn connections(settings: &UplinkSettings, node: &Node) -> u64 {
    let label = NodeLabel { node: node.address.to_string() };
    settings.metrics.uplink_connections.get_or_create(&label).get()
}

/// Every batch was sealed once: whatever was offered was one of these, bit for bit.
fn assert_offered(world: &World, sealed: &[Vec<u8>]) {
    let state = world.ledger.state();
    assert!(state.offered.iter().all(|batch| sealed.contains(batch)));
    assert!(sealed.iter().all(|batch| state.offered.contains(batch)));
}

#[tokio::test]
async fn a_node_that_gives_no_receipts_is_left_for_the_next_one() {
    let world = World::new();
    let sealed = fill(&world, 5);
    let slow = world.ledger.node(&world.certificates, &[Mood::NoReceipts]).await;
    let honest = world.ledger.node(&world.certificates, &[]).await;
    let mut settings = world.settings(&[&slow, &honest]);
    settings.timing.patience = Duration::from_millis(200);
    drain(&world, &settings, total(5)).await;
    assert_eq!(world.ledger.records(), total(5));
    assert_eq!((problems(&settings, "slow"), connections(&settings, &slow)), (1, 1));
    assert_offered(&world, &sealed);
}

#[tokio::test]
async fn a_ledger_that_stands_still_is_asked_ever_more_patiently() {
    let world = World::new();
    let sealed = fill(&world, 3);
    let moods = [[Mood::NoReceipts; 4].as_slice(), &[Mood::Honest]].concat();
    let one = world.ledger.node(&world.certificates, &moods).await;
    let two = world.ledger.node(&world.certificates, &moods).await;
    let mut settings = world.settings(&[&one, &two]);
    settings.timing.patience = Duration::from_millis(20);
    let began = Instant::now();
    drain(&world, &settings, total(3)).await;
    // Four rounds of two nodes: 20, 40, 80 and 160 ms each.
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    assert_eq!(problems(&settings, "slow"), 8);
    assert_offered(&world, &sealed);
}

#[tokio::test]
async fn the_only_node_is_waited_for() {
    let world = World::new();
    fill(&world, 2);
    let node = world.ledger.node(&world.certificates, &[Mood::NoReceipts]).await;
    let mut settings = world.settings(&[&node]);
    settings.timing.patience = Duration::from_millis(20);
    let (spooling, feed) = spooling(world.spool(), u64::MAX, &settings.metrics);
    let began = Instant::now();
    let long = || began.elapsed() > settings.timing.dead * 2;
    serve(&settings, feed, "time passes", long).await;
    spooling.stop();
    assert_eq!((problems(&settings, "slow"), world.ledger.state().greetings), (0, 1));
}

#[tokio::test]
async fn a_node_that_refuses_is_left_without_a_pause() {
    for (mood, reason) in [
        (Mood::Rejecting, "rejected"),
        (Mood::Busy, "busy"),
        (Mood::AlreadyConnected, "already_connected"),
        (Mood::Impostor, "node_name"),
    ] {
        let world = World::new();
        let sealed = fill(&world, 4);
        let first = world.ledger.node(&world.certificates, &[mood]).await;
        let honest = world.ledger.node(&world.certificates, &[]).await;
        let mut settings = world.settings(&[&first, &honest]);
        // Longer than the test may take.
        settings.timing.pause_min = LIMIT * 2;
        settings.timing.pause_slow = LIMIT * 2;
        drain(&world, &settings, total(4)).await;
        assert_eq!(problems(&settings, reason), 1, "{reason}");
        assert_offered(&world, &sealed);
    }
}

#[tokio::test]
async fn a_node_that_lies_is_left_and_what_it_gave_is_kept_as_evidence() {
    let world = World::new();
    let sealed = fill(&world, 3);
    let liar = world.ledger.node(&world.certificates, &[Mood::ForgedRoot]).await;
    let honest = world.ledger.node(&world.certificates, &[Mood::Hasty]).await;
    let settings = world.settings(&[&liar, &honest]);
    drain(&world, &settings, total(3)).await;
    assert_offered(&world, &sealed);
    assert_eq!((settings.metrics.receipts_refused.get(), connections(&settings, &liar)), (1, 1));
    let evidence = world.evidence();
    assert_eq!(evidence.len(), 1);
    let kept: serde_json::Value = serde_json::from_str(&evidence[0]).unwrap();
    let text = |key: &str| kept[key].as_str().unwrap().to_owned();
    assert_eq!(text("node"), liar.address.to_string());
    assert_eq!(text("certificate"), "node n1");
    assert!(text("problem").contains("does not prove"), "{}", text("problem"));
    assert_eq!(text("digest"), record::batch::SealedBatch::digest(&sealed[0]).to_string());
    let checkpoint = kept["receipt"]["checkpoint"].as_str().unwrap();
    let note = record::note::SignedNote::parse(checkpoint.as_bytes()).unwrap();
    assert!(note.text().starts_with(origin().as_str()), "the lie is signed as it came");
    assert_eq!(kept["receipt"]["size"], 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_may_die_one_after_the_other() {
    let world = World::new();
    let mut one = Some(world.ledger.node(&world.certificates, &[]).await);
    let mut two = Some(world.ledger.node(&world.certificates, &[]).await);
    let addresses = [&one, &two].map(|node| node.as_ref().unwrap().address.to_string());
    let settings = world.settings(&[one.as_ref().unwrap(), two.as_ref().unwrap()]);
    let spool = world.spool();
    let mut sealer = Sealer::new(spool.log().frontier);
    let (spooling, feed) = spooling(spool, u64::MAX, &settings.metrics);
    let serving = serve(&settings, feed, "all receipts", || receipted(&settings) == 3000);
    let working = async {
        for round in 1..=6 {
            for _ in 0..5 {
                tokio::task::block_in_place(|| spooling.put(sealer.seal(100)));
            }
            until("its receipts", || receipted(&settings) == round * 500).await;
            let (dies, comes) = if round % 2 == 1 { (&mut one, 1) } else { (&mut two, 0) };
            drop(dies.take());
            let other = if round % 2 == 1 { &mut two } else { &mut one };
            if other.is_none() {
                *other = Some(world.ledger.node_at(&world.certificates, &addresses[comes]).await);
            }
        }
    };
    tokio::join!(serving, working);
    spooling.stop();
    assert_eq!(world.ledger.records(), 3000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_distant_node_is_left_for_a_near_one_and_no_batch_is_sent_twice() {
    let world = World::new();
    let distant = world.ledger.node(&world.certificates, &[Mood::Distant]).await;
    let near = world.ledger.node(&world.certificates, &[]).await;
    let mut settings = world.settings(&[&distant, &near]);
    settings.timing.look = Duration::from_millis(100);
    let spool = world.spool();
    let mut sealer = Sealer::new(spool.log().frontier);
    let (spooling, feed) = spooling(spool, u64::MAX, &settings.metrics);
    let mut sealed = 0;
    let moved = || connections(&settings, &near) == 1;
    let sealing = async {
        while !moved() {
            tokio::task::block_in_place(|| spooling.put(sealer.seal(3)));
            sealed += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        until("all receipts", || receipted(&settings) == sealed * 3).await;
    };
    tokio::select! {
        reason = logseal_agent::uplink::Uplink::new(settings.clone().into(), feed).run() => panic!("{reason}"),
        () = sealing => {}
    }
    spooling.stop();
    assert_eq!(connections(&settings, &distant), 1);
    assert_eq!(world.ledger.state().offered.len() as u64, sealed, "each batch once");
    assert_eq!(problems(&settings, "nearer"), 0, "that is no problem");
}
