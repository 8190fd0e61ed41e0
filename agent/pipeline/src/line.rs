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
//! - What a source has to remember besides positions it puts into bookmarks, and
//!   whom it must tell that lines are durable it names by tickets.

use std::{fmt, sync::Arc};

use record::{UnixMillis, crypto::sha256};

use crate::SourceSettings;

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

/// Names somebody who waits for a chunk to be durable. Never given out twice in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a source remembers under a name of its own choice, durable together with the lines it
/// belongs to: the cursor of a journal, the end of what a client has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark {
    /// The name, unique in the source: 1 to 255 bytes.
    pub key: Arc<[u8]>,
    /// What becomes of the value that was there.
    pub keep: Keep,
    /// What each line adds, one behind the other.
    pub data: Vec<u8>,
    /// Where in `data` each line's addition ends, in the order of [`Chunk::lines`] and as many.
    pub ends: Vec<u32>,
}

/// What becomes of a bookmark's value when a line adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The addition takes its place.
    Last,
    /// The addition is appended, and of the whole the last so many bytes are kept.
    Tail(u32),
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
    /// What is to be remembered with the lines.
    pub bookmark: Option<Bookmark>,
    /// Who waits for all the lines to be durable.
    pub ticket: Option<Ticket>,
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
    /// A sender.
    Sender {
        /// Its name from its verified certificate, or what the kernel says of it.
        peer: Option<Arc<str>>,
        /// The way its lines came, unless it showed a certificate on it.
        transport: Option<&'static str>,
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
    /// A bookmark's value from now on, where there is no line that it belongs to.
    Mark {
        /// The source.
        source: SourceId,
        /// The bookmark's name: 1 to 255 bytes.
        key: Arc<[u8]>,
        /// The value.
        value: Vec<u8>,
    },
    /// A bookmark is not needed any more.
    Unmark {
        /// The source.
        source: SourceId,
        /// The bookmark's name.
        key: Arc<[u8]>,
    },
    /// Somebody waits for all that this source has handed over to be durable.
    Flush {
        /// The source.
        source: SourceId,
        /// Who waits.
        ticket: Ticket,
    },
    /// From the next chunk on the source is read in another way, or it is a new one: then its
    /// index is the next that is free.
    Configure {
        /// The source.
        source: SourceId,
        /// How its lines become records.
        settings: SourceSettings,
    },
}

impl SourceEvent {
    /// Lines as a sender brought them, with nothing to remember and nobody to tell.
    pub fn lines(
        source: SourceId,
        bytes: Vec<u8>,
        lines: Vec<LineSpan>,
        origin: ChunkOrigin,
        received: UnixMillis,
    ) -> Self {
        let (bookmark, ticket) = (None, None);
        SourceEvent::Chunk(Chunk { source, bytes, lines, origin, received, bookmark, ticket })
    }
}

impl Bookmark {
    /// The longest name, in bytes.
    pub const MAX_KEY: usize = 255;

    /// What the line `index` adds.
    ///
    /// # Panics
    /// When there is no such line.
    pub fn of_line(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.data[start as usize..self.ends[index] as usize]
    }
}

impl Keep {
    /// Adds to a bookmark's value.
    pub fn add(self, value: &mut Vec<u8>, addition: &[u8]) {
        match self {
            Keep::Last => value.clear(),
            Keep::Tail(most) => {
                let over = (value.len() + addition.len()).saturating_sub(most as usize);
                value.drain(..over.min(value.len()));
            }
        }
        let most = match self {
            Keep::Last => addition.len(),
            Keep::Tail(most) => addition.len().min(most as usize),
        };
        value.extend_from_slice(&addition[addition.len() - most..]);
    }
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
    fn a_bookmark_keeps_what_its_source_asked_for() {
        let mut value = b"abc".to_vec();
        Keep::Tail(4).add(&mut value, b"de");
        assert_eq!(value, b"bcde");
        Keep::Tail(4).add(&mut value, b"0123456");
        assert_eq!(value, b"3456");
        Keep::Tail(2).add(&mut value, b"");
        assert_eq!(value, b"56", "a smaller bound counts for what is there, too");
        Keep::Last.add(&mut value, b"cursor");
        assert_eq!(value, b"cursor");
    }

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
