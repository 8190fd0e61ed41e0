//! Who decides: the nodes of a ledger, in an order that all of them share.

use record::{
    FaultModel, Hash, NodeName,
    bytes::put_counted8,
    crypto::{PublicKey, sha256},
    note::VerifierKey,
};
use std::fmt;

/// The most nodes of a ledger: what a certificate has room for.
pub const MAX_NODES: usize = 64;

/// A node, by its place among the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u8);

/// A node's name and public keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// Verifies its votes.
    pub consensus: PublicKey,
    /// Verifies its cosignatures.
    pub cosigner: VerifierKey,
}

/// The nodes of a ledger, sorted by name, and what they may do at worst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    list: Vec<Member>,
    fault_model: FaultModel,
}

/// No ledger can be made of these nodes: whoever wrote them down is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// None, or too many.
    #[error("a ledger has 1 to {MAX_NODES} nodes, not {0}")]
    Count(usize),
    /// A name or key that two nodes have.
    #[error("nodes '{0}' and '{1}' have the same {2}")]
    Same(NodeName, NodeName, &'static str),
}

impl fmt::Display for NodeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Members {
    /// Sorts the nodes by name and checks that no two are the same.
    ///
    /// # Errors
    /// When there are none or more than [`MAX_NODES`], or two share a name or a key.
    pub fn new(mut list: Vec<Member>, fault_model: FaultModel) -> Result<Self, MembersError> {
        if list.is_empty() || list.len() > MAX_NODES {
            return Err(MembersError::Count(list.len()));
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        for (at, a) in list.iter().enumerate() {
            for b in &list[at + 1..] {
                let same = |what| Err(MembersError::Same(a.name.clone(), b.name.clone(), what));
                if a.name == b.name {
                    return same("name");
                }
                if a.consensus == b.consensus {
                    return same("consensus key");
                }
                if a.cosigner.public() == b.cosigner.public() {
                    return same("cosigner key");
                }
            }
        }
        Ok(Members { list, fault_model })
    }

    /// A ledger of one node.
    pub fn single(member: Member) -> Self {
        Members { list: vec![member], fault_model: FaultModel::Byzantine }
    }

    /// What the nodes may do at worst.
    pub fn fault_model(&self) -> FaultModel {
        self.fault_model
    }

    /// How many must agree.
    pub fn quorum(&self) -> usize {
        self.fault_model.quorum(self.list.len())
    }

    /// How many may fail.
    pub fn tolerates(&self) -> usize {
        self.fault_model.tolerates(self.list.len())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// A node.
    ///
    /// # Panics
    /// If the index is not one of these members'.
    pub fn get(&self, index: NodeIndex) -> &Member {
        &self.list[usize::from(index.0)]
    }

    /// All nodes, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (NodeIndex, &Member)> {
        self.list.iter().enumerate().map(|(at, member)| (NodeIndex(at as u8), member))
    }

    /// The place of the node called `name`.
    pub fn find(&self, name: &NodeName) -> Option<NodeIndex> {
        self.iter().find(|(_, member)| member.name == *name).map(|(index, _)| index)
    }

    /// The place of the node with this consensus key.
    pub(crate) fn find_key(&self, key: &PublicKey) -> Option<NodeIndex> {
        self.iter().find(|(_, member)| member.consensus == *key).map(|(index, _)| index)
    }

    /// The consensus keys, in order.
    pub fn keys(&self) -> Vec<PublicKey> {
        self.list.iter().map(|member| member.consensus).collect()
    }

    /// Names these members: nodes that disagree on it do not belong together. SHA-256 over a
    /// domain, the fault model and each node's name, consensus key and cosigner key.
    pub fn digest(&self) -> Hash {
        let mut out = Vec::with_capacity(160 * self.list.len());
        put_counted8(&mut out, self.fault_model.as_str().as_bytes());
        for member in &self.list {
            put_counted8(&mut out, member.name.as_str().as_bytes());
            out.extend_from_slice(&member.consensus.0);
            out.extend_from_slice(&member.cosigner.public().0);
        }
        Hash(sha256(&[b"logseal/members/v1\n", &out]))
    }
}
