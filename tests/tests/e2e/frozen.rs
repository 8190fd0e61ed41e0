//! A node that stands still and keeps its connections: slow for agents, behind for auditors.

use logseal::site::LedgerOptions;
use logseal_tests::{
    cluster::{Cluster, NODES, tell},
    wait_for,
};
use rustix::process::Signal;
use std::{
    process::Command,
    time::{Duration, Instant},
};

/// Records that the others take meanwhile: more than a moment's work to fetch.
const LINES: usize = 40_000;
/// How often it is tried to see the mark, each time with twice as many records: on a busy machine
/// a node may have caught up before it is asked.
const ATTEMPTS: usize = 5;

#[test]
fn a_node_that_stands_still_is_left_by_its_agent_and_says_that_it_lags_when_it_goes_on() {
    let mut cluster = Cluster::start(&LedgerOptions::default());
    cluster.log.write(500);
    cluster.wait_settled(&[0, 1, 2, 3]);
    let frozen = cluster.agents_node();
    let mut left = None;
    let seen = (0..ATTEMPTS).find_map(|attempt| {
        let (took, ahead) = freeze(&mut cluster, frozen, LINES << attempt);
        left.get_or_insert(took);
        let marked = watch(&cluster, frozen, ahead);
        cluster.wait_back(frozen);
        marked
    });
    let (to, size) = seen.expect("it says that it lags");
    wait_for("a checkpoint that is not marked", || {
        look(&cluster, frozen)?.0.is_none().then_some(())
    });
    cluster.assert_complete(&[0, 1, 2, 3]);
    cluster.assert_calm();
    let left = left.unwrap();
    tell(&format!(
        "a frozen node: left by its agent after {left:.1?}; at {size} entries it said that it lags behind height {to}"
    ));
}

/// Freezes a node while the others go on, and lets it go on then; how long the first receipt took,
/// and how many entries the others have.
fn freeze(cluster: &mut Cluster, frozen: usize, lines: usize) -> (Duration, u64) {
    let before = cluster.receipted();
    cluster.nodes[frozen].signal(Signal::STOP).unwrap();
    let begun = Instant::now();
    cluster.log.write(1);
    cluster.wait_receipted(before + 1);
    let left = begun.elapsed();
    for part in 1..=4 {
        // Blocks of its own each: one large block would be there at once.
        cluster.log.write(lines / 4);
        cluster.wait_receipted(before + 1 + part * lines as u64 / 4);
    }
    let others: Vec<usize> = (0..NODES).filter(|index| *index != frozen).collect();
    let ahead = cluster.wait_agreed(&others, cluster.log.count()).size.0;
    cluster.nodes[frozen].signal(Signal::CONT).unwrap();
    (left, ahead)
}

/// Looks at a node's checkpoint until it is marked, or has everything: what it then lags behind, and
/// its size.
fn watch(cluster: &Cluster, frozen: usize, ahead: u64) -> Option<(u64, u64)> {
    wait_for("a node to catch up", || match look(cluster, frozen)? {
        (Some(to), size) => Some(Some((to, size))),
        (None, size) if size >= ahead => Some(None),
        (None, _) => None,
    })
}

/// What a node's checkpoint says: the height that it lags behind, if so, and its size.
fn look(cluster: &Cluster, index: usize) -> Option<(Option<u64>, u64)> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--cacert"])
        .arg(cluster.site.path("pki/ca.pem"))
        .arg(format!("https://{}/checkpoint", cluster.site.https_address(index)))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (head, body) = said.split_once("\r\n\r\n")?;
    let mark = head.lines().find_map(|line| line.strip_prefix("logseal-lagging-behind: "));
    Some((mark.map(|mark| mark.parse().unwrap()), body.lines().nth(1)?.parse().unwrap()))
}
