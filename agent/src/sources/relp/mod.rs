//! Receives syslog by RELP, over TLS from senders with a certificate in the role `syslog-client`,
//! or without on loopback.
//!
//! What it guarantees: a message is answered only after the fdatasync behind it, in the order of
//! transaction numbers; one that a client sends again after a break of any kind is stored once, as
//! far as [`pipeline::relp::resend`] can tell; a client that breaks the rules, is slow or silent
//! is closed with a log line that names it, and disturbs no other. Memory is bounded: a message
//! beyond 128 KiB, and whatever is held, is received only within the listener's budget, and no
//! more messages wait for their answers than [`MAX_WAITING`] and [`MAX_WAITING_BYTES`] say.

mod answers;
mod connection;
mod flight;
mod registry;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use link::{
    Identity, Role,
    tls::{Problem, ReloadingServer, accept},
};
use pipeline::{MAX_LINE, relp::resend::Tails};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    select,
    sync::{Notify, Semaphore, mpsc},
    time::timeout,
};
use tracing::{info, warn};

use super::{
    Known, Outlet,
    entrance::{Arrival, Place},
    listener::{Gate, Listening},
    stats::{Raised, add},
    stopped,
};
use answers::Answers;
use connection::{Connection, End};
use flight::Flight;
use registry::Registry;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long taking leave of a client may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// How many messages of one client may wait for their answers.
pub const MAX_WAITING: usize = 8192;

/// How many bytes of messages of one client may wait for their answers before no more is read.
pub const MAX_WAITING_BYTES: usize = 4 << 20;

/// A listener's budget is counted in pieces of so many bytes.
const PIECE: usize = 1 << 10;

/// Where to listen for RELP, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelpConfig {
    /// The address and port.
    pub listen: SocketAddr,
    /// The longest message, in bytes, up to 3 MiB.
    pub max_message: usize,
    /// How many clients may be connected at a time, at least one.
    pub max_connections: usize,
    /// How many messages of a session are remembered, so that they are recognised if they are
    /// sent again.
    pub resend_window: usize,
    /// How many bytes of unfinished and held messages all clients together may have here, beyond
    /// 128 KiB each; at least 8 MiB, so that one can always go on.
    pub max_buffered: usize,
    /// How long a connection may last without a session, and how long a frame may take to come.
    pub patience: Duration,
    /// How long a client that may be sending again may stop in the middle of it. Shorter than what
    /// clients wait for answers (90 s in rsyslog), longer than what they take to connect again.
    pub undecided: Duration,
}

impl RelpConfig {
    /// The defaults: messages up to 3 MiB, 64 clients, 4096 messages remembered, 64 MiB.
    pub fn new(listen: SocketAddr) -> Self {
        RelpConfig {
            listen,
            max_message: MAX_LINE,
            max_connections: 64,
            resend_window: 4096,
            max_buffered: 64 << 20,
            patience: Duration::from_secs(30),
            undecided: Duration::from_secs(60),
        }
    }
}

/// Takes connections until it is to stop. A stop takes at most some 5 seconds. Without a server
/// for TLS the address must be a loopback one.
pub async fn serve(
    listener: TcpListener,
    server: Option<Arc<ReloadingServer>>,
    config: RelpConfig,
    known: Known,
    outlet: Outlet,
) -> Known {
    let (tails, unneeded) = Tails::new(config.resend_window, known.bookmarks);
    let registry = Registry::new(outlet.clone(), tails);
    registry.forget(unneeded).await;
    let listening = Listening {
        what: "RELP",
        most: config.max_connections,
        // The socket, and a copy to set its options.
        descriptors: 2,
        gate: Arc::new(Gate::new(outlet.id, Arc::clone(&outlet.stats))),
        shutdown: outlet.shutdown.clone(),
    };
    let door = Arc::new(Door {
        server,
        gate: Arc::clone(&listening.gate),
        budget: Arc::new(Semaphore::new(config.max_buffered / PIECE)),
        registry,
        config,
        outlet,
    });
    listening
        .accept_all(listener, |stream, arrival| Arc::clone(&door).admit(stream, arrival))
        .await;
    Known { bookmarks: door.registry.known(), ..known }
}

/// What all connections of a listener share.
struct Door {
    /// Nothing on loopback, without TLS.
    server: Option<Arc<ReloadingServer>>,
    config: RelpConfig,
    outlet: Outlet,
    gate: Arc<Gate>,
    /// Pieces of memory for messages that are unfinished or held.
    budget: Arc<Semaphore>,
    registry: Registry,
}

/// A client as its connection shows it.
struct Client {
    /// What its sessions are known by: the name in its certificate, or its address on loopback.
    name: Arc<str>,
    /// The name in its certificate.
    peer: Option<Arc<str>>,
    address: SocketAddr,
    /// The socket, to set its options.
    socket: std::os::fd::OwnedFd,
}

impl Door {
    /// Lets a client in and receives from it to the end.
    async fn admit(self: Arc<Self>, stream: TcpStream, arrival: Arrival) {
        let address = arrival.address();
        let socket = match prepare(&stream) {
            Ok(socket) => socket,
            Err(error) => return self.gate.refuse(address, "socket", &error),
        };
        let client = |name: Arc<str>, peer| Client { name, peer, address, socket };
        let Some(server) = &self.server else {
            let Some(place) = arrival.come_in() else { return };
            let name = address.ip().to_string().into();
            return self.converse(stream, client(name, None), place).await;
        };
        let mut shutdown = self.outlet.shutdown.clone();
        let accepted = select! {
            biased;
            () = stopped(&mut shutdown) => return,
            accepted = accept(stream, server, HANDSHAKE) => accepted,
        };
        match accepted {
            Ok((stream, Identity { role: Role::SyslogClient, name })) => {
                let Some(place) = arrival.come_in() else { return };
                let name: Arc<str> = name.as_str().into();
                let peer = Some(Arc::clone(&name));
                self.converse(stream, client(name, peer), place).await;
            }
            Ok((_, identity)) => {
                let problem = format_args!("'{identity}' is not a syslog-client");
                self.gate.refuse(address, "role", &problem);
            }
            Err(error) => self.gate.refuse(address, error.problem.label(), &error.problem),
        }
    }

    /// Receives from a client that was let in, and answers it, until its connection ends.
    async fn converse<S>(&self, stream: S, client: Client, place: Place)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        add(&self.outlet.stats.accepted_connections, 1);
        let _open = Raised::new(&self.outlet.stats.open_connections);
        let (source, peer, address) = (self.outlet.id.0, Arc::clone(&client.name), client.address);
        info!(source, %peer, %address, "a RELP client connected");
        let (reading, writing) = tokio::io::split(stream);
        let (queue, groups) = mpsc::unbounded_channel();
        let session = self.registry.open(Arc::clone(&client.name));
        let flight = Flight::default();
        let lost = Notify::new();
        let answers = Answers::new(groups, writing, &flight, &self.registry);
        let mut connection =
            Connection::new(self, reading, client, session.clone(), (&flight, &lost), queue);
        let Place { place, descriptors: _descriptors } = place;
        let reading = async move {
            let end = connection.run().await;
            // From here on there are only answers to wait for.
            drop(place);
            (end, connection.into_stream())
        };
        let ((end, reading), writing) = tokio::join!(reading, answers.run(&lost));
        self.registry.end(&session, matches!(end, End::Closed)).await;
        self.report(end, &peer, address);
        let mut stream = reading.unsplit(writing);
        let _ = timeout(FAREWELL, stream.shutdown()).await;
    }

    fn report(&self, end: End, peer: &str, address: SocketAddr) {
        let source = self.outlet.id.0;
        match end {
            End::Closed => info!(source, %peer, %address, "a RELP client closed its session"),
            End::Gone(None) => {
                info!(source, %peer, %address, "a RELP client went away without closing its session");
            }
            End::Gone(Some(error)) => {
                let error = Problem::from_io(error);
                info!(source, %peer, %address, %error, "a RELP client's connection failed");
            }
            End::Broken(error) => {
                add(&self.outlet.stats.frame_errors, 1);
                warn!(source, %peer, %address, %error, "a RELP client was disconnected");
            }
            End::Late(what) => {
                add(&self.outlet.stats.frame_errors, 1);
                warn!(
                    source, %peer, %address, seconds = self.config.patience.as_secs(),
                    "a RELP client was disconnected: it did not {what} in time"
                );
            }
            End::Replaced => info!(
                source, %peer, %address,
                "a RELP client's connection was dead: the client went on over another"
            ),
            End::Stopped => {}
        }
    }
}

/// Makes a socket answer at once and notice when its peer is gone.
fn prepare(stream: &TcpStream) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::AsFd;
    stream.set_nodelay(true)?;
    let socket = stream.as_fd().try_clone_to_owned()?;
    sockopt::set_tcp_keepidle(&socket, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(&socket, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(&socket, 6)?;
    Ok(socket)
}
#[cfg(test)]
mod tests;
