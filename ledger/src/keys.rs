//! A node's three private keys, in a directory of their own.

use record::{
    NodeName, Origin,
    note::{KeyName, NoteSigner, SignatureType, VerifierKey},
    policy::write_policy,
};
use service::{
    keys::{self, KeyError},
    members::{Member, consensus_key_name},
};
use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt, path::Path};

/// A node's private keys.
#[derive(Debug)]
pub struct Keys {
    /// Signs checkpoints under the ledger's origin.
    pub log: NoteSigner,
    /// Cosigns checkpoints in the node's own name.
    pub cosigner: NoteSigner,
    /// Signs votes.
    pub consensus: NoteSigner,
}

impl Keys {
    /// Reads the keys of a node of the ledger `origin`.
    ///
    /// # Errors
    /// The first key that is missing, unsafe or somebody else's.
    pub fn load(dir: &Path, origin: &Origin, name: &NodeName) -> Result<Self, KeyError> {
        Self::get(dir, origin, name, keys::load)
    }

    /// Reads the keys, and makes those that are missing, and the directory.
    ///
    /// # Errors
    /// The directory, or the first key that is unsafe or somebody else's.
    pub fn make(dir: &Path, origin: &Origin, name: &NodeName) -> Result<Self, KeyError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| KeyError::Io { path: dir.to_owned(), source })?;
        Self::get(dir, origin, name, keys::load_or_create)
    }

    fn get(
        dir: &Path,
        origin: &Origin,
        name: &NodeName,
        get: impl Fn(&Path, &KeyName, SignatureType) -> Result<NoteSigner, KeyError>,
    ) -> Result<Self, KeyError> {
        let (node, consensus) = (origin.node(name), consensus_key_name(origin, name));
        let file = |name| dir.join(name);
        Ok(Keys {
            log: get(&file("log.key"), origin.key_name(), SignatureType::Ed25519)?,
            cosigner: get(&file("cosigner.key"), &node, SignatureType::CosignatureV1)?,
            consensus: get(&file("consensus.key"), &consensus, SignatureType::Ed25519)?,
        })
    }

    /// The C2SP tlog-policy of a ledger of this one node.
    pub fn policy(&self, name: &NodeName) -> String {
        let logs: [VerifierKey; 1] = [self.log.vkey().clone()];
        write_policy(&logs, &[(name.to_string(), self.cosigner.vkey().clone())], 1)
    }

    /// The name of the first key that is not the one `member` is known by.
    pub fn differs_from(&self, member: &Member) -> Option<&'static str> {
        let pairs = [
            ("log", self.log.vkey(), &member.log),
            ("cosigner", self.cosigner.vkey(), &member.cosigner),
            ("consensus", self.consensus.vkey(), &member.consensus),
        ];
        pairs.into_iter().find(|(_, own, known)| own != known).map(|(key, ..)| key)
    }
}
