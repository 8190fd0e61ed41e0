//! Where each durable record stands: shared by the writer and its readers, in memory, 4 bytes a record.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::Damage;
use crate::files::segment_path;
use crate::format::RECORD_HEADER_BYTES;
use crate::recover::Walk;
use crate::{DamageKind, Error, Seq};

/// Sealed segments kept open for reading. More would take file descriptors from the process's connections.
const OPEN_FILES: usize = 16;

/// One segment's records.
#[derive(Debug)]
pub(crate) struct SegmentIndex {
    pub(crate) base: u64,
    /// Where each record begins in the segment, in bytes; 0 for damaged ones.
    pub(crate) records: Vec<u32>,
    /// Where the durable records end, in bytes.
    pub(crate) end: u32,
}

/// All segments' records, up to the durable end.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) segments: VecDeque<SegmentIndex>,
    pub(crate) durable: u64,
    /// Damage that cost records, in order.
    damage: Vec<Damage>,
}

/// Where a record's bytes are to be found.
pub(crate) struct Place {
    pub(crate) base: u64,
    pub(crate) offset: u32,
    /// What the record can take at most, its header and padding included.
    pub(crate) extent: usize,
}

impl Index {
    pub(crate) fn new(walk: Walk) -> Index {
        let segments = walk.segments.into_iter();
        let segments = segments.map(|scan| SegmentIndex {
            base: scan.base,
            records: scan.records,
            end: scan.end,
        });
        let mut damage = walk.recovery.damage;
        damage.retain(|damage| damage.first_seq < damage.last_seq);
        Index { segments: segments.collect(), durable: walk.recovery.next_seq.0, damage }
    }

    pub(crate) fn first(&self) -> u64 {
        self.segments.front().map_or(self.durable, |segment| segment.base)
    }

    pub(crate) fn find(&self, dir: &Path, seq: u64) -> Result<Place, Error> {
        if seq >= self.durable {
            return Err(Error::NotDurable { seq: Seq(seq), durable: Seq(self.durable) });
        }
        let following = self.segments.partition_point(|segment| segment.base <= seq);
        let Some(segment) = following.checked_sub(1).and_then(|index| self.segments.get(index))
        else {
            return Err(Error::Released { seq: Seq(seq), first: Seq(self.first()) });
        };
        let index = (seq - segment.base) as usize;
        match segment.records.get(index) {
            None | Some(0) => Err(Error::Damaged(self.damage_of(dir, segment, seq))),
            Some(offset) => {
                let end = segment.records[index + 1..]
                    .iter()
                    .find(|next| **next != 0)
                    .unwrap_or(&segment.end);
                let extent = end.saturating_sub(*offset) as usize;
                assert!(
                    extent >= RECORD_HEADER_BYTES,
                    "records are indexed in the order in which they stand"
                );
                Ok(Place { base: segment.base, offset: *offset, extent })
            }
        }
    }

    fn damage_of(&self, dir: &Path, segment: &SegmentIndex, seq: u64) -> Damage {
        let following = self.damage.partition_point(|damage| damage.first_seq.0 <= seq);
        let known = following
            .checked_sub(1)
            .map(|index| &self.damage[index])
            .filter(|damage| seq < damage.last_seq.0);
        known.cloned().unwrap_or_else(|| Damage {
            segment: segment_path(dir, segment.base),
            offset: segment.end.into(),
            first_seq: Seq(seq),
            last_seq: Seq(seq + 1),
            kind: DamageKind::Missing,
        })
    }
}

/// What the writer and all readers of a journal have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    index: RwLock<Index>,
    /// The most recently used last.
    files: Mutex<Vec<(u64, Arc<File>)>>,
}

impl Shared {
    pub(crate) fn new(dir: &Path, index: Index) -> Shared {
        Shared { dir: dir.to_path_buf(), index: RwLock::new(index), files: Mutex::default() }
    }

    // A panic elsewhere cannot leave the index half-changed: each change is complete before its lock is let go.
    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment's file, open for reading.
    pub(crate) fn file(&self, base: u64) -> Result<Arc<File>, Error> {
        let mut files = self.files();
        let known = files.iter().position(|(open, _)| *open == base);
        let file = match known {
            Some(index) => files.remove(index).1,
            None => {
                let path = segment_path(&self.dir, base);
                Arc::new(File::open(&path).map_err(Error::io("open", &path))?)
            }
        };
        // Whoever releases the segment first takes it out of the index, then waits for this lock to forget the file.
        if base >= self.index().first() {
            if files.len() >= OPEN_FILES {
                files.remove(0);
            }
            files.push((base, Arc::clone(&file)));
        }
        Ok(file)
    }

    /// Lets go of a segment that was deleted, so that its space is returned.
    pub(crate) fn forget_file(&self, base: u64) {
        self.files().retain(|(open, _)| *open != base);
    }

    fn files(&self) -> MutexGuard<'_, Vec<(u64, Arc<File>)>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
