//! Sealed batches: consecutive records of one agent, compressed, and the seal behind them.
//!
//! ```text
//! u8 version = 1 | u8 length, agent name | u64 start | u32 count | u32 raw length
//! | u32 length, zstd frame | u64 seal time | 32 root | 64 signature      (big-endian)
//! ```
//! Decompressed, the records are a C2SP entry bundle: a 16-bit length and the
//! bytes of each. [`SealedBatch::open`] is the one way to a [`VerifiedBatch`].

mod build;

pub use build::{BatchBuilder, Sealed};

use crate::{
    bytes::{Malformed, Reader, put_counted8, put_counted32},
    checkpoint::Origin,
    crypto::{PublicKey, Signature, sha256},
    entry::is_record_of,
    merkle::{EntryIndex, Frontier, Hash, TreeSize, leaf_hash},
    name::AgentName,
    seal::{Seal, SealEntry},
    time::UnixSeconds,
};
use std::ops::Range;

/// The most records of a batch.
pub const MAX_BATCH_RECORDS: u32 = 16_384;
/// The most bytes of a batch's entry bundle before compression.
pub const MAX_BATCH_BYTES: u32 = 4 << 20;
/// The most bytes of an encoded batch: what zstd makes of incompressible records, and the frame.
pub const MAX_ENCODED_BATCH: usize =
    MAX_BATCH_BYTES as usize + (MAX_BATCH_BYTES as usize >> 8) + 1024;

const VERSION: u8 = 1;

/// Compression level: higher ones cost twice as much for a worse ratio on access logs.
const ZSTD_LEVEL: i32 = 1;

/// A batch as it travels and as it is kept. Nothing in it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    /// Whose log the records are in.
    pub agent: AgentName,
    /// The index of the first record in that log.
    pub start: EntryIndex,
    /// The number of records; 0 for a heartbeat.
    pub count: u32,
    /// Bytes of the entry bundle before compression.
    pub raw_len: u32,
    /// The entry bundle as one zstd frame; empty for a heartbeat.
    pub compressed: Vec<u8>,
    /// The seal of the log after these records.
    pub seal: Seal,
}

/// A batch is refused. Its agent (or whoever pretends to be it) is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Too short or too long.
    #[error("the batch {0}")]
    Malformed(#[from] Malformed),
    /// A version this program does not know.
    #[error("version {0} of batches is unknown")]
    Version(u8),
    /// The agent's name.
    #[error("the batch names no valid agent")]
    Name,
    /// More records or bytes than allowed.
    #[error(
        "the batch has {records} records in {bytes} bytes; allowed are {MAX_BATCH_RECORDS} in {MAX_BATCH_BYTES}"
    )]
    Limits {
        /// Records it claims.
        records: u32,
        /// Bytes it claims.
        bytes: u32,
    },
    /// It does not begin where the agent's log ends.
    #[error("the batch begins at record {found}, but the next record of this agent is {expected}")]
    Start {
        /// The agent's next index.
        expected: u64,
        /// Where the batch begins.
        found: u64,
    },
    /// The seal is for another size than the batch leads to.
    #[error("the seal is for {sealed} records, but the batch ends at {end}")]
    Size {
        /// Size in the seal.
        sealed: u64,
        /// Where the batch ends.
        end: u64,
    },
    /// The zstd frame, or the bundle in it.
    #[error("the batch's records cannot be unpacked")]
    Records,
    /// An entry that is not the record it should be.
    #[error("entry {0} of the batch is not the record of this agent with this number")]
    Record(u64),
    /// The seal's root is not that of the log with these records.
    #[error("the seal's root is not the root of these records")]
    Root,
    /// The seal's time is before the previous seal's.
    #[error("the seal's time {found} is before the previous seal's, {previous}")]
    Time {
        /// The previous seal's time.
        previous: UnixSeconds,
        /// This seal's time.
        found: UnixSeconds,
    },
    /// A heartbeat that is not newer than the seal before it: it may be that very one.
    #[error("the heartbeat is not newer than the previous seal, of {0}")]
    Repeated(UnixSeconds),
    /// The seal is not by the agent's enrolled key.
    #[error("the seal is not signed by the enrolled key of this agent")]
    Signature,
}

/// What a log must be for the next batch to fit.
#[derive(Clone, Debug)]
pub struct LogState {
    /// The enrolled key.
    pub key: PublicKey,
    /// The log so far.
    pub frontier: Frontier,
    /// The time of the newest seal.
    pub sealed: UnixSeconds,
}

/// A batch that fits its agent's log, its seal checked. Made by [`SealedBatch::open`] only.
#[derive(Clone, Debug)]
pub struct VerifiedBatch {
    batch: SealedBatch,
    key: PublicKey,
    leaves: Vec<Hash>,
    after: Frontier,
}

impl VerifiedBatch {
    /// The key that sealed it.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// The batch.
    pub fn batch(&self) -> &SealedBatch {
        &self.batch
    }

    /// The leaf hashes of its records, in order; the same in the agent's tree and in the ledger's.
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// The agent's log after the batch.
    pub fn after(&self) -> &Frontier {
        &self.after
    }

    /// What the agent's next batch must fit.
    pub fn log_state(&self) -> LogState {
        LogState { key: self.key, frontier: self.after.clone(), sealed: self.batch.seal.time }
    }
}

impl SealedBatch {
    /// The index behind the last record; `None` if it does not exist.
    pub fn end(&self) -> Option<TreeSize> {
        self.start.0.checked_add(self.count.into()).map(TreeSize)
    }

    /// The seal as a ledger entry.
    pub fn seal_entry(&self) -> SealEntry {
        SealEntry { agent: self.agent.clone(), start: self.start, seal: self.seal }
    }

    /// The binary form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.compressed.len() + 256);
        out.push(VERSION);
        put_counted8(&mut out, self.agent.as_str().as_bytes());
        out.extend_from_slice(&self.start.0.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.raw_len.to_be_bytes());
        put_counted32(&mut out, &self.compressed);
        out.extend_from_slice(&self.seal.time.0.to_be_bytes());
        out.extend_from_slice(&self.seal.root.0);
        out.extend_from_slice(&self.seal.signature.0);
        out
    }

    /// Parses the binary form and checks it against the limits. Nothing else is verified.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(BatchError::Version(other)),
        }
        let name = std::str::from_utf8(reader.counted8()?).map_err(|_| BatchError::Name)?;
        let agent = name.parse().map_err(|_| BatchError::Name)?;
        let (start, count, raw_len) = (reader.u64()?, reader.u32()?, reader.u32()?);
        let compressed = reader.counted32()?.to_vec();
        let time = UnixSeconds(reader.u64()?);
        let (root, signature) = (Hash(reader.array()?), Signature(reader.array()?));
        reader.finish()?;
        if count > MAX_BATCH_RECORDS || raw_len > MAX_BATCH_BYTES {
            return Err(BatchError::Limits { records: count, bytes: raw_len });
        }
        let size = TreeSize(start.checked_add(count.into()).ok_or(BatchError::Records)?);
        let seal = Seal { size, root, time, signature };
        Ok(SealedBatch { agent, start: EntryIndex(start), count, raw_len, compressed, seal })
    }

    /// The digest that names this batch: SHA-256 of its binary form.
    pub fn digest(encoded: &[u8]) -> Hash {
        Hash(sha256(&[encoded]))
    }

    /// Checks the batch against its agent's log: place, size, every record, root, time, signature.
    /// `scratch` holds the unpacked records afterwards.
    pub fn open(
        self,
        ledger: &Origin,
        state: &LogState,
        codec: &mut Codec,
        scratch: &mut Vec<u8>,
    ) -> Result<VerifiedBatch, BatchError> {
        let expected = state.frontier.size().0;
        if self.start.0 != expected {
            return Err(BatchError::Start { expected, found: self.start.0 });
        }
        if self.seal.time < state.sealed {
            return Err(BatchError::Time { previous: state.sealed, found: self.seal.time });
        }
        // A heartbeat leaves the log as it is: only its time keeps it from being taken twice.
        if self.count == 0 && self.seal.time == state.sealed {
            return Err(BatchError::Repeated(state.sealed));
        }
        let (leaves, after) = self.follow(&state.frontier, codec, scratch)?;
        if !self.seal.verifies(&state.key, ledger, &self.agent) {
            return Err(BatchError::Signature);
        }
        Ok(VerifiedBatch { batch: self, key: state.key, leaves, after })
    }

    /// Checks the records against the agent's log `before` them: every record, size and root, but not the seal's time
    /// and signature. Gives back their leaf hashes and the log after them.
    pub fn follow(
        &self,
        before: &Frontier,
        codec: &mut Codec,
        scratch: &mut Vec<u8>,
    ) -> Result<(Vec<Hash>, Frontier), BatchError> {
        let mut after = before.clone();
        let mut leaves = Vec::with_capacity(self.count as usize);
        for (n, range) in (self.start.0..).zip(codec.unpack(self, scratch)?) {
            let entry = &scratch[range];
            if !is_record_of(entry, &self.agent, n) {
                return Err(BatchError::Record(n));
            }
            let leaf = leaf_hash(entry);
            after.push(leaf);
            leaves.push(leaf);
        }
        if after.size() != self.seal.size {
            return Err(BatchError::Size { sealed: self.seal.size.0, end: after.size().0 });
        }
        if after.root() != self.seal.root {
            return Err(BatchError::Root);
        }
        Ok((leaves, after))
    }
}

/// A reusable compressor and decompressor; a few MiB once used.
#[derive(Default)]
pub struct Codec {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
}

impl Codec {
    /// Compresses an entry bundle into one zstd frame; nothing becomes nothing.
    ///
    /// # Panics
    /// If memory for the compressor cannot be had.
    pub fn pack(&mut self, bundle: &[u8]) -> Vec<u8> {
        if bundle.is_empty() {
            return vec![];
        }
        let compressor = self.compressor.get_or_insert_with(|| {
            zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("level 1 exists")
        });
        compressor.compress(bundle).expect("the output is as large as it may need to be")
    }

    /// Unpacks a batch's records into `scratch` and says where each one lies.
    pub fn unpack(
        &mut self,
        batch: &SealedBatch,
        scratch: &mut Vec<u8>,
    ) -> Result<Vec<Range<usize>>, BatchError> {
        scratch.clear();
        let raw_len = batch.raw_len.min(MAX_BATCH_BYTES) as usize;
        if raw_len > 0 {
            let decompressor = match &mut self.decompressor {
                Some(decompressor) => decompressor,
                empty => {
                    empty.insert(zstd::bulk::Decompressor::new().map_err(|_| BatchError::Records)?)
                }
            };
            scratch.reserve(raw_len);
            decompressor
                .decompress_to_buffer(&batch.compressed, scratch)
                .map_err(|_| BatchError::Records)?;
        } else if !batch.compressed.is_empty() {
            return Err(BatchError::Records);
        }
        if scratch.len() != batch.raw_len as usize {
            return Err(BatchError::Records);
        }
        let ranges = split_bundle(scratch, batch.count)?;
        Ok(ranges)
    }
}

/// Where each of the `count` entries of a bundle lies.
fn split_bundle(bundle: &[u8], count: u32) -> Result<Vec<Range<usize>>, BatchError> {
    let mut ranges = Vec::with_capacity(count.min(MAX_BATCH_RECORDS) as usize);
    let mut at = 0;
    while at < bundle.len() {
        let len = bundle[at..].first_chunk().ok_or(BatchError::Records)?;
        let range = at + 2..at + 2 + usize::from(u16::from_be_bytes(*len));
        if range.end > bundle.len() || ranges.len() == count as usize {
            return Err(BatchError::Records);
        }
        at = range.end;
        ranges.push(range);
    }
    if ranges.len() == count as usize { Ok(ranges) } else { Err(BatchError::Records) }
}

#[cfg(test)]
mod tests;
