//! Which lines were delivered lately: another copy of one of them is a duplicate.

use super::forms::Key;
use std::collections::{BTreeMap, VecDeque};

/// The newest times at which lines were delivered.
#[derive(Clone, Debug)]
pub(super) struct Recent {
    times: BTreeMap<u64, u64>,
    order: VecDeque<(u64, u64)>,
    most: usize,
    /// Up to this time something was forgotten for lack of room.
    forgot_ms: Option<u64>,
}

impl Recent {
    /// Remembers at most so many lines.
    pub(super) fn new(most: usize) -> Self {
        Recent { times: BTreeMap::new(), order: VecDeque::new(), most, forgot_ms: None }
    }

    /// A line was delivered.
    pub(super) fn put(&mut self, key: Key, now_ms: u64) {
        self.times.insert(key.half(), now_ms);
        self.order.push_back((now_ms, key.half()));
        while self.order.len() > self.most {
            self.forgot_ms = self.pop();
        }
    }

    /// True if it was delivered and is remembered.
    pub(super) fn has(&self, key: Key) -> bool {
        self.times.contains_key(&key.half())
    }

    /// True if a line that was delivered at this time may have been forgotten too early.
    pub(super) fn may_have_forgotten(&self, since_ms: u64) -> bool {
        self.forgot_ms.is_some_and(|forgot| forgot >= since_ms)
    }

    /// Forgets what was delivered before this time.
    pub(super) fn forget(&mut self, before_ms: u64) {
        while self.order.front().is_some_and(|(time, _)| *time < before_ms) {
            self.pop();
        }
    }

    fn pop(&mut self) -> Option<u64> {
        let (time, key) = self.order.pop_front()?;
        if self.times.get(&key) == Some(&time) {
            self.times.remove(&key);
        }
        Some(time)
    }
}
