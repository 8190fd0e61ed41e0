//! Finds the records in the bytes of one segment. Pure: bytes in, findings out, and no bytes make it panic.
//!
//! Records follow one another without a hole. Where that chain breaks, the search goes on at every multiple of 8 for
//! a record whose checksum holds and whose number is possible: not below the one expected, and not so far above it
//! that the records between could not have stood in the bytes between. What the breaks mean, torn tail or damage, is
//! for [`crate::recover`] to say, who knows the other segments.

use std::ops::RangeInclusive;

use crc32c::{crc32c_append, crc32c_combine};

use crate::Seq;
use crate::format::{
    HEADER_BYTES, MAX_SEQ, RECORD_HEADER_BYTES, RecordHeader, Seed, VERSION, padded,
    segment_version,
};

/// The state of a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderState {
    /// Whole, and of the version that this program reads.
    Valid,
    /// Not what is written for this base.
    Damaged,
    /// Whole, but of a version that this program does not know.
    Unknown(u16),
}

/// Bytes between valid records that are no valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where it begins in the segment, in bytes.
    pub offset: u32,
    /// The first record that is missing.
    pub first: u64,
    /// One past the last record that is missing; equal to `first` if none is.
    pub last: u64,
}

/// What one segment holds.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The state of the segment's header.
    pub header: HeaderState,
    /// The number of the segment's first record.
    pub base: u64,
    /// Where each record begins in the segment, in bytes, from the base on; 0 for those in a gap.
    pub records: Vec<u32>,
    /// The gaps between valid records, in order.
    pub gaps: Vec<Gap>,
    /// Where the valid records end, in bytes.
    pub end: u32,
    /// Where the last byte that is not zero ends. Beyond `end` if something invalid follows the valid records.
    pub content_end: u32,
    /// The highest number of records that anything here proves to have been durable; at least the base.
    pub proven: u64,
    /// Whether the last valid thing is a mark.
    pub marked: bool,
}

impl Scan {
    /// The number after the last valid record.
    pub fn next(&self) -> u64 {
        self.base + self.records.len() as u64
    }

    /// Whether something other than unused space follows the valid records.
    pub fn tail_is_bad(&self) -> bool {
        self.content_end > self.end
    }

    /// Whether nothing here shows that this is the segment it should be.
    pub fn is_unrecognisable(&self) -> bool {
        self.header == HeaderState::Damaged && self.end as usize == HEADER_BYTES
    }

    fn take(&mut self, offset: usize, item: Item) {
        self.records.resize((item.seq - self.base) as usize, 0);
        if !item.is_mark {
            self.records.push(offset as u32);
        }
        self.marked = item.is_mark;
        self.proven = self.proven.max(item.durable);
        self.end = item.end as u32;
    }
}

/// Finds the records of the segment that begins with record `base`. Of segments over
/// [`crate::MAX_SEGMENT_BYTES`], only that many bytes are looked at.
pub fn scan(bytes: &[u8], base: Seq) -> Scan {
    let bytes = &bytes[..bytes.len().min(crate::MAX_SEGMENT_BYTES as usize)];
    let base = base.0.min(MAX_SEQ);
    let mut found = Scan {
        header: match segment_version(bytes, base) {
            Some(VERSION) => HeaderState::Valid,
            Some(other) => HeaderState::Unknown(other),
            None => HeaderState::Damaged,
        },
        base,
        records: Vec::new(),
        gaps: Vec::new(),
        end: HEADER_BYTES as u32,
        content_end: content_end(bytes) as u32,
        proven: base,
        marked: false,
    };
    let mut segment = Segment { bytes, seed: Seed::new(base), sums: None };
    while found.tail_is_bad() {
        let (at, next) = (found.end as usize, found.next());
        if let Some(item) = segment.item_at(at, next..=next) {
            found.take(at, item);
        } else if let Some((offset, item)) =
            segment.resynchronise(at, next, found.content_end as usize)
        {
            found.gaps.push(Gap { offset: at as u32, first: next, last: item.seq });
            found.take(offset, item);
        } else {
            break;
        }
    }
    found
}

/// A valid record or mark.
struct Item {
    seq: u64,
    durable: u64,
    is_mark: bool,
    end: usize,
}

struct Segment<'a> {
    bytes: &'a [u8],
    seed: Seed,
    /// Made when a search first needs it.
    sums: Option<Sums>,
}

impl Segment<'_> {
    /// The record at this place, if it is valid and its number is one of these.
    fn item_at(&mut self, at: usize, seqs: RangeInclusive<u64>) -> Option<Item> {
        let header = RecordHeader::decode(self.bytes.get(at..)?)?;
        let possible =
            seqs.contains(&header.seq) && header.seq < MAX_SEQ && header.durable <= header.seq;
        if !possible || (header.is_mark() && header.durable != header.seq) {
            return None;
        }
        let start = at + RECORD_HEADER_BYTES;
        let payload_end = start.checked_add(header.payload_bytes())?;
        let padding = self.bytes.get(payload_end..padded(payload_end))?;
        if padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        let head = header.head_crc(self.seed, at as u64);
        let crc = match &self.sums {
            Some(sums) => sums.append(head, self.bytes, start, payload_end),
            None => crc32c_append(head, &self.bytes[start..payload_end]),
        };
        (crc == header.crc).then(|| Item {
            seq: header.seq,
            durable: header.durable,
            is_mark: header.is_mark(),
            end: padded(payload_end),
        })
    }

    /// The first valid record behind a place where the chain broke.
    fn resynchronise(
        &mut self,
        broken: usize,
        next: u64,
        content_end: usize,
    ) -> Option<(usize, Item)> {
        self.sums.get_or_insert_with(|| Sums::new(self.bytes, broken));
        for at in (broken + 8..content_end).step_by(8) {
            let room_for = (at - broken) / RECORD_HEADER_BYTES;
            if let Some(item) = self.item_at(at, next..=next + room_for as u64) {
                return Some((at, item));
            }
        }
        None
    }
}

/// Checksums of all prefixes of a segment's rest, from which that of any part follows without reading it again.
/// Without them, a payload full of would-be record headers could make the search read the segment a million times.
struct Sums {
    start: usize,
    /// The checksum of the bytes from `start` up to each multiple of 8.
    prefixes: Vec<u32>,
}

impl Sums {
    /// Payloads up to this size are cheaper to read than to compute.
    const READ_UP_TO: usize = 16 << 10;

    fn new(bytes: &[u8], start: usize) -> Sums {
        let mut sum = 0;
        let mut prefixes = vec![0];
        for word in bytes[start..].chunks_exact(8) {
            sum = crc32c_append(sum, word);
            prefixes.push(sum);
        }
        Sums { start, prefixes }
    }

    /// The checksum `crc` continued over a part of the segment that begins at a multiple of 8.
    fn append(&self, crc: u32, bytes: &[u8], from: usize, to: usize) -> u32 {
        let whole = to - to % 8;
        if from < self.start || to - from <= Self::READ_UP_TO {
            return crc32c_append(crc, &bytes[from..to]);
        }
        let before = self.prefixes[(from - self.start) / 8];
        let until = self.prefixes[(whole - self.start) / 8];
        let part = until ^ crc32c_combine(before, 0, whole - from);
        crc32c_append(crc32c_combine(crc, part, whole - from), &bytes[whole..to])
    }
}

/// Where the last byte that is not zero ends.
fn content_end(bytes: &[u8]) -> usize {
    let block_end = bytes
        .rchunks(4096)
        .take_while(|block| block.iter().all(|byte| *byte == 0))
        .map(<[u8]>::len);
    let end = bytes.len() - block_end.sum::<usize>();
    bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::{MARK, segment_header};

    fn push(bytes: &mut Vec<u8>, base: u64, seq: u64, durable: u64, payload: Option<&[u8]>) {
        let length = payload.map_or(MARK, |payload| payload.len() as u32);
        let payload = payload.unwrap_or_default();
        let mut header = RecordHeader { length, crc: 0, seq, durable };
        header.crc = crc32c_append(header.head_crc(Seed::new(base), bytes.len() as u64), payload);
        bytes.extend(header.encode());
        bytes.extend(payload);
        bytes.resize(padded(bytes.len()), 0);
    }

    fn segment(base: u64, payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = segment_header(base).to_vec();
        for (index, payload) in payloads.iter().enumerate() {
            push(&mut bytes, base, base + index as u64, base, Some(payload));
        }
        bytes
    }

    #[test]
    fn a_large_record_behind_damage_is_found_without_reading_it_for_every_candidate() {
        let large = (0..100_003_u32).map(|n| (n * 7) as u8).collect::<Vec<_>>();
        let mut bytes = segment(5, &[b"first", &large, &large[1..], b"last"]);
        bytes[40] ^= 1;
        let found = scan(&bytes, Seq(5));
        assert_eq!(found.gaps, [Gap { offset: 32, first: 5, last: 6 }]);
        assert_eq!(found.next(), 9);
        assert_eq!(found.end as usize, bytes.len());
        bytes[1000] ^= 1;
        assert_eq!(scan(&bytes, Seq(5)).gaps, [Gap { offset: 32, first: 5, last: 7 }]);
    }

    #[test]
    fn a_payload_that_holds_a_journal_is_not_taken_for_records() {
        let inner = segment(0, &[b"one", b"two", b"three"]);
        let mut bytes = segment(0, &[&inner, b"genuine"]);
        bytes[60] ^= 1;
        let found = scan(&bytes, Seq(0));
        assert_eq!(found.gaps, [Gap { offset: 32, first: 0, last: 1 }]);
        assert_eq!(found.next(), 2);
    }

    #[test]
    fn a_forged_number_cannot_carry_the_journal_far_ahead() {
        let mut bytes = segment(0, &[b"one"]);
        bytes[40] ^= 1;
        push(&mut bytes, 0, MAX_SEQ - 1, MAX_SEQ - 1, Some(b"forged"));
        let found = scan(&bytes, Seq(0));
        assert!(found.tail_is_bad());
        assert_eq!((found.next(), found.proven), (0, 0));
    }

    #[test]
    fn a_number_is_believed_only_if_the_records_before_it_had_room() {
        for (seq, believed) in [(1, true), (2, false), (50, false)] {
            let mut bytes = segment(0, &[b"one"]);
            bytes[40] ^= 1;
            push(&mut bytes, 0, seq, 0, Some(b"behind"));
            assert_eq!(scan(&bytes, Seq(0)).gaps.len(), usize::from(believed), "{seq}");
        }
        let mut bytes = segment(0, &[b"one"]);
        push(&mut bytes, 0, 2, 0, Some(b"skips a number"));
        let found = scan(&bytes, Seq(0));
        assert_eq!((found.next(), found.tail_is_bad()), (1, true));
    }

    #[test]
    fn a_mark_proves_the_last_record() {
        let mut bytes = segment(3, &[b"one", b"two"]);
        push(&mut bytes, 3, 5, 5, None);
        let found = scan(&bytes, Seq(3));
        assert_eq!((found.next(), found.proven, found.marked), (5, 5, true));
        bytes[60 + 24] ^= 1;
        assert_eq!(scan(&bytes, Seq(3)).gaps, [Gap { offset: 64, first: 4, last: 5 }]);
    }

    #[test]
    fn a_newer_format_is_recognised() {
        let mut bytes = segment_header(1);
        bytes[8] = 9;
        let crc = crc32c::crc32c(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(scan(&bytes, Seq(1)).header, HeaderState::Unknown(9));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_scan_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), base: u64) {
            scan(&bytes, Seq(base));
        }

        #[test]
        fn whatever_is_overwritten_the_scan_stays_in_bounds(
            writes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
            cut: prop::sample::Index,
        ) {
            let mut bytes = segment(7, &[b"a", b"", &[1; 40], b"eightbyt", &[0; 64], b"end"]);
            for (at, byte) in writes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let found = scan(&bytes, Seq(7));
            prop_assert!(found.end as usize <= bytes.len().max(HEADER_BYTES));
            prop_assert!(found.proven <= found.next());
            prop_assert!(found.records.iter().all(|offset| *offset < found.end));
        }
    }
}
