//! Pauses between attempts: longer and longer, and never the same on two machines.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    random: SystemRandom,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Backoff { min, max, next: min, random: SystemRandom::new() }
    }

    /// Begins again with the shortest pause.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }

    /// The next pause: between half of it and all of it, so that agents that
    /// lost one node together do not come back together.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (self.next * 2).min(self.max);
        self.jittered(whole)
    }

    /// Between half of `whole` and all of it.
    pub(super) fn jittered(&self, whole: Duration) -> Duration {
        let mut byte = [u8::MAX];
        // Without random numbers the pause is merely the longest.
        let _ = self.random.fill(&mut byte);
        whole / 2 + (whole / 2) * u32::from(byte[0]) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_again() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(min, max);
        let pauses: Vec<Duration> = (0..10).map(|_| backoff.pause()).collect();
        let within = |pause: Duration, whole: Duration| whole / 2 <= pause && pause <= whole;
        assert!(within(pauses[0], min) && within(pauses[1], min * 2), "{pauses:?}");
        assert!(pauses[7..].iter().all(|pause| within(*pause, max)), "{pauses:?}");
        backoff.reset();
        assert!(within(backoff.pause(), min));
    }
}
