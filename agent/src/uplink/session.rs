//! One connection: batches out, receipts in, neither waiting for the other.
//!
//! Two futures of one task share the [`Session`]; none of its borrows lives
//! across an await. A node that cannot take more is left alone for a while on
//! the same connection: refusals do not say which batch they are for, so
//! everything under way is answered first and then offered again.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    time::Duration,
};

use link::message::{BatchReceipt, FromNode, Refusal, RefusalCode, ToNode};
use record::UnixMillis;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    UplinkSettings,
    backoff::Backoff,
    cursor::{Cursor, Loaded},
    hello::Connection,
    rounds::Progress,
    trouble::Trouble,
    verify::Verifier,
    window::{InFlight, Window},
};
use crate::{
    config::NodeAddress,
    spool::{Durable, Inbox},
};

/// A connection while it serves.
pub(super) struct Session<'a> {
    settings: &'a UplinkSettings,
    node: &'a NodeAddress,
    verifier: &'a Verifier,
    inbox: &'a Inbox,
    progress: &'a Cell<Progress>,
    shared: RefCell<Shared>,
    /// The window has room, or a pause began or may end.
    changed: Notify,
    heard: Cell<Instant>,
    pinged: Cell<Option<Instant>>,
    /// The log says that the node takes nothing.
    busy: Cell<bool>,
}

struct Shared {
    cursor: Cursor,
    window: Window,
    pause: Option<Pause>,
    backoff: Backoff,
}

/// The node cannot take more.
#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    /// By when everything under way must have been answered.
    patience: Instant,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        settings: &'a UplinkSettings,
        node: &'a NodeAddress,
        verifier: &'a Verifier,
        inbox: &'a Inbox,
        progress: &'a Cell<Progress>,
        cursor: Cursor,
    ) -> Self {
        let timing = &settings.timing;
        let backoff = Backoff::new(timing.pause_min, timing.pause_max);
        let shared = Shared { cursor, window: Window::default(), pause: None, backoff };
        Session {
            settings,
            node,
            verifier,
            inbox,
            progress,
            shared: RefCell::new(shared),
            changed: Notify::new(),
            heard: Cell::new(Instant::now()),
            pinged: Cell::new(None),
            busy: Cell::new(false),
        }
    }

    /// Serves until something ends it.
    pub(super) async fn run(
        &self,
        connection: Connection,
        durable: watch::Receiver<Durable>,
    ) -> Trouble {
        let Connection { mut reader, mut writer, .. } = connection;
        let receiving = async {
            loop {
                let until = self.heard.get() + self.settings.timing.dead;
                let answer = timeout_at(until, reader.receive::<FromNode>()).await;
                let answer = answer.map_err(|_| Trouble::Silent(self.settings.timing.dead))??;
                self.handle(answer.ok_or(Trouble::Closed)?)?;
            }
        };
        let sending = self.send(&mut writer, durable);
        let ended: Result<Infallible, Trouble> = tokio::select! {
            ended = receiving => ended,
            ended = sending => ended,
        };
        self.settings.metrics.uplink_in_flight.set(0);
        let Err(trouble) = ended;
        trouble
    }

    async fn send<W: tokio::io::AsyncWrite + Unpin>(
        &self,
        writer: &mut link::frame::FrameWriter<W>,
        mut durable: watch::Receiver<Durable>,
    ) -> Result<Infallible, Trouble> {
        loop {
            durable.borrow_and_update();
            let mut written = false;
            while let Some(batch) = self.next()? {
                writer.send(&ToNode::Submit { batch }).await?;
                written = true;
            }
            if self.ping_is_due() {
                writer.send(&ToNode::Ping).await?;
                self.pinged.set(Some(Instant::now()));
                written = true;
            }
            if written {
                writer.flush().await?;
            }
            let (wake, pausing) = self.wake_at();
            tokio::select! {
                // While the node is left alone, new batches are no news.
                moved = durable.changed(), if !pausing => {
                    if moved.is_err() {
                        // The writer of the spool is gone: the process is ending.
                        std::future::pending::<()>().await;
                    }
                }
                () = self.changed.notified() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// The next batch to hand over, if there is one and it may be.
    fn next(&self) -> Result<Option<Vec<u8>>, Trouble> {
        let Shared { cursor, window, pause, .. } = &mut *self.shared.borrow_mut();
        if let Some(current) = *pause {
            let now = Instant::now();
            if window.unanswered() > 0 && now >= current.patience {
                return Err(Trouble::Busy(
                    "it did not answer everything that was under way".into(),
                ));
            }
            if window.unanswered() > 0 || now < current.until {
                return Ok(None);
            }
            *pause = None;
            if let Some(first) = window.rewind() {
                cursor.rewind(first);
            }
        }
        let Some(loaded) = cursor.peek()? else { return Ok(None) };
        if !window.has_room(loaded.flight.bytes) {
            return Ok(None);
        }
        let Some(Loaded { encoded, flight }) = cursor.take() else { return Ok(None) };
        window.push(flight);
        self.measure(window);
        Ok(Some(encoded))
    }

    fn handle(&self, answer: FromNode) -> Result<(), Trouble> {
        self.heard.set(Instant::now());
        if self.pinged.take().is_some() {
            // The next ping is due sooner than the sender thinks.
            self.changed.notify_one();
        }
        match answer {
            FromNode::Receipt(receipt) => self.handle_receipt(&receipt),
            FromNode::Refused(refusal) => self.handle_refusal(refusal),
            FromNode::Pong => Ok(()),
            _ => Err(Trouble::Unexpected),
        }
    }

    fn handle_receipt(&self, receipt: &BatchReceipt) -> Result<(), Trouble> {
        let Shared { window, pause, backoff, .. } = &mut *self.shared.borrow_mut();
        let Some(batch) = window.find(receipt) else {
            // Offered twice, answered twice.
            tracing::debug!(node = %self.node, start = receipt.start, "a receipt that nobody waits for");
            window.answered();
            return Ok(());
        };
        self.verifier.verify(self.node, batch, receipt)?;
        self.observe(batch);
        let seq = batch.seq;
        if let Some(reached) = window.done(seq) {
            let metrics = &self.settings.metrics;
            metrics.batches_receipted.inc_by(reached.batches);
            metrics.records_receipted.inc_by(reached.records);
            let records = i64::try_from(reached.records).unwrap_or(i64::MAX);
            metrics.spool_records_waiting.dec_by(records);
            let (seq, base, root) = (reached.seq, reached.size, Some(reached.root));
            self.progress.set(Progress { seq, base, root });
            self.inbox.release(seq);
        }
        if pause.is_none() {
            backoff.reset();
            if self.busy.take() {
                tracing::info!(node = %self.node, "the node takes batches again");
            }
        }
        self.measure(window);
        self.changed.notify_one();
        Ok(())
    }

    fn handle_refusal(&self, refusal: Refusal) -> Result<(), Trouble> {
        let Shared { window, pause, backoff, .. } = &mut *self.shared.borrow_mut();
        window.answered();
        self.changed.notify_one();
        match (refusal.code, &pause) {
            // What was behind a batch that was not taken is not the next.
            (RefusalCode::Busy | RefusalCode::NotNext, Some(_)) => Ok(()),
            (RefusalCode::Busy, None) => {
                let until = Instant::now() + backoff.pause();
                *pause = Some(Pause { until, patience: until + self.settings.timing.connect });
                if !self.busy.replace(true) {
                    let message = refusal.message;
                    tracing::warn!(node = %self.node, message, "the node takes nothing at the moment: batches wait");
                }
                Ok(())
            }
            _ => Err(Trouble::refused(refusal, &self.settings.agent, &self.settings.vkey)),
        }
    }

    fn observe(&self, batch: &InFlight) {
        let metrics = &self.settings.metrics;
        let now = service::clock::now();
        let since =
            |time: UnixMillis| Duration::from_millis(now.0.saturating_sub(time.0)).as_secs_f64();
        if let Some(received) = batch.received {
            metrics.receipt_seconds.0.observe(since(received));
        }
        metrics.seal_to_receipt_seconds.0.observe(since(batch.sealed));
    }

    fn measure(&self, window: &Window) {
        self.settings.metrics.uplink_in_flight.set(i64::try_from(window.len()).unwrap_or(i64::MAX));
    }

    fn ping_is_due(&self) -> bool {
        self.pinged.get().is_none()
            && Instant::now() >= self.heard.get() + self.settings.timing.ping
    }

    /// When sending has something to do although nothing changed, and whether it is pausing.
    fn wake_at(&self) -> (Instant, bool) {
        let timing = &self.settings.timing;
        // After a ping the receiver's patience decides.
        let ping = match self.pinged.get() {
            None => self.heard.get() + timing.ping,
            Some(at) => at + timing.dead,
        };
        match self.shared.borrow().pause {
            None => (ping, false),
            Some(pause) if Instant::now() < pause.until => (ping.min(pause.until), true),
            Some(pause) => (ping.min(pause.patience), true),
        }
    }
}
