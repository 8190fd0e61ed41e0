//! Noticing that files changed without reading them.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// What a file looked like from outside. Two that are equal are the same file
/// with the same content, unless somebody takes pains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<[i64; 7]>);

impl Stamp {
    /// Follows symbolic links. A file that cannot be looked at has a stamp of its own.
    pub(super) fn of(path: &Path) -> Self {
        Stamp(fs::metadata(path).ok().map(|m| {
            let (dev, ino, len) = (m.dev(), m.ino(), m.len());
            let whole = [dev.cast_signed(), ino.cast_signed(), len.cast_signed()];
            let times = [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()];
            [whole[0], whole[1], whole[2], times[0], times[1], times[2], times[3]]
        }))
    }
}
