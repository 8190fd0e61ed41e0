//! The configuration as it is meant. Whoever holds a [`Config`] holds values
//! within their bounds, a policy that parses, and names that are unique; what
//! lies outside the file itself (certificates, directories) is looked at by
//! [`crate::commands::check`] and at the start.

mod formats;
mod journald;
mod meaning;
#[cfg(feature = "otlp")]
mod otlp;
mod relp;
mod shadow;
mod sources;
mod stdin;
mod udp;
mod unix;
mod written;

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use link::tls::TlsFiles;
use pipeline::{Extractor, Sealing, SourceSettings, Syntax};
use record::{AgentName, Origin, entry::Enterprise, policy::Policy};
use service::config::{ConfigError, Source};
use tokio_rustls::rustls::pki_types::ServerName;

pub use shadow::ShadowConfig;

use crate::{
    prepare::Listener,
    sources::{
        Phase,
        journald::JournaldConfig,
        relp::RelpConfig,
        stdin::StdinConfig,
        tail::TailConfig,
        udp::UdpConfig,
        unix::{Kind, UnixConfig},
    },
};
pub use formats::load_all;

/// The longest name of a source, in bytes: it is the APP-NAME of records (RFC 5424, section 6.2.5).
pub const MAX_SOURCE_NAME: usize = 48;

/// The agent's configuration.
#[derive(Debug)]
pub struct Config {
    source: Source,
    /// The agent's name.
    pub name: AgentName,
    /// Whom to believe about the ledger.
    pub policy: Policy,
    /// The file that the policy was read from.
    pub policy_file: PathBuf,
    /// The ledger.
    pub origin: Origin,
    /// The enterprise number of our elements.
    pub enterprise: Enterprise,
    /// HOSTNAME of records whose lines bring none.
    pub host: String,
    /// The ledger's nodes, in the order in which they are preferred where several are as near; at
    /// least one.
    pub nodes: Vec<NodeAddress>,
    /// After so long without a receipt for what is under way, another node is tried.
    pub patience: Duration,
    /// Certificate, key and trust for connections to nodes.
    pub tls: TlsFiles,
    /// The file of the key that seals.
    pub seal_key: PathBuf,
    /// When batches are sealed.
    pub sealing: Sealing,
    /// Where sealed batches wait.
    pub spool: SpoolConfig,
    /// Where lines come from.
    pub sources: Vec<SourceConfig>,
    /// Where metrics are served; always loopback.
    pub metrics: Option<SocketAddr>,
    /// What is compared with an old feed, if anything is.
    pub shadow: Option<ShadowConfig>,
}

/// Where sealed batches wait for their receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The directory.
    pub dir: PathBuf,
    /// Above so many bytes, sources are held back.
    pub max_bytes: u64,
}

/// A source of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Its name in every record and in the spool, unique.
    pub name: String,
    /// What is taken from its lines.
    pub format: Extractor,
    /// Where they come from.
    pub kind: SourceKind,
    /// Its table in the configuration: `source.file[0]`.
    pub table: String,
}

/// Where a source's lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Files that grow.
    Files(TailConfig),
    /// Syslog senders.
    Syslog(SyslogConfig),
    /// Senders of syslog by RELP.
    Relp(RelpSettings),
    /// Programs of this machine.
    Unix(UnixConfig),
    /// Whoever can send packets on this machine.
    Udp(UdpConfig),
    /// Whoever writes to the agent's standard input.
    Stdin(StdinConfig),
    /// The systemd journal.
    Journald(JournaldConfig),
    /// Exporters of OpenTelemetry.
    #[cfg(feature = "otlp")]
    Otlp(crate::sources::otlp::OtlpConfig),
}

impl SourceConfig {
    /// How its lines become records.
    pub fn settings(&self) -> SourceSettings {
        SourceSettings {
            name: self.name.clone(),
            format: self.format.clone(),
            syntax: self.kind.syntax(),
        }
    }
}

impl SourceKind {
    /// The TLS files it listens with, if it does.
    pub fn listener(&self) -> Option<Listener<'_>> {
        match self {
            SourceKind::Syslog(syslog) => {
                Some(Listener { files: &syslog.tls, table: &syslog.tls_table })
            }
            SourceKind::Relp(relp) => {
                let tls = relp.tls.as_ref()?;
                Some(Listener { files: &tls.files, table: &tls.table })
            }
            #[cfg(feature = "otlp")]
            SourceKind::Otlp(otlp) => {
                let (files, table) = otlp.tls.as_ref()?;
                Some(Listener { files, table })
            }
            _ => None,
        }
    }

    /// What it is, in one word: that of its table.
    pub fn label(&self) -> &'static str {
        match self {
            SourceKind::Relp(_) => "relp",
            SourceKind::Files(_) => "file",
            SourceKind::Journald(_) => "journald",
            #[cfg(feature = "otlp")]
            SourceKind::Otlp(_) => "otlp",
            SourceKind::Stdin(_) => "stdin",
            SourceKind::Syslog(_) => "syslog",
            SourceKind::Udp(_) => "udp",
            SourceKind::Unix(_) => "unix",
        }
    }

    /// Where its lines come from, for people.
    pub fn from(&self) -> String {
        match self {
            SourceKind::Files(files) => files.paths.join(" "),
            SourceKind::Journald(_) => "the systemd journal".to_owned(),
            other => other.place().map(|(_, place)| place).unwrap_or_default(),
        }
    }

    /// What its lines are written in.
    pub fn syntax(&self) -> Syntax {
        match self {
            SourceKind::Files(_) | SourceKind::Stdin(_) => Syntax::Plain,
            SourceKind::Journald(_) => Syntax::Journal,
            #[cfg(feature = "otlp")]
            SourceKind::Otlp(_) => Syntax::Otlp,
            SourceKind::Syslog(_)
            | SourceKind::Relp(_)
            | SourceKind::Unix(_)
            | SourceKind::Udp(_) => Syntax::Syslog,
        }
    }

    /// What no other source can have, too, and the key that says so.
    pub(crate) fn place(&self) -> Option<(&'static str, String)> {
        match self {
            SourceKind::Files(_) | SourceKind::Journald(_) => None,
            SourceKind::Syslog(syslog) => Some(("listen", syslog.listen.to_string())),
            SourceKind::Relp(relp) => Some(("listen", relp.relp.listen.to_string())),
            #[cfg(feature = "otlp")]
            SourceKind::Otlp(otlp) => Some(("listen", otlp.listen.to_string())),
            SourceKind::Stdin(_) => Some(("name", "standard input".to_owned())),
            SourceKind::Udp(udp) => Some(("listen", format!("{} by UDP", udp.listen))),
            SourceKind::Unix(unix) => Some(("path", unix.path.display().to_string())),
        }
    }

    /// How it ends when another takes its place: where the protocol has no acknowledgement, the
    /// connections that there are must go on.
    pub(crate) fn last_phase(&self) -> Phase {
        match self {
            SourceKind::Syslog(_) => Phase::Retire,
            SourceKind::Unix(unix) if unix.kind == Kind::Stream => Phase::Retire,
            _ => Phase::Stop,
        }
    }
}

/// A listener for syslog over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The longest message, in bytes.
    pub max_message: usize,
    /// How many connections at a time.
    pub max_connections: usize,
    /// How many bytes of long unfinished messages at a time.
    pub max_buffered: usize,
    /// Certificate, key and trust.
    pub tls: TlsFiles,
    /// The table they were written in: `tls` or the source's own.
    pub tls_table: String,
}

/// A listener for RELP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelpSettings {
    /// Address and limits.
    pub relp: RelpConfig,
    /// With TLS; without it the address is a loopback one.
    pub tls: Option<ListenerTls>,
}

/// What a listener's TLS needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// Certificate, key and trust.
    pub files: TlsFiles,
    /// The table they were written in: `tls` or the source's own.
    pub table: String,
}

/// Where a node listens for agents: `host:port`. Its certificate must be for `host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    host: String,
    port: u16,
}

/// Text is not `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not host:port: write, for example, 'node1.log.example:7514' or '[2001:db8::7]:7514'"
)]
pub struct NodeAddressError(String);

impl Config {
    /// The local socket: beside the spool, where only the agent's user can go.
    pub fn socket(&self) -> PathBuf {
        let name = format!("{}.sock", self.name);
        self.spool.dir.parent().map(|parent| parent.join(&name)).unwrap_or_else(|| name.into())
    }

    /// An error about the value of `key`, which names the file and the line.
    pub fn error(&self, key: &str, problem: impl ToString) -> ConfigError {
        self.source.error(key, problem)
    }

    /// What another configuration says differently that only a restart takes up.
    pub fn needs_restart(&self, other: &Config) -> Vec<&'static str> {
        let changed = [
            ("name", self.name != other.name),
            ("policy", self.policy_file != other.policy_file || self.policy != other.policy),
            ("enterprise", self.enterprise != other.enterprise),
            ("host", self.host != other.host),
            ("ledger", self.nodes != other.nodes || self.patience != other.patience),
            ("tls", self.tls != other.tls),
            ("seal", self.seal_key != other.seal_key || self.sealing != other.sealing),
            ("spool", self.spool != other.spool),
            ("metrics", self.metrics != other.metrics),
            ("shadow", self.shadow != other.shadow),
        ];
        changed.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }

    /// The file it was read from.
    pub fn file(&self) -> &std::path::Path {
        self.source.path()
    }
}

impl NodeAddress {
    /// The name that the node's certificate must be for.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for NodeAddress {
    type Err = NodeAddressError;

    fn from_str(text: &str) -> Result<Self, NodeAddressError> {
        let parse = || {
            let (host, port) = text.rsplit_once(':')?;
            let bare = match host.strip_prefix('[') {
                Some(rest) => rest.strip_suffix(']').filter(|host| host.contains(':'))?,
                None if host.contains(':') => return None,
                None => host,
            };
            ServerName::try_from(bare).ok()?;
            let port = port.parse().ok().filter(|port| *port != 0)?;
            Some(NodeAddress { host: bare.to_owned(), port })
        };
        parse().ok_or_else(|| NodeAddressError(text.chars().take(100).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_one_way_only() {
        for good in ["node1.log.example:7514", "127.0.0.1:1", "[::1]:7514", "localhost:65535"] {
            assert_eq!(good.parse::<NodeAddress>().unwrap().to_string(), good);
        }
        let six: NodeAddress = "[2001:db8::7]:7514".parse().unwrap();
        assert_eq!(six.host(), "2001:db8::7");
        for bad in
            ["", "node1", "node1:", ":7514", "node1:0", "node1:99999", "::1:7514", "[a]:1", "a b:1"]
        {
            assert!(bad.parse::<NodeAddress>().is_err(), "{bad}");
        }
    }
}
