//! What the agent's sources hand to its pipeline: lines as they came, with
//! where they came from.
//!
//! The pipeline may rely on this, per source:
//!
//! - A line's bytes are exactly those between two line feeds of the file, or
//!   of one syslog frame; only the line feed itself is taken away.
//! - Events come in order. For one [`FileId`], each [`Chunk`] begins where the
//!   one before it ended, so the position to store is that of the newest line
//!   the spool holds.
//! - A file's events are framed by [`SourceEvent::FileFound`] and
//!   [`SourceEvent::FileGone`], and [`SourceEvent::Refingerprint`] comes before
//!   the first chunk that carries the new identity. A position that was given
//!   to the source at its start needs no `FileFound`.

use std::{fmt, sync::Arc};

use record::{UnixMillis, crypto::sha256};

/// The index of a source in the agent's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u16);

/// Which bytes a file begins with, at most [`Fingerprint::MAX_LEN`] of them.
///
/// It tells a file from another that was given the same inode number. A file
/// that was shorter than the maximum gets a longer fingerprint as it grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint {
    /// How many bytes are hashed, at most [`Fingerprint::MAX_LEN`].
    pub len: u16,
    /// The first half of the SHA-256 of those bytes.
    pub hash: [u8; 16],
}

/// A tailed file, whatever its name: the file system's identity of it, and
/// what it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The device (`st_dev`).
    pub device: u64,
    /// The inode number (`st_ino`).
    pub inode: u64,
    /// What the file begins with.
    pub fingerprint: Fingerprint,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePosition {
    /// The file.
    pub file: FileId,
    /// How many of its bytes, counted from its beginning, were taken over.
    pub offset: u64,
}

/// Where a line lies in [`Chunk::bytes`]; `start <= end <= next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineSpan {
    /// The line's first byte.
    pub start: u32,
    /// The first byte behind the line. A line feed or a frame's end is not part of it.
    pub end: u32,
    /// Where the line, or frame, behind this one begins.
    pub next: u32,
}

/// Some lines of one source, in one buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The source.
    pub source: SourceId,
    /// The lines, and what separates them.
    pub bytes: Vec<u8>,
    /// The lines in `bytes`, in order and not overlapping; there is at least one.
    pub lines: Vec<LineSpan>,
    /// Where the bytes came from.
    pub origin: ChunkOrigin,
    /// When the bytes were read, by the agent's clock.
    pub received: UnixMillis,
}

/// Where a [`Chunk`] came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkOrigin {
    /// A tailed file.
    File {
        /// The file.
        file: FileId,
        /// The position of `bytes[0]` in it; after line `i` the position is `base + lines[i].next`.
        base: u64,
    },
    /// The network.
    Network {
        /// The sender's name, from its verified certificate.
        peer: Arc<str>,
    },
}

/// What a source tells the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// Lines. Empty lines of files are among them, empty syslog frames are not.
    Chunk(Chunk),
    /// A file was found that had no position yet; it is read from this one.
    /// Storing it makes the next start go on from there even when no line came.
    FileFound {
        /// The source.
        source: SourceId,
        /// Where reading begins.
        position: FilePosition,
    },
    /// The file is the same, but more of its beginning is known: the position
    /// stored for `old` is from now on that of `new`.
    Refingerprint {
        /// The source.
        source: SourceId,
        /// The identity that ends.
        old: FileId,
        /// The identity that takes its place.
        new: FileId,
    },
    /// The file was read to its end, or does not exist any more: forget its position.
    /// The same identity may be found again after this.
    FileGone {
        /// The source.
        source: SourceId,
        /// The file.
        file: FileId,
    },
}

impl Fingerprint {
    /// How many bytes a fingerprint takes in at most.
    pub const MAX_LEN: usize = 1024;

    /// The fingerprint of a file that begins with `head`, of which at most
    /// [`Fingerprint::MAX_LEN`] bytes count.
    pub fn of(head: &[u8]) -> Self {
        let head = &head[..head.len().min(Self::MAX_LEN)];
        let mut hash = [0; 16];
        hash.copy_from_slice(&sha256(&[head])[..16]);
        Fingerprint { len: head.len() as u16, hash }
    }

    /// True if a file that begins with `head` can be the one this fingerprint
    /// was taken of. `head` must hold the file's first [`Fingerprint::MAX_LEN`]
    /// bytes, or all when it is shorter.
    pub fn matches(&self, head: &[u8]) -> bool {
        head.get(..usize::from(self.len)).is_some_and(|head| Fingerprint::of(head) == *self)
    }
}

impl LineSpan {
    /// The line itself, out of the buffer that the span belongs to.
    ///
    /// # Panics
    /// When the span belongs to another, shorter buffer.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

impl Chunk {
    /// The lines' bytes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(|line| line.of(&self.bytes))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Fingerprint {
    /// The hash in hexadecimal and the number of bytes: `e3b0…/0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "/{}", self.len)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileId { device, inode, fingerprint } = self;
        write!(f, "inode {inode} on device {device}, fingerprint {fingerprint}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_recognised_after_it_has_grown_and_not_after_it_was_rewritten() {
        let short = Fingerprint::of(b"one\n");
        assert!(short.matches(b"one\n") && short.matches(b"one\ntwo\n"));
        assert!(!short.matches(b"one") && !short.matches(b"two\none\n"));
        let long = Fingerprint::of(&[b'x'; 5000]);
        assert_eq!(usize::from(long.len), Fingerprint::MAX_LEN);
        assert!(long.matches(&[b'x'; Fingerprint::MAX_LEN]));
        assert!(!long.matches(&[b'x'; Fingerprint::MAX_LEN - 1]));
        assert!(Fingerprint::of(b"").matches(b"anything"));
    }
}
