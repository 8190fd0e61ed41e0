//! The segment that is being written: framing, gathering of small records, space.
//!
//! Errors follow one rule: [`Error::Full`] leaves everything as it was and may be tried again; after any other error
//! nobody knows what the file holds, and the journal must not go on.

use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crc32c::crc32c_append;

use crate::Error;
use crate::error::is_full;
use crate::files::{ShortWrite, Space, create_segment, segment_path, write_slices};
use crate::format::{
    HEADER_BYTES, MARK, MAX_SEGMENT_BYTES, RECORD_HEADER_BYTES, RecordHeader, Seed, padded,
    segment_header,
};
use crate::scan::{HeaderState, Scan};

/// Records of this size and above are written from where they lie: copying them would cost more than a system call.
const DIRECT_BYTES: usize = 64 << 10;

pub(crate) struct Active {
    dir: PathBuf,
    path: PathBuf,
    base: u64,
    seed: Seed,
    file: File,
    /// Where the next write goes, in bytes.
    written: u64,
    /// Framed records that are to be written there.
    buffer: Vec<u8>,
    /// The most that the buffer may hold, in bytes.
    buffer_limit: usize,
    /// The file's length: its space up to there is its own.
    allocated: u64,
    /// Whether the last thing in the segment is a mark.
    marked: bool,
}

impl Active {
    /// Makes the segment that begins with `base`.
    pub(crate) fn create(
        dir: &Path,
        base: u64,
        space: Space,
        buffer_limit: usize,
    ) -> Result<Active, Error> {
        let file = create_segment(dir, base, space)?;
        Ok(Active {
            dir: dir.to_path_buf(),
            path: segment_path(dir, base),
            base,
            seed: Seed::new(base),
            file,
            written: HEADER_BYTES as u64,
            buffer: Vec::new(),
            buffer_limit,
            allocated: space.end,
            marked: false,
        })
    }

    /// Continues the segment that a start found to be the last, after making durable what was found in it.
    pub(crate) fn adopt(
        dir: &Path,
        found: &Scan,
        bytes: &[u8],
        buffer_limit: usize,
    ) -> Result<Active, Error> {
        let path = segment_path(dir, found.base);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let mut active = Active {
            dir: dir.to_path_buf(),
            base: found.base,
            seed: Seed::new(found.base),
            written: found.end.into(),
            buffer: Vec::new(),
            buffer_limit,
            allocated: 0,
            marked: found.marked,
            file,
            path,
        };
        active.settle(found, bytes).map_err(Error::io("recover", &active.path))?;
        Ok(active)
    }

    /// The number of the segment's first record.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Where the next record begins, in bytes.
    pub(crate) fn tail(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Where the space ends that is known to be there, in bytes.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Extends the space.
    pub(crate) fn grow(&mut self, space: Space) -> Result<(), Error> {
        if let Err(source) = space.make(&self.file, self.allocated) {
            self.file.set_len(self.allocated).map_err(Error::io("truncate", &self.path))?;
            if is_full(&source) {
                return Err(self.full());
            }
            return Err(Error::io("extend", &self.path)(source));
        }
        if space.zeros {
            self.file.sync_data().map_err(Error::io("sync", &self.path))?;
        }
        self.allocated = space.end;
        Ok(())
    }

    /// Adds a record, for which there must be space, and says where it begins.
    pub(crate) fn push(&mut self, seq: u64, durable: u64, parts: &[&[u8]]) -> Result<u64, Error> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let size = RECORD_HEADER_BYTES + padded(length);
        let direct = size >= DIRECT_BYTES || size > self.buffer_limit;
        if direct || self.buffer.len() + size > self.buffer_limit {
            self.flush()?;
        }
        let offset = self.tail();
        assert!(
            offset + size as u64 <= self.allocated,
            "space for a record is made before it is added"
        );
        let mut header = RecordHeader { length: length as u32, crc: 0, seq, durable };
        let head = header.head_crc(self.seed, offset);
        header.crc = parts.iter().fold(head, |crc, part| crc32c_append(crc, part));
        let padding = &[0; 8][..padded(length) - length];
        if direct {
            let encoded = header.encode();
            let slices =
                [encoded.as_slice()].into_iter().chain(parts.iter().copied()).chain([padding]);
            self.write_direct(&mut slices.map(IoSlice::new).collect::<Vec<_>>())?;
        } else {
            self.buffer.extend_from_slice(&header.encode());
            for part in parts {
                self.buffer.extend_from_slice(part);
            }
            self.buffer.extend_from_slice(padding);
        }
        self.marked = false;
        Ok(offset)
    }

    /// Makes all added records durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }

    /// Gives unused space back. Not made durable: a crash before only leaves the space in use.
    pub(crate) fn trim(&mut self) {
        let end = self.tail();
        match self.file.set_len(end) {
            Ok(()) => self.allocated = end,
            Err(error) => {
                tracing::warn!(segment = %self.path.display(), %error, "cannot return unused space")
            }
        }
    }

    /// Ends the segment for now: a mark proves its records, all of which must be durable, and unused space is given
    /// back. `next` is the number after its last record.
    pub(crate) fn finish(&mut self, next: u64) -> Result<(), Error> {
        let wants_mark = self.base < next && !self.marked;
        if !wants_mark && self.allocated == self.tail() {
            return Ok(());
        }
        if wants_mark {
            let mut mark = RecordHeader { length: MARK, crc: 0, seq: next, durable: next };
            mark.crc = mark.head_crc(self.seed, self.written);
            // A journal without a mark is as good as one that was not closed; a part of one is cut below.
            if self.file.write_all_at(&mark.encode(), self.written).is_ok() {
                self.written += RECORD_HEADER_BYTES as u64;
                self.marked = true;
            }
        }
        self.allocated = self.tail();
        self.file.set_len(self.allocated).map_err(Error::io("truncate", &self.path))?;
        self.file.sync_all().map_err(Error::io("sync", &self.path))
    }

    /// Cuts a torn tail, restores a damaged header, and makes durable what nothing proves to be so. The latter is
    /// written again, not just synced: the kernel forgets that a page is not on disk when writing it fails once.
    fn settle(&mut self, found: &Scan, bytes: &[u8]) -> std::io::Result<()> {
        let length = self.file.metadata()?.len();
        let end = usize::try_from(self.written).unwrap_or(usize::MAX);
        let mut changed = false;
        if found.tail_is_bad() || length > MAX_SEGMENT_BYTES {
            self.file.set_len(self.written)?;
            changed = true;
        }
        if found.header == HeaderState::Damaged {
            self.file.write_all_at(&segment_header(self.base), 0)?;
            changed = true;
        }
        let unproven = found.records.get((found.proven - self.base) as usize..).unwrap_or_default();
        if let Some(from) = unproven.iter().find(|offset| **offset != 0) {
            self.file.write_all_at(&bytes[*from as usize..end], u64::from(*from))?;
            changed = true;
        }
        if changed {
            self.file.sync_all()?;
        }
        self.allocated = self.file.metadata()?.len();
        Ok(())
    }

    /// Writes the buffer. What could not be written stays in it, to be written to the same place.
    fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        match write_slices(&self.file, &mut [IoSlice::new(&self.buffer)], self.written) {
            Ok(()) => {
                self.written += self.buffer.len() as u64;
                self.buffer.clear();
                Ok(())
            }
            Err(ShortWrite { source, .. }) if is_full(&source) => Err(self.full()),
            Err(ShortWrite { source, .. }) => Err(Error::io("write", &self.path)(source)),
        }
    }

    fn write_direct(&mut self, slices: &mut [IoSlice<'_>]) -> Result<(), Error> {
        let size: usize = slices.iter().map(|slice| slice.len()).sum();
        match write_slices(&self.file, slices, self.written) {
            Ok(()) => {
                self.written += size as u64;
                Ok(())
            }
            Err(ShortWrite { written: 0, source }) if is_full(&source) => Err(self.full()),
            Err(ShortWrite { source, .. }) => Err(Error::io("write", &self.path)(source)),
        }
    }

    fn full(&self) -> Error {
        Error::Full { dir: self.dir.clone() }
    }

    /// Lets a test put a file in place that fails as it chooses.
    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: File) {
        self.file = file;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seq;
    use crate::scan::scan;

    #[test]
    fn what_survived_in_memory_only_is_written_again_before_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space { end: 4096, zeros: true };
        let mut active = Active::create(dir.path(), 7, space, 0).unwrap();
        for (seq, durable) in [(7, 7), (8, 8), (9, 8)] {
            active.push(seq, durable, &[b"payload"]).unwrap();
        }
        active.sync().unwrap();
        let path = segment_path(dir.path(), 7);
        let seen = std::fs::read(&path).unwrap();
        let found = scan(&seen, Seq(7));
        assert_eq!((found.next(), found.proven), (10, 8));

        // The kernel drops the page it could not write, after it was read: the disk has what was there before.
        let unproven = found.records[1] as usize;
        let mut on_disk = seen.clone();
        on_disk[unproven..].fill(0);
        std::fs::write(&path, on_disk).unwrap();
        Active::adopt(dir.path(), &found, &seen, 0).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), seen);
    }
}
