//! A look at the index of a store that may not be touched.

use crate::output::Failure;
use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
};
use tempfile::TempDir;

/// What there is of the index to be looked at.
pub(super) enum Copy {
    /// A copy of it, until this is dropped.
    Made(TempDir),
    /// There is none; the node makes it when it starts.
    Absent,
    /// A node has it open, and changes it.
    InUse,
}

/// Copies the index of the store in `dir`.
pub(super) fn copy(dir: &Path) -> Result<Copy, Failure> {
    let index = dir.join("index");
    if !index.is_dir() {
        return Ok(Copy::Absent);
    }
    if in_use(dir) {
        return Ok(Copy::InUse);
    }
    let made = tempfile::tempdir().map_err(Failure::file(&std::env::temp_dir()))?;
    copy_files(&index, made.path()).map_err(Failure::file(&index))?;
    Ok(Copy::Made(made))
}

/// Whether a node has the store open.
fn in_use(dir: &Path) -> bool {
    let Ok(lock) = File::open(dir.join("blocks").join("LOCK")) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_files(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
