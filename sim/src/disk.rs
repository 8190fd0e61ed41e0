//! A node's disk: what is synced survives, what is not may or may not.
//!
//! That is what the journal guarantees; a torn last record is found by its
//! checksum and dropped, so it is modelled as a record that is not there. A
//! flipped bit in what is synced is found at the next start, and then the
//! store counts as lost; or it is rot, found by the scrub, and mended from others.

use crate::{base, cast, rng::Rng};
use record::{Hash, UnixMillis, declaration::Prune, merkle::EntryIndex};
use replica::{Base, Executed, LedgerState, vote_log_height};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// One node's vote log, store and mark.
#[derive(Default)]
pub struct Disk {
    votes: Vec<Vec<u8>>,
    unsynced: Vec<Vec<u8>>,
    shelf: Arc<Mutex<Shelf>>,
    /// A bit of a stored block has flipped.
    pub damaged: bool,
    /// The store was lost, and the node has not yet been allowed to vote.
    pub rejoining: bool,
    /// Writes wait until there is space.
    pub full: bool,
}

/// Blocks, what is kept of those that were given up, and leaf hashes: also for who vouches.
#[derive(Default)]
pub struct Shelf {
    /// What is kept of blocks that are not here.
    pub kept: Option<Kept>,
    blocks: Vec<Stored>,
    leaves: Vec<Hash>,
    /// What cannot be read.
    pub rot: Rot,
}

/// What a disk has lost although it was durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rot {
    /// Blocks, by height.
    pub blocks: BTreeSet<u64>,
    /// The base.
    pub base: bool,
    /// The leaf hashes in front of the base's end.
    pub leaves: bool,
}

/// A base as it is stored.
#[derive(Clone)]
pub struct Kept {
    /// The base.
    pub base: Arc<Base>,
    /// Its bytes.
    pub encoded: bytes::Bytes,
    /// Their digest.
    pub digest: Hash,
}

struct Stored {
    executed: Arc<Executed>,
    bytes: bytes::Bytes,
}

impl Kept {
    /// Of a base in memory.
    pub fn new(base: Base) -> Self {
        let encoded = bytes::Bytes::from(base.encode());
        Kept { base: Arc::new(base), digest: Base::digest_of(&encoded), encoded }
    }
}

impl Shelf {
    /// The newest block that is not here any more.
    pub fn floor(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.base.header.height.0)
    }

    /// The newest durable height.
    pub fn height(&self) -> u64 {
        self.floor() + self.blocks.len() as u64
    }

    fn stored(&self, height: u64) -> Option<&Stored> {
        let at = usize::try_from(height.checked_sub(self.floor() + 1)?).ok()?;
        self.blocks.get(at)
    }

    /// A durable block, in its binary form, if it can be read.
    pub fn block(&self, height: u64) -> Option<bytes::Bytes> {
        let stored = self.stored(height).filter(|_| !self.rot.blocks.contains(&height));
        stored.map(|stored| stored.bytes.clone())
    }

    /// The ledger behind a block, if that is here.
    pub fn state(&self, height: u64) -> Option<LedgerState> {
        let base = self.kept.as_ref().and_then(|kept| kept.base.state().ok());
        let mut state = base.unwrap_or_else(LedgerState::genesis);
        let count = usize::try_from(height.checked_sub(self.floor())?).ok()?;
        let blocks = self.blocks.get(..count)?.iter();
        blocks.for_each(|stored| stored.executed.apply(&mut state));
        Some(state)
    }

    /// What stays if all up to this block is given up; nothing if something of it cannot be read.
    pub fn base_of(&self, height: u64) -> Option<Kept> {
        let rotten = self.rot.base || self.rot.blocks.iter().any(|rotten| *rotten <= height);
        let count = usize::try_from(height.checked_sub(self.floor())?).ok()?;
        let blocks = self.blocks.get(..count).filter(|_| !rotten)?.iter();
        let before = self.kept.as_ref().map(|kept| &*kept.base);
        let (blocks, state) = (blocks.map(|stored| &*stored.executed), self.state(height)?);
        base::make(&cast::params(), before, blocks, &state, &self.leaves).map(Kept::new)
    }

    /// Whether what a declaration says of old blocks is so here.
    ///
    /// # Errors
    /// What is not.
    pub fn agrees(&self, prune: &Prune) -> Result<(), String> {
        let header = self.stored(prune.height.0).map(|stored| &stored.executed.block.header);
        let header = header.ok_or("the block is not here")?;
        if header.id() != prune.block || header.time != prune.before {
            return Err("it names another block".into());
        }
        let made = self.base_of(prune.height.0).ok_or("the blocks cannot be read")?;
        let same = made.digest == prune.base && made.base.frontier == prune.frontier;
        if same { Ok(()) } else { Err("it names another base".into()) }
    }

    /// What can be given up if entries are kept for `days`, of the first so many blocks that can.
    pub fn plan(&self, days: u32, now: UnixMillis, permille: u64) -> Option<Prune> {
        let state = self.state(self.height())?;
        let prune = |height: u64| {
            let header = &self.stored(height)?.executed.block.header;
            Some(Prune {
                from: EntryIndex(state.dropped().0),
                height: header.height,
                block: header.id(),
                before: header.time,
                days,
                frontier: self.stored(height)?.executed.after.clone(),
                base: Hash([0; 32]),
            })
        };
        let begin = self.floor().max(state.dropped_height().0) + 1;
        let able = |prune: &Prune| {
            prune.allowed_from() <= now && prune.minimum_index().0 <= state.tree.size().0
        };
        let able: Vec<Prune> = (begin..=self.height()).map_while(prune).take_while(able).collect();
        let at = able.len().checked_sub(1)? as u64 * permille / 1000;
        let chosen = able.into_iter().nth(at as usize)?;
        Some(Prune { base: self.base_of(chosen.height.0)?.digest, ..chosen })
    }

    /// The block by which what is gone was given up, in its binary form.
    pub fn pruned_by(&self) -> Option<bytes::Bytes> {
        let newest = self.blocks.iter().rev().find(|stored| stored.executed.pruned.is_some())?;
        self.block(newest.executed.block.header.height.0)
    }

    /// The leaf hashes of a chunk in front of the base's end.
    pub fn chunk(&self, chunk: u64) -> Option<&[Hash]> {
        let kept = self.kept.as_ref().filter(|_| !self.rot.leaves)?;
        let begin = usize::try_from(chunk.checked_mul(replica::CHUNK)?).ok()?;
        self.leaves.get(begin..begin.checked_add(kept.base.chunk_len(chunk))?)
    }

    /// Gives up what a base is kept of.
    pub fn give_up(&mut self, kept: Kept) {
        let count = kept.base.header.height.0.saturating_sub(self.floor()) as usize;
        self.rot.blocks = self.rot.blocks.split_off(&(kept.base.header.height.0 + 1));
        self.blocks.drain(..count.min(self.blocks.len()));
        self.kept = Some(kept);
    }

    /// Begins again with a base and the leaf hashes in front of its end.
    pub fn begin_again(&mut self, kept: Kept, leaves: Vec<Hash>) {
        *self = Shelf { kept: Some(kept), leaves, ..Shelf::default() };
    }

    /// Durable blocks, in order.
    pub fn blocks(&self) -> impl Iterator<Item = &Executed> {
        self.blocks.iter().map(|stored| &*stored.executed)
    }
}

impl Disk {
    /// The store.
    pub fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store, for who vouches.
    pub fn shared(&self) -> Arc<Mutex<Shelf>> {
        Arc::clone(&self.shelf)
    }

    /// Appends to the vote log; not durable yet.
    pub fn log(&mut self, record: Vec<u8>) {
        self.unsynced.push(record);
    }

    /// Makes the vote log durable.
    pub fn sync(&mut self) {
        self.votes.append(&mut self.unsynced);
    }

    /// Makes a block durable.
    pub fn append(&mut self, executed: &Executed) {
        let bytes = executed.block.encode_parts().concat().into();
        let mut shelf = self.shelf();
        shelf.leaves.extend_from_slice(executed.tree.leaves());
        shelf.blocks.push(Stored { executed: Arc::new(executed.clone()), bytes });
    }

    /// Lets go of the vote log: the height it was about is durable.
    pub fn release(&mut self) {
        self.votes.clear();
        self.unsynced.clear();
    }

    /// The process ends: a part of what was not synced is lost.
    pub fn crash(&mut self, rng: &mut Rng) {
        let keep = rng.within(0..self.unsynced.len() as u64 + 1) as usize;
        self.unsynced.truncate(keep);
        self.sync();
    }

    /// All is lost, and the operator says so at the next start.
    pub fn wipe(&mut self) {
        *self = Disk { rejoining: true, ..Disk::default() };
    }

    /// The newest durable height.
    pub fn height(&self) -> u64 {
        self.shelf().height()
    }

    /// The ledger as the store has it.
    pub fn state(&self) -> LedgerState {
        let shelf = self.shelf();
        shelf.state(shelf.height()).unwrap_or_else(LedgerState::genesis)
    }

    /// The vote log's records that are newer than the block log.
    pub fn recall(&self) -> Vec<Vec<u8>> {
        let height = self.height();
        let newer = |record: &&Vec<u8>| vote_log_height(record).is_none_or(|at| at.0 > height);
        self.votes.iter().filter(newer).cloned().collect()
    }
}
