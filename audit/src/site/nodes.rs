//! The nodes of a site: how they are configured and started. Nodes are counted from 0; node 0 is
//! called `node1`.
//!
//! A site of one node has `ledger.toml`, `keys/` and `store/` at its top, and
//! knows no cluster. With several nodes, each has these in a folder of its own.

use super::{LedgerOptions, Process, Site, SiteError, layout::READY};
use crate::{
    cluster::{NodePlan, Ports, make_members, quoted, witness_tables},
    output::Failure,
};
use certs::Host;
use record::{NodeName, Origin};
use service::{config::Tls, members::Members};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The origin of every site's ledger.
const ORIGIN: &str = "demo.logseal.example/access";

impl Site {
    /// How many nodes the ledger has.
    pub fn node_count(&self) -> usize {
        1 + self.others.len()
    }

    /// The name of a node: `node1`, `node2`, …
    pub fn node_name(&self, index: usize) -> NodeName {
        format!("node{}", index + 1).parse().expect("a word and a number make a name")
    }

    /// The ports of a node.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn node_ports(&self, index: usize) -> Ports {
        match index.checked_sub(1) {
            Some(other) => self.others[other],
            None => Ports {
                agents: self.agents_port,
                peers: self.peers_port,
                https: self.https_port,
                metrics: self.ledger_metrics_port,
            },
        }
    }

    /// The folder of a node's configuration, keys and store.
    pub fn node_dir(&self, index: usize) -> PathBuf {
        match self.node_count() {
            1 => self.dir.clone(),
            _ => self.path(self.node_name(index).as_str()),
        }
    }

    /// Where agents, operators and auditors reach a node.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn agents_address(&self, index: usize) -> SocketAddr {
        SocketAddr::new(self.homes[index].address, self.node_ports(index).agents)
    }

    /// Where a node serves its checkpoint and tiles.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn https_address(&self, index: usize) -> SocketAddr {
        SocketAddr::new(self.homes[index].address, self.node_ports(index).https)
    }

    /// Where agents, operators and auditors reach the nodes, as a TOML array.
    pub(super) fn agent_addresses(&self) -> String {
        let address = |index| quoted(self.agents_address(index));
        let nodes: Vec<String> = (0..self.node_count()).map(address).collect();
        format!("[{}]", nodes.join(", "))
    }

    /// Where every node serves checkpoints and tiles, as a TOML array.
    fn https_addresses(&self) -> String {
        let address = |index| quoted(self.https_address(index));
        let nodes: Vec<String> = (0..self.node_count()).map(address).collect();
        format!("[{}]", nodes.join(", "))
    }

    /// Writes the configuration of every node, makes the keys that are missing, and writes
    /// `policy`, `operator.toml` and `auditor.toml`.
    pub fn configure_nodes(&self, options: &LedgerOptions) -> Result<(), SiteError> {
        if self.node_count() == 1 {
            return self.configure_ledger(options);
        }
        let plans: Vec<NodePlan> = (0..self.node_count()).map(|i| self.plan(i, options)).collect();
        let origin: Origin = ORIGIN.parse().expect("it is an origin");
        let keys = |node: &NodePlan| node.keys.clone();
        let members = make_members(&origin, self.fault_model, &plans, keys).map_err(other)?;
        for (index, plan) in plans.iter().enumerate() {
            let folder = self.node_name(index);
            let text = plan.to_toml(&origin) + &options.extra;
            self.write(&format!("{folder}/ledger.toml"), &text)?;
            self.write(&format!("{folder}/members.toml"), &members.to_toml())?;
        }
        self.write("members.toml", &members.to_toml())?;
        self.write("policy", &members.policy())?;
        self.configure_people()
    }

    /// The members of a site of several nodes, as [`Site::configure_nodes`] wrote them.
    pub fn members(&self) -> Result<Members, SiteError> {
        let origin: Origin = ORIGIN.parse().expect("it is an origin");
        Members::load(&self.path("members.toml"), &origin)
            .map_err(|error| SiteError::Other(error.to_string()))
    }

    fn plan(&self, index: usize, options: &LedgerOptions) -> NodePlan {
        let (name, folder) = (self.node_name(index), self.node_dir(index));
        let store = match options.store.is_absolute() {
            true => options.store.join(name.as_str()),
            false => folder.join(&options.store),
        };
        NodePlan {
            host: Host::Ip(self.homes[index].address),
            listen: self.homes[index].address,
            ports: self.node_ports(index),
            members: folder.join("members.toml"),
            store,
            keys: folder.join("keys"),
            tls: Tls {
                ca: self.path("pki/ca.pem"),
                cert: self.cert("node", name.as_str()),
                key: self.key("node", name.as_str()),
                crl: Some(self.path("pki/crl.pem")),
            },
            min_free_mib: options.min_free_mib,
            renew_s: options.renew_s,
            open_hashes: true,
            witnesses: options.witnesses.clone(),
            witnesses_every_s: 1,
            name,
        }
    }

    /// Writes `ledger.toml` of a ledger of one, makes the node's keys and writes `policy`.
    pub fn configure_ledger(&self, options: &LedgerOptions) -> Result<(), SiteError> {
        let text = format!(
            "name = \"node1\"\norigin = \"{ORIGIN}\"\n\
             [store]\ndir = {:?}\nmin_free_mib = {}\n[keys]\ndir = {:?}\n{}\
             [listen]\nagents = \"127.0.0.1:{}\"\nhttps = \"127.0.0.1:{}\"\nmetrics = \"127.0.0.1:{}\"\n\
             [checkpoint]\nrenew_s = {}\nwitnesses_every_s = 1\n[http]\nopen_hashes = true\n{}{}",
            self.path(&options.store),
            options.min_free_mib,
            self.path("keys"),
            self.tls_table("node", "node1"),
            self.agents_port,
            self.https_port,
            self.ledger_metrics_port,
            options.renew_s,
            witness_tables(&options.witnesses),
            options.extra,
        );
        self.write("ledger.toml", &text)?;
        let policy =
            self.output("logseal-ledger", &["keys", "--config", &self.shown("ledger.toml")])?;
        self.write("policy", &policy)?;
        self.configure_people()
    }

    fn configure_people(&self) -> Result<(), SiteError> {
        for who in ["operator", "auditor"] {
            let client = format!(
                "nodes = {}\nhttps = {}\npolicy = {:?}\n{}",
                self.agent_addresses(),
                self.https_addresses(),
                self.path("policy"),
                self.tls_table(who, who),
            );
            self.write(&format!("{who}.toml"), &client)?;
        }
        Ok(())
    }

    /// Starts the first node and waits until it is ready.
    pub fn start_ledger(&self) -> Result<Process, SiteError> {
        self.start_node(0)
    }

    /// Starts all nodes and waits until all are ready.
    pub fn start_nodes(&self) -> Result<Vec<Process>, SiteError> {
        let nodes: Result<Vec<Process>, _> =
            (0..self.node_count()).map(|i| self.spawn_node(i, &[])).collect();
        let mut nodes = nodes?;
        nodes.iter_mut().try_for_each(|node| node.wait_ready(READY))?;
        Ok(nodes)
    }

    /// Starts a node and waits until it is ready.
    pub fn start_node(&self, index: usize) -> Result<Process, SiteError> {
        let mut node = self.spawn_node(index, &[])?;
        node.wait_ready(READY)?;
        Ok(node)
    }

    /// Starts a node without waiting, with further arguments to `run`.
    pub fn spawn_node(&self, index: usize, more: &[&str]) -> Result<Process, SiteError> {
        self.spawn_node_of(&self.programs.path("logseal-ledger"), index, more)
    }

    /// As [`Site::spawn_node`], with a program of one's own.
    pub fn spawn_node_of(
        &self,
        program: &Path,
        index: usize,
        more: &[&str],
    ) -> Result<Process, SiteError> {
        let config = self.node_dir(index).join("ledger.toml").display().to_string();
        let log = match self.node_count() {
            1 => self.path("ledger.log"),
            _ => self.path(format!("{}.log", self.node_name(index))),
        };
        let program = program.display().to_string();
        let within = self.homes[index].within.iter().map(String::as_str);
        let mut words = within.chain([program.as_str(), "run", "--config", &config]);
        let first = PathBuf::from(words.next().unwrap_or_default());
        let args: Vec<&str> = words.chain(more.iter().copied()).collect();
        Process::start(&first, &args, &log)
    }
}

fn other(failure: Failure) -> SiteError {
    SiteError::Other(failure.0)
}
