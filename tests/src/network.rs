//! A network that a test makes and cuts: each node in a network namespace of its own, all joined by
//! a bridge in another. Cut links drop silently, as a broken switch does; nothing is refused.

use logseal::site::Home;
use std::{
    net::{IpAddr, Ipv4Addr},
    process::Command,
};

/// What says what to do where namespaces cannot be made.
const NEEDED: &str = "this test makes network namespaces: it needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN) and \
                      'ip' of the Debian package iproute2; 'cargo xtask test' installs that";

/// Nodes in namespaces. Everything goes when this is dropped; end the programs inside before.
#[derive(Debug)]
pub struct Network {
    /// Names are this program's own, and subnets too, as far as 510 are enough.
    id: u32,
    nodes: usize,
}

impl Network {
    /// Makes a network for so many nodes. This program, and agents that it starts, are in it too.
    ///
    /// # Panics
    /// With what is needed, when it cannot be made.
    pub fn make(nodes: usize) -> Self {
        let network = Network { id: std::process::id(), nodes };
        let hub = network.hub();
        ip(&format!("netns add {hub}"));
        for group in 0..nodes {
            ip(&format!("-n {hub} link add br{group} type bridge"));
            ip(&format!("-n {hub} link set br{group} up"));
        }
        let own = format!("ls{}", network.id);
        ip(&format!("link add {own} type veth peer name own netns {hub}"));
        ip(&format!("-n {hub} link set own master br0 up"));
        ip(&format!("addr add {}/24 dev {own}", network.address(1)));
        ip(&format!("link set {own} up"));
        for index in 0..nodes {
            let node = network.node(index);
            ip(&format!("netns add {node}"));
            ip(&format!("-n {hub} link add p{index} type veth peer name eth0 netns {node}"));
            ip(&format!("-n {hub} link set p{index} master br0 up"));
            ip(&format!("-n {node} addr add {}/24 dev eth0", network.of_node(index)));
            ip(&format!("-n {node} link set eth0 up"));
            ip(&format!("-n {node} link set lo up"));
        }
        network
    }

    /// Where the nodes run.
    pub fn homes(&self) -> Vec<Home> {
        let home =
            |index| Home { address: IpAddr::V4(self.of_node(index)), within: self.within(index) };
        (0..self.nodes).map(home).collect()
    }

    /// Parts the nodes: only those of one group reach each other. This program is in the first.
    pub fn part(&self, groups: &[&[usize]]) {
        for (group, nodes) in groups.iter().enumerate() {
            for index in *nodes {
                ip(&format!("-n {} link set p{index} master br{group}", self.hub()));
            }
        }
    }

    /// Joins all nodes again.
    pub fn heal(&self) {
        let all: Vec<usize> = (0..self.nodes).collect();
        self.part(&[&all]);
    }

    /// What starts a program beside a node.
    pub fn within(&self, index: usize) -> Vec<String> {
        let node = self.node(index);
        ["ip", "netns", "exec", &node].map(str::to_owned).to_vec()
    }

    fn hub(&self) -> String {
        format!("ls{}hub", self.id)
    }

    fn node(&self, index: usize) -> String {
        format!("ls{}n{}", self.id, index + 1)
    }

    fn of_node(&self, index: usize) -> Ipv4Addr {
        self.address(10 + index as u8)
    }

    /// 198.18.0.0/15 is for tests of networks (RFC 2544) and used by nobody else.
    fn address(&self, host: u8) -> Ipv4Addr {
        let subnet = self.id % 510;
        Ipv4Addr::new(198, 18 + (subnet / 255) as u8, (subnet % 255) as u8, host)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What was never made cannot be removed; a namespace goes a moment after its last program.
        let _ = Command::new("ip").args(["link", "del", &format!("ls{}", self.id)]).output();
        let nodes = (0..self.nodes).map(|index| self.node(index));
        for name in nodes.chain([self.hub()]) {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split_whitespace()).output();
    let done = done.unwrap_or_else(|error| panic!("'ip' cannot be run ({error}): {NEEDED}"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "'ip {words}': {said}{NEEDED}");
}
