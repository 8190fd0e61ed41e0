//! Files of a site: PKI, keys, policy, configurations.

use super::{Process, Programs, SiteError};
use crate::cluster::{Ports, WitnessPlan};
use certs::{Host, Pki, Request, Timestamp, Validity};
use service::members::{FaultModel, MAX_NODES};
use std::{
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

/// How long a program may take to get ready.
pub(super) const READY: Duration = Duration::from_secs(30);

/// How the nodes are configured.
#[derive(Clone, Debug)]
pub struct LedgerOptions {
    /// The store's directory; below the site's, or with several nodes below the node's, if
    /// relative.
    pub store: PathBuf,
    /// Space that must be free.
    pub min_free_mib: u64,
    /// Seconds between renewals of an idle checkpoint.
    pub renew_s: u64,
    /// Outside witnesses that the nodes ask, every second if they have something new.
    pub witnesses: Vec<WitnessPlan>,
    /// Tables for the end of the file.
    pub extra: String,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        LedgerOptions {
            store: "store".into(),
            min_free_mib: 64,
            renew_s: 60,
            witnesses: Vec::new(),
            extra: String::new(),
        }
    }
}

/// How an agent is configured.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Its name.
    pub name: String,
    /// Milliseconds that a record may wait for more.
    pub linger_ms: u64,
    /// The spool's directory; below the site's if relative.
    pub spool: Option<PathBuf>,
    /// The most MiB of the spool.
    pub spool_mib: u64,
    /// `[[source.…]]` tables.
    pub sources: String,
    /// Anything else for the end of the file.
    pub extra: String,
}

impl AgentOptions {
    /// An agent with these sources.
    pub fn new(name: &str, sources: impl Into<String>) -> Self {
        AgentOptions {
            name: name.to_owned(),
            linger_ms: 50,
            spool: None,
            spool_mib: 1024,
            sources: sources.into(),
            extra: String::new(),
        }
    }
}

/// Where a node runs.
#[derive(Clone, Debug)]
pub struct Home {
    /// The address that it listens on, and that all others reach it at.
    pub address: IpAddr,
    /// The command that starts it, with its program and arguments behind, such as `ip netns exec
    /// NAME`; empty if it is simply started.
    pub within: Vec<String>,
}

impl Default for Home {
    fn default() -> Self {
        Home { address: Ipv4Addr::LOCALHOST.into(), within: Vec::new() }
    }
}

/// A throw-away site in a folder.
#[derive(Debug)]
pub struct Site {
    /// Where everything is.
    pub dir: PathBuf,
    /// Where the programs are.
    pub programs: Programs,
    /// The PKI.
    pub pki: Pki,
    /// What the nodes are protected against, if there are several.
    pub fault_model: FaultModel,
    /// Where each node runs.
    pub(super) homes: Vec<Home>,
    /// Where agents, operators and auditors connect to the first node.
    pub agents_port: u16,
    /// Where the other nodes connect to the first.
    pub peers_port: u16,
    /// Where the first node serves checkpoints and tiles.
    pub https_port: u16,
    /// The first node's metrics.
    pub ledger_metrics_port: u16,
    /// The ports of the other nodes.
    pub(super) others: Vec<Ports>,
    /// The agent's metrics.
    pub agent_metrics_port: u16,
    /// Where the agent takes syslog over TLS.
    pub syslog_port: u16,
}

/// Ports of loopback that were free a moment ago.
pub fn free_ports<const N: usize>() -> Result<[u16; N], SiteError> {
    let mut ports = [0; N];
    ports.copy_from_slice(&free_port_list(N)?);
    Ok(ports)
}

fn free_port_list(count: usize) -> Result<Vec<u16>, SiteError> {
    let listener = |_| TcpListener::bind(("127.0.0.1", 0));
    let other = |error: std::io::Error| SiteError::Other(format!("no free port: {error}"));
    // All are held until all are known, so that no two are the same.
    let held = (0..count).map(listener).collect::<Result<Vec<_>, _>>().map_err(other)?;
    held.iter().map(|held| Ok(held.local_addr().map_err(other)?.port())).collect()
}

impl Site {
    /// A site with one node; see [`Site::make_with`].
    pub fn make(dir: &Path) -> Result<Self, SiteError> {
        Self::make_with(dir, 1, FaultModel::Byzantine)
    }

    /// Makes the PKI in `dir`, with certificates for `nodes` nodes (node1, node2, …), agent gw01,
    /// operator, auditor and one syslog sender. One node is a ledger of one, without a members
    /// file, whatever the fault model.
    pub fn make_with(dir: &Path, nodes: usize, fault_model: FaultModel) -> Result<Self, SiteError> {
        Self::make_at(dir, vec![Home::default(); nodes], fault_model)
    }

    /// As [`Site::make_with`], with a node in each of these places. People and agents are where
    /// this program is.
    pub fn make_at(
        dir: &Path,
        homes: Vec<Home>,
        fault_model: FaultModel,
    ) -> Result<Self, SiteError> {
        let nodes = homes.len();
        if !(1..=MAX_NODES).contains(&nodes) {
            return Err(SiteError::Other(format!("{nodes} nodes: a ledger has 1 to {MAX_NODES}")));
        }
        std::fs::create_dir_all(dir).map_err(SiteError::file(dir))?;
        let dir = dir.canonicalize().map_err(SiteError::file(dir))?;
        let programs = Programs::beside_this()?;
        let now = Timestamp::from(SystemTime::now());
        let validity = Validity::days(now, 60)?;
        let pki = Pki::init(&dir.join("pki"), "throw-away CA", validity, now)?;
        // One list, so that no two of all these are the same.
        let ports = free_port_list(2 + 4 * nodes)?;
        let (own, of_nodes) = ports.split_at(2);
        let of_node = |ports: &[u16]| Ports {
            agents: ports[0],
            peers: ports[1],
            https: ports[2],
            metrics: ports[3],
        };
        let mut of_nodes = of_nodes.chunks_exact(4).map(of_node);
        let first = of_nodes.next().unwrap_or_default();
        let mut site = Site {
            dir,
            programs,
            pki,
            fault_model,
            homes,
            agents_port: first.agents,
            peers_port: first.peers,
            https_port: first.https,
            ledger_metrics_port: first.metrics,
            others: of_nodes.collect(),
            agent_metrics_port: own[0],
            syslog_port: own[1],
        };
        for index in 0..nodes {
            let host = Host::Ip(site.homes[index].address);
            site.issue_for("node", site.node_name(index).as_str(), [host])?;
        }
        for (role, name) in [
            ("agent", "gw01"),
            ("operator", "operator"),
            ("auditor", "auditor"),
            ("syslog-client", "web01"),
        ] {
            site.issue(role, name)?;
        }
        Ok(site)
    }

    /// Issues a certificate that holds now.
    pub fn issue(&mut self, role: &str, name: &str) -> Result<(), SiteError> {
        self.issue_for(role, name, [])
    }

    fn issue_for(
        &mut self,
        role: &str,
        name: &str,
        hosts: impl IntoIterator<Item = Host>,
    ) -> Result<(), SiteError> {
        let validity = Validity::days(Timestamp::from(SystemTime::now()), 30)?;
        self.pki.issue(&Request::new(role, name, validity)?.hosts(hosts))?;
        Ok(())
    }

    /// A file of the site.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// The certificate file of an identity.
    pub fn cert(&self, role: &str, name: &str) -> PathBuf {
        self.path(format!("pki/issued/{role}-{name}.pem"))
    }

    /// The key file of an identity.
    pub fn key(&self, role: &str, name: &str) -> PathBuf {
        self.path(format!("pki/issued/{role}-{name}.key"))
    }

    /// A `[tls]` table for an identity.
    pub fn tls_table(&self, role: &str, name: &str) -> String {
        let pki = self.path("pki");
        format!(
            "[tls]\nca = {:?}\ncert = {:?}\nkey = {:?}\ncrl = {:?}\n",
            pki.join("ca.pem"),
            self.cert(role, name),
            self.key(role, name),
            pki.join("crl.pem"),
        )
    }

    /// Writes `<name>.toml` for an agent.
    pub fn configure_agent(&self, options: &AgentOptions) -> Result<(), SiteError> {
        let name = &options.name;
        let spool = options.spool.clone().unwrap_or_else(|| format!("{name}-spool").into());
        let text = format!(
            "name = \"{name}\"\npolicy = {:?}\n[ledger]\nnodes = {}\n{}\
             [seal]\nkey = {:?}\nlinger_ms = {}\n[spool]\ndir = {:?}\nmax_mib = {}\n\
             [metrics]\nlisten = \"127.0.0.1:{}\"\n{}\n{}",
            self.path("policy"),
            self.agent_addresses(),
            self.tls_table("agent", name),
            self.path(format!("{name}-seal.key")),
            options.linger_ms,
            self.path(spool),
            options.spool_mib,
            self.agent_metrics_port,
            options.sources,
            options.extra,
        );
        self.write(&format!("{name}.toml"), &text)
    }

    /// A `[[source.syslog]]` table for the site's syslog port.
    pub fn syslog_source(&self) -> String {
        format!(
            "[[source.syslog]]\nname = \"syslog\"\nlisten = \"127.0.0.1:{}\"\n",
            self.syslog_port
        )
    }

    /// Makes the agent's key if there is none, and enrols it.
    pub fn enrol(&self, agent: &str) -> Result<(), SiteError> {
        let config = self.shown(&format!("{agent}.toml"));
        let vkey = self.output("logseal-agent", &["key", "--config", &config])?;
        let client = self.shown("operator.toml");
        let args = ["enrol", "--config", &client, "--agent", agent, "--vkey", vkey.trim()];
        self.output("logseal", &args).map(drop)
    }

    /// Starts an agent and waits until it is ready.
    pub fn start_agent(&self, name: &str) -> Result<Process, SiteError> {
        self.start("logseal-agent", &format!("{name}.toml"), &format!("{name}.log"))
    }

    /// Starts a program without waiting.
    pub fn spawn(&self, program: &str, config: &str, log: &str) -> Result<Process, SiteError> {
        self.spawn_reading(program, config, log, Stdio::null())
    }

    /// The same, with something to read.
    pub fn spawn_reading(
        &self,
        program: &str,
        config: &str,
        log: &str,
        input: Stdio,
    ) -> Result<Process, SiteError> {
        let args = ["run", "--config", &self.shown(config)];
        Process::start_reading(&self.programs.path(program), &args, &self.path(log), input)
    }

    /// Runs a program to its end and gives back what it printed.
    pub fn output(&self, program: &str, args: &[&str]) -> Result<String, SiteError> {
        let path = self.programs.path(program);
        let output = Command::new(&path).args(args).output().map_err(SiteError::file(&path))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let said = text(&output.stderr) + &text(&output.stdout);
        Err(SiteError::Other(format!("{program} {}: {said}", args.join(" "))))
    }

    fn start(&self, program: &str, config: &str, log: &str) -> Result<Process, SiteError> {
        let mut process = self.spawn(program, config, log)?;
        process.wait_ready(READY)?;
        Ok(process)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), SiteError> {
        let path = self.path(name);
        std::fs::write(&path, text).map_err(SiteError::file(&path))
    }

    pub(super) fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}
