//! What this agent missed itself, so that nobody else is blamed for it.
//!
//! Who missed `n` lines of one side cannot say that a line of the other side has
//! no like, up to `n` times, among the lines that came at about that time.

use std::collections::BTreeMap;

/// Missed lines, by the second in which that was noticed.
#[derive(Clone, Debug, Default)]
pub(super) struct Excuses(BTreeMap<u64, u64>);

/// So many that every line is excused.
const ALL: u64 = u64::MAX;

impl Excuses {
    /// Lines were missed.
    pub(super) fn add(&mut self, now_ms: u64, lines: u64) {
        if lines > 0 {
            let left = self.0.entry(now_ms / 1000).or_default();
            *left = left.saturating_add(lines);
        }
    }

    /// Nobody knows how many were.
    pub(super) fn add_all(&mut self, now_ms: u64) {
        self.add(now_ms, ALL);
    }

    /// Whether a line that came at this time may be without its like for one of these reasons.
    /// Uses up one of them.
    pub(super) fn excuse(&mut self, seen_ms: u64, settle_ms: u64) -> bool {
        let (from, to) = (seen_ms.saturating_sub(settle_ms) / 1000, (seen_ms + settle_ms) / 1000);
        let Some((_, left)) = self.0.range_mut(from..=to + 1).find(|(_, left)| **left > 0) else {
            return false;
        };
        if *left != ALL {
            *left -= 1;
        }
        true
    }

    /// Forgets what is too old to excuse a line that is still undecided.
    pub(super) fn forget(&mut self, now_ms: u64, settle_ms: u64) {
        let oldest = now_ms.saturating_sub(3 * settle_ms) / 1000;
        while self.0.first_key_value().is_some_and(|(second, _)| second + 2 < oldest) {
            self.0.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_excused_as_were_missed_and_only_near_by() {
        let mut excuses = Excuses::default();
        excuses.add(100_000, 2);
        assert!(!excuses.excuse(10_000, 60_000));
        assert!(excuses.excuse(50_000, 60_000) && excuses.excuse(150_000, 60_000));
        assert!(!excuses.excuse(100_000, 60_000), "both are used up");
        excuses.add_all(100_000);
        assert!((0..1000).all(|_| excuses.excuse(100_000, 60_000)));
        excuses.forget(400_000, 60_000);
        assert!(!excuses.excuse(100_000, 60_000));
    }
}
