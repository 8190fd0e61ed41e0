//! A node's store as a source of hashes and entries, read while the node may be running.

use super::Each;
use crate::{
    client::read_policy,
    output::{Failure, fail},
};
use journal::{Look, Reader, Seq, open_read_only_as};
use ledger::store::{FoundBase, TreeReader, read_base};
use record::{
    Checkpoint, Hash,
    batch::Codec,
    entry::Enterprise,
    merkle::{EntryIndex, NodeId, NodeSource},
    note::SignedNote,
};
use replica::{Block, Params, entries::for_each_entry};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};

/// A store, at the size of its newest kept checkpoint.
pub struct Stored {
    blocks: Reader,
    tree: TreeReader,
    params: Params,
    /// The first entry that is there.
    first: u64,
    size: u64,
    dir: PathBuf,
}

impl Stored {
    /// Opens the store in `dir` without changing anything, with the checkpoint that lies in it. Without
    /// a policy, nobody's signature on that is checked.
    ///
    /// # Errors
    /// It is no store, cannot be read, or its checkpoint does not satisfy the policy.
    pub fn open(
        dir: &Path,
        policy: Option<&Path>,
        enterprise: u32,
    ) -> Result<(Self, SignedNote, Checkpoint), Failure> {
        let path = dir.join("checkpoint");
        let bytes = std::fs::read(&path).map_err(Failure::file(&path))?;
        let named = |problem: String| Failure(format!("{}: {problem}", path.display()));
        let note = SignedNote::parse(&bytes).map_err(|error| named(error.to_string()))?;
        if let Some(policy) = policy {
            let (_, policy) = read_policy(policy)?;
            policy.verify(&note).map_err(|error| named(error.to_string()))?;
        }
        let checkpoint =
            Checkpoint::parse(note.text()).map_err(|error| named(error.to_string()))?;
        let (blocks, _) = open_read_only_as(dir.join("blocks"), Look::Last).map_err(fail)?;
        let tree = TreeReader::open_read_only(&dir.join("tree")).map_err(fail)?;
        let first = first_entry(dir, &blocks)?;
        let stored = Stored {
            blocks,
            tree,
            params: Params {
                origin: checkpoint.origin.clone(),
                enterprise: Enterprise(enterprise),
            },
            first,
            size: checkpoint.size.0,
            dir: dir.to_owned(),
        };
        Ok((stored, note, checkpoint))
    }

    pub(super) fn first(&self) -> u64 {
        self.first.min(self.size)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn entries(&self, range: Range<u64>, each: &mut Each<'_>) -> Result<(), Failure> {
        let mut seq = self.block_with(range.start)?;
        let (mut next, mut codec) = (range.start, Codec::default());
        while next < range.end {
            let block = self.block(seq)?;
            let end = block.header.size.0.min(range.end);
            let wanted = EntryIndex(next)..EntryIndex(end);
            let mut entries = Vec::new();
            for_each_entry(&self.params, &block, wanted, &mut codec, |entry| {
                entries.push(entry.to_vec());
            })
            .map_err(|error| self.wrong(seq, &error))?;
            if entries.len() as u64 != end.saturating_sub(next) {
                let problem = "it has fewer entries than its header says";
                return Err(Failure(format!("{}: block {}: {problem}", self.shown(), seq + 1)));
            }
            for entry in &entries {
                if each(next, entry)?.is_break() {
                    return Ok(());
                }
                next += 1;
            }
            seq += 1;
        }
        Ok(())
    }

    /// The journal record of the block that has this entry.
    fn block_with(&self, index: u64) -> Result<u64, Failure> {
        let (mut low, mut high) = (self.blocks.first_seq().0, self.blocks.durable().0);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.block(middle)?.header.size.0 > index { high = middle } else { low = middle + 1 }
        }
        Ok(low)
    }

    fn block(&self, seq: u64) -> Result<Block, Failure> {
        let bytes = self.blocks.read(Seq(seq)).map_err(fail)?;
        Block::decode_unchecked(&bytes).map_err(|error| self.wrong(seq, &error))
    }

    fn wrong(&self, seq: u64, error: &dyn std::error::Error) -> Failure {
        Failure(format!("{}: block {}: {error}", self.shown(), seq + 1))
    }

    fn shown(&self) -> String {
        self.dir.display().to_string()
    }
}

/// The first entry that a store has, by its base.
fn first_entry(dir: &Path, blocks: &Reader) -> Result<u64, Failure> {
    let broken = |problem: &str| {
        let look = "'logseal verify --store' says more, and a node mends it when it starts";
        Failure(format!("{}: {problem}: {look}", dir.display()))
    };
    match read_base(dir).map_err(fail)? {
        FoundBase::Base(kept) if kept.base.header.height.0 < blocks.first_seq().0 => {
            Err(broken("blocks behind its base are missing"))
        }
        FoundBase::Base(kept) => Ok(kept.base.header.size.0),
        FoundBase::Damaged { problem, .. } => Err(broken(&format!("its base: {problem}"))),
        FoundBase::Nothing if blocks.first_seq() > Seq(0) => {
            Err(broken("its first blocks are gone, and nothing says why: its base is missing"))
        }
        FoundBase::Nothing => Ok(0),
    }
}

impl NodeSource for Stored {
    type Error = Failure;

    fn node(&self, id: NodeId) -> Result<Hash, Failure> {
        self.tree
            .node(id)
            .map_err(|error| Failure(format!("{}: the tree files: {error}", self.dir.display())))
    }
}
