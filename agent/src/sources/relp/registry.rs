//! The tails of a listener's clients, shared by their connections.
//!
//! What it guarantees: a message is in its session's tail exactly if it was handed over, and the
//! order in a tail is that in which messages were handed over.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pipeline::{
    line::{Chunk, SourceEvent},
    relp::resend::{Digest, Place, SessionId, Tails, Verdict},
};
use tokio::sync::{Notify, mpsc::error::SendError};

use crate::{sources::Outlet, tickets::Settled};

/// All sessions and tails of a listener.
pub(super) struct Registry {
    outlet: Outlet,
    inner: Mutex<Inner>,
    /// Something became durable.
    settled: Notify,
}

struct Inner {
    tails: Tails,
    /// Whom to tell that another session goes on with its tail.
    sessions: BTreeMap<SessionId, Arc<Notify>>,
}

/// A session as its connection has it.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) id: SessionId,
    pub(super) replaced: Arc<Notify>,
}

/// Why messages were not handed over.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// Another session goes on.
    Replaced,
    /// The agent stops.
    Stopped,
}

impl<T> From<SendError<T>> for NotTaken {
    fn from(_: SendError<T>) -> Self {
        NotTaken::Stopped
    }
}

impl Registry {
    pub(super) fn new(outlet: Outlet, tails: Tails) -> Self {
        let inner = Mutex::new(Inner { tails, sessions: BTreeMap::new() });
        Registry { outlet, inner, settled: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to remember of all clients.
    pub(super) fn known(&self) -> Vec<(Arc<[u8]>, Vec<u8>)> {
        self.lock().tails.known()
    }

    /// A client connected.
    pub(super) fn open(&self, client: Arc<str>) -> Handle {
        let mut inner = self.lock();
        let handle = Handle { id: inner.tails.open(client), replaced: Arc::default() };
        inner.sessions.insert(handle.id, Arc::clone(&handle.replaced));
        handle
    }

    /// Judges messages of a session, in order, until all are, or until one is decided that was
    /// not new.
    pub(super) fn judge(
        &self,
        session: &Handle,
        messages: impl Iterator<Item = Digest>,
    ) -> (usize, Verdict) {
        let mut inner = self.lock();
        let (mut judged, mut verdict) = (0, Verdict::New);
        for digest in messages {
            judged += 1;
            verdict = inner.tails.judge(session.id, digest);
            if !matches!(verdict, Verdict::New | Verdict::Undecided) {
                break;
            }
        }
        inner.tell_replaced();
        (judged, verdict)
    }

    /// Nothing more came of what is held.
    pub(super) fn give_up(&self, session: &Handle) -> Verdict {
        let mut inner = self.lock();
        let verdict = inner.tails.give_up(session.id);
        inner.tell_replaced();
        verdict
    }

    /// The session has begun with new messages.
    pub(super) async fn missed(&self, session: &Handle) {
        let unneeded = self.lock().tails.missed(session.id);
        self.forget(unneeded).await;
    }

    /// Hands over new messages, and remembers them. Waits until there is room for them.
    pub(super) async fn store(
        &self,
        session: &Handle,
        mut chunk: Chunk,
        digests: &[Digest],
    ) -> Result<(Settled, Place), NotTaken> {
        self.lock().tails.wait(session.id, digests.first().copied());
        let room = self.outlet.events.reserve().await?;
        let mut inner = self.lock();
        inner.tails.wait(session.id, None);
        let mut last = None;
        for digest in digests {
            last = inner.tails.store(session.id, *digest);
        }
        let place = last.ok_or(NotTaken::Replaced)?;
        chunk.bookmark = inner.tails.bookmark(place.tail, digests);
        let (ticket, settled) = self.outlet.tickets.issue();
        chunk.ticket = Some(ticket);
        let counts = (chunk.lines.len(), chunk.bytes.len());
        room.send(SourceEvent::Chunk(chunk));
        drop(inner);
        self.outlet.stats.handed_over(counts.0, counts.1);
        Ok((settled, place))
    }

    /// Everything up to this place is durable.
    pub(super) fn settle(&self, place: Place) {
        self.lock().tails.settled(place);
        self.settled.notify_waiters();
    }

    /// Waits until everything up to this place is durable.
    pub(super) async fn settled(&self, place: Place) {
        loop {
            let mut more = std::pin::pin!(self.settled.notified());
            more.as_mut().enable();
            if self.is_settled(place) {
                return;
            }
            more.await;
        }
    }

    /// True if everything up to this place is durable.
    pub(super) fn is_settled(&self, place: Place) -> bool {
        self.lock().tails.is_settled(place)
    }

    /// A connection ended, after its client closed the session or without that.
    pub(super) async fn end(&self, session: &Handle, closed: bool) {
        let unneeded = {
            let mut inner = self.lock();
            inner.sessions.remove(&session.id);
            match closed {
                true => inner.tails.close(session.id),
                false => inner.tails.abandon(session.id),
            }
        };
        self.forget(unneeded).await;
    }

    /// Bookmarks of these names are not needed any more.
    pub(super) async fn forget(&self, unneeded: Vec<Arc<[u8]>>) {
        for key in unneeded {
            let source = self.outlet.id;
            if self.outlet.events.send(SourceEvent::Unmark { source, key }).await.is_err() {
                // The agent stops. The next start reads it again, and may forget it then.
                return;
            }
        }
    }
}

impl Inner {
    fn tell_replaced(&mut self) {
        for id in self.tails.replaced() {
            if let Some(replaced) = self.sessions.get(&id) {
                replaced.notify_one();
            }
        }
    }
}
