//! The thread that writes the spool.
//!
//! It appends everything that is queued, makes it durable with one fdatasync,
//! and only then publishes it. When the spool has reached its size or the disk
//! is full it takes nothing more, says so, and goes on by itself when there is
//! space again; nothing is dropped. Any other failed write ends it.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use journal::Error;
use pipeline::line::Ticket;
use tokio::sync::watch;

use super::{Durable, Inbox, Item, Spool};
use crate::{
    fatal::{Alarm, Fatal},
    metrics::{HELD_BY_DISK, HELD_BY_LIMIT, Metrics, ReasonLabel},
    tickets::Tickets,
};

/// How often a write is tried again while the disk is full.
const RETRY: Duration = Duration::from_millis(250);
/// How long a stop waits for a full disk.
const STOP_RETRIES: u32 = 20;

/// What the writer works with.
#[derive(Debug)]
pub struct WriterParts {
    /// The spool, established.
    pub spool: Spool,
    /// Where batches come from.
    pub inbox: Arc<Inbox>,
    /// What is durable, published after each sync.
    pub durable: watch::Sender<Durable>,
    /// Above so many bytes nothing more is taken.
    pub max_bytes: u64,
    /// What it counts.
    pub metrics: Metrics,
    /// Whom it tells what is durable.
    pub tickets: Tickets,
    /// Whom it tells when it cannot go on.
    pub alarm: Alarm,
}

/// The writer.
#[derive(Debug)]
pub struct Writer {
    parts: WriterParts,
    /// Taken, and not in the spool yet because the disk is full.
    pending: VecDeque<Item>,
    /// Whom to tell after the next sync.
    unsettled: Vec<Ticket>,
    held: Option<Held>,
    retries_at_stop: u32,
}

/// Why nothing is taken.
#[derive(Clone, Copy, Debug)]
struct Held {
    reason: &'static str,
    since: Instant,
    counted: Instant,
}

impl Writer {
    /// Starts the thread. It ends after [`Inbox::finish`], when everything is durable and the spool is closed.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(parts: WriterParts) -> io::Result<JoinHandle<()>> {
        let writer = Writer {
            parts,
            pending: VecDeque::new(),
            unsettled: Vec::new(),
            held: None,
            retries_at_stop: 0,
        };
        writer.measure();
        std::thread::Builder::new().name("spool".into()).spawn(move || {
            let alarm = writer.parts.alarm.clone();
            let _guard = alarm.guard("spool");
            let inbox = Arc::clone(&writer.parts.inbox);
            let tickets = writer.parts.tickets.clone();
            let _end = EndOnDrop(&inbox, &tickets);
            if let Err(error) = writer.run() {
                alarm.raise(Fatal::Spool(error));
            }
        })
    }

    fn run(mut self) -> Result<(), Error> {
        loop {
            let (limited, waiting) = (self.is_over_limit(), !self.pending.is_empty());
            self.note_hold(limited, waiting);
            let limit = self.held.map(|_| RETRY);
            let wanted = |stopping| !waiting && (stopping || !limited);
            let taken = self.parts.inbox.take(wanted, limit);
            if let Some(seq) = taken.release {
                self.parts.spool.release(seq)?;
            }
            self.pending.extend(taken.items);
            self.write()?;
            self.measure();
            if taken.finished && (self.pending.is_empty() || self.gives_up()) {
                break;
            }
        }
        self.parts.spool.close()
    }

    /// Appends what is pending, as far as there is space, and makes it durable.
    fn write(&mut self) -> Result<(), Error> {
        let spool = &mut self.parts.spool;
        let before = *self.parts.durable.borrow();
        while let Some(item) = self.pending.front() {
            let records = i64::from(item.outgoing.sealed.batch.count);
            match spool.append(&item.outgoing, item.received, item.sealed) {
                Ok(len) => {
                    self.parts.metrics.spool_written_bytes.inc_by(len);
                    self.parts.metrics.spool_records_waiting.inc_by(records);
                    let written = self.pending.pop_front();
                    self.unsettled
                        .extend(written.into_iter().flat_map(|item| item.outgoing.tickets));
                }
                Err(Error::Full { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        match spool.sync() {
            Ok(durable) if durable.seq > before.seq => {
                self.parts.metrics.spool_syncs.inc();
                self.parts.durable.send_replace(durable);
                self.parts.tickets.settle(&std::mem::take(&mut self.unsettled));
            }
            Ok(_) | Err(Error::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn is_over_limit(&self) -> bool {
        self.parts.spool.bytes() >= self.parts.max_bytes
    }

    /// Says once that sources are held back, and once that they are not any more.
    fn note_hold(&mut self, limited: bool, disk_full: bool) {
        let reason = match (disk_full, limited) {
            (true, _) => Some(HELD_BY_DISK),
            (false, true) => Some(HELD_BY_LIMIT),
            (false, false) => None,
        };
        self.count_hold();
        if self.held.map(|held| held.reason) == reason {
            return;
        }
        let now = Instant::now();
        if let Some(held) = self.held.take() {
            let seconds = now.duration_since(held.since).as_secs_f64();
            tracing::info!(reason = held.reason, seconds, "the spool takes batches again");
            self.gauge(held.reason, 0);
        }
        let Some(reason) = reason else { return };
        self.gauge(reason, 1);
        self.held = Some(Held { reason, since: now, counted: now });
        let (dir, bytes) = (self.parts.spool.dir().display(), self.parts.spool.bytes());
        let max = self.parts.max_bytes;
        match reason {
            HELD_BY_DISK => tracing::warn!(
                %dir,
                "the disk is full: sources are held back and nothing is dropped; free space on this file system"
            ),
            _ => tracing::warn!(
                %dir, bytes, max,
                "the spool has reached its size: sources are held back until the ledger gives receipts"
            ),
        }
    }

    fn count_hold(&mut self) {
        if let Some(held) = &mut self.held {
            let now = Instant::now();
            let seconds = now.duration_since(held.counted).as_secs_f64();
            self.parts.metrics.held_back_seconds.inc_by(seconds);
            held.counted = now;
        }
    }

    /// What is given up here was never durable, so its sources hand it over again, as far as they can.
    fn gives_up(&mut self) -> bool {
        self.retries_at_stop += 1;
        if self.retries_at_stop <= STOP_RETRIES {
            return false;
        }
        let records: u64 =
            self.pending.iter().map(|item| u64::from(item.outgoing.sealed.batch.count)).sum();
        tracing::error!(
            records,
            "stopped with a full disk: records from files are read again at the next start, those from syslog are lost"
        );
        true
    }

    fn measure(&self) {
        let WriterParts { spool, metrics, max_bytes, .. } = &self.parts;
        metrics.spool_bytes.set(i64::try_from(spool.bytes()).unwrap_or(i64::MAX));
        metrics.spool_limit_bytes.set(i64::try_from(*max_bytes).unwrap_or(i64::MAX));
    }

    fn gauge(&self, reason: &'static str, value: i64) {
        self.parts.metrics.held_back.get_or_create(&ReasonLabel { reason }).set(value);
    }
}

/// Lets nobody wait for a writer that is gone, however it went.
struct EndOnDrop<'a>(&'a Inbox, &'a Tickets);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
        self.1.end();
    }
}
