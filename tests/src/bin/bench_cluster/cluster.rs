//! The cluster that is measured: four nodes and an agent as processes.

use crate::LIMIT;
use logseal::{
    client::ClientArgs,
    demo::Meter,
    site::{AgentOptions, LedgerOptions, Process, Site},
    status::ask_all,
};
use logseal_tests::{
    figures::{Usage, median, write_corpus},
    wait_for,
};
use service::members::FaultModel;
use std::{
    path::Path,
    time::{Duration, Instant},
};

const NODES: usize = 4;
/// Records of a round that is not measured, after a start.
const WARM_UP: u64 = 5_000;

/// Nodes and agent, running.
pub struct Running<'a> {
    pub site: &'a Site,
    pub nodes: Vec<Process>,
    pub agent: Process,
}

/// What each process has used so far.
pub struct AllUsage {
    pub agent: Usage,
    pub nodes: Vec<Usage>,
}

/// What one round took.
pub struct Round {
    pub per_second: f64,
    pub agent_us: f64,
    pub nodes_us: Vec<f64>,
    pub agent_written: f64,
    pub node_written: f64,
    pub records_per_block: f64,
    pub agent_resident: u64,
    pub agent_peak: u64,
    pub node_resident: u64,
    pub node_peak: u64,
}

impl Round {
    /// CPU of a node: the mean of all, of which one has the agent's connection.
    pub fn node_us(&self) -> f64 {
        self.nodes_us.iter().sum::<f64>() / self.nodes_us.len() as f64
    }
}

/// A cluster in which nothing runs yet, with agent gw01 enrolled.
pub fn make_site(dir: &Path) -> Site {
    let site = Site::make_with(dir, NODES, FaultModel::Byzantine).unwrap();
    site.configure_nodes(&LedgerOptions::default()).unwrap();
    std::fs::create_dir_all(site.path("logs")).unwrap();
    let paths = site.path("logs/*.log");
    let source =
        format!("[[source.file]]\nname = \"kong\"\npaths = [{paths:?}]\nformat = \"kong\"\n");
    site.configure_agent(&AgentOptions::new("gw01", source)).unwrap();
    let _nodes = site.start_nodes().unwrap();
    site.enrol("gw01").unwrap();
    site
}

impl<'a> Running<'a> {
    /// Starts all, and gives back what has carried some records already.
    pub fn start(site: &'a Site) -> Self {
        let nodes = site.start_nodes().unwrap();
        let agent = site.start_agent("gw01").unwrap();
        let running = Running { site, nodes, agent };
        running.carry("warm-up", WARM_UP);
        running.wait_agreed();
        running
    }

    pub fn stop(mut self) {
        self.agent.stop(LIMIT).unwrap();
        for node in &mut self.nodes {
            node.stop(LIMIT).unwrap();
        }
    }

    pub fn usage(&self) -> AllUsage {
        let nodes = self.nodes.iter().map(Usage::of).collect();
        AllUsage { agent: Usage::of(&self.agent), nodes }
    }

    pub fn meter(&self) -> Meter {
        Meter::new(self.site.agent_metrics_port)
    }

    /// Moves a finished corpus into the watched folder and waits for all its receipts; how long
    /// that took.
    pub fn carry(&self, name: &str, lines: u64) -> Duration {
        let hidden = self.site.path(format!("{name}.corpus"));
        write_corpus(&hidden, lines, lines);
        let wanted = self.meter().read().unwrap().receipted + lines;
        let begun = Instant::now();
        let path = self.site.path(format!("logs/{name}-{}-{wanted}.log", self.agent.pid()));
        std::fs::rename(&hidden, path).unwrap();
        self.meter().wait_receipted(wanted, LIMIT).unwrap();
        begun.elapsed()
    }

    /// Waits until all nodes have the newest block.
    pub fn wait_agreed(&self) {
        wait_for("one height on all nodes", || {
            let heights: Vec<u64> = (0..NODES).map(|index| self.height(index)).collect();
            heights.iter().all(|height| *height == heights[0]).then_some(())
        });
    }

    /// The height of a node's newest block; 0 if it does not answer.
    pub fn height(&self, index: usize) -> u64 {
        self.gauge(index, "logseal_ledger_height")
    }

    /// A metric of a node; 0 if it does not answer.
    pub fn gauge(&self, index: usize, name: &str) -> u64 {
        let text = Meter::new(self.site.node_ports(index).metrics).text().unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// The node that the agent hands its batches to.
    pub fn used_node(&self) -> usize {
        let text = self.meter().text().unwrap();
        let used = |index: &usize| {
            let port = self.site.node_ports(*index).agents;
            let line = format!("uplink_connected{{node=\"127.0.0.1:{port}\"}} 1");
            text.contains(&line)
        };
        (0..NODES).find(used).expect("the agent is connected")
    }

    /// The node that proposes next, as the others say.
    pub fn proposer(&self) -> Option<usize> {
        let client = ClientArgs::from_file(&self.site.path("auditor.toml")).resolve().ok()?;
        let asked = ask_all(&client).ok()?;
        let name =
            asked.iter().find_map(|a| Some(a.answer.as_ref().ok()?.cluster.clone()?.proposer))?;
        (0..NODES).find(|index| self.site.node_name(*index).as_str() == name)
    }
}

/// One round with everything started for it.
pub fn round(site: &Site, lines: u64, number: u64) -> Round {
    let running = Running::start(site);
    let (before, height) = (running.usage(), running.height(0));
    let took = running.carry(&format!("round-{number}"), lines);
    running.wait_agreed();
    let (after, blocks) = (running.usage(), running.height(0) - height);
    let nodes: Vec<(&Usage, &Usage)> = after.nodes.iter().zip(&before.nodes).collect();
    let round = Round {
        per_second: lines as f64 / took.as_secs_f64(),
        agent_us: after.agent.cpu_us_since(&before.agent, lines),
        nodes_us: nodes.iter().map(|(now, then)| now.cpu_us_since(then, lines)).collect(),
        agent_written: after.agent.written_since(&before.agent, lines),
        node_written: median(nodes.iter().map(|(now, then)| now.written_since(then, lines))),
        records_per_block: lines as f64 / blocks as f64,
        agent_resident: after.agent.resident,
        agent_peak: after.agent.peak,
        node_resident: after.nodes.iter().map(|usage| usage.resident).max().unwrap(),
        node_peak: after.nodes.iter().map(|usage| usage.peak).max().unwrap(),
    };
    running.stop();
    round
}
