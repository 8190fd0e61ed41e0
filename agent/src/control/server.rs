//! Answers on the local socket.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use record::{
    batch::{Codec, SealedBatch},
    entry::Entry,
};
use service::signals::Shutdown;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::broadcast::{self, error::RecvError},
    task::JoinSet,
    time::timeout,
};

use super::{Ask, Status, Tapped};

/// How many may be connected at a time.
const MAX_CLIENTS: usize = 16;

/// The longest request, in bytes.
const MAX_REQUEST: u64 = 4096;

/// How long a request, or the taking of an answer, may last.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many batches wait for a reader of a tap; what it is too slow for passes by.
const TAP_BATCHES: usize = 8;

/// The socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens on it.
    #[error("{0} is in use: another agent runs with this spool")]
    InUse(PathBuf),
    /// There is something else of this name.
    #[error("{0} is there and no socket: remove it")]
    NoSocket(PathBuf),
    /// The machine.
    #[error("cannot listen on {path}: {error}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// Where sealed batches can be watched. Costs nothing while nobody does.
#[derive(Clone, Debug)]
pub struct Tap(broadcast::Sender<Arc<SealedBatch>>);

impl Default for Tap {
    fn default() -> Self {
        Tap(broadcast::Sender::new(TAP_BATCHES))
    }
}

impl Tap {
    /// A batch was sealed.
    pub fn show(&self, batch: &SealedBatch) {
        if batch.count > 0 && self.0.receiver_count() > 0 {
            // It has just been seen that there is somebody; if not any more, it does not matter.
            let _ = self.0.send(Arc::new(batch.clone()));
        }
    }
}

/// The socket, and what it answers with.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    status: Box<dyn Fn() -> Status + Send + Sync>,
    tap: Tap,
}

impl Control {
    /// Listens. The socket of an agent that was killed is replaced.
    ///
    /// # Errors
    /// When another agent listens there, or the machine does not let us.
    pub fn bind(
        path: &Path,
        status: impl Fn() -> Status + Send + Sync + 'static,
        tap: Tap,
    ) -> Result<Self, BindError> {
        let io = |error| BindError::Io { path: path.to_owned(), error };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(BindError::NoSocket(path.to_owned()));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(BindError::InUse(path.to_owned()));
            }
            Ok(_) => fs::remove_file(path).map_err(io)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let listener = UnixListener::bind(path).map_err(io)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io)?;
        let shared = Arc::new(Shared { status: Box::new(status), tap });
        Ok(Control { listener, path: path.to_owned(), shared })
    }

    /// Answers until shutdown, and removes the socket.
    pub async fn serve(self, mut shutdown: Shutdown) {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.wait() => break,
                Some(_) = clients.join_next() => {}
                accepted = self.listener.accept(), if clients.len() < MAX_CLIENTS => match accepted {
                    Ok((stream, _)) => {
                        clients.spawn(answer(stream, Arc::clone(&self.shared)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the local socket takes no connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        // If it stays, the next start replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers one client. Whatever goes wrong with it is its own affair.
async fn answer(stream: UnixStream, shared: Arc<Shared>) {
    let (read, mut write) = stream.into_split();
    let mut request = String::new();
    let mut read = BufReader::new(read).take(MAX_REQUEST);
    let Ok(Ok(_)) = timeout(PATIENCE, read.read_line(&mut request)).await else { return };
    let result = match serde_json::from_str(&request) {
        Ok(Ask::Status) => send(&mut write, &(shared.status)()).await,
        Ok(Ask::Tap { source }) => tap(&mut write, &shared.tap, source.as_deref()).await,
        Err(error) => send(&mut write, &serde_json::json!({ "error": error.to_string() })).await,
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a client of the local socket went away");
    }
}

async fn send(
    write: &mut (impl AsyncWriteExt + Unpin),
    answer: &impl serde::Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(PATIENCE, write.write_all(&line)).await?
}

async fn tap(
    write: &mut (impl AsyncWriteExt + Unpin),
    tap: &Tap,
    source: Option<&str>,
) -> io::Result<()> {
    let mut batches = tap.0.subscribe();
    let (mut codec, mut bundle, mut missed) = (Codec::default(), Vec::new(), 0);
    loop {
        let batch = match batches.recv().await {
            Ok(batch) => batch,
            Err(RecvError::Lagged(more)) => {
                missed += more;
                continue;
            }
            Err(RecvError::Closed) => return Ok(()),
        };
        let entries = codec.unpack(&batch, &mut bundle).map_err(io::Error::other)?;
        for (n, range) in (batch.start.0..).zip(entries) {
            let bytes = &bundle[range];
            let entry = Entry::parse(bytes).map_err(io::Error::other)?;
            let of = entry.element().param("source").unwrap_or_default().into_owned();
            if source.is_none_or(|wanted| wanted == of) {
                let entry = String::from_utf8_lossy(bytes).into_owned();
                send(write, &Tapped { n, source: of, entry, missed }).await?;
                missed = 0;
            }
        }
    }
}
