//! Giving up old blocks, serving what stays of them, and beginning again where this node lacks what is gone.

use super::{Node, NodeError};
use crate::{
    peers::Lane,
    store::{Kept, StoreError},
};
use bytes::Bytes;
use record::{Hash, block::Height};
use replica::{Base, Message, NodeIndex, base_part};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How soon it is tried again when it could not be done.
const TRY_EVERY: Duration = Duration::from_secs(10);

/// What is under way.
#[derive(Default)]
pub(super) struct Pruning {
    tried: Option<Instant>,
    /// Bytes that were freed so far.
    freed: u64,
    /// The base that the ledger will begin with.
    fetched: Option<Kept>,
}

impl Node {
    /// Gives up what was decided to be given up.
    pub(super) fn prune_if_due(&mut self) -> Result<(), NodeError> {
        let state = self.replica.state();
        let lacks_base = self.store.lacks_base(state);
        if !(lacks_base || self.store.is_prune_due(state))
            || self.pruning.tried.is_some_and(|tried| tried.elapsed() < TRY_EVERY)
        {
            return Ok(());
        }
        self.pruning.tried = Some(Instant::now());
        if lacks_base {
            let digest = state.pruned.as_ref().map(|pruned| pruned.prune.base);
            digest.into_iter().for_each(|digest| self.replica.want_base(digest));
            return Ok(());
        }
        let mut freed = 0;
        let pruned = self.while_full(|node| {
            freed = node.store.prune(node.replica.state())?;
            Ok::<(), StoreError>(())
        });
        match pruned {
            Ok(()) => {
                self.pruning.tried = None;
                self.pruning.freed += freed;
                let state = self.replica.state();
                if !self.store.is_prune_due(state) {
                    let freed = std::mem::take(&mut self.pruning.freed);
                    tracing::info!(entries = %state.dropped(), freed, "old entries were given up, as was declared and decided");
                }
                Ok(())
            }
            Err(error) if error.is_of_content() => {
                tracing::error!(%error, "what stays of old entries is asked of other nodes, since it cannot be made here");
                // Nobody may have the blocks any more that cannot be read here.
                let pruned = self.replica.state().pruned.as_ref();
                let digest = pruned.map(|pruned| pruned.prune.base);
                digest.into_iter().for_each(|digest| self.replica.want_base(digest));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tells a node that asks for blocks from this one on that they were given up, and by which block.
    pub(super) fn serve_pruned(&self, peer: &record::NodeName, from: Height) -> bool {
        let Some(outlets) = &self.links.outlets else { return false };
        let (reader, state) = (self.store.reader(), self.replica.state());
        let gone = from.0 <= reader.blocks().first_seq().0 && from <= state.dropped_height();
        let Some(pruned) = state.pruned.as_ref().filter(|_| gone) else { return false };
        let found = reader.index().block_of(pruned.index).ok().flatten();
        let block = found.map(|height| reader.block_bytes(journal::Seq(height.0 - 1)));
        match block {
            Some(Ok(bytes)) => {
                outlets.send(peer, Lane::Bulk, Message::Pruned(bytes.into()).encode().into())
            }
            Some(Err(error)) => {
                tracing::error!(%error, "a block cannot be read for another node");
                false
            }
            None => false,
        }
    }

    pub(super) fn serve_base(&self, to: NodeIndex, digest: Hash, offset: u64) {
        match self.store.reader().base() {
            Some(kept) if kept.digest == digest => {
                self.send(Some(to), &base_part(&kept.encoded, offset))
            }
            // It may want one that a later one took the place of.
            _ => {
                let peer = self.replica.members().get(to).name.clone();
                self.serve_pruned(&peer, Height(1));
            }
        }
    }

    pub(super) fn serve_leaves(&self, to: NodeIndex, chunk: u64) {
        let reader = self.store.reader();
        let kept = reader.base().filter(|kept| chunk < kept.base.chunk_count());
        let Some(kept) = kept else { return };
        match reader.chunk(chunk, kept.base.header.size) {
            // What is damaged here is of no use to anybody.
            Ok(leaves) if kept.base.has_chunk(chunk, &leaves) => {
                let hashes: Vec<u8> = leaves.iter().flat_map(|leaf| leaf.0).collect();
                self.send(Some(to), &Message::Leaves { chunk, hashes: hashes.into() });
            }
            Ok(_) => {
                tracing::error!(chunk, "leaf hashes that another node asks for are damaged here")
            }
            Err(error) => {
                tracing::error!(%error, chunk, "leaf hashes cannot be read for another node")
            }
        }
    }

    pub(super) fn handle_base(
        &mut self,
        base: Arc<Base>,
        encoded: &Bytes,
        begins: bool,
    ) -> Result<(), NodeError> {
        let digest = Base::digest_of(encoded);
        let kept = Kept { base, encoded: Arc::from(&encoded[..]), digest };
        if begins {
            let (entries, blocks) = (kept.base.header.size, kept.base.header.height);
            tracing::warn!(%entries, %blocks, "blocks that this node lacks were given up: it begins again behind them");
            self.pruning.fetched = Some(kept);
            return Ok(());
        }
        self.while_full(|node| {
            node.store.keep_base(kept.clone())?;
            // It may be there in place of blocks that could not be read.
            node.store.prune(node.replica.state()).map(drop)
        })?;
        self.note_mended("base", 1);
        tracing::info!("what is kept of pruned blocks is there again, from another node");
        Ok(())
    }

    pub(super) fn handle_leaves(&mut self, chunk: u64, leaves: &[Hash]) -> Result<(), NodeError> {
        self.while_full(|node| node.store.put_leaves(chunk, leaves))?;
        if self.pruning.fetched.is_none() {
            self.note_mended("tree", 1);
        }
        Ok(())
    }

    /// All that belongs to a base is here.
    pub(super) fn rebase(&mut self) -> Result<(), NodeError> {
        let Some(kept) = self.pruning.fetched.take() else { return Ok(()) };
        self.while_full(|node| node.store.begin_again(kept.clone()))?;
        if let Some(votes) = &mut self.votes {
            votes.release()?;
        }
        let now = self.now();
        self.replica.handle_rebased(now, &kept.base);
        self.view.set_logs(self.replica.state().agents.clone());
        self.note_tip();
        tracing::info!(entries = %kept.base.header.size, "this node has what is kept of pruned blocks");
        Ok(())
    }
}
