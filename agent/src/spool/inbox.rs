//! What stands between the seal thread, the uplink and the thread that writes the spool.
//!
//! One lock guards a short queue of sealed batches and the number up to which
//! the spool may be released, so that the writer waits for both at once. A full
//! queue makes the seal thread wait: that is how a spool holds its sources back.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use journal::Seq;
use pipeline::Outgoing;
use record::UnixMillis;

/// How many batches wait for the writer, at most: enough to be gathered into one sync, few enough
/// to be of no weight in memory.
pub const MAX_QUEUED: usize = 4;

/// A sealed batch on its way to the spool.
#[derive(Clone, Debug)]
pub struct Item {
    /// The batch and its positions.
    pub outgoing: Outgoing,
    /// When the line of its first record was received; `None` for a heartbeat.
    pub received: Option<UnixMillis>,
    /// When it was sealed.
    pub sealed: UnixMillis,
}

/// The writer is gone: nothing becomes durable any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the spool is not written any more")]
pub struct Ended;

/// The queue.
#[derive(Debug, Default)]
pub struct Inbox {
    inner: Mutex<Inner>,
    /// Something happened that the writer may wait for.
    filled: Condvar,
    /// The queue has room again, or the writer is gone.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Item>,
    release: Option<Seq>,
    stopping: bool,
    finished: bool,
    ended: bool,
}

/// What the writer has to do.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) items: Vec<Item>,
    pub(super) release: Option<Seq>,
    /// The queue is empty and nothing will follow.
    pub(super) finished: bool,
}

impl Inbox {
    /// Queues a batch; waits while the queue is full.
    ///
    /// # Errors
    /// When the writer is gone.
    pub fn put(&self, item: Item) -> Result<(), Ended> {
        let mut inner = self.lock();
        while inner.queue.len() >= MAX_QUEUED && !inner.ended {
            inner = self.emptied.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.ended {
            return Err(Ended);
        }
        inner.queue.push_back(item);
        self.filled.notify_one();
        Ok(())
    }

    /// Tells the writer that all batches in records below `seq` have verified receipts.
    pub fn release(&self, seq: Seq) {
        let mut inner = self.lock();
        inner.release = inner.release.max(Some(seq));
        self.filled.notify_one();
    }

    /// Tells the writer that the agent is stopping.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.filled.notify_one();
    }

    /// Tells the writer that no more batches will follow.
    pub fn finish(&self) {
        self.lock().finished = true;
        self.filled.notify_one();
    }

    /// Waits until there is something to do: a release, or, if they are wanted, batches or the end.
    /// `wanted` is asked with whether the agent is stopping. With a `limit` it waits no longer than that.
    pub(super) fn take(&self, wanted: impl Fn(bool) -> bool, limit: Option<Duration>) -> Taken {
        let until = limit.map(|limit| Instant::now() + limit);
        let mut inner = self.lock();
        loop {
            let wanted = wanted(inner.stopping);
            let finished = inner.finished && inner.queue.is_empty();
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let late = left.is_some_and(|left| left.is_zero());
            let items = wanted && !inner.queue.is_empty();
            if items || inner.release.is_some() || (finished && wanted) || late {
                let items = if items { inner.queue.drain(..).collect() } else { Vec::new() };
                if !items.is_empty() {
                    self.emptied.notify_one();
                }
                let finished = inner.finished && inner.queue.is_empty();
                return Taken { items, release: inner.release.take(), finished };
            }
            inner = match left {
                None => self.filled.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.filled.wait_timeout(inner, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// The writer is gone: whoever waits need not wait any longer.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.emptied.notify_all();
    }

    /// Nobody leaves the queue half changed, so a panic of another thread is no reason not to go on.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
