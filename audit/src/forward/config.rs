//! The forwarder's configuration.

use crate::{
    client::Client,
    output::{Failure, fail},
};
use serde::Deserialize;
use service::config::{Source, Tls};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// HTTPS ports of nodes.
    nodes: Vec<String>,
    policy: PathBuf,
    state: PathBuf,
    #[serde(default)]
    start: Start,
    #[serde(default)]
    entries: Wanted,
    #[serde(default)]
    agents: Vec<String>,
    #[serde(default)]
    sources: Vec<String>,
    poll_ms: Option<u64>,
    tls: Tls,
    file: Option<FileOutput>,
    syslog: Option<SyslogOutput>,
    metrics: Option<Metrics>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metrics {
    listen: SocketAddr,
}

/// Where a forwarder without a state begins.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the ledger's first entry.
    #[default]
    Beginning,
    /// With what comes from now on.
    End,
}

/// Which kinds of entries are forwarded.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// Records only.
    #[default]
    Records,
    /// The ledger's own entries as well.
    All,
}

/// How entries stand in a file.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Each with a line feed behind it.
    #[default]
    Lines,
    /// With octet counting in front, and a line feed behind.
    Counted,
    /// As a JSON object a line.
    Jsonl,
}

/// A file that is appended to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileOutput {
    /// The file.
    pub path: PathBuf,
    /// How entries stand in it.
    #[serde(default)]
    pub format: Framing,
}

/// A receiver of syslog over TLS (RFC 5425).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogOutput {
    /// HOST:PORT
    pub server: String,
    /// The name that its certificate must have, if it is not HOST.
    pub name: Option<String>,
    /// Who issued its certificate.
    pub ca: PathBuf,
    /// What we show it, if it asks.
    pub cert: Option<PathBuf>,
    /// The private key of that.
    pub key: Option<PathBuf>,
}

/// Where entries go.
#[derive(Clone, Debug)]
pub enum Output {
    /// Into a file.
    File(FileOutput),
    /// To a receiver.
    Syslog(SyslogOutput),
}

/// The configuration as it is meant.
#[derive(Clone, Debug)]
pub struct Config {
    /// The nodes' HTTPS side, the policy and our certificate.
    pub client: Client,
    /// The state file.
    pub state: PathBuf,
    /// Where to begin without one.
    pub start: Start,
    /// Which entries.
    pub wanted: Wanted,
    /// Of these agents, or of all if none is named.
    pub agents: Vec<String>,
    /// Of these sources, likewise.
    pub sources: Vec<String>,
    /// How often a node is asked when there is nothing new.
    pub poll: Duration,
    /// Where entries go.
    pub output: Output,
    /// Where metrics are served, on loopback.
    pub metrics: Option<SocketAddr>,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let (written, source): (Written, Source) = Source::load(path).map_err(fail)?;
        let bad = |key: &str, problem: &str| Err(fail(source.error(key, problem)));
        let output = match (written.file, written.syslog) {
            (Some(file), None) => Output::File(file),
            (None, Some(syslog)) => Output::Syslog(syslog),
            _ => return bad("state", "give either a table [file] or a table [syslog]"),
        };
        if let Output::Syslog(syslog) = &output
            && syslog.cert.is_some() != syslog.key.is_some()
        {
            return bad("syslog.cert", "give both 'cert' and 'key', or none of them");
        }
        if written.nodes.is_empty() {
            return bad("nodes", "name at least one node's HTTPS port");
        }
        let poll = written.poll_ms.unwrap_or(1000);
        if !(10..=3_600_000).contains(&poll) {
            return bad("poll_ms", "must be 10 to 3600000 milliseconds");
        }
        let metrics = written.metrics.map(|metrics| metrics.listen);
        if metrics.is_some_and(|address| !address.ip().is_loopback()) {
            return bad("metrics.listen", "metrics have no access control: use loopback");
        }
        Ok(Config {
            client: Client::new(written.nodes, written.policy, written.tls),
            state: written.state,
            start: written.start,
            wanted: written.entries,
            agents: written.agents,
            sources: written.sources,
            poll: Duration::from_millis(poll),
            output,
            metrics,
        })
    }
}
