//! Showing progress while traffic runs.

use super::{
    meter::{Meter, Reading},
    say,
    traffic::Traffic,
};
use crate::output::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How often progress is shown, and conditions are looked at.
const TICK: Duration = Duration::from_millis(200);

/// What there is to see of a run.
pub(super) struct Watcher<'a> {
    pub(super) meter: &'a Meter,
    pub(super) traffic: &'a Traffic,
    /// Set by Ctrl-C.
    pub(super) stop: &'a AtomicBool,
}

impl Watcher<'_> {
    /// Shows progress until the time is over, or until Ctrl-C.
    pub(super) fn watch(&self, limit: Option<Duration>) -> Result<(), Failure> {
        let begun = Instant::now();
        let over = || Ok(limit.filter(|limit| begun.elapsed() >= *limit));
        self.wait("", Duration::MAX, over).map(drop)
    }

    /// Shows progress until `condition` gives something; `None` after Ctrl-C.
    ///
    /// # Errors
    /// If that takes longer than `limit`, or the condition or the agent's metrics fail.
    pub(super) fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> Result<Option<T>, Failure>,
    ) -> Result<Option<T>, Failure> {
        let begun = Instant::now();
        let style = ProgressStyle::with_template("{spinner} {msg}");
        let bar = ProgressBar::new_spinner()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        let result = loop {
            if self.stop.load(Ordering::Relaxed) {
                break Ok(None);
            }
            match condition() {
                Ok(None) if begun.elapsed() > limit => {
                    break Err(Failure(format!("{what}: not within {limit:?}")));
                }
                Ok(None) => {}
                found => break found,
            }
            bar.set_message(format!("{}  {what}", self.line()?));
            bar.tick();
            std::thread::sleep(TICK);
        };
        bar.finish_and_clear();
        result
    }

    /// Says how far the run is.
    pub(super) fn say(&self) -> Result<(), Failure> {
        say("traffic", &self.line()?);
        Ok(())
    }

    fn line(&self) -> Result<String, Failure> {
        Ok(progress_line(&self.meter.read()?, self.traffic.written()))
    }
}

fn progress_line(reading: &Reading, written: u64) -> String {
    format!(
        "written {written}  read {}  sealed {}  committed {}  receipt p50 {:.0} ms, p99 {:.0} ms",
        reading.lines, reading.sealed, reading.receipted, reading.p50_ms, reading.p99_ms
    )
}
