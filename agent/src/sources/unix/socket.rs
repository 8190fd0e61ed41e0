//! The socket's file: made, taken over from a run that was killed, and removed.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{setsockopt, sockopt::PassCred};

use super::{Kind, UnixConfig};

/// A socket that programs can write to.
#[derive(Debug)]
pub enum Bound {
    /// For datagrams.
    Datagram(tokio::net::UnixDatagram, SocketFile),
    /// For connections.
    Stream(tokio::net::UnixListener, SocketFile),
}

/// The file of a socket; removed when this is dropped, unless another has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: Option<(u64, u64)>,
}

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot receive on {}: {hint}", path.display())]
pub struct BindError {
    path: PathBuf,
    hint: String,
    /// True if another program receives there now.
    pub in_use: bool,
}

/// Makes the socket. A file that an earlier run left is replaced.
///
/// # Errors
/// When another program receives there, the file is no socket, or the system refuses.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn bind(config: &UnixConfig) -> Result<Bound, BindError> {
    let path = config.path.as_path();
    clear(path)?;
    let refused = |error: io::Error| BindError {
        path: path.to_owned(),
        hint: hint(&error, path),
        in_use: error.kind() == io::ErrorKind::AddrInUse,
    };
    let bound = match config.kind {
        Kind::Datagram => datagram(path),
        Kind::Stream => stream(path),
    };
    let bound = bound.map_err(refused)?;
    let mode = fs::Permissions::from_mode(config.mode);
    fs::set_permissions(path, mode).map_err(refused)?;
    Ok(bound)
}

fn datagram(path: &Path) -> io::Result<Bound> {
    let socket = UnixDatagram::bind(path)?;
    let file = SocketFile::of(path);
    socket.set_nonblocking(true)?;
    setsockopt(&socket, PassCred, &true)?;
    Ok(Bound::Datagram(tokio::net::UnixDatagram::from_std(socket)?, file))
}

fn stream(path: &Path) -> io::Result<Bound> {
    let listener = UnixListener::bind(path)?;
    let file = SocketFile::of(path);
    listener.set_nonblocking(true)?;
    Ok(Bound::Stream(tokio::net::UnixListener::from_std(listener)?, file))
}

/// Removes the file of a socket that nobody receives on.
fn clear(path: &Path) -> Result<(), BindError> {
    let fail = |in_use, hint: String| Err(BindError { path: path.to_owned(), hint, in_use });
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return fail(false, hint(&error, path)),
    };
    if !found.file_type().is_socket() {
        let problem = "there is something else than a socket: remove it, or choose another path";
        return fail(false, problem.into());
    }
    if is_alive(path) {
        let problem = "another program receives there: stop that one, or choose another path";
        return fail(true, problem.into());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => fail(false, hint(&error, path)),
        _ => Ok(()),
    }
}

/// Whether somebody receives on a socket, of whatever kind it is.
fn is_alive(path: &Path) -> bool {
    let dead = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    let wrong_kind = rustix::io::Errno::PROTOTYPE.raw_os_error();
    match UnixDatagram::unbound().and_then(|socket| socket.connect(path)) {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(wrong_kind) => {
            UnixStream::connect(path).map_or_else(|error| !dead(error), |_| true)
        }
        Err(error) => !dead(error),
    }
}

impl SocketFile {
    fn of(path: &Path) -> Self {
        SocketFile { path: path.to_owned(), identity: identity(path) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // Whatever keeps it there, the next start replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn hint(error: &io::Error, path: &Path) -> String {
    let dir = path.parent().unwrap_or(path).display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{dir} does not exist: make it, or let systemd do so with RuntimeDirectory=")
        }
        io::ErrorKind::PermissionDenied => {
            format!("this user may not write in {dir}: choose a directory of its own")
        }
        io::ErrorKind::InvalidInput => "the path is too long for a socket: 107 bytes".into(),
        _ => error.to_string(),
    }
}
