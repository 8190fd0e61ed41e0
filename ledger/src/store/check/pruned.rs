//! What stays of blocks that were given up: the base, and the leaf hashes in front of its end.
//!
//! The base vouches for the chunks of leaves, and those for the tree files above them. Whether the base is the one
//! that was decided on, the block says that gave the others up.

use super::{Checker, Depth, FaultKind, Mend, chain::Log, facts::lost_front};
use crate::store::{
    FoundBase, Index, Kept, StoreError, read_base,
    tree::{FILES, STRIDE},
};
use journal::{Reader, Seq};
use link::statement;
use record::{
    Hash, Origin,
    block::BlockEntry,
    declaration::Declaration,
    enrolment::Enrolment,
    entry::Entry,
    equivocation::Equivocation,
    merkle::{EntryIndex, leaf_hash, perfect_root},
};
use replica::{BlockHeader, CHUNK, CHUNK_LEVEL};

/// The tree file that holds the roots of chunks.
const CHUNK_FILE: usize = (CHUNK_LEVEL / STRIDE) as usize;

impl Checker {
    /// Looks at where the store begins: at its base if blocks were given up. `known` is the base as a running node has
    /// it. Answers how many chunks of leaf hashes there are in front of it, for [`Checker::chunk`].
    ///
    /// # Errors
    /// When the machine cannot read it.
    pub fn begin(&mut self, blocks: &Reader, known: Option<Kept>) -> Result<u64, StoreError> {
        let found = read_base(&self.dir)?;
        let file = crate::store::base_path(&self.dir);
        let mut fault = None;
        let kept = match (found, known) {
            (FoundBase::Base(kept), _) => Some(kept),
            (FoundBase::Damaged { problem, .. }, known) => {
                fault = Some(problem);
                known
            }
            (FoundBase::Nothing, Some(known)) => {
                fault = Some("it is missing: it was deleted".to_owned());
                Some(known)
            }
            (FoundBase::Nothing, None) => None,
        };
        if let Some(problem) = fault {
            self.push(FaultKind::Base, file, None, None, problem, Some(Mend::Base));
        }
        match kept {
            Some(kept) => self.stand_on(kept),
            None if blocks.first_seq() > Seq(0) => self.stand_on_declaration(),
            None => {}
        }
        if let Some(front) = lost_front(blocks, self.floor) {
            self.take(front);
        }
        Ok(self.base.as_ref().map(|kept| kept.base.chunk_count()).unwrap_or_default())
    }

    /// Without a base: what the index knows of the declaration says where the blocks begin.
    fn stand_on_declaration(&mut self) {
        let state = self.index.as_ref().and_then(Index::state);
        let Some(prune) = state.and_then(|state| state.pruned).map(|pruned| pruned.prune) else {
            return;
        };
        self.floor = prune.height;
        (self.height, self.parent) = (prune.height, Some(prune.block));
        self.frontier = prune.frontier;
        self.recount();
        if self.faults.is_empty() {
            let file = crate::store::base_path(&self.dir);
            let problem = "it is missing: it was deleted".to_owned();
            self.push(FaultKind::Base, file, None, None, problem, Some(Mend::Base));
        }
    }

    fn stand_on(&mut self, kept: Kept) {
        let base = &kept.base;
        let Ok(state) = base.state() else { return };
        self.floor = base.header.height;
        (self.height, self.parent) = (base.header.height, Some(base.header.id()));
        self.frontier = base.frontier.clone();
        self.recount();
        self.logs = state
            .agents
            .into_iter()
            .map(|(agent, log)| {
                let sealed = Some((log.frontier.size(), log.frontier.root(), log.sealed));
                (agent, Log { key: log.key, sealed })
            })
            .collect();
        if matches!(self.depth, Depth::Signatures(_)) {
            self.check_kept_signatures(&kept);
        }
        self.base = Some(kept);
    }

    fn check_kept_signatures(&mut self, kept: &Kept) {
        for (index, bytes) in &kept.base.kept {
            self.totals.signatures += 1;
            if is_signed(&self.params.origin, bytes) {
                continue;
            }
            let file = crate::store::base_path(&self.dir);
            let entries = Some(index.0..index.0 + 1);
            let problem = "the signature of a kept entry does not hold".to_owned();
            self.push(FaultKind::Rewritten, file, None, entries, problem, None);
        }
    }

    /// Looks at a chunk of leaf hashes of entries that were given up, and at the tree above it. Answers how many bytes
    /// it looked at.
    pub fn chunk(&mut self, chunk: u64) -> u64 {
        let Some(kept) = self.base.clone() else { return 0 };
        let base = &kept.base;
        let (begin, len) = (chunk * CHUNK, base.chunk_len(chunk));
        let leaves = self.tree.hashes(0, begin, len);
        let Some(leaves) = leaves.ok().filter(|leaves| base.has_chunk(chunk, leaves)) else {
            let file = self.tree_dir.join("level-0");
            let entries = Some(begin..begin + len as u64);
            let problem =
                "the hashes of entries that were given up are not what they were".to_owned();
            self.push(FaultKind::Base, file, None, entries, problem, Some(Mend::Chunk(chunk)));
            return 32 * len as u64;
        };
        for (index, bytes) in base.kept.range(EntryIndex(begin)..EntryIndex(begin + len as u64)) {
            if leaf_hash(bytes) != leaves[(index.0 - begin) as usize] {
                let file = crate::store::base_path(&self.dir);
                let entries = Some(index.0..index.0 + 1);
                let problem = "a kept entry is not the one that was hashed".to_owned();
                self.push(FaultKind::Rewritten, file, None, entries, problem, None);
            }
        }
        if chunk + 1 == base.chunk_count() && leaves.last() != Some(&self.last_leaf(&base.header)) {
            let file = crate::store::base_path(&self.dir);
            let problem = "its header is not that of the block whose end was hashed".to_owned();
            self.push(FaultKind::Rewritten, file, None, None, problem, None);
        }
        let mut level = leaves;
        for file in 1..=CHUNK_FILE {
            level = roots(&level);
            self.compare_level(file, begin >> (usize::from(STRIDE) * file), &level);
        }
        if chunk + 1 == base.chunk_count() {
            self.compare_above(&base.chunks);
        }
        32 * len as u64
    }

    /// The leaf hash of the entry that ends a block: its time is in the tree, too.
    fn last_leaf(&self, header: &BlockHeader) -> Hash {
        let entry = BlockEntry {
            height: header.height,
            time: header.time,
            proposer: header.proposer.clone(),
            first: header.first,
        };
        leaf_hash(&entry.encode(self.params.enterprise))
    }

    /// The files above the roots of chunks.
    fn compare_above(&mut self, chunks: &[Hash]) {
        let mut level = chunks.to_vec();
        for file in CHUNK_FILE + 1..FILES {
            level = roots(&level);
            self.compare_level(file, 0, &level);
        }
    }

    fn compare_level(&mut self, file: usize, first: u64, hashes: &[Hash]) {
        for (index, hash) in (first..).zip(hashes) {
            let kept = self.tree.hashes(file, index, 1);
            if kept.is_ok_and(|kept| kept[0] == *hash) {
                continue;
            }
            let problem = format!(
                "tile {file}/{} has another hash at {} than the hashes below it lead to",
                index / 256,
                index % 256
            );
            let path = self.tree_dir.join(format!("level-{file}"));
            let mend = Some(Mend::Upper { file, index, hash: *hash });
            self.push(FaultKind::Tree, path, None, None, problem, mend);
        }
    }
}

/// Whether an entry that is kept for ever has the signatures it must have, of an operator or of a node that contradicted
/// itself. Whether the operator's certificate is to be trusted is not looked at.
pub fn is_signed(origin: &Origin, entry: &[u8]) -> bool {
    let Ok(entry) = Entry::parse(entry) else { return false };
    if let Some(enrolment) = Enrolment::from_entry(&entry) {
        return statement::enrolment_holds(origin, &enrolment);
    }
    if let Some(declaration) = Declaration::from_entry(&entry) {
        return statement::declaration_holds(origin, &declaration);
    }
    Equivocation::from_entry(&entry).is_some_and(|found| found.verify().is_ok())
}

/// The roots of all full tiles of a level.
fn roots(level: &[Hash]) -> Vec<Hash> {
    let (tiles, _) = level.as_chunks::<256>();
    tiles.iter().map(|tile| perfect_root(tile.to_vec())).collect()
}
