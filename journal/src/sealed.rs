//! Where the records of a sealed segment stand, kept in a small file beside it.
//!
//! It saves reading 16 MiB to find one record, and is never believed: it is used only if it is whole and fits the
//! segment, each record is still checked against its own checksum, and whenever something does not fit the segment is
//! read and the file made again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crc32c::crc32c;

use crate::error::Damage;
use crate::files::segment_path;
use crate::format::{HEADER_BYTES, MAX_SEGMENT_BYTES, RECORD_HEADER_BYTES};
use crate::index::Place;
use crate::recover::{judge_sealed, read_and_scan};
use crate::{DamageKind, Error, Seq};

const MAGIC: [u8; 8] = *b"LSINDEX\n";
const VERSION: u16 = 1;
/// Magic, version, base, limit, end, count.
const FIXED_BYTES: usize = 8 + 8 + 8 + 8 + 4 + 4;
const CRC_BYTES: usize = 4;

/// The file beside a segment.
pub(crate) fn offsets_path(dir: &Path, base: u64) -> PathBuf {
    segment_path(dir, base).with_extension("idx")
}

/// Where the records of one sealed segment stand.
#[derive(Debug)]
pub(crate) struct Offsets {
    /// The segment's first record.
    base: u64,
    /// One past its last record: the base of the segment after it.
    limit: u64,
    /// Where each record begins, in bytes; 0 for damaged ones, and none for those that are missing at the end.
    records: Vec<u32>,
    /// Where the records end, in bytes.
    end: u32,
    /// What was found to be damaged.
    damage: Vec<Damage>,
}

impl Offsets {
    /// Of a segment that was just written.
    pub(crate) fn written(base: u64, limit: u64, records: Vec<u32>, end: u32) -> Offsets {
        Offsets { base, limit, records, end, damage: Vec::new() }
    }

    /// From the file beside the segment, if it is whole and fits.
    pub(crate) fn from_file(dir: &Path, base: u64, limit: u64) -> Option<Offsets> {
        let segment = segment_path(dir, base).metadata().ok()?.len();
        let path = offsets_path(dir, base);
        let most = MAX_SEGMENT_BYTES as usize / RECORD_HEADER_BYTES * 4 + FIXED_BYTES + CRC_BYTES;
        if path.metadata().ok()?.len() > most as u64 {
            return None;
        }
        let found = decode(&fs::read(path).ok()?)?;
        let fits = found.base == base && found.limit == limit && u64::from(found.end) <= segment;
        fits.then_some(found)
    }

    /// By reading the segment.
    pub(crate) fn from_segment(dir: &Path, base: u64, limit: u64) -> Result<Offsets, Error> {
        let (mut found, _) = read_and_scan(dir, base)?;
        let damage = judge_sealed(dir, &mut found, limit);
        let (records, end) = (found.records, found.end);
        Ok(Offsets { base, limit, records, end, damage })
    }

    /// Keeps it beside the segment, if that is whole. Nothing is lost if this does not work.
    pub(crate) fn keep(&self, dir: &Path) {
        if !self.damage.is_empty() {
            return;
        }
        let path = offsets_path(dir, self.base);
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let kept = options.open(&path).and_then(|mut file: File| file.write_all(&self.encode()));
        if let Err(error) = kept {
            tracing::debug!(path = %path.display(), %error, "cannot be kept; it is made again when needed");
        }
    }

    /// Where a record of this segment stands.
    pub(crate) fn find(&self, dir: &Path, seq: u64) -> Result<Place, Error> {
        match place(self.base, &self.records, self.end, seq) {
            Some(place) => Ok(place),
            None => Err(Error::Damaged(self.damage_of(dir, seq))),
        }
    }

    pub(crate) fn damage(&self) -> &[Damage] {
        &self.damage
    }

    fn damage_of(&self, dir: &Path, seq: u64) -> Damage {
        let hit = |damage: &&Damage| (damage.first_seq.0..damage.last_seq.0).contains(&seq);
        self.damage.iter().find(hit).cloned().unwrap_or_else(|| Damage {
            segment: segment_path(dir, self.base),
            offset: self.end.into(),
            first_seq: Seq(seq),
            last_seq: Seq(seq + 1),
            kind: DamageKind::Missing,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + 4 * self.records.len() + CRC_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&self.base.to_le_bytes());
        out.extend_from_slice(&self.limit.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.extend_from_slice(&(self.records.len() as u32).to_le_bytes());
        self.records.iter().for_each(|offset| out.extend_from_slice(&offset.to_le_bytes()));
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }
}

/// Where a record stands among records that begin at these places; nothing if it is damaged or missing.
pub(crate) fn place(base: u64, records: &[u32], end: u32, seq: u64) -> Option<Place> {
    let index = usize::try_from(seq.checked_sub(base)?).ok()?;
    let offset = *records.get(index).filter(|offset| **offset != 0)?;
    let after = records[index + 1..].iter().find(|next| **next != 0).unwrap_or(&end);
    let extent = after.saturating_sub(offset) as usize;
    (extent >= RECORD_HEADER_BYTES).then_some(Place { base, offset, extent })
}

/// Where the records begin that the file beside a segment names, and where they end; nothing if it is not to be believed.
#[must_use]
pub fn decode_offsets(bytes: &[u8]) -> Option<(Vec<u32>, u32)> {
    decode(bytes).map(|found| (found.records, found.end))
}

fn decode(bytes: &[u8]) -> Option<Offsets> {
    let (content, crc) = bytes.split_last_chunk::<CRC_BYTES>()?;
    let head = content.first_chunk::<FIXED_BYTES>()?;
    if u32::from_le_bytes(*crc) != crc32c(content) || head[..8] != MAGIC {
        return None;
    }
    let u64_at = |at: usize| head[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let u32_at = |at: usize| head[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    if head[8..16] != [VERSION.to_le_bytes().as_slice(), &[0; 6]].concat() {
        return None;
    }
    let (base, limit, end, count) = (u64_at(16)?, u64_at(24)?, u32_at(32)?, u32_at(36)?);
    let (offsets, rest) = content[FIXED_BYTES..].as_chunks::<4>();
    let records: Vec<u32> = offsets.iter().map(|offset| u32::from_le_bytes(*offset)).collect();
    // A whole segment has all its records, one behind the other.
    let whole = rest.is_empty()
        && records.len() == count as usize
        && base.checked_add(count.into()) == Some(limit)
        && records.first().is_none_or(|first| *first as usize >= HEADER_BYTES)
        && records.is_sorted_by(|a, b| a < b)
        && records.last().is_none_or(|last| *last < end);
    let damage = Vec::new();
    whole.then_some(Offsets { base, limit, records, end, damage })
}

/// Forgets what was kept of a segment.
pub(crate) fn remove(dir: &Path, base: u64) {
    let path = offsets_path(dir, base);
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(path = %path.display(), %error, "cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Offsets {
        Offsets::written(42, 45, vec![32, 64, 1000], 2000)
    }

    #[test]
    fn the_drawn_format_is_the_written_format() {
        let bytes = example().encode();
        assert_eq!(&bytes[..8], b"LSINDEX\n");
        assert_eq!(bytes[8..16], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..24], 42_u64.to_le_bytes());
        assert_eq!(bytes[24..32], 45_u64.to_le_bytes());
        assert_eq!(bytes[32..40], [0xd0, 7, 0, 0, 3, 0, 0, 0]);
        assert_eq!(bytes[40..52], [32, 0, 0, 0, 64, 0, 0, 0, 0xe8, 3, 0, 0]);
        assert_eq!(bytes.len(), 56);
        let found = decode(&bytes).unwrap();
        assert_eq!((found.base, found.limit, found.end), (42, 45, 2000));
        assert_eq!(found.records, [32, 64, 1000]);
    }

    #[test]
    fn whatever_bit_flips_it_is_not_believed() {
        let bytes = example().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_none(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_none(), "{length} bytes");
        }
    }

    #[test]
    fn records_that_do_not_follow_one_another_are_no_segments() {
        for (limit, records) in [
            (44, vec![32, 64, 1000]),
            (45, vec![64, 32, 1000]),
            (45, vec![32, 64, 2000]),
            (45, vec![0, 64, 1000]),
        ] {
            assert!(decode(&Offsets::written(42, limit, records, 2000).encode()).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            decode(&bytes);
        }
    }
}
