//! Files of a site: PKI, keys, policy, configurations.

use super::{Process, Programs, SiteError};
use certs::{Pki, Request, Timestamp, Validity};
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

/// How long a program may take to get ready.
const READY: Duration = Duration::from_secs(30);

/// How the ledger node is configured.
#[derive(Clone, Debug)]
pub struct LedgerOptions {
    /// The store's directory; below the site's if relative.
    pub store: PathBuf,
    /// Space that must be free.
    pub min_free_mib: u64,
    /// Seconds between renewals of an idle checkpoint.
    pub renew_s: u64,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        LedgerOptions { store: "store".into(), min_free_mib: 64, renew_s: 60 }
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

/// A throw-away site in a folder.
#[derive(Debug)]
pub struct Site {
    /// Where everything is.
    pub dir: PathBuf,
    /// Where the programs are.
    pub programs: Programs,
    /// The PKI.
    pub pki: Pki,
    /// Where agents, operators and auditors connect.
    pub agents_port: u16,
    /// Where checkpoints and tiles are served.
    pub https_port: u16,
    /// The node's metrics.
    pub ledger_metrics_port: u16,
    /// The agent's metrics.
    pub agent_metrics_port: u16,
    /// Where the agent takes syslog over TLS.
    pub syslog_port: u16,
}

/// Ports of loopback that were free a moment ago.
pub fn free_ports<const N: usize>() -> Result<[u16; N], SiteError> {
    let listener = |_| TcpListener::bind(("127.0.0.1", 0));
    let other = |error: std::io::Error| SiteError::Other(format!("no free port: {error}"));
    let mut ports = [0; N];
    // All are held until all are known, so that no two are the same.
    let held = (0..N).map(listener).collect::<Result<Vec<_>, _>>().map_err(other)?;
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr().map_err(other)?.port();
    }
    Ok(ports)
}

impl Site {
    /// Makes the PKI in `dir`, with certificates for node1, agent gw01, operator, auditor and one
    /// syslog sender.
    pub fn make(dir: &Path) -> Result<Self, SiteError> {
        std::fs::create_dir_all(dir).map_err(SiteError::file(dir))?;
        let dir = dir.canonicalize().map_err(SiteError::file(dir))?;
        let programs = Programs::beside_this()?;
        let now = Timestamp::from(SystemTime::now());
        let validity = Validity::days(now, 60)?;
        let pki = Pki::init(&dir.join("pki"), "throw-away CA", validity, now)?;
        let [agents_port, https_port, ledger_metrics_port, agent_metrics_port, syslog_port] =
            free_ports()?;
        let mut site = Site {
            dir,
            programs,
            pki,
            agents_port,
            https_port,
            ledger_metrics_port,
            agent_metrics_port,
            syslog_port,
        };
        for (role, name) in [
            ("node", "node1"),
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
        let validity = Validity::days(Timestamp::from(SystemTime::now()), 30)?;
        self.pki.issue(&Request::new(role, name, validity)?)?;
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

    /// Writes `ledger.toml`, makes the node's keys and writes `policy`.
    pub fn configure_ledger(&self, options: &LedgerOptions) -> Result<(), SiteError> {
        let text = format!(
            "name = \"node1\"\norigin = \"demo.logseal.example/access\"\n\
             [store]\ndir = {:?}\nmin_free_mib = {}\n[keys]\ndir = {:?}\n{}\
             [listen]\nagents = \"127.0.0.1:{}\"\nhttps = \"127.0.0.1:{}\"\nmetrics = \"127.0.0.1:{}\"\n\
             [checkpoint]\nrenew_s = {}\n[http]\nopen_hashes = true\n",
            self.path(&options.store),
            options.min_free_mib,
            self.path("keys"),
            self.tls_table("node", "node1"),
            self.agents_port,
            self.https_port,
            self.ledger_metrics_port,
            options.renew_s,
        );
        self.write("ledger.toml", &text)?;
        let policy =
            self.output("logseal-ledger", &["keys", "--config", &self.shown("ledger.toml")])?;
        self.write("policy", &policy)?;
        for who in ["operator", "auditor"] {
            let client = format!(
                "node = \"127.0.0.1:{}\"\npolicy = {:?}\n{}",
                self.agents_port,
                self.path("policy"),
                self.tls_table(who, who),
            );
            self.write(&format!("{who}.toml"), &client)?;
        }
        Ok(())
    }

    /// Writes `<name>.toml` for an agent.
    pub fn configure_agent(&self, options: &AgentOptions) -> Result<(), SiteError> {
        let name = &options.name;
        let spool = options.spool.clone().unwrap_or_else(|| format!("{name}-spool").into());
        let text = format!(
            "name = \"{name}\"\npolicy = {:?}\n[ledger]\nnodes = [\"127.0.0.1:{}\"]\n{}\
             [seal]\nkey = {:?}\nlinger_ms = {}\n[spool]\ndir = {:?}\nmax_mib = {}\n\
             [metrics]\nlisten = \"127.0.0.1:{}\"\n{}\n{}",
            self.path("policy"),
            self.agents_port,
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

    /// Starts the node and waits until it is ready.
    pub fn start_ledger(&self) -> Result<Process, SiteError> {
        self.start("logseal-ledger", "ledger.toml", "ledger.log")
    }

    /// Starts an agent and waits until it is ready.
    pub fn start_agent(&self, name: &str) -> Result<Process, SiteError> {
        self.start("logseal-agent", &format!("{name}.toml"), &format!("{name}.log"))
    }

    /// Starts a program without waiting.
    pub fn spawn(&self, program: &str, config: &str, log: &str) -> Result<Process, SiteError> {
        let args = ["run", "--config", &self.shown(config)];
        Process::start(&self.programs.path(program), &args, &self.path(log))
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

    fn write(&self, name: &str, text: &str) -> Result<(), SiteError> {
        let path = self.path(name);
        std::fs::write(&path, text).map_err(SiteError::file(&path))
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}
