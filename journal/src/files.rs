//! The files of a journal's directory: names, listing, reading, making, and writing at a place.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, pwritev, retry_on_intr};

use crate::Error;
use crate::error::is_full;
use crate::format::{MAX_SEGMENT_BYTES, MAX_SEQ, segment_header};

/// The suffix of a segment that is being made. It becomes a segment, whole, by being renamed.
const UNFINISHED: &str = "new";

/// Linux takes at most this many slices in one call.
const MAX_SLICES: usize = 1024;

/// Records of this size and above get space that is only reserved.
const LARGE_BYTES: u64 = 64 << 10;
/// How much more space than a small record needs is made with it: a sync each time, so not too little; a write that
/// everything waits for, so not too much.
const ZEROS_AHEAD: u64 = 1 << 20;
/// Likewise with a large one, for the small ones between it and the next.
const RESERVED_AHEAD: u64 = 64 << 10;

pub(crate) fn segment_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.seg"))
}

/// The first records of the segments in a directory, in order.
pub(crate) fn list(dir: &Path) -> Result<Vec<u64>, Error> {
    let mut bases = Vec::new();
    for entry in dir.read_dir().map_err(Error::io("list", dir))? {
        let name = entry.map_err(Error::io("list", dir))?.file_name();
        bases.extend(name.to_str().and_then(base_of));
    }
    bases.sort_unstable();
    Ok(bases)
}

/// A segment's bytes, up to the largest size a segment can have.
pub(crate) fn read_segment(path: &Path) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len().min(MAX_SEGMENT_BYTES);
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(length as usize)
        .map_err(|_| Error::io("hold in memory", path)(io::ErrorKind::OutOfMemory.into()))?;
    file.take(length).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// Makes the directory, for this user alone, if there is none.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(Error::io("create", dir))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// The right to write to a journal's directory, until it is dropped.
pub(crate) struct Lock(File);

impl Lock {
    pub(crate) fn take(dir: &Path) -> Result<Lock, Error> {
        let path = dir.join("LOCK");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { dir: dir.to_path_buf() }),
            Err(TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that another thread is just starting shares the open file until it execs.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "cannot give up a journal's lock");
        }
    }
}

/// Makes names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", dir))
}

/// Removes what a crash left of a segment that was being made.
pub(crate) fn remove_unfinished(dir: &Path) -> Result<(), Error> {
    for entry in dir.read_dir().map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let ours = stem
            .is_some_and(|stem| stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit()));
        if ours && path.extension().is_some_and(|extension| extension == UNFINISHED) {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Makes a segment with this space, and its name durable. A segment that has its name thus has its header and its
/// space; on an error that leaves no name, no file is left either.
pub(crate) fn create_segment(dir: &Path, base: u64, space: Space) -> Result<File, Error> {
    let path = segment_path(dir, base);
    let unfinished = path.with_extension(UNFINISHED);
    let made =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).and_then(
            |file| {
                let header = segment_header(base);
                file.write_all_at(&header, 0)?;
                space.make(&file, header.len() as u64)?;
                file.sync_all()?;
                std::fs::rename(&unfinished, &path)?;
                Ok(file)
            },
        );
    match made {
        Ok(file) => sync_dir(dir).map(|()| file),
        Err(source) => {
            // The first error is the one to report; what this leaves behind the next start removes.
            let _ = std::fs::remove_file(&unfinished);
            if is_full(&source) {
                return Err(Error::Full { dir: dir.to_path_buf() });
            }
            Err(Error::io("create", &unfinished)(source))
        }
    }
}

/// Space in a segment up to `end`, in bytes. Writing into it cannot fail for want of space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) end: u64,
    /// Whether it is written with zeros, so that syncing a record there takes one write to the disk and no change of
    /// the file system's own data. Else it is only reserved: a large record would be written twice for that.
    pub(crate) zeros: bool,
}

impl Space {
    /// Space for a record of `size` bytes that will end at `needed`, with some more for the next ones, in a segment of
    /// usually `usual` bytes.
    pub(crate) fn for_record(size: u64, needed: u64, usual: u64) -> Space {
        let zeros = size < LARGE_BYTES;
        let ahead = if zeros { ZEROS_AHEAD } else { RESERVED_AHEAD };
        Space { end: needed.max(usual.min(needed + ahead)), zeros }
    }

    /// Makes it, from `from` on. Bytes that were never written there read as zeros.
    pub(crate) fn make(&self, file: &File, from: u64) -> io::Result<()> {
        let length = self.end.saturating_sub(from);
        if self.zeros || length == 0 {
            return write_zeros(file, from, self.end);
        }
        let flags = FallocateFlags::empty();
        match retry_on_intr(|| fallocate(file, flags, from, length)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, from, self.end),
            other => Ok(other?),
        }
    }
}

/// A segment that is written anew under another name, and then takes the place of the one with its own.
pub(crate) struct Replacement {
    path: PathBuf,
    unfinished: PathBuf,
    file: File,
    written: u64,
    finished: bool,
}

impl Replacement {
    pub(crate) fn begin(dir: &Path, base: u64) -> Result<Replacement, Error> {
        let path = segment_path(dir, base);
        let unfinished = path.with_extension(UNFINISHED);
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&unfinished).map_err(replace_error(&unfinished, dir))?;
        Ok(Replacement { path, unfinished, file, written: 0, finished: false })
    }

    pub(crate) fn write(&mut self, slices: &mut [IoSlice<'_>]) -> Result<(), Error> {
        let size: usize = slices.iter().map(|slice| slice.len()).sum();
        let dir = self.path.parent().unwrap_or(Path::new("."));
        write_slices(&self.file, slices, self.written)
            .map_err(|short| replace_error(&self.unfinished, dir)(short.source))?;
        self.written += size as u64;
        Ok(())
    }

    /// Makes it durable under its own name. Answers how many bytes the one before it had.
    pub(crate) fn finish(mut self) -> Result<u64, Error> {
        let dir = self.path.parent().unwrap_or(Path::new(".")).to_path_buf();
        let before = self.path.metadata().map_or(0, |metadata| metadata.len());
        self.file
            .sync_all()
            .and_then(|()| std::fs::rename(&self.unfinished, &self.path))
            .map_err(replace_error(&self.unfinished, &dir))?;
        self.finished = true;
        sync_dir(&dir)?;
        Ok(before)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.finished {
            // The first error is the one to report; what this leaves behind the next start removes.
            let _ = std::fs::remove_file(&self.unfinished);
        }
    }
}

fn replace_error(path: &Path, dir: &Path) -> impl FnOnce(io::Error) -> Error {
    let (path, dir) = (path.to_path_buf(), dir.to_path_buf());
    move |source| match is_full(&source) {
        true => Error::Full { dir },
        false => Error::io("write", &path)(source),
    }
}

/// Writes zeros from one place to another, so that later writes there need no new space.
fn write_zeros(file: &File, mut from: u64, to: u64) -> io::Result<()> {
    let zeros = [0; 64 << 10];
    while from < to {
        let length = (to - from).min(zeros.len() as u64);
        file.write_all_at(&zeros[..length as usize], from)?;
        from += length;
    }
    Ok(())
}

/// A write that did not finish: how many bytes were written before the error.
pub(crate) struct ShortWrite {
    pub(crate) written: u64,
    pub(crate) source: io::Error,
}

/// Writes all slices, one after the other, at a place in a file.
pub(crate) fn write_slices(
    file: &File,
    mut slices: &mut [IoSlice<'_>],
    offset: u64,
) -> Result<(), ShortWrite> {
    let mut written = 0;
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let batch = &slices[..slices.len().min(MAX_SLICES)];
        match pwritev(file, batch, offset + written) {
            Ok(0) => return Err(ShortWrite { written, source: io::ErrorKind::WriteZero.into() }),
            Ok(length) => {
                written += length as u64;
                IoSlice::advance_slices(&mut slices, length);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(ShortWrite { written, source: errno.into() }),
        }
    }
    Ok(())
}

fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let well_formed = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let base = well_formed.then(|| digits.parse().ok()).flatten()?;
    (base < MAX_SEQ).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_journal_gives_are_segments() {
        assert_eq!(base_of("00000000000000000042.seg"), Some(42));
        for name in [
            "42.seg",
            "00000000000000000042.new",
            "+0000000000000000042.seg",
            "99999999999999999999.seg",
            "",
        ] {
            assert_eq!(base_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_child_that_is_being_started_does_not_keep_a_closed_journal_locked() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        // What a fork shares until the child execs: the same open file.
        let _in_child = lock.0.try_clone().unwrap();
        drop(lock);
        assert!(Lock::take(dir.path()).is_ok());
    }

    #[test]
    fn a_record_of_very_many_parts_is_written_whole() {
        let file = tempfile::tempfile().unwrap();
        let parts = (0..3000_u32).map(|n| vec![n as u8; n as usize % 3]).collect::<Vec<_>>();
        let mut slices = parts.iter().map(|part| IoSlice::new(part)).collect::<Vec<_>>();
        assert!(write_slices(&file, &mut slices, 5).is_ok());
        let mut bytes = vec![0; parts.concat().len()];
        file.read_exact_at(&mut bytes, 5).unwrap();
        assert_eq!(bytes, parts.concat());
    }

    #[test]
    fn space_is_enough_for_the_record_and_stays_within_a_usual_segment() {
        let usual = 16 << 20;
        let small = Space::for_record(1000, 5000, usual);
        assert_eq!(small, Space { end: 5000 + ZEROS_AHEAD, zeros: true });
        assert_eq!(Space::for_record(1000, usual - 8, usual).end, usual);
        let large = Space::for_record(8 << 20, 9 << 20, usual);
        assert_eq!(large, Space { end: (9 << 20) + RESERVED_AHEAD, zeros: false });
        assert_eq!(Space::for_record(32 << 20, 33 << 20, usual).end, 33 << 20);
    }

    #[test]
    fn space_reads_as_zeros_however_it_is_made() {
        for zeros in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            let file = File::create(&path).unwrap();
            Space { end: 300_000, zeros }.make(&file, 100).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), vec![0; 300_000]);
            Space { end: 300_000, zeros }.make(&file, 300_000).unwrap();
        }
    }
}
