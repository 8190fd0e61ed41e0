//! Receives log records of OpenTelemetry: OTLP/HTTP 1.x, `POST /v1/logs`, protobuf or JSON.
//!
//! What it guarantees: a request is answered with success when all of its records that were not
//! rejected are durable, and never before; what was rejected, and why, is in the answer
//! (`partialSuccess`). While the pipeline takes nothing, exporters are told to come back (503 with
//! `Retry-After`), and keep their records. What it holds of requests is bounded, however many
//! connections there are. What it cannot guarantee: an exporter that did not get its answer sends
//! the request again, and then its records are there twice; OTLP has nothing to tell them by.

mod answer;
mod request;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use link::{
    Identity, Role,
    tls::{ReloadingServer, TlsFiles, accept},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    select,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use super::{
    Outlet, Phase,
    limiter::Limiter,
    reached,
    stats::{Raised, add},
    stopped,
};

/// What the records say of how their lines came, where no certificate was shown.
const TRANSPORT: &str = "otlp-loopback";

/// How long a handshake may take, and the head of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How many requests are read and decoded at a time.
const AT_ONCE: usize = 4;

/// How long a stop waits for requests that are under way.
const STOP: Duration = Duration::from_secs(5);

/// How often one kind of problem is named in the log.
const REFUSALS: Duration = Duration::from_secs(1);

/// How long the system refuses connections when it has no room for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where to listen for exporters, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpConfig {
    /// The address and port.
    pub listen: SocketAddr,
    /// Certificate, key and trust, and the table that they were written in. Nothing on loopback.
    pub tls: Option<(TlsFiles, String)>,
    /// The longest request, in bytes, compressed or not.
    pub max_request: usize,
    /// How many connections at a time; more are refused.
    pub max_connections: usize,
}

/// What all connections share.
struct Door {
    server: Option<Arc<ReloadingServer>>,
    config: OtlpConfig,
    outlet: Outlet,
    room: Semaphore,
    refusals: Mutex<Limiter<&'static str>>,
}

/// Takes connections until it is to retire or to stop, and answers what was asked by then.
pub async fn serve(
    listener: TcpListener,
    server: Option<Arc<ReloadingServer>>,
    config: OtlpConfig,
    outlet: Outlet,
) {
    let mut shutdown = outlet.shutdown.clone();
    let (max_connections, refusals) = (config.max_connections, Mutex::new(Limiter::new(REFUSALS)));
    let room = Semaphore::new(AT_ONCE);
    let door = Arc::new(Door { server, config, outlet, room, refusals });
    let mut tasks = JoinSet::new();
    loop {
        select! {
            biased;
            () = reached(&mut shutdown, Phase::Retire) => break,
            Some(ended) = tasks.join_next() => survive(ended),
            accepted = listener.accept() => match accepted {
                Ok(_) if tasks.len() >= max_connections => {
                    door.refuse("too-many", &"there are too many connections (max_connections)");
                }
                Ok((stream, address)) => {
                    tasks.spawn(Arc::clone(&door).admit(stream, address));
                }
                Err(error) => {
                    door.refuse("accept", &error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    let ended = timeout(STOP, async {
        while let Some(ended) = tasks.join_next().await {
            survive(ended);
        }
    });
    if ended.await.is_err() {
        warn!(
            connections = tasks.len(),
            "exporters were cut off: they send again what had no answer"
        );
        tasks.shutdown().await;
    }
}

impl Door {
    /// Lets an exporter in and answers its requests.
    async fn admit(self: Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let Some(server) = &self.server else {
            return self.converse(stream, None).await;
        };
        match accept(stream, server, HANDSHAKE).await {
            Ok((stream, Identity { role: Role::SyslogClient, name })) => {
                info!(source = self.outlet.id.0, peer = %name, %address, "an exporter connected");
                self.converse(stream, Some(name.as_str().into())).await;
            }
            Ok((_, identity)) => {
                self.refuse(
                    "role",
                    &format_args!("'{identity}' at {address} is not a syslog-client"),
                );
            }
            Err(error) => self.refuse(error.problem.label(), &error),
        }
    }

    async fn converse<S>(&self, stream: S, peer: Option<Arc<str>>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        add(&self.outlet.stats.accepted_connections, 1);
        let _open = Raised::new(&self.outlet.stats.open_connections);
        let service = service_fn(|request| request::handle(self, request, peer.clone()));
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HANDSHAKE * 6).max_buf_size(64 << 10);
        let mut connection =
            std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut shutdown = self.outlet.shutdown.clone();
        let ended = select! {
            biased;
            () = reached(&mut shutdown, Phase::Retire) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            ended = &mut connection => ended,
        };
        if let Err(error) = ended
            && error.is_parse()
        {
            add(&self.outlet.stats.frame_errors, 1);
            self.say("http", &error);
        }
    }

    fn refuse(&self, kind: &'static str, reason: &dyn std::fmt::Display) {
        add(&self.outlet.stats.refused_connections, 1);
        self.say(kind, reason);
    }

    /// Logs what is wrong with somebody, within measure.
    fn say(&self, kind: &'static str, reason: &dyn std::fmt::Display) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = refusals.turn(kind, Instant::now()) {
            let source = self.outlet.id.0;
            warn!(source, %reason, suppressed, "an exporter was refused");
        }
    }

    /// Waits until the source is to stop.
    async fn stopping(&self) {
        stopped(&mut self.outlet.shutdown.clone()).await;
    }
}

/// A connection that panicked must not go unnoticed, and must not stop the others.
fn survive(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "a connection of an exporter failed because of a fault in this program");
    }
}
