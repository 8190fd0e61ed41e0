//! A log begins only where the ledger says that it has not begun.

use logseal_agent::uplink::{StopReason, UplinkSettings, establish};
use record::{crypto::PublicKey, merkle::Frontier};

use crate::{
    fake_node::{Ledger, Mood, Node},
    support::*,
};

struct World {
    dir: tempfile::TempDir,
    certificates: Certificates,
    ledger: Ledger,
}

impl World {
    fn new() -> Self {
        let (certificates, ledger) = (Certificates::new(), Ledger::new());
        World { dir: tempfile::tempdir().unwrap(), certificates, ledger }
    }

    fn settings(&self, nodes: &[&Node]) -> UplinkSettings {
        let nodes = nodes.iter().map(|node| node.address.clone()).collect();
        settings(&self.certificates, &self.ledger.policy(), nodes, self.dir.path())
    }
}

async fn establishing(settings: &UplinkSettings) -> Result<(), StopReason> {
    tokio::time::timeout(LIMIT, establish(settings)).await.expect("an answer")
}

#[tokio::test]
async fn an_empty_spool_begins_where_the_ledger_holds_nothing() {
    let world = World::new();
    let node =
        world.ledger.node(&world.certificates, &[Mood::AlreadyConnected, Mood::Honest]).await;
    assert_eq!(establishing(&world.settings(&[&node])).await, Ok(()));
}

#[tokio::test]
async fn an_empty_spool_never_begins_again_at_0() {
    let world = World::new();
    world.ledger.commit(Sealer::new(Frontier::default()).seal(12).sealed.batch);
    let node = world.ledger.node(&world.certificates, &[]).await;
    let reason = establishing(&world.settings(&[&node])).await.unwrap_err();
    assert!(matches!(reason, StopReason::LogExists { next: 12, .. }), "{reason}");
}

#[tokio::test]
async fn another_enrolled_key_is_refused_before_anything_is_sealed() {
    let world = World::new();
    world.ledger.state().key = Some(PublicKey([9; 32]));
    let node = world.ledger.node(&world.certificates, &[]).await;
    let reason = establishing(&world.settings(&[&node])).await.unwrap_err();
    assert!(matches!(reason, StopReason::Key { .. }), "{reason}");
}

#[tokio::test]
async fn an_agent_waits_for_its_enrolment() {
    let world = World::new();
    let enrolled = world.ledger.state().key.take();
    let node = world.ledger.node(&world.certificates, &[]).await;
    let settings = world.settings(&[&node]);
    let enrolling = async {
        until("the agent has asked three times", || world.ledger.state().greetings >= 3).await;
        world.ledger.state().key = enrolled;
    };
    let (established, ()) = tokio::join!(establishing(&settings), enrolling);
    assert_eq!(established, Ok(()));
}

#[tokio::test]
async fn a_lying_node_cannot_keep_a_log_from_beginning() {
    let world = World::new();
    let liar = world.ledger.node(&world.certificates, &[Mood::Boasting]).await;
    let honest = world.ledger.node(&world.certificates, &[]).await;
    assert_eq!(establishing(&world.settings(&[&liar, &honest])).await, Ok(()));
}
