//! Compact ranges: the fewest perfect subtrees that cover a run of leaves.
//!
//! A [`Frontier`] covers everything from leaf 0 and is all that is needed to
//! go on growing a tree. A [`RangeProof`] binds a whole run of leaves to a
//! root with at most 128 hashes, however long the run is.

use super::{EntryIndex, Hash, NodeSource, TreeSize, empty_root, node_hash};
use crate::bytes::{Malformed, Reader};

/// A perfect subtree: the leaves `index << level .. (index + 1) << level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// 0 for a leaf, at most 63.
    pub level: u8,
    /// The position among the nodes of this level.
    pub index: u64,
}

impl NodeId {
    /// The first leaf below this node.
    pub fn start(self) -> u64 {
        self.index << self.level
    }

    /// One past the last leaf below this node.
    pub fn end(self) -> u64 {
        (self.index + 1) << self.level
    }

    /// The two nodes below this one; level must not be 0.
    pub fn children(self) -> (NodeId, NodeId) {
        let level = self.level - 1;
        (NodeId { level, index: self.index * 2 }, NodeId { level, index: self.index * 2 + 1 })
    }
}

/// The fewest nodes that cover exactly the leaves `start..end`, from left to right.
pub fn decompose(start: u64, end: u64) -> impl Iterator<Item = NodeId> + Clone {
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let room = 63 - (end - at).leading_zeros();
        let level = at.trailing_zeros().min(room);
        let id = NodeId { level: level as u8, index: at >> level };
        at += 1u64 << level;
        Some(id)
    })
}

/// Hashes do not make the frontier they are said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// A tree of that size has another number of frontier hashes.
    #[error("a tree of {size} leaves has a frontier of {expected} hashes, not {found}")]
    Count {
        /// The tree's size.
        size: u64,
        /// One hash per bit set in the size.
        expected: u32,
        /// Hashes that were given.
        found: usize,
    },
}

/// The right edge of a tree from leaf 0: at most 64 hashes, enough to append and to compute the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier(RangeBuilder);

impl Frontier {
    /// The frontier of a tree of `size` leaves, its hashes from the largest subtree to the smallest.
    pub fn from_hashes(size: TreeSize, hashes: &[Hash]) -> Result<Self, FrontierError> {
        let expected = size.0.count_ones();
        if hashes.len() != expected as usize {
            return Err(FrontierError::Count { size: size.0, expected, found: hashes.len() });
        }
        let nodes = decompose(0, size.0).zip(hashes.iter().copied()).collect();
        Ok(Frontier(RangeBuilder { start: 0, end: size.0, nodes }))
    }

    /// The frontier of a tree that is made of perfect subtrees of this level, one beside the other.
    pub fn of_subtrees(level: u8, roots: &[Hash]) -> Self {
        let mut frontier = Frontier::default();
        for (index, root) in (0..).zip(roots) {
            frontier.0.push_node(NodeId { level, index }, *root, |_, _| {});
        }
        frontier
    }

    /// Writes the binary form: the size, then the hashes from the largest subtree to the smallest.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.size().0.to_be_bytes());
        self.hashes().for_each(|hash| out.extend_from_slice(&hash.0));
    }

    /// Reads the binary form; its size says how many hashes follow, at most 64.
    ///
    /// # Errors
    /// When it is too short.
    pub fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let size = TreeSize(reader.u64()?);
        let hashes: Vec<Hash> = (0..size.0.count_ones())
            .map(|_| reader.array().map(Hash))
            .collect::<Result<_, Malformed>>()?;
        Ok(Frontier::from_hashes(size, &hashes).expect("as many hashes as the size asks for"))
    }

    /// The number of leaves.
    pub fn size(&self) -> TreeSize {
        TreeSize(self.0.end)
    }

    /// The hashes, from the largest subtree to the smallest.
    pub fn hashes(&self) -> impl ExactSizeIterator<Item = Hash> + '_ {
        self.0.nodes.iter().map(|(_, hash)| *hash)
    }

    /// The hash of `id` if it is one of the frontier's own nodes.
    pub fn get(&self, id: NodeId) -> Option<Hash> {
        self.0.nodes.iter().find(|(node, _)| *node == id).map(|(_, hash)| *hash)
    }

    /// Appends one leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.0.push(leaf);
    }

    /// Appends one leaf and names every inner node that it completes, from the lowest up.
    pub fn push_with(&mut self, leaf: Hash, completed: impl FnMut(NodeId, Hash)) {
        self.0.push_node(NodeId { level: 0, index: self.0.end }, leaf, completed);
    }

    /// Appends a run of leaves that was built beginning at exactly this size.
    ///
    /// # Panics
    /// If the run begins elsewhere.
    pub fn extend(&mut self, run: &RangeBuilder) {
        assert_eq!(run.start, self.0.end, "a run is appended where it begins");
        for (id, hash) in &run.nodes {
            self.0.push_node(*id, *hash, |_, _| {});
        }
    }

    /// The Merkle tree hash of all leaves (RFC 6962, section 2.1).
    pub fn root(&self) -> Hash {
        let mut hashes = self.0.nodes.iter().rev().map(|(_, hash)| *hash);
        let Some(last) = hashes.next() else { return empty_root() };
        hashes.fold(last, |right, left| node_hash(&left, &right))
    }
}

/// The compact range of a run of leaves while it grows to the right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeBuilder {
    start: u64,
    end: u64,
    nodes: Vec<(NodeId, Hash)>,
}

impl RangeBuilder {
    /// An empty run that begins at `start`.
    pub fn new(start: EntryIndex) -> Self {
        RangeBuilder { start: start.0, end: start.0, nodes: vec![] }
    }

    /// Appends one leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_node(NodeId { level: 0, index: self.end }, leaf, |_, _| {});
    }

    fn push_node(
        &mut self,
        mut id: NodeId,
        mut hash: Hash,
        mut completed: impl FnMut(NodeId, Hash),
    ) {
        debug_assert_eq!(id.start(), self.end);
        self.end = id.end();
        while id.index % 2 == 1
            && let Some((left, left_hash)) = self.nodes.last()
            && left.level == id.level
        {
            hash = node_hash(left_hash, &hash);
            id = NodeId { level: id.level + 1, index: id.index / 2 };
            self.nodes.pop();
            completed(id, hash);
        }
        self.nodes.push((id, hash));
    }
}

/// Proof that a run of leaves lies in a tree: the subtrees to its left and to its right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeProof {
    /// The frontier of everything before the run; at most 64 hashes.
    pub left: Vec<Hash>,
    /// The subtrees behind the run, from left to right; at most 128 hashes.
    pub right: Vec<Hash>,
}

impl RangeProof {
    /// The root of the tree of `size` leaves in which `leaves` stand from `start` on;
    /// `None` if the proof's shape does not fit these numbers.
    pub fn root(&self, start: EntryIndex, leaves: &[Hash], size: TreeSize) -> Option<Hash> {
        let mut tree = self.begin(start)?;
        // A run that ends behind the last tree there can be must not be pushed.
        start.0.checked_add(leaves.len() as u64).filter(|end| *end <= size.0)?;
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        self.end(tree, size)
    }

    /// The tree in front of a run that begins at `start`: for runs that are too long to be held, whose
    /// leaves are pushed one by one. `None` if the proof's shape does not fit.
    pub fn begin(&self, start: EntryIndex) -> Option<Frontier> {
        Frontier::from_hashes(TreeSize(start.0), &self.left).ok()
    }

    /// The root of the tree of `size` leaves, if `tree` is what [`RangeProof::begin`] gave with all of the
    /// run's leaves pushed; `None` if the proof's shape does not fit.
    pub fn end(&self, mut tree: Frontier, size: TreeSize) -> Option<Hash> {
        let end = tree.size().0;
        if end > size.0 || self.right.len() != decompose(end, size.0).count() {
            return None;
        }
        for (id, hash) in decompose(end, size.0).zip(&self.right) {
            tree.0.push_node(id, *hash, |_, _| {});
        }
        Some(tree.root())
    }
}

/// The proof that the leaves `start..end` lie in the tree of `size` leaves.
///
/// # Panics
/// If `start <= end <= size` does not hold.
pub fn range_proof<S: NodeSource>(
    source: &S,
    start: EntryIndex,
    end: EntryIndex,
    size: TreeSize,
) -> Result<RangeProof, S::Error> {
    assert!(start <= end && end.0 <= size.0, "a run lies within its tree");
    let nodes = |from, to| -> Result<Vec<Hash>, S::Error> {
        decompose(from, to).map(|id| source.node(id)).collect()
    };
    Ok(RangeProof { left: nodes(0, start.0)?, right: nodes(end.0, size.0)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::naive;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_frontier_has_the_root_of_the_naive_tree(n in 0usize..300) {
            let leaves = naive::leaves(n);
            let mut frontier = Frontier::default();
            leaves.iter().for_each(|leaf| frontier.push(*leaf));
            prop_assert_eq!(frontier.root(), naive::root(&leaves));
            let hashes: Vec<_> = frontier.hashes().collect();
            let again = Frontier::from_hashes(TreeSize(n as u64), &hashes).unwrap();
            prop_assert_eq!(again, frontier);
        }

        #[test]
        fn a_run_appended_whole_is_as_good_as_leaf_by_leaf(a in 0usize..200, n in 0usize..200) {
            let leaves = naive::leaves(a + n);
            let mut frontier = Frontier::default();
            leaves[..a].iter().for_each(|leaf| frontier.push(*leaf));
            let mut run = RangeBuilder::new(EntryIndex(a as u64));
            leaves[a..].iter().for_each(|leaf| run.push(*leaf));
            frontier.extend(&run);
            prop_assert_eq!(frontier.root(), naive::root(&leaves));
        }

        #[test]
        fn a_range_proof_holds_for_its_run_and_for_no_other(
            n in 1usize..150, a in 0usize..150, len in 0usize..150,
        ) {
            let leaves = naive::leaves(n);
            let (a, b) = (a.min(n), (a + len).min(n));
            let a = a.min(b);
            let source = naive::Leaves(&leaves);
            let (start, size) = (EntryIndex(a as u64), TreeSize(n as u64));
            let Ok(proof) = range_proof(&source, start, EntryIndex(b as u64), size);
            let root = naive::root(&leaves);
            prop_assert_eq!(proof.root(start, &leaves[a..b], size), Some(root));
            if b > a {
                let mut wrong = leaves[a..b].to_vec();
                wrong[0].0[7] ^= 1;
                prop_assert_ne!(proof.root(start, &wrong, size), Some(root));
                prop_assert_ne!(proof.root(start, &leaves[a + 1..b], size), Some(root));
            }
        }

        #[test]
        fn proofs_of_any_shape_are_refused_without_a_panic(
            left in 0usize..70, right in 0usize..70, start: u64, n in 0usize..5, size: u64,
        ) {
            let hash = Hash([3; 32]);
            let proof = RangeProof { left: vec![hash; left], right: vec![hash; right] };
            let _ = proof.root(EntryIndex(start), &vec![hash; n], TreeSize(size));
        }
    }
}
