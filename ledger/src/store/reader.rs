//! Reading a store: entries by index, records with their proofs, tiles.

use super::{
    BatchKey, BatchPlace, Index, StoreError, TreeReader,
    base::{self, Kept},
    seq_of,
};
use link::message::{BatchReceipt, RecordEvidence};
use record::{
    AgentName, Checkpoint, Hash, TreeSize,
    batch::{Codec, SealedBatch},
    block::Height,
    crypto::PublicKey,
    merkle::{EntryIndex, RangeProof, inclusion_proof, leaf_hash, range_proof},
    note::SignedNote,
    proof::TlogProof,
    seal::agent_vkey,
};
use replica::{Block, BlockTree, CHUNK, Params, entries::for_each_entry};
use std::{
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Something cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tree files.
    #[error("the tree files: {0}")]
    Tree(#[from] io::Error),
    /// Entries that are not kept any more.
    #[error(
        "entries up to {0} were given up, as an operator declared and the nodes agreed: only their hashes are kept"
    )]
    Pruned(TreeSize),
    /// The base is missing.
    #[error("this node lost what is kept of pruned blocks, and waits for it from the other nodes")]
    Base,
    /// A block or batch in the log does not decode.
    #[error("block {0} of the block log cannot be decoded")]
    Block(Height),
}

impl From<journal::Error> for ReadError {
    fn from(error: journal::Error) -> Self {
        ReadError::Store(error.into())
    }
}

/// Reads a store while it is written.
pub struct StoreReader {
    params: Params,
    blocks: journal::Reader,
    tree: TreeReader,
    index: Index,
    base: base::Shared,
    /// How many entries are not here any more.
    dropped: AtomicU64,
    /// The base that was made last: it is planned, compared and kept one after the other.
    made: Mutex<Option<Kept>>,
}

impl StoreReader {
    pub(super) fn new(
        params: Params,
        blocks: journal::Reader,
        tree: TreeReader,
        index: Index,
        base: base::Shared,
    ) -> Self {
        StoreReader {
            params,
            blocks,
            tree,
            index,
            base,
            dropped: AtomicU64::new(0),
            made: Mutex::default(),
        }
    }

    /// How many entries are not here any more, from the first one on.
    pub fn dropped(&self) -> TreeSize {
        TreeSize(self.dropped.load(Ordering::Acquire))
    }

    /// The minimum index (C2SP tlog-tiles): entry bundles that end there or before are not served any more.
    pub fn minimum_index(&self) -> EntryIndex {
        EntryIndex(self.dropped().0.div_ceil(256) * 256)
    }

    pub(super) fn set_dropped(&self, dropped: TreeSize) {
        self.dropped.store(dropped.0, Ordering::Release);
    }

    /// What is kept of the blocks that were given up, if any were and it is here.
    pub fn base(&self) -> Option<Kept> {
        self.base.get()
    }

    /// The base that was made last.
    pub(super) fn made(&self) -> MutexGuard<'_, Option<Kept>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leaf hashes of a chunk of [`CHUNK`] leaves, as far as it is in front of `end`.
    pub fn chunk(&self, chunk: u64, end: TreeSize) -> Result<Vec<Hash>, ReadError> {
        let begin = chunk.saturating_mul(CHUNK);
        let count = end.0.saturating_sub(begin).min(CHUNK);
        Ok(self.tree.hashes(0, begin, count as usize)?)
    }

    /// The ledger's parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The ledger tree.
    pub fn tree(&self) -> &TreeReader {
        &self.tree
    }

    /// Where a batch is, if it is in the ledger.
    pub fn batch(&self, key: &BatchKey) -> Result<Option<BatchPlace>, StoreError> {
        self.index.batch(key)
    }

    /// The block log.
    pub fn blocks(&self) -> &journal::Reader {
        &self.blocks
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// A block in its binary form, by its record of the block log.
    pub fn block_bytes(&self, seq: journal::Seq) -> Result<Vec<u8>, ReadError> {
        Ok(self.blocks.read(seq)?)
    }

    /// A block.
    pub fn block(&self, height: Height) -> Result<Block, ReadError> {
        let bytes = self.blocks.read(seq_of(height))?;
        Block::decode(&bytes).map_err(|_| ReadError::Block(height))
    }

    /// The entries `from..to`, which must be in the ledger.
    ///
    /// # Errors
    /// [`ReadError::Pruned`] if one of them was given up.
    pub fn entries(&self, from: EntryIndex, to: EntryIndex) -> Result<Vec<Vec<u8>>, ReadError> {
        if from.0 < self.dropped().0 && from < to {
            return Err(ReadError::Pruned(self.dropped()));
        }
        let mut entries = Vec::new();
        let mut codec = Codec::default();
        let mut next = from;
        while next < to {
            let Some(height) = self.index.block_of(next)? else { break };
            let block = self.block(height)?;
            let range = next..to.min(EntryIndex(block.header.size.0));
            next = range.end;
            for_each_entry(&self.params, &block, range, &mut codec, |entry| {
                entries.push(entry.to_vec());
            })
            .map_err(|_| ReadError::Block(height))?;
        }
        Ok(entries)
    }

    /// The receipt of a batch that is in the ledger, under `checkpoint`.
    pub fn receipt(
        &self,
        key: &BatchKey,
        place: &BatchPlace,
        checkpoint: &SignedNote,
    ) -> Result<BatchReceipt, ReadError> {
        let size = size_of(checkpoint);
        let end = EntryIndex(place.first.0 + u64::from(key.count) + 1);
        let proof = range_proof(&self.tree, place.first, end, size)?;
        Ok(batch_receipt(key, place.first, proof, checkpoint.to_string()))
    }

    /// The enrolment of `agent` with its proof under `checkpoint`.
    fn enrolment(
        &self,
        agent: &AgentName,
        checkpoint: &SignedNote,
    ) -> Result<Option<(Vec<u8>, TlogProof)>, ReadError> {
        let Some(index) = self.index.enrolment_of(agent)? else { return Ok(None) };
        let entry = if index.0 < self.dropped().0 {
            let kept = self.base().and_then(|kept| kept.base.kept.get(&index).cloned());
            Some(kept.ok_or(ReadError::Base)?)
        } else {
            self.entries(index, EntryIndex(index.0 + 1))?.pop()
        };
        let inclusion = inclusion_proof(&self.tree, index, size_of(checkpoint))?;
        let checkpoint = checkpoint.clone();
        let proof = TlogProof { extra: None, index, inclusion, checkpoint };
        Ok(entry.map(|entry| (entry, proof)))
    }

    /// Record `n` of `agent` with its proofs, under `checkpoint`; `None` if it is not in the ledger.
    pub fn record(
        &self,
        agent: &AgentName,
        n: EntryIndex,
        key: PublicKey,
        checkpoint: &SignedNote,
    ) -> Result<Option<RecordEvidence>, ReadError> {
        let size = size_of(checkpoint);
        let Some((batch_key, place)) = self.index.batch_of(agent, n)? else {
            let kept = self.base();
            let log = kept.as_ref().and_then(|kept| kept.base.agents.get(agent));
            let pruned = log.is_some_and(|log| n.0 < log.frontier.size().0);
            return if pruned { Err(ReadError::Pruned(self.dropped())) } else { Ok(None) };
        };
        let offset = n.0 - batch_key.start.0;
        let index = EntryIndex(place.first.0 + offset);
        if index.0 >= size.0 {
            return Ok(None);
        }
        if index.0 < self.dropped().0 {
            return Err(ReadError::Pruned(self.dropped()));
        }
        let broken = || ReadError::Block(place.height);
        let block = self.block(place.height)?;
        let body = block.batches.get(place.nth as usize).ok_or_else(broken)?;
        let batch = SealedBatch::decode(&body.encoded).map_err(|_| broken())?;
        let mut bundle = Vec::new();
        let ranges = Codec::default().unpack(&batch, &mut bundle).map_err(|_| broken())?;
        let leaves: Vec<Hash> = ranges.iter().map(|r| leaf_hash(&bundle[r.clone()])).collect();
        let entry = ranges.get(offset as usize).ok_or_else(broken)?.clone();
        let tree = BlockTree::of(body.before.clone(), &leaves);
        let Ok(inclusion) = inclusion_proof(&tree, n, batch.seal.size);
        let agent_proof = TlogProof {
            extra: None,
            index: n,
            inclusion,
            checkpoint: batch.seal.note(&self.params.origin, agent, key),
        };
        let ledger_proof = TlogProof {
            extra: None,
            index,
            inclusion: inclusion_proof(&self.tree, index, size)?,
            checkpoint: checkpoint.clone(),
        };
        let Some((enrolment, enrolment_proof)) = self.enrolment(agent, checkpoint)? else {
            return Err(broken());
        };
        Ok(Some(RecordEvidence {
            enrolment,
            enrolment_proof: enrolment_proof.to_string(),
            entry: bundle[entry].to_vec(),
            agent_proof: agent_proof.to_string(),
            ledger_proof: ledger_proof.to_string(),
            agent_vkey: agent_vkey(&self.params.origin, agent, key).to_string(),
        }))
    }
}

/// Puts a receipt together for the wire.
pub(crate) fn batch_receipt(
    key: &BatchKey,
    first: EntryIndex,
    proof: RangeProof,
    checkpoint: String,
) -> BatchReceipt {
    let bytes = |hashes: Vec<Hash>| hashes.into_iter().map(|hash| hash.0).collect();
    BatchReceipt {
        start: key.start.0,
        size: key.start.0 + u64::from(key.count),
        sealed: key.sealed.0,
        first: first.0,
        left: bytes(proof.left),
        right: bytes(proof.right),
        checkpoint,
    }
}

/// The tree size of a checkpoint of our own making.
fn size_of(checkpoint: &SignedNote) -> TreeSize {
    Checkpoint::parse(checkpoint.text()).expect("this node wrote it").size
}
