//! What leaves the machine, and what may be let go of.

use std::{fs, path::Path, sync::Arc};

use journal::Seq;
use logseal_agent::{
    metrics::ReasonLabel,
    spool::Spool,
    uplink::{Feed, StopReason, Uplink, UplinkSettings},
};
use record::TreeSize;

use crate::{
    fake_node::{Ledger, Mood, Node},
    support::*,
};

/// An agent's spool and a ledger.
pub struct World {
    dir: tempfile::TempDir,
    pub certificates: Certificates,
    pub ledger: Ledger,
}

impl World {
    pub fn new() -> Self {
        let (certificates, ledger) = (Certificates::new(), Ledger::new());
        World { dir: tempfile::tempdir().unwrap(), certificates, ledger }
    }

    pub fn spool(&self) -> Spool {
        let dir = self.dir.path().join("spool");
        match open(&dir).unwrap() {
            spool if spool.is_established() => spool,
            spool => {
                drop(spool);
                established(&dir)
            }
        }
    }

    pub fn settings(&self, nodes: &[&Node]) -> UplinkSettings {
        let nodes = nodes.iter().map(|node| node.address.clone()).collect();
        settings(&self.certificates, &self.ledger.policy(), nodes, self.dir.path())
    }

    pub fn evidence(&self) -> Vec<String> {
        let files = fs::read_dir(self.dir.path().join("evidence")).into_iter().flatten();
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }
}

/// Runs the uplink until something holds.
pub async fn serve(settings: &UplinkSettings, feed: Feed, what: &str, holds: impl FnMut() -> bool) {
    let uplink = Uplink::new(Arc::new(settings.clone()), feed);
    tokio::select! {
        reason = uplink.run() => panic!("the uplink stopped before '{what}': {reason}"),
        () = until(what, holds) => {}
    }
}

pub fn problems(settings: &UplinkSettings, reason: &'static str) -> u64 {
    settings.metrics.uplink_problems.get_or_create(&ReasonLabel { reason }).get()
}

pub fn receipted(settings: &UplinkSettings) -> u64 {
    settings.metrics.records_receipted.get()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sealed_record_reaches_the_ledger_and_is_released_after_its_receipt() {
    let world = World::new();
    let node = world.ledger.node(&world.certificates, &[]).await;
    let settings = world.settings(&[&node]);
    let spool = world.spool();
    let mut sealer = Sealer::new(spool.log().frontier);
    let (spooling, feed) = spooling(spool, u64::MAX, &settings.metrics);
    let reader = feed.reader.clone();
    let serving = serve(&settings, feed, "all receipts", || receipted(&settings) == 5000);
    let sealing = async {
        for records in [1, 499, 0, 2000, 1500, 1000, 0] {
            tokio::task::block_in_place(|| spooling.put(sealer.seal(records)));
        }
    };
    tokio::join!(serving, sealing);
    assert_eq!(world.ledger.records(), 5000);
    let metrics = &settings.metrics;
    assert_eq!((metrics.spool_records_waiting.get(), metrics.receipts_refused.get()), (0, 0));
    until("space is given up", || reader.first_seq() > Seq(0)).await;
    spooling.stop();
    assert_eq!(
        world.spool().backlog().base,
        TreeSize(5000),
        "nothing is sent twice after a clean stop"
    );
}

/// Seals some batches into the spool; what nobody took stays in it.
pub fn fill(world: &World, batches: u64) -> Vec<Vec<u8>> {
    let mut spool = world.spool();
    let mut sealer = Sealer::new(spool.log().frontier);
    let mut encoded = Vec::new();
    for n in 0..batches {
        let item = item(sealer.seal(10 + n));
        encoded.push(item.outgoing.sealed.batch.encode());
        spool.append(&item.outgoing, item.received, item.sealed).unwrap();
    }
    spool.sync().unwrap();
    encoded
}

pub fn total(batches: u64) -> u64 {
    (0..batches).map(|n| 10 + n).sum()
}

/// Serves a spool that was filled before, until all its records have receipts.
pub async fn drain(world: &World, settings: &UplinkSettings, records: u64) {
    let (spooling, feed) = spooling(world.spool(), u64::MAX, &settings.metrics);
    serve(settings, feed, "all receipts", || receipted(settings) == records).await;
    spooling.stop();
}

#[tokio::test]
async fn what_was_committed_and_not_receipted_is_sent_again_bit_for_bit_after_a_restart() {
    let world = World::new();
    let encoded = fill(&world, 5);
    let deaf = world.ledger.node(&world.certificates, &[Mood::NoReceipts]).await;
    let settings = world.settings(&[&deaf]);
    let (spooling, feed) = spooling(world.spool(), u64::MAX, &settings.metrics);
    serve(&settings, feed, "all is committed", || world.ledger.records() == total(5)).await;
    assert_eq!(receipted(&settings), 0);
    spooling.stop();

    let node = world.ledger.node(&world.certificates, &[]).await;
    drain(&world, &world.settings(&[&node]), total(5)).await;
    assert_eq!(world.ledger.records(), total(5), "and nothing twice");
    let state = world.ledger.state();
    assert_eq!(state.offered[..5], encoded[..]);
    assert_eq!(state.offered[state.offered.len() - 5..], encoded[..]);
}

#[tokio::test]
async fn a_connection_that_ends_after_every_receipt_loses_and_doubles_nothing() {
    let world = World::new();
    fill(&world, 12);
    let node = world.ledger.node(&world.certificates, &[Mood::Hasty]).await;
    let settings = world.settings(&[&node]);
    drain(&world, &settings, total(12)).await;
    assert_eq!(world.ledger.records(), total(12));
    assert!(problems(&settings, "closed") > 1);
}

#[tokio::test]
async fn a_receipt_that_is_no_proof_releases_nothing_and_is_kept_as_evidence() {
    for (mood, said) in
        [(Mood::ForgedRoot, "does not prove"), (Mood::NoQuorum, "too few cosignatures")]
    {
        let world = World::new();
        fill(&world, 3);
        let liar = world.ledger.node(&world.certificates, &[mood]).await;
        let settings = world.settings(&[&liar]);
        let (spooling, feed) = spooling(world.spool(), u64::MAX, &settings.metrics);
        let twice = || settings.metrics.receipts_refused.get() >= 2;
        serve(&settings, feed, "the liar is tried again", twice).await;
        spooling.stop();
        assert_eq!(receipted(&settings), 0);
        assert_eq!(world.spool().backlog().base, TreeSize(0));
        let evidence = world.evidence();
        assert!(evidence.len() >= 2);
        for part in [said, &liar.address.to_string(), "ledger.example/x", "\"start\": 0"] {
            assert!(evidence[0].contains(part), "{part}: {}", evidence[0]);
        }

        let honest = world.ledger.node(&world.certificates, &[]).await;
        drain(&world, &world.settings(&[&liar, &honest]), total(3)).await;
    }
}

#[tokio::test]
async fn a_busy_node_gets_every_batch_in_order_once_it_has_room() {
    let world = World::new();
    fill(&world, 9);
    let node = world.ledger.node(&world.certificates, &[Mood::Busy]).await;
    let settings = world.settings(&[&node]);
    drain(&world, &settings, total(9)).await;
    assert_eq!(world.ledger.state().refused.len(), 9);
    assert!(problems(&settings, "busy") > 0);
}

#[tokio::test]
async fn a_silent_node_is_given_up_for_the_next_one() {
    let world = World::new();
    fill(&world, 2);
    let silent = world.ledger.node(&world.certificates, &[Mood::Silent]).await;
    let honest = world.ledger.node(&world.certificates, &[]).await;
    let settings = world.settings(&[&silent, &honest]);
    drain(&world, &settings, total(2)).await;
    assert_eq!(problems(&settings, "silent"), 1);
}

#[tokio::test]
async fn an_idle_connection_is_kept_alive() {
    let world = World::new();
    let node = world.ledger.node(&world.certificates, &[]).await;
    let settings = world.settings(&[&node]);
    let (spooling, feed) = spooling(world.spool(), u64::MAX, &settings.metrics);
    let begun = std::time::Instant::now();
    let long = timing().dead * 3;
    serve(&settings, feed, "time passes", || begun.elapsed() > long).await;
    spooling.stop();
    assert_eq!(world.ledger.state().greetings, 1, "pings keep it");
}

#[tokio::test]
async fn a_batch_that_is_refused_for_what_it_is_stays_in_the_spool() {
    let world = World::new();
    fill(&world, 2);
    let node = world
        .ledger
        .node(&world.certificates, &[Mood::Rejecting, Mood::Rejecting, Mood::Honest])
        .await;
    let settings = world.settings(&[&node]);
    drain(&world, &settings, total(2)).await;
    assert_eq!(problems(&settings, "rejected"), 2);
}

#[tokio::test]
async fn what_only_passes_is_tried_again() {
    let world = World::new();
    fill(&world, 2);
    let moods = [Mood::AlreadyConnected, Mood::Impostor, Mood::Honest];
    let node = world.ledger.node(&world.certificates, &moods).await;
    let settings = world.settings(&[&node]);
    drain(&world, &settings, total(2)).await;
    let met = (problems(&settings, "already_connected"), problems(&settings, "node_name"));
    assert_eq!(met, (1, 1));
}

#[tokio::test]
async fn a_node_that_is_not_there_costs_only_a_pause() {
    let world = World::new();
    fill(&world, 1);
    let gone = world.ledger.node(&world.certificates, &[]).await;
    let mut settings = world.settings(&[&gone]);
    drop(gone);
    let node = world.ledger.node(&world.certificates, &[]).await;
    settings.nodes.push(node.address.clone());
    drain(&world, &settings, total(1)).await;
    assert!(problems(&settings, "unreachable") >= 1);
}

#[tokio::test]
async fn one_node_alone_cannot_stop_the_agent_with_a_lie() {
    let world = World::new();
    fill(&world, 3);
    let liar = world.ledger.node(&world.certificates, &[Mood::Boasting]).await;
    let honest = world.ledger.node(&world.certificates, &[Mood::Hasty]).await;
    drain(&world, &world.settings(&[&liar, &honest]), total(3)).await;
}

#[tokio::test]
async fn an_older_copy_of_the_spool_stops_the_agent() {
    let world = World::new();
    fill(&world, 1);
    let copy = snapshot(&world.dir.path().join("spool"));
    fill(&world, 2);
    let node = world.ledger.node(&world.certificates, &[]).await;
    drain(&world, &world.settings(&[&node]), total(1) + total(2)).await;

    let old = World { ledger: world.ledger.clone(), ..World::new() };
    let old = World { certificates: world.certificates, ..old };
    copy_into(copy.path(), &old.dir.path().join("spool"));
    let reason = stopped(&old, &old.settings(&[&node])).await;
    assert!(matches!(reason, StopReason::SpoolOld { next: 31, end: 10, .. }), "{reason}");
}

#[tokio::test]
async fn an_older_copy_that_went_on_by_itself_stops_the_agent() {
    let world = World::new();
    fill(&world, 1);
    let copy = snapshot(&world.dir.path().join("spool"));
    fill(&world, 2);
    let node = world.ledger.node(&world.certificates, &[]).await;
    drain(&world, &world.settings(&[&node]), total(1) + total(2)).await;
    // 31 records are in the ledger; the copy has 10 and seals others behind them.
    for others in [&[21][..], &[50], &[5, 30], &[21, 4]] {
        let old = World::new();
        let old = World { ledger: world.ledger.clone(), ..old };
        let dir = old.dir.path().join("spool");
        copy_into(copy.path(), &dir);
        let mut spool = open(&dir).unwrap();
        let mut sealer = Sealer::new(spool.log().frontier);
        for records in others {
            let lines = (0..*records).map(|n| format!("another line {n}"));
            let item = item(sealer.seal_lines(lines));
            spool.append(&item.outgoing, None, item.sealed).unwrap();
        }
        spool.sync().unwrap();
        drop(spool);
        let node = old.ledger.node(&old.certificates, &[]).await;
        let reason = stopped(&old, &old.settings(&[&node])).await;
        assert!(matches!(reason, StopReason::Diverged { at: 31, .. }), "{others:?}: {reason}");
    }
    assert_eq!(world.ledger.records(), 31, "none of it was even offered to be taken");
}

/// Runs the uplink until it stops by itself.
async fn stopped(world: &World, settings: &UplinkSettings) -> StopReason {
    let (spooling, feed) = spooling(world.spool(), u64::MAX, &settings.metrics);
    let running = Uplink::new(Arc::new(settings.clone()), feed).run();
    let reason = tokio::time::timeout(LIMIT, running).await.expect("the agent stops");
    spooling.stop();
    reason
}

fn copy_into(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
