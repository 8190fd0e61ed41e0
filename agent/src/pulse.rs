//! What is measured once a second: how fast sources and spool move, how long the spool lasts, and
//! whether the ledger still answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use service::signals::Shutdown;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{board::Board, metrics::Metrics};

/// Over how long rates of lines are averaged, in seconds.
const LINES_OVER: f64 = 10.0;

/// Over how long the rate at which the spool is written is averaged, in seconds: a lull of a
/// minute must not make it look as if it lasted for ever.
const BYTES_OVER: f64 = 300.0;

/// Without a receipt for so long, although records wait, the log says how long the spool lasts.
const SILENCE: Duration = Duration::from_secs(10);

/// How often it says so again.
const REMIND: Duration = Duration::from_secs(300);

/// What a spool that is hardly written to is said to last, in seconds: ten years.
const FOR_EVER: u64 = 10 * 365 * 86_400;

/// Rates and forecasts. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    sealed: Rate,
    written: Rate,
    sources: BTreeMap<String, Rate>,
}

/// An exponentially weighted rate of a counter.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    last: u64,
    /// For how long it was measured, in seconds: a young rate is a plain mean.
    age: f64,
    per_second: f64,
}

impl Rate {
    fn measure(&mut self, count: u64, seconds: f64, over: f64) {
        self.age = (self.age + seconds).min(over);
        let now = count.saturating_sub(self.last) as f64 / seconds;
        self.per_second += (now - self.per_second) * (seconds / self.age).min(1.0);
        self.last = count;
    }
}

impl Pulse {
    /// Records sealed a second.
    pub fn records_per_second(&self) -> f64 {
        self.lock().sealed.per_second
    }

    /// Lines of a source a second.
    pub fn lines_per_second(&self, source: &str) -> f64 {
        self.lock().sources.get(source).map_or(0.0, |rate| rate.per_second)
    }

    /// For how many seconds `free` bytes last.
    fn lasts(&self, free: u64) -> u64 {
        if free == 0 {
            return 0;
        }
        let lasts = free as f64 / self.lock().written.per_second;
        if lasts < FOR_EVER as f64 { lasts as u64 } else { FOR_EVER }
    }

    fn measure(&self, seconds: f64, metrics: &Metrics, board: &Board) {
        let mut inner = self.lock();
        inner.sealed.measure(metrics.records_sealed.get(), seconds, LINES_OVER);
        inner.written.measure(metrics.spool_written_bytes.get(), seconds, BYTES_OVER);
        let entries = board.entries();
        inner.sources.retain(|name, _| entries.iter().any(|(other, _)| name == other));
        for (name, entry) in entries {
            let lines = entry.stats.lines.load(Relaxed);
            inner.sources.entry(name).or_default().measure(lines, seconds, LINES_OVER);
        }
    }

    /// Measures until shutdown.
    pub async fn run(self, metrics: Metrics, board: Board, mut shutdown: Shutdown) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        let mut silence = Silence { since: last, receipted: 0, said: None };
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                now = ticks.tick() => {
                    let seconds = (now - last).as_secs_f64();
                    if seconds > 0.1 {
                        self.measure(seconds, &metrics, &board);
                        last = now;
                    }
                    let free = metrics.spool_limit_bytes.get() - metrics.spool_bytes.get();
                    let lasts = self.lasts(u64::try_from(free).unwrap_or(0));
                    metrics.spool_lasts_seconds.set(i64::try_from(lasts).unwrap_or(i64::MAX));
                    silence.look(now, &metrics, lasts);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the ledger gives receipts.
struct Silence {
    since: Instant,
    receipted: u64,
    said: Option<Instant>,
}

impl Silence {
    fn look(&mut self, now: Instant, metrics: &Metrics, lasts_s: u64) {
        let receipted = metrics.batches_receipted.get();
        let waiting = metrics.spool_records_waiting.get();
        if receipted != self.receipted || waiting <= 0 {
            if self.said.take().is_some() {
                let silent_s = (now - self.since).as_secs();
                tracing::info!(silent_s, waiting, "the ledger gives receipts again");
            }
            (self.receipted, self.since) = (receipted, now);
            return;
        }
        let silent = now - self.since;
        if silent >= SILENCE && self.said.is_none_or(|said| now - said >= REMIND) {
            self.said = Some(now);
            let (used, limit) =
                (metrics.spool_bytes.get() >> 20, metrics.spool_limit_bytes.get() >> 20);
            tracing::warn!(
                silent_s = silent.as_secs(), waiting, spool_mib = used, limit_mib = limit,
                lasts = %lasting(lasts_s),
                "no receipts come from the ledger: records wait in the spool, which has room for \
                 about this long; after that sources are held back, and nothing is dropped"
            );
        }
    }
}

/// A length of time as people say it.
pub fn lasting(seconds: u64) -> String {
    match seconds {
        FOR_EVER.. => "years".into(),
        172_800.. => format!("{} days", seconds / 86_400),
        7200.. => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        120.. => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

/// The same, where hardly anything is written: nothing.
pub fn bounded(seconds: i64) -> Option<u64> {
    u64::try_from(seconds).ok().filter(|seconds| *seconds < FOR_EVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        for second in 1..=5 {
            rate.measure(second * 100, 1.0, 10.0);
        }
        assert!((rate.per_second - 100.0).abs() < 1e-9, "from the first seconds on");
        for _ in 0..100 {
            rate.measure(500, 1.0, 10.0);
        }
        assert!(rate.per_second < 0.1);
    }

    #[test]
    fn a_spool_lasts_as_long_as_its_room_divided_by_what_is_written() {
        let (pulse, metrics, board) = (Pulse::default(), Metrics::default(), Board::default());
        pulse.measure(1.0, &metrics, &board);
        assert_eq!(bounded(i64::try_from(pulse.lasts(1000)).unwrap()), None);
        assert_eq!(pulse.lasts(0), 0, "what is full is full");
        metrics.spool_written_bytes.inc_by(200);
        pulse.measure(1.0, &metrics, &board);
        assert_eq!(pulse.lasts(360_000), 3600);
        let said: Vec<_> = [59, 3599, 7260, 200_000, FOR_EVER].map(lasting).into();
        assert_eq!(said, ["59 s", "59 min", "2 h 1 min", "2 days", "years"]);
    }
}
