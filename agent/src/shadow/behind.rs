//! Whether the agent reads its sources as they are written.
//!
//! While it does not, its lines come too late to be paired, and the old way must
//! not be blamed for it: at the start, with what was written meanwhile still to
//! be read, and while sources are held back.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::time::Instant;

use crate::{
    board::Board,
    metrics::{HELD_BY_DISK, HELD_BY_LIMIT, Metrics, ReasonLabel},
};

/// Sources have looked at their files after so long.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// With less than this unread the agent has caught up, in bytes.
const CAUGHT_UP: u64 = 64 << 10;
/// With more than this unread it is behind.
const BEHIND: u64 = 4 << 20;

/// Watches the sources that are compared.
#[derive(Debug)]
pub(super) struct Behind {
    board: Board,
    metrics: Metrics,
    /// All, if none is named.
    sources: Vec<String>,
    begun: Instant,
    caught_up: bool,
}

impl Behind {
    pub(super) fn new(board: Board, metrics: Metrics, sources: Vec<String>) -> Self {
        Behind { board, metrics, sources, begun: Instant::now(), caught_up: false }
    }

    /// Whether what comes now has no fair chance to be paired.
    pub(super) fn is_behind(&mut self) -> bool {
        let (held, unread) = (self.is_held_back(), self.unread());
        if self.caught_up {
            return held || unread > BEHIND;
        }
        self.caught_up = !held && unread < CAUGHT_UP && self.begun.elapsed() >= FIRST_LOOK;
        true
    }

    fn is_held_back(&self) -> bool {
        [HELD_BY_LIMIT, HELD_BY_DISK]
            .into_iter()
            .any(|reason| self.metrics.held_back.get_or_create(&ReasonLabel { reason }).get() > 0)
    }

    fn unread(&self) -> u64 {
        let entries = self.board.entries().into_iter();
        let compared =
            entries.filter(|(name, _)| self.sources.is_empty() || self.sources.contains(name));
        compared.map(|(_, entry)| entry.stats.lag_bytes.load(Relaxed)).sum()
    }
}
