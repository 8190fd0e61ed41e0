//! Catching up: blocks that others decided are fetched, and each is verified by its certificate and
//! by executing it. Nobody's word on what was decided is believed.

use super::{Replica, proposals::Candidate};
use crate::{
    block::Block, engine::verify_certificate, execute::replay, members::NodeIndex,
    message::Message, now::Ticks,
};
use bytes::Bytes;
use record::block::Height;

/// What is under way to catch up.
#[derive(Default)]
pub(super) struct Sync {
    /// Who was asked, and when it last sent a block.
    asked: Option<(NodeIndex, Ticks)>,
    /// The first block that was asked for.
    first: Height,
    /// Since when somebody has been one block ahead.
    behind_since: Option<Ticks>,
    /// The node that is asked next is behind this one.
    last: u8,
    urgent: bool,
}

impl Sync {
    /// Who was asked, and when it last sent a block.
    pub(super) fn asked(&self) -> Option<(NodeIndex, Ticks)> {
        self.asked
    }

    /// A block was decided whose bodies are not here.
    pub(super) fn urge(&mut self) {
        self.urgent = true;
    }

    /// True if the node that was asked sent at least one block.
    fn served_some(&self, tip: Height) -> bool {
        tip >= self.first
    }
}

impl Replica {
    /// Asks for blocks if others are ahead.
    pub(super) fn consider_sync(&mut self) {
        let tip = self.state.height;
        let best = self.others().map(|peer| self.peers[usize::from(peer.0)].height).max();
        let best = best.unwrap_or_default();
        if best <= tip || self.writing.is_some() {
            if best <= tip {
                (self.sync.behind_since, self.sync.urgent) = (None, false);
            }
            return;
        }
        let now = self.now.ticks;
        let since = *self.sync.behind_since.get_or_insert(now);
        // One block ahead is what the next proposer is for a moment.
        let soon = best.0 > tip.0 + 1 || self.sync.urgent || !self.may_vote();
        if !soon && now.since(since) < self.timing.lag {
            return;
        }
        if let Some((_, at)) = self.sync.asked
            && now.since(at) < self.timing.sync
        {
            return;
        }
        if let Some(peer) = self.pick_source(tip) {
            self.ask_blocks(peer);
        }
    }

    /// A node that is ahead, each in turn; those that lied or cannot be reached last.
    fn pick_source(&self, tip: Height) -> Option<NodeIndex> {
        let count = self.members.count() as u8;
        let turn = |index: NodeIndex| (index.0 + count - 1 - self.sync.last % count) % count;
        let ahead = self.others().filter(|index| {
            let peer = &self.peers[usize::from(index.0)];
            peer.up && peer.height > tip
        });
        ahead.min_by_key(|index| (self.is_slow(*index), turn(*index)))
    }

    fn ask_blocks(&mut self, peer: NodeIndex) {
        self.sync.asked = Some((peer, self.now.ticks));
        self.sync.last = peer.0;
        let from = Height(self.state.height.0 + 1);
        self.sync.first = from;
        self.send(Some(peer), Message::FetchBlocks(from));
    }

    pub(super) fn handle_block(&mut self, from: NodeIndex, bytes: &Bytes) {
        let block = match Block::decode(bytes) {
            Ok(block) => block,
            Err(error) => return self.reject_source(from, &error.to_string()),
        };
        if self.take_mended(from, &block, bytes) || self.writing.is_some() {
            return;
        }
        let header = &block.header;
        if header.height.0 != self.state.height.0 + 1 {
            return;
        }
        let (height, id) = (header.height, header.id());
        if !verify_certificate(&self.members, height, id, &block.certificate) {
            return self.reject_source(from, "a block without a quorum's certificate");
        }
        let executed = match self.candidates.remove(&id) {
            Some(Candidate::Ready(mut executed)) => {
                executed.block.certificate = block.certificate;
                executed
            }
            _ => match replay(&self.params, &self.state, block, &mut self.codec) {
                Ok(executed) => Box::new(executed),
                Err(error) => return self.reject_source(from, &error.to_string()),
            },
        };
        if let Some((peer, at)) = &mut self.sync.asked
            && *peer == from
        {
            *at = self.now.ticks;
        }
        self.sync.urgent = false;
        self.append(executed);
    }

    /// All blocks of one request came: more may be needed.
    pub(super) fn handle_served(&mut self, from: NodeIndex) {
        let (ours, tip) =
            (self.sync.asked.is_some_and(|(peer, _)| peer == from), self.state.height);
        if !ours {
            return;
        }
        self.sync.asked = None;
        let peer = &mut self.peers[usize::from(from.0)];
        if self.sync.served_some(tip) {
            if peer.up && peer.height > tip {
                self.ask_blocks(from);
            }
        } else if self.writing.is_none() {
            // It does not have what it said it has; others may.
            peer.height = peer.height.min(tip);
        }
    }

    fn reject_source(&mut self, from: NodeIndex, problem: &str) {
        self.fault(from, format!("a block that was never decided: {problem}"));
        self.distrust(from);
        if self.sync.asked.is_some_and(|(peer, _)| peer == from) {
            self.sync.asked = None;
        }
    }
}
