//! A whole segment in memory, for those who check or copy everything.

use std::path::Path;

use crate::error::Damage;
use crate::format::{RECORD_HEADER_BYTES, RecordHeader, padded};
use crate::recover::{judge_sealed, read_and_scan};
use crate::{Error, Seq};

/// Which records a segment should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first record.
    pub first: Seq,
    /// One past the last record.
    pub last: Seq,
    /// False for the segment that is being written.
    pub is_sealed: bool,
}

/// A segment that was read as a whole.
#[derive(Debug)]
pub struct Segment {
    extent: Extent,
    bytes: Vec<u8>,
    records: Vec<u32>,
    damage: Vec<Damage>,
}

impl Segment {
    pub(crate) fn load(dir: &Path, extent: Extent) -> Result<Segment, Error> {
        let (mut found, bytes) = read_and_scan(dir, extent.first.0)?;
        let mut damage = judge_sealed(dir, &mut found, extent.last.0);
        if !extent.is_sealed {
            // What stands behind the durable end is being written.
            damage.retain(|damage| damage.first_seq < extent.last);
        }
        Ok(Segment { extent, bytes, records: found.records, damage })
    }

    /// The segment whose file does not exist.
    pub(crate) fn gone(extent: Extent, damage: Damage) -> Segment {
        Segment { extent, bytes: Vec::new(), records: Vec::new(), damage: vec![damage] }
    }

    /// Which records it should hold.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// The size of its file, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// All bytes of its file, as they were read.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.bytes
    }

    /// Its bytes up to the end of the last record in front of `end`: a segment that holds exactly these. `None` if one
    /// of them cannot be read, or if it has none of them.
    #[must_use]
    pub fn up_to(&self, end: Seq) -> Option<&[u8]> {
        let count = end.min(self.extent.last).0.checked_sub(self.extent.first.0)?;
        let records = self.records.get(..count as usize)?;
        let last = records.last().filter(|_| records.iter().all(|offset| *offset != 0))?;
        let bytes = RECORD_HEADER_BYTES + padded(self.payload(*last)?.len());
        self.bytes.get(..*last as usize + bytes)
    }

    /// What is damaged, in order.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Every record it should hold, in order: its payload, or nothing if it is damaged or missing.
    pub fn records(&self) -> impl Iterator<Item = (Seq, Option<&[u8]>)> {
        let count = (self.extent.last.0 - self.extent.first.0) as usize;
        (0..count).map(|index| {
            let offset = self.records.get(index).filter(|offset| **offset != 0);
            (Seq(self.extent.first.0 + index as u64), offset.and_then(|at| self.payload(*at)))
        })
    }

    fn payload(&self, offset: u32) -> Option<&[u8]> {
        let rest = self.bytes.get(offset as usize..)?;
        let header = RecordHeader::decode(rest)?;
        rest.get(RECORD_HEADER_BYTES..)?.get(..header.payload_bytes())
    }
}
