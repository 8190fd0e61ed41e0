//! A node's disk: what is synced survives, what is not may or may not.
//!
//! That is what the journal guarantees; a torn last record is found by its
//! checksum and dropped, so it is modelled as a record that is not there. A
//! flipped bit in what is synced is found at the next start, and then the
//! store counts as lost.

use crate::rng::Rng;
use replica::{Executed, LedgerState, vote_log_height};

/// One node's vote log, block log and mark.
#[derive(Default)]
pub struct Disk {
    votes: Vec<Vec<u8>>,
    unsynced: Vec<Vec<u8>>,
    blocks: Vec<Stored>,
    /// A bit of a stored block has flipped.
    pub damaged: bool,
    /// The store was lost, and the node has not yet been allowed to vote.
    pub rejoining: bool,
    /// Writes wait until there is space.
    pub full: bool,
}

struct Stored {
    executed: Executed,
    bytes: bytes::Bytes,
}

impl Disk {
    /// Appends to the vote log; not durable yet.
    pub fn log(&mut self, record: Vec<u8>) {
        self.unsynced.push(record);
    }

    /// Makes the vote log durable.
    pub fn sync(&mut self) {
        self.votes.append(&mut self.unsynced);
    }

    /// Makes a block durable.
    pub fn append(&mut self, executed: &Executed) {
        let bytes = executed.block.encode_parts().concat().into();
        self.blocks.push(Stored { executed: executed.clone(), bytes });
    }

    /// Lets go of the vote log: the height it was about is durable.
    pub fn release(&mut self) {
        self.votes.clear();
        self.unsynced.clear();
    }

    /// The process ends: a part of what was not synced is lost.
    pub fn crash(&mut self, rng: &mut Rng) {
        let keep = rng.within(0..self.unsynced.len() as u64 + 1) as usize;
        self.unsynced.truncate(keep);
        self.sync();
    }

    /// All is lost, and the operator says so at the next start.
    pub fn wipe(&mut self) {
        *self = Disk { rejoining: true, ..Disk::default() };
    }

    /// The newest durable height.
    pub fn height(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// A durable block, in its binary form.
    pub fn block(&self, height: u64) -> Option<&bytes::Bytes> {
        let at = usize::try_from(height.checked_sub(1)?).ok()?;
        self.blocks.get(at).map(|stored| &stored.bytes)
    }

    /// Durable blocks, in order.
    pub fn blocks(&self) -> impl Iterator<Item = &Executed> {
        self.blocks.iter().map(|stored| &stored.executed)
    }

    /// The ledger as the block log has it.
    pub fn state(&self) -> LedgerState {
        let mut state = LedgerState::genesis();
        self.blocks().for_each(|executed| executed.apply(&mut state));
        state
    }

    /// The vote log's records that are newer than the block log.
    pub fn recall(&self) -> Vec<Vec<u8>> {
        let newer = |record: &&Vec<u8>| {
            vote_log_height(record).is_none_or(|height| height.0 > self.height())
        };
        self.votes.iter().filter(newer).cloned().collect()
    }
}
