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
