//! Reads batches from the spool in order, and checks each against what the ledger holds.

use std::path::PathBuf;

use journal::{Reader, Seq};
use link::message::AgentState;
use record::batch::SealedBatch;

use super::{StopReason, trouble::Trouble, window::InFlight};
use crate::spool::{Decoded, decode};

/// A batch that is to be handed over.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The bytes that are sent: those that were made durable.
    pub(super) encoded: Vec<u8>,
    pub(super) flight: InFlight,
}

/// Where reading stands.
#[derive(Debug)]
pub(super) struct Cursor {
    reader: Reader,
    next: Seq,
    /// Where the ledger stood when the connection began.
    ledger: AgentState,
    spool: PathBuf,
    /// Read, and not handed over yet because the window is full.
    loaded: Option<Loaded>,
}

impl Cursor {
    pub(super) fn new(reader: Reader, next: Seq, ledger: AgentState, spool: PathBuf) -> Self {
        Cursor { reader, next, ledger, spool, loaded: None }
    }

    /// The next batch, if it is durable.
    pub(super) fn peek(&mut self) -> Result<Option<&Loaded>, Trouble> {
        while self.loaded.is_none() && self.next < self.reader.durable() {
            let seq = self.next;
            let bytes = self.reader.read(seq).map_err(unreadable)?;
            self.loaded = self.load(seq, bytes)?;
            self.next = seq.next();
        }
        Ok(self.loaded.as_ref())
    }

    /// Takes the batch that was peeked at.
    pub(super) fn take(&mut self) -> Option<Loaded> {
        self.loaded.take()
    }

    fn load(&self, seq: Seq, mut bytes: Vec<u8>) -> Result<Option<Loaded>, Trouble> {
        let Decoded::Batch(record) = decode(&bytes).map_err(unreadable)? else { return Ok(None) };
        self.check(&record.batch)?;
        let times = (record.received, record.sealed);
        let (seal, count) = (record.batch.seal_entry(), record.batch.count);
        let length = record.encoded.len();
        let flight = InFlight::new(seq, seal, count, length, times);
        let encoded = bytes.split_off(bytes.len() - length);
        Ok(Some(Loaded { encoded, flight }))
    }

    /// What the ledger holds must end where one of our batches ends, with our root.
    fn check(&self, batch: &SealedBatch) -> Result<(), Trouble> {
        let (start, size) = (batch.start.0, batch.seal.size);
        let next = self.ledger.next;
        let cut = start < next && next < size.0;
        let other = next == size.0 && batch.seal.root.0 != self.ledger.root;
        if cut || other {
            let (agent, spool) = (batch.agent.clone(), self.spool.clone());
            return Err(StopReason::Diverged { agent, at: next, spool }.into());
        }
        Ok(())
    }
}

/// What was durable cannot be read: going on would leave a hole.
pub(super) fn unreadable(error: impl std::fmt::Display) -> Trouble {
    Trouble::Stop(StopReason::Spool(error.to_string()))
}
