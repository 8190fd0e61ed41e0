//! Giving up old blocks, and beginning again where others gave them up.
//!
//! What stays is durable before anything goes: the base, the tree files and the index. A crash leaves blocks that
//! should be gone, and the next start, or the next call, removes them.

use super::{Kept, Store, StoreError, StoreReader, base, rebuild::read_block, seq_of};
use journal::Seq;
use record::{Hash, UnixMillis, block::Height, declaration::Prune, merkle::EntryIndex};
use replica::{Base, BlockHeader, CHUNK, LedgerState};
use std::fs::File;

/// Segments that are deleted before others are heard again: a node has other things to do.
const SEGMENTS_AT_ONCE: usize = 32;
/// Chunks of leaf hashes that are compared, likewise.
const CHUNKS_AT_ONCE: u64 = 8;

impl Store {
    /// Carries out what was decided, as far as that is still to be done, a few segments at a time: repeat it while
    /// [`Store::is_prune_due`]. Answers how many bytes that freed.
    ///
    /// # Errors
    /// When something cannot be read or written; nothing is lost then that was to stay.
    pub fn prune(&mut self, state: &LedgerState) -> Result<u64, StoreError> {
        let Some(pruned) = state.pruned.as_ref().filter(|pruned| self.lets_go(&pruned.prune))
        else {
            return Ok(0);
        };
        let height = pruned.prune.height;
        let kept = self.base.get();
        if kept.as_ref().is_none_or(|kept| kept.base.header.height < height) {
            if self.blocks.first_seq().0 > kept.map_or(0, |kept| kept.base.header.height.0) {
                // The base was lost: it comes from other nodes.
                return Ok(0);
            }
            let made = self.reader.make_base(height, &state.agents)?;
            if made.digest != pruned.prune.base {
                return Err(StoreError::Block {
                    height,
                    problem:
                        "what would stay of the blocks up to it is not what the nodes agreed on"
                            .to_owned(),
                });
            }
            if !self.has_leaves(&made)? {
                return Ok(0);
            }
            self.keep_base(made)?;
        }
        let before = self.blocks.bytes();
        self.blocks.release_some(seq_of(Height(height.0 + 1)), SEGMENTS_AT_ONCE)?;
        Ok(before.saturating_sub(self.blocks.bytes()))
    }

    /// Reads the leaf hashes that nothing could make again once the blocks are gone, some chunks at a time. True once
    /// all of them are what the base says.
    fn has_leaves(&mut self, made: &Kept) -> Result<bool, StoreError> {
        let base = &made.base;
        let before =
            self.base.get().map(|kept| kept.base.header.size.0 / CHUNK).unwrap_or_default();
        let (_, mut next) = self
            .compared
            .filter(|(digest, _)| *digest == made.digest)
            .unwrap_or((made.digest, before));
        let end = base.chunk_count().min(next + CHUNKS_AT_ONCE);
        while next < end {
            let leaves = self.reader.tree().hashes(0, next * CHUNK, base.chunk_len(next));
            if !leaves.is_ok_and(|leaves| base.has_chunk(next, &leaves)) {
                let problem = format!(
                    "hashes {} and on are damaged: the scrub mends them from the blocks",
                    next * CHUNK
                );
                return Err(StoreError::Tree { problem });
            }
            next += 1;
            self.compared = Some((made.digest, next));
        }
        Ok(next == base.chunk_count())
    }

    /// Whether entries that were decided to be given up may go here, too: a node may keep them for longer.
    pub(super) fn lets_go(&self, prune: &Prune) -> bool {
        self.retention.is_some_and(|days| prune.days >= days)
    }

    /// Says to those who read how much is not here any more.
    pub(super) fn note_dropped(&self, state: &LedgerState) {
        let due = state.pruned.as_ref().map(|pruned| &pruned.prune);
        let due = due.filter(|prune| self.lets_go(prune) || self.lacks_base(state));
        let kept = self.base.get().map(|kept| kept.base.header.size).unwrap_or_default();
        self.reader.set_dropped(due.map(Prune::size).unwrap_or_default().max(kept));
    }

    /// True if [`Store::prune`] has something to do.
    pub fn is_prune_due(&self, state: &LedgerState) -> bool {
        let due = state.pruned.as_ref().is_some_and(|pruned| self.lets_go(&pruned.prune));
        let height = state.dropped_height();
        due && (height > self.base_height() || self.blocks.is_releasable(Seq(height.0)))
    }

    /// True if blocks are gone, and what is kept of them is not here, so that it must come from other nodes.
    pub fn lacks_base(&self, state: &LedgerState) -> bool {
        state.pruned.is_some() && self.blocks.first_seq().0 > self.base_height().0
    }

    fn base_height(&self) -> Height {
        self.base.get().map(|kept| kept.base.header.height).unwrap_or_default()
    }

    /// Keeps a base, durably; nothing goes yet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_base(&mut self, kept: Kept) -> Result<(), StoreError> {
        self.tree.sync()?;
        // The files have nothing any more that they could be made from.
        let folder = self.dir.join("tree");
        File::open(&folder).and_then(|dir| dir.sync_all()).map_err(StoreError::sync(&folder))?;
        self.index.flush()?;
        base::write(&self.dir, &kept.encoded, kept.digest)?;
        self.base.set(Some(kept));
        Ok(())
    }

    /// Writes a chunk of leaf hashes and the tree nodes above it.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put_leaves(&mut self, chunk: u64, leaves: &[Hash]) -> Result<(), StoreError> {
        self.tree.put_chunk(chunk, leaves)
    }

    /// Begins again with a base, whose leaf hashes were put here already: nothing before it stays.
    ///
    /// # Errors
    /// When something cannot be written; the next start goes on from there.
    pub fn begin_again(&mut self, kept: Kept) -> Result<(), StoreError> {
        let height = kept.base.header.height;
        let problem =
            |error: replica::BaseError| StoreError::Block { height, problem: error.to_string() };
        let state = kept.base.state().map_err(problem)?;
        self.tree.complete_upper(kept.base.header.size)?;
        self.keep_base(kept.clone())?;
        self.blocks.skip_to(Seq(height.0))?;
        self.index.note_base(&kept.base)?;
        self.index.set_state(&state)?;
        self.reader.set_dropped(kept.base.header.size);
        Ok(())
    }
}

/// Nothing can be given up.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Everything is younger, or among the newest entries, which always stay.
    #[error(
        "no block is older than {0} days, but for the newest, which always stay: nothing can be given up"
    )]
    Nothing(u32),
}

impl StoreReader {
    /// Makes the base of the blocks up to `height`, the same on every node. `agents` are those enrolled now.
    ///
    /// # Errors
    /// When what it is made of cannot be read.
    pub fn make_base(&self, height: Height, agents: &base::Agents) -> Result<Kept, StoreError> {
        let before = self.base().map(|kept| kept.base);
        let mut made = self.made();
        if let Some(kept) = made.as_ref().filter(|kept| kept.base.header.height == height) {
            return Ok(kept.clone());
        }
        let (params, blocks) = (self.params(), self.blocks());
        let (tree, index) = (self.tree(), self.index());
        let sources = base::Sources { params, blocks, tree, index, before };
        let kept = Kept::new(sources.make(height, agents)?);
        // What could not be read again must never be agreed on.
        let problem = match Base::decode(&kept.encoded) {
            Ok(again) if again == *kept.base => None,
            Ok(_) => Some("it does not survive its binary form".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            return Err(StoreError::Block {
                height,
                problem: format!("what would stay of it: {problem}"),
            });
        }
        *made = Some(kept.clone());
        Ok(kept)
    }

    /// What can be given up if entries are kept for `days`.
    ///
    /// # Errors
    /// When nothing can, or when the store cannot be read.
    pub fn plan_prune(&self, days: u32, now: UnixMillis) -> Result<Prune, PlanError> {
        let state = self.index().state().ok_or(PlanError::Nothing(days))?;
        let (from, tip) = (EntryIndex(state.dropped().0), state.tree.size());
        let begin = state.dropped_height().max(Height(self.blocks().first_seq().0));
        let header = self.newest_header((begin, state.height), |header| {
            let prune = Prune { from, days, ..prune_of(header) };
            let whole = header.size.0.div_ceil(256) * 256 <= tip.0;
            whole && prune.allowed_from() <= now
        })?;
        let header = header.ok_or(PlanError::Nothing(days))?;
        let kept = self.make_base(header.height, &state.agents)?;
        let frontier = kept.base.frontier.clone();
        Ok(Prune { from, days, frontier, base: kept.digest, ..prune_of(&header) })
    }

    /// The newest header of a run of blocks that `holds`, which holds up to one and not behind it.
    fn newest_header(
        &self,
        (mut good, tip): (Height, Height),
        holds: impl Fn(&BlockHeader) -> bool,
    ) -> Result<Option<BlockHeader>, StoreError> {
        let (mut bad, mut newest) = (Height(tip.0 + 1), None);
        while bad.0 - good.0 > 1 {
            let middle = Height(good.0 + (bad.0 - good.0) / 2);
            let header = read_block(self.blocks(), middle)?.header;
            if holds(&header) {
                (good, newest) = (middle, Some(header));
            } else {
                bad = middle;
            }
        }
        Ok(newest)
    }
}

/// What a header says of giving up all up to its block.
fn prune_of(header: &BlockHeader) -> Prune {
    Prune {
        from: EntryIndex(0),
        height: header.height,
        block: header.id(),
        before: header.time,
        days: 0,
        frontier: record::merkle::Frontier::default(),
        base: Hash::default(),
    }
}
