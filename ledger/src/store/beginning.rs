//! Beginning a store with what another one kept of blocks that were given up: the base and the leaf hashes in front of
//! its end. The blocks behind it are put beside them, and the first start makes the rest.

use super::{Kept, StoreError, TreeFiles, base};
use record::{
    Hash,
    merkle::{EntryIndex, leaf_hash},
};
use replica::CHUNK;
use std::path::{Path, PathBuf};

/// A store that is being made, in a folder that nobody else uses. It is none before [`Beginning::finish`].
pub struct Beginning {
    dir: PathBuf,
    kept: Kept,
    tree: TreeFiles,
    /// The chunk that comes next.
    next: u64,
}

impl Beginning {
    /// Begins in `dir`, a folder without a tree and a base.
    ///
    /// # Errors
    /// When the machine refuses.
    pub fn new(dir: &Path, kept: Kept) -> Result<Self, StoreError> {
        let tree = TreeFiles::open(&dir.join("tree"))?;
        Ok(Beginning { dir: dir.to_owned(), kept, tree, next: 0 })
    }

    /// Takes the next chunk of leaf hashes, in order from the first entry on.
    ///
    /// # Errors
    /// They are not those that the base names, an entry that it keeps has another hash, or they cannot be written.
    pub fn chunk(&mut self, leaves: &[Hash]) -> Result<(), StoreError> {
        let (base, begin) = (&self.kept.base, self.next.saturating_mul(CHUNK));
        let wrong = |problem: String| Err(StoreError::Tree { problem });
        if !base.has_chunk(self.next, leaves) {
            return wrong(format!("the hashes from entry {begin} on are not those of the base"));
        }
        let range = EntryIndex(begin)..EntryIndex(begin + leaves.len() as u64);
        for (index, entry) in base.kept.range(range) {
            if leaf_hash(entry) != leaves[(index.0 - begin) as usize] {
                return wrong(format!("the base keeps another entry {index} than was hashed"));
            }
        }
        self.tree.put_chunk(self.next, leaves)?;
        self.next += 1;
        Ok(())
    }

    /// Makes the rest of the tree files, and all of it durable.
    ///
    /// # Errors
    /// A chunk is missing, or something cannot be written.
    pub fn finish(mut self) -> Result<(), StoreError> {
        let (base, dir) = (&self.kept.base, self.dir.join("tree"));
        if self.next != base.chunk_count() {
            let problem = format!("of {} chunks there are {}", base.chunk_count(), self.next);
            return Err(StoreError::Tree { problem });
        }
        self.tree.complete_upper(base.header.size)?;
        self.tree.sync()?;
        std::fs::File::open(&dir).and_then(|dir| dir.sync_all()).map_err(StoreError::sync(&dir))?;
        base::write(&self.dir, &self.kept.encoded, self.kept.digest)
    }
}
