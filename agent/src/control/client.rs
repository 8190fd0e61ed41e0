//! Asks a running agent.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::{Ask, Status, Tapped};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The agent cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no agent answers at {0}: it does not run, or with another configuration (--config); \
         'systemctl status logseal-agent' says more"
    )]
    NotRunning(PathBuf),
    /// The socket is not ours.
    #[error("{0} may be opened by the agent's user and root only: use sudo")]
    Forbidden(PathBuf),
    /// The machine.
    #[error("cannot talk to the agent at {path}: {error}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It answered with something else.
    #[error(
        "the agent answered in a way that this program does not know ({0}): use the same version"
    )]
    Answer(String),
}

/// A connection to a running agent.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// What the agent behind this socket is doing.
    ///
    /// # Errors
    /// When none runs there, or it may not be asked.
    pub fn status(path: &Path) -> Result<Status, ClientError> {
        let mut client = Self::ask(path, &Ask::Status)?;
        client.next()?.ok_or_else(|| ClientError::NotRunning(path.to_owned()))
    }

    /// The records that the agent behind this socket seals from now on.
    ///
    /// # Errors
    /// When none runs there, or it may not be asked.
    pub fn tap(path: &Path, source: Option<String>) -> Result<Self, ClientError> {
        let client = Self::ask(path, &Ask::Tap { source })?;
        let unbounded = client.stream.get_ref().set_read_timeout(None);
        unbounded.map_err(|error| client.failed(error))?;
        Ok(client)
    }

    /// The next record of a tap; nothing when the agent has ended.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn tapped(&mut self) -> Result<Option<Tapped>, ClientError> {
        self.next()
    }

    fn ask(path: &Path, ask: &Ask) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(path.to_owned())
            }
            io::ErrorKind::PermissionDenied => ClientError::Forbidden(path.to_owned()),
            _ => ClientError::Io { path: path.to_owned(), error },
        })?;
        let mut client = Client { path: path.to_owned(), stream: BufReader::new(stream) };
        let request = serde_json::to_string(ask).expect("plain values are JSON");
        let stream = client.stream.get_mut();
        let sent = stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .and_then(|()| writeln!(stream, "{request}"));
        sent.map_err(|error| client.failed(error))?;
        Ok(client)
    }

    fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).map_err(|error| self.failed(error))?;
        if read == 0 {
            return Ok(None);
        }
        serde_json::from_str(&line)
            .map(Some)
            .map_err(|error| ClientError::Answer(error.to_string()))
    }

    fn failed(&self, error: io::Error) -> ClientError {
        ClientError::Io { path: self.path.clone(), error }
    }
}
