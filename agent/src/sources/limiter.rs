//! Keeps the log readable: one who is refused over and over is named once per interval.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// How many different ones are told apart. When there are more, the log has
/// been flooded with names anyway, and all the others share one turn.
const MAX_KEYS: usize = 1024;

/// Decides for each key whether it is its turn to be logged.
#[derive(Debug)]
pub(super) struct Limiter<K> {
    interval: Duration,
    turns: HashMap<K, Turn>,
    others: Option<Turn>,
}

#[derive(Debug)]
struct Turn {
    since: Instant,
    suppressed: u64,
}

impl<K: Eq + Hash> Limiter<K> {
    /// One turn per `interval` for each key.
    pub(super) fn new(interval: Duration) -> Self {
        Limiter { interval, turns: HashMap::new(), others: None }
    }

    /// `Some` if it may be logged now, with how many were suppressed since the last time.
    pub(super) fn turn(&mut self, key: K, now: Instant) -> Option<u64> {
        let (interval, fresh) = (self.interval, Turn { since: now, suppressed: 0 });
        if self.turns.len() >= MAX_KEYS && !self.turns.contains_key(&key) {
            self.turns.retain(|_, turn| turn.waits(interval, now));
        }
        let full = self.turns.len() >= MAX_KEYS;
        let turn = match self.turns.get_mut(&key) {
            Some(turn) => turn,
            None if full => match &mut self.others {
                Some(turn) => turn,
                others => {
                    *others = Some(fresh);
                    return Some(0);
                }
            },
            None => {
                self.turns.insert(key, fresh);
                return Some(0);
            }
        };
        if turn.waits(interval, now) {
            turn.suppressed += 1;
            return None;
        }
        Some(std::mem::replace(turn, fresh).suppressed)
    }
}

impl Turn {
    fn waits(&self, interval: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_once_a_second_and_its_size_is_told() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut limiter = Limiter::new(second);
        assert_eq!(limiter.turn("a", start), Some(0));
        for _ in 0..7 {
            assert_eq!(limiter.turn("a", start), None);
        }
        assert_eq!(limiter.turn("b", start), Some(0), "another one has its own turn");
        assert_eq!(limiter.turn("a", start + second), Some(7));
        assert_eq!(limiter.turn("a", start + second), None);
    }

    #[test]
    fn a_flood_of_addresses_takes_neither_memory_nor_the_log() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut limiter = Limiter::new(second);
        let logged = (0..100_000).filter(|key| limiter.turn(*key, start).is_some()).count();
        assert_eq!(logged, MAX_KEYS + 1);
        assert_eq!(limiter.turns.len(), MAX_KEYS);
        assert_eq!(limiter.turn(7, start + second), Some(0));
        let _ = limiter.turn(200_000, start + 3 * second);
        assert!(limiter.turns.len() < MAX_KEYS, "those who are silent are forgotten");
    }
}
