//! A node that stands still and keeps its connections: slow for agents, behind for auditors.

use logseal::site::LedgerOptions;
use logseal_tests::{
    cluster::{Cluster, NODES, tell},
    wait_for,
};
use rustix::process::Signal;
use std::{process::Command, time::Instant};

/// Records that the others take meanwhile: more than a moment's work to fetch.
const LINES: usize = 40_000;

#[test]
fn a_node_that_stands_still_is_left_by_its_agent_and_says_that_it_lags_when_it_goes_on() {
    let mut cluster = Cluster::start(&LedgerOptions::default());
    cluster.log.write(500);
    cluster.wait_settled(&[0, 1, 2, 3]);
    let frozen = cluster.agents_node();
    let others: Vec<usize> = (0..NODES).filter(|index| *index != frozen).collect();
    cluster.nodes[frozen].signal(Signal::STOP).unwrap();
    let begun = Instant::now();
    cluster.log.write(1);
    cluster.wait_receipted(501);
    let left = begun.elapsed();
    for part in 1..=4 {
        // Blocks of its own each: one large block would be there at once.
        cluster.log.write(LINES / 4);
        cluster.wait_receipted(501 + part * LINES as u64 / 4);
    }
    let ahead = cluster.wait_agreed(&others, LINES as u64);
    cluster.nodes[frozen].signal(Signal::CONT).unwrap();
    let begun = Instant::now();
    let (to, size) =
        wait_for("a checkpoint that is marked as lagging", || lagging(&cluster, frozen));
    assert!(size < ahead.size.0, "it lags at {size} of {} entries", ahead.size.0);
    cluster.wait_back(frozen);
    wait_for("a checkpoint that is not marked", || {
        lagging(&cluster, frozen).is_none().then_some(())
    });
    let back = begun.elapsed();
    cluster.assert_complete(&[0, 1, 2, 3]);
    cluster.assert_calm();
    tell(&format!(
        "a frozen node: left by its agent after {left:.1?}; later at {size} of {} entries on its way to \
         height {to}, and back after {back:.1?}",
        ahead.size.0
    ));
}

/// The height that a node says it lags behind, and the size of its checkpoint, if it says so.
fn lagging(cluster: &Cluster, index: usize) -> Option<(u64, u64)> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--cacert"])
        .arg(cluster.site.path("pki/ca.pem"))
        .arg(format!("https://{}/checkpoint", cluster.site.https_address(index)))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (head, body) = said.split_once("\r\n\r\n")?;
    let marks = head.lines().find_map(|line| line.strip_prefix("logseal-lagging-behind: "))?;
    Some((marks.parse().unwrap(), body.lines().nth(1)?.parse().unwrap()))
}
