//! What the records of a spool add up to after a start.
//!
//! The newest state, and the batches behind it applied to it. Batches in front
//! of it may still wait for their receipts; they are read again by number.

use std::path::Path;

use journal::{Damage, Error, Reader, Recovery, Seq};
use record::{Hash, TreeSize};

use super::{BatchRecord, Decoded, Owner, SpoolError, StateRecord, decode};

/// What waits for a receipt when a spool is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Every batch in records below this one has a verified receipt.
    pub from: Seq,
    /// The size of the agent's log in front of the first batch that waits.
    pub base: TreeSize,
    /// The root at that size, where it is known.
    pub root: Option<Hash>,
    /// The size of the agent's log behind the last batch.
    pub end: TreeSize,
}

/// What was recovered.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Brought up to the newest batch.
    pub(super) state: StateRecord,
    pub(super) last_state: Seq,
    pub(super) since_state: u64,
    pub(super) backlog: Backlog,
}

/// Reads a spool through. `None` if nothing was ever written to it.
pub(super) fn recover(
    dir: &Path,
    reader: &Reader,
    recovery: &Recovery,
    owner: &Owner,
) -> Result<Option<Recovered>, SpoolError> {
    let mut walk = Walk { dir, state: None, last_state: Seq(0), since_state: 0 };
    let mut damage: Vec<Damage> = recovery.damage.clone();
    for item in reader.iter(recovery.first_seq) {
        match item {
            Ok((seq, bytes)) => walk.record(seq, &bytes)?,
            Err(Error::Damaged(found)) => {
                // Only a later state can tell what the lost records added up to.
                walk.state = None;
                damage.push(found);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let released = walk.state.as_ref().map_or(recovery.first_seq, |state| state.released);
    // What has its receipt is in the ledger; only what lies behind can be lost.
    damage.retain(|damage| damage.first_seq < damage.last_seq && damage.last_seq > released);
    if let Some(damage) = damage.into_iter().next() {
        return Err(SpoolError::Damaged { dir: dir.to_owned(), damage: Box::new(damage) });
    }
    let Some(mut state) = walk.state else {
        let seq = recovery.first_seq;
        return match recovery.next_seq == seq {
            true if seq == Seq(0) => Ok(None),
            _ => Err(inconsistent(dir, seq, "stands in a spool without any state")),
        };
    };
    check_owner(dir, &state, owner)?;
    state.released = state.released.max(recovery.first_seq);
    let backlog = backlog(dir, reader, &state)?;
    let (last_state, since_state) = (walk.last_state, walk.since_state);
    Ok(Some(Recovered { state, last_state, since_state, backlog }))
}

struct Walk<'a> {
    dir: &'a Path,
    state: Option<StateRecord>,
    last_state: Seq,
    since_state: u64,
}

impl Walk<'_> {
    fn record(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), SpoolError> {
        match read(self.dir, seq, bytes)? {
            Decoded::State(state) => self.take_state(seq, *state),
            Decoded::Batch(batch) => self.apply(seq, &batch, bytes.len()),
            Decoded::Changes(changes) => {
                if let Some(state) = &mut self.state {
                    changes.iter().for_each(|change| state.positions.apply(change));
                }
                Ok(())
            }
        }
    }

    fn take_state(&mut self, seq: Seq, state: StateRecord) -> Result<(), SpoolError> {
        if let Some(before) = &self.state
            && before.frontier != state.frontier
        {
            return Err(inconsistent(self.dir, seq, "is a state that does not follow the batches"));
        }
        self.state = Some(state);
        self.last_state = seq;
        self.since_state = 0;
        Ok(())
    }

    fn apply(&mut self, seq: Seq, batch: &BatchRecord<'_>, len: usize) -> Result<(), SpoolError> {
        // Batches in front of the first state that is left are in that state already.
        let Some(state) = &mut self.state else { return Ok(()) };
        if batch.batch.start.0 != state.frontier.size().0 {
            return Err(inconsistent(
                self.dir,
                seq,
                "is a batch that does not follow the last one",
            ));
        }
        if batch.after.size() != batch.batch.seal.size
            || batch.after.root() != batch.batch.seal.root
        {
            return Err(inconsistent(self.dir, seq, "is a batch with the log of another"));
        }
        for change in &batch.changes {
            state.positions.apply(change);
        }
        state.frontier.clone_from(&batch.after);
        state.sealed = batch.batch.seal.time;
        self.since_state += len as u64;
        Ok(())
    }
}

/// Where the first batch without a receipt begins.
fn backlog(dir: &Path, reader: &Reader, state: &StateRecord) -> Result<Backlog, SpoolError> {
    let end = state.frontier.size();
    for item in reader.iter(state.released) {
        let (seq, bytes) = item?;
        if let Decoded::Batch(first) = read(dir, seq, &bytes)? {
            let base = TreeSize(first.batch.start.0);
            return Ok(Backlog { from: seq, base, root: None, end });
        }
    }
    Ok(Backlog { from: state.released, base: end, root: Some(state.frontier.root()), end })
}

fn check_owner(dir: &Path, state: &StateRecord, owner: &Owner) -> Result<(), SpoolError> {
    let foreign = |what, found: String, configured: String| {
        Err(SpoolError::Foreign { dir: dir.to_owned(), what, found, configured })
    };
    if state.agent != owner.agent {
        return foreign("the agent", state.agent.to_string(), owner.agent.to_string());
    }
    if state.ledger != owner.ledger {
        return foreign("the ledger", state.ledger.to_string(), owner.ledger.to_string());
    }
    if state.key != owner.key {
        let vkey = |key| record::seal::agent_vkey(&owner.ledger, &owner.agent, key).to_string();
        return foreign("the key", vkey(state.key), vkey(owner.key));
    }
    Ok(())
}

fn read<'a>(dir: &Path, seq: Seq, bytes: &'a [u8]) -> Result<Decoded<'a>, SpoolError> {
    decode(bytes).map_err(|problem| SpoolError::Format { dir: dir.to_owned(), seq, problem })
}

fn inconsistent(dir: &Path, seq: Seq, problem: &str) -> SpoolError {
    SpoolError::Inconsistent { dir: dir.to_owned(), seq, problem: problem.to_owned() }
}
