//! What a node keeps: the block log, the ledger tree and an index of both.
//!
//! Only the block log makes anything durable. The tree's level files and the
//! index are written after it and can always be made again from it, so
//! [`Store::open`] repairs them whenever they are behind, ahead or unreadable.
//!
//! ```text
//! DIR/blocks/        the block log (crate `journal`), record k is block k + 1
//! DIR/tree/level-0   leaf hashes, 32 bytes each; level-k: roots of full tiles of level k - 1
//! DIR/index/         sled
//! DIR/base           what is kept of blocks that were given up
//! DIR/checkpoint     the newest signed checkpoint as of the last flush, for audits of the store
//! ```

mod base;
mod beginning;
pub mod check;
mod index;
mod mend;
mod open;
mod prune;
mod reader;
mod rebuild;
mod tree;

pub use base::Agents;
pub use base::{
    Found as FoundBase, Kept, decode as decode_base, path as base_path, read as read_base,
    write as write_base,
};
pub use beginning::Beginning;
pub use index::{BatchKey, BatchPlace, Index};
pub use open::{Opened, Options};
pub use prune::PlanError;
pub(crate) use reader::batch_receipt;
pub use reader::{ReadError, StoreReader};
pub use tree::{TreeFiles, TreeReader};

use journal::{Journal, Seq};
use record::{Hash, block::Height, note::SignedNote};
use replica::{Executed, LedgerState, Params};
use service::disk::is_full;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The store cannot do something: this machine is at fault unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The block log.
    #[error("the block log: {0}")]
    Journal(#[from] journal::Error),
    /// A file of the store.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What was written to a file may not be on the disk, and syncing it once more would not tell: the process must
    /// stop. The next start makes again what is not known to be there.
    #[error("{} cannot be synced: {source}", path.display())]
    Sync {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The index. sled does not go on after an error; the next start makes good what it lost.
    #[error("the index in {}: {source}", path.display())]
    Index {
        /// Its folder.
        path: PathBuf,
        /// What sled says.
        source: sled::Error,
    },
    /// There is no space for the index, and sled does not go on when there is some again.
    #[error(
        "no space left for the index in {}: free space on this file system, and start again; the index then \
         catches up with the block log", path.display()
    )]
    IndexFull {
        /// Its folder.
        path: PathBuf,
    },
    /// The index cannot be read any more.
    #[error(
        "the index: {0}. This process ends, and the next start makes the index again from the block log"
    )]
    IndexBroken(String),
    /// The block log was damaged where it had been durable.
    #[error(
        "the block log is damaged: {damage}. The blocks behind it are intact. \
         Restore the named segment from a backup; 'logseal verify --store' lists all damage"
    )]
    Damaged {
        /// What is damaged, and where.
        damage: String,
    },
    /// The block log ends before what was signed for, or is another one.
    #[error(
        "the block log ends at {kept}, but {signed} were durable and signed for: its end was lost \
         or replaced. Going on would sign a second history. Restore the folder 'blocks' from a backup"
    )]
    CutOff {
        /// Where the block log ends.
        kept: String,
        /// What was signed for.
        signed: String,
    },
    /// The tree files.
    #[error("the tree files: {problem}")]
    Tree {
        /// What is wrong.
        problem: String,
    },
    /// A block that does not decode or execute.
    #[error("block {height} of the block log is not valid: {problem}. Was the store altered?")]
    Block {
        /// The block's number.
        height: Height,
        /// What is wrong.
        problem: String,
    },
    /// Too little space to open the index safely.
    #[error(
        "only {free} bytes are free in {}, at least {needed} are needed: free some space",
        dir.display()
    )]
    NoSpace {
        /// The store's directory.
        dir: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
}

impl StoreError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io { path, source }
    }

    /// True if something in the store is not as it should be, which the scrub may mend; false if the machine refuses.
    pub fn is_of_content(&self) -> bool {
        match self {
            StoreError::Journal(error) => matches!(error, journal::Error::Damaged(_)),
            StoreError::Damaged { .. } | StoreError::Block { .. } | StoreError::Tree { .. } => true,
            _ => false,
        }
    }

    fn sync(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Sync { path, source }
    }

    fn index(path: &Path) -> impl FnOnce(sled::Error) -> StoreError {
        let path = path.to_owned();
        move |source| match &source {
            sled::Error::Io(error) if is_full(error) => StoreError::IndexFull { path },
            _ => StoreError::Index { path, source },
        }
    }

    /// True if the disk is full and what failed may be tried again once there is space.
    pub fn is_full(&self) -> bool {
        match self {
            StoreError::Journal(error) => matches!(error, journal::Error::Full { .. }),
            StoreError::Io { source, .. } => is_full(source),
            _ => false,
        }
    }
}

/// The mark beside an index that is to be made again.
const CONDEMNED: &str = "index.broken";

/// The log record of a block.
fn seq_of(height: Height) -> Seq {
    Seq(height.0 - 1)
}

/// The store of the one process that writes it.
pub struct Store {
    dir: PathBuf,
    blocks: Journal,
    tree: TreeFiles,
    index: Index,
    params: Params,
    retention: Option<u32>,
    base: base::Shared,
    /// Chunks of leaf hashes in front of a base that is to be kept, as far as they were compared with it.
    compared: Option<(Hash, u64)>,
    reader: Arc<StoreReader>,
}

impl Store {
    /// Opens or makes the store in `dir`.
    pub fn open(dir: &Path, options: &Options) -> Result<Opened, StoreError> {
        open::open(dir, options)
    }

    /// A handle to read with, from any thread.
    pub fn reader(&self) -> Arc<StoreReader> {
        Arc::clone(&self.reader)
    }

    /// Bytes of the block log on disk.
    pub fn block_bytes(&self) -> u64 {
        self.blocks.bytes()
    }

    /// Makes a block durable. After this, and only after this, it may be acknowledged. If the disk
    /// is full nothing has happened and the call can be repeated.
    pub fn append(&mut self, executed: &Executed) -> Result<(), StoreError> {
        let expected = seq_of(executed.block.header.height);
        if self.blocks.next_seq() == expected {
            let parts = executed.block.encode_parts();
            let parts: Vec<&[u8]> = parts.iter().map(AsRef::as_ref).collect();
            self.blocks.append(&parts)?;
        }
        assert_eq!(self.blocks.next_seq(), expected.next(), "blocks are appended in order");
        self.blocks.sync()?;
        Ok(())
    }

    /// Adds a durable block, which was executed on top of `before`, to the tree and the index. If the disk is full
    /// the call can be repeated.
    pub fn record(&mut self, executed: &Executed, before: &LedgerState) -> Result<(), StoreError> {
        self.tree.append(&executed.tree)?;
        self.index.record(executed, before)?;
        if let Some(pruned) = executed.pruned.as_ref().filter(|pruned| self.lets_go(&pruned.prune))
        {
            self.reader.set_dropped(pruned.prune.size());
        }
        Ok(())
    }

    /// Sees to it that the next start makes the index again; the error is for the caller to stop with.
    pub fn condemn_index(&self, problem: String) -> StoreError {
        let mark = self.dir.join(CONDEMNED);
        match std::fs::File::create(&mark).and_then(|file| file.sync_all()) {
            Ok(()) => StoreError::IndexBroken(problem),
            Err(source) => StoreError::Io { path: mark, source },
        }
    }

    /// Brings tree and index to the disk, and the newest checkpoint beside them, so that the next
    /// start has little to make again. If the disk is full the call can be repeated.
    pub fn flush(&mut self, checkpoint: &SignedNote) -> Result<(), StoreError> {
        self.tree.sync()?;
        self.index.flush()?;
        let (path, new) = (self.dir.join("checkpoint"), self.dir.join("checkpoint.new"));
        let mut file = std::fs::File::create(&new).map_err(StoreError::io(&new))?;
        file.write_all(checkpoint.to_string().as_bytes()).map_err(StoreError::io(&new))?;
        file.sync_all().map_err(StoreError::sync(&new))?;
        std::fs::rename(&new, &path).map_err(StoreError::io(&path))
    }
}
