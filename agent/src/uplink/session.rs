//! One connection: batches out, receipts in, neither waiting for the other.
//!
//! Two futures of one task share the [`Session`]; none of its borrows lives
//! across an await. Whatever a node refuses ends the session: the next one
//! begins with what the ledger says it has, so nothing needs to be undone here.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    time::Duration,
};

use link::{
    Identity,
    frame::FrameWriter,
    message::{BatchReceipt, FromNode, ToNode},
};
use record::UnixMillis;
use tokio::{
    io::AsyncWrite,
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    UplinkSettings,
    cursor::{Cursor, Loaded},
    hello::Connection,
    reporter::Reporter,
    rounds::Progress,
    trouble::Trouble,
    verify::Verifier,
    window::{InFlight, Window},
};
use crate::{
    config::NodeAddress,
    spool::{Durable, Inbox},
};

/// What a session works with.
pub(super) struct Parts<'a> {
    pub(super) settings: &'a UplinkSettings,
    pub(super) node: &'a NodeAddress,
    pub(super) reporter: &'a Reporter,
    pub(super) verifier: &'a Verifier,
    pub(super) inbox: &'a Inbox,
    pub(super) progress: &'a Cell<Progress>,
    /// Where the batches that are to be handed over begin.
    pub(super) cursor: Cursor,
    /// How long to wait for a receipt; for ever, where there is no other node.
    pub(super) patience: Option<Duration>,
}

/// A connection while it serves.
pub(super) struct Session<'a> {
    settings: &'a UplinkSettings,
    node: &'a NodeAddress,
    reporter: &'a Reporter,
    verifier: &'a Verifier,
    inbox: &'a Inbox,
    progress: &'a Cell<Progress>,
    shared: RefCell<(Cursor, Window)>,
    /// The window has room again, or the next ping is due at another time.
    changed: Notify,
    /// When the node was last heard.
    heard: Cell<Instant>,
    /// When it was asked for a sign of life that has not come yet.
    pinged: Cell<Option<Instant>>,
    patience: Option<Duration>,
    /// Since when batches are under way without a receipt.
    waiting: Cell<Option<Instant>>,
    /// Batches are under way again.
    handed_over: Notify,
    /// No further batch is handed over: another node is to have them.
    leaving: Cell<bool>,
}

impl<'a> Session<'a> {
    pub(super) fn new(parts: Parts<'a>) -> Self {
        let Parts { settings, node, reporter, verifier, inbox, progress, cursor, patience } = parts;
        Session {
            settings,
            node,
            reporter,
            verifier,
            inbox,
            progress,
            shared: RefCell::new((cursor, Window::default())),
            changed: Notify::new(),
            heard: Cell::new(Instant::now()),
            pinged: Cell::new(None),
            patience,
            waiting: Cell::new(None),
            handed_over: Notify::new(),
            leaving: Cell::new(false),
        }
    }

    /// Serves until something ends it; that is also `leave`, once nothing is under way.
    pub(super) async fn run(
        &self,
        connection: Connection,
        durable: watch::Receiver<Durable>,
        leave: impl Future<Output = ()>,
    ) -> Trouble {
        let Connection { mut reader, mut writer, identity, .. } = connection;
        let receiving = async {
            loop {
                let until = self.heard.get() + self.settings.timing.dead;
                let answer = timeout_at(until, reader.receive::<FromNode>()).await;
                let answer = answer.map_err(|_| Trouble::Silent(self.settings.timing.dead))??;
                self.handle(answer.ok_or(Trouble::Closed)?, &identity)?;
            }
        };
        let sending = self.send(&mut writer, durable);
        let ended: Result<Infallible, Trouble> = tokio::select! {
            ended = receiving => ended,
            ended = sending => ended,
            trouble = self.lose_patience() => Err(trouble),
            trouble = self.leave(leave) => Err(trouble),
        };
        self.settings.metrics.uplink_in_flight.set(0);
        let Err(trouble) = ended;
        trouble
    }

    async fn send<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut FrameWriter<W>,
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
            tokio::select! {
                moved = durable.changed() => {
                    if moved.is_err() {
                        // The writer of the spool is gone: the process is ending.
                        std::future::pending::<()>().await;
                    }
                }
                () = self.changed.notified() => {}
                () = sleep_until(self.next_ping()) => {}
            }
        }
    }

    /// Returns when no receipt has come for too long.
    async fn lose_patience(&self) -> Trouble {
        let Some(patience) = self.patience else { return std::future::pending().await };
        loop {
            match self.waiting.get().map(|since| since + patience) {
                None => self.handed_over.notified().await,
                Some(until) if until <= Instant::now() => return Trouble::Slow(patience),
                Some(until) => sleep_until(until).await,
            }
        }
    }

    /// Waits for `leave`, and ends the session if nothing is under way; else its last receipt does.
    async fn leave(&self, leave: impl Future<Output = ()>) -> Trouble {
        leave.await;
        self.leaving.set(true);
        if self.shared.borrow().1.len() > 0 {
            return std::future::pending().await;
        }
        Trouble::Nearer
    }

    /// The next batch to hand over, if there is one and the window has room.
    fn next(&self) -> Result<Option<Vec<u8>>, Trouble> {
        if self.leaving.get() {
            return Ok(None);
        }
        let (cursor, window) = &mut *self.shared.borrow_mut();
        let Some(loaded) = cursor.peek()? else { return Ok(None) };
        if !window.has_room(loaded.flight.bytes) {
            return Ok(None);
        }
        let Some(Loaded { encoded, flight }) = cursor.take() else { return Ok(None) };
        window.push(flight);
        self.measure(window);
        if self.waiting.get().is_none() {
            self.waiting.set(Some(Instant::now()));
            self.handed_over.notify_one();
        }
        Ok(Some(encoded))
    }

    fn handle(&self, answer: FromNode, identity: &Identity) -> Result<(), Trouble> {
        self.heard.set(Instant::now());
        if self.pinged.take().is_some() {
            // The next ping is due sooner than the sender thinks.
            self.changed.notify_one();
        }
        match answer {
            FromNode::Receipt(receipt) => self.handle_receipt(&receipt, identity),
            FromNode::Refused(refusal) => {
                Err(Trouble::refused(refusal, &self.settings.agent, &self.settings.vkey))
            }
            FromNode::Pong => Ok(()),
            _ => Err(Trouble::Unexpected),
        }
    }

    fn handle_receipt(&self, receipt: &BatchReceipt, identity: &Identity) -> Result<(), Trouble> {
        let (_, window) = &mut *self.shared.borrow_mut();
        let Some(batch) = window.find(receipt) else {
            let (node, start) = (self.node, receipt.start);
            tracing::debug!(%node, start, "a receipt that nobody waits for");
            return Ok(());
        };
        self.verifier.verify((self.node, identity), batch, receipt)?;
        self.observe(batch);
        let seq = batch.seq;
        if let Some(reached) = window.done(seq) {
            let (metrics, now) = (&self.settings.metrics, service::clock::now());
            metrics.batches_receipted.inc_by(reached.batches);
            metrics.records_receipted.inc_by(reached.records);
            let records = i64::try_from(reached.records).unwrap_or(i64::MAX);
            metrics.spool_records_waiting.dec_by(records);
            metrics.last_receipt.set(i64::try_from(now.seconds().0).unwrap_or(i64::MAX));
            self.settings.board.receipted(reached.size, now);
            let (seq, base, root) = (reached.seq, reached.size, Some(reached.root));
            metrics.receipted_size.set(i64::try_from(base.0).unwrap_or(i64::MAX));
            self.progress.set(Progress { seq, base, root });
            self.inbox.release(seq);
        }
        self.reporter.receipted(self.node);
        self.measure(window);
        self.waiting.set((window.len() > 0).then(Instant::now));
        if self.leaving.get() && window.len() == 0 {
            return Err(Trouble::Nearer);
        }
        self.changed.notify_one();
        Ok(())
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
        self.pinged.get().is_none() && Instant::now() >= self.next_ping()
    }

    /// When sending has something to do although nothing changed. After a ping
    /// the receiver's patience decides.
    fn next_ping(&self) -> Instant {
        match self.pinged.get() {
            None => self.heard.get() + self.settings.timing.ping,
            Some(at) => at + self.settings.timing.dead,
        }
    }
}
