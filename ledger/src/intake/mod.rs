//! Intake: what clients may ask of a node, and everything that is checked before the node's thread
//! sees it.
//!
//! A connection's role comes from its certificate. An agent speaks for itself
//! only; its batches are verified here, against the log they must fit, so that
//! the node's thread only has to put them in order.

mod operator;
mod session;

pub use operator::Operators;

use crate::{listen::accept_all, metrics::Metrics, node::Command, store::StoreReader, view::View};
use link::{Identity, tls::ReloadingServer};
use service::signals::Shutdown;
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::mpsc};

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
    /// For how many days entries are kept at least; `None` if none is ever given up.
    pub retention: Option<u32>,
}

/// Accepts agents, operators and auditors until shutdown.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ReloadingServer>,
    context: Arc<Context>,
    shutdown: Shutdown,
) {
    let full = |address| {
        context.metrics.refuse("too-many-connections");
        tracing::warn!(%address, "refused: {MAX_CONNECTIONS} connections are open already");
    };
    let serve = |stream, address, permit| {
        let (tls, context) = (Arc::clone(&tls), Arc::clone(&context));
        async move {
            match link::tls::accept(stream, &tls, HANDSHAKE).await {
                Ok((stream, identity)) => {
                    session::run(stream, identity, address, &context).await;
                }
                Err(error) => {
                    context.metrics.refuse(error.problem.label());
                    tracing::warn!(%error, "a connection was refused");
                }
            }
            drop(permit);
        }
    };
    let failed = "a connection could not be accepted";
    accept_all(listener, shutdown, MAX_CONNECTIONS, failed, full, serve).await;
}

/// How a client is called in the log.
fn shown(identity: &Identity) -> String {
    format!("{} {}", identity.role, identity.name.as_str())
}
