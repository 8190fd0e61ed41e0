//! Where each durable record stands: shared by the writer and its readers. Of sealed segments only the first record is
//! kept in memory; where the others stand is looked up when they are read, and remembered for a few segments.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::Damage;
use crate::files::segment_path;
use crate::recover::Walk;
use crate::sealed::{Offsets, place};
use crate::{DamageKind, Error, Seq};

/// Segments kept open for reading. More would take file descriptors from the process's connections.
const OPEN_SEGMENTS: usize = 16;

/// All segments, and the records of the last one up to the durable end.
#[derive(Debug)]
pub(crate) struct Index {
    /// The first record of each segment.
    pub(crate) bases: VecDeque<u64>,
    pub(crate) last: LastSegment,
    pub(crate) durable: u64,
    /// Damage of the last segment that cost records, in order.
    damage: Vec<Damage>,
}

/// The segment that is being written.
#[derive(Debug, Default)]
pub(crate) struct LastSegment {
    /// Where each record begins, in bytes; 0 for damaged ones.
    pub(crate) records: Vec<u32>,
    /// Where the durable records end, in bytes.
    pub(crate) end: u32,
}

/// Where a record's bytes are to be found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) base: u64,
    pub(crate) offset: u32,
    /// What the record can take at most, its header and padding included.
    pub(crate) extent: usize,
}

/// What the index knows of a record's place.
pub(crate) enum Spot {
    /// In the last segment, there.
    Last(Place),
    /// In the sealed segment that begins with `base` and ends before `limit`.
    Sealed { base: u64, limit: u64 },
}

impl Index {
    pub(crate) fn new(walk: Walk) -> Index {
        let mut damage = walk.recovery.damage;
        damage.retain(|damage| damage.first_seq < damage.last_seq);
        let last = walk.segments.into_iter().next_back();
        let last = last.map(|scan| LastSegment { records: scan.records, end: scan.end });
        Index {
            bases: walk.bases.into(),
            last: last.unwrap_or_default(),
            durable: walk.recovery.next_seq.0,
            damage,
        }
    }

    pub(crate) fn first(&self) -> u64 {
        self.bases.front().copied().unwrap_or(self.durable)
    }

    /// The segment after the one that begins with `base`.
    pub(crate) fn following(&self, base: u64) -> Option<u64> {
        self.bases.get(self.bases.partition_point(|other| *other <= base)).copied()
    }

    pub(crate) fn find(&self, dir: &Path, seq: u64) -> Result<Spot, Error> {
        if seq >= self.durable {
            return Err(Error::NotDurable { seq: Seq(seq), durable: Seq(self.durable) });
        }
        let following = self.bases.partition_point(|base| *base <= seq);
        let Some(base) = following.checked_sub(1).map(|index| self.bases[index]) else {
            return Err(Error::Released { seq: Seq(seq), first: Seq(self.first()) });
        };
        match self.bases.get(following) {
            Some(limit) => Ok(Spot::Sealed { base, limit: *limit }),
            None => place(base, &self.last.records, self.last.end, seq)
                .map(Spot::Last)
                .ok_or_else(|| Error::Damaged(self.damage_of(dir, base, seq))),
        }
    }

    fn damage_of(&self, dir: &Path, base: u64, seq: u64) -> Damage {
        let hit = |damage: &&Damage| (damage.first_seq.0..damage.last_seq.0).contains(&seq);
        self.damage.iter().find(hit).cloned().unwrap_or_else(|| Damage {
            segment: segment_path(dir, base),
            offset: self.last.end.into(),
            first_seq: Seq(seq),
            last_seq: Seq(seq + 1),
            kind: DamageKind::Missing,
        })
    }
}

/// A segment that is open for reading.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    base: u64,
    pub(crate) file: File,
    /// Once it is sealed and was needed.
    offsets: Mutex<Option<Arc<Offsets>>>,
}

/// What the writer and all readers of a journal have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    /// Whether anything may be written beside the segments.
    pub(crate) may_write: bool,
    index: RwLock<Index>,
    /// The most recently used last.
    open: Mutex<Vec<Arc<OpenSegment>>>,
}

impl Shared {
    pub(crate) fn new(dir: &Path, index: Index, may_write: bool) -> Shared {
        let (dir, index) = (dir.to_path_buf(), RwLock::new(index));
        Shared { dir, may_write, index, open: Mutex::default() }
    }

    // A panic elsewhere cannot leave the index half-changed: each change is complete before its lock is let go.
    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment, open for reading.
    pub(crate) fn segment(&self, base: u64) -> Result<Arc<OpenSegment>, Error> {
        let mut open = self.open();
        let known = open.iter().position(|segment| segment.base == base);
        let segment = match known {
            Some(index) => open.remove(index),
            None => {
                let path = segment_path(&self.dir, base);
                let file = File::open(&path).map_err(Error::io("open", &path))?;
                Arc::new(OpenSegment { base, file, offsets: Mutex::default() })
            }
        };
        // Whoever releases the segment first takes it out of the index, then waits for this lock to forget the file.
        if base >= self.index().first() {
            if open.len() >= OPEN_SEGMENTS {
                open.remove(0);
            }
            open.push(Arc::clone(&segment));
        }
        Ok(segment)
    }

    /// Where the records of a sealed segment stand. With `doubt`, what was kept beside it does not count.
    pub(crate) fn offsets(
        &self,
        segment: &OpenSegment,
        limit: u64,
        doubt: bool,
    ) -> Result<Arc<Offsets>, Error> {
        let mut known = segment.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(offsets) = known.as_ref().filter(|_| !doubt) {
            return Ok(Arc::clone(offsets));
        }
        let kept = if doubt { None } else { Offsets::from_file(&self.dir, segment.base, limit) };
        let offsets = match kept {
            Some(kept) => kept,
            None => {
                let read = Offsets::from_segment(&self.dir, segment.base, limit)?;
                if known.as_ref().is_none_or(|known| known.damage() != read.damage()) {
                    read.damage()
                        .iter()
                        .for_each(|damage| tracing::error!(%damage, "the journal is damaged"));
                }
                if self.may_write {
                    read.keep(&self.dir);
                }
                read
            }
        };
        let offsets = Arc::new(offsets);
        *known = Some(Arc::clone(&offsets));
        Ok(offsets)
    }

    /// Lets go of a segment that was deleted or written anew, so that its space is returned.
    pub(crate) fn forget_segment(&self, base: u64) {
        self.open().retain(|segment| segment.base != base);
    }

    /// Lets go of all segments, since one of them, or what one ends with, is another now.
    pub(crate) fn forget_segments(&self) {
        self.open().clear();
    }

    fn open(&self) -> MutexGuard<'_, Vec<Arc<OpenSegment>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
