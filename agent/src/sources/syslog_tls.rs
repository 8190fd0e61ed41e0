//! Receives syslog over TLS (RFC 5425) from senders that show a certificate in
//! the role `syslog-client`.
//!
//! What it guarantees: every message that arrived is handed over, also the part
//! of one at which a connection broke; a connection that breaks the rules is
//! closed with a log line that names its peer, and disturbs no other; a slow
//! pipeline makes the senders wait; and memory is bounded: a sender may have 128 KiB
//! here, and what a longer message takes is counted against a budget of all senders
//! of the listener. Who occupies that and does not go on is disconnected. What it cannot guarantee is that a message
//! arrived: syslog has no acknowledgement, so whatever a sender wrote that this
//! machine had not yet read is lost when a connection or a program dies.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use link::{
    Identity, Role,
    tls::{Problem, ReloadingServer, ServerSettings, TlsFiles, accept},
};
use pipeline::{
    frame::{
        DEFAULT_MESSAGE, FrameDecoder, FrameError, MAX_MESSAGE as MAX_LIMIT,
        MIN_MESSAGE as MIN_LIMIT,
    },
    line::{Chunk, ChunkOrigin, LineSpan, SourceEvent},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    select,
    sync::{Semaphore, SemaphorePermit},
    time::{sleep, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{
    Outlet, Shutdown,
    entrance::Arrival,
    listener::{Gate, Listening},
    now,
    stats::{Raised, add},
    stopped,
};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How much is read at a time from a busy sender, in bytes.
const READ: usize = 64 << 10;

/// The same for a sender that has been idle: a thousand of those must be cheap.
const IDLE_READ: usize = 4 << 10;

/// How much of a sender's buffer is not counted against the budget, in bytes.
const FREE: usize = 2 * READ;

/// A listener's budget is counted in pieces of so many bytes.
const PIECE: usize = 1 << 10;

/// The smallest budget, in bytes.
const MIN_BUFFERED: usize = 8 << 20;

/// For how long a stop goes on reading what has arrived already.
const DRAIN: Duration = Duration::from_secs(1);

/// A sender that is quiet for so long during a stop has nothing under way.
const QUIET: Duration = Duration::from_millis(50);

/// How long taking leave of a sender may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// Where to listen for syslog, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogTlsConfig {
    /// The address and port.
    pub listen: SocketAddr,
    /// The longest message, in bytes, from 64 KiB to 3 MiB. A sender of a
    /// longer one is disconnected.
    pub max_message: usize,
    /// How many senders may be connected at a time, at least one. More are refused.
    pub max_connections: usize,
    /// How many bytes of unfinished messages all senders together may have here, beyond 128 KiB
    /// each; at least 8 MiB, so that one can always go on.
    pub max_buffered: usize,
    /// How long a message beyond 128 KiB may take to come.
    pub patience: Duration,
}

/// The configuration of a syslog source is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyslogTlsConfigError {
    /// `max_message` is out of bounds.
    #[error("max_message = {0} is not between {MIN_LIMIT} and {MAX_LIMIT} bytes")]
    MaxMessage(usize),
    /// `max_connections` is 0.
    #[error("max_connections = 0 lets nobody in: use at least 1")]
    MaxConnections,
    /// `max_buffered` is too small.
    #[error(
        "max_buffered = {0} bytes is less than the {MIN_BUFFERED} that a long message may take"
    )]
    MaxBuffered(usize),
}

impl SyslogTlsConfig {
    /// The defaults: messages up to 1 MiB, 1024 senders, 64 MiB for unfinished long messages,
    /// each of which may take half a minute.
    pub fn new(listen: SocketAddr) -> Self {
        SyslogTlsConfig {
            listen,
            max_message: DEFAULT_MESSAGE,
            max_connections: 1024,
            max_buffered: 64 << 20,
            patience: Duration::from_secs(30),
        }
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// The first that is out of bounds.
    pub fn check(&self) -> Result<(), SyslogTlsConfigError> {
        if !(MIN_LIMIT..=MAX_LIMIT).contains(&self.max_message) {
            return Err(SyslogTlsConfigError::MaxMessage(self.max_message));
        }
        if self.max_connections == 0 {
            return Err(SyslogTlsConfigError::MaxConnections);
        }
        if self.max_buffered < MIN_BUFFERED {
            return Err(SyslogTlsConfigError::MaxBuffered(self.max_buffered));
        }
        Ok(())
    }
}

/// What a syslog listener asks of certificates: its own is an agent's, those
/// of its clients are syslog clients'.
pub fn tls_settings(files: TlsFiles) -> ServerSettings {
    ServerSettings::syslog(files, &[Role::Agent], &[Role::SyslogClient])
}

/// Takes connections until it is to retire or stop, then hands over what has arrived and
/// returns. A stop takes at most some 5 seconds for that, even if nobody receives.
pub async fn serve(
    listener: TcpListener,
    server: Arc<ReloadingServer>,
    config: SyslogTlsConfig,
    outlet: Outlet,
) {
    let listening = Listening {
        what: "syslog",
        most: config.max_connections,
        descriptors: 1,
        gate: Arc::new(Gate::new(outlet.id, Arc::clone(&outlet.stats))),
        shutdown: outlet.shutdown.clone(),
    };
    let gate = Arc::clone(&listening.gate);
    let budget = Semaphore::new(config.max_buffered / PIECE);
    let door = Arc::new(Door { server, config, budget, outlet, gate });
    listening
        .accept_all(listener, |stream, arrival| Arc::clone(&door).admit(stream, arrival))
        .await;
}

/// What all connections of a listener share.
struct Door {
    server: Arc<ReloadingServer>,
    config: SyslogTlsConfig,
    /// Pieces of memory for long messages.
    budget: Semaphore,
    outlet: Outlet,
    gate: Arc<Gate>,
}

impl Door {
    /// Lets a sender in and receives from it to the end.
    async fn admit(self: Arc<Self>, stream: TcpStream, arrival: Arrival) {
        let address = arrival.address();
        let mut shutdown = self.outlet.shutdown.clone();
        let accepted = select! {
            biased;
            () = stopped(&mut shutdown) => return,
            accepted = accept(stream, &self.server, HANDSHAKE) => accepted,
        };
        match accepted {
            Ok((stream, Identity { role: Role::SyslogClient, name })) => {
                let Some(_place) = arrival.come_in() else { return };
                add(&self.outlet.stats.accepted_connections, 1);
                let _open = Raised::new(&self.outlet.stats.open_connections);
                let source = self.outlet.id.0;
                info!(source, peer = %name, %address, "a syslog sender connected");
                self.receive(stream, name.as_str().into(), address).await;
            }
            Ok((_, identity)) => {
                self.gate.refuse(
                    address,
                    "role",
                    &format_args!("'{identity}' is not a syslog-client"),
                );
            }
            Err(error) => self.gate.refuse(address, error.problem.label(), &error.problem),
        }
    }

    /// Receives from a sender that was let in, until its connection ends.
    async fn receive<S>(&self, stream: S, peer: Arc<str>, address: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut connection = Connection {
            stream,
            decoder: FrameDecoder::new(self.config.max_message),
            lines: Vec::new(),
            peer: Arc::clone(&peer),
            shutdown: self.outlet.shutdown.clone(),
            door: self,
            held: None,
        };
        let end = connection.read_all().await;
        let rest = connection.hand_over_rest(matches!(end, End::Broken(_))).await;
        let source = self.outlet.id.0;
        match end {
            End::Broken(error) => {
                add(&self.outlet.stats.frame_errors, 1);
                warn!(source, %peer, %address, %error, "a syslog sender was disconnected");
            }
            End::Failed(error) => {
                let error = Problem::from_io(error);
                info!(source, %peer, %address, %error, "a syslog sender's connection failed");
            }
            End::Late => {
                add(&self.outlet.stats.frame_errors, 1);
                warn!(
                    source, %peer, %address, seconds = self.config.patience.as_secs(),
                    "a syslog sender was disconnected: it did not finish a long message in time"
                );
            }
            End::Closed => info!(source, %peer, %address, "a syslog sender disconnected"),
            End::Stopped => {}
        }
        if let Some(Cut { received, missing }) = rest {
            add(&self.outlet.stats.partial_messages, 1);
            warn!(
                source, %peer, %address, received, missing,
                "the connection ended inside a message: what came of it is recorded"
            );
        }
        let _ = timeout(FAREWELL, connection.stream.shutdown()).await;
    }
}

/// One sender.
struct Connection<'a, S> {
    stream: S,
    decoder: FrameDecoder,
    /// The messages decoded since the last hand-over.
    lines: Vec<LineSpan>,
    peer: Arc<str>,
    shutdown: Shutdown,
    door: &'a Door,
    /// What a long message takes of the budget, and by when it must have come.
    held: Option<(SemaphorePermit<'a>, Instant)>,
}

/// Why a connection ended.
enum End {
    /// The sender closed it.
    Closed,
    /// The sender broke the framing.
    Broken(FrameError),
    /// The network, or the sender's TLS, failed.
    Failed(io::Error),
    /// The sender occupied the budget for too long.
    Late,
    /// We are to stop.
    Stopped,
}

/// A message that was cut short.
struct Cut {
    received: usize,
    missing: Option<u64>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Reads to the connection's end. Messages are handed over as soon as
    /// nothing more has arrived, or when they are enough for a chunk.
    async fn read_all(&mut self) -> End {
        let mut room = IDLE_READ;
        let mut deadline = None;
        loop {
            let space = match self.make_room(room, deadline.is_some()).await {
                Ok(space) => space,
                Err(end) => return end,
            };
            let due = self.held.as_ref().map(|(_, due)| *due);
            let waiting = self.decoder.consumed() > 0 || deadline.is_some();
            let read = select! {
                biased;
                () = stopped(&mut self.shutdown), if deadline.is_none() => {
                    deadline = Some(Instant::now() + DRAIN);
                    continue;
                }
                read = self.stream.read_buf(self.decoder.buffer()) => Some(read),
                () = pause(deadline.is_some()), if waiting => None,
                () = until(due) => return End::Late,
            };
            match read {
                Some(Ok(0)) => return End::Closed,
                // Some senders end without saying so in TLS.
                Some(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return End::Closed;
                }
                Some(Err(error)) => return End::Failed(error),
                Some(Ok(read)) => {
                    room = if read == space { READ } else { room };
                    if let Err(error) = self.decode() {
                        return End::Broken(error);
                    }
                }
                None => {
                    room = IDLE_READ;
                    if self.hand_over().await.is_err() {
                        return End::Stopped;
                    }
                }
            }
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if late || (read.is_none() && deadline.is_some()) {
                return End::Stopped;
            }
            if read.is_none() && self.decoder.buffer().is_empty() {
                self.decoder.buffer().shrink_to(IDLE_READ);
            }
        }
    }

    /// Makes room for at least a byte, and for about `room` unless a long message is under way;
    /// answers with how many bytes fit. Only what fits into the budget is received.
    async fn make_room(&mut self, room: usize, stopping: bool) -> Result<usize, End> {
        let long = |decoder: &mut FrameDecoder| decoder.buffer().len() + room > FREE;
        if long(&mut self.decoder) && self.decoder.consumed() > 0 {
            self.hand_over().await.map_err(|()| End::Stopped)?;
            self.held = None;
        }
        let has = self.decoder.buffer().len();
        let mut wanted = has + room;
        if long(&mut self.decoder) {
            wanted = self.decoder.needs().max(has + 1);
            if self.held.is_none() {
                self.hold(wanted, stopping).await?;
            }
        } else {
            self.held = None;
            self.decoder.buffer().shrink_to(FREE);
        }
        let buffer = self.decoder.buffer();
        let spare = buffer.capacity() - has;
        if spare < (wanted - has).min(room / 2) {
            buffer.reserve_exact(wanted - has);
        }
        Ok(buffer.capacity() - has)
    }

    /// Takes from the budget what a whole message of so many bytes needs, so that nobody who has
    /// a part of it ever waits for more.
    async fn hold(&mut self, bytes: usize, stopping: bool) -> Result<(), End> {
        let (budget, pieces) = (&self.door.budget, bytes.div_ceil(PIECE));
        let pieces = u32::try_from(pieces).expect("a message has a few MiB at most");
        let permit = if stopping {
            budget.try_acquire_many(pieces).map_err(|_| End::Stopped)?
        } else {
            select! {
                biased;
                () = stopped(&mut self.shutdown) => return Err(End::Stopped),
                permit = budget.acquire_many(pieces) => permit.map_err(|_| End::Stopped)?,
            }
        };
        self.held = Some((permit, Instant::now() + self.door.config.patience));
        Ok(())
    }

    fn decode(&mut self) -> Result<(), FrameError> {
        while let Some(frame) = self.decoder.next_frame() {
            self.lines.push(frame?);
        }
        Ok(())
    }

    /// Hands over what was decoded; fails when nobody takes it.
    async fn hand_over(&mut self) -> Result<(), ()> {
        let (bytes, lines) = (self.decoder.take(), std::mem::take(&mut self.lines));
        if lines.is_empty() {
            return Ok(());
        }
        let counts = (lines.len(), bytes.len());
        let chunk = Chunk {
            source: self.door.outlet.id,
            bytes,
            lines,
            origin: ChunkOrigin::Sender { peer: Some(Arc::clone(&self.peer)), transport: None },
            received: now(),
            bookmark: None,
            ticket: None,
        };
        self.door.outlet.events.send(SourceEvent::Chunk(chunk)).await.map_err(drop)?;
        self.door.outlet.stats.handed_over(counts.0, counts.1);
        Ok(())
    }

    /// Hands over everything, and as the last line what is no whole message.
    /// Answers with that, unless the framing was `broken` and is reported anyway.
    async fn hand_over_rest(&mut self, broken: bool) -> Option<Cut> {
        let rest = self.decoder.finish();
        if let Some(rest) = rest {
            // Only what broke the framing can be longer than a message.
            let mut line = rest.line;
            while line.end - line.start > self.door.config.max_message as u32 {
                let end = line.start + self.door.config.max_message as u32;
                self.lines.push(LineSpan { end, next: end, ..line });
                add(&self.door.outlet.stats.cut_lines, 1);
                line.start = end;
            }
            if line.start < line.end {
                self.lines.push(line);
            }
        }
        // Whoever does not take it is stopping as well; nothing can be done about it then.
        let _ = self.hand_over().await;
        let rest = rest.filter(|_| !broken)?;
        let received = (rest.line.end - rest.line.start) as usize;
        Some(Cut { received, missing: rest.missing })
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Nothing more has arrived: at once, or during a stop when that has lasted a moment.
async fn pause(stopping: bool) {
    if stopping {
        sleep(QUIET).await;
    }
}

#[cfg(test)]
mod tests;
