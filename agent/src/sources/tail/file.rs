//! One file that is being read.
//!
//! Holds to it that the chunks of one [`FileId`] are every byte of the file in
//! order, whatever the writer does between two reads, and that a file costs
//! little memory: a line that waits for its end is kept while it is short, and
//! read again when it is long.

mod same;

pub(super) use same::identity;

use std::{
    fs::Metadata,
    io::{self, ErrorKind},
    time::SystemTime,
};

use pipeline::line::{Chunk, ChunkOrigin, FileId, FilePosition, SourceId};

use super::{
    super::{CHUNK_BYTES, now},
    body::Body,
    heir::{Heir, Seen, Wanted},
    plan::{Node, Parked, Reached},
    split::{Split, split, split_all},
};

use same::{Continuity, Stamp, continuity};

/// A longer unterminated line is not kept in memory between two looks, in bytes.
const KEPT: usize = 64 << 10;

/// So many bytes in front of the place that was read to are kept, to know it again by.
const TAIL: usize = 1024;

/// An open file and how far it was read.
#[derive(Debug)]
pub(super) struct TailedFile {
    body: Body,
    source: SourceId,
    max_line: usize,
    id: FileId,
    head: Vec<u8>,
    /// Everything in front of this was handed over.
    base: u64,
    /// Everything in front of this was looked at.
    seen: u64,
    /// The bytes from `base` to `seen`, or nothing.
    held: Vec<u8>,
    /// The last bytes in front of `seen`, at most [`TAIL`] of them.
    tail: Vec<u8>,
    /// Of a compressed file, one more than was read until it has ended.
    size: u64,
    /// What it had when it was found.
    disk_size: u64,
    stamp: Option<Stamp>,
    /// When the file was last modified, at the last look that found it whole.
    intact: SystemTime,
}

/// What a look at a file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that concerns its identity.
    None,
    /// It got a longer fingerprint; this was its identity until now.
    Refingerprint(FileId),
    /// It was truncated or written anew.
    Replaced,
}

/// What one read yielded.
#[derive(Debug, Default)]
pub(super) struct Yield {
    /// Lines, if some were complete.
    pub(super) chunk: Option<Chunk>,
    /// How many times a line that was too long was cut.
    pub(super) cuts: u64,
    /// True if there was anything to read.
    pub(super) busy: bool,
}

/// Where the last whole line of a file ends that has `size` bytes. A line
/// longer than `max_line` counts as whole.
pub(super) fn end_of_lines(body: &mut Body, size: u64, max_line: usize) -> io::Result<u64> {
    let from = size.saturating_sub(max_line as u64);
    let mut end = vec![0; (size - from) as usize];
    let read = body.read_at(&mut end, from)?;
    let last = memchr::memrchr(b'\n', &end[..read]);
    Ok(match last {
        Some(last) => from + last as u64 + 1,
        None if from == 0 => 0,
        None => size,
    })
}

impl TailedFile {
    /// Goes on at `base`, which the file has that was `found` before its `head` was read.
    ///
    /// # Errors
    /// When the bytes in front of `base` cannot be read. [`ErrorKind::NotFound`] when the file was
    /// truncated or written anew meanwhile, so that what is in front of `base` is not in it.
    pub(super) fn new(
        heir: Heir,
        base: u64,
        source: SourceId,
        max_line: usize,
    ) -> io::Result<Self> {
        let Heir { found, mut body, head } = heir;
        let mut tail = Vec::new();
        if !body.is_packed() {
            tail.resize(base.min(TAIL as u64) as usize, 0);
            let from = base - tail.len() as u64;
            let read = body.read_at(&mut tail, from)?;
            tail.truncate(read);
            if !body.head()?.starts_with(&head) {
                return Err(ErrorKind::NotFound.into());
            }
        }
        let size = base + u64::from(body.is_packed());
        Ok(TailedFile {
            body,
            source,
            max_line,
            id: identity(found.node, &head),
            head,
            base,
            seen: base,
            held: Vec::new(),
            tail,
            size,
            disk_size: found.size,
            stamp: None,
            intact: found.modified,
        })
    }

    /// The file's identity.
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// What was handed over.
    pub(super) fn position(&self) -> FilePosition {
        FilePosition { file: self.id, offset: self.base }
    }

    /// How many bytes the last look found that were not handed over.
    pub(super) fn lag(&self) -> u64 {
        self.size.saturating_sub(self.base)
    }

    /// How many bytes the last look found that were not read.
    pub(super) fn unread(&self) -> u64 {
        self.size.saturating_sub(self.seen)
    }

    /// How far it was read.
    pub(super) fn reached(&self) -> Reached {
        match self.unread() {
            0 if self.base == self.seen => Reached::End,
            0 => Reached::PartialLine,
            _ => Reached::More,
        }
    }

    /// What to look for when the file was truncated or written anew.
    pub(super) fn wanted(&self) -> Wanted {
        let seen = Seen { end: self.seen, tail: self.tail.clone(), since: self.intact };
        Wanted { position: self.position(), seen: Some(seen), vanished: false }
    }

    /// What the file begins with.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// What the file was on disk when it was looked at, to see later whether it has changed.
    pub(super) fn parked(&self) -> Parked {
        let size = if self.body.is_packed() { self.disk_size } else { self.size };
        Parked { size, modified: self.intact }
    }

    /// True if the file is known to have changed since the last look.
    pub(super) fn has_changed(&self, size: u64, modified: SystemTime) -> bool {
        !self.body.is_packed() && (size != self.size || modified != self.intact)
    }

    /// Looks whether the file is still the one it was. Only after that may it be read.
    pub(super) fn look(&mut self) -> io::Result<Change> {
        if self.body.is_packed() {
            return Ok(Change::None);
        }
        let metadata = self.body.metadata()?;
        let stamp = Stamp::of(&metadata);
        if self.stamp == Some(stamp) {
            return Ok(Change::None);
        }
        let head = self.body.head()?;
        let change = match continuity(&self.head, &head, self.seen, stamp.size) {
            Continuity::Replaced => return Ok(Change::Replaced),
            _ if !self.has_tail()? => return Ok(Change::Replaced),
            // Truncated while it was read: what was read is the beginning of two files.
            Continuity::LongerHead if !self.body.head()?.starts_with(&head) => {
                return Ok(Change::Replaced);
            }
            Continuity::LongerHead => {
                let old = self.id;
                self.id = identity(Node::of(&old), &head);
                self.head = head;
                Change::Refingerprint(old)
            }
            Continuity::Same => Change::None,
        };
        self.size = stamp.size;
        self.stamp = Some(stamp);
        self.intact = modified(&metadata);
        Ok(change)
    }

    /// Reads on, by at most one chunk unless a line is longer.
    pub(super) fn read(&mut self) -> io::Result<Yield> {
        if self.unread() == 0 {
            return Ok(Yield::default());
        }
        let searched = (self.seen - self.base) as usize;
        let kept = self.held.len() == searched;
        let mut bytes = std::mem::take(&mut self.held);
        let read = match self.read_behind(&mut bytes) {
            Ok(0) if self.body.ended() => {
                self.held = bytes;
                self.size = self.seen;
                return Ok(Yield::default());
            }
            Ok(read) if read > 0 => read,
            // Shorter than it was a moment ago, or another one: the next look tells why.
            other => {
                self.held = bytes;
                self.stamp = None;
                return other.map(|_| Yield::default());
            }
        };
        self.seen += read as u64;
        self.keep_tail(&bytes[bytes.len() - read..]);
        if self.body.is_packed() {
            self.size = self.seen + 1;
        }
        if !kept {
            let whole = memchr::memchr(b'\n', &bytes).is_some();
            if !whole && searched + read <= self.max_line {
                return Ok(Yield { busy: true, ..Yield::default() });
            }
            bytes = self.load()?;
        }
        let split = split(&bytes, searched, self.max_line);
        Ok(self.hand_over(bytes, split))
    }

    /// Hands over what is left without a line feed, because none will come. When
    /// the file was `replaced`, only what is in memory can be what was in it:
    /// also answers how many bytes are lost.
    pub(super) fn rest(&mut self, replaced: bool) -> (Yield, u64) {
        let mut bytes = std::mem::take(&mut self.held);
        let waiting = self.seen - self.base;
        if bytes.len() as u64 != waiting {
            bytes = if replaced { Vec::new() } else { self.load().unwrap_or_default() };
        }
        let lost = waiting - bytes.len() as u64;
        let split = split_all(&bytes, self.max_line);
        (self.hand_over(bytes, split), lost + self.unread())
    }

    /// Begins anew with a file that was replaced in place.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.intact = modified(&self.body.metadata()?);
        let head = self.body.head()?;
        self.id = identity(Node::of(&self.id), &head);
        self.head = head;
        (self.base, self.seen, self.size) = (0, 0, 0);
        self.held = Vec::new();
        self.tail = Vec::new();
        self.stamp = None;
        Ok(())
    }

    /// Appends what comes next in the file. Nothing, if the file is not the one it was any more:
    /// between a look and a read it can be truncated and written anew.
    fn read_behind(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let room = CHUNK_BYTES.saturating_sub(bytes.len()).max(KEPT) as u64;
        let room = if self.body.is_packed() { room } else { room.min(self.unread()) };
        let before = bytes.len();
        bytes.resize(before + room as usize, 0);
        let read = self.body.read_at(&mut bytes[before..], self.seen);
        let read = match read {
            Ok(read) if self.is_intact(read)? => Ok(read),
            Ok(_) => Ok(0),
            Err(error) => Err(error),
        };
        bytes.truncate(before + read.as_ref().copied().unwrap_or(0));
        read
    }

    fn is_intact(&mut self, read: usize) -> io::Result<bool> {
        if self.body.is_packed() {
            return Ok(true);
        }
        let stamp = Stamp::of(&self.body.metadata()?);
        if self.stamp == Some(stamp) {
            return Ok(true);
        }
        let head = self.body.head()?;
        let change = continuity(&self.head, &head, self.seen + read as u64, stamp.size);
        Ok(change != Continuity::Replaced && self.has_tail()?)
    }

    /// True if the bytes in front of `seen` are still there. What the head shows needs no second look.
    fn has_tail(&mut self) -> io::Result<bool> {
        if self.seen <= self.head.len() as u64 {
            return Ok(true);
        }
        let mut tail = vec![0; self.tail.len()];
        let read = self.body.read_at(&mut tail, self.seen - self.tail.len() as u64)?;
        Ok(read == tail.len() && tail == self.tail)
    }

    fn keep_tail(&mut self, read: &[u8]) {
        let kept = TAIL.saturating_sub(read.len()).min(self.tail.len());
        self.tail.drain(..self.tail.len() - kept);
        self.tail.extend_from_slice(&read[read.len().saturating_sub(TAIL)..]);
    }

    /// Everything from `base` to `seen`, read again.
    fn load(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (self.seen - self.base) as usize];
        if self.body.read_at(&mut bytes, self.base)? < bytes.len() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }

    /// Makes a chunk of the lines in `bytes`, which begin at `base`, and holds the rest.
    fn hand_over(&mut self, mut bytes: Vec<u8>, split: Split) -> Yield {
        let rest = bytes.split_off(split.used);
        if rest.len() <= KEPT || self.body.is_packed() {
            self.held = rest;
        }
        let base = self.base;
        self.base += split.used as u64;
        let chunk = (!split.lines.is_empty()).then(|| Chunk {
            source: self.source,
            bytes,
            lines: split.lines,
            origin: ChunkOrigin::File { file: self.id, base },
            received: now(),
            bookmark: None,
            ticket: None,
        });
        Yield { chunk, cuts: split.cuts, busy: true }
    }
}

/// When a file was last modified; 1970 where the system cannot tell.
pub(super) fn modified(metadata: &Metadata) -> SystemTime {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
