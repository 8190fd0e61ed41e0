//! Seals: an agent's signed checkpoint of its own log after a batch.
//!
//! A seal is a C2SP checkpoint with one `cosignature/v1`, so any C2SP tool can
//! check it. In the ledger it is an entry, right behind its batch's entries.

use crate::{
    base64,
    checkpoint::{Checkpoint, Origin, parse_decimal},
    cosignature::Cosignature,
    crypto::{PublicKey, Signature, SigningKey},
    entry::{Enterprise, Entry, Header, Kind, push_element},
    merkle::{EntryIndex, Hash, TreeSize},
    name::AgentName,
    note::{NoteSignature, SignatureType, SignedNote, VerifierKey},
    time::UnixSeconds,
};

/// The priority of the ledger's own entries: facility 13 (log audit), severity 6 (informational).
pub(crate) const LEDGER_PRIORITY: u8 = 110;

/// The verifier key of an agent: named like its log, of type `cosignature/v1`.
pub fn agent_vkey(ledger: &Origin, agent: &AgentName, key: PublicKey) -> VerifierKey {
    let name = ledger.agent(agent).key_name().clone();
    VerifierKey::new(name, SignatureType::CosignatureV1, key)
}

/// What an agent states about its log, signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Entries in the agent's log.
    pub size: TreeSize,
    /// The root of the agent's log at that size.
    pub root: Hash,
    /// The agent's time, never before that of its previous seal.
    pub time: UnixSeconds,
    /// The cosignature's signature.
    pub signature: Signature,
}

impl Seal {
    /// Seals the log of `agent` under the ledger `ledger`.
    pub fn sign(
        key: &SigningKey,
        ledger: &Origin,
        agent: &AgentName,
        (size, root): (TreeSize, Hash),
        time: UnixSeconds,
    ) -> Self {
        let text = Checkpoint::new(ledger.agent(agent), size, root).text();
        Seal { size, root, time, signature: Cosignature::sign(key, &text, time).signature }
    }

    /// True if `key` made this seal for the log of `agent` under `ledger`.
    pub fn verifies(&self, key: &PublicKey, ledger: &Origin, agent: &AgentName) -> bool {
        let text = Checkpoint::new(ledger.agent(agent), self.size, self.root).text();
        self.cosignature().verifies(key, &text)
    }

    /// The seal as a signed checkpoint, for a `.tlog-proof`.
    pub fn note(&self, ledger: &Origin, agent: &AgentName, key: PublicKey) -> SignedNote {
        let vkey = agent_vkey(ledger, agent, key);
        let mut note =
            SignedNote::new(Checkpoint::new(ledger.agent(agent), self.size, self.root).text());
        note.put(NoteSignature {
            name: vkey.name().clone(),
            id: vkey.id(),
            bytes: self.cosignature().to_bytes().to_vec(),
        });
        note
    }

    fn cosignature(&self) -> Cosignature {
        Cosignature { time: self.time, signature: self.signature }
    }
}

/// A seal as it stands in the ledger, with where its batch began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealEntry {
    /// Whose log is sealed.
    pub agent: AgentName,
    /// The index in the agent's log of the batch's first record; equals the size for a heartbeat.
    pub start: EntryIndex,
    /// The seal.
    pub seal: Seal,
}

impl SealEntry {
    /// The entry's bytes, the same on every node.
    pub fn encode(&self, enterprise: Enterprise) -> Vec<u8> {
        let mut out = Vec::with_capacity(360);
        let header = Header {
            priority: LEDGER_PRIORITY,
            time: Some(self.seal.time.millis()),
            host: self.agent.as_str().as_bytes(),
            app: b"logseal",
            procid: b"",
            msgid: b"seal",
        };
        header.write(&mut out);
        push_element(
            &mut out,
            "seal",
            enterprise,
            &[
                ("agent", self.agent.as_str()),
                ("start", &self.start.to_string()),
                ("size", &self.seal.size.to_string()),
                ("root", &self.seal.root.to_string()),
                ("time", &self.seal.time.0.to_string()),
                ("signature", &base64::encode(&self.seal.signature.0)),
            ],
        );
        out
    }

    /// Reads a seal out of an entry; `None` if the entry is no well-formed seal.
    pub fn decode(entry: &Entry<'_>) -> Option<Self> {
        if entry.kind() != Kind::Seal {
            return None;
        }
        let param = |name| entry.element().param(name);
        let number = |name| parse_decimal(&param(name)?);
        Some(SealEntry {
            agent: param("agent")?.parse().ok()?,
            start: EntryIndex(number("start")?),
            seal: Seal {
                size: TreeSize(number("size")?),
                root: Hash::from_base64(&param("root")?)?,
                time: UnixSeconds(number("time")?),
                signature: Signature(base64::decode_array(&param("signature")?)?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    #[test]
    fn a_seal_is_a_checkpoint_that_other_tools_can_check() {
        let key = SigningKey::from_seed(&Zeroizing::new([5; 32]));
        let (ledger, agent) = ("l.example/x".parse().unwrap(), "gw01".parse().unwrap());
        let seal =
            Seal::sign(&key, &ledger, &agent, (TreeSize(3), Hash([1; 32])), UnixSeconds(1000));
        assert!(seal.verifies(&key.public(), &ledger, &agent));
        assert!(!seal.verifies(&key.public(), &ledger, &"gw02".parse().unwrap()));
        let note = seal.note(&ledger, &agent, key.public());
        let vkey = agent_vkey(&ledger, &agent, key.public());
        assert_eq!(note.verify([&vkey]).unwrap().len(), 1);
        assert!(note.text().starts_with("l.example/x/agent/gw01\n3\n"));

        let entry = SealEntry { agent, start: EntryIndex(1), seal };
        let bytes = entry.encode(Enterprise::default());
        insta::assert_snapshot!(String::from_utf8(bytes.clone()).unwrap());
        assert_eq!(SealEntry::decode(&Entry::parse(&bytes).unwrap()).unwrap(), entry);
    }
}
