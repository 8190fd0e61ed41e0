//! Writing files so that a crash, a second run or another user on the machine
//! can do no harm: keys are created exclusively and for their owner alone,
//! everything else replaces its predecessor in one rename, and both are on the
//! disk before the call returns.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::Error;

/// The largest file this crate reads, in bytes; an index of 100,000
/// certificates is below it.
const MAX_READ: u64 = 64 << 20;

/// The right to change a PKI directory; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process that another thread has just forked holds the file too.
        let _ = self.0.unlock();
    }
}

/// Locks the directory itself, so that no lock file is left behind.
pub(crate) fn lock(dir: &Path) -> Result<Lock, Error> {
    let handle = File::open(dir).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::NoCa(dir.to_owned()),
        _ => failed("open", dir)(source),
    })?;
    match handle.try_lock() {
        Ok(()) => Ok(Lock(handle)),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed("lock", dir)(source)),
    }
}

/// Creates a directory for its owner alone, or checks that the one there is.
pub(crate) fn private_dir(dir: &Path) -> Result<(), Error> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    if !exists(dir) {
        builder.create(dir).map_err(failed("create", dir))?;
        sync_parent(&dir.canonicalize().map_err(failed("open", dir))?)?;
    }
    refuse_open(dir, "700")
}

/// Creates a file that must not exist yet. `mode` is 0600 for a key.
pub(crate) fn create_new(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    what: &'static str,
    advice: &'static str,
) -> Result<(), Error> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(
        |source| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { path: path.to_owned(), what, advice },
            _ => failed("create", path)(source),
        },
    )?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", path))?;
    sync_parent(path)
}

/// Replaces a public file: whoever opens it sees the old or the new one whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let beside = sibling(path, ".new");
    // Left over from a run that crashed; the lock says nobody is writing it.
    remove_if_there(&beside)?;
    create_new(&beside, bytes, 0o644, "file", "remove it")?;
    rename(&beside, path)
}

/// Renames within one directory, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(failed("put in place", to))?;
    sync_parent(to)
}

/// Gives the key at `from` a second name: `to`, unless an interrupted run left
/// another key there, else `to` with `suffix`. Answers with that name.
pub(crate) fn keep(from: &Path, to: PathBuf, suffix: &str) -> Result<PathBuf, Error> {
    let same = |to: &Path| -> io::Result<bool> {
        let (a, b) = (fs::metadata(from)?, fs::metadata(to)?);
        Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
    };
    let doing = "keep the old key as";
    match fs::hard_link(from, &to) {
        Ok(()) => Ok(to),
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed(doing, &to)(source))
        }
        Err(_) if same(&to).map_err(failed("read", &to))? => Ok(to),
        Err(_) => {
            let to = sibling(&to, suffix);
            fs::hard_link(from, &to).map_err(failed(doing, &to))?;
            Ok(to)
        }
    }
}

/// Reads a whole file of at most 64 MiB.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let size = fs::metadata(path).map_err(failed("read", path))?.len();
    if size > MAX_READ {
        let problem = format!("{size} bytes is more than any such file has");
        return Err(Error::Damaged { path: path.to_owned(), problem });
    }
    fs::read(path).map_err(failed("read", path))
}

/// Reads a private key, which only its owner may be able to read.
pub(crate) fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    refuse_open(path, "600")?;
    read(path).map(Zeroizing::new)
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

pub(crate) fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", path)(source))
        }
        _ => Ok(()),
    }
}

/// `path` with `suffix` at the end of its file name.
pub(crate) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { doing, path: path.to_owned(), source }
}

fn refuse_open(path: &Path, right: &'static str) -> Result<(), Error> {
    let mode = fs::metadata(path).map_err(failed("read", path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Open { path: path.to_owned(), mode, right });
    }
    Ok(())
}

fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed("sync", parent))
}
