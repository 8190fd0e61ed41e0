//! The index: where blocks and batches are, and the state after the newest block.
//!
//! One sled tree, one atomic write a block. It is never the only copy of
//! anything; whoever doubts it deletes it.

use super::StoreError;
use record::{
    AgentName, Hash, TreeSize, UnixMillis, UnixSeconds,
    batch::{LogState, SealedBatch},
    block::Height,
    bytes::Reader,
    crypto::PublicKey,
    equivocation::EquivocationKind,
    merkle::{EntryIndex, Frontier},
};
use replica::{BlockHeader, Conviction, Executed, LedgerState, Placed, entries::Places};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

const VERSION: u8 = 3;
const STATE: &[u8] = b"s";
const AGENT: u8 = b'a';
const BLOCK: u8 = b'b';
const BATCH: u8 = b'p';
const ENROLMENT: u8 = b'e';
const CONVICTED: u8 = b'c';

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

    /// Adds a block.
    pub fn record(&self, executed: &Executed) -> Result<(), StoreError> {
        let header = &executed.block.header;
        let mut write = sled::Batch::default();
        write.insert(STATE, encode_state(header.height, header.id(), header.time, &executed.after));
        for (name, log) in &executed.agents {
            write.insert(agent_key(name), encode_log(log));
        }
        for conviction in &executed.convicted {
            write.insert(conviction_key(conviction), &header.height.0.to_be_bytes());
        }
        for (key, value) in positions(header, &executed.enrolled, &executed.placed) {
            write.insert(key, value);
        }
        self.db.apply_batch(write).map_err(self.failed())
    }

    /// Adds where a block's bodies stand, but not that it is the newest. Repeating it changes nothing.
    /// Answers how many of these places it did not know, or knew otherwise.
    pub fn note(&self, header: &BlockHeader, places: &Places) -> Result<u64, StoreError> {
        let mut mended = 0;
        for (key, value) in positions(header, &places.enrolled, &places.placed) {
            let before = self.db.insert(key, value.as_slice()).map_err(self.failed())?;
            mended += u64::from(before.is_none_or(|before| before != value));
        }
        Ok(mended)
    }

    /// How many of the places of a block's bodies it does not know, or knows otherwise.
    pub fn unknown(&self, header: &BlockHeader, places: &Places) -> Result<u64, StoreError> {
        let mut unknown = 0;
        for (key, value) in positions(header, &places.enrolled, &places.placed) {
            let known = self.db.get(key).map_err(self.failed())?;
            unknown += u64::from(known.is_none_or(|known| known != value));
        }
        Ok(unknown)
    }

    /// Says that this is the state after the newest block that was noted.
    pub fn set_state(&self, state: &LedgerState) -> Result<(), StoreError> {
        for (name, log) in &state.agents {
            self.db.insert(agent_key(name), encode_log(log)).map_err(self.failed())?;
        }
        for conviction in &state.convicted {
            let height = &state.height.0.to_be_bytes();
            self.db.insert(conviction_key(conviction), height).map_err(self.failed())?;
        }
        let encoded = encode_state(state.height, state.parent, state.time, &state.tree);
        self.db.insert(STATE, encoded).map_err(self.failed())?;
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

/// The keys and values that say where a block's bodies stand.
fn positions(
    header: &BlockHeader,
    enrolled: &[(AgentName, EntryIndex)],
    placed: &[Placed],
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut out = vec![(block_key(header.first), header.height.0.to_be_bytes().to_vec())];
    out.extend(
        enrolled.iter().map(|(name, index)| (enrolment_key(name), index.0.to_be_bytes().to_vec())),
    );
    for (nth, placed) in placed.iter().enumerate() {
        let mut value = header.height.0.to_be_bytes().to_vec();
        value.extend_from_slice(&(nth as u32).to_be_bytes());
        value.extend_from_slice(&placed.first.0.to_be_bytes());
        value.extend_from_slice(&placed.digest.0);
        out.push((batch_key(&BatchKey::of_placed(placed)), value));
    }
    out
}

fn agent_key(agent: &AgentName) -> Vec<u8> {
    [&[AGENT], agent.as_str().as_bytes()].concat()
}

fn enrolment_key(agent: &AgentName) -> Vec<u8> {
    [&[ENROLMENT], agent.as_str().as_bytes()].concat()
}

fn conviction_key((culprit, kind): &Conviction) -> Vec<u8> {
    [&[CONVICTED], culprit.as_str().as_bytes(), &[0], kind.as_str().as_bytes()].concat()
}

fn decode_conviction(key: &[u8]) -> Option<Conviction> {
    let (culprit, kind) = std::str::from_utf8(&key[1..]).ok()?.split_once('\0')?;
    Some((culprit.parse().ok()?, EquivocationKind::from_word(kind)?))
}

fn block_key(first: EntryIndex) -> Vec<u8> {
    [&[BLOCK], &first.0.to_be_bytes()[..]].concat()
}

/// `p`, name, 0, start, count, time. A real batch sorts behind the heartbeats at its start, so the
/// last key up to a record's number is the batch it is in.
fn batch_key(key: &BatchKey) -> Vec<u8> {
    let mut out = vec![BATCH];
    out.extend_from_slice(key.agent.as_str().as_bytes());
    out.push(0);
    out.extend_from_slice(&key.start.0.to_be_bytes());
    out.extend_from_slice(&key.count.to_be_bytes());
    out.extend_from_slice(&key.sealed.0.to_be_bytes());
    out
}

fn decode_batch_key(agent: &AgentName, key: &[u8]) -> Option<BatchKey> {
    let mut reader = Reader::new(key.get(2 + agent.as_str().len()..)?);
    let key = BatchKey {
        agent: agent.clone(),
        start: EntryIndex(reader.u64().ok()?),
        count: reader.u32().ok()?,
        sealed: UnixSeconds(reader.u64().ok()?),
    };
    reader.finish().ok().map(|()| key)
}

fn decode_place(value: &[u8]) -> Option<BatchPlace> {
    let mut reader = Reader::new(value);
    let place = BatchPlace {
        height: Height(reader.u64().ok()?),
        nth: reader.u32().ok()?,
        first: EntryIndex(reader.u64().ok()?),
        digest: Hash(reader.array().ok()?),
    };
    reader.finish().ok().map(|()| place)
}

fn encode_state(height: Height, id: Hash, time: UnixMillis, tree: &Frontier) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&height.0.to_be_bytes());
    out.extend_from_slice(&id.0);
    out.extend_from_slice(&time.0.to_be_bytes());
    put_frontier(&mut out, tree);
    out
}

fn decode_state(bytes: &[u8]) -> Option<LedgerState> {
    let mut reader = Reader::new(bytes);
    if reader.u8().ok()? != VERSION {
        return None;
    }
    let state = LedgerState {
        height: Height(reader.u64().ok()?),
        parent: Hash(reader.array().ok()?),
        time: UnixMillis(reader.u64().ok()?),
        tree: take_frontier(&mut reader)?,
        agents: BTreeMap::new(),
        convicted: BTreeSet::new(),
    };
    reader.finish().ok().map(|()| state)
}

fn encode_log(log: &LogState) -> Vec<u8> {
    let mut out = log.key.0.to_vec();
    out.extend_from_slice(&log.sealed.0.to_be_bytes());
    put_frontier(&mut out, &log.frontier);
    out
}

fn decode_log(bytes: &[u8]) -> Option<LogState> {
    let mut reader = Reader::new(bytes);
    let (key, sealed) = (PublicKey(reader.array().ok()?), UnixSeconds(reader.u64().ok()?));
    let frontier = take_frontier(&mut reader)?;
    reader.finish().ok().map(|()| LogState { key, frontier, sealed })
}

fn put_frontier(out: &mut Vec<u8>, frontier: &Frontier) {
    out.extend_from_slice(&frontier.size().0.to_be_bytes());
    frontier.hashes().for_each(|hash| out.extend_from_slice(&hash.0));
}

fn take_frontier(reader: &mut Reader<'_>) -> Option<Frontier> {
    let size = reader.u64().ok()?;
    let hashes = (0..size.count_ones())
        .map(|_| reader.array().ok().map(Hash))
        .collect::<Option<Vec<_>>>()?;
    Frontier::from_hashes(TreeSize(size), &hashes).ok()
}
