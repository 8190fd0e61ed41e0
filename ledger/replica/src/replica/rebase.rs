//! What others keep of blocks that were given up: the base and the leaf hashes.
//!
//! A node that needs blocks that nobody has any more begins again from the base. It believes the declaration
//! that gave them up for the certificate of the block that holds it, the base for its digest in that
//! declaration, and each chunk of leaf hashes for its root in the base. In the same way a node fetches a base
//! or a chunk that its disk lost.

use super::{Output, Replica, checkpoints::Checkpoints};
use crate::{
    base::{Base, MAX_BASE_BYTES},
    block::Block,
    engine::verify_certificate,
    members::NodeIndex,
    message::{MAX_BASE_PART, Message},
    now::Ticks,
};
use bytes::Bytes;
use record::{
    Hash,
    declaration::{Declaration, Matter, Prune},
};
use std::{collections::BTreeSet, sync::Arc};

/// The most chunks that are looked for at one time, but for those of a whole base.
const MAX_CHUNKS: usize = 1024;

/// What is looked for.
#[derive(Default)]
pub(super) struct Rebase {
    /// The digest of the base that is looked for, and what came of it.
    base: Option<(Hash, Vec<u8>)>,
    /// The base that chunks are compared with.
    known: Option<Arc<Base>>,
    chunks: BTreeSet<u64>,
    /// True if the ledger is to begin again with it.
    begins: bool,
    asked: Option<(NodeIndex, Ticks)>,
    /// The node that is asked next is behind this one.
    last: u8,
}

impl Replica {
    /// Looks for the base with this digest, which this node had; it comes as [`Output::Base`].
    pub fn want_base(&mut self, digest: Hash) {
        if !self.rebase.begins && self.rebase.base.is_none() {
            self.rebase.base = Some((digest, vec![]));
        }
    }

    /// Looks for chunks of leaf hashes that this node had, each comes as [`Output::Leaves`]. Ask again for those
    /// that are too many at once.
    pub fn want_chunks(&mut self, base: &Arc<Base>, chunks: impl IntoIterator<Item = u64>) {
        if self.rebase.begins {
            return;
        }
        self.rebase.known = Some(Arc::clone(base));
        for chunk in chunks {
            if self.rebase.chunks.len() < MAX_CHUNKS && chunk < base.chunk_count() {
                self.rebase.chunks.insert(chunk);
            }
        }
    }

    /// True while the ledger is to begin again with a base that is being fetched.
    pub(super) fn is_rebasing(&self) -> bool {
        self.rebase.begins
    }

    /// The driver keeps the base that came with [`Output::Rebase`], and nothing that was before it.
    ///
    /// # Panics
    /// If its state cannot be made, which decoding it has made sure of.
    pub fn handle_rebased(&mut self, now: crate::now::Now, base: &Base) {
        self.now = now;
        self.rebase = Rebase::default();
        self.state = base.state().expect("a base that was decoded has a state");
        self.checkpoints = Checkpoints::new(&self.state);
        self.end_height();
        self.reconsider_standing();
    }

    /// A node does not have the blocks that it was asked for: they were given up by this block.
    pub(super) fn handle_pruned(&mut self, from: NodeIndex, bytes: &[u8]) {
        let Ok(block) = Block::decode(bytes) else {
            return self.fault(from, "a block that cannot be read");
        };
        let header = &block.header;
        if !verify_certificate(&self.members, header.height, header.id(), &block.certificate) {
            return self.fault(from, "a block without a quorum's certificate");
        }
        let Some(prune) = prune_of(&block) else {
            return self.fault(from, "a block that gives nothing up, in place of others");
        };
        let further = prune.height > self.state.height && self.writing.is_none();
        let known = self.rebase.base.as_ref().map(|(digest, _)| *digest) == Some(prune.base)
            || self.rebase.known.as_ref().is_some_and(|base| base.header.id() == prune.block);
        if further && !(self.rebase.begins && known) {
            self.rebase = Rebase {
                base: Some((prune.base, vec![])),
                begins: true,
                last: from.0,
                ..Rebase::default()
            };
        }
    }

    /// Asks the next node for what is looked for, if it did not come.
    pub(super) fn consider_rebase(&mut self) {
        let chunk = self.rebase.chunks.first().copied();
        let wanted = match (&self.rebase.base, chunk) {
            (Some((digest, bytes)), _) => Message::FetchBase(*digest, bytes.len() as u64),
            (None, Some(chunk)) => Message::FetchLeaves(chunk),
            (None, None) => return,
        };
        if self.rebase.asked.is_some_and(|(_, at)| self.now.ticks.since(at) < self.timing.sync) {
            return;
        }
        let count = self.members.count() as u8;
        let last = self.rebase.last;
        let turn = |index: &NodeIndex| (index.0 + count - 1 - last % count) % count;
        let next =
            self.others().filter(|index| self.peers[usize::from(index.0)].up).min_by_key(turn);
        self.rebase.asked = next.map(|peer| (peer, self.now.ticks));
        if let Some(peer) = next {
            self.rebase.last = peer.0;
            self.send(Some(peer), wanted);
        }
    }

    /// When the next node is asked.
    pub(super) fn rebase_deadline(&self) -> Option<Ticks> {
        self.rebase.asked.map(|(_, at)| at + self.timing.sync)
    }

    pub(super) fn handle_base_part(
        &mut self,
        from: NodeIndex,
        total: u64,
        offset: u64,
        part: &[u8],
    ) {
        let Some((digest, bytes)) = &mut self.rebase.base else { return };
        let fits = bytes.len() as u64 == offset && !part.is_empty();
        if !fits || !self.rebase.asked.is_some_and(|(peer, _)| peer == from) {
            return;
        }
        let digest = *digest;
        bytes.extend_from_slice(part);
        let (had, most) = (bytes.len() as u64, MAX_BASE_BYTES as u64);
        if had < total && total <= most {
            return self.ask_on(from);
        }
        let bytes = std::mem::take(bytes);
        let right = had == total && Base::digest_of(&bytes) == digest;
        let decoded = right.then(|| Base::decode(&bytes)).and_then(Result::ok);
        let Some(base) = decoded else {
            // Parts of several nodes may be in it: whoever sent which, all of it is asked for again.
            self.fault(from, "a base that is not the one that was decided on");
            self.distrust(from);
            self.rebase.asked = None;
            return;
        };
        let base = Arc::new(base);
        self.rebase.base = None;
        self.rebase.known = Some(Arc::clone(&base));
        if self.rebase.begins {
            self.rebase.chunks = (0..base.chunk_count()).collect();
        }
        let begins = self.rebase.begins;
        self.out.push_back(Output::Base { base, encoded: bytes.into(), begins });
        self.ask_on(from);
    }

    pub(super) fn handle_leaves(&mut self, from: NodeIndex, chunk: u64, bytes: &Bytes) {
        let Some(base) = self.rebase.known.clone() else { return };
        if !self.rebase.chunks.contains(&chunk) {
            return;
        }
        let (hashes, rest) = bytes.as_chunks::<32>();
        let leaves: Vec<Hash> = hashes.iter().copied().map(Hash).collect();
        if !rest.is_empty() || !base.has_chunk(chunk, &leaves) {
            self.fault(from, "leaf hashes that are not those of the ledger");
            self.distrust(from);
            self.rebase.asked = None;
            return;
        }
        self.rebase.chunks.remove(&chunk);
        self.out.push_back(Output::Leaves { chunk, leaves });
        if !self.rebase.chunks.is_empty() {
            return self.ask_on(from);
        }
        self.rebase.asked = None;
        if self.rebase.begins {
            self.out.push_back(Output::Rebase(base));
        }
    }

    /// Asks the same node for what comes next.
    fn ask_on(&mut self, peer: NodeIndex) {
        let count = self.members.count() as u8;
        self.rebase.asked = None;
        self.rebase.last = (peer.0 + count - 1) % count;
        self.consider_rebase();
    }
}

/// The declaration by which a block gives others up.
fn prune_of(block: &Block) -> Option<Prune> {
    block.declarations.iter().find_map(|body| match Declaration::decode(body).ok()?.matter {
        Matter::Prune(prune) => Some(prune),
        Matter::Drill(_) => None,
    })
}

/// The part of an encoded base that begins at `offset`, as it is sent.
pub fn base_part(encoded: &[u8], offset: u64) -> Message {
    let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(encoded.len());
    let end = begin.saturating_add(MAX_BASE_PART).min(encoded.len());
    Message::BasePart {
        total: encoded.len() as u64,
        offset,
        part: Bytes::copy_from_slice(&encoded[begin..end]),
    }
}
