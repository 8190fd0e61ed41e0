//! Building a batch, entry by entry, without copying any.

use super::{Codec, MAX_BATCH_BYTES, MAX_BATCH_RECORDS, SealedBatch};
use crate::{
    checkpoint::Origin,
    crypto::SigningKey,
    entry::{Built, MAX_ENTRY_LEN},
    merkle::{EntryIndex, Frontier, Hash, leaf_hash},
    name::AgentName,
    seal::Seal,
    time::UnixSeconds,
};

/// A batch while it grows.
#[derive(Debug)]
pub struct BatchBuilder {
    ledger: Origin,
    agent: AgentName,
    start: EntryIndex,
    bundle: Vec<u8>,
    leaves: Vec<Hash>,
    log: Frontier,
}

/// A batch that was just sealed, with what its agent needs to go on and to check the receipt.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The batch.
    pub batch: SealedBatch,
    /// The leaf hashes of its records.
    pub leaves: Vec<Hash>,
    /// The agent's log after it.
    pub after: Frontier,
}

impl BatchBuilder {
    /// An empty batch behind `log`.
    pub fn new(ledger: Origin, agent: AgentName, log: Frontier) -> Self {
        let start = EntryIndex(log.size().0);
        BatchBuilder { ledger, agent, start, bundle: vec![], leaves: vec![], log }
    }

    /// The index of the next record.
    pub fn next(&self) -> EntryIndex {
        EntryIndex(self.log.size().0)
    }

    /// The agent whose log this is.
    pub fn agent(&self) -> &AgentName {
        &self.agent
    }

    /// Records in the batch so far.
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// True if there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Bytes of the entry bundle so far.
    pub fn bytes(&self) -> usize {
        self.bundle.len()
    }

    /// True if one more entry, however long, stays within the limits of a batch.
    pub fn has_room(&self) -> bool {
        self.bundle.len() + 2 + MAX_ENTRY_LEN <= MAX_BATCH_BYTES as usize
            && self.leaves.len() < MAX_BATCH_RECORDS as usize
    }

    /// Appends the entry that `write` appends to its argument; nothing if it would be too long.
    ///
    /// # Panics
    /// Without [`BatchBuilder::has_room`].
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Built) -> Built {
        assert!(self.has_room(), "a full batch is sealed before it grows");
        let at = self.bundle.len();
        self.bundle.extend_from_slice(&[0; 2]);
        let built = write(&mut self.bundle);
        match (built, u16::try_from(self.bundle.len() - at - 2)) {
            (Built::Whole, Ok(len)) => {
                self.bundle[at..at + 2].copy_from_slice(&len.to_be_bytes());
                let leaf = leaf_hash(&self.bundle[at + 2..]);
                self.leaves.push(leaf);
                self.log.push(leaf);
            }
            _ => self.bundle.truncate(at),
        }
        built
    }

    /// Seals the batch and begins the next one. A batch without records is a heartbeat.
    pub fn seal(&mut self, key: &SigningKey, time: UnixSeconds, codec: &mut Codec) -> Sealed {
        let tree = (self.log.size(), self.log.root());
        let batch = SealedBatch {
            agent: self.agent.clone(),
            start: self.start,
            count: u32::try_from(self.leaves.len()).expect("bounded by MAX_BATCH_RECORDS"),
            raw_len: u32::try_from(self.bundle.len()).expect("bounded by MAX_BATCH_BYTES"),
            compressed: codec.pack(&self.bundle),
            seal: Seal::sign(key, &self.ledger, &self.agent, tree, time),
        };
        let leaves = std::mem::replace(&mut self.leaves, Vec::with_capacity(batch.count as usize));
        self.bundle.clear();
        self.start = self.next();
        Sealed { batch, leaves, after: self.log.clone() }
    }
}
