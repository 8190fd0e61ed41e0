//! RFC 6962 Merkle trees over SHA-256: hashing, frontiers, and the proofs
//! that one entry, a run of entries or a whole earlier tree lies in a tree.
//!
//! A *node* (level, index) is the root of the perfect subtree over the leaves
//! `index * 2^level .. (index + 1) * 2^level`. Whoever can answer for nodes is
//! a [`NodeSource`]; all proofs are made from nodes alone.

mod proof;
mod range;

pub use proof::{
    InclusionProof, MAX_PROOF_LEN, NodeSource, ProofError, consistency_proof, inclusion_proof,
    root, verify_consistency, verify_inclusion,
};
pub use range::{
    Frontier, FrontierError, NodeId, RangeBuilder, RangeProof, decompose, range_proof,
};

use crate::crypto::sha256;
use std::fmt;

/// The size of a tree: its number of leaves. Also the index of the next leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeSize(pub u64);

impl fmt::Display for TreeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The zero-based index of an entry in an agent log or in the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryIndex(pub u64);

impl fmt::Display for EntryIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A SHA-256 hash: of a leaf, of an inner node, or a root.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::base64::encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Hash {
    /// Parses padded standard base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Option<Self> {
        crate::base64::decode_array(text).map(Hash)
    }
}

/// The hash of a leaf: `SHA-256(0x00 || entry)` (RFC 6962, section 2.1).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(sha256(&[&[0], entry]))
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)` (RFC 6962, section 2.1).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut input = [1; 65];
    input[1..33].copy_from_slice(&left.0);
    input[33..].copy_from_slice(&right.0);
    Hash(sha256(&[&input]))
}

/// The root of the perfect subtree over these nodes of one level, a power of two of them.
///
/// # Panics
/// If there is none.
pub fn perfect_root(mut nodes: Vec<Hash>) -> Hash {
    while nodes.len() > 1 {
        nodes = nodes.chunks(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    nodes[0]
}

/// The root of the empty tree: `SHA-256()` (RFC 6962, section 2.1).
pub fn empty_root() -> Hash {
    Hash(sha256(&[]))
}

#[cfg(test)]
pub(crate) mod naive {
    //! RFC 6962, section 2.1, word for word: slow, and obviously right.
    use super::*;

    pub(crate) fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                node_hash(&root(left), &root(right))
            }
        }
    }

    pub(crate) fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return vec![];
        }
        let k = split(leaves.len());
        let (mut path, sibling) = if m < k {
            (path(m, &leaves[..k]), root(&leaves[k..]))
        } else {
            (path(m - k, &leaves[k..]), root(&leaves[..k]))
        };
        path.push(sibling);
        path
    }

    pub(crate) fn consistency(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if whole { vec![] } else { vec![root(leaves)] };
        }
        let k = split(leaves.len());
        let (mut proof, other) = if m <= k {
            (consistency(m, &leaves[..k], whole), root(&leaves[k..]))
        } else {
            (consistency(m - k, &leaves[k..], false), root(&leaves[..k]))
        };
        proof.push(other);
        proof
    }

    fn split(n: usize) -> usize {
        n.next_power_of_two() / 2
    }

    pub(crate) struct Leaves<'a>(pub(crate) &'a [Hash]);

    impl NodeSource for Leaves<'_> {
        type Error = std::convert::Infallible;

        fn node(&self, id: NodeId) -> Result<Hash, Self::Error> {
            let (start, end) = (id.start() as usize, id.end() as usize);
            Ok(root(&self.0[start..end]))
        }
    }

    pub(crate) fn leaves(n: usize) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_certificate_transparency_hold() {
        let hex = |h: Hash| h.0.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(empty_root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let inputs: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let mut frontier = Frontier::default();
        for input in inputs {
            frontier.push(leaf_hash(input));
        }
        assert_eq!(
            hex(frontier.root()),
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
        );
    }
}
