//! Records of the vote log: what a restart must know so as not to contradict what was said before.
//!
//! ```text
//! u8 version = 1 | u8 kind | u64 height | input of the engine (kind 1), block (kind 2), nothing (kind 3)
//! ```

use super::{Output, Replica, proposals::Candidate};
use crate::{
    block::{Block, BlockHeader},
    engine::EngineError,
    execute::replay,
};
use record::{Hash, block::Height};

const VERSION: u8 = 1;
const INPUT: u8 = 1;
const BLOCK: u8 = 2;
const BEGUN: u8 = 3;
const HEAD: usize = 10;

/// The height a record of the vote log is about; `None` if the bytes are none.
pub fn vote_log_height(record: &[u8]) -> Option<Height> {
    let (head, _) = record.split_at_checked(HEAD)?;
    let height = head[2..].try_into().ok().map(u64::from_be_bytes)?;
    (head[0] == VERSION && matches!(head[1], INPUT | BLOCK | BEGUN)).then_some(Height(height))
}

fn head(kind: u8, height: Height) -> Vec<u8> {
    let mut out = vec![VERSION, kind];
    out.extend_from_slice(&height.0.to_be_bytes());
    out
}

impl Replica {
    /// Reads what was under way when the process ended.
    pub(super) fn recall(&mut self, vote_log: &[Vec<u8>]) -> Result<(), EngineError> {
        let next = Height(self.state.height.0 + 1);
        let broken = |problem: String| EngineError { height: next.0, problem };
        for record in vote_log {
            let unreadable = || broken("a record of the vote log cannot be read".into());
            let height = vote_log_height(record).ok_or_else(unreadable)?;
            if height < next {
                continue;
            }
            if height > next {
                let problem =
                    format!("the vote log is at height {height}: the block log lost its end");
                return Err(broken(problem));
            }
            match record[1] {
                INPUT => self.remembered.push(record[HEAD..].to_vec()),
                BEGUN => {}
                _ => self.recall_block(&record[HEAD..]).map_err(broken)?,
            }
        }
        Ok(())
    }

    fn recall_block(&mut self, bytes: &[u8]) -> Result<(), String> {
        let block = Block::decode(bytes).map_err(|error| error.to_string())?;
        let executed = replay(&self.params, &self.state, block, &mut self.codec)
            .map_err(|error| error.to_string())?;
        let id = executed.block.header.id();
        self.logged.insert(id);
        self.candidates.insert(id, Candidate::Ready(Box::new(executed)));
        Ok(())
    }

    /// Adds an input of the engine to the vote log. A ledger of one has none: nobody is told its
    /// votes, so it cannot contradict them.
    pub(super) fn log_input(&mut self, input: &[u8]) {
        let mut record = head(INPUT, Height(self.engine.height()));
        record.extend_from_slice(input);
        self.log(record);
    }

    /// Adds a block to the vote log, before it is called valid: whoever may come to precommit to it
    /// must be able to show it, or a restart of all nodes could leave a decision without a block.
    pub(super) fn log_block(&mut self, id: Hash) {
        let Some(Candidate::Ready(executed)) = self.candidates.get(&id) else { return };
        if !self.logged.insert(id) {
            return;
        }
        let header: &BlockHeader = &executed.block.header;
        let (mut record, parts) = (head(BLOCK, header.height), executed.block.encode_parts());
        record.reserve_exact(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| record.extend_from_slice(part));
        self.log(record);
    }

    /// Remembers that this node may vote in a ledger that begins: if it starts again before it has
    /// said anything, its empty block log does not mean that a disk was lost.
    pub(super) fn log_begun(&mut self) {
        self.log(head(BEGUN, Height(self.state.height.0 + 1)));
        self.sync_log();
    }

    fn log(&mut self, record: Vec<u8>) {
        if self.members.count() > 1 {
            self.out.push_back(Output::Log(record));
            self.unsynced = true;
        }
    }

    /// Makes durable what was logged, before anything that rests on it leaves.
    pub(super) fn sync_log(&mut self) {
        if std::mem::take(&mut self.unsynced) {
            self.out.push_back(Output::SyncLog);
        }
    }
}
