//! Nodes that the network parts: one alone, the proposer, and two from two.

use logseal::{
    site::{LedgerOptions, Site},
    status::Overview,
};
use logseal_tests::{
    LIMIT,
    cluster::{Cluster, NODES, tell, turn},
    network::Network,
};
use serde_json::Value;
use std::{
    process::Command,
    time::{Duration, Instant},
};

/// How long the network stays parted: longer than nodes take to notice, and to try again.
const PARTED: Duration = Duration::from_secs(6);
/// How soon after the network healed the ledger must be whole again.
const WHOLE: Duration = Duration::from_secs(5);
const LINES: usize = 500;

#[test]
fn a_parted_network_neither_forks_nor_loses_and_heals_within_five_seconds() {
    let turn = turn();
    let network = Network::make(NODES);
    let honest = |site: &Site, index| site.spawn_node(index, &[]).unwrap();
    let mut parted = Parted {
        cluster: Cluster::start_at(turn, network.homes(), &LedgerOptions::default(), honest),
        network,
    };
    parted.cluster.log.write(LINES);
    parted.cluster.wait_settled(&[0, 1, 2, 3]);
    let bystander = (parted.cluster.agents_node() + 2) % NODES;
    parted.cut_one("a node", bystander);
    let agents_node = parted.cluster.agents_node();
    parted.cut_one("the agent's node", agents_node);
    let proposer = parted.proposer();
    parted.cut_one("the next proposer", proposer);
    parted.split_in_halves();
    parted.cluster.assert_complete(&[0, 1, 2, 3]);
    parted.cluster.assert_calm();
}

/// A cluster whose network can be cut. The cluster ends before its network does.
struct Parted {
    cluster: Cluster,
    network: Network,
}

impl Parted {
    /// Cuts one node off: the others go on, and it catches up.
    fn cut_one(&mut self, what: &str, index: usize) {
        let others: Vec<usize> = (0..NODES).filter(|other| *other != index).collect();
        let before = self.cluster.receipted();
        self.network.part(&[&others, &[index]]);
        let cut = Instant::now();
        self.cluster.log.write(LINES);
        self.cluster.wait_receipted(before + LINES as u64);
        let stall = cut.elapsed();
        std::thread::sleep(PARTED.saturating_sub(stall));
        self.network.heal();
        let (_, whole) = self.wait_whole();
        let name = self.cluster.site.node_name(index);
        tell(&format!(
            "cut off {what}, {name}: receipts from the others after {stall:.1?}; whole {whole:.1?} \
             after the network"
        ));
        assert!(whole <= WHOLE, "{whole:?}\n{}", self.cluster.describe());
    }

    /// Parts two from two: nothing is decided, on neither side, until the network heals.
    fn split_in_halves(&mut self) {
        let before = self.cluster.wait_settled(&[0, 1, 2, 3]);
        let height = self.cluster.overview().rows[0].height.unwrap();
        let receipted = self.cluster.receipted();
        self.network.part(&[&[0, 1], &[2, 3]]);
        self.cluster.log.write(LINES);
        // That nothing happens can only be seen by waiting.
        std::thread::sleep(PARTED);
        for index in [0, 1] {
            let checkpoint = self.cluster.checkpoint(index).unwrap();
            assert_eq!(checkpoint, before, "half of the nodes decided something");
        }
        for index in 0..NODES {
            let (seen, verdict) = self.seen_from(index);
            assert_eq!(seen, height, "half of the nodes decided something");
            assert_eq!(verdict, "no quorum");
        }
        assert_eq!(self.cluster.receipted(), receipted);
        self.network.heal();
        let (first, whole) = self.wait_whole();
        let receipts = Instant::now();
        self.cluster.wait_receipted(receipted + LINES as u64);
        tell(&format!(
            "parted two from two for {PARTED:?}: nothing decided; first decision {first:.1?} and whole {whole:.1?} \
             after the network, all receipts {:.1?} later",
            receipts.elapsed()
        ));
        assert!(whole <= WHOLE, "{whole:?}\n{}", self.cluster.describe());
    }

    /// Waits until all nodes vote, connected with each other, at one height above that of now, and
    /// says how long the first decision and all of it took since the network healed.
    fn wait_whole(&mut self) -> (Duration, Duration) {
        let healed = Instant::now();
        let before = self.cluster.checkpoint(0).map_or(0, |checkpoint| checkpoint.size.0);
        self.cluster.log.write(1);
        let mut first = None;
        loop {
            let now = self.cluster.overview();
            if now.rows.iter().any(|row| row.size.is_some_and(|size| size > before)) {
                first.get_or_insert(healed.elapsed());
            }
            if let Some(first) = first
                && is_whole(&now)
            {
                return (first, healed.elapsed());
            }
            assert!(healed.elapsed() < LIMIT, "{}", self.cluster.describe());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn proposer(&self) -> usize {
        let name = self.cluster.overview().proposer.unwrap();
        (0..NODES).find(|index| self.cluster.site.node_name(*index).as_str() == name).unwrap()
    }

    /// A node's height and the verdict, as 'logseal status' says beside it.
    fn seen_from(&self, index: usize) -> (u64, String) {
        let Cluster { site, .. } = &self.cluster;
        let within = self.network.within(index);
        let output = Command::new(&within[0])
            .args(&within[1..])
            .arg(site.programs.path("logseal"))
            .args([
                "status",
                "--json",
                "--node",
                &site.agents_address(index).to_string(),
                "--config",
            ])
            .arg(site.path("auditor.toml"))
            .output()
            .unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let name = site.node_name(index);
        let row = said["nodes"].as_array().unwrap().iter().find(|row| row["name"] == name.as_str());
        (row.unwrap()["height"].as_u64().unwrap(), said["verdict"].as_str().unwrap().to_owned())
    }
}

fn is_whole(now: &Overview) -> bool {
    let heights: Vec<_> = now.rows.iter().map(|row| row.height).collect();
    let joined =
        |row: &logseal::status::Row| row.voting && row.peers == Some((NODES - 1, NODES - 1));
    now.rows.iter().all(joined) && heights.iter().all(|height| *height == heights[0])
}
