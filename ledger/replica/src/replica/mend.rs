//! Blocks that this node had and cannot read any more are fetched from the others.
//!
//! What comes is believed for its certificate, and for what that does not cover, the agents' logs kept
//! with the batches, for the agents' seals.

use super::{Output, Replica};
use crate::{
    block::Block, engine::verify_certificate, members::NodeIndex, message::Message, now::Ticks,
};
use bytes::Bytes;
use record::{batch::SealedBatch, block::Height};
use std::collections::BTreeSet;

/// The most blocks that are looked for at one time.
const MAX_WANTED: usize = 1024;

/// What is looked for.
#[derive(Default)]
pub(super) struct Mending {
    wanted: BTreeSet<Height>,
    asked: Option<(NodeIndex, Ticks)>,
    /// Whether the node that was asked has sent something that was looked for.
    found_some: bool,
    /// The node that is asked next is behind this one.
    last: u8,
}

impl Replica {
    /// Looks for these blocks, which this node had, with the others; each that is found is an
    /// [`Output::Mended`]. Answers how many are looked for; ask again for what did not fit.
    pub fn mend(&mut self, heights: impl IntoIterator<Item = Height>) -> usize {
        let tip = self.state.height;
        let new = heights.into_iter().filter(|height| height.0 > 0 && *height <= tip);
        for height in new {
            if self.mending.wanted.len() >= MAX_WANTED {
                break;
            }
            self.mending.wanted.insert(height);
        }
        self.mending.wanted.len()
    }

    /// Stops looking for blocks that are there again, or whose place is filled otherwise.
    pub fn mended(&mut self, height: Height) {
        self.mending.wanted.remove(&height);
    }

    /// Stops looking for blocks up to this one: they were given up.
    pub(super) fn mend_from(&mut self, height: Height) {
        self.mending.wanted = self.mending.wanted.split_off(&Height(height.0 + 1));
    }

    /// Asks the next node, if what is looked for did not come.
    pub(super) fn consider_mending(&mut self) {
        let Some(first) = self.mending.wanted.first().copied() else { return };
        if self.mending.asked.is_some_and(|(_, at)| self.now.ticks.since(at) < self.timing.sync) {
            return;
        }
        let count = self.members.count() as u8;
        let last = self.mending.last;
        let turn = |index: &NodeIndex| (index.0 + count - 1 - last % count) % count;
        let able = self.others().filter(|index| {
            let peer = &self.peers[usize::from(index.0)];
            peer.up && peer.height >= first
        });
        let next = able.min_by_key(turn);
        self.mending.asked = next.map(|peer| (peer, self.now.ticks));
        self.mending.found_some = false;
        if let Some(peer) = next {
            self.mending.last = peer.0;
            self.send(Some(peer), Message::FetchBlocks(first));
        }
    }

    /// When the next node is asked.
    pub(super) fn mending_deadline(&self) -> Option<Ticks> {
        let (_, at) = self.mending.asked.filter(|_| !self.mending.wanted.is_empty())?;
        Some(at + self.timing.sync)
    }

    /// Takes a block that is looked for. Answers whether it was one.
    pub(super) fn take_mended(&mut self, from: NodeIndex, block: &Block, bytes: &Bytes) -> bool {
        let header = &block.header;
        let (height, id) = (header.height, header.id());
        if !self.mending.wanted.contains(&height) {
            return false;
        }
        if !verify_certificate(&self.members, height, id, &block.certificate) {
            self.fault(from, "a block without a quorum's certificate");
        } else if !self.logs_hold(block) {
            self.fault(from, "a block whose batches do not fit the logs that are kept with them");
        } else {
            self.mending.wanted.remove(&height);
            if let Some((peer, at)) = &mut self.mending.asked
                && *peer == from
            {
                *at = self.now.ticks;
                self.mending.found_some = true;
            }
            self.out.push_back(Output::Mended { height, bytes: bytes.clone() });
        }
        true
    }

    /// All blocks of one request came. A node that had none is not followed by the next one at once.
    pub(super) fn mending_served(&mut self, from: NodeIndex) {
        if self.mending.found_some && self.mending.asked.is_some_and(|(peer, _)| peer == from) {
            self.mending.asked = None;
        }
    }

    /// Whether each batch leads from the log kept with it to the root that its agent sealed.
    fn logs_hold(&mut self, block: &Block) -> bool {
        block.batches.iter().all(|kept| {
            let Ok(batch) = SealedBatch::decode(&kept.encoded) else { return false };
            let Some(log) = self.state.agents.get(&batch.agent) else { return false };
            batch.seal.verifies(&log.key, &self.params.origin, &batch.agent)
                && batch.follow(&kept.before, &mut self.codec, &mut self.scratch).is_ok()
        })
    }
}
