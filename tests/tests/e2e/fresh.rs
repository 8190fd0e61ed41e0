//! What an auditor downloads: from any node, and when nothing happens.

use logseal::site::LedgerOptions;
use logseal_tests::cluster::{Cluster, NODES, tell};
use record::{Checkpoint, UnixSeconds};
use std::time::{Duration, Instant};

/// How often nodes renew what they cosigned, in seconds.
const RENEW: u64 = 2;
/// How long the ledger is watched while nothing happens.
const IDLE: Duration = Duration::from_secs(9);

#[test]
fn an_idle_ledger_shows_each_auditor_the_same_fresh_checkpoint() {
    let options = LedgerOptions { renew_s: RENEW, ..LedgerOptions::default() };
    let mut cluster = Cluster::start(&options);
    cluster.log.write(500);
    cluster.wait_settled(&[0, 1, 2, 3]);
    // Its heartbeats would be entries.
    cluster.agent.kill().unwrap();
    let body = cluster.wait_agreed(&[0, 1, 2, 3], 0);
    let (begun, mut oldest, mut seen) = (Instant::now(), 0, 0);
    while begun.elapsed() < IDLE {
        for index in 0..NODES {
            let (age, checkpoint) = age(&cluster, index);
            assert_eq!(checkpoint, body, "node {index} shows another ledger");
            assert!(age <= 2 * RENEW, "node {index}: {age} s old\n{}", cluster.describe());
            oldest = oldest.max(age);
            seen += 1;
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
    tell(&format!(
        "idle: {seen} checkpoints, one body, at most {oldest} s old with renew_s = {RENEW}"
    ));
}

/// Seconds since a quorum had cosigned what this node serves, which verifies under the policy.
fn age(cluster: &Cluster, index: usize) -> (u64, Checkpoint) {
    let (verified, now) = (cluster.verified(index).unwrap(), service::clock::now().seconds());
    let mut times: Vec<UnixSeconds> = verified.witnessed().iter().map(|w| w.time).collect();
    times.sort_unstable();
    let quorum = cluster.site.members().unwrap().quorum();
    let time = times[times.len() - quorum];
    (now.0.saturating_sub(time.0), verified.checkpoint().clone())
}
