//! What time it is, as an argument.

use record::UnixMillis;
use std::{ops::Add, time::Duration};

/// Milliseconds of a clock that never runs backwards and is nobody's wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

/// The moment at which something is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For timers.
    pub ticks: Ticks,
    /// For what is signed: may jump.
    pub wall: UnixMillis,
}

impl Add<Duration> for Ticks {
    type Output = Ticks;

    fn add(self, duration: Duration) -> Ticks {
        Ticks(self.0.saturating_add(duration.as_millis() as u64))
    }
}

impl Ticks {
    /// The time since `earlier`; nothing if that is later.
    pub fn since(self, earlier: Ticks) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
