//! The mark that a node lost its store and may not vote yet. It outlives restarts.

use crate::node::NodeError;
use std::{fs::File, io, path::Path};

const MARK: &str = "rejoining";

fn failed(path: &Path) -> impl FnOnce(io::Error) -> NodeError {
    let path = path.to_owned();
    move |source| NodeError::Marker { path, source }
}

/// Sets the mark, durably.
///
/// # Errors
/// When it cannot be written.
pub fn set(dir: &Path) -> Result<(), NodeError> {
    let path = dir.join(MARK);
    File::create(&path).and_then(|file| file.sync_all()).map_err(failed(&path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
}

/// True if the mark is set.
///
/// # Errors
/// When that cannot be found out.
pub fn is_set(dir: &Path) -> Result<bool, NodeError> {
    let path = dir.join(MARK);
    path.try_exists().map_err(failed(&path))
}

/// Removes the mark: the node may vote.
///
/// # Errors
/// When it cannot be removed.
pub fn clear(dir: &Path) -> Result<(), NodeError> {
    let path = dir.join(MARK);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(failed(&path)),
    }
}

/// Renames files and folders of a store, so that the node begins without them and they can still be examined: `votes`
/// becomes `damaged-1/votes`, or has the next number that is free. Not having them is fine; having none makes no folder.
///
/// # Errors
/// When they cannot be renamed.
pub fn put_away(dir: &Path, names: &[&str]) -> Result<(), NodeError> {
    if names.iter().all(|name| matches!(dir.join(name).try_exists(), Ok(false))) {
        return Ok(());
    }
    let mut number = 1;
    let away = loop {
        let away = dir.join(format!("damaged-{number}"));
        match std::fs::create_dir(&away) {
            Ok(()) => break away,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(failed(&away)(error)),
        }
    };
    for name in names {
        let (from, to) = (dir.join(name), away.join(name));
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved.map_err(failed(&from))?,
        }
    }
    tracing::warn!(folder = %away.display(), "what was damaged is kept here; delete it when it has been examined");
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
}
