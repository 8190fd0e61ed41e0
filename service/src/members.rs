//! The nodes of a ledger: `members.toml`, the same file on every node, all of it public.
//!
//! Names, keys and the fault model never change in the life of a ledger;
//! addresses may. Whoever holds a [`Members`] knows that its names, keys and
//! addresses are each other's only ones, that every key is named after its node
//! and its ledger, and what a quorum is.

use crate::config::{ConfigError, Source};
pub use record::fault::{FaultModel, FaultModelError};
use record::{
    NodeName, Origin,
    note::{KeyName, SignatureType, VerifierKey},
    policy::write_policy,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, path::Path};

/// The most nodes of a ledger.
pub const MAX_NODES: usize = 64;
/// The longest address, in bytes: a DNS name and a port.
const MAX_ADDRESS: usize = 260;
/// No names for nodes: a policy gives them a meaning of its own.
pub const RESERVED: [&str; 2] = ["none", "nodes"];

/// The file as it is written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    fault_model: String,
    #[serde(default)]
    node: Vec<WrittenNode>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WrittenNode {
    name: String,
    peers: String,
    agents: String,
    https: String,
    consensus: String,
    log: String,
    cosigner: String,
}

/// One node, as all others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// Where the other nodes connect, `HOST:PORT`.
    pub peers: String,
    /// Where agents, operators and auditors connect, `HOST:PORT`.
    pub agents: String,
    /// Where checkpoint and tiles are served, `HOST:PORT`.
    pub https: String,
    /// Verifies its votes.
    pub consensus: VerifierKey,
    /// Verifies its signature on checkpoints.
    pub log: VerifierKey,
    /// Verifies its cosignatures.
    pub cosigner: VerifierKey,
}

/// A node, or the list of them, cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct MembersError {
    /// The key at fault, as the file has it: `node[1].name`.
    pub key: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

/// The nodes of a ledger, sorted by name, and what they are protected against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    fault_model: FaultModel,
    nodes: Vec<Member>,
}

impl Members {
    /// Reads the members file of the ledger `origin`.
    ///
    /// # Errors
    /// The first value that cannot be meant, with its file and line.
    pub fn load(path: &Path, origin: &Origin) -> Result<Self, ConfigError> {
        let (written, source): (Written, Source) = Source::load(path)?;
        Self::meant(&written, origin).map_err(|error| source.error(&error.key, error.problem))
    }

    /// Checks nodes of the ledger `origin`, in any order.
    ///
    /// # Errors
    /// The first thing wrong with them.
    pub fn new(
        fault_model: FaultModel,
        nodes: Vec<Member>,
        origin: &Origin,
    ) -> Result<Self, MembersError> {
        if !(1..=MAX_NODES).contains(&nodes.len()) {
            let problem = format!("{} nodes: a ledger has 1 to {MAX_NODES}", nodes.len());
            return Err(MembersError { key: "node".into(), problem });
        }
        let (mut seen, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for (index, node) in nodes.iter().enumerate() {
            let at = |(key, problem): (&str, String)| MembersError {
                key: format!("node[{index}].{key}"),
                problem,
            };
            check_names(node, origin).map_err(at)?;
            check_unique(node, &mut seen, &mut keys).map_err(at)?;
        }
        let mut members = Members { fault_model, nodes };
        members.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(members)
    }

    fn meant(written: &Written, origin: &Origin) -> Result<Self, MembersError> {
        let fault_model = written.fault_model.parse().map_err(|error: FaultModelError| {
            MembersError { key: "fault_model".into(), problem: error.to_string() }
        })?;
        let parse = |(index, node): (usize, &WrittenNode)| {
            node.meant().map_err(|(key, problem)| MembersError {
                key: format!("node[{index}].{key}"),
                problem,
            })
        };
        let nodes = written.node.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        Self::new(fault_model, nodes, origin)
    }

    /// The file that [`Members::load`] reads these from.
    pub fn to_toml(&self) -> String {
        let nodes = self.nodes.iter().map(WrittenNode::of).collect();
        let written = Written { fault_model: self.fault_model.to_string(), node: nodes };
        let text = toml::to_string(&written).expect("strings in tables have a TOML form");
        format!(
            "# The nodes of this ledger: the same file on each of them. All of it is public.\n\
             # Names, keys and the fault model never change; addresses may.\n\
             # {}.\n{text}",
            self.fault_model.explain(self.nodes.len()),
        )
    }

    /// The C2SP tlog-policy of the ledger: what agents and auditors must be given to trust it.
    pub fn policy(&self) -> String {
        let logs: Vec<_> = self.nodes.iter().map(|node| node.log.clone()).collect();
        let named = |node: &Member| (node.name.to_string(), node.cosigner.clone());
        let witnesses: Vec<_> = self.nodes.iter().map(named).collect();
        write_policy(&logs, &witnesses, self.quorum())
    }

    /// What the nodes are protected against.
    pub fn fault_model(&self) -> FaultModel {
        self.fault_model
    }

    /// All nodes, sorted by name; at least one.
    pub fn nodes(&self) -> &[Member] {
        &self.nodes
    }

    /// The node of this name.
    pub fn get(&self, name: &NodeName) -> Option<&Member> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// How many nodes must agree.
    pub fn quorum(&self) -> usize {
        self.fault_model.quorum(self.nodes.len())
    }

    /// How many nodes may fail.
    pub fn tolerates(&self) -> usize {
        self.fault_model.tolerates(self.nodes.len())
    }

    /// In a sentence what the nodes bear; see [`FaultModel::explain`].
    pub fn explain(&self) -> String {
        self.fault_model.explain(self.nodes.len())
    }
}

impl WrittenNode {
    fn of(node: &Member) -> Self {
        WrittenNode {
            name: node.name.to_string(),
            peers: node.peers.clone(),
            agents: node.agents.clone(),
            https: node.https.clone(),
            consensus: node.consensus.to_string(),
            log: node.log.to_string(),
            cosigner: node.cosigner.to_string(),
        }
    }

    fn meant(&self) -> Result<Member, (&'static str, String)> {
        let key = |name: &'static str, text: &str| {
            text.parse::<VerifierKey>().map_err(|error| (name, error.to_string()))
        };
        Ok(Member {
            name: self.name.parse().map_err(|error| ("name", format!("{error}")))?,
            peers: self.peers.clone(),
            agents: self.agents.clone(),
            https: self.https.clone(),
            consensus: key("consensus", &self.consensus)?,
            log: key("log", &self.log)?,
            cosigner: key("cosigner", &self.cosigner)?,
        })
    }
}

/// The name of the key that signs a node's votes: `<origin>/node/<name>/consensus`.
pub fn consensus_key_name(origin: &Origin, node: &NodeName) -> KeyName {
    format!("{}/consensus", origin.node(node)).parse().expect("a name and a word make a name")
}

type Problem = (&'static str, String);

/// The node can stand in a policy, and its keys are named after it and its ledger.
fn check_names(node: &Member, origin: &Origin) -> Result<(), Problem> {
    if RESERVED.contains(&node.name.as_str()) {
        return Err(("name", format!("'{}' means something else in a policy", node.name)));
    }
    let (ed25519, cosignature) = (SignatureType::Ed25519, SignatureType::CosignatureV1);
    let consensus = consensus_key_name(origin, &node.name);
    for (key, vkey, name, kind) in [
        ("consensus", &node.consensus, &consensus, ed25519),
        ("log", &node.log, origin.key_name(), ed25519),
        ("cosigner", &node.cosigner, &origin.node(&node.name), cosignature),
    ] {
        if vkey.name() != name {
            return Err((key, format!("is the key of '{}', not of '{name}'", vkey.name())));
        }
        if vkey.kind() != kind {
            return Err((key, "is a key of another kind: was it mixed up with another?".into()));
        }
    }
    Ok(())
}

/// No earlier node has this one's name, one of its addresses or one of its keys.
fn check_unique(
    node: &Member,
    seen: &mut BTreeSet<String>,
    keys: &mut BTreeSet<[u8; 32]>,
) -> Result<(), Problem> {
    // An address has a colon, which no name has.
    if !seen.insert(node.name.to_string()) {
        return Err(("name", format!("'{}' is named twice", node.name)));
    }
    for (key, text) in [("peers", &node.peers), ("agents", &node.agents), ("https", &node.https)] {
        if !is_address(text) {
            let problem = format!("'{text}' is not HOST:PORT, such as node1.log.example:7514");
            return Err((key, problem));
        }
        if !seen.insert(text.clone()) {
            return Err((key, format!("'{text}' is used twice")));
        }
    }
    let own = [("consensus", &node.consensus), ("log", &node.log), ("cosigner", &node.cosigner)];
    for (key, vkey) in own {
        if !keys.insert(vkey.public().0) {
            let problem = "is used twice: every node makes three keys of its own";
            return Err((key, problem.into()));
        }
    }
    Ok(())
}

/// `HOST:PORT` with a port that can be connected to; an IPv6 address is in brackets.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b'@' | b'"' | b'\\');
    let bracketed = host.starts_with('[') && host.ends_with(']');
    text.len() <= MAX_ADDRESS
        && !host.is_empty()
        && host.bytes().all(plain)
        && (bracketed || !host.contains(':'))
        && port.bytes().all(|b| b.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
#[path = "members/tests.rs"]
mod tests;
