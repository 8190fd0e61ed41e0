//! The writer: appends, makes durable, releases.

use std::fmt;
use std::fs::{OpenOptions, remove_file};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::active::Active;
use crate::files::{Lock, Space, create_dir, remove_unfinished, segment_path, sync_dir};
use crate::format::{HEADER_BYTES, MAX_RECORD_BYTES, MAX_SEQ, RECORD_HEADER_BYTES, padded};
use crate::index::{Index, LastSegment, Shared};
use crate::recover::{Look, Recovery, Walk, walk};
use crate::sealed::{self, Offsets};
use crate::{Error, Reader, Seq};

/// How a journal is kept. May differ from one start to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size of a segment file in bytes: 128 B to 256 MiB. Space is taken, and released, in these units.
    pub segment_bytes: u64,
    /// The longest payload that is accepted, in bytes: up to [`MAX_RECORD_BYTES`]. A record longer than a segment gets
    /// a segment of its own size.
    pub max_record_bytes: u32,
    /// How much of small records is gathered in memory before it is written, in bytes: up to 64 MiB. What is gathered
    /// is written by [`Journal::sync`] at the latest.
    pub buffer_bytes: usize,
    /// How much is read when the journal is opened.
    pub look: Look,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 16 << 20,
            max_record_bytes: 64 << 20,
            buffer_bytes: 256 << 10,
            look: Look::Everything,
        }
    }
}

impl Options {
    fn check(&self) -> Result<(), Error> {
        let refuse = |option, value, bounds| Err(Error::Options { option, value, bounds });
        if !(128..=u64::from(MAX_RECORD_BYTES)).contains(&self.segment_bytes) {
            return refuse("segment_bytes", self.segment_bytes, "from 128 to 268435456 (256 MiB)");
        }
        if self.max_record_bytes > MAX_RECORD_BYTES {
            return refuse(
                "max_record_bytes",
                self.max_record_bytes.into(),
                "at most 268435456 (256 MiB)",
            );
        }
        if self.buffer_bytes > 64 << 20 {
            return refuse("buffer_bytes", self.buffer_bytes as u64, "at most 67108864 (64 MiB)");
        }
        Ok(())
    }
}

/// An append-only log in a directory of its own, with one writer. Dropping it does what [`Journal::close`] does,
/// without telling whether that worked.
pub struct Journal {
    options: Options,
    shared: Arc<Shared>,
    /// Held, not used.
    _lock: Lock,
    active: Option<Active>,
    /// Where each record begins that is appended and not yet durable.
    pending: Vec<u32>,
    next: u64,
    durable: u64,
    /// Bytes in segments other than the active one.
    sealed_bytes: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Poisoned,
    Closed,
}

impl Journal {
    /// Opens the journal in a directory, which is made (mode 0700) if there is none, and recovers what is there.
    ///
    /// Reads every segment once, or the last one only ([`Options::look`]). What the recovery reports is also logged; whether damage stops the program is the
    /// caller's decision.
    ///
    /// # Errors
    /// [`Error::Locked`] if somebody else has it open for writing, [`Error::Options`] if an option is out of bounds,
    /// [`Error::Version`] if a newer program wrote it, [`Error::Io`] if the machine cannot read or write it.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<(Journal, Recovery), Error> {
        let dir = dir.as_ref();
        options.check()?;
        create_dir(dir)?;
        let lock = Lock::take(dir)?;
        remove_unfinished(dir)?;
        let walk = walk(dir, options.look)?;
        log_findings(&walk.recovery);
        let active = walk
            .segments
            .last()
            .map(|last| Active::adopt(dir, last, &walk.last_bytes, options.buffer_bytes));
        let active = active.transpose()?;
        trim_sealed(dir, &walk);
        let sealed_bytes = sealed_bytes(dir, &walk.bases)?;
        sync_dir(dir)?;
        let recovery = walk.recovery.clone();
        let next = recovery.next_seq.0;
        let journal = Journal {
            options,
            shared: Arc::new(Shared::new(dir, Index::new(walk), true)),
            _lock: lock,
            active,
            pending: Vec::new(),
            next,
            durable: next,
            sealed_bytes,
            state: State::Open,
        };
        Ok((journal, recovery))
    }

    /// Appends one record, whose payload is the parts one after the other, and returns its number. It is neither
    /// durable nor readable before the next successful [`Journal::sync`].
    ///
    /// When the current segment is full this makes the next one, which syncs everything before it: then
    /// [`Journal::durable`] moves without a call to `sync`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] and [`Error::Full`] leave the journal as it was: this record is not in it. After
    /// [`Error::Io`] the journal is poisoned.
    pub fn append(&mut self, parts: &[&[u8]]) -> Result<Seq, Error> {
        self.check_usable()?;
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let limit = u64::from(self.options.max_record_bytes);
        if length > limit {
            return Err(Error::TooLarge { length, limit });
        }
        assert!(self.next < MAX_SEQ, "2^63 records were appended");
        let size = RECORD_HEADER_BYTES + padded(length as usize);
        let result = self.push(size as u64, parts);
        let offset = self.judge(result)?;
        self.pending.push(offset as u32);
        let seq = Seq(self.next);
        self.next += 1;
        Ok(seq)
    }

    /// Makes everything appended so far durable, with one fdatasync, and returns one past the last durable record.
    /// Costs nothing if all is durable already.
    ///
    /// # Errors
    /// [`Error::Full`] if a file system that copies on write has no space left: the records are kept, and the call may
    /// be repeated. After [`Error::Io`] the journal is poisoned.
    pub fn sync(&mut self) -> Result<Seq, Error> {
        self.check_usable()?;
        let result = self.sync_active();
        self.judge(result)?;
        Ok(Seq(self.durable))
    }

    /// The number that the next record gets.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        Seq(self.next)
    }

    /// The oldest record that is left. At least as old as what was last released: whole segments are deleted, and the
    /// one being written never is.
    #[must_use]
    pub fn first_seq(&self) -> Seq {
        Seq(self.shared.index().first())
    }

    /// One past the last durable record.
    #[must_use]
    pub fn durable(&self) -> Seq {
        Seq(self.durable)
    }

    /// Bytes of all segments, without space that is taken but unused (less than one segment).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sealed_bytes + self.active.as_ref().map_or(0, Active::tail)
    }

    /// A handle that reads what is durable, for any thread. It stays usable when the journal is gone.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// Gives up all records below `seq`: segments that hold no others are deleted.
    ///
    /// # Errors
    /// [`Error::NotDurable`] if records would be given up that are not durable yet. [`Error::Io`] if a segment cannot
    /// be deleted: those before it are, and the call may be repeated; if the directory cannot be synced the journal
    /// is poisoned.
    pub fn release(&mut self, seq: Seq) -> Result<(), Error> {
        self.release_some(seq, usize::MAX)
    }

    /// True if there are segments that hold records below `seq` only.
    #[must_use]
    pub fn is_releasable(&self, seq: Seq) -> bool {
        self.releasable(seq.0).is_some()
    }

    /// As [`Journal::release`], but deletes so many segments at most.
    ///
    /// # Errors
    /// As [`Journal::release`].
    pub fn release_some(&mut self, seq: Seq, most: usize) -> Result<(), Error> {
        self.check_usable()?;
        if seq.0 > self.durable {
            return Err(Error::NotDurable { seq, durable: Seq(self.durable) });
        }
        let mut deleted = false;
        for _ in 0..most {
            let Some(base) = self.releasable(seq.0) else { break };
            let path = segment_path(&self.shared.dir, base);
            let bytes = path.metadata().map_or(0, |metadata| metadata.len());
            match remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("delete", &path)(error));
                }
                _ => deleted = true,
            }
            sealed::remove(&self.shared.dir, base);
            self.shared.index_mut().bases.pop_front();
            self.sealed_bytes = self.sealed_bytes.saturating_sub(bytes);
            self.shared.forget_segment(base);
        }
        let result = if deleted { sync_dir(&self.shared.dir) } else { Ok(()) };
        self.judge(result)
    }

    /// Goes on with record `seq`, and gives up all before it, those included that were never here: what they were is
    /// known otherwise. A crash before this returns may leave some of what was here; repeat the call then.
    ///
    /// # Errors
    /// [`Error::NotDurable`] if records from `seq` on are here that are not durable. Otherwise as [`Journal::release`].
    pub fn skip_to(&mut self, seq: Seq) -> Result<(), Error> {
        self.sync()?;
        if seq.0 > self.next {
            assert!(seq.0 < MAX_SEQ, "2^63 records were skipped");
            let before = (self.next, self.durable);
            (self.next, self.durable) = (seq.0, seq.0);
            self.shared.index_mut().durable = seq.0;
            if let Err(error) = self.begin_empty_segment() {
                // A full disk is tried again, from where the journal was.
                (self.next, self.durable) = before;
                self.shared.index_mut().durable = before.1;
                return self.judge(Err(error));
            }
        }
        self.release(seq)
    }

    /// Makes everything durable, proves it so for the next start, and gives unused space back.
    ///
    /// # Errors
    /// As [`Journal::sync`].
    pub fn close(mut self) -> Result<(), Error> {
        self.shut()
    }

    fn shut(&mut self) -> Result<(), Error> {
        self.sync()?;
        self.state = State::Closed;
        self.active.as_mut().map_or(Ok(()), |active| active.finish(self.next))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.shared.dir
    }

    pub(crate) fn active(&self) -> Option<&Active> {
        self.active.as_ref()
    }

    /// Takes note of a sealed segment that was put in place of one with `before` bytes, or of none.
    pub(crate) fn restored(&mut self, first: u64, before: u64, bytes: u64) {
        {
            let mut index = self.shared.index_mut();
            let at = index.bases.partition_point(|base| *base < first);
            if index.bases.get(at) != Some(&first) {
                index.bases.insert(at, first);
            }
        }
        self.sealed_bytes = (self.sealed_bytes + bytes).saturating_sub(before);
        self.shared.forget_segments();
    }

    pub(crate) fn begin_empty_segment(&mut self) -> Result<(), Error> {
        self.begin_segment(Space { end: HEADER_BYTES as u64, zeros: true })
    }

    pub(crate) fn check_usable(&self) -> Result<(), Error> {
        match self.state {
            State::Open => Ok(()),
            State::Poisoned | State::Closed => {
                Err(Error::Poisoned { dir: self.shared.dir.clone() })
            }
        }
    }

    /// Every error but a full disk ends writing.
    pub(crate) fn judge<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result
            && !matches!(error, Error::Full { .. })
        {
            tracing::error!(%error, dir = %self.shared.dir.display(), "the journal can no longer be written");
            self.state = State::Poisoned;
        }
        result
    }

    fn push(&mut self, size: u64, parts: &[&[u8]]) -> Result<u64, Error> {
        self.make_room(size)?;
        let active = self.active.as_mut().expect("room was made in it");
        active.push(self.next, self.durable, parts)
    }

    fn make_room(&mut self, size: u64) -> Result<(), Error> {
        let usual = self.options.segment_bytes;
        if let Some(active) = &mut self.active {
            let needed = active.tail() + size;
            if needed <= active.allocated() {
                return Ok(());
            }
            // A segment without records is extended for any record: the next one would bear the same name.
            if needed <= usual || active.base() == self.next {
                return active.grow(Space::for_record(size, needed, usual));
            }
        }
        self.begin_segment(Space::for_record(size, HEADER_BYTES as u64 + size, usual))
    }

    /// Goes on in a new segment. That it exists proves that everything before it is durable.
    fn begin_segment(&mut self, space: Space) -> Result<(), Error> {
        self.sync_active()?;
        let new = Active::create(&self.shared.dir, self.next, space, self.options.buffer_bytes)?;
        let before = self.active.replace(new);
        let base = before.as_ref().map(Active::base);
        if let Some(mut before) = before {
            before.trim();
            self.sealed_bytes += before.tail();
        }
        let last = {
            let mut index = self.shared.index_mut();
            index.bases.push_back(self.next);
            let new = LastSegment { records: Vec::new(), end: HEADER_BYTES as u32 };
            std::mem::replace(&mut index.last, new)
        };
        if let Some(base) = base
            && !last.records.contains(&0)
            && base + last.records.len() as u64 == self.next
        {
            Offsets::written(base, self.next, last.records, last.end).keep(&self.shared.dir);
        }
        Ok(())
    }

    fn sync_active(&mut self) -> Result<(), Error> {
        let Some(active) = self.active.as_mut().filter(|_| self.durable < self.next) else {
            return Ok(());
        };
        active.sync()?;
        let mut index = self.shared.index_mut();
        index.last.records.append(&mut self.pending);
        index.last.end = active.tail() as u32;
        index.durable = self.next;
        self.durable = self.next;
        Ok(())
    }

    /// The oldest segment, if it holds no record from `seq` on and is not the one being written.
    fn releasable(&self, seq: u64) -> Option<u64> {
        let index = self.shared.index();
        let following = index.bases.get(1)?;
        (*following <= seq).then(|| index.first())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if self.state == State::Open
            && let Err(error) = self.shut()
        {
            tracing::warn!(%error, dir = %self.shared.dir.display(), "the journal was not closed cleanly");
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("dir", &self.shared.dir)
            .field("next", &self.next)
            .field("durable", &self.durable)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

fn log_findings(recovery: &Recovery) {
    for damage in &recovery.damage {
        tracing::error!(%damage, "the journal is damaged");
    }
    if let Some(torn) = &recovery.torn {
        let segment = torn.segment.display();
        tracing::info!(%segment, offset = torn.offset, bytes = torn.bytes, "an unacknowledged tail was cut");
    }
}

/// Gives back space that a crash left in sealed segments. Damaged ones stay as they are.
fn trim_sealed(dir: &Path, walk: &Walk) {
    let sealed = walk.segments.iter().zip(walk.segments.iter().skip(1));
    for (segment, _) in
        sealed.filter(|(segment, after)| !segment.tail_is_bad() && segment.next() == after.base)
    {
        let (path, end) = (segment_path(dir, segment.base), u64::from(segment.end));
        let too_long = path.metadata().is_ok_and(|metadata| metadata.len() > end);
        let trim = || OpenOptions::new().write(true).open(&path)?.set_len(end);
        if too_long && let Err(error) = trim() {
            tracing::warn!(segment = %path.display(), %error, "cannot return unused space");
        }
    }
}

/// What the segments before the last one take.
fn sealed_bytes(dir: &Path, bases: &[u64]) -> Result<u64, Error> {
    let sealed = bases.split_last().map_or(&[][..], |(_, sealed)| sealed);
    sealed.iter().try_fold(0, |sum, base| {
        let path = segment_path(dir, *base);
        Ok(sum + path.metadata().map_err(Error::io("read", &path))?.len())
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn small() -> Options {
        Options {
            segment_bytes: 4096,
            max_record_bytes: 1 << 20,
            buffer_bytes: 1024,
            look: Look::Everything,
        }
    }

    fn device(path: &str) -> File {
        OpenOptions::new().write(true).open(path).unwrap()
    }

    fn journal_on(dir: &Path, file: File) -> Journal {
        let mut journal = Journal::open(dir, small()).unwrap().0;
        journal.append(&[b"durable"]).unwrap();
        journal.sync().unwrap();
        journal.active.as_mut().unwrap().replace_file(file);
        journal
    }

    fn assert_poisoned(journal: &mut Journal) {
        assert!(matches!(journal.append(&[b"more"]), Err(Error::Poisoned { .. })));
        assert!(matches!(journal.sync(), Err(Error::Poisoned { .. })));
        assert!(matches!(journal.release(Seq(0)), Err(Error::Poisoned { .. })));
        assert_eq!(journal.durable(), Seq(1));
        assert_eq!(journal.reader().read(Seq(0)).unwrap(), b"durable");
    }

    #[test]
    fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
        let dir = tempfile::tempdir().unwrap();
        // Takes every write; cannot be synced.
        let mut journal = journal_on(dir.path(), device("/dev/null"));
        journal.append(&[b"lost"]).unwrap();
        assert!(matches!(journal.sync(), Err(Error::Io { action: "sync", .. })));
        assert_poisoned(&mut journal);
        assert!(matches!(journal.close(), Err(Error::Poisoned { .. })));
        let (journal, recovery) = Journal::open(dir.path(), small()).unwrap();
        assert_eq!((recovery.next_seq, recovery.torn), (Seq(1), None));
        assert_eq!(journal.reader().read(Seq(0)).unwrap(), b"durable");
    }

    #[test]
    fn after_a_failed_write_nothing_is_acknowledged_any_more() {
        for size in [10, 2000] {
            let dir = tempfile::tempdir().unwrap();
            let unwritable = File::open("/dev/null").unwrap();
            let mut journal = journal_on(dir.path(), unwritable);
            let result = journal.append(&[&vec![1; size]]).and_then(|_| journal.sync());
            assert!(matches!(result, Err(Error::Io { action: "write", .. })), "{result:?}");
            assert_poisoned(&mut journal);
        }
    }

    #[test]
    fn records_gathered_when_the_disk_was_full_become_durable_once_there_is_space() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = journal_on(dir.path(), device("/dev/full"));
        journal.append(&[b"gathered"]).unwrap();
        assert!(matches!(journal.sync(), Err(Error::Full { .. })));
        assert!(matches!(journal.append(&[&[2; 2000]]), Err(Error::Full { .. })));
        assert_eq!((journal.durable(), journal.next_seq()), (Seq(1), Seq(2)));
        let path = segment_path(dir.path(), 0);
        journal.active.as_mut().unwrap().replace_file(device(path.to_str().unwrap()));
        assert_eq!(journal.append(&[&[2; 2000]]).unwrap(), Seq(2));
        assert_eq!(journal.sync().unwrap(), Seq(3));
        journal.close().unwrap();
        let reader = Journal::open(dir.path(), small()).unwrap().0.reader();
        assert_eq!(reader.read(Seq(1)).unwrap(), b"gathered");
        assert_eq!(reader.read(Seq(2)).unwrap(), [2; 2000]);
    }
}
