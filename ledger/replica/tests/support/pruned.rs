//! The part of the driver that gives blocks up, serves what stays of them, and begins again.

use super::{Cluster, Gone, SIGNATURE, params};
use bytes::Bytes;
use logseal_replica::{Base, Message, base_part};
use record::{
    Hash, UnixSeconds,
    batch::BatchBuilder,
    block::Height,
    declaration::{Declaration, Matter, Prune},
    merkle::EntryIndex,
};
use std::sync::Arc;

#[path = "../../../../sim/src/base.rs"]
mod base;

/// A day in milliseconds.
pub const DAY: u64 = 86_400_000;

/// What a node got that it looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    Base(Arc<Base>, Bytes, bool),
    Leaves(u64, Vec<Hash>),
    Rebase(Arc<Base>),
}

impl Cluster {
    /// Submits so many lines in one batch, and waits until all have it.
    pub fn fill(&mut self, builder: &mut BatchBuilder, lines: usize) {
        self.now += 1000;
        self.submit(0, builder, &vec!["a line"; lines]).0.unwrap();
        self.pass(100);
    }

    /// Blocks of which some are older than a year, and some are not. All old ones may go.
    pub fn old(&mut self) -> BatchBuilder {
        self.enrol(0).unwrap();
        let mut builder = super::builder();
        (0..3).for_each(|_| self.fill(&mut builder, 60));
        self.aged += 400 * DAY;
        (0..3).for_each(|_| self.fill(&mut builder, 60));
        builder
    }

    pub fn floor(&self, node: u8) -> u64 {
        self.gone[usize::from(node)].as_ref().map_or(0, |gone| gone.base.header.height.0)
    }

    /// What stays at a node if it gives the blocks up to `height` up.
    pub fn base_of(&self, node: u8, height: u64) -> Base {
        let at = usize::from(node);
        let before = self.gone[at].as_ref().map(|gone| &*gone.base);
        let count = (height - self.floor(node)) as usize;
        let blocks = self.blocks[at][..count].iter();
        let mut state =
            before.map_or_else(super::LedgerState::genesis, |base| base.state().unwrap());
        blocks.clone().for_each(|executed| executed.apply(&mut state));
        base::make(&params(), before, blocks, &state, &self.leaves[at]).unwrap()
    }

    /// A declaration by which the blocks up to `height` go, as they are at a node.
    pub fn prune(&self, node: u8, height: u64) -> Prune {
        let base = self.base_of(node, height);
        Prune {
            from: EntryIndex(self.nodes[usize::from(node)].state().dropped().0),
            height: Height(height),
            block: base.header.id(),
            before: base.header.time,
            days: 365,
            frontier: base.frontier.clone(),
            base: Base::digest_of(&base.encode()),
        }
    }

    /// An operator's declaration, newer than any before.
    pub fn signed(&mut self, matter: Matter) -> Declaration {
        self.now += 1000;
        let time = UnixSeconds((self.now + self.aged) / 1000);
        Declaration { matter, time, certificate: vec![1], signature: SIGNATURE.to_vec() }
    }

    /// Brings a declaration to a node.
    pub fn declare(&mut self, at: u8, declaration: &Declaration) -> Result<(), String> {
        let (now, node) = (self.time(), &mut self.nodes[usize::from(at)]);
        let taken = node.handle_declaration(now, declaration.clone()).unwrap();
        self.settle();
        taken
    }

    /// Has the blocks up to `height` given up, and gives them up at these nodes.
    pub fn give_up(&mut self, height: u64, nodes: &[u8]) {
        let prune = self.prune(0, height);
        let declaration = self.signed(Matter::Prune(prune));
        self.declare(0, &declaration).unwrap();
        for _ in 0..20 {
            if self.nodes[0].state().dropped_height().0 < height {
                self.pass(500);
            }
        }
        self.pass(500);
        for node in nodes {
            let at = usize::from(*node);
            let pruned = self.nodes[at].state().pruned.clone().expect("it was decided");
            assert_eq!(pruned.prune.height.0, height);
            let base = self.base_of(*node, height);
            let encoded = Bytes::from(base.encode());
            assert_eq!(Base::digest_of(&encoded), pruned.prune.base, "all make the same base");
            let by = self.blocks[at].iter().rfind(|executed| executed.pruned.is_some());
            let by = by.unwrap().block.encode_parts().concat().into();
            let count = (height - self.floor(*node)) as usize;
            self.blocks[at].drain(..count);
            self.gone[at] = Some(Gone { base: Arc::new(base), encoded, by });
        }
    }

    pub(super) fn serve_pruned(&mut self, node: u8, to: u8, from: Height) -> bool {
        let gone = self.gone[usize::from(node)].as_ref();
        let by = gone.filter(|_| from.0 <= self.floor(node)).map(|gone| gone.by.clone());
        by.map(|by| self.queue.push_back((node, to, Message::Pruned(by)))).is_some()
    }

    pub(super) fn serve_base(&mut self, node: u8, to: u8, digest: Hash, offset: u64) {
        let kept = self.gone[usize::from(node)].clone();
        match kept.filter(|gone| Base::digest_of(&gone.encoded) == digest) {
            Some(gone) => self.queue.push_back((node, to, base_part(&gone.encoded, offset))),
            None => drop(self.serve_pruned(node, to, Height(1))),
        }
    }

    pub(super) fn serve_leaves(&mut self, node: u8, to: u8, chunk: u64) {
        let Some(gone) = &self.gone[usize::from(node)] else { return };
        let begin = (chunk * logseal_replica::CHUNK) as usize;
        let leaves = &self.leaves[usize::from(node)][begin..][..gone.base.chunk_len(chunk)];
        let hashes: Vec<u8> = leaves.iter().flat_map(|leaf| leaf.0).collect();
        self.queue.push_back((node, to, Message::Leaves { chunk, hashes: hashes.into() }));
    }

    pub(super) fn rebase(&mut self, node: u8, base: &Arc<Base>) {
        let (at, mut leaves) = (usize::from(node), vec![]);
        let mut encoded = Bytes::new();
        for (_, came) in self.came.iter().filter(|(to, _)| *to == node) {
            match came {
                Came::Base(_, bytes, true) => (leaves, encoded) = (vec![], bytes.clone()),
                Came::Leaves(_, chunk) => leaves.extend_from_slice(chunk),
                _ => {}
            }
        }
        assert_eq!(base.encode(), encoded);
        self.leaves[at] = leaves;
        self.blocks[at].clear();
        self.vote_logs[at].clear();
        self.gone[at] = Some(Gone { base: Arc::clone(base), encoded, by: Bytes::new() });
        let now = self.time();
        self.nodes[at].handle_rebased(now, base);
        self.came.push((node, Came::Rebase(Arc::clone(base))));
    }

    /// The faults that nodes found, and whose they are.
    pub fn faults(&self) -> Vec<(u8, u8, String)> {
        let fault = |(node, event): &(u8, super::Event)| match event {
            super::Event::Fault { peer, problem } => Some((*node, peer.0, problem.clone())),
            _ => None,
        };
        self.events.iter().filter_map(fault).collect()
    }
}

impl Cluster {
    /// As [`Cluster::old`], with many agents whose enrolments are as large as can be.
    pub fn many_agents(&mut self, count: u32) -> BatchBuilder {
        self.enrol(0).unwrap();
        for number in 0..count {
            let enrolment = record::enrolment::Enrolment {
                agent: format!("gw{number}-large").parse().unwrap(),
                key: super::key(9).public(),
                time: UnixSeconds(1),
                certificate: vec![number as u8; 8192],
                signature: vec![2],
            };
            let now = self.time();
            self.nodes[0].handle_enrolment(now, enrolment).unwrap().unwrap();
            if number % 250 == 249 {
                self.pass(1500);
            }
        }
        self.pass(1500);
        self.aged += 400 * DAY;
        let mut builder = super::builder();
        (0..4).for_each(|_| self.fill(&mut builder, 150));
        builder
    }
}
