//! Listening for senders: the address, who is turned away, and how it all ends.
//!
//! What it guarantees: no more connections at a time than are allowed, whoever is turned away is
//! counted and named in the log, floods once a second; a connection's fault stays its own.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use pipeline::line::SourceId;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    select,
    task::{JoinError, JoinSet},
    time::sleep,
};
use tracing::{error, warn};

use super::{
    Phase, Shutdown, SourceStats,
    entrance::{Arrival, Entrance},
    limiter::Limiter,
    reached,
    stats::add,
    stopped,
};

/// How often one address is named in the log for being refused.
const REFUSALS: Duration = Duration::from_secs(1);

/// How long a stop waits for the connections to hand over what they have.
pub(super) const STOP: Duration = Duration::from_secs(5);

/// How long the system refuses connections when it has no room for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", hint(.error))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
}

/// Listens. Connections wait in the system's queue until [`serve`] takes them.
///
/// # Errors
/// When the address is in use, is not this machine's, or needs a privilege.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the connections of the last run to be forgotten.
        socket.set_reuseaddr(true)?;
        // Accepted sockets inherit it: a sender that died without a word gives its place back.
        socket.set_keepalive(true)?;
        socket.bind(address)?;
        socket.listen(1024)
    };
    listen().map_err(|error| BindError { address, error })
}

/// Turns connections away.
pub(super) struct Gate {
    source: SourceId,
    stats: Arc<SourceStats>,
    /// One turn for each address and kind of problem: a flood of one must not hide another.
    refusals: Mutex<Limiter<(IpAddr, &'static str)>>,
}

impl Gate {
    pub(super) fn new(source: SourceId, stats: Arc<SourceStats>) -> Self {
        Gate { source, stats, refusals: Mutex::new(Limiter::new(REFUSALS)) }
    }

    /// Counts a connection that is turned away, and says so if it is its turn.
    pub(super) fn refuse(
        &self,
        address: SocketAddr,
        kind: &'static str,
        reason: &dyn std::fmt::Display,
    ) {
        add(&self.stats.refused_connections, 1);
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = refusals.turn((address.ip(), kind), Instant::now()) {
            let source = self.source.0;
            warn!(source, %address, %reason, suppressed, "a connection was refused");
        }
    }
}

/// A listener at work.
pub(super) struct Listening {
    /// What comes in, for the log.
    pub(super) what: &'static str,
    /// The most connections at a time.
    pub(super) most: usize,
    /// How many descriptors a connection takes.
    pub(super) descriptors: u32,
    pub(super) gate: Arc<Gate>,
    pub(super) shutdown: Shutdown,
}

impl Listening {
    /// Takes connections until it is to retire or stop, and returns when all of them have ended.
    /// A stop takes at most some 5 seconds for that.
    pub(super) async fn accept_all<F>(
        mut self,
        listener: TcpListener,
        admit: impl Fn(TcpStream, Arrival) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        let mut entrance = Entrance::new(Arc::clone(&self.gate), self.most, self.descriptors);
        loop {
            select! {
                biased;
                () = reached(&mut self.shutdown, Phase::Retire) => break,
                Some(ended) = tasks.join_next() => survive(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => if let Some(arrival) = entrance.arrive(address) {
                        let settled = arrival.settled();
                        let task = tasks.spawn(admit(stream, arrival));
                        entrance.wait_for(address, settled, task);
                    }
                    Err(error) => {
                        let nobody = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
                        self.gate.refuse(nobody, "accept", &error);
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        drop(listener);
        self.drain(tasks).await;
    }

    async fn drain(&mut self, mut tasks: JoinSet<()>) {
        let drained = async {
            while let Some(ended) = tasks.join_next().await {
                survive(ended);
            }
        };
        let late = async {
            stopped(&mut self.shutdown).await;
            sleep(STOP).await;
        };
        let cut_off = select! {
            () = drained => false,
            () = late => true,
        };
        if cut_off {
            let (what, connections) = (self.what, tasks.len());
            warn!(connections, "{what} senders were cut off: nobody took their messages");
            tasks.shutdown().await;
        }
    }
}

/// A connection that panicked must not go unnoticed, and must not stop the others.
fn survive(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "a connection failed because of a fault in this program");
    }
}

fn hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "it is in use by another program: stop that one, or listen on another port".into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: listen on one it has".into()
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE): use another port".into()
        }
        _ => error.to_string(),
    }
}
