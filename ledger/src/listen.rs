//! Accepting connections: bounded in number, each served on a task of its own, all ended at shutdown.

use service::signals::Shutdown;
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};

/// How long nothing is accepted after that failed: whatever is short needs time to be freed.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until shutdown, and then ends those that are left. Each is served with one of
/// `limit` permits, which it gives back when it wishes, at its end at the latest; one for which none
/// is left is told to `full` and closed. `failed` is logged when the system accepts none.
pub(crate) async fn accept_all<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    mut shutdown: Shutdown,
    limit: usize,
    failed: &'static str,
    full: impl Fn(SocketAddr),
    serve: impl Fn(TcpStream, SocketAddr, OwnedSemaphorePermit) -> F,
) {
    let permits = Arc::new(Semaphore::new(limit));
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
                tracing::warn!(%error, "{failed}");
                sleep(PAUSE).await;
                continue;
            }
        };
        match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => drop(connections.spawn(serve(stream, address, permit))),
            Err(_) => full(address),
        }
    }
    connections.shutdown().await;
}
