//! A node's configuration: as it is written, and as it is meant.

mod witnesses;
mod written;

pub use crate::keys::Keys;
use crate::scrub::Pace;
use link::{
    Role,
    tls::{ClientSettings, FilesError, ReloadingClient, ReloadingServer, ServerSettings},
};
use record::{NodeName, Origin, declaration::MIN_RETENTION_DAYS, entry::Enterprise};
use replica::Params;
use service::{
    config::{ConfigError, Source, Tls, file_key},
    keys::KeyError,
    members::{Member, Members},
};
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
pub use witnesses::{WitnessConfig, Witnesses};
use written::Scrub;

/// Where the other nodes connect unless configured otherwise.
const DEFAULT_PEERS: &str = "0.0.0.0:7515";

/// The configuration as it is meant.
#[derive(Clone, Debug)]
pub struct Config {
    source: Source,
    members_file: Option<PathBuf>,
    /// The node's name.
    pub name: NodeName,
    /// The ledger's parameters.
    pub params: Params,
    /// The store's directory.
    pub store: PathBuf,
    /// Bytes that must be free for batches to be taken.
    pub min_free: u64,
    /// Bytes of a segment of the block log.
    pub segment_bytes: u64,
    keys: PathBuf,
    tls: Tls,
    /// The nodes of the ledger, this one among them; `None` for a ledger of one.
    pub members: Option<Members>,
    /// Where the other nodes connect; there if `members` is.
    pub peers: Option<SocketAddr>,
    /// Where agents, operators and auditors connect.
    pub agents: SocketAddr,
    /// Where checkpoints and tiles are served.
    pub https: Option<SocketAddr>,
    /// Where metrics are served, on loopback.
    pub metrics: Option<SocketAddr>,
    /// How often, and how fast, everything in the store is looked at again.
    pub scrub: Pace,
    /// For how many days entries are kept at least; `None` if none is ever given up.
    pub retention: Option<u32>,
    /// Seconds after which an idle node renews its cosignature.
    pub renew_seconds: u64,
    /// True if checkpoint and hash tiles need no certificate.
    pub open_hashes: bool,
    /// Who outside the ledger is asked to cosign.
    pub witnesses: Witnesses,
}

impl Config {
    /// Reads a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (written, source): (written::Written, Source) = Source::load(path)?;
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
        if !(1..=256).contains(&written.store.segment_mib) {
            return Err(bad("store.segment_mib", "must be 1 to 256 MiB".into()));
        }
        let Scrub { every_h, mib_per_s } = written.scrub;
        if !(1..=24 * 365).contains(&every_h) {
            return Err(bad("scrub.every_h", "must be 1 to 8760 hours".into()));
        }
        if !(1..=10_000).contains(&mib_per_s) {
            return Err(bad("scrub.mib_per_s", "must be 1 to 10000 MiB a second".into()));
        }
        let retention = written.retention.map(|retention| retention.days);
        if retention.is_some_and(|days| days < MIN_RETENTION_DAYS) {
            let problem = format!("entries are kept for {MIN_RETENTION_DAYS} days at least");
            return Err(bad("retention.days", problem));
        }
        let witnesses = Witnesses::meant(&written.witness, &written.checkpoint, &source)?;
        let members_file = written.cluster.map(|cluster| cluster.members);
        let members = match &members_file {
            Some(file) => Some(members(&source, file, &name, &origin)?),
            None if written.listen.peers.is_some() => {
                let problem = "a ledger of one node has no peers: leave it out, or add [cluster]";
                return Err(bad("listen.peers", problem.into()));
            }
            None => None,
        };
        let peers = written.listen.peers.as_deref().unwrap_or(DEFAULT_PEERS);
        let peers = members.as_ref().map(|_| address("listen.peers", peers)).transpose()?;
        let enterprise = written.enterprise.map_or(Enterprise::default(), Enterprise);
        Ok(Config {
            name,
            params: Params { origin, enterprise },
            store: written.store.dir,
            min_free: written.store.min_free_mib << 20,
            segment_bytes: written.store.segment_mib << 20,
            keys: written.keys.dir,
            tls: written.tls,
            members_file,
            members,
            peers,
            agents: address("listen.agents", &written.listen.agents)?,
            https: optional("listen.https", &written.listen.https)?,
            metrics,
            retention,
            scrub: Pace {
                every: Duration::from_secs(every_h * 3600),
                bytes_per_second: mib_per_s << 20,
            },
            renew_seconds: written.checkpoint.renew_s,
            open_hashes: written.http.open_hashes,
            witnesses,
            source,
        })
    }

    /// Reads the node's keys; the error says how they are made. In a cluster they are those that
    /// the members file names.
    pub fn load_keys(&self) -> Result<Keys, ConfigError> {
        let keys = Keys::load(&self.keys, &self.params.origin, &self.name);
        let keys = keys.map_err(|error| self.key_error(error))?;
        let known = self.members.as_ref().and_then(|members| members.get(&self.name));
        match known.and_then(|known| keys.differs_from(known)) {
            None => Ok(keys),
            Some(key) => Err(self.source.error(
                "keys.dir",
                format!(
                    "{} is not the key that {} names for {}: put the node's own keys there, or \
                     the members file that all nodes have",
                    self.keys.join(format!("{key}.key")).display(),
                    self.shown_members(),
                    self.name
                ),
            )),
        }
    }

    /// Reads the node's keys and makes those that are missing. In a cluster none is made: the
    /// others would not know it.
    pub fn make_keys(&self) -> Result<Keys, ConfigError> {
        if self.members.is_some() {
            return self.load_keys();
        }
        let made = Keys::make(&self.keys, &self.params.origin, &self.name);
        made.map_err(|error| self.source.error("keys.dir", error))
    }

    /// The ledger's policy: of all members, or of this node alone.
    pub fn policy(&self, keys: &Keys) -> String {
        self.members.as_ref().map_or_else(|| keys.policy(&self.name), Members::policy)
    }

    /// The policy for auditors and monitors: with outside witnesses, if there are any.
    ///
    /// # Errors
    /// A witness has the name or the key of a node.
    pub fn audit_policy(&self, keys: &Keys) -> Result<String, ConfigError> {
        let policy = self.policy(keys);
        let with = self.witnesses.policy(&policy).unwrap_or(Ok(policy));
        with.map_err(|error| self.source.error("witness[0].vkey", error))
    }

    /// An error about the value of `key`.
    pub fn error(&self, key: &str, problem: impl ToString) -> ConfigError {
        self.source.error(key, problem)
    }

    fn key_error(&self, error: KeyError) -> ConfigError {
        match &error {
            KeyError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                let file = self.source.path().display();
                let hint = match &self.members {
                    None => format!("'logseal-ledger keys --config {file}' makes it"),
                    Some(_) => format!(
                        "{} names it: restore it from where it was made",
                        self.shown_members()
                    ),
                };
                self.source.error("keys.dir", format!("{error}; {hint}"))
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
        }
    }

    /// The members file, if the configuration names one.
    pub fn members_file(&self) -> Option<&Path> {
        self.members_file.as_deref()
    }

    fn shown_members(&self) -> String {
        self.members_file.as_deref().unwrap_or(Path::new("")).display().to_string()
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

    /// The listener and the connector for the other nodes: both ends are nodes.
    pub fn peers_tls(&self) -> Result<(ReloadingServer, ReloadingClient), ConfigError> {
        let (files, own) = (|| self.tls.files(), [Role::Node]);
        let server = ReloadingServer::open(ServerSettings::internal(files(), &own, &own));
        let server = server.map_err(|error| self.files_error(&error))?;
        self.own_certificate(&server)?;
        let client = ReloadingClient::open(ClientSettings::new(files(), &own));
        Ok((server, client.map_err(|error| self.files_error(&error))?))
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

    /// What is allowed, and yet deserves a second look.
    pub fn warnings(&self) -> Vec<String> {
        let Some(members) = &self.members else { return Vec::new() };
        let mut warnings = members.fault_model().warnings(members.nodes().len());
        let known = members.get(&self.name);
        warnings.extend(known.into_iter().flat_map(|known| self.other_ports(known)));
        warnings
    }

    /// Ports that others know and that are not those listened on; right only behind a translation.
    fn other_ports(&self, known: &Member) -> Vec<String> {
        let pairs = [
            ("peers", self.peers, &known.peers),
            ("agents", Some(self.agents), &known.agents),
            ("https", self.https, &known.https),
        ];
        let other = pairs.into_iter().filter_map(|(key, own, known)| {
            let own = own?;
            let differs = !known.ends_with(&format!(":{}", own.port()));
            differs.then(|| format!("listen.{key} is {own}, but others are told to use {known}"))
        });
        other.collect()
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

/// Reads the members file and finds this node in it.
fn members(
    source: &Source,
    file: &Path,
    name: &NodeName,
    origin: &Origin,
) -> Result<Members, ConfigError> {
    let members = Members::load(file, origin)?;
    if members.get(name).is_some() {
        return Ok(members);
    }
    let names: Vec<_> = members.nodes().iter().map(|node| node.name.as_str()).collect();
    let names = names.join(", ");
    let problem = format!("{} names {names}, but this node is '{name}'", file.display());
    Err(source.error("cluster.members", problem))
}
