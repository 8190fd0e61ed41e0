//! The bytes of a segment and of a record, as `docs/formats.md` draws them. All integers are little-endian.

use crc32c::{crc32c, crc32c_append};

/// The largest `max_record_bytes` that can be configured: 256 MiB. It bounds what a segment read at start costs.
pub const MAX_RECORD_BYTES: u32 = 256 << 20;

/// The largest segment file, in bytes: one record of the largest size, and some room. Bytes behind are ignored.
pub const MAX_SEGMENT_BYTES: u64 = MAX_RECORD_BYTES as u64 + 4096;

/// Where the first record of a segment begins.
pub(crate) const HEADER_BYTES: usize = 32;

/// Bytes in front of a record's payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 24;

/// The payload length that says: not a record, but a mark, which has no payload.
pub(crate) const MARK: u32 = u32::MAX;

/// The format that this program writes, and the only one it reads.
pub(crate) const VERSION: u16 = 1;

/// Sequence numbers stay below this, so that adding a segment's worth to one never overflows.
pub(crate) const MAX_SEQ: u64 = 1 << 63;

const MAGIC: [u8; 8] = *b"LSJOURN\n";

/// A length rounded up to the records' alignment.
pub(crate) const fn padded(length: usize) -> usize {
    length.next_multiple_of(8)
}

/// The header of a segment whose first record is `base`.
pub(crate) fn segment_header(base: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&base.to_le_bytes());
    let crc = crc32c(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The format version in a segment's header, if the header is whole and names this base.
pub(crate) fn segment_version(bytes: &[u8], base: u64) -> Option<u16> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let sum = u32_at(header, 28)?;
    let whole = header[..8] == MAGIC && u64_at(header, 16)? == base && sum == crc32c(&header[..28]);
    whole.then(|| u16::from_le_bytes([header[8], header[9]]))
}

/// What stands in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// Payload bytes, or [`MARK`].
    pub(crate) length: u32,
    /// Over segment, position, the other fields and the payload.
    pub(crate) crc: u32,
    /// The record's number; a mark's is the number of the record that will follow it.
    pub(crate) seq: u64,
    /// The number of records known to be durable when this one was written.
    pub(crate) durable: u64,
}

impl RecordHeader {
    pub(crate) fn decode(bytes: &[u8]) -> Option<RecordHeader> {
        let header = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
        Some(RecordHeader {
            length: u32_at(header, 0)?,
            crc: u32_at(header, 4)?,
            seq: u64_at(header, 8)?,
            durable: u64_at(header, 16)?,
        })
    }

    pub(crate) fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.crc.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..].copy_from_slice(&self.durable.to_le_bytes());
        bytes
    }

    /// Payload bytes; none for a mark.
    pub(crate) fn payload_bytes(&self) -> usize {
        if self.is_mark() { 0 } else { self.length as usize }
    }

    pub(crate) fn is_mark(&self) -> bool {
        self.length == MARK
    }

    /// The checksum of everything in front of the payload; the payload's bytes are appended to it. It covers where
    /// the record stands, so that a copy of it elsewhere, be it inside another record's payload, is not valid.
    pub(crate) fn head_crc(&self, seed: Seed, offset: u64) -> u32 {
        let mut bytes = [0; 28];
        bytes[..8].copy_from_slice(&offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.seq.to_le_bytes());
        bytes[20..].copy_from_slice(&self.durable.to_le_bytes());
        crc32c_append(seed.0, &bytes)
    }
}

/// What ties a record's checksum to its segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(base: u64) -> Seed {
        Seed(crc32c(&base.to_le_bytes()))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawn_format_is_the_written_format() {
        let header = segment_header(7);
        assert_eq!(&header[..8], b"LSJOURN\n");
        assert_eq!(header[8..16], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(header[16..28], [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        // Both checksums were computed by another implementation, from the description.
        assert_eq!(header[28..], 0x1e5a_c251_u32.to_le_bytes());

        let mut record = RecordHeader { length: 3, crc: 0, seq: 9, durable: 8 };
        record.crc = crc32c_append(record.head_crc(Seed::new(7), 32), b"abc");
        assert_eq!(record.crc, 0xc59a_2fbd);
        assert_eq!(RecordHeader::decode(&record.encode()), Some(record));
    }

    #[test]
    fn unused_space_is_never_taken_for_a_record() {
        let zeros = RecordHeader { length: 0, crc: 0, seq: 0, durable: 0 };
        for offset in (0..4096).step_by(8) {
            assert_ne!(zeros.head_crc(Seed::new(0), offset), 0);
        }
    }
}
