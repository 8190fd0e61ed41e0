//! One node: where it is, where its files are there, and what its configuration says.

use crate::output::{Failure, fail};
use certs::Host;
use ledger::keys::Keys;
use record::{NodeName, Origin, note::VerifierKey};
use service::{
    config::Tls,
    http::Url,
    members::{FaultModel, Member, Members},
};
use std::{
    fmt::Display,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// The ports of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Agents, operators and auditors.
    pub agents: u16,
    /// The other nodes.
    pub peers: u16,
    /// Checkpoint and tiles.
    pub https: u16,
    /// Metrics, on loopback.
    pub metrics: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Ports { agents: 7514, peers: 7515, https: 7580, metrics: 9514 }
    }
}

/// An outside witness of the new ledger.
#[derive(Clone, Debug)]
pub struct WitnessPlan {
    /// Its submission prefix.
    pub url: Url,
    /// Its key.
    pub vkey: VerifierKey,
    /// On the nodes' machines, the authorities of which its certificate must be; the system's if
    /// none is given.
    pub ca: Option<PathBuf>,
}

/// The `[[witness]]` tables of a node.
pub fn witness_tables(witnesses: &[WitnessPlan]) -> String {
    let table = |witness: &WitnessPlan| {
        let (url, vkey) = (quoted(&witness.url), quoted(&witness.vkey));
        let ca = witness.ca.as_ref().map(|ca| format!("ca = {}\n", quoted(ca.display())));
        format!("\n[[witness]]\nurl = {url}\nvkey = {vkey}\n{}", ca.unwrap_or_default())
    };
    witnesses.iter().map(table).collect()
}

/// How a node is to be configured. All paths are those on its own machine.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// Its name.
    pub name: NodeName,
    /// Under which name or address others reach it.
    pub host: Host,
    /// The address it listens on.
    pub listen: IpAddr,
    /// Its ports.
    pub ports: Ports,
    /// The members file.
    pub members: PathBuf,
    /// The store's directory.
    pub store: PathBuf,
    /// The keys' directory.
    pub keys: PathBuf,
    /// Its certificate files.
    pub tls: Tls,
    /// Space that must be free, in MiB.
    pub min_free_mib: u64,
    /// Seconds between renewals of an idle checkpoint.
    pub renew_s: u64,
    /// True if checkpoint and hash tiles need no certificate.
    pub open_hashes: bool,
    /// Outside witnesses that it asks.
    pub witnesses: Vec<WitnessPlan>,
    /// How often at most, in seconds.
    pub witnesses_every_s: u64,
}

impl NodePlan {
    /// A node with a machine of its own, where its files are as [`super::init()`] lays them out.
    pub fn on_a_machine(name: NodeName, host: Host, config_dir: &Path, data_dir: &Path) -> Self {
        let listen = match host {
            Host::Ip(IpAddr::V6(_)) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            _ => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        };
        NodePlan {
            name,
            host,
            listen,
            ports: Ports::default(),
            members: config_dir.join("members.toml"),
            store: data_dir.join("store"),
            keys: config_dir.join("keys"),
            tls: tls_below(config_dir, "node"),
            min_free_mib: 256,
            renew_s: 60,
            open_hashes: false,
            witnesses: Vec::new(),
            witnesses_every_s: 5,
        }
    }

    /// Where others reach `port`: `HOST:PORT`.
    pub fn reached(&self, port: u16) -> String {
        match self.host {
            Host::Ip(ip) => SocketAddr::new(ip, port).to_string(),
            Host::Dns(_) => format!("{}:{port}", self.host),
        }
    }

    /// What the others are to know of it.
    pub fn member(&self, keys: &Keys) -> Member {
        Member {
            name: self.name.clone(),
            peers: self.reached(self.ports.peers),
            agents: self.reached(self.ports.agents),
            https: self.reached(self.ports.https),
            consensus: keys.consensus.vkey().clone(),
            log: keys.log.vkey().clone(),
            cosigner: keys.cosigner.vkey().clone(),
        }
    }

    /// Its `ledger.toml`.
    pub fn to_toml(&self, origin: &Origin) -> String {
        let listen = |port| quoted(SocketAddr::new(self.listen, port));
        format!(
            "# Node {name} of the ledger {origin}. 'logseal-ledger check' validates this file;\n\
             # the example that comes with logseal-ledger explains every key.\n\
             name = {}\norigin = {}\n\n\
             [store]\ndir = {}\nmin_free_mib = {}\n\n\
             [keys]\ndir = {}\n\n{}\n\
             [cluster]\nmembers = {}\n\n\
             [listen]\nagents = {}\npeers = {}\nhttps = {}\nmetrics = \"127.0.0.1:{}\"\n\n\
             [checkpoint]\nrenew_s = {}\nwitnesses_every_s = {}\n\n[http]\nopen_hashes = {}\n{}",
            quoted(&self.name),
            quoted(origin),
            quoted(self.store.display()),
            self.min_free_mib,
            quoted(self.keys.display()),
            tls_table(&self.tls),
            quoted(self.members.display()),
            listen(self.ports.agents),
            listen(self.ports.peers),
            listen(self.ports.https),
            self.ports.metrics,
            self.renew_s,
            self.witnesses_every_s,
            self.open_hashes,
            witness_tables(&self.witnesses),
            name = self.name,
        )
    }
}

/// Makes the keys of all nodes, each in the directory that `keys` says, and lists the nodes.
///
/// # Errors
/// A key that cannot be made, or nodes that cannot be those of one ledger.
pub fn make_members(
    origin: &Origin,
    fault_model: FaultModel,
    nodes: &[NodePlan],
    keys: impl Fn(&NodePlan) -> PathBuf,
) -> Result<Members, Failure> {
    let member = |node: &NodePlan| -> Result<Member, Failure> {
        let made = Keys::make(&keys(node), origin, &node.name).map_err(fail)?;
        Ok(node.member(&made))
    };
    let nodes = nodes.iter().map(member).collect::<Result<_, _>>()?;
    Members::new(fault_model, nodes, origin).map_err(fail)
}

/// The certificate files below a configuration directory, `name` being whose they are.
pub(super) fn tls_below(config_dir: &Path, name: &str) -> Tls {
    let tls = config_dir.join("tls");
    Tls {
        ca: tls.join("ca.pem"),
        cert: tls.join(format!("{name}.pem")),
        key: tls.join(format!("{name}.key")),
        crl: Some(tls.join("crl.pem")),
    }
}

/// A `[tls]` table.
pub(super) fn tls_table(tls: &Tls) -> String {
    let mut text = String::from("[tls]\n");
    let files = [("ca", Some(&tls.ca)), ("cert", Some(&tls.cert)), ("key", Some(&tls.key))];
    for (key, path) in files.into_iter().chain([("crl", tls.crl.as_ref())]) {
        if let Some(path) = path {
            text += &format!("{key} = {}\n", quoted(path.display()));
        }
    }
    text
}

/// Text as a TOML string; a JSON string is one.
pub fn quoted(text: impl Display) -> String {
    serde_json::Value::from(text.to_string()).to_string()
}
