//! The index: where blocks and batches are, and the state after the newest block.
//!
//! One sled tree, one atomic write a block. It is never the only copy of
//! anything; whoever doubts it deletes it.

mod keys;

use super::StoreError;
use keys::{
    AGENT, CONVICTED, Newest, STATE, agent_key, batch_key, block_key, conviction_key,
    decode_batch_key, decode_conviction, decode_log, decode_place, decode_state, encode_log,
    encode_place, enrolment_key, kept_key, positions,
};
use record::{AgentName, Hash, UnixSeconds, batch::SealedBatch, block::Height, merkle::EntryIndex};
use replica::{Base, BlockHeader, Executed, LedgerState, Placed, entries::Places};
use std::{
    fs::File,
    ops::{Deref, Range},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

/// Page cache; the tree is small and mostly appended to.
const CACHE_BYTES: u64 = 16 << 20;

/// What tells one batch from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchKey {
    /// Whose batch.
    pub agent: AgentName,
    /// Its first record.
    pub start: EntryIndex,
    /// Its number of records; 0 for a heartbeat.
    pub count: u32,
    /// The time of its seal.
    pub sealed: UnixSeconds,
}

impl BatchKey {
    /// The key of a batch as it was sealed.
    pub fn of(batch: &SealedBatch) -> Self {
        BatchKey {
            agent: batch.agent.clone(),
            start: batch.start,
            count: batch.count,
            sealed: batch.seal.time,
        }
    }

    /// A batch that stands there.
    pub fn placed(self, place: &BatchPlace) -> Placed {
        let (first, digest) = (place.first, place.digest);
        let BatchKey { agent, start, count, sealed } = self;
        Placed { agent, start, count, digest, sealed, first }
    }

    /// The key of a batch that came to stand in a block.
    pub fn of_placed(placed: &Placed) -> Self {
        BatchKey {
            agent: placed.agent.clone(),
            start: placed.start,
            count: placed.count,
            sealed: placed.sealed,
        }
    }
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    /// The block it is in.
    pub height: Height,
    /// Its place among the block's batches.
    pub nth: u32,
    /// The ledger index of its first record, or of its seal if it has none.
    pub first: EntryIndex,
    /// Its digest.
    pub digest: Hash,
}

impl BatchPlace {
    /// Where a batch of a block that was just executed stands.
    pub(crate) fn of(executed: &Executed, placed: &Placed) -> Self {
        let nth = executed.placed.iter().position(|other| other == placed).unwrap_or_default();
        BatchPlace {
            height: executed.block.header.height,
            nth: nth as u32,
            first: placed.first,
            digest: placed.digest,
        }
    }
}

/// The index.
#[derive(Clone)]
pub struct Index {
    db: Handle,
    path: PathBuf,
}

/// sled syncs its file when the last handle goes, and panics if the disk refuses that. Nothing depends on it: what
/// the index lost the next start makes again.
#[derive(Clone)]
struct Handle(Option<sled::Db>);

impl Deref for Handle {
    type Target = sled::Db;

    fn deref(&self) -> &sled::Db {
        self.0.as_ref().expect("only a drop takes it out")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let db = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            tracing::error!(
                "the index was closed and could not be synced: the next start looks whether it is whole"
            );
        }
    }
}

impl Index {
    /// Opens the index in `path`. A damaged one may make sled panic; that counts as an error too.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .mode(sled::Mode::LowSpace);
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let db = opened.unwrap_or_else(|_| {
            Err(sled::Error::Unsupported("sled panicked while it read its files".into()))
        });
        let db = db.map_err(StoreError::index(path))?;
        Ok(Index { db: Handle(Some(db)), path: path.to_owned() })
    }

    /// The state after the newest block it knows; `None` if it is empty, of another version or
    /// unreadable.
    pub fn state(&self) -> Option<LedgerState> {
        let bytes = self.db.get(STATE).ok()??;
        let mut state = decode_state(&bytes)?;
        for item in self.db.scan_prefix([AGENT]) {
            let (key, value) = item.ok()?;
            let name = std::str::from_utf8(&key[1..]).ok()?.parse().ok()?;
            state.agents.insert(name, decode_log(&value)?);
        }
        for item in self.db.scan_prefix([CONVICTED]) {
            state.convicted.insert(decode_conviction(&item.ok()?.0)?);
        }
        Some(state)
    }

    /// Adds a block that was executed on top of `before`.
    pub fn record(&self, executed: &Executed, before: &LedgerState) -> Result<(), StoreError> {
        let header = &executed.block.header;
        let mut write = sled::Batch::default();
        let newest = Newest {
            height: header.height,
            id: header.id(),
            time: header.time,
            tree: &executed.after,
            declared: executed.declared_at.unwrap_or(before.declared),
            pruned: executed.pruned.as_ref().or(before.pruned.as_ref()),
        };
        write.insert(STATE, newest.encode());
        for (name, log) in &executed.agents {
            write.insert(agent_key(name), encode_log(log));
        }
        for conviction in &executed.convicted {
            write.insert(conviction_key(conviction), &[]);
        }
        let places = Places {
            enrolled: executed.enrolled.clone(),
            placed: executed.placed.clone(),
            kept: executed.kept.clone(),
        };
        for (key, value) in positions(header, &places) {
            write.insert(key, value);
        }
        self.db.apply_batch(write).map_err(self.failed())
    }

    /// Adds where a block's bodies stand, but not that it is the newest. Repeating it changes nothing.
    /// Answers how many of these places it did not know, or knew otherwise.
    pub fn note(&self, header: &BlockHeader, places: &Places) -> Result<u64, StoreError> {
        let mut mended = 0;
        for (key, value) in positions(header, places) {
            let before = self.db.insert(key, value.as_slice()).map_err(self.failed())?;
            mended += u64::from(before.is_none_or(|before| before != value));
        }
        Ok(mended)
    }

    /// How many of the places of a block's bodies it does not know, or knows otherwise.
    pub fn unknown(&self, header: &BlockHeader, places: &Places) -> Result<u64, StoreError> {
        let mut unknown = 0;
        for (key, value) in positions(header, places) {
            unknown += u64::from(
                self.db.get(key).map_err(self.failed())?.is_none_or(|known| known != value),
            );
        }
        Ok(unknown)
    }

    /// Says that this is the state after the newest block that was noted.
    pub fn set_state(&self, state: &LedgerState) -> Result<(), StoreError> {
        for (name, log) in &state.agents {
            self.db.insert(agent_key(name), encode_log(log)).map_err(self.failed())?;
        }
        for conviction in &state.convicted {
            self.db.insert(conviction_key(conviction), &[]).map_err(self.failed())?;
        }
        self.db.insert(STATE, Newest::of(state).encode()).map_err(self.failed())?;
        self.flush()
    }

    /// Where this batch is, if it is in the ledger.
    pub fn batch(&self, key: &BatchKey) -> Result<Option<BatchPlace>, StoreError> {
        let value = self.db.get(batch_key(key)).map_err(self.failed())?;
        Ok(value.and_then(|value| decode_place(&value)))
    }

    /// The batch that record `n` of `agent` is in, if it is in the ledger.
    pub fn batch_of(
        &self,
        agent: &AgentName,
        n: EntryIndex,
    ) -> Result<Option<(BatchKey, BatchPlace)>, StoreError> {
        let most = BatchKey {
            agent: agent.clone(),
            start: n,
            count: u32::MAX,
            sealed: UnixSeconds(u64::MAX),
        };
        let least =
            BatchKey { start: EntryIndex(0), count: 0, sealed: UnixSeconds(0), ..most.clone() };
        let Some(found) = self.db.range(batch_key(&least)..=batch_key(&most)).next_back() else {
            return Ok(None);
        };
        let (key, value) = found.map_err(self.failed())?;
        let place = decode_place(&value).zip(decode_batch_key(agent, &key));
        Ok(place.filter(|(_, key)| n.0 - key.start.0 < key.count.into()).map(|(p, k)| (k, p)))
    }

    /// The ledger index of an agent's enrolment.
    pub fn enrolment_of(&self, agent: &AgentName) -> Result<Option<EntryIndex>, StoreError> {
        let value = self.db.get(enrolment_key(agent)).map_err(self.failed())?;
        let bytes = value.and_then(|value| <[u8; 8]>::try_from(&value[..]).ok());
        Ok(bytes.map(|bytes| EntryIndex(u64::from_be_bytes(bytes))))
    }

    /// The height of the block that holds the entry at `index`, if there is one.
    pub fn block_of(&self, index: EntryIndex) -> Result<Option<Height>, StoreError> {
        let found = self.db.range(block_key(EntryIndex(0))..=block_key(index)).next_back();
        let Some((_, value)) = found.transpose().map_err(self.failed())? else { return Ok(None) };
        Ok(<[u8; 8]>::try_from(&value[..]).ok().map(|bytes| Height(u64::from_be_bytes(bytes))))
    }

    /// Adds what a base says about blocks that were given up. Repeating it changes nothing.
    pub fn note_base(&self, base: &Base) -> Result<(), StoreError> {
        for (agent, index) in base.enrolled() {
            self.db.insert(enrolment_key(&agent), &index.0.to_be_bytes()).map_err(self.failed())?;
        }
        for placed in base.agents.values().flat_map(|log| &log.newest) {
            let key = batch_key(&BatchKey::of_placed(placed));
            // Where exactly in what is gone does not matter any more.
            self.db
                .insert(key, encode_place(base.header.height, 0, placed))
                .map_err(self.failed())?;
        }
        Ok(())
    }

    /// Where the entries in front of `size` stand that are never given up, as far as their blocks were noted.
    pub fn kept(&self, range: Range<EntryIndex>) -> Result<Vec<EntryIndex>, StoreError> {
        let keys = self.db.range(kept_key(range.start)..kept_key(range.end)).keys();
        let decode = |key: sled::IVec| {
            let bytes = <[u8; 8]>::try_from(&key[1..]).unwrap_or_default();
            EntryIndex(u64::from_be_bytes(bytes))
        };
        keys.map(|key| Ok(decode(key.map_err(self.failed())?))).collect()
    }

    /// The newest batches of `agent`, at most `count`, in blocks up to `height`, the oldest first. Batches of one agent
    /// stand in the order of their keys, so that the last of them is found by bisection.
    pub fn newest_until(
        &self,
        agent: &AgentName,
        height: Height,
        count: usize,
    ) -> Result<Vec<(BatchKey, BatchPlace)>, StoreError> {
        let key = |start, count, sealed| {
            let (start, sealed) = (EntryIndex(start), UnixSeconds(sealed));
            batch_key(&BatchKey { agent: agent.clone(), start, count, sealed })
        };
        let prefix_end = key(u64::MAX, u32::MAX, u64::MAX);
        let is_old = |from: Vec<u8>| -> Result<bool, StoreError> {
            let Some(found) = self.db.range(from..=prefix_end.clone()).next() else {
                return Ok(false);
            };
            let (_, value) = found.map_err(self.failed())?;
            Ok(decode_place(&value).is_some_and(|place| place.height <= height))
        };
        if !is_old(key(0, 0, 0))? {
            return Ok(vec![]);
        }
        let start = last_true(|start| is_old(key(start, 0, 0)))?;
        // A batch stands behind all heartbeats at its start, whatever their times are.
        let from = match is_old(key(start, 1, 0))? {
            true => key(start, 1, 0),
            false => key(start, 0, last_true(|sealed| is_old(key(start, 0, sealed)))?),
        };
        // The last one is the first key from there on.
        let Some(last) = self.db.range(from..=prefix_end).next() else {
            return Ok(vec![]);
        };
        let (last, _) = last.map_err(self.failed())?;
        let mut newest = Vec::new();
        for item in self.db.range(key(0, 0, 0)..=last.to_vec()).rev().take(count) {
            let (key, value) = item.map_err(self.failed())?;
            newest.extend(decode_batch_key(agent, &key).zip(decode_place(&value)));
        }
        newest.reverse();
        Ok(newest)
    }

    /// Brings everything to the disk; sled's own flush is no fsync.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(self.failed())?;
        let path = self.path.join("db");
        let file = File::open(&path).map_err(StoreError::io(&path))?;
        file.sync_data().map_err(StoreError::sync(&path))
    }

    fn failed(&self) -> impl FnOnce(sled::Error) -> StoreError {
        StoreError::index(&self.path)
    }
}

/// The largest number for which `holds`, which holds for 0 and never again once it does not.
fn last_true(mut holds: impl FnMut(u64) -> Result<bool, StoreError>) -> Result<u64, StoreError> {
    let (mut low, mut high) = (0, u64::MAX);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle)? { low = middle } else { high = middle - 1 }
    }
    Ok(low)
}
