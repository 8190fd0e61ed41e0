//! Mending the store while the node works: what the scrub found is written again, and what this node
//! has not, it asks the others for.

use super::{Node, NodeError};
use crate::store::{StoreError, check::Mend};
use bytes::Bytes;
use record::block::Height;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Blocks that were fetched and wait for others of their segment: at most so many bytes.
const MAX_HELD: usize = 64 << 20;
/// Blocks that are looked for at one time; the next scrub finds the others.
const MAX_MISSING: usize = 100_000;
/// How often it is tried to put back what was fetched, and asked for what is missing.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// What is to be put back.
#[derive(Default)]
pub(super) struct Mending {
    /// Blocks that cannot be read.
    missing: BTreeSet<Height>,
    /// Those of them that were fetched.
    held: BTreeMap<Height, Vec<u8>>,
    held_bytes: usize,
    tried: Option<Instant>,
}

impl Node {
    /// Mends what can be mended here, and looks for the rest.
    pub(super) fn handle_mends(&mut self, mends: Vec<Mend>) -> Result<(), NodeError> {
        for mend in mends {
            match &mend {
                Mend::Blocks(range) if self.replica.members().count() > 1 => {
                    let room = MAX_MISSING.saturating_sub(self.mending.missing.len());
                    self.mending.missing.extend(range.clone().take(room).map(Height));
                }
                Mend::Blocks(_) => {}
                Mend::Chunk(chunk) => {
                    if let Some(kept) = self.store.reader().base() {
                        self.replica.want_chunks(&kept.base, [*chunk]);
                    }
                }
                Mend::Base if self.store.reader().base().is_none() => {
                    let digest = self.replica.state().pruned.as_ref().map(|p| p.prune.base);
                    digest.into_iter().for_each(|digest| self.replica.want_base(digest));
                }
                other => {
                    self.while_full(|node| node.store.mend(other).map(drop))?;
                    self.note_mended(kind(other), 1);
                }
            }
        }
        self.mend_blocks()
    }

    /// Counts what was mended, for metrics and status.
    pub(super) fn note_mended(&self, kind: &'static str, count: u64) {
        self.metrics.mended(kind).inc_by(count);
        self.view.note_mended(kind, count);
    }

    /// A block that was looked for came.
    pub(super) fn handle_mended(&mut self, height: Height, bytes: &Bytes) {
        if self.mending.held_bytes + bytes.len() <= MAX_HELD {
            self.mending.held_bytes += bytes.len();
            self.mending.held.insert(height, bytes.to_vec());
        }
    }

    /// Puts back what was fetched, and asks for what was not.
    pub(super) fn mend_blocks(&mut self) -> Result<(), NodeError> {
        if self.mending.missing.is_empty()
            || self.mending.tried.is_some_and(|tried| tried.elapsed() < TRY_EVERY)
        {
            return Ok(());
        }
        self.mending.tried = Some(Instant::now());
        if !self.mending.held.is_empty() {
            self.put_back()?;
        }
        let held = &self.mending.held;
        let wanted = self.mending.missing.iter().filter(|height| !held.contains_key(height));
        let wanted: Vec<Height> = wanted.copied().collect();
        self.replica.mend(wanted);
        Ok(())
    }

    fn put_back(&mut self) -> Result<(), NodeError> {
        let held = std::mem::take(&mut self.mending.held);
        self.mending.held_bytes = 0;
        let mut placed = BTreeSet::new();
        let put = self.while_full(|node| {
            placed = node.store.put_back(&held)?;
            Ok::<(), StoreError>(())
        });
        match put {
            Ok(()) => {}
            // What is there can be read after all, and is something else: the scrub says so.
            Err(StoreError::Journal(error @ journal::Error::Conflict { .. })) => {
                tracing::error!(%error, "blocks of other nodes cannot be put back");
                self.mending.missing.clear();
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        for height in &placed {
            self.mending.missing.remove(height);
            self.replica.mended(*height);
        }
        if let (Some(first), Some(last)) = (placed.first(), placed.last()) {
            tracing::info!(%first, %last, blocks = placed.len(), "blocks that were damaged are there again, from other nodes");
            self.note_mended("block", placed.len() as u64);
        }
        let full = held.values().map(Vec::len).sum::<usize>() > MAX_HELD / 2;
        for (height, block) in held.into_iter().filter(|(height, _)| !placed.contains(height)) {
            // Room for others of the same segments, if these keep them out.
            if !full {
                self.mending.held_bytes += block.len();
                self.mending.held.insert(height, block);
            }
        }
        Ok(())
    }
}

fn kind(mend: &Mend) -> &'static str {
    match mend {
        Mend::Blocks(_) => "block",
        Mend::Segment(_) => "segment",
        Mend::Leaves { .. } | Mend::Upper { .. } | Mend::Chunk(_) => "tree",
        Mend::Base => "base",
        Mend::Index { .. } => "index",
    }
}
