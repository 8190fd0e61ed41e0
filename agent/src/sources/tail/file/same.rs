//! Whether a file is still the one it was, by what is kept of it.

use std::{fs::Metadata, os::unix::fs::MetadataExt};

use pipeline::line::{FileId, Fingerprint};

use crate::sources::tail::plan::Node;

/// How a file that is being read has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// What was read is still there.
    Same,
    /// It is, and more of the beginning is known.
    LongerHead,
    /// The file was truncated, or written anew from its beginning.
    Replaced,
}

/// If none of this changes, neither did the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// How a file that began with `was` and of which `seen` bytes were read relates
/// to one that begins with `now` and has `size` bytes.
pub(super) fn continuity(was: &[u8], now: &[u8], seen: u64, size: u64) -> Continuity {
    if size < seen || !now.starts_with(was) {
        Continuity::Replaced
    } else if now.len() > was.len() {
        Continuity::LongerHead
    } else {
        Continuity::Same
    }
}

/// The identity of a file that begins with `head`.
pub(in crate::sources::tail) fn identity(node: Node, head: &[u8]) -> FileId {
    FileId { device: node.device, inode: node.inode, fingerprint: Fingerprint::of(head) }
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Stamp {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_written_anew_is_not_mistaken_for_the_old_one() {
        for (was, now, seen, size, expected) in [
            (&b""[..], &b""[..], 0, 0, Continuity::Same),
            (b"", b"ab", 0, 2, Continuity::LongerHead),
            (b"ab", b"ab", 2, 2, Continuity::Same),
            (b"ab", b"abc", 2, 3, Continuity::LongerHead),
            (b"ab", b"ab", 9, 8, Continuity::Replaced),
            (b"ab", b"", 2, 0, Continuity::Replaced),
            (b"ab", b"a", 0, 1, Continuity::Replaced),
            (b"ab", b"xbc", 2, 9, Continuity::Replaced),
        ] {
            assert_eq!(continuity(was, now, seen, size), expected, "{was:?} {now:?} {seen} {size}");
        }
    }
}
