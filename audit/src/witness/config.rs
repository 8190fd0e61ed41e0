//! A witness's configuration. Paths in it are relative to its own folder.

use crate::cluster::quoted;
use record::{
    note::{KeyName, NoteSigner, SignatureType, VerifierKey},
    policy::Policy,
};
use serde::Deserialize;
use service::{
    config::{ConfigError, Source},
    keys,
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The most keys of one log: one for each of the most nodes that a ledger can have, and as many
/// that were exchanged.
const MAX_KEYS: usize = 128;
/// The most logs.
const MAX_LOGS: usize = 4096;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    key: PathBuf,
    state: PathBuf,
    listen: String,
    tls: Option<WrittenTls>,
    #[serde(default)]
    log: Vec<WrittenLog>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTls {
    cert: PathBuf,
    key: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLog {
    origin: String,
    vkeys: Vec<String>,
}

/// A log that is witnessed.
#[derive(Clone, Debug)]
pub struct WatchedLog {
    /// The first line of its checkpoints.
    pub origin: String,
    /// The keys that may sign them; one of them must have.
    pub vkeys: Vec<VerifierKey>,
}

/// The configuration as it is meant.
#[derive(Clone, Debug)]
pub struct Config {
    source: Source,
    name: KeyName,
    key: PathBuf,
    /// Where what was cosigned is remembered.
    pub state: PathBuf,
    /// Where logs connect.
    pub listen: SocketAddr,
    /// Certificate and key; without them it listens on loopback only.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The logs.
    pub logs: Vec<WatchedLog>,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// The first value that cannot be meant, with its line.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (written, source): (Written, Source) = Source::load(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let bad = |key: &str, problem: String| source.error(key, problem);
        let listen: SocketAddr = written
            .listen
            .parse()
            .map_err(|_| bad("listen", format!("'{}' is not ADDRESS:PORT", written.listen)))?;
        if written.tls.is_none() && !listen.ip().is_loopback() {
            let problem = "without [tls] only loopback may be listened on";
            return Err(bad("listen", problem.into()));
        }
        let name = written.name.parse().map_err(|error| bad("name", format!("{error}")))?;
        let logs = logs(&written.log, &source)?;
        Ok(Config {
            name,
            key: folder.join(written.key),
            state: folder.join(written.state),
            listen,
            tls: written.tls.map(|tls| (folder.join(tls.cert), folder.join(tls.key))),
            logs,
            source,
        })
    }

    /// Reads the witness's key.
    ///
    /// # Errors
    /// It is missing, unsafe or another's.
    pub fn load_key(&self) -> Result<NoteSigner, ConfigError> {
        let key = keys::load(&self.key, &self.name, SignatureType::CosignatureV1);
        key.map_err(|error| self.source.error("key", error))
    }
}

fn logs(written: &[WrittenLog], source: &Source) -> Result<Vec<WatchedLog>, ConfigError> {
    let mut logs: Vec<WatchedLog> = Vec::new();
    for (index, log) in written.iter().enumerate() {
        let bad = |key: &str, problem: &str| source.error(&format!("log[{index}].{key}"), problem);
        if index == MAX_LOGS {
            return Err(bad("origin", "more logs than one witness remembers"));
        }
        if log.origin.is_empty() || log.origin.contains('\n') {
            return Err(bad("origin", "an origin is one line, and not empty"));
        }
        if logs.iter().any(|other| other.origin == log.origin) {
            return Err(bad("origin", "is there twice: put all keys of a log into one table"));
        }
        if log.vkeys.is_empty() || log.vkeys.len() > MAX_KEYS {
            return Err(bad("vkeys", "give 1 to 128 keys, those that may sign its checkpoints"));
        }
        let parse = |vkey: &String| {
            vkey.parse().map_err(|error| bad("vkeys", &format!("'{vkey}': {error}")))
        };
        let vkeys = log.vkeys.iter().map(parse).collect::<Result<_, _>>()?;
        logs.push(WatchedLog { origin: log.origin.clone(), vkeys });
    }
    Ok(logs)
}

/// The `[[log]]` tables for the logs of a policy.
pub(super) fn tables(policy: &Policy) -> String {
    let mut logs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for key in policy.logs() {
        logs.entry(key.name().as_str()).or_default().push(format!("    {},\n", quoted(key)));
    }
    let table = |(origin, keys): (&str, Vec<String>)| {
        format!("\n[[log]]\norigin = {}\nvkeys = [\n{}]\n", quoted(origin), keys.concat())
    };
    logs.into_iter().map(table).collect()
}

/// The configuration that a new witness begins with.
pub(super) fn template(name: &KeyName, listen: SocketAddr, logs: &str) -> String {
    let example = "\n# A log to witness; its policy has a line 'log VKEY' for each key. All nodes of a\n\
                   # ledger share its origin, and each has a key of its own.\n\
                   # [[log]]\n# origin = \"ledger.city.example/access\"\n# vkeys = [\"…\"]\n";
    let logs = if logs.is_empty() { example } else { logs };
    format!(
        "# A witness of transparency logs; docs/audit.md. Paths are relative to this file.\n\
         name = {}\nkey = \"witness.key\"\n\
         # What was cosigned last. It belongs to the key for ever: never restore an old copy.\n\
         state = \"state\"\nlisten = {}\n\n\
         # Its own certificate; without this table it listens on loopback only.\n\
         # [tls]\n# cert = \"witness.pem\"\n# key = \"witness-tls.key\"\n{logs}",
        quoted(name),
        quoted(listen),
    )
}
