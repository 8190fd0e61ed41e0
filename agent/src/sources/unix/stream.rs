//! A socket on which programs open connections.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use pipeline::{
    frame::FrameDecoder,
    line::{ChunkOrigin, LineSpan, SourceEvent},
};
use tokio::{
    io::AsyncReadExt,
    net::{UnixListener, UnixStream},
    select,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tracing::{error, warn};

use super::{TRANSPORT, UnixConfig, socket::SocketFile};
use crate::sources::{
    Outlet, Phase,
    datagram::program,
    now, reached,
    stats::{Raised, add},
    stopped,
};

/// How much is read at a time, in bytes.
const READ: usize = 64 << 10;

/// For how long a stop goes on reading what has come already.
const DRAIN: Duration = Duration::from_secs(1);

/// A program that is quiet for so long during a stop has nothing under way.
const QUIET: Duration = Duration::from_millis(20);

/// How long it pauses when the system has no room for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes connections until it is to retire or to stop, and receives from those that there are
/// until they end, or it is to stop.
pub(super) async fn serve(
    listener: UnixListener,
    file: SocketFile,
    config: UnixConfig,
    outlet: Outlet,
) {
    let mut shutdown = outlet.shutdown.clone();
    let mut tasks = JoinSet::new();
    loop {
        let room = tasks.len() < config.max_connections;
        let accepted = select! {
            biased;
            () = reached(&mut shutdown, Phase::Retire) => break,
            Some(ended) = tasks.join_next() => {
                survive(ended);
                continue;
            }
            accepted = listener.accept(), if room => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tasks.spawn(receive(stream, config.max_message, outlet.clone()));
            }
            Err(error) => {
                add(&outlet.stats.refused_connections, 1);
                let source = outlet.id.0;
                warn!(source, %error, "a local connection could not be accepted");
                sleep(PAUSE).await;
            }
        }
    }
    // Whoever looks for the socket now learns that nobody is there; who was let in is served.
    drop(file);
    let waiting = waiting(listener).unwrap_or_else(|error| {
        warn!(source = outlet.id.0, %error, "local connections that waited were not accepted");
        Vec::new()
    });
    for stream in waiting {
        tasks.spawn(receive(stream, config.max_message, outlet.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        survive(ended);
    }
}

/// The connections that nobody has accepted yet.
fn waiting(listener: UnixListener) -> io::Result<Vec<UnixStream>> {
    let listener = listener.into_std()?;
    let mut waiting = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        waiting.push(UnixStream::from_std(stream)?);
    }
    Ok(waiting)
}

/// Receives from one program until it closes its connection.
async fn receive(stream: UnixStream, max_message: usize, outlet: Outlet) {
    add(&outlet.stats.accepted_connections, 1);
    let stats = Arc::clone(&outlet.stats);
    let _open = Raised::new(&stats.open_connections);
    let who = stream.peer_cred().map(|who| program(who.uid(), who.pid())).ok();
    let decoder = FrameDecoder::local(max_message);
    let mut connection = Connection { stream, decoder, peer: who, max_message, outlet };
    let ended = connection.read_all().await;
    let (source, peer) = (connection.outlet.id.0, connection.peer.clone());
    if let Err(problem) = ended {
        add(&stats.frame_errors, 1);
        warn!(source, ?peer, problem, "a program was disconnected from the local socket");
    }
    connection.hand_over_rest().await;
}

struct Connection {
    stream: UnixStream,
    decoder: FrameDecoder,
    peer: Option<Arc<str>>,
    max_message: usize,
    outlet: Outlet,
}

impl Connection {
    /// Reads to the end: that of the connection, or of the source.
    async fn read_all(&mut self) -> Result<(), String> {
        let mut shutdown = self.outlet.shutdown.clone();
        loop {
            self.decoder.buffer().reserve(READ);
            let read = select! {
                biased;
                () = stopped(&mut shutdown) => return self.drain().await,
                read = self.stream.read_buf(self.decoder.buffer()) => read,
            };
            if !self.take(read).await? {
                return Ok(());
            }
        }
    }

    /// Reads what has come already.
    async fn drain(&mut self) -> Result<(), String> {
        let until = Instant::now() + DRAIN;
        while Instant::now() < until {
            self.decoder.buffer().reserve(READ);
            let read = timeout(QUIET, self.stream.read_buf(self.decoder.buffer())).await;
            let Ok(read) = read else { break };
            if !self.take(read).await? {
                break;
            }
        }
        Ok(())
    }

    /// Hands over what a read brought. False if nothing will follow.
    async fn take(&mut self, read: io::Result<usize>) -> Result<bool, String> {
        // A program that ended with data under way resets its connection: what it sent is here.
        let Ok(read) = read else { return Ok(false) };
        let mut lines = Vec::new();
        let mut broken = None;
        while let Some(frame) = self.decoder.next_frame() {
            match frame {
                Ok(line) => lines.push(line),
                Err(error) => broken = Some(error.to_string()),
            }
        }
        if self.hand_over(lines).await.is_err() {
            return Ok(false);
        }
        broken.map_or(Ok(read > 0), Err)
    }

    /// Hands over what is no whole message: its end will not come.
    async fn hand_over_rest(&mut self) {
        let Some(rest) = self.decoder.finish() else { return };
        let mut lines = Vec::new();
        let LineSpan { mut start, end, .. } = rest.line;
        while start < end {
            let next = end.min(start + self.max_message as u32);
            lines.push(LineSpan { start, end: next, next });
            start = next;
        }
        add(&self.outlet.stats.cut_lines, lines.len().saturating_sub(1) as u64);
        if !lines.is_empty() && rest.missing.is_some() {
            add(&self.outlet.stats.partial_messages, 1);
        }
        // Whoever does not take it is stopping as well.
        let _ = self.hand_over(lines).await;
    }

    async fn hand_over(&mut self, lines: Vec<LineSpan>) -> Result<(), ()> {
        let bytes = self.decoder.take();
        if lines.is_empty() {
            return Ok(());
        }
        let counts = (lines.len(), bytes.len());
        let origin = ChunkOrigin::Sender { peer: self.peer.clone(), transport: Some(TRANSPORT) };
        let event = SourceEvent::lines(self.outlet.id, bytes, lines, origin, now());
        self.outlet.events.send(event).await.map_err(drop)?;
        self.outlet.stats.handed_over(counts.0, counts.1);
        Ok(())
    }
}

/// A connection that panicked must not go unnoticed, and must not stop the others.
fn survive(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "a local connection failed because of a fault in this program");
    }
}
