//! Pure: which batches are under way, and which are done.

use std::collections::VecDeque;

use journal::Seq;
use link::message::BatchReceipt;
use record::{Hash, TreeSize, UnixMillis, merkle::EntryIndex, seal::SealEntry};

/// How many batches are under way, at most: enough to fill a round of consensus.
pub(super) const MAX_BATCHES: usize = 16;
/// How many bytes they have together, at most; a single batch may have more.
pub(super) const MAX_BYTES: usize = 8 << 20;

/// A batch that was handed over.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    /// Its record in the spool.
    pub(super) seq: Seq,
    /// Its seal, as the ledger will hold it.
    pub(super) seal: SealEntry,
    pub(super) count: u32,
    /// Its encoded length.
    pub(super) bytes: usize,
    pub(super) received: Option<UnixMillis>,
    pub(super) sealed: UnixMillis,
    done: bool,
}

impl InFlight {
    pub(super) fn new(
        seq: Seq,
        seal: SealEntry,
        count: u32,
        bytes: usize,
        (received, sealed): (Option<UnixMillis>, UnixMillis),
    ) -> Self {
        InFlight { seq, seal, count, bytes, received, sealed, done: false }
    }

    pub(super) fn start(&self) -> EntryIndex {
        self.seal.start
    }

    pub(super) fn size(&self) -> TreeSize {
        self.seal.seal.size
    }
}

/// Everything in front of a point has verified receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    /// Below this record of the spool.
    pub(super) seq: Seq,
    /// The agent's log there.
    pub(super) size: TreeSize,
    pub(super) root: Hash,
    /// How many batches, and records in them, that is more than before.
    pub(super) batches: u64,
    pub(super) records: u64,
}

/// The batches under way, in order.
#[derive(Debug, Default)]
pub(super) struct Window {
    batches: VecDeque<InFlight>,
    bytes: usize,
}

impl Window {
    /// True if one more batch of `bytes` may be handed over.
    ///
    /// Not behind a heartbeat, until that has its receipt: it leaves the log as it is, so nothing
    /// keeps a node that missed it from taking what comes after it, and then no node can take the
    /// heartbeat any more.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let Some(last) = self.batches.back() else { return true };
        last.count > 0 && self.batches.len() < MAX_BATCHES && self.bytes + bytes <= MAX_BYTES
    }

    /// A batch was handed over.
    pub(super) fn push(&mut self, batch: InFlight) {
        debug_assert!(self.batches.back().is_none_or(|last| last.seq < batch.seq));
        self.bytes += batch.bytes;
        self.batches.push_back(batch);
    }

    /// The batch that a receipt is for, unless it has one already.
    pub(super) fn find(&self, receipt: &BatchReceipt) -> Option<&InFlight> {
        self.batches.iter().find(|batch| {
            let said = (receipt.start, receipt.size, receipt.sealed);
            !batch.done && said == (batch.start().0, batch.size().0, batch.seal.seal.time.0)
        })
    }

    /// A batch's receipt was verified. Answers how far all batches have theirs, if that moved.
    pub(super) fn done(&mut self, seq: Seq) -> Option<Reached> {
        let batch = self.batches.iter_mut().find(|batch| batch.seq == seq)?;
        batch.done = true;
        let (mut reached, mut batches, mut records) = (None, 0, 0);
        while let Some(batch) = self.batches.pop_front_if(|batch| batch.done) {
            self.bytes -= batch.bytes;
            batches += 1;
            records += u64::from(batch.count);
            let (seq, size, root) = (batch.seq.next(), batch.size(), batch.seal.seal.root);
            reached = Some(Reached { seq, size, root, batches, records });
        }
        reached
    }

    /// How many batches are under way.
    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::{UnixSeconds, crypto::Signature, seal::Seal};

    fn batch(seq: u64, bytes: usize) -> InFlight {
        let seal = Seal {
            size: TreeSize(seq + 1),
            root: Hash([seq as u8; 32]),
            time: UnixSeconds(100 + seq),
            signature: Signature([0; 64]),
        };
        let seal = SealEntry { agent: "gw01".parse().unwrap(), start: EntryIndex(seq), seal };
        InFlight::new(Seq(seq), seal, 1, bytes, (None, UnixMillis(0)))
    }

    fn receipt(start: u64, size: u64, sealed: u64) -> BatchReceipt {
        let (left, right, checkpoint) = (vec![], vec![], String::new());
        BatchReceipt { start, size, sealed, first: 0, left, right, checkpoint }
    }

    #[test]
    fn nothing_is_released_in_front_of_a_batch_without_a_receipt() {
        let mut window = Window::default();
        (3..7).for_each(|seq| window.push(batch(seq, 10)));
        assert_eq!(window.done(Seq(4)), None);
        assert_eq!(window.done(Seq(5)), None);
        let reached = window.done(Seq(3)).unwrap();
        assert_eq!((reached.seq, reached.size, reached.records), (Seq(6), TreeSize(6), 3));
        assert_eq!((window.len(), window.done(Seq(6)).unwrap().seq), (1, Seq(7)));
    }

    #[test]
    fn the_window_is_bounded_in_batches_and_in_bytes() {
        let mut window = Window::default();
        assert!(window.has_room(MAX_BYTES * 2), "a single batch always goes");
        for seq in 0..MAX_BATCHES as u64 {
            assert!(window.has_room(10));
            window.push(batch(seq, 10));
        }
        assert!(!window.has_room(10));
        window.done(Seq(0)).unwrap();
        assert!(window.has_room(MAX_BYTES - 150) && !window.has_room(MAX_BYTES - 149));
    }

    #[test]
    fn nothing_is_handed_over_behind_a_heartbeat() {
        let mut window = Window::default();
        window.push(batch(0, 10));
        window.push(InFlight { count: 0, ..batch(1, 10) });
        assert!(!window.has_room(10));
        window.done(Seq(1));
        assert!(!window.has_room(10), "its receipt may come first, and is kept with it");
        window.done(Seq(0));
        assert!(window.has_room(10));
    }

    #[test]
    fn a_receipt_is_taken_for_its_own_batch_only_and_once() {
        let mut window = Window::default();
        window.push(batch(3, 10));
        window.push(batch(4, 10));
        assert_eq!(window.find(&receipt(4, 5, 104)).unwrap().seq, Seq(4));
        for other in [receipt(4, 5, 103), receipt(4, 6, 104), receipt(5, 5, 104)] {
            assert!(window.find(&other).is_none());
        }
        window.done(Seq(4));
        assert!(window.find(&receipt(4, 5, 104)).is_none());
    }
}
