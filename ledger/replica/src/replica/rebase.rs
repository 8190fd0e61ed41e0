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
    now::{Now, Ticks},
};
use bytes::Bytes;
use record::{
    Hash,
    block::Height,
    declaration::{Declaration, Matter, Prune},
};
use std::{collections::BTreeSet, sync::Arc};

/// The most chunks that are looked for at one time, but for those of a whole base.
const MAX_CHUNKS: usize = 1024;

/// What is looked for.
#[derive(Default)]
pub(super) struct Rebase {
    /// The last block that others gave up, if the ledger is to begin again behind it.
    target: Option<Height>,
    base: Option<Wanted>,
    /// The base that chunks are compared with.
    known: Option<Arc<Base>>,
    chunks: BTreeSet<u64>,
    asked: Option<(NodeIndex, Ticks)>,
    /// How many nodes were asked since anything came.
    tries: usize,
    /// The node that is asked next is behind this one.
    last: u8,
}

/// A base that is looked for, and what came of it.
struct Wanted {
    digest: Hash,
    bytes: Vec<u8>,
    /// How long it is to be, as the first part says, and who sent that.
    begun: Option<(u64, NodeIndex)>,
    /// Parts came from several nodes: none of them can be blamed for the whole.
    mixed: bool,
}

/// What a part of a base leads to.
enum Taken {
    More,
    Whole,
    /// It does not fit what others sent, and nobody can tell who is wrong.
    Contradicts,
    /// No honest node sends it.
    Impossible,
}

impl Wanted {
    fn new(digest: Hash) -> Self {
        Wanted { digest, bytes: vec![], begun: None, mixed: false }
    }

    /// Takes the part behind what is here. All but the last are as long as parts may be: a node that sends
    /// little at a time would be asked without end.
    fn take(&mut self, from: NodeIndex, total: u64, part: &[u8]) -> Taken {
        let had = self.bytes.len() as u64;
        let (said, first) = *self.begun.get_or_insert((total, from));
        self.mixed |= first != from;
        if (said != total || total <= had) && self.mixed {
            return Taken::Contradicts;
        }
        let expected = total.saturating_sub(had).min(MAX_BASE_PART as u64);
        let possible = said == total && total > had && total <= MAX_BASE_BYTES as u64;
        if !possible || part.len() as u64 != expected {
            return Taken::Impossible;
        }
        self.bytes.extend_from_slice(part);
        if had + expected < total { Taken::More } else { Taken::Whole }
    }
}

impl Replica {
    /// Looks for the base with this digest, which this node had; it comes as [`Output::Base`].
    pub fn want_base(&mut self, digest: Hash) {
        // Another one takes the place of one that is not needed any more.
        let wanted = self.rebase.base.as_ref().map(|wanted| wanted.digest);
        if self.rebase.target.is_none() && wanted != Some(digest) {
            self.rebase.base = Some(Wanted::new(digest));
        }
    }

    /// Looks for chunks of leaf hashes that this node had, each comes as [`Output::Leaves`]. Ask again for those
    /// that are too many at once.
    pub fn want_chunks(&mut self, base: &Arc<Base>, chunks: impl IntoIterator<Item = u64>) {
        if self.rebase.target.is_some() {
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
        self.rebase.target.is_some()
    }

    /// The driver keeps the base that came with [`Output::Rebase`], and nothing that was before it.
    ///
    /// # Panics
    /// If its state cannot be made, which decoding it has made sure of; or if it lies behind this node's ledger,
    /// which then would forget what it voted for.
    pub fn handle_rebased(&mut self, now: Now, base: &Base) {
        self.now = now;
        assert!(base.header.height > self.state.height, "a ledger never goes back");
        self.rebase = Rebase::default();
        self.state = base.state().expect("a base that was decoded has a state");
        self.checkpoints = Checkpoints::new(&self.state);
        self.end_height();
        let agents = self.state.agents.clone();
        self.drop_unfit(&agents);
        self.drop_declarations();
        self.mend_from(base.header.height);
        self.reconsider_standing();
    }

    /// Nothing need be fetched of what this node has reached in another way. It may have voted behind it, so it
    /// must not begin there again.
    pub(super) fn outgrow_rebase(&mut self) {
        if self.rebase.target.is_some_and(|target| target <= self.state.height) {
            self.rebase = Rebase::default();
        }
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
        // An earlier one, that somebody says again, must not stop what is under way.
        let newest = self.rebase.target.unwrap_or_default().max(self.state.height);
        // Who was not asked could keep this node from those who have the blocks.
        let was_asked = |asked: Option<(NodeIndex, Ticks)>| asked.is_some_and(|(it, _)| it == from);
        let answers = was_asked(self.rebase.asked) || was_asked(self.sync.asked());
        if answers && prune.height > newest && self.writing.is_none() {
            self.rebase = Rebase {
                target: Some(prune.height),
                base: Some(Wanted::new(prune.base)),
                last: self.before(from),
                ..Rebase::default()
            };
        }
    }

    /// Asks the next node for what is looked for, if it did not come.
    pub(super) fn consider_rebase(&mut self) {
        let chunk = self.rebase.chunks.first().copied();
        let wanted = match (&self.rebase.base, chunk) {
            (Some(base), _) => Message::FetchBase(base.digest, base.bytes.len() as u64),
            (None, Some(chunk)) => Message::FetchLeaves(chunk),
            (None, None) => return,
        };
        if self.rebase.asked.is_some_and(|(_, at)| self.now.ticks.since(at) < self.timing.sync) {
            return;
        }
        if self.is_rebasing() && self.rebase.tries > 2 * self.members.count() {
            // Nobody has it who says so: others may have the blocks.
            self.rebase = Rebase::default();
            return;
        }
        let count = self.members.count() as u8;
        let last = self.rebase.last;
        let turn = |index: &NodeIndex| (index.0 + count - 1 - last % count) % count;
        let next =
            self.others().filter(|index| self.peers[usize::from(index.0)].up).min_by_key(turn);
        self.rebase.asked = next.map(|peer| (peer, self.now.ticks));
        if let Some(peer) = next {
            self.rebase.tries += 1;
            self.rebase.last = peer.0;
            self.send(Some(peer), wanted);
        }
    }

    /// Hands over what the ledger is to begin again with, once all of it came and nothing is being written. Answers
    /// whether it did: then nothing else is to be done before that.
    pub(super) fn complete_rebase(&mut self) -> bool {
        let rebase = &self.rebase;
        let whole = rebase.target.is_some() && rebase.base.is_none() && rebase.chunks.is_empty();
        if !whole || self.writing.is_some() {
            return false;
        }
        let Some(base) = std::mem::take(&mut self.rebase).known else { return false };
        self.out.push_back(Output::Rebase(base));
        true
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
        let asked = self.rebase.asked.is_some_and(|(peer, _)| peer == from);
        let Some(wanted) = &mut self.rebase.base else { return };
        if !asked || wanted.bytes.len() as u64 != offset {
            return;
        }
        match wanted.take(from, total, part) {
            Taken::More => self.ask_on(from),
            Taken::Whole => self.base_came(from),
            Taken::Contradicts => self.begin_base_again(),
            Taken::Impossible => {
                self.begin_base_again();
                self.reject_rebase(from, "a part of a base that cannot be one");
            }
        }
    }

    fn base_came(&mut self, from: NodeIndex) {
        let Some(wanted) = &mut self.rebase.base else { return };
        let (bytes, mixed) = (std::mem::take(&mut wanted.bytes), wanted.mixed);
        if Base::digest_of(&bytes) != wanted.digest {
            self.begin_base_again();
            if !mixed {
                self.reject_rebase(from, "a base that is not the one that was decided on");
            }
            return;
        }
        let Ok(base) = Base::decode(&bytes) else {
            // A quorum made it, so nobody else's would be another: a later version of this program can read it.
            self.rebase.base = Some(Wanted::new(Base::digest_of(&bytes)));
            return;
        };
        let (base, begins) = (Arc::new(base), self.is_rebasing());
        self.rebase.base = None;
        self.rebase.known = Some(Arc::clone(&base));
        if begins {
            self.rebase.chunks = (0..base.chunk_count()).collect();
        }
        self.out.push_back(Output::Base { base, encoded: bytes.into(), begins });
        self.ask_on(from);
    }

    pub(super) fn handle_leaves(&mut self, from: NodeIndex, chunk: u64, bytes: &Bytes) {
        let Some(base) = self.rebase.known.clone() else { return };
        let (hashes, rest) = bytes.as_chunks::<32>();
        let len = base.chunk_len(chunk);
        // Of the last chunk a node that gave up less has less: another one is asked when it is time.
        if !self.rebase.chunks.contains(&chunk) || (rest.is_empty() && hashes.len() < len) {
            return;
        }
        // And one that gave up more has more.
        let leaves: Vec<Hash> = hashes.iter().take(len).copied().map(Hash).collect();
        if !rest.is_empty() || !base.has_chunk(chunk, &leaves) {
            return self.reject_rebase(from, "leaf hashes that are not those of the ledger");
        }
        self.rebase.chunks.remove(&chunk);
        self.out.push_back(Output::Leaves { chunk, leaves });
        if !self.rebase.chunks.is_empty() {
            return self.ask_on(from);
        }
        self.rebase.asked = None;
        if !self.is_rebasing() {
            self.rebase.known = None;
        }
    }

    fn reject_rebase(&mut self, from: NodeIndex, problem: &str) {
        self.fault(from, problem);
        self.distrust(from);
        if self.rebase.asked.is_some_and(|(peer, _)| peer == from) {
            self.rebase.asked = None;
        }
    }

    /// All of the base is asked for again, of the next node.
    fn begin_base_again(&mut self) {
        if let Some(wanted) = &mut self.rebase.base {
            *wanted = Wanted::new(wanted.digest);
        }
        self.rebase.asked = None;
    }

    /// Asks the same node for what comes next.
    fn ask_on(&mut self, peer: NodeIndex) {
        (self.rebase.asked, self.rebase.tries) = (None, 0);
        self.rebase.last = self.before(peer);
        self.consider_rebase();
    }

    /// The node whose turn is in front of this one's.
    fn before(&self, peer: NodeIndex) -> u8 {
        let count = self.members.count() as u8;
        (peer.0 + count - 1) % count
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
