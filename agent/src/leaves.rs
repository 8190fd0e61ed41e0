//! Leaf hashes of batches that are on their way, from the seal thread to the uplink.
//!
//! Verifying a receipt needs them, and they were computed when the batch was
//! sealed. This is a convenience, not a store: what is not here is computed
//! again from the batch.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use record::{Hash, merkle::EntryIndex};

/// How many hashes are kept: what a full window of full batches needs, 2 MiB.
const MAX_HASHES: usize = 65_536;

/// Leaf hashes by the batch's first record.
#[derive(Debug, Default)]
pub struct LeafHashes(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    batches: VecDeque<(EntryIndex, Vec<Hash>)>,
    hashes: usize,
}

impl LeafHashes {
    /// Keeps the hashes of a batch, if there is room: the batches in front of it are needed earlier.
    pub fn put(&self, start: EntryIndex, leaves: Vec<Hash>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !leaves.is_empty() && kept.hashes + leaves.len() <= MAX_HASHES {
            kept.hashes += leaves.len();
            kept.batches.push_back((start, leaves));
        }
    }

    /// Takes the hashes of the batch that begins at `start`, and drops those of earlier ones.
    pub fn take(&self, start: EntryIndex) -> Option<Vec<Hash>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((first, leaves)) = kept.batches.pop_front_if(|(first, _)| *first <= start) {
            kept.hashes -= leaves.len();
            if first == start {
                return Some(leaves);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_bounded_and_never_those_of_another_batch() {
        let leaves = LeafHashes::default();
        leaves.put(EntryIndex(0), vec![Hash([1; 32]); 10]);
        leaves.put(EntryIndex(10), vec![Hash([2; 32]); 60_000]);
        leaves.put(EntryIndex(60_010), vec![Hash([3; 32]); 10_000]);
        assert_eq!(leaves.take(EntryIndex(5)), None, "and drops what lies before");
        assert_eq!(leaves.take(EntryIndex(10)).unwrap()[0], Hash([2; 32]));
        assert_eq!(leaves.take(EntryIndex(60_010)), None, "it was too much");
        leaves.put(EntryIndex(70_010), vec![Hash([4; 32])]);
        assert_eq!(leaves.take(EntryIndex(70_010)).unwrap(), [Hash([4; 32])]);
    }
}
