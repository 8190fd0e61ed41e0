//! Reading by number: from other threads while the journal is written, or by an auditor who must change nothing.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crc32c::crc32c_append;

use crate::error::{Damage, DamageKind};
use crate::files::segment_path;
use crate::format::{RECORD_HEADER_BYTES, RecordHeader, Seed, padded};
use crate::index::{Index, Place, Shared, Spot};
use crate::recover::{Look, Recovery, Walk, walk};
use crate::segment::{Extent, Segment};
use crate::{Error, Seq};

/// How often a directory that changes while it is listed and read is looked at again.
const ATTEMPTS: usize = 16;

/// Reads a journal without a lock and without changing anything, as it is now.
///
/// Another process may be writing meanwhile: what it adds later is not seen, and an append under way shows as a torn
/// tail. Records that the writer releases become [`Error::Released`].
///
/// # Errors
/// [`Error::Io`] if the directory or a segment cannot be read, [`Error::Version`] if a newer program wrote it.
pub fn open_read_only(dir: impl AsRef<Path>) -> Result<(Reader, Recovery), Error> {
    open_read_only_as(dir, Look::Everything)
}

/// As [`open_read_only`], but with [`Look::Last`] without reading more than the last segment.
///
/// # Errors
/// As [`open_read_only`].
pub fn open_read_only_as(dir: impl AsRef<Path>, look: Look) -> Result<(Reader, Recovery), Error> {
    let dir = dir.as_ref();
    let found = look_until_sure(|| walk(dir, look), || dir.is_dir())?;
    let recovery = found.recovery.clone();
    Ok((Reader::new(Arc::new(Shared::new(dir, Index::new(found), false))), recovery))
}

/// A handle for reading records. Cheap to clone, and independent of the thread that writes.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Reader {
        Reader { shared }
    }

    /// The journal's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The oldest record that is left.
    #[must_use]
    pub fn first_seq(&self) -> Seq {
        Seq(self.shared.index().first())
    }

    /// One past the last record that can be read.
    #[must_use]
    pub fn durable(&self) -> Seq {
        Seq(self.shared.index().durable)
    }

    /// The payload of a record, checked against its checksum. One read of the disk.
    ///
    /// # Errors
    /// [`Error::NotDurable`] if the record has not been synced, [`Error::Released`] if it is gone,
    /// [`Error::Damaged`] if it is no longer what was written, [`Error::Io`] if the machine cannot read it.
    pub fn read(&self, seq: Seq) -> Result<Vec<u8>, Error> {
        match self.try_read(seq, false) {
            // Where it stands may be what is wrong.
            Err(Error::Damaged(_)) => self.try_read(seq, true),
            read => read,
        }
    }

    fn try_read(&self, seq: Seq, doubt: bool) -> Result<Vec<u8>, Error> {
        let spot = self.shared.index().find(&self.shared.dir, seq.0)?;
        let base = match spot {
            Spot::Last(place) => place.base,
            Spot::Sealed { base, .. } => base,
        };
        let segment = match self.shared.segment(base) {
            // Released since it was looked up.
            Err(error) if error.is_not_found() && seq < self.first_seq() => {
                return Err(Error::Released { seq, first: self.first_seq() });
            }
            // Who does not write cannot know whether it was released.
            Err(error) if error.is_not_found() && self.shared.may_write => {
                return Err(Error::Damaged(self.missing(base)));
            }
            segment => segment?,
        };
        let place = match spot {
            Spot::Last(place) => place,
            Spot::Sealed { limit, .. } => {
                let offsets = self.shared.offsets(&segment, limit, doubt)?;
                offsets.find(&self.shared.dir, seq.0)?
            }
        };
        let path = segment_path(&self.shared.dir, base);
        let read = read_record(&segment.file, &place, seq).map_err(Error::io("read", &path))?;
        read.ok_or_else(|| {
            Error::Damaged(Damage {
                segment: path,
                offset: place.offset.into(),
                first_seq: seq,
                last_seq: seq.next(),
                kind: DamageKind::Bytes,
            })
        })
    }

    /// The damage of a segment whose file is gone.
    fn missing(&self, base: u64) -> Damage {
        let index = self.shared.index();
        Damage {
            segment: segment_path(&self.shared.dir, base),
            offset: 0,
            first_seq: Seq(base),
            last_seq: Seq(index.following(base).unwrap_or(index.durable)),
            kind: DamageKind::Missing,
        }
    }

    /// The segments and which records each should hold, up to the durable end.
    #[must_use]
    pub fn segments(&self) -> Vec<Extent> {
        let index = self.shared.index();
        let sealed = index.bases.iter().skip(1).map(|base| (*base, true));
        let extents = index.bases.iter().zip(sealed.chain([(index.durable, false)]));
        extents
            .map(|(first, (last, is_sealed))| Extent {
                first: Seq(*first),
                last: Seq(last),
                is_sealed,
            })
            .collect()
    }

    /// Reads a whole segment, and says what in it is damaged: for whoever checks or copies everything. Takes as much
    /// memory as the segment has bytes.
    ///
    /// # Errors
    /// [`Error::Io`] if the machine cannot read it, [`Error::Version`] if a newer program wrote it,
    /// [`Error::Released`] if it is gone since.
    pub fn load(&self, extent: Extent) -> Result<Segment, Error> {
        match Segment::load(&self.shared.dir, extent) {
            Err(error) if error.is_not_found() && extent.first < self.first_seq() => {
                Err(Error::Released { seq: extent.first, first: self.first_seq() })
            }
            Err(error) if error.is_not_found() && self.shared.may_write => {
                Ok(Segment::gone(extent, self.missing(extent.first.0)))
            }
            loaded => loaded,
        }
    }

    /// The records from one on, in order, up to the durable end. When that has moved, the same iterator goes on.
    #[must_use]
    pub fn iter(&self, from: Seq) -> Iter {
        Iter { reader: self.clone(), next: from, failed: false }
    }
}

/// Records in order. Yields [`Error::Damaged`] once for each damaged range and [`Error::Released`] once if it stands
/// before the first record, and goes on behind; ends at the durable end and after an [`Error::Io`].
#[derive(Clone, Debug)]
pub struct Iter {
    reader: Reader,
    next: Seq,
    failed: bool,
}

impl Iterator for Iter {
    type Item = Result<(Seq, Vec<u8>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let seq = self.next;
        match self.reader.read(seq) {
            Ok(payload) => {
                self.next = seq.next();
                Some(Ok((seq, payload)))
            }
            Err(Error::NotDurable { .. }) => None,
            Err(error) => {
                match &error {
                    Error::Damaged(damage) => self.next = damage.last_seq.max(seq.next()),
                    Error::Released { first, .. } => self.next = *first,
                    _ => self.failed = true,
                }
                Some(Err(error))
            }
        }
    }
}

/// Looks at a directory that may be written meanwhile until two looks agree on its damage. A segment that is released
/// between listing and reading is no fault. Nor is what looks like damage because the writer was faster than the
/// reading: that is gone, or elsewhere, when looked at again.
fn look_until_sure(
    mut look: impl FnMut() -> Result<Walk, Error>,
    exists: impl Fn() -> bool,
) -> Result<Walk, Error> {
    let mut suspected = Vec::new();
    for _ in 1..ATTEMPTS {
        match look() {
            Err(error) if error.is_not_found() && exists() => {}
            Ok(found) if found.recovery.damage != suspected => suspected = found.recovery.damage,
            result => return result,
        }
    }
    look()
}

/// Reads the payload of a record, if what stands there is that record.
fn read_record(file: &File, place: &Place, seq: Seq) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; RECORD_HEADER_BYTES];
    let mut payload = vec![0; place.extent - RECORD_HEADER_BYTES];
    let offset = u64::from(place.offset);
    let mut slices = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut payload)];
    let length = match rustix::io::preadv(file, &mut slices, offset) {
        Ok(length) => length,
        Err(rustix::io::Errno::INTR) => 0,
        Err(errno) => return Err(errno.into()),
    };
    if length < place.extent && !read_rest(file, &mut head, &mut payload, offset)? {
        return Ok(None);
    }
    let Some(header) = RecordHeader::decode(&head) else { return Ok(None) };
    let used = header.payload_bytes();
    if header.seq != seq.0 || header.is_mark() || used > payload.len() {
        return Ok(None);
    }
    let padding_is_zero = payload[used..padded(used)].iter().all(|byte| *byte == 0);
    payload.truncate(used);
    let crc = crc32c_append(header.head_crc(Seed::new(place.base), offset), &payload);
    Ok((crc == header.crc && padding_is_zero).then_some(payload))
}

/// Whether a record that one read did not deliver whole could be read at all.
fn read_rest(file: &File, head: &mut [u8], payload: &mut [u8], offset: u64) -> io::Result<bool> {
    let read = file
        .read_exact_at(head, offset)
        .and_then(|()| file.read_exact_at(payload, offset + head.len() as u64));
    match read {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What successive looks find: a number of records damaged, or a segment gone between listing and reading.
    fn looks(results: &[Option<u64>]) -> (Result<Walk, Error>, usize) {
        let mut taken = 0;
        let found = look_until_sure(
            || {
                taken += 1;
                let Some(last) = results[(taken - 1).min(results.len() - 1)] else {
                    return Err(Error::io("open", Path::new("x"))(io::ErrorKind::NotFound.into()));
                };
                let mut recovery = Recovery::default();
                if last > 0 {
                    recovery.damage.push(Damage {
                        segment: "x".into(),
                        offset: 0,
                        first_seq: Seq(0),
                        last_seq: Seq(last),
                        kind: DamageKind::Bytes,
                    });
                }
                Ok(Walk {
                    bases: Vec::new(),
                    segments: Vec::new(),
                    last_bytes: Vec::new(),
                    recovery,
                })
            },
            || true,
        );
        (found, taken)
    }

    #[test]
    fn an_auditor_raises_no_alarm_when_the_writer_was_faster_than_the_reading() {
        for results in
            [&[Some(1), Some(0), Some(0)][..], &[None, Some(2), Some(1), Some(0), Some(0)]]
        {
            let (found, taken) = looks(results);
            assert_eq!((found.unwrap().recovery.damage, taken), (Vec::new(), results.len()));
        }
    }

    #[test]
    fn an_auditor_is_told_of_damage_that_stays_and_looks_once_where_there_is_none() {
        let (found, taken) = looks(&[Some(3)]);
        assert_eq!((found.unwrap().recovery.damage.len(), taken), (1, 2));
        assert_eq!(looks(&[Some(0)]).1, 1);
        let (found, taken) = looks(&[None]);
        assert!(found.is_err() && taken == ATTEMPTS);
    }
}
