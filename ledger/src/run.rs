//! Putting a node together and running it.

use crate::{
    config::Config,
    http::{self, Site},
    intake::{self, Context},
    metrics::Metrics,
    node::{self, Command, Node, NodeError},
    store::{self, Opened, Store, StoreError},
};
use link::tls::ReloadingServer;
use prometheus_client::registry::Registry;
use record::crypto::SigningKey;
use replica::{Identity, Replica};
use service::{
    config::ConfigError,
    exit,
    members::Members,
    metrics::BindError,
    signals::{self, Reload, Shutdown},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

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
            RunError::Config(_) => exit::USAGE,
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

/// Runs a node until it is told to stop.
pub fn run(config: &Config) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|source| RunError::System { what: "start threads", source })?;
    let result = runtime.block_on(run_on(config));
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

async fn run_on(config: &Config) -> Result<(), RunError> {
    let (mut shutdown, reload) = signals::listen()
        .map_err(|source| RunError::System { what: "listen for signals", source })?;
    let keys = config.load_keys()?;
    let agent_tls = Arc::new(config.agent_tls()?);
    let https_tls = Arc::new(config.https_tls()?);
    // Addresses first: a port in use is found before the store is touched.
    let agents = service::metrics::bind(config.agents, "agents").await?;
    let https = match config.https {
        Some(address) => Some(service::metrics::bind(address, "HTTPS").await?),
        None => None,
    };
    let options = store::Options { params: config.params.clone(), min_free: config.min_free };
    let Opened { store, state, replayed } = Store::open(&config.store, &options)?;
    tracing::info!(
        node = %config.name, origin = %config.params.origin, height = %state.height,
        entries = %state.tree.size(), replayed, "the store is open"
    );
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    serve_metrics(config, registry, &shutdown).await?;
    let identity = Identity { name: config.name.clone(), log: keys.log, cosigner: keys.cosigner };
    let consensus: SigningKey = keys.consensus.into_key();
    let replica = Replica::new(config.params.clone(), identity, state, consensus);
    let reader = store.reader();
    let options = node::Options {
        dir: config.store.clone(),
        min_free: config.min_free,
        renew_seconds: config.renew_seconds,
    };
    let (node, view, commands) =
        Node::new(replica, store, config.name.clone(), metrics.clone(), options, shutdown.clone());
    let (ended, mut node_ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("node".into())
        .spawn(move || {
            let result = node.run();
            let _ = ended.send(());
            result
        })
        .map_err(|source| RunError::System { what: "start a thread", source })?;
    let context = Context {
        view: Arc::clone(&view),
        store: Arc::clone(&reader),
        node: commands.clone(),
        metrics,
        dir: config.store.clone(),
    };
    let intake = tokio::spawn(intake::serve(
        agents,
        Arc::clone(&agent_tls),
        Arc::new(context),
        shutdown.clone(),
    ));
    if let Some(listener) = https {
        let site = Site { view, store: reader, open_hashes: config.open_hashes };
        tokio::spawn(http::serve(listener, Arc::clone(&https_tls), site, shutdown.clone()));
    }
    tokio::spawn(reload_files(vec![agent_tls, https_tls], reload, shutdown.clone()));
    signals::ready();
    tracing::info!(agents = %config.agents, "ready");
    tokio::select! {
        () = shutdown.wait() => {
            // Connections first, so that nothing new comes in behind the last block.
            let _ = intake.await;
            let _ = tokio::task::spawn_blocking(move || commands.send(Command::Stop)).await;
        }
        _ = &mut node_ended => tracing::error!("the node's thread ended"),
    }
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    match joined {
        Ok(Ok(result)) => Ok(result?),
        _ => Err(RunError::Panicked),
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
        for server in &servers {
            let result =
                if forced { server.reload().map(Some) } else { server.reload_if_changed() };
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
    config.load_keys()?;
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
