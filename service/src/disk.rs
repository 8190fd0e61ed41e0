//! How much space is left where something is stored.

use std::{io, path::Path};

/// Bytes that this process may still use on the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether an error says that there is no space, be it of the device or of a quota.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What the system's own words for a full disk leave out; nothing for other errors.
#[must_use]
pub fn advice(error: &io::Error) -> &'static str {
    if is_full(error) { ": free space on this file system, and start again" } else { "" }
}
