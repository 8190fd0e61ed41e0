//! One file that is being read.
//!
//! Holds to it that the chunks of one [`FileId`] are every byte of the file in
//! order, whatever the writer does between two reads, and that a file costs
//! little memory: a line that waits for its end is kept while it is short, and
//! read again when it is long.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use pipeline::line::{Chunk, ChunkOrigin, FileId, FilePosition, Fingerprint, SourceId};

use super::{
    super::{CHUNK_BYTES, now},
    plan::{Continuity, Node, Reached, continuity},
    split::{Split, split, split_all},
};

/// A longer unterminated line is not kept in memory between two looks, in bytes.
const KEPT: usize = 64 << 10;

/// An open file and how far it was read.
#[derive(Debug)]
pub(super) struct TailedFile {
    file: File,
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
    size: u64,
    stamp: Option<Stamp>,
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

/// If none of this changes, neither did the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Opens a file for reading, without waiting for the other end should it be a pipe.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits();
    let flags = i32::try_from(nonblocking).expect("a file flag fits");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// The bytes that a fingerprint is taken of.
pub(super) fn read_head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; Fingerprint::MAX_LEN];
    let read = read_at(file, &mut head, 0)?;
    head.truncate(read);
    Ok(head)
}

/// Where the last whole line of a file ends that has `size` bytes. A line
/// longer than `max_line` counts as whole.
pub(super) fn end_of_lines(file: &File, size: u64, max_line: usize) -> io::Result<u64> {
    let from = size.saturating_sub(max_line as u64);
    let mut end = vec![0; (size - from) as usize];
    let read = read_at(file, &mut end, from)?;
    let last = memchr::memrchr(b'\n', &end[..read]);
    Ok(match last {
        Some(last) => from + last as u64 + 1,
        None if from == 0 => 0,
        None => size,
    })
}

impl TailedFile {
    /// Goes on at `base`, which the file has.
    pub(super) fn new(
        file: File,
        node: Node,
        head: Vec<u8>,
        base: u64,
        source: SourceId,
        max_line: usize,
    ) -> Self {
        let id = identity(node, &head);
        let (held, stamp) = (Vec::new(), None);
        TailedFile { file, source, max_line, id, head, base, seen: base, held, size: base, stamp }
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

    /// Looks whether the file is still the one it was. Only after that may it be read.
    pub(super) fn look(&mut self) -> io::Result<Change> {
        let stamp = Stamp::of(&self.file.metadata()?);
        if self.stamp == Some(stamp) {
            return Ok(Change::None);
        }
        let head = read_head(&self.file)?;
        let change = match continuity(&self.head, &head, self.seen, stamp.size) {
            Continuity::Replaced => return Ok(Change::Replaced),
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
        Ok(change)
    }

    /// Reads on, by at most one chunk unless a line is longer.
    pub(super) fn read(&mut self) -> io::Result<Yield> {
        if self.unread() == 0 {
            return Ok(Yield::default());
        }
        let searched = (self.seen - self.base) as usize;
        let kept = self.held.len() == searched;
        let room = CHUNK_BYTES.saturating_sub(self.held.len()).max(KEPT) as u64;
        let mut bytes = std::mem::take(&mut self.held);
        let before = bytes.len();
        bytes.resize(before + self.unread().min(room) as usize, 0);
        let read = read_at(&self.file, &mut bytes[before..], self.seen);
        bytes.truncate(before + read.as_ref().copied().unwrap_or(0));
        let read = match read {
            Ok(0) | Err(_) => {
                self.held = bytes;
                // Shorter than it was a moment ago: the next look tells why.
                self.stamp = None;
                return read.map(|_| Yield::default());
            }
            Ok(read) => read,
        };
        self.seen += read as u64;
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
        let head = read_head(&self.file)?;
        self.id = identity(Node::of(&self.id), &head);
        self.head = head;
        (self.base, self.seen, self.size) = (0, 0, 0);
        self.held = Vec::new();
        self.stamp = None;
        Ok(())
    }

    /// Everything from `base` to `seen`, read again.
    fn load(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (self.seen - self.base) as usize];
        self.file.read_exact_at(&mut bytes, self.base)?;
        Ok(bytes)
    }

    /// Makes a chunk of the lines in `bytes`, which begin at `base`, and holds the rest.
    fn hand_over(&mut self, mut bytes: Vec<u8>, split: Split) -> Yield {
        let rest = bytes.split_off(split.used);
        if rest.len() <= KEPT {
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

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn identity(node: Node, head: &[u8]) -> FileId {
    FileId { device: node.device, inode: node.inode, fingerprint: Fingerprint::of(head) }
}

/// Reads until the buffer is full or the file ends.
fn read_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<usize> {
    let wanted = buffer.len();
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => break,
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted - buffer.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn tailed(file: &File, max_line: usize) -> TailedFile {
        let node = Node { device: 1, inode: 1 };
        let head = read_head(file).unwrap();
        TailedFile::new(file.try_clone().unwrap(), node, head, 0, SourceId(0), max_line)
    }

    #[test]
    fn a_long_line_that_comes_slowly_takes_no_memory_and_stays_whole() {
        let mut file = tempfile::tempfile().unwrap();
        let mut tail = tailed(&file, 1 << 20);
        let mut expected = Vec::new();
        for step in 0..40u8 {
            let piece = [b'a' + step % 26; 20_000];
            file.write_all(&piece).unwrap();
            expected.extend_from_slice(&piece);
            tail.look().unwrap();
            assert!(tail.read().unwrap().chunk.is_none());
            assert_eq!(tail.reached(), Reached::PartialLine);
            assert!(tail.held.len() <= KEPT, "{}", tail.held.len());
        }
        file.write_all(b"\nnext\npart").unwrap();
        tail.look().unwrap();
        let chunk = tail.read().unwrap().chunk.unwrap();
        assert_eq!(chunk.iter().collect::<Vec<_>>(), [&expected[..], b"next"]);
        let (rest, lost) = tail.rest(false);
        assert_eq!(rest.chunk.unwrap().iter().collect::<Vec<_>>(), [b"part"]);
        assert_eq!((lost, tail.reached()), (0, Reached::End));
    }

    #[test]
    fn an_endless_line_is_handed_over_in_pieces() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b'x'; 300_000]).unwrap();
        let mut tail = tailed(&file, 100_000);
        tail.look().unwrap();
        let (mut lengths, mut cuts) = (Vec::new(), 0);
        while tail.reached() == Reached::More {
            let got = tail.read().unwrap();
            cuts += got.cuts;
            lengths.extend(got.chunk.iter().flat_map(Chunk::iter).map(<[u8]>::len));
        }
        assert_eq!((lengths, cuts), (vec![100_000, 100_000], 2));
        let (rest, lost) = tail.rest(false);
        assert_eq!((rest.chunk.unwrap().bytes.len(), lost), (100_000, 0));
    }

    #[test]
    fn a_start_at_the_end_does_not_tear_the_line_that_is_being_written() {
        for (content, expected) in
            [(&b""[..], 0), (b"a\nb\n", 4), (b"a\nbc", 2), (b"abc", 0), (b"a\nbcdefghi", 10)]
        {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content).unwrap();
            let end = end_of_lines(&file, content.len() as u64, 8).unwrap();
            assert_eq!(end, expected, "{content:?}");
        }
    }
}
