//! Checkpoints: cosigned once durable, published once a quorum has cosigned.

use super::{Event, Output, Replica};
use crate::{
    members::NodeIndex,
    message::{Cosigned, Message},
    state::LedgerState,
};
use record::{
    Checkpoint, Hash, TreeSize, UnixSeconds,
    block::Height,
    cosignature::Cosignature,
    crypto::Signature,
    equivocation::{Equivocation, EquivocationKind, Statement},
    note::{NoteSignature, SignedNote},
};
use std::collections::BTreeMap;

/// How many sizes that this node has not reached are remembered of each node.
const AHEAD: usize = 16;

/// The newest checkpoint that a quorum has cosigned.
#[derive(Clone, Debug)]
pub struct Head {
    /// The height of the block behind it.
    pub height: Height,
    /// The tree's size.
    pub size: TreeSize,
    /// Signed and cosigned.
    pub checkpoint: SignedNote,
    /// When the quorum's last cosignature on it was made: how fresh it is.
    pub time: UnixSeconds,
}

/// Cosignatures as they come in.
pub(super) struct Checkpoints {
    /// The newest tree that this node has cosigned.
    signed: (TreeSize, Hash, UnixSeconds),
    /// By size: our root if we have it, and what others cosigned.
    sizes: BTreeMap<TreeSize, Collected>,
    published: Option<Head>,
}

#[derive(Default)]
struct Collected {
    ours: Option<(Height, Hash)>,
    cosigned: BTreeMap<NodeIndex, Cosigned>,
}

impl Checkpoints {
    pub(super) fn new(state: &LedgerState) -> Self {
        let signed = (state.tree.size(), state.tree.root(), UnixSeconds(0));
        Checkpoints { signed, sizes: BTreeMap::new(), published: None }
    }

    pub(super) fn published(&self) -> Option<&Head> {
        self.published.as_ref()
    }
}

impl Replica {
    /// Cosigns the newest durable tree, as of now.
    ///
    /// # Panics
    /// If it would cosign two roots at one size, or a smaller tree than before.
    pub(super) fn cosign(&mut self) {
        let (size, root) = (self.state.tree.size(), self.state.tree.root());
        let (last_size, last_root, last_time) = self.checkpoints.signed;
        let grows = size > last_size || (size == last_size && root == last_root);
        assert!(grows, "a node never cosigns two roots at one size, nor a smaller tree");
        let time = self.now.wall.seconds().max(last_time);
        self.checkpoints.signed = (size, root, time);
        let text = self.checkpoint_text(size, root);
        let signature = Cosignature::sign(self.identity.cosigner.key(), &text, time).signature;
        let height = self.state.height;
        let cosigned = Cosigned { height, size, root, time, signature };
        let collected = self.checkpoints.sizes.entry(size).or_default();
        collected.ours = Some((height, root));
        collected.cosigned.insert(self.own, cosigned);
        self.peers[usize::from(self.own.0)].signed = time;
        self.send(None, Message::Cosigned(cosigned));
        self.publish_checkpoint(size);
    }

    /// Cosigns a block that is only voted for.
    #[cfg(feature = "planted-bugs")]
    pub(super) fn cosign_early(&mut self, id: Hash) {
        let Some(super::Candidate::Ready(executed)) = self.candidates.get(&id) else { return };
        let (size, root) = (executed.block.header.size, executed.block.header.root);
        let (height, time) = (executed.block.header.height, self.now.wall.seconds());
        let text = self.checkpoint_text(size, root);
        let signature = Cosignature::sign(self.identity.cosigner.key(), &text, time).signature;
        self.send(None, Message::Cosigned(Cosigned { height, size, root, time, signature }));
    }

    /// Renews the cosignature when its interval is over, so that readers know how fresh it is.
    pub(super) fn renew(&mut self) {
        let slot = |time: UnixSeconds| time.0 / self.timing.renew_seconds.max(1);
        let (now, (_, _, last)) = (self.now.wall.seconds(), self.checkpoints.signed);
        if slot(now) > slot(last) {
            self.cosign();
        }
    }

    /// Our newest cosignature, for a node that may have missed it.
    pub(super) fn newest_cosigned(&self) -> Option<Cosigned> {
        let (size, _, _) = self.checkpoints.signed;
        self.checkpoints.sizes.get(&size)?.cosigned.get(&self.own).copied()
    }

    pub(super) fn handle_cosigned(&mut self, from: NodeIndex, cosigned: &Cosigned) {
        let known = self.checkpoints.sizes.get(&cosigned.size).and_then(|c| c.cosigned.get(&from));
        if known == Some(cosigned) {
            return;
        }
        let known = known.copied();
        let text = self.checkpoint_text(cosigned.size, cosigned.root);
        let cosignature = Cosignature { time: cosigned.time, signature: cosigned.signature };
        if !cosignature.verifies(&self.members.get(from).cosigner.public(), &text) {
            self.fault(from, "a cosignature that does not hold");
            return;
        }
        self.note_height(from, cosigned.height);
        let peer = &mut self.peers[usize::from(from.0)];
        peer.signed = peer.signed.max(cosigned.time);
        if let Some(known) = known
            && known.root != cosigned.root
        {
            self.contradicted(from, &known, cosigned);
            return;
        }
        if known.is_some_and(|known| known.time >= cosigned.time) {
            return;
        }
        let (size, newest) = (cosigned.size, self.state.tree.size());
        let published = self.checkpoints.published.as_ref().map_or(TreeSize(0), |h| h.size);
        if size < published {
            return;
        }
        let collected = self.checkpoints.sizes.entry(size).or_default();
        collected.cosigned.insert(from, *cosigned);
        let ours = collected.ours.map(|(_, root)| root);
        if ours.is_some_and(|root| root != cosigned.root) {
            self.event(Event::Diverged { peer: from, size: size.0 });
        }
        if size > newest {
            self.trim_ahead(from, newest);
        }
        self.publish_checkpoint(size);
    }

    /// Bounds what one node can make us remember.
    fn trim_ahead(&mut self, from: NodeIndex, newest: TreeSize) {
        let ahead = self.checkpoints.sizes.range_mut(TreeSize(newest.0 + 1)..).rev();
        let theirs = ahead.filter(|(_, collected)| collected.cosigned.contains_key(&from));
        for (_, collected) in theirs.skip(AHEAD) {
            collected.cosigned.remove(&from);
        }
        self.checkpoints.sizes.retain(|_, c| c.ours.is_some() || !c.cosigned.is_empty());
    }

    fn contradicted(&mut self, from: NodeIndex, a: &Cosigned, b: &Cosigned) {
        let member = self.members.get(from);
        let statement = |c: &Cosigned| {
            let text = self.checkpoint_text(c.size, c.root);
            Statement { bytes: Cosignature::statement(&text, c.time), signature: c.signature }
        };
        let equivocation = Equivocation::new(
            EquivocationKind::Cosignatures,
            member.name.clone(),
            member.cosigner.public(),
            [statement(a), statement(b)],
        );
        self.convict(equivocation);
    }

    /// Publishes the checkpoint of this size if a quorum agrees with us on it, or has renewed it.
    fn publish_checkpoint(&mut self, size: TreeSize) {
        let published = self.checkpoints.published.as_ref();
        if published.is_some_and(|head| size < head.size) {
            return;
        }
        let Some(collected) = self.checkpoints.sizes.get(&size) else { return };
        let Some((height, root)) = collected.ours else { return };
        let agreeing = collected.cosigned.iter().filter(|(_, c)| c.root == root);
        let mut agreeing: Vec<(NodeIndex, Cosigned)> = agreeing.map(|(n, c)| (*n, *c)).collect();
        let quorum = self.members.quorum();
        if agreeing.len() < quorum {
            return;
        }
        agreeing.sort_by_key(|(_, cosigned)| std::cmp::Reverse(cosigned.time));
        let time = agreeing[quorum - 1].1.time;
        if published.is_some_and(|head| head.size == size && head.time >= time)
            && !self.gained(published, agreeing.len())
        {
            return;
        }
        let text = self.checkpoint_text(size, root);
        let mut note = SignedNote::new(text.clone());
        note.put(self.identity.log.sign(&text, time));
        agreeing.sort_by_key(|(node, _)| *node);
        for (node, cosigned) in &agreeing {
            let vkey = &self.members.get(*node).cosigner;
            let bytes = cosignature_bytes(cosigned.time, cosigned.signature);
            note.put(NoteSignature { name: vkey.name().clone(), id: vkey.id(), bytes });
        }
        let head = Head { height, size, checkpoint: note, time };
        self.checkpoints.published = Some(head.clone());
        self.checkpoints.sizes = self.checkpoints.sizes.split_off(&size);
        self.out.push_back(Output::Published(head));
    }

    /// True if more nodes stand behind the published checkpoint than it shows.
    fn gained(&self, published: Option<&Head>, agreeing: usize) -> bool {
        published.is_some_and(|head| head.checkpoint.signatures().len() < agreeing + 1)
    }

    fn checkpoint_text(&self, size: TreeSize, root: Hash) -> String {
        Checkpoint::new(self.params.origin.clone(), size, root).text()
    }
}

fn cosignature_bytes(time: UnixSeconds, signature: Signature) -> Vec<u8> {
    Cosignature { time, signature }.to_bytes().to_vec()
}
