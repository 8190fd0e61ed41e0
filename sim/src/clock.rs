//! A node's clocks: they drift, and the wall clock jumps.

use record::UnixMillis;
use replica::{Now, Ticks};

/// When a world begins.
pub const START: u64 = 1_795_248_147_000;

/// One node's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// The wall clock minus the true time, in milliseconds.
    pub offset: i64,
    /// Parts per million that it is too fast.
    pub drift: i64,
    /// By how much the whole world has grown older at once, in milliseconds.
    pub aged: u64,
}

impl Clock {
    /// What the clocks show at a time in microseconds; `begun` is when the process started.
    pub fn now(&self, time: u64, begun: u64) -> Now {
        let ticks = self.run(time.saturating_sub(begun)) / 1000;
        let wall = START as i64 + (self.run(time) / 1000) as i64 + self.offset;
        let wall = wall + self.aged as i64;
        Now { ticks: Ticks(ticks), wall: UnixMillis(wall.max(0) as u64) }
    }

    /// When `ticks` will be reached, in microseconds; a little late rather than early.
    pub fn when(&self, ticks: Ticks, begun: u64) -> u64 {
        let elapsed = (ticks.0.saturating_mul(1000)) as i128;
        let slowed = elapsed * 1_000_000 / i128::from(1_000_000 + self.drift);
        begun.saturating_add(u64::try_from(slowed).unwrap_or(u64::MAX)).saturating_add(1)
    }

    fn run(&self, micros: u64) -> u64 {
        let drift = i128::from(micros) * i128::from(self.drift) / 1_000_000;
        u64::try_from(i128::from(micros) + drift).unwrap_or_default()
    }
}
