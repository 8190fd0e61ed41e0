//! Inclusion and consistency proofs (RFC 6962, sections 2.1.1 and 2.1.2;
//! verification as in RFC 9162, sections 2.1.3.2 and 2.1.4.2).

use super::{EntryIndex, Hash, NodeId, TreeSize, decompose, empty_root, node_hash};

/// The longest inclusion proof: one hash a level.
pub const MAX_PROOF_LEN: usize = 64;

/// Answers for the hashes of perfect subtrees.
pub trait NodeSource {
    /// Why a node could not be read.
    type Error;

    /// The hash of the node `id`, which lies wholly within the tree.
    fn node(&self, id: NodeId) -> Result<Hash, Self::Error>;
}

/// A proof does not show what it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The entry would lie outside the tree.
    #[error("entry {index} is not in a tree of {size} entries")]
    OutOfRange {
        /// The claimed entry.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The proof has too many or too few hashes for these sizes.
    #[error("a proof of {found} hashes does not fit these tree sizes")]
    Length {
        /// Hashes in the proof.
        found: usize,
    },
    /// The hashes lead to another root.
    #[error("the proof leads to the root {found}, but the checkpoint says {expected}")]
    Root {
        /// Root of the checkpoint.
        expected: Hash,
        /// Root that the proof leads to.
        found: Hash,
    },
}

/// The sibling hashes from a leaf up to the root's child.
pub type InclusionProof = Vec<Hash>;

/// The root of the tree of `size` leaves.
pub fn root<S: NodeSource>(source: &S, size: TreeSize) -> Result<Hash, S::Error> {
    if size.0 == 0 { Ok(empty_root()) } else { subtree(source, 0, size.0) }
}

/// The proof that leaf `index` is in the tree of `size` leaves (RFC 6962, section 2.1.1).
///
/// # Panics
/// If `index` is not below `size`.
pub fn inclusion_proof<S: NodeSource>(
    source: &S,
    index: EntryIndex,
    size: TreeSize,
) -> Result<InclusionProof, S::Error> {
    assert!(index.0 < size.0, "only a leaf of the tree has a proof");
    let (mut low, mut high) = (0, size.0);
    let mut path = Vec::new();
    while high - low > 1 {
        let middle = low + split(high - low);
        if index.0 < middle {
            path.push(subtree(source, middle, high)?);
            high = middle;
        } else {
            path.push(subtree(source, low, middle)?);
            low = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `old` leaves is the beginning of the tree of `new` leaves
/// (RFC 6962, section 2.1.2). Empty if `old` is 0 or equals `new`.
///
/// # Panics
/// If `old` is greater than `new`.
pub fn consistency_proof<S: NodeSource>(
    source: &S,
    old: TreeSize,
    new: TreeSize,
) -> Result<Vec<Hash>, S::Error> {
    assert!(old <= new, "a tree only grows");
    if old.0 == 0 || old == new {
        return Ok(vec![]);
    }
    let (mut low, mut high, mut whole) = (0, new.0, true);
    let mut proof = Vec::new();
    while old.0 != high {
        let middle = low + split(high - low);
        if old.0 <= middle {
            proof.push(subtree(source, middle, high)?);
            high = middle;
        } else {
            proof.push(subtree(source, low, middle)?);
            low = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(subtree(source, low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that `leaf` is leaf `index` of the tree of `size` leaves with this `root`.
pub fn verify_inclusion(
    proof: &[Hash],
    leaf: Hash,
    index: EntryIndex,
    size: TreeSize,
    root: Hash,
) -> Result<(), ProofError> {
    if index.0 >= size.0 {
        return Err(ProofError::OutOfRange { index: index.0, size: size.0 });
    }
    let length = ProofError::Length { found: proof.len() };
    let (mut node, mut last) = (index.0, size.0 - 1);
    let mut hash = leaf;
    for sibling in proof {
        if last == 0 {
            return Err(length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length);
    }
    same_root(root, hash)
}

/// Checks that the tree of `old` leaves is the beginning of the tree of `new` leaves.
pub fn verify_consistency(
    proof: &[Hash],
    old: (TreeSize, Hash),
    new: (TreeSize, Hash),
) -> Result<(), ProofError> {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    let length = ProofError::Length { found: proof.len() };
    if old_size > new_size {
        return Err(ProofError::OutOfRange { index: old_size.0, size: new_size.0 });
    }
    if old_size.0 == 0 {
        same_root(empty_root(), old_root)?;
        return if proof.is_empty() { Ok(()) } else { Err(length) };
    }
    if old_size == new_size {
        return if proof.is_empty() { same_root(old_root, new_root) } else { Err(length) };
    }
    let mut rest = proof.iter();
    let first = if old_size.0.is_power_of_two() { &old_root } else { rest.next().ok_or(length)? };
    let (mut node, mut last) = (old_size.0 - 1, new_size.0 - 1);
    let shift = node.trailing_ones();
    (node, last) = (node >> shift, last >> shift);
    let (mut from_old, mut from_new) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return Err(length);
        }
        if node & 1 == 1 || node == last {
            from_old = node_hash(hash, &from_old);
            from_new = node_hash(hash, &from_new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length);
    }
    same_root(old_root, from_old)?;
    same_root(new_root, from_new)
}

fn same_root(expected: Hash, found: Hash) -> Result<(), ProofError> {
    if expected == found { Ok(()) } else { Err(ProofError::Root { expected, found }) }
}

/// The largest power of two below `n`; `n` is at least 2.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The Merkle tree hash of the leaves `start..end`, of which `start` is a node's first leaf.
fn subtree<S: NodeSource>(source: &S, start: u64, end: u64) -> Result<Hash, S::Error> {
    let nodes: Vec<NodeId> = decompose(start, end).collect();
    let mut hash: Option<Hash> = None;
    for id in nodes.into_iter().rev() {
        let left = source.node(id)?;
        hash = Some(hash.map_or(left, |right| node_hash(&left, &right)));
    }
    Ok(hash.expect("the run is not empty"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::naive;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn proofs_equal_those_of_the_naive_tree(n in 1usize..200, m in 0usize..200, old in 0usize..200) {
            let leaves = naive::leaves(n);
            let (m, old) = (m % n, old % (n + 1));
            let source = naive::Leaves(&leaves);
            let size = TreeSize(n as u64);
            let root = naive::root(&leaves);

            let Ok(path) = inclusion_proof(&source, EntryIndex(m as u64), size);
            prop_assert_eq!(&path, &naive::path(m, &leaves));
            prop_assert_eq!(
                verify_inclusion(&path, leaves[m], EntryIndex(m as u64), size, root), Ok(()));

            let Ok(proof) = consistency_proof(&source, TreeSize(old as u64), size);
            if old > 0 {
                prop_assert_eq!(&proof, &naive::consistency(old, &leaves, true));
            }
            let before = (TreeSize(old as u64), naive::root(&leaves[..old]));
            prop_assert_eq!(verify_consistency(&proof, before, (size, root)), Ok(()));
        }

        #[test]
        fn a_changed_hash_index_or_length_breaks_an_inclusion_proof(
            n in 2usize..200, m in 0usize..200, at in 0usize..8, bit in 0u8..8,
        ) {
            let leaves = naive::leaves(n);
            let m = m % n;
            let (index, size, root) =
                (EntryIndex(m as u64), TreeSize(n as u64), naive::root(&leaves));
            let path = naive::path(m, &leaves);
            let mut flipped = path.clone();
            let at = at % path.len();
            flipped[at].0[0] ^= 1 << bit;
            prop_assert!(verify_inclusion(&flipped, leaves[m], index, size, root).is_err());
            prop_assert!(verify_inclusion(&path[1..], leaves[m], index, size, root).is_err());
            let mut longer = path.clone();
            longer.push(root);
            prop_assert!(verify_inclusion(&longer, leaves[m], index, size, root).is_err());
            let other = EntryIndex(((m + 1) % n) as u64);
            prop_assert!(verify_inclusion(&path, leaves[m], other, size, root).is_err());
        }

        #[test]
        fn a_rewritten_history_has_no_consistency_proof(
            n in 2usize..120, old in 1usize..120, victim in 0usize..120,
        ) {
            let mut leaves = naive::leaves(n);
            let old = 1 + old % (n - 1);
            let before = (TreeSize(old as u64), naive::root(&leaves[..old]));
            leaves[victim % old].0[31] ^= 0x80;
            let after = (TreeSize(n as u64), naive::root(&leaves));
            let Ok(proof) = consistency_proof(&naive::Leaves(&leaves), before.0, after.0);
            prop_assert!(verify_consistency(&proof, before, after).is_err());
        }

        #[test]
        fn no_proof_from_outside_panics(
            proof in prop::collection::vec(any::<[u8; 32]>(), 0..70), a: u64, b: u64,
        ) {
            let proof: Vec<Hash> = proof.into_iter().map(Hash).collect();
            let hash = Hash([1; 32]);
            let _ = verify_inclusion(&proof, hash, EntryIndex(a), TreeSize(b), hash);
            let _ = verify_consistency(&proof, (TreeSize(a), hash), (TreeSize(b), hash));
        }
    }
}
