//! Putting a node together and running it.

use crate::{
    config::{Config, Keys},
    http::{self, Site},
    intake::{self, Context},
    metrics::Metrics,
    node::{self, Command, Node, NodeError, Parts, PeerLinks, VoteLog},
    peers::{self, Inlets},
    rejoin,
    scrub::{self, Scrub},
    store::{self, Opened, Store, StoreError},
    witnesses,
};
use link::tls::{ReloadingClient, ReloadingServer};
use prometheus_client::registry::Registry;
use record::note::VerifierKey;
use replica::{
    BlankStart, Identity, LedgerState, Member, MembersError, Now, Replica, Settings, Ticks, Timing,
};
use service::{
    config::ConfigError,
    exit,
    members::Members,
    metrics::BindError,
    signals::{self, Reload, Shutdown},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

/// Frames of all nodes that may wait for the node's thread; each node has a share of its own.
const CONTROL_QUEUE: usize = 1024;
/// Likewise for bodies and blocks.
const BULK_QUEUE: usize = 64;
/// Nodes that came or went.
const EVENT_QUEUE: usize = 64;
/// How often certificates and lists are looked at for changes.
const LOOK_AT_FILES: Duration = Duration::from_secs(10);

/// The node could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The node's thread.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The members file.
    #[error("the members file: {0}")]
    Members(#[from] MembersError),
    /// The operating system refused something basic.
    #[error("the system refused to {what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What it says.
        source: std::io::Error,
    },
    /// A thread of this program panicked: a fault of this program.
    #[error("the node's thread failed; please report the message above")]
    Panicked,
}

impl RunError {
    /// The program's exit code: whether starting it again can help.
    pub fn code(&self) -> u8 {
        match self {
            RunError::Config(_)
            | RunError::Members(_)
            | RunError::Node(NodeError::Blank { .. }) => exit::USAGE,
            RunError::Store(
                StoreError::Damaged { .. } | StoreError::Block { .. } | StoreError::CutOff { .. },
            ) => exit::USAGE,
            RunError::Bind(_)
            | RunError::Store(_)
            | RunError::Node(_)
            | RunError::System { .. }
            | RunError::Panicked => exit::FAILED,
        }
    }
}

/// Runs a node until it is told to stop. With `rejoin` an empty store is one that was lost.
pub fn run(config: &Config, rejoin: bool) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|source| RunError::System { what: "start threads", source })?;
    let result = runtime.block_on(run_on(config, rejoin));
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

/// Listeners and their certificates, before anything is served on them.
struct Listeners {
    agents: TcpListener,
    agent_tls: Arc<ReloadingServer>,
    https: Option<TcpListener>,
    https_tls: Arc<ReloadingServer>,
    peers: Option<PeerListener>,
}

struct PeerListener {
    listener: TcpListener,
    server: Arc<ReloadingServer>,
    client: Arc<ReloadingClient>,
}

impl Listeners {
    /// Addresses first: a port in use is found before the store is touched.
    async fn open(config: &Config) -> Result<Self, RunError> {
        let agent_tls = Arc::new(config.agent_tls()?);
        let https_tls = Arc::new(config.https_tls()?);
        let agents = service::metrics::bind(config.agents, "agents").await?;
        let https = match config.https {
            Some(address) => Some(service::metrics::bind(address, "HTTPS").await?),
            None => None,
        };
        let peers = match config.peers {
            Some(address) => {
                let (server, client) = config.peers_tls()?;
                Some(PeerListener {
                    listener: service::metrics::bind(address, "peers").await?,
                    server: Arc::new(server),
                    client: Arc::new(client),
                })
            }
            None => None,
        };
        Ok(Listeners { agents, agent_tls, https, https_tls, peers })
    }
}

async fn run_on(config: &Config, rejoin: bool) -> Result<(), RunError> {
    let (mut shutdown, reload) = signals::listen()
        .map_err(|source| RunError::System { what: "listen for signals", source })?;
    let keys = config.load_keys()?;
    config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let listeners = Listeners::open(config).await?;
    let opened = open_store(config, keys.log.vkey())?;
    tracing::info!(
        node = %config.name, origin = %config.params.origin, height = %opened.state.height,
        entries = %opened.state.tree.size(), replayed = opened.replayed, "the store is open"
    );
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    serve_metrics(config, registry, &shutdown).await?;
    let reader = opened.store.reader();
    let remade_index = opened.remade_index;
    let begun = Instant::now();
    let parts = put_together(config, rejoin, keys, &listeners, opened, &metrics, begun)?;
    let (parts, inlets) = parts;
    let mut servers = vec![listeners.agent_tls.clone(), listeners.https_tls.clone()];
    let mut clients = Vec::new();
    let parts = match (listeners.peers, inlets) {
        (Some(peers), Some(inlets)) => {
            servers.push(Arc::clone(&peers.server));
            clients.push(Arc::clone(&peers.client));
            let settings = peer_settings(config, parts.replica.members().digest());
            let PeerListener { listener, server, client } = peers;
            let outlets = peers::start(
                settings,
                client,
                server,
                listener,
                inlets,
                metrics.clone(),
                &shutdown,
            );
            let links = PeerLinks { outlets: Some(outlets), ..parts.links };
            Parts { links, ..parts }
        }
        _ => parts,
    };
    let (node, view, commands) = Node::new(parts, begun, shutdown.clone());
    if remade_index {
        view.note_mended("index", 1);
    }
    let asking = witnesses::prepare(config, &view, &reader, &metrics)?;
    let (thread, mut node_ended) = start_node(node)?;
    let scrub = Scrub {
        dir: config.store.clone(),
        store: Arc::clone(&reader),
        view: Arc::clone(&view),
        node: commands.clone(),
        metrics: metrics.clone(),
        pace: config.scrub,
    };
    let context = Context {
        view: Arc::clone(&view),
        store: Arc::clone(&reader),
        node: commands.clone(),
        metrics: metrics.clone(),
        dir: config.store.clone(),
        retention: config.retention,
    };
    if let Some(asking) = asking {
        tokio::spawn(asking.run(shutdown.clone()));
    }
    let intake = tokio::spawn(intake::serve(
        listeners.agents,
        listeners.agent_tls,
        Arc::new(context),
        shutdown.clone(),
    ));
    if let Some(listener) = listeners.https {
        let site = Site { view, store: reader, open_hashes: config.open_hashes };
        tokio::spawn(http::serve(listener, listeners.https_tls, site, shutdown.clone()));
    }
    tokio::spawn(reload_files(servers, clients, reload, shutdown.clone()));
    scrub::start(scrub, shutdown.clone())
        .map_err(|source| RunError::System { what: "start a thread", source })?;
    signals::ready();
    tracing::info!(agents = %config.agents, "ready");
    tokio::select! {
        () = shutdown.wait() => {
            // Connections first, so that nothing new comes in behind the last block.
            let _ = intake.await;
            let _ = commands.send(Command::Stop).await;
        }
        _ = &mut node_ended => tracing::error!("the node's thread ended"),
    }
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    match joined {
        Ok(Ok(result)) => Ok(result?),
        _ => Err(RunError::Panicked),
    }
}

type NodeThread = std::thread::JoinHandle<Result<(), NodeError>>;

/// Runs the node on a thread of its own, which may wait for the disk.
fn start_node(node: Node) -> Result<(NodeThread, oneshot::Receiver<()>), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|source| RunError::System { what: "start a thread", source })?;
    let (ended, node_ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("node".into())
        .spawn(move || {
            let result = runtime.block_on(node.run());
            let _ = ended.send(());
            result
        })
        .map_err(|source| RunError::System { what: "start a thread", source })?;
    Ok((thread, node_ended))
}

/// Makes the replica out of what is stored, and the channels of the transport.
fn put_together(
    config: &Config,
    rejoin: bool,
    keys: Keys,
    listeners: &Listeners,
    opened: Opened,
    metrics: &Metrics,
    begun: Instant,
) -> Result<(Parts, Option<Inlets>), RunError> {
    let Opened { store, state, published, .. } = opened;
    let reader = store.reader();
    let members = members(config, &keys)?;
    let clustered = members.count() > 1;
    let (votes, vote_log) = match clustered {
        true => open_votes(config, &state)?,
        false => (None, vec![]),
    };
    let blank =
        blank_start(config, rejoin && clustered, state.height.0 == 0 && vote_log.is_empty())?;
    let vouch = intake::Operators {
        tls: Arc::clone(&listeners.agent_tls),
        store: reader,
        retention: config.retention,
    };
    let settings = Settings {
        params: config.params.clone(),
        members,
        identity: Identity { name: config.name.clone(), log: keys.log, cosigner: keys.cosigner },
        timing: Timing { renew_seconds: config.renew_seconds, ..Timing::default() },
        vouch: Box::new(vouch),
        blank,
    };
    let ticks = Ticks(begun.elapsed().as_millis() as u64);
    let now = Now { ticks, wall: service::clock::now() };
    let consensus = keys.consensus.into_key();
    let replica = Replica::new(settings, state, &vote_log, consensus, now)
        .map_err(|error| RunError::Node(error.into()))?;
    let (control_in, control) = mpsc::channel(CONTROL_QUEUE);
    let (bulk_in, bulk) = mpsc::channel(BULK_QUEUE);
    let (events_in, events) = mpsc::channel(EVENT_QUEUE);
    let inlets = Inlets { control: control_in, bulk: bulk_in, events: events_in };
    let addresses = config.members.iter().flat_map(|members| members.nodes());
    let parts = Parts {
        replica,
        store,
        votes,
        links: PeerLinks { control, bulk, events, outlets: None },
        metrics: metrics.clone(),
        options: node::Options {
            dir: config.store.clone(),
            min_free: config.min_free,
            addresses: addresses.map(|n| (n.name.clone(), n.peers.clone())).collect(),
        },
        published,
    };
    Ok((parts, clustered.then_some(inlets)))
}

/// The nodes that decide: those of the members file, or this one alone.
fn members(config: &Config, keys: &Keys) -> Result<replica::Members, RunError> {
    let Some(members) = &config.members else {
        return Ok(replica::Members::single(Member {
            name: config.name.clone(),
            consensus: keys.consensus.vkey().public(),
            cosigner: keys.cosigner.vkey().clone(),
        }));
    };
    Ok(members_of(members)?)
}

/// The members of a members file, as the replica knows them.
///
/// # Errors
/// When they are no ledger's.
pub fn members_of(members: &Members) -> Result<replica::Members, MembersError> {
    let member = |node: &service::members::Member| Member {
        name: node.name.clone(),
        consensus: node.consensus.public(),
        cosigner: node.cosigner.clone(),
    };
    let list = members.nodes().iter().map(member).collect();
    replica::Members::new(list, members.fault_model())
}

/// Opens the store. A node of several that lost a part of it which it needs to start fetches that from the others;
/// until it has, it does not vote.
fn open_store(config: &Config, signer: &VerifierKey) -> Result<Opened, RunError> {
    let clustered = config.members.as_ref().is_some_and(|members| members.nodes().len() > 1);
    let options = |may_be_behind| store::Options {
        params: config.params.clone(),
        min_free: config.min_free,
        segment_bytes: config.segment_bytes,
        signer: signer.clone(),
        retention: config.retention,
        may_be_behind,
    };
    let dir = &config.store;
    let rejoining = clustered && rejoin::is_set(dir)?;
    match Store::open(dir, &options(rejoining)) {
        Err(error @ StoreError::CutOff { .. }) if clustered && !rejoining => {
            tracing::error!(%error, "this node lost its newest blocks: it fetches them from the other nodes");
            // In this order: with the mark, the next start after a crash or on a full disk would not come here
            // again, and these votes are of heights that the block log does not lead to.
            rejoin::put_away(dir, &["votes"])?;
            rejoin::set(dir)?;
            Ok(Store::open(dir, &options(true))?)
        }
        Err(error @ StoreError::Damaged { .. }) if clustered => {
            tracing::error!(%error, "this node cannot read blocks that it needs to start: it fetches all from the other nodes");
            rejoin::set(dir)?;
            rejoin::put_away(dir, &["votes", "blocks", "base", "tree", "index", "checkpoint"])?;
            Ok(Store::open(dir, &options(true))?)
        }
        opened => Ok(opened?),
    }
}

/// Opens the vote log. Without it the votes of the height under way are forgotten, and the node rejoins.
fn open_votes(
    config: &Config,
    state: &LedgerState,
) -> Result<(Option<VoteLog>, Vec<Vec<u8>>), RunError> {
    let failed = |error| RunError::Node(NodeError::VoteLog(error));
    let (store, dir) = (&config.store, config.store.join("votes"));
    // It is made before the first block is.
    let mut problem = (state.height.0 > 0 && !dir.exists() && !rejoin::is_set(store)?)
        .then(|| format!("{} is missing", dir.display()));
    if problem.is_none() {
        match VoteLog::open(&dir, state.height) {
            Ok((votes, recovery, records)) => match recovery.damage.first() {
                None => return Ok((Some(votes), records)),
                Some(damage) => problem = Some(damage.to_string()),
            },
            Err(journal::Error::Damaged(damage)) => problem = Some(damage.to_string()),
            Err(error) => return Err(failed(error)),
        }
    }
    let problem = problem.unwrap_or_default();
    tracing::error!(
        problem,
        "this node may have forgotten votes: it votes again when that is safe"
    );
    rejoin::set(store)?;
    rejoin::put_away(store, &["votes"])?;
    let (votes, _, records) = VoteLog::open(&dir, state.height).map_err(failed)?;
    Ok((Some(votes), records))
}

/// What an empty store means: the mark of an unfinished return outlives restarts.
fn blank_start(config: &Config, rejoin: bool, blank: bool) -> Result<BlankStart, RunError> {
    if rejoin && blank {
        rejoin::set(&config.store)?;
    } else if rejoin && !rejoin::is_set(&config.store)? {
        tracing::warn!("--rejoin has no effect: this node has its store, and remembers its votes");
    }
    let rejoining = rejoin::is_set(&config.store)?;
    Ok(if rejoining { BlankStart::Rejoin } else { BlankStart::Genesis })
}

fn peer_settings(config: &Config, membership: record::Hash) -> peers::Settings {
    let nodes = config.members.iter().flat_map(|members| members.nodes());
    let peers = nodes.map(|n| peers::Peer { name: n.name.clone(), address: n.peers.clone() });
    peers::Settings {
        own: config.name.clone(),
        origin: config.params.origin.clone(),
        membership,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        peers: peers.collect(),
        timings: peers::Timings::default(),
    }
}

async fn serve_metrics(
    config: &Config,
    registry: Registry,
    shutdown: &Shutdown,
) -> Result<(), BindError> {
    if let Some(address) = config.metrics {
        let listener = service::metrics::bind(address, "metrics").await?;
        tokio::spawn(service::metrics::serve(listener, Arc::new(registry), shutdown.clone()));
    }
    Ok(())
}

/// Reads certificates again on SIGHUP and when their files change; a bad file changes nothing.
async fn reload_files(
    servers: Vec<Arc<ReloadingServer>>,
    clients: Vec<Arc<ReloadingClient>>,
    mut reload: Reload,
    mut shutdown: Shutdown,
) {
    let mut ticks = tokio::time::interval(LOOK_AT_FILES);
    loop {
        let forced = tokio::select! {
            () = shutdown.wait() => return,
            changed = reload.changed() => changed.is_ok(),
            _ = ticks.tick() => false,
        };
        let again = servers
            .iter()
            .map(|s| if forced { s.reload().map(Some) } else { s.reload_if_changed() })
            .chain(
                clients
                    .iter()
                    .map(|c| if forced { c.reload().map(Some) } else { c.reload_if_changed() }),
            );
        for result in again {
            match result {
                Ok(Some(warnings)) => {
                    tracing::info!("certificates and revocation lists were read again");
                    warnings.iter().for_each(|warning| tracing::warn!(%warning));
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "kept the certificates that were in use"),
            }
        }
    }
}

/// What `check` found to be in order.
#[derive(Debug, serde::Serialize)]
pub struct Checked {
    /// The node's name.
    pub node: String,
    /// The ledger's origin.
    pub origin: String,
    /// What the nodes of its cluster bear, if it is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// Validates a configuration, its files, keys and certificates, without starting anything.
pub fn check(config: &Config) -> Result<Checked, RunError> {
    config.audit_policy(&config.load_keys()?)?;
    witnesses::clients(config)?;
    let tls = config.agent_tls()?;
    config.https_tls()?;
    if config.members.is_some() {
        config.peers_tls()?;
    }
    config.check_store()?;
    let warnings = tls.warnings().into_iter().map(|warning| warning.to_string());
    Ok(Checked {
        node: config.name.to_string(),
        origin: config.params.origin.to_string(),
        cluster: config.members.as_ref().map(Members::explain),
        warnings: warnings.chain(config.warnings()).collect(),
    })
}
