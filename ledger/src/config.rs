//! A node's configuration: as it is written, and as it is meant.

use link::{
    Role,
    tls::{FilesError, ReloadingServer, ServerSettings},
};
use record::{
    NodeName, Origin,
    entry::Enterprise,
    note::{KeyName, NoteSigner, SignatureType, VerifierKey},
    policy::write_policy,
};
use replica::Params;
use serde::Deserialize;
use service::{
    config::{ConfigError, Source, Tls, file_key},
    keys::{self, KeyError},
};
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The file as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    origin: String,
    enterprise: Option<u32>,
    store: WrittenStore,
    keys: WrittenKeys,
    tls: Tls,
    #[serde(default)]
    listen: WrittenListen,
    #[serde(default)]
    checkpoint: WrittenCheckpoint,
    #[serde(default)]
    http: WrittenHttp,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStore {
    dir: PathBuf,
    #[serde(default = "default_min_free")]
    min_free_mib: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKeys {
    dir: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenListen {
    agents: String,
    https: Option<String>,
    metrics: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenCheckpoint {
    renew_s: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenHttp {
    open_hashes: bool,
}

impl Default for WrittenListen {
    fn default() -> Self {
        WrittenListen { agents: "0.0.0.0:7514".into(), https: None, metrics: None }
    }
}

impl Default for WrittenCheckpoint {
    fn default() -> Self {
        WrittenCheckpoint { renew_s: 60 }
    }
}

fn default_min_free() -> u64 {
    256
}

/// The configuration as it is meant.
#[derive(Clone, Debug)]
pub struct Config {
    source: Source,
    /// The node's name.
    pub name: NodeName,
    /// The ledger's parameters.
    pub params: Params,
    /// The store's directory.
    pub store: PathBuf,
    /// Bytes that must be free for batches to be taken.
    pub min_free: u64,
    keys: PathBuf,
    tls: Tls,
    /// Where agents, operators and auditors connect.
    pub agents: SocketAddr,
    /// Where checkpoints and tiles are served.
    pub https: Option<SocketAddr>,
    /// Where metrics are served, on loopback.
    pub metrics: Option<SocketAddr>,
    /// Seconds after which an idle node renews its cosignature.
    pub renew_seconds: u64,
    /// True if checkpoint and hash tiles need no certificate.
    pub open_hashes: bool,
}

/// A node's private keys.
#[derive(Debug)]
pub struct Keys {
    /// Signs checkpoints under the ledger's origin.
    pub log: NoteSigner,
    /// Cosigns checkpoints in the node's own name.
    pub cosigner: NoteSigner,
    /// Signs votes.
    pub consensus: NoteSigner,
}

impl Keys {
    /// The C2SP tlog-policy of a ledger of this one node.
    pub fn policy(&self, name: &NodeName) -> String {
        let logs: [VerifierKey; 1] = [self.log.vkey().clone()];
        write_policy(&logs, &[(name.to_string(), self.cosigner.vkey().clone())], 1)
    }
}

impl Config {
    /// Reads a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (written, source): (Written, Source) = Source::load(path)?;
        let bad = |key: &str, problem: String| source.error(key, problem);
        let address = |key: &str, text: &str| {
            text.parse::<SocketAddr>().map_err(|_| {
                bad(key, format!("'{text}' is not ADDRESS:PORT, such as 127.0.0.1:7514"))
            })
        };
        let optional = |key: &str, text: &Option<String>| {
            text.as_deref().map(|text| address(key, text)).transpose()
        };
        let name: NodeName = written.name.parse().map_err(|e| bad("name", format!("{e}")))?;
        let origin: Origin = written.origin.parse().map_err(|e| bad("origin", format!("{e}")))?;
        let metrics = optional("listen.metrics", &written.listen.metrics)?;
        if metrics.is_some_and(|address| !address.ip().is_loopback()) {
            return Err(bad(
                "listen.metrics",
                "metrics have no access control: use loopback".into(),
            ));
        }
        if !(1..=86_400).contains(&written.checkpoint.renew_s) {
            return Err(bad("checkpoint.renew_s", "must be 1 to 86400 seconds".into()));
        }
        let enterprise = written.enterprise.map_or(Enterprise::default(), Enterprise);
        Ok(Config {
            name,
            params: Params { origin, enterprise },
            store: written.store.dir,
            min_free: written.store.min_free_mib << 20,
            keys: written.keys.dir,
            tls: written.tls,
            agents: address("listen.agents", &written.listen.agents)?,
            https: optional("listen.https", &written.listen.https)?,
            metrics,
            renew_seconds: written.checkpoint.renew_s,
            open_hashes: written.http.open_hashes,
            source,
        })
    }

    /// Reads the node's keys; the error says how they are made.
    pub fn load_keys(&self) -> Result<Keys, ConfigError> {
        self.keys(keys::load).map_err(|error| match &error {
            KeyError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                let file = self.source.path().display();
                let hint = format!("{error}; 'logseal-ledger keys --config {file}' makes it");
                self.source.error("keys.dir", hint)
            }
            KeyError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                let hint = format!("{error}: the keys must belong to the user that runs the node");
                self.source.error("keys.dir", hint)
            }
            KeyError::Name { .. } => {
                let hint = "a node's name and its ledger's origin never change";
                self.source.error("name", format!("{error}: {hint}"))
            }
            _ => self.source.error("keys.dir", error),
        })
    }

    /// Reads the node's keys and makes those that are missing.
    pub fn make_keys(&self) -> Result<Keys, ConfigError> {
        use std::os::unix::fs::DirBuilderExt;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.keys);
        made.map_err(|error| self.source.error("keys.dir", error))?;
        self.keys(keys::load_or_create).map_err(|error| self.source.error("keys.dir", error))
    }

    fn keys(
        &self,
        get: impl Fn(&Path, &KeyName, SignatureType) -> Result<NoteSigner, KeyError>,
    ) -> Result<Keys, KeyError> {
        let origin = &self.params.origin;
        let node = origin.node(&self.name);
        let consensus: KeyName =
            format!("{node}/consensus").parse().expect("a name and a word make a name");
        let file = |name| self.keys.join(name);
        Ok(Keys {
            log: get(&file("log.key"), origin.key_name(), SignatureType::Ed25519)?,
            cosigner: get(&file("cosigner.key"), &node, SignatureType::CosignatureV1)?,
            consensus: get(&file("consensus.key"), &consensus, SignatureType::Ed25519)?,
        })
    }

    /// The listener for agents, operators and auditors.
    pub fn agent_tls(&self) -> Result<ReloadingServer, ConfigError> {
        let accepts =
            [Role::Agent, Role::Operator, Role::Auditor, Role::PrivacyOfficer, Role::Node];
        let settings = ServerSettings::internal(self.tls.files(), &[Role::Node], &accepts);
        let server = ReloadingServer::open(settings).map_err(|e| self.files_error(&e))?;
        self.own_certificate(&server)?;
        Ok(server)
    }

    /// The HTTPS listener.
    pub fn https_tls(&self) -> Result<ReloadingServer, ConfigError> {
        let accepts =
            [Role::Operator, Role::Auditor, Role::PrivacyOfficer, Role::Node, Role::Agent];
        let settings = ServerSettings::https(self.tls.files(), &[Role::Node], &accepts);
        ReloadingServer::open(settings).map_err(|e| self.files_error(&e))
    }

    /// Checks that the store's directory, or the nearest one above it that is there, can be written.
    pub fn check_store(&self) -> Result<(), ConfigError> {
        let mut dir = self.store.as_path();
        while !dir.exists() {
            dir = match dir.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                Some(parent) => parent,
                None => return Err(self.source.error("store.dir", "no such directory")),
            };
        }
        let problem = |error: io::Error| {
            self.source.error("store.dir", format!("{} cannot be used: {error}", dir.display()))
        };
        rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).map_err(|e| problem(e.into()))?;
        let free = service::disk::free_bytes(dir).map_err(problem)?;
        if free < self.min_free {
            let problem = format!("only {} MiB are free there", free >> 20);
            return Err(self.source.error("store.min_free_mib", problem));
        }
        Ok(())
    }

    fn files_error(&self, error: &FilesError) -> ConfigError {
        self.source.error(&file_key("tls", error.kind), error)
    }

    fn own_certificate(&self, server: &ReloadingServer) -> Result<(), ConfigError> {
        let identity = server.identity();
        let certified = identity.as_ref().map(|identity| identity.name.as_str());
        if certified == Some(self.name.as_str()) {
            return Ok(());
        }
        let problem = format!(
            "the certificate is for '{}', but this node's name is '{}'",
            certified.unwrap_or("nobody"),
            self.name
        );
        Err(self.source.error("tls.cert", problem))
    }
}
