//! The vote log: a journal of what this node has said and seen at the height under way.

use journal::{Journal, Recovery};
use record::block::Height;
use replica::vote_log_height;
use std::path::Path;

/// Segments are small: a height's records are needed only until it is decided.
const SEGMENT_BYTES: u64 = 16 << 20;

/// The vote log of one node.
pub struct VoteLog {
    journal: Journal,
}

impl VoteLog {
    /// Opens or makes the log in `dir`, and gives back the records that are newer than the block
    /// log, whose newest block is `tip`.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged where it had been durable.
    pub fn open(dir: &Path, tip: Height) -> Result<(Self, Recovery, Vec<Vec<u8>>), journal::Error> {
        let options = journal::Options { segment_bytes: SEGMENT_BYTES, ..Default::default() };
        let (journal, recovery) = Journal::open(dir, options)?;
        let reader = journal.reader();
        let mut records = Vec::new();
        let mut seq = journal.first_seq();
        while seq < journal.next_seq() {
            let record = reader.read(seq)?;
            if vote_log_height(&record).is_none_or(|height| height > tip) {
                records.push(record);
            }
            seq = seq.next();
        }
        Ok((VoteLog { journal }, recovery, records))
    }

    /// Adds a record, which need not be durable yet.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn append(&mut self, record: &[u8]) -> Result<(), journal::Error> {
        self.journal.append(&[record]).map(drop)
    }

    /// Makes all records durable.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn sync(&mut self) -> Result<(), journal::Error> {
        self.journal.sync().map(drop)
    }

    /// Lets go of everything: the height it was about is decided and durable.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn release(&mut self) -> Result<(), journal::Error> {
        let durable = self.journal.durable();
        self.journal.release(durable)
    }
}
