//! Intake: what clients may ask of a node, and everything that is checked before the node's thread
//! sees it.
//!
//! A connection's role comes from its certificate. An agent speaks for itself
//! only; its batches are verified here, against the log they must fit, so that
//! the node's thread only has to put them in order.

mod enrol;
mod session;

pub use enrol::Operators;

use crate::{metrics::Metrics, node::Command, store::StoreReader, view::View};
use link::{Identity, tls::ReloadingServer};
use service::signals::Shutdown;
use std::{sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

/// The most connections at one time.
const MAX_CONNECTIONS: usize = 1024;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What all connections share.
pub struct Context {
    /// The node's public side.
    pub view: Arc<View>,
    /// The store, for reading.
    pub store: Arc<StoreReader>,
    /// The node's thread.
    pub node: mpsc::Sender<Command>,
    /// Metrics.
    pub metrics: Metrics,
    /// The store's directory, whose free space is reported.
    pub dir: std::path::PathBuf,
}

/// Accepts agents, operators and auditors until shutdown.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ReloadingServer>,
    context: Arc<Context>,
    mut shutdown: Shutdown,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.wait() => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            context.metrics.refuse("too-many-connections");
            tracing::warn!(%address, "refused: {MAX_CONNECTIONS} connections are open already");
            continue;
        };
        let (tls, context) = (Arc::clone(&tls), Arc::clone(&context));
        connections.spawn(async move {
            match link::tls::accept(stream, &tls, HANDSHAKE).await {
                Ok((stream, identity)) => {
                    session::run(stream, identity, address, &context).await;
                }
                Err(error) => {
                    context.metrics.refuse(error.problem.label());
                    tracing::warn!(%error, "a connection was refused");
                }
            }
            drop(slot);
        });
    }
    connections.shutdown().await;
}

/// How a client is called in the log.
fn shown(identity: &Identity) -> String {
    format!("{} {}", identity.role, identity.name.as_str())
}
