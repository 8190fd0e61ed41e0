//! From the configuration as written to the configuration as meant.

use std::{
    fmt::Display,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use pipeline::Sealing;
use record::{
    Origin,
    batch::MAX_BATCH_RECORDS,
    entry::Enterprise,
    policy::{MAX_POLICY_LEN, Policy},
};
use service::config::{ConfigError, Source};

use super::{Config, NodeAddress, SpoolConfig, written};

/// How long records of senders that wait for an answer are gathered, in milliseconds: the
/// fdatasync behind them takes about as long.
const ANSWER_MS: u64 = 1;

/// The longest HOSTNAME of an entry, in bytes (RFC 5424, section 6).
const MAX_HOST: usize = 255;

impl Config {
    /// Reads a configuration file and the policy it names, and checks every value.
    ///
    /// # Errors
    /// The first value that cannot be meant, with its file and line.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (written, source) = Source::load::<written::Written>(path)?;
        let at = At(&source);
        let (policy, origin) = at.policy(&written.policy)?;
        let name = at.parse("name", &written.name)?;
        let enterprise = Enterprise(written.enterprise.unwrap_or(Enterprise::default().0));
        let host = at.host(written.host)?;
        let nodes = at.nodes(&written.ledger.nodes)?;
        let patience_ms = written.ledger.patience_ms;
        let patience = at.number("ledger.patience_ms", patience_ms, 5000, 500..=600_000, "ms")?;
        let tls = written.tls.files();
        let sealing = at.sealing(&written.seal)?;
        let max_mib =
            at.number("spool.max_mib", written.spool.max_mib, 1024, 64..=1 << 20, "MiB")?;
        let sources = at.sources(written.source, &tls)?;
        let metrics = written.metrics.map(|metrics| at.metrics(&metrics.listen)).transpose()?;
        let shadow = written.shadow.map(|shadow| at.shadow(shadow, &sources)).transpose()?;
        Ok(Config {
            name,
            policy,
            policy_file: written.policy,
            origin,
            enterprise,
            host,
            nodes,
            patience: Duration::from_millis(patience),
            tls,
            seal_key: written.seal.key,
            sealing,
            spool: SpoolConfig { dir: written.spool.dir, max_bytes: max_mib << 20 },
            sources,
            metrics,
            shadow,
            source,
        })
    }
}

/// Knows where each key is written.
pub(super) struct At<'a>(pub(super) &'a Source);

impl At<'_> {
    pub(super) fn fail<T>(&self, key: &str, problem: impl ToString) -> Result<T, ConfigError> {
        Err(self.0.error(key, problem))
    }

    pub(super) fn parse<T>(&self, key: &str, text: &str) -> Result<T, ConfigError>
    where
        T: std::str::FromStr<Err: Display>,
    {
        text.parse().map_err(|problem| self.0.error(key, problem))
    }

    /// A number within bounds, or its default.
    pub(super) fn number(
        &self,
        key: &str,
        value: Option<u64>,
        default: u64,
        bounds: RangeInclusive<u64>,
        unit: &str,
    ) -> Result<u64, ConfigError> {
        let value = value.unwrap_or(default);
        if bounds.contains(&value) {
            return Ok(value);
        }
        let (low, high) = (bounds.start(), bounds.end());
        self.fail(key, format!("{value} is out of bounds: use {low} to {high} {unit}"))
    }

    pub(super) fn address(&self, key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
        let hint = "is not an address to listen on: write an IP address and a port, such as";
        text.parse().map_err(|_| self.0.error(key, format!("'{text}' {hint} '127.0.0.1:6514'")))
    }

    fn policy(&self, path: &PathBuf) -> Result<(Policy, Origin), ConfigError> {
        let shown = path.display();
        let bytes = std::fs::read(path);
        let bytes =
            bytes.map_err(|e| self.0.error("policy", format!("cannot read {shown}: {e}")))?;
        if bytes.len() > MAX_POLICY_LEN {
            return self.fail("policy", format!("{shown} is too large to be a policy"));
        }
        let policy = Policy::parse(&bytes);
        let policy = policy.map_err(|e| self.0.error("policy", format!("{shown}: {e}")))?;
        let names = || policy.logs().iter().map(|key| key.name());
        let Some(name) = names().next() else {
            return self
                .fail("policy", format!("{shown} names no log: add the ledger's 'log' line"));
        };
        if names().any(|other| other != name) {
            let problem = "names logs of several ledgers: an agent speaks to one";
            return self.fail("policy", format!("{shown} {problem}"));
        }
        let origin = self.parse("policy", name.as_str())?;
        Ok((policy, origin))
    }

    fn host(&self, written: Option<String>) -> Result<String, ConfigError> {
        let system = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let host = written.unwrap_or_else(system);
        let printable = host.bytes().all(|b| b.is_ascii_graphic());
        if !printable || !(1..=MAX_HOST).contains(&host.len()) {
            let problem =
                "is no host name for records: set one of 1 to 255 visible ASCII characters";
            return self.fail("host", format!("'{host}' {problem}"));
        }
        Ok(host)
    }

    fn nodes(&self, written: &[String]) -> Result<Vec<NodeAddress>, ConfigError> {
        let key = "ledger.nodes";
        let mut nodes: Vec<NodeAddress> = Vec::with_capacity(written.len());
        for text in written {
            let node = self.parse(key, text)?;
            if nodes.contains(&node) {
                return self.fail(key, format!("'{node}' is named twice"));
            }
            nodes.push(node);
        }
        if nodes.is_empty() {
            return self.fail(key, "name at least one node, as host:port");
        }
        Ok(nodes)
    }

    fn sealing(&self, seal: &written::Seal) -> Result<Sealing, ConfigError> {
        let records = 1..=u64::from(MAX_BATCH_RECORDS);
        let linger_ms = self.number("seal.linger_ms", seal.linger_ms, 50, 1..=50, "ms")?;
        let max_records =
            self.number("seal.max_records", seal.max_records, 4096, records, "records")?;
        let max_kib = self.number("seal.max_kib", seal.max_kib, 3072, 64..=3072, "KiB")?;
        let heartbeat = self.number("seal.heartbeat_s", seal.heartbeat_s, 60, 1..=3600, "s")?;
        Ok(Sealing {
            linger_ms,
            max_records: max_records as usize,
            max_bytes: (max_kib << 10) as usize,
            answer_ms: ANSWER_MS.min(linger_ms),
            heartbeat_ms: heartbeat * 1000,
        })
    }

    fn metrics(&self, listen: &str) -> Result<SocketAddr, ConfigError> {
        let address = self.address("metrics.listen", listen)?;
        if !address.ip().is_loopback() {
            let problem =
                "metrics are served without TLS, on loopback only: use 127.0.0.1 or [::1]";
            return self.fail("metrics.listen", problem);
        }
        Ok(address)
    }
}
