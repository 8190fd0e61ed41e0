//! How many of a period's lines have a verified receipt.
//!
//! Receipts come in the order of records, so it is enough to remember at which
//! record how many lines of which period end. When the ledger is away for long,
//! neighbours are put together: counts then come later, never too early.

use std::collections::VecDeque;

/// Lines that are counted together as long as there is room.
const TOGETHER: u64 = 1024;
/// How many such groups are remembered, at most.
const MAX_GROUPS: usize = 4096;

/// Lines without a receipt.
#[derive(Clone, Debug, Default)]
pub(super) struct Receipts {
    groups: VecDeque<Group>,
    /// Records below this one have receipts.
    size: u64,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    period: u64,
    /// Behind its last record.
    end: u64,
    lines: u64,
}

impl Receipts {
    /// `lines` of a period, the last of which ends in front of record `end`, wait for receipts.
    pub(super) fn wait(&mut self, period: u64, end: u64, lines: u64) {
        if let Some(last) = self.groups.back_mut()
            && last.period == period
            && last.lines + lines <= TOGETHER
            // What has its receipt already must not wait for what follows.
            && last.end > self.size
        {
            (last.end, last.lines) = (last.end.max(end), last.lines + lines);
            return;
        }
        if self.groups.len() >= MAX_GROUPS {
            self.merge();
        }
        let end = self.groups.back().map_or(end, |last| last.end.max(end));
        self.groups.push_back(Group { period, end, lines });
    }

    /// All records below `size` have receipts. Answers with the periods of lines that have, and how many.
    pub(super) fn reached(&mut self, size: u64) -> Vec<(u64, u64)> {
        self.size = self.size.max(size);
        let mut reached: Vec<(u64, u64)> = Vec::new();
        while let Some(group) = self.groups.pop_front_if(|group| group.end <= self.size) {
            match reached.last_mut() {
                Some((period, lines)) if *period == group.period => *lines += group.lines,
                _ => reached.push((group.period, group.lines)),
            }
        }
        reached
    }

    fn merge(&mut self) {
        let mut merged: VecDeque<Group> = VecDeque::with_capacity(self.groups.len());
        for group in std::mem::take(&mut self.groups) {
            // Every second one at most, so that the newest stay small.
            match merged.back_mut() {
                Some(last) if last.period == group.period && last.lines <= 2 * group.lines => {
                    (last.end, last.lines) = (group.end, last.lines + group.lines);
                }
                _ => merged.push_back(group),
            }
        }
        // As many periods as groups: the oldest are counted when those behind them are.
        while merged.len() >= MAX_GROUPS {
            merged.pop_front();
        }
        self.groups = merged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_when_their_last_record_has_a_receipt() {
        let mut receipts = Receipts::default();
        (0..10).for_each(|n| receipts.wait(0, n + 1, 1));
        receipts.wait(3600, 11, 1);
        assert_eq!(receipts.reached(9), [], "they are counted together");
        assert_eq!(receipts.reached(11), [(0, 10), (3600, 1)]);
        receipts.wait(3600, 5, 1);
        assert_eq!(receipts.reached(0), [(3600, 1)], "it came late");
    }

    #[test]
    fn months_without_receipts_take_no_more_room() {
        let mut receipts = Receipts::default();
        let lines = 20_000_000;
        (0..lines).for_each(|n| receipts.wait(n / 1_000_000, n + 1, 1));
        assert!(receipts.groups.len() <= MAX_GROUPS);
        let reached = receipts.reached(lines);
        assert_eq!(reached.iter().map(|(_, lines)| lines).sum::<u64>(), lines);
        assert_eq!(reached.len(), 20);
    }
}
