//! The thread that owns the pipeline: source events and the time in, sealed batches out to the spool.
//!
//! It never sleeps longer than the pipeline's deadline and never polls. A spool
//! that takes nothing makes it wait, the channel behind it fills, and the
//! sources wait in turn.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use pipeline::{Now, Pipeline, line::SourceEvent};
use record::UnixMillis;
use tokio::{
    runtime::Builder,
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::{
    board::Board,
    control::Tap,
    fatal::Alarm,
    leaves::LeafHashes,
    metrics::Metrics,
    shadow::Inlet,
    spool::{Ended, Inbox, Item},
};

/// How many events wait for the pipeline, at most: each is a chunk of up to 256 KiB.
pub const MAX_EVENTS: usize = 8;

/// The pipeline's clocks: the monotonic one counts from here.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Begins to count.
    pub fn start() -> Self {
        Clock(Instant::now())
    }

    /// Both clocks, now.
    pub fn now(&self) -> Now {
        let monotonic_ms = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { monotonic_ms, wall: service::clock::now() }
    }

    fn at(&self, monotonic_ms: u64) -> Instant {
        self.0 + Duration::from_millis(monotonic_ms)
    }
}

/// What the thread works with.
pub struct SealLoop {
    /// The pipeline, behind the spool's log.
    pub pipeline: Pipeline,
    /// The clock that the pipeline was made with.
    pub clock: Clock,
    /// The pipeline's heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
    /// What sources say.
    pub events: mpsc::Receiver<SourceEvent>,
    /// Where batches go.
    pub inbox: Arc<Inbox>,
    /// Where leaf hashes wait for the batch's receipt.
    pub leaves: Arc<LeafHashes>,
    /// Where sealed lines are compared with an old feed.
    pub shadow: Option<Inlet>,
    /// What it counts.
    pub metrics: Metrics,
    /// Where it says whose lines were sealed.
    pub board: Board,
    /// Where batches can be watched.
    pub tap: Tap,
    /// Whom it tells when it cannot go on.
    pub alarm: Alarm,
}

impl SealLoop {
    /// Starts the thread. It ends when all senders of events are gone, after
    /// everything they sent is sealed and handed to the spool.
    ///
    /// # Errors
    /// When the system has no thread or timer to give.
    pub fn start(self) -> io::Result<JoinHandle<()>> {
        // A runtime of its own: timers then cost no other thread a wake-up.
        let runtime = Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("seal".into()).spawn(move || {
            let (alarm, inbox) = (self.alarm.clone(), Arc::clone(&self.inbox));
            let _guard = alarm.guard("seal");
            // The writer says why it ended; here there is nothing left to do.
            let (Ok(()) | Err(Ended)) = runtime.block_on(self.run());
            inbox.finish();
        })
    }

    async fn run(mut self) -> Result<(), Ended> {
        let mut first = FirstReceived::new(self.clock.now(), self.heartbeat_ms);
        loop {
            let deadline = self.clock.at(self.pipeline.deadline_ms());
            let received = timeout_at(deadline, self.events.recv()).await;
            let now = self.clock.now();
            match received {
                Ok(Some(event)) => {
                    if let SourceEvent::Chunk(chunk) = &event {
                        first.arrived(chunk.received, self.pipeline.deadline_ms());
                    }
                    self.take(event, now);
                }
                Ok(None) => break,
                Err(_) => self.pipeline.handle_time(now),
            }
            self.forward(&mut first, now)?;
        }
        let now = self.clock.now();
        self.pipeline.handle_stop(now);
        self.forward(&mut first, now)
    }

    fn take(&mut self, event: SourceEvent, now: Now) {
        match (&mut self.shadow, event) {
            (Some(inlet), SourceEvent::Chunk(chunk)) if inlet.wants(chunk.source) => {
                let numbers = self.pipeline.handle_lines(&chunk, now);
                inlet.sealed(chunk, numbers);
            }
            (Some(inlet), event) => {
                inlet.observe(&event);
                self.pipeline.handle_event(event, now);
            }
            (None, event) => self.pipeline.handle_event(event, now),
        }
    }

    fn forward(&mut self, first: &mut FirstReceived, now: Now) -> Result<(), Ended> {
        while let Some(mut outgoing) = self.pipeline.poll_sealed() {
            let batch = &outgoing.sealed.batch;
            let received = first.sealed(now).filter(|_| batch.count > 0);
            self.metrics.batches_sealed.inc();
            self.metrics.records_sealed.inc_by(batch.count.into());
            self.board.sealed(batch.seal.size, &outgoing.sources, now.wall);
            self.tap.show(batch);
            self.leaves.put(batch.start, std::mem::take(&mut outgoing.sealed.leaves));
            self.inbox.put(Item { outgoing, received, sealed: now.wall })?;
        }
        Ok(())
    }
}

/// When the first line of the open batch was received: where the latency of its receipt is counted from.
struct FirstReceived {
    heartbeat_ms: u64,
    sealed_ms: u64,
    /// Of the open batch.
    first: Option<UnixMillis>,
    /// Of the newest chunk.
    newest: Option<UnixMillis>,
}

impl FirstReceived {
    fn new(now: Now, heartbeat_ms: u64) -> Self {
        FirstReceived { heartbeat_ms, sealed_ms: now.monotonic_ms, first: None, newest: None }
    }

    /// A chunk arrived. As long as no batch is open, the pipeline's deadline is the next heartbeat.
    fn arrived(&mut self, received: UnixMillis, deadline_ms: u64) {
        self.newest = Some(received);
        if deadline_ms == self.sealed_ms + self.heartbeat_ms {
            self.first = self.newest;
        }
    }

    /// A batch was sealed; if another is open, it began in the newest chunk.
    fn sealed(&mut self, now: Now) -> Option<UnixMillis> {
        self.sealed_ms = now.monotonic_ms;
        std::mem::replace(&mut self.first, self.newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(monotonic_ms: u64) -> Now {
        Now { monotonic_ms, wall: UnixMillis(0) }
    }

    #[test]
    fn a_latency_is_counted_from_the_first_line_of_its_batch() {
        let mut first = FirstReceived::new(now(0), 60_000);
        first.arrived(UnixMillis(100), 60_000);
        first.arrived(UnixMillis(200), 150);
        assert_eq!(first.sealed(now(160)), Some(UnixMillis(100)));
        assert_eq!(first.sealed(now(160)), Some(UnixMillis(200)), "the same chunk filled another");
        // Nothing was left open, so the next chunk opens a batch.
        first.arrived(UnixMillis(50_000), 60_160);
        assert_eq!(first.sealed(now(50_050)), Some(UnixMillis(50_000)));
    }
}
