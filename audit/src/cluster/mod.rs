//! `logseal cluster`: everything a new ledger of several nodes needs, made in one place.
//!
//! What it makes is what an administrator would make by hand with `logseal
//! certs` and `logseal-ledger keys`; nothing else knows that it was used.

mod init;
mod node;
mod readme;

pub use init::{Made, Plan, init};
pub use node::{NodePlan, Ports, WitnessPlan, make_members, quoted, witness_tables};

use crate::output::{Failure, Outcome, fail};
use certs::{Host, LEAF_DAYS, MAX_DAYS};
use clap::{Args, Subcommand, builder::RangedU64ValueParser};
use record::{AgentName, NodeName, Origin, note::VkeyError};
use serde_json::{Value, json};
use service::{
    http::UrlError,
    members::{FaultModel, MAX_NODES},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Make the configuration of a new ledger of several nodes.
#[derive(Args, Debug)]
pub struct ClusterArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Init(Box<InitArgs>),
}

/// Write keys, certificates, configurations and the policy of a new ledger into a folder, ready to
/// be copied to its nodes; README.txt in it says how.
///
/// The folder then holds every private key of the ledger. Where the nodes have administrators who
/// do not trust each other, let each make the keys on his own machine instead:
/// 'logseal-ledger keys --member'.
#[derive(Args, Debug)]
struct InitArgs {
    /// How many nodes [default: as many as names or addresses are given, or 4]
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_NODES as u64))]
    nodes: Option<usize>,
    /// The ledger's identity, for ever: a URL without scheme, such as ledger.city.example/access
    #[arg(long)]
    origin: Origin,
    /// The folder to make; it must not hold anything yet
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The nodes' names [default: node1, node2, …]
    #[arg(long = "name", value_name = "NAME", num_args = 1..)]
    names: Vec<NodeName>,
    /// Under which DNS names or IP addresses the nodes are reached, in the order of their names
    /// [default: their names]
    #[arg(long = "address", value_name = "HOST", num_args = 1..)]
    addresses: Vec<Host>,
    /// What to be protected against: 'byzantine' (nodes may fail and lie; 4 nodes bear one such)
    /// or 'crash' (nodes may fail but do not lie; 3 nodes bear one). It never changes
    #[arg(long, default_value_t = FaultModel::Byzantine)]
    fault_model: FaultModel,
    /// How many days the certificates hold
    #[arg(long, default_value_t = LEAF_DAYS,
        value_parser = RangedU64ValueParser::<u32>::new().range(1..=u64::from(MAX_DAYS)))]
    days: u32,
    /// Agents to make a configuration and certificate for
    #[arg(long = "agent", value_name = "NAME", num_args = 1..)]
    agents: Vec<AgentName>,
    /// An outside witness that the nodes ask, as 'logseal witness init' prints it; can be repeated
    #[arg(long = "witness", num_args = 2, value_names = ["URL", "VKEY"])]
    witnesses: Vec<String>,
    /// On the nodes' machines, the authorities of which the witnesses' certificates must be
    /// [default: the system's]
    #[arg(long, value_name = "FILE", requires = "witnesses")]
    witness_ca: Option<PathBuf>,
    /// Where a node keeps its data
    #[arg(long, value_name = "DIR", default_value = "/var/lib/logseal-ledger")]
    data_dir: PathBuf,
    /// Where the folder of a node, or of an agent, is copied to
    #[arg(long, value_name = "DIR", default_value = "/etc/logseal")]
    config_dir: PathBuf,
}

/// Carries the command out.
pub fn run(args: ClusterArgs) -> Result<Outcome, Failure> {
    let Command::Init(args) = args.command;
    let plan = plan(&args)?;
    let made = init(&args.dir, &plan)?;
    Ok(report(&args.dir, &plan, &made))
}

fn plan(args: &InitArgs) -> Result<Plan, Failure> {
    let given = args.names.len().max(args.addresses.len());
    let count = args.nodes.unwrap_or(if given == 0 { 4 } else { given });
    let fits = |what: &str, given: usize| match given {
        0 => Ok(()),
        given if given == count => Ok(()),
        given => Err(Failure(format!("--{what} is given {given} times, for {count} nodes"))),
    };
    fits("name", args.names.len())?;
    fits("address", args.addresses.len())?;
    let hosts: BTreeSet<String> = args.addresses.iter().map(ToString::to_string).collect();
    if hosts.len() < args.addresses.len() {
        let problem = "two nodes have one address: on one machine they fail together";
        return Err(Failure(format!("{problem}; give each its own --address")));
    }
    let witnesses = witnesses(args)?;
    let mut nodes = Vec::with_capacity(count);
    for index in 0..count {
        let name: NodeName = match args.names.get(index) {
            Some(name) => name.clone(),
            None => format!("node{}", index + 1).parse().map_err(fail)?,
        };
        let host = match args.addresses.get(index) {
            Some(host) => host.clone(),
            None => name.as_str().parse().map_err(fail)?,
        };
        let node = NodePlan::on_a_machine(name, host, &args.config_dir, &args.data_dir);
        nodes.push(NodePlan { witnesses: witnesses.clone(), ..node });
    }
    Ok(Plan {
        origin: args.origin.clone(),
        fault_model: args.fault_model,
        nodes,
        agents: args.agents.clone(),
        days: args.days,
        config_dir: args.config_dir.clone(),
        witnesses,
    })
}

fn witnesses(args: &InitArgs) -> Result<Vec<WitnessPlan>, Failure> {
    let (pairs, _) = args.witnesses.as_chunks::<2>();
    let meant = |[url, vkey]: &[String; 2]| {
        let at = |error: &dyn std::error::Error| Failure(format!("--witness {url}: {error}"));
        Ok(WitnessPlan {
            url: url.parse().map_err(|error: UrlError| at(&error))?,
            vkey: vkey.parse().map_err(|error: VkeyError| at(&error))?,
            ca: args.witness_ca.clone(),
        })
    };
    pairs.iter().map(meant).collect()
}

fn report(dir: &Path, plan: &Plan, made: &Made) -> Outcome {
    let (members, shown) = (&made.members, dir.display());
    let warnings = plan.fault_model.warnings(plan.nodes.len());
    let mut text: String = warnings.iter().map(|warning| format!("WARNING {warning}\n")).collect();
    text += &format!(
        "ledger {}: {}; {} must agree\n",
        plan.origin,
        members.explain(),
        members.quorum()
    );
    let mut line = |folder: &str, what: &str| text += &format!("  {folder:<14} {what}\n");
    line("pki/", "the CA: it stays with you, off the nodes; back it up, encrypted");
    for node in &plan.nodes {
        let folder = format!("{}/", node.name);
        line(&folder, &format!("for the machine {}: keys, certificate, configuration", node.host));
    }
    for agent in &plan.agents {
        line(&format!("agent-{agent}/"), "for its server: certificate, policy, configuration");
    }
    line("operator/", "for who enrols agents; 'logseal … --config operator/client.toml'");
    line("auditor/", "for who reads and verifies records");
    line("policy", "for everybody who is to trust this ledger: public keys and the quorum");
    if !plan.witnesses.is_empty() {
        line("audit-policy", "for auditors and monitors: asks for the outside witnesses as well");
    }
    line("members.toml", "the nodes, their addresses and public keys; the same on every node");
    line("README.txt", "the commands to copy all this and to start the nodes");
    text += &format!("next: {shown}/README.txt\n");
    let nodes: Vec<Value> = plan.nodes.iter().map(|node| account(dir, node)).collect();
    let json = json!({
        "dir": shown.to_string(),
        "origin": plan.origin.as_str(),
        "fault_model": plan.fault_model.to_string(),
        "quorum": members.quorum(),
        "tolerates": members.tolerates(),
        "nodes": nodes,
        "agents": plan.agents.iter().map(AgentName::as_str).collect::<Vec<_>>(),
        "policy": dir.join("policy"),
        "audit_policy": made.audit_policy.as_ref().map(|_| dir.join("audit-policy")),
        "members": dir.join("members.toml"),
        "warnings": warnings,
    });
    Outcome { text, json, code: service::exit::OK }
}

fn account(dir: &Path, node: &NodePlan) -> Value {
    json!({
        "name": node.name.as_str(),
        "dir": dir.join(node.name.as_str()),
        "agents": node.reached(node.ports.agents),
        "peers": node.reached(node.ports.peers),
        "https": node.reached(node.ports.https),
    })
}

#[cfg(test)]
mod tests;
