//! The base of a pruned store: made, kept in a file of its own, and held for those who read.
//!
//! ```text
//! DIR/base    the binary form of the base, then its digest: 32 bytes
//! ```

use super::{
    BatchPlace, Index, StoreError, TreeReader,
    rebuild::{log_behind, read_block},
};
use journal::Reader;
use record::{
    AgentName, Hash, UnixSeconds,
    batch::{Codec, LogState},
    block::Height,
    crypto::PublicKey,
    merkle::{EntryIndex, Frontier, NodeId, NodeSource},
};
use replica::{
    Base, BaseLog, Block, CHUNK, CHUNK_LEVEL, MAX_BASE_BYTES, MAX_NEWEST, Params,
    entries::for_each_entry,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

const DIGEST_BYTES: usize = 32;

/// A base and its digest.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The base.
    pub base: Arc<Base>,
    /// Its binary form.
    pub encoded: Arc<[u8]>,
    /// The digest of that.
    pub digest: Hash,
}

impl Kept {
    pub(super) fn new(base: Base) -> Self {
        let encoded = base.encode();
        let digest = Base::digest_of(&encoded);
        Kept { base: Arc::new(base), encoded: encoded.into(), digest }
    }
}

/// What the file of a store's base holds.
#[derive(Clone, Debug)]
pub enum Found {
    /// There is none.
    Nothing,
    /// This.
    Base(Kept),
    /// Something else.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// The file in a store's directory.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("base")
}

/// Reads the base of the store in `dir`.
///
/// # Errors
/// When the machine cannot.
pub fn read(dir: &Path) -> Result<Found, StoreError> {
    let path = path(dir);
    match path.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Ok(metadata) if metadata.len() > (MAX_BASE_BYTES + DIGEST_BYTES) as u64 => {
            return Ok(Found::Damaged { path, problem: "it is too large".to_owned() });
        }
        other => other.map(drop).map_err(StoreError::io(&path))?,
    }
    let bytes = std::fs::read(&path).map_err(StoreError::io(&path))?;
    Ok(match decode(&bytes) {
        Ok(kept) => Found::Base(kept),
        Err(problem) => Found::Damaged { path, problem },
    })
}

/// Reads the content of the file.
///
/// # Errors
/// What is wrong with it, for people.
pub fn decode(bytes: &[u8]) -> Result<Kept, String> {
    let Some((encoded, digest)) = bytes.split_last_chunk::<DIGEST_BYTES>() else {
        return Err("it is too short".to_owned());
    };
    let digest = Hash(*digest);
    if Base::digest_of(encoded) != digest {
        return Err("its digest is another".to_owned());
    }
    let base = Base::decode(encoded).map_err(|error| error.to_string())?;
    Ok(Kept { base: Arc::new(base), encoded: encoded.into(), digest })
}

/// Writes the base of the store in `dir`: it is there, whole and durable, or what was there before.
///
/// # Errors
/// When that does not work.
pub fn write(dir: &Path, encoded: &[u8], digest: Hash) -> Result<(), StoreError> {
    let (path, new) = (path(dir), dir.join("base.new"));
    let mut file = File::create(&new).map_err(StoreError::io(&new))?;
    let written = file.write_all(encoded).and_then(|()| file.write_all(&digest.0));
    written.map_err(StoreError::io(&new))?;
    file.sync_all().map_err(StoreError::sync(&new))?;
    std::fs::rename(&new, &path).map_err(StoreError::io(&path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::sync(dir))
}

/// The base that readers of a store see.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<RwLock<Option<Kept>>>);

impl Shared {
    pub(super) fn get(&self) -> Option<Kept> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, kept: Option<Kept>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = kept;
    }
}

/// Agents and where their logs stand.
pub type Agents = BTreeMap<AgentName, LogState>;

/// What a base is made of.
pub(super) struct Sources<'a> {
    pub(super) params: &'a Params,
    pub(super) blocks: &'a Reader,
    pub(super) tree: &'a TreeReader,
    pub(super) index: &'a Index,
    /// The base that the store has already.
    pub(super) before: Option<Arc<Base>>,
}

impl Sources<'_> {
    /// Makes the base of the blocks up to `height`, the same on every node. `agents` are those that are enrolled now.
    pub(super) fn make(&self, height: Height, agents: &Agents) -> Result<Base, StoreError> {
        let header = read_block(self.blocks, height)?.header;
        let wrong = |problem: &str| StoreError::Block { height, problem: problem.to_owned() };
        let tree = |error| StoreError::Tree { problem: std::io::Error::to_string(&error) };
        let frontier = self.tree.frontier(header.size).map_err(tree)?;
        if frontier.root() != header.root {
            return Err(wrong("the tree files have another root behind it"));
        }
        let chunk = |index| self.tree.node(NodeId { level: CHUNK_LEVEL, index });
        let chunks = (0..header.size.0 / CHUNK).map(chunk).collect::<Result<_, _>>();
        let mut enrolled = BTreeMap::new();
        for (agent, log) in agents {
            let index = self.index.enrolment_of(agent)?;
            if index.ok_or_else(|| wrong("an agent's enrolment is not known"))?.0 < header.size.0 {
                enrolled.insert(agent, log.key);
            }
        }
        let logs = self.logs_at(&enrolled, height)?;
        let kept = self.kept(EntryIndex(header.size.0))?;
        Ok(Base { chunks: chunks.map_err(tree)?, header, frontier, agents: logs, kept })
    }

    /// Where agents' logs stood behind a block. Each block that one of them needs is read once.
    fn logs_at(
        &self,
        agents: &BTreeMap<&AgentName, PublicKey>,
        height: Height,
    ) -> Result<BTreeMap<AgentName, BaseLog>, StoreError> {
        let mut logs = BTreeMap::new();
        let mut wanted: BTreeMap<Height, Vec<(&AgentName, u32)>> = BTreeMap::new();
        for agent in agents.keys() {
            let (log, place) = self.log_at(agent, height)?;
            if let Some(place) = place {
                wanted.entry(place.height).or_default().push((agent, place.nth));
            }
            logs.insert((*agent).clone(), log);
        }
        for (height, batches) in wanted {
            let block = read_block(self.blocks, height)?;
            for (agent, nth) in batches {
                let (Some(log), Some(key)) = (logs.get_mut(agent), agents.get(agent)) else {
                    continue;
                };
                log.frontier = log_behind(&block, self.params, *key, nth)?;
            }
        }
        Ok(logs)
    }

    /// Where an agent's log stood behind a block; if its frontier is to be made from a batch, where that one is.
    fn log_at(
        &self,
        agent: &AgentName,
        height: Height,
    ) -> Result<(BaseLog, Option<BatchPlace>), StoreError> {
        let before = self.before.as_ref().and_then(|base| base.agents.get(agent)).cloned();
        let (frontier, sealed) = (Frontier::default(), UnixSeconds(0));
        let mut log = before.unwrap_or(BaseLog { frontier, sealed, newest: vec![] });
        let newest = self.index.newest_until(agent, height, MAX_NEWEST)?;
        let Some((last, _)) = newest.last() else { return Ok((log, None)) };
        log.sealed = last.sealed;
        let size = last.start.0 + u64::from(last.count);
        let batch = size.checked_sub(1).map(|last| self.index.batch_of(agent, EntryIndex(last)));
        let floor = self.before.as_ref().map(|base| base.header.height).unwrap_or_default();
        let place = batch.transpose()?.flatten().map(|(_, place)| place);
        log.newest = newest.into_iter().map(|(key, place)| key.placed(&place)).collect();
        Ok((log, place.filter(|place| place.height > floor)))
    }

    /// The entries in front of `end` that are never given up.
    fn kept(&self, end: EntryIndex) -> Result<BTreeMap<EntryIndex, Vec<u8>>, StoreError> {
        let mut kept = self.before.as_ref().map(|base| base.kept.clone()).unwrap_or_default();
        let begin = self.before.as_ref().map(|base| base.header.size.0).unwrap_or_default();
        let mut codec = Codec::default();
        let mut open: Option<Block> = None;
        for index in self.index.kept(EntryIndex(begin)..end)? {
            if open.as_ref().is_none_or(|block| block.header.size.0 <= index.0) {
                let height = self.index.block_of(index)?.unwrap_or_default();
                open = Some(read_block(self.blocks, height)?);
            }
            let Some(block) = &open else { continue };
            let mut found = Vec::new();
            for_each_entry(
                self.params,
                block,
                index..EntryIndex(index.0 + 1),
                &mut codec,
                |entry| {
                    found.extend_from_slice(entry);
                },
            )
            .map_err(|error| StoreError::Block {
                height: block.header.height,
                problem: error.to_string(),
            })?;
            kept.insert(index, found);
        }
        Ok(kept)
    }
}
