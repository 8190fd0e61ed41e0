//! Putting records back that were damaged, from whoever else has them.

use std::io::IoSlice;

use crc32c::crc32c_append;

use crate::active::Active;
use crate::files::{Replacement, segment_path};
use crate::format::{
    HEADER_BYTES, MAX_SEGMENT_BYTES, RECORD_HEADER_BYTES, RecordHeader, Seed, padded,
    segment_header,
};
use crate::sealed::Offsets;
use crate::{Error, Journal, Seq};

impl Journal {
    /// Writes a sealed segment that holds exactly `records`, numbered from `first` on, in place of whatever of them
    /// is there. Durable when this returns; a crash before leaves what was there.
    ///
    /// `first` must be where a segment begins, or the first record that is missing behind one. What a segment holds
    /// behind `records` must be put back as well, last part first, or it is lost: a segment has no hole.
    ///
    /// A segment that is still being written is ended first.
    ///
    /// # Errors
    /// [`Error::Conflict`] if one of the records can be read and is another one, or if the place is not one where a
    /// segment may begin. [`Error::NotDurable`] if the records reach beyond the durable end. [`Error::TooLarge`] if
    /// they do not fit into a segment. [`Error::Full`] leaves everything as it was. After [`Error::Io`] the journal
    /// is poisoned.
    pub fn restore(&mut self, first: Seq, records: &[Vec<u8>]) -> Result<(), Error> {
        self.check_usable()?;
        let last = Seq(first.0.saturating_add(records.len() as u64));
        if records.is_empty() || last > self.durable() {
            return Err(Error::NotDurable { seq: last, durable: self.durable() });
        }
        self.check_restorable(first, records)?;
        if self.active().is_some_and(|active| active.base() < last.0) {
            self.end_active()?;
        }
        let result = self.write_restored(first.0, records);
        self.judge(result)
    }

    fn check_restorable(&self, first: Seq, records: &[Vec<u8>]) -> Result<(), Error> {
        let reader = self.reader();
        let conflict = |seq| Error::Conflict { segment: segment_path(self.dir(), first.0), seq };
        for (seq, record) in (first.0..).map(Seq).zip(records) {
            match reader.read(seq) {
                Ok(readable) if readable != *record => return Err(conflict(seq)),
                Err(error @ (Error::Io { .. } | Error::Version { .. })) => return Err(error),
                _ => {}
            }
        }
        // In front of a segment that is made in another one's place, nothing may be left that can be read behind it.
        let begins = reader.segments().iter().any(|extent| extent.first == first);
        let behind = first.0.checked_sub(1).map(Seq).filter(|before| *before >= reader.first_seq());
        let within = behind.is_some() && reader.read(first).is_ok();
        if !begins && within { Err(conflict(first)) } else { Ok(()) }
    }

    fn write_restored(&mut self, first: u64, records: &[Vec<u8>]) -> Result<(), Error> {
        let (seed, header) = (Seed::new(first), segment_header(first));
        let (mut offsets, mut end) = (Vec::with_capacity(records.len()), HEADER_BYTES as u64);
        let mut replacement = Replacement::begin(self.dir(), first)?;
        replacement.write(&mut [IoSlice::new(&header)])?;
        for (seq, record) in (first..).zip(records) {
            offsets.push(end as u32);
            let mut head =
                RecordHeader { length: record.len() as u32, crc: 0, seq, durable: first };
            head.crc = crc32c_append(head.head_crc(seed, end), record);
            let padding = &[0; 8][..padded(record.len()) - record.len()];
            let head = head.encode();
            end += (RECORD_HEADER_BYTES + padded(record.len())) as u64;
            if end > MAX_SEGMENT_BYTES {
                return Err(Error::TooLarge { length: end, limit: MAX_SEGMENT_BYTES });
            }
            replacement.write(&mut [
                IoSlice::new(&head),
                IoSlice::new(record),
                IoSlice::new(padding),
            ])?;
        }
        let replaced = replacement.finish()?;
        let limit = first + records.len() as u64;
        self.restored(first, replaced, end);
        Offsets::written(first, limit, offsets, end as u32).keep(self.dir());
        Ok(())
    }

    /// Ends the segment that is being written, so that it can be replaced like others.
    fn end_active(&mut self) -> Result<(), Error> {
        if self.active().map(Active::base) == Some(self.next_seq().0) {
            return Ok(());
        }
        let begun = self.begin_empty_segment();
        self.judge(begun)
    }
}
