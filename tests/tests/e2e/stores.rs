//! Stores that are lost: one, which is refused until it is asked for, and more than a ledger bears.

use logseal::{
    site::{LedgerOptions, Process},
    status::Verdict,
};
use logseal_tests::{
    LIMIT,
    cluster::{Cluster, NODES},
    wait_for,
};
use std::{path::PathBuf, time::Duration};

const ALL: [usize; 4] = [0, 1, 2, 3];
/// Heights that pass by a node that must not vote, at a second each.
const IDLE: Duration = Duration::from_secs(4);

fn started(lines: usize) -> Cluster {
    let mut cluster = Cluster::start(&LedgerOptions::default());
    cluster.log.write(lines);
    cluster.wait_settled(&ALL);
    cluster
}

fn store(cluster: &Cluster, index: usize) -> PathBuf {
    cluster.site.node_dir(index).join("store")
}

/// Kills a node and takes its store away, to this folder beside it.
fn lose_store(cluster: &mut Cluster, index: usize) -> PathBuf {
    cluster.kill(index);
    let (store, kept) = (store(cluster, index), cluster.site.node_dir(index).join("lost"));
    std::fs::rename(store, &kept).unwrap();
    kept
}

fn spawn(cluster: &Cluster, index: usize, more: &[&str]) -> Process {
    cluster.site.spawn_node(index, more).unwrap()
}

#[test]
fn an_empty_store_in_a_ledger_that_exists_is_refused_until_it_is_asked_for() {
    let mut cluster = started(2_000);
    lose_store(&mut cluster, 2);
    let mut blank = spawn(&cluster, 2, &[]);
    let status = blank.wait(LIMIT).unwrap();
    assert_eq!(status.code(), Some(2), "{}", blank.log_tail());
    let said = blank.log_tail();
    assert!(said.contains("store is empty") && said.contains("--rejoin"), "{said}");
    cluster.log.write(2_000);
    cluster.wait_settled(&[0, 1, 3]);
    cluster.nodes[2] = spawn(&cluster, 2, &["--rejoin"]);
    cluster.wait_back(2);
    // It remembers from here on: nobody has to ask again.
    cluster.kill(2);
    cluster.restart(2);
    cluster.wait_back(2);
    cluster.assert_complete(&ALL);
    cluster.assert_calm();
}

#[test]
fn a_node_that_lost_only_its_votes_does_not_vote_again_on_what_it_may_have_voted_on() {
    let mut cluster = started(500);
    cluster.kill(3);
    std::fs::remove_dir_all(store(&cluster, 3).join("votes")).unwrap();
    cluster.restart(3);
    wait_for("the node to say so", || {
        let said = cluster.nodes[3].log_text();
        (said.contains("votes is missing") && said.contains("votes again when that is safe"))
            .then_some(())
    });
    // There is nobody else with something to decide: a height must come beyond those it may have voted in.
    cluster.log.write(500);
    cluster.wait_back(3);
    cluster.assert_complete(&ALL);
    cluster.assert_calm();
}

#[test]
fn two_lost_stores_of_four_stop_the_ledger_until_one_of_them_is_restored() {
    let mut cluster = started(2_000);
    let lost = [1, 2].map(|index| lose_store(&mut cluster, index));
    for index in [1, 2] {
        cluster.nodes[index] = spawn(&cluster, index, &["--rejoin"]);
    }
    // They fetch what there is, and serve it.
    let before = cluster.wait_settled(&[0, 3]);
    wait_for("the two to have everything", || {
        let rows = cluster.overview().rows;
        let fetched = |row: &&logseal::status::Row| row.size >= Some(before.size.0);
        (rows.iter().filter(fetched).count() == NODES).then_some(())
    });
    cluster.log.write(100);
    // That nothing happens can only be seen by waiting.
    std::thread::sleep(IDLE);
    let now = cluster.overview();
    assert_eq!(now.verdict, Verdict::NoQuorum, "{:?}", now.alarms);
    let rejoining = now.rows.iter().filter(|row| row.state.starts_with("rejoining"));
    assert_eq!(rejoining.count(), 2, "{}", cluster.describe());
    assert_eq!(cluster.checkpoint(0).unwrap(), before, "two of four decided something");
    // One of the two disks is found again, as it was when its node ended.
    cluster.nodes[1].stop(LIMIT).unwrap();
    std::fs::remove_dir_all(store(&cluster, 1)).unwrap();
    std::fs::rename(&lost[0], store(&cluster, 1)).unwrap();
    cluster.restart(1);
    cluster.wait_back(1);
    cluster.wait_settled(&[0, 1, 3]);
    cluster.wait_back(2);
    cluster.assert_complete(&ALL);
    cluster.assert_calm();
}
