//! Which messages are copies of what is stored already.
//!
//! A RELP client whose session broke sends again, at the very beginning of its next session and
//! in the same order, all that it has no answer for. Some of that may be stored: the answer was
//! lost, or the agent died between the fdatasync and the answer. So each session has a *tail*:
//! the digests of the newest messages that were stored from it. A tail is a bookmark, durable
//! with exactly the messages it names; after a crash it is what is really stored.
//!
//! A session that ends with `close` leaves no tail. One that breaks leaves its tail *orphaned*.
//! The first messages of a client's new session are compared with that client's orphaned tails,
//! and with those of its sessions that have been silent since the new one opened: their
//! connections may be dead without our knowing. As long as the messages are a run in one of
//! these tails they are *held*, neither stored nor answered. What becomes of them:
//!
//! - The run reaches the tail's end: they are copies. They are not stored, are answered once the
//!   originals are durable, and the session goes on with that tail. Of several runs that reach
//!   an end, the longest counts.
//! - The run is [`ENOUGH`] messages long which each occur in the tail once: they are copies, too,
//!   and so is what follows as long as it goes on in the tail. A client that sends more again than
//!   fits into its window waits for answers before it comes to the tail's end.
//! - The run breaks off before either: they are new, and stored.
//! - Nothing more comes while it is undecided: the caller gives up, and they are stored. Rather
//!   twice than never. The caller's patience must be long: clients as librelp's never stop there,
//!   so their connection is probably dead, and the next one brings all of it again.
//! - A newer session goes on with the tail: this one is dead, and what it holds is forgotten.
//! - The connection ends: they are forgotten. They were not answered, and will come again.
//!
//! What that guarantees, if clients behave as librelp's do: no message that differs from all
//! [`Tails::window`] messages in front of it is lost or stored twice. One that was sent again
//! from further back than the window is stored twice. Where a client sends messages that are equal
//! byte for byte, time stamp included, it cannot be told whether the first messages after a break
//! are copies; then those that equal the end of what is stored count as copies, and no others.

mod tail;

pub use tail::Digest;

use crate::line::{Bookmark, Keep};
use std::{collections::BTreeMap, sync::Arc};
use tail::{CHANCES, DIGEST, Tail, make_key, parse_key};

/// How many messages in a row, each of them unlike all others in the tail, are copies for sure.
/// Must be below the window of every client: librelp's is 128.
pub const ENOUGH: usize = 32;

/// How many orphaned tails of one client are kept; more, and the oldest goes. rsyslog has a
/// session for each of a queue's workers.
pub const ORPHANS_PER_CLIENT: usize = 8;

/// The same for all clients together.
pub const ORPHANS: usize = 128;

/// A session of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// A tail; its number is part of its bookmark's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TailId(u64);

/// A place in a tail: so many messages have been stored in it, counted from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The tail.
    pub tail: TailId,
    /// How many messages.
    pub messages: u64,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody can say yet: hold it.
    Undecided,
    /// Of the messages held, this one included, the first so many are copies. The others are new.
    Copies {
        /// How many.
        count: usize,
        /// What must be durable before the last of them is answered.
        original: Option<Place>,
    },
    /// It is new, and no message is held.
    New,
    /// Another session goes on with this one's tail: close the connection.
    Replaced,
}

/// All tails of a listener.
#[derive(Debug)]
pub struct Tails {
    window: usize,
    tails: BTreeMap<TailId, Tail>,
    sessions: BTreeMap<SessionId, Session>,
    next: u64,
}

#[derive(Debug)]
struct Session {
    client: Arc<str>,
    state: State,
    /// The first of the messages that are about to be stored.
    waiting: Option<Digest>,
}

#[derive(Debug)]
enum State {
    /// Its first messages are compared.
    Judging(Run),
    /// What comes is a copy as long as it is what follows this place.
    Copying(Place),
    /// What comes is new.
    Going(Option<TailId>),
    /// It has lost its tail to another session.
    Replaced,
}

/// Messages that are held.
#[derive(Debug, Default)]
struct Run {
    held: usize,
    /// Where they may be copied from: behind the last of them.
    candidates: Vec<Place>,
    /// How many of them occur once.
    unlike: usize,
    /// The longest run that has reached a tail's end.
    best: Option<(usize, Place)>,
}

impl Tails {
    /// The tails that were remembered, all of them orphaned. Each holds up to `window` messages.
    /// Also answers with the names of bookmarks that are not needed.
    pub fn new(window: usize, known: Vec<(Arc<[u8]>, Vec<u8>)>) -> (Self, Vec<Arc<[u8]>>) {
        let mut tails =
            Tails { window, tails: BTreeMap::new(), sessions: BTreeMap::new(), next: 0 };
        let mut unneeded = Vec::new();
        for (key, value) in known {
            match parse_key(&key) {
                Some((id, client)) if !value.is_empty() => {
                    tails.next = tails.next.max(id.0 + 1);
                    tails.tails.insert(id, Tail::known(client, key, &value, window));
                }
                _ => unneeded.push(key),
            }
        }
        let clients: Vec<Arc<str>> =
            tails.tails.values().map(|tail| Arc::clone(&tail.client)).collect();
        clients.iter().for_each(|client| unneeded.extend(tails.prune(client)));
        (tails, unneeded)
    }

    /// How many messages of a session are remembered.
    pub fn window(&self) -> usize {
        self.window
    }

    /// What to remember: bookmarks and their values.
    pub fn known(&self) -> Vec<(Arc<[u8]>, Vec<u8>)> {
        let value = |tail: &Tail| tail.digests.iter().flat_map(|digest| digest.0).collect();
        self.tails.values().map(|tail| (Arc::clone(&tail.key), value(tail))).collect()
    }

    /// A client begins a session.
    pub fn open(&mut self, client: Arc<str>) -> SessionId {
        let id = SessionId(self.number());
        let state = State::Judging(Run::default());
        self.sessions.insert(id, Session { client, state, waiting: None });
        id
    }

    /// Judges the next message of a session. What is [`Verdict::New`], and what a
    /// [`Verdict::Copies`] leaves over, is then to be [stored](Self::store).
    pub fn judge(&mut self, id: SessionId, digest: Digest) -> Verdict {
        let Some(session) = self.sessions.get_mut(&id) else { return Verdict::Replaced };
        match &mut session.state {
            State::Replaced => Verdict::Replaced,
            State::Going(_) => Verdict::New,
            State::Copying(place) => {
                let (tail, messages) = (place.tail, place.messages + 1);
                if self.tails.get(&tail).and_then(|tail| tail.at(place.messages)) != Some(digest) {
                    session.state = State::Going(Some(tail));
                    return Verdict::New;
                }
                let original = Place { tail, messages };
                *place = original;
                Verdict::Copies { count: 1, original: Some(original) }
            }
            State::Judging(run) => {
                let mut run = std::mem::take(run);
                if run.held == 0 {
                    self.replace_waiting(id, digest);
                    run.candidates = self.beginnings(id, digest);
                } else {
                    let goes_on = |place: &Place| self.at(*place) == Some(digest);
                    run.candidates.retain(goes_on);
                    run.candidates.iter_mut().for_each(|place| place.messages += 1);
                }
                self.weigh(id, run, digest)
            }
        }
    }

    /// Nothing more has come for too long: decides about what is held. The first so many are
    /// copies.
    pub fn give_up(&mut self, id: SessionId) -> Verdict {
        let run = match self.sessions.get_mut(&id).map(|session| &mut session.state) {
            Some(State::Judging(run)) => std::mem::take(run),
            Some(State::Replaced) | None => return Verdict::Replaced,
            Some(State::Copying(_) | State::Going(_)) => return Verdict::New,
        };
        self.decide(id, run.best)
    }

    /// Messages of a session are about to be stored, and wait for room. If their client sends the
    /// first of them again in a newer session, this one is dead.
    pub fn wait(&mut self, id: SessionId, first: Option<Digest>) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.waiting = first;
        }
    }

    /// Sessions that have lost their tails to others, as of now.
    pub fn replaced(&self) -> impl Iterator<Item = SessionId> {
        let lost = |session: &Session| matches!(session.state, State::Replaced);
        self.sessions.iter().filter(move |(_, session)| lost(session)).map(|(id, _)| *id)
    }

    /// Stores a message of a session. Nothing if another session goes on with this one's tail.
    pub fn store(&mut self, id: SessionId, digest: Digest) -> Option<Place> {
        let newest = SessionId(self.next);
        let session = self.sessions.get(&id)?;
        let tail = match session.state {
            State::Replaced => return None,
            State::Going(Some(tail)) | State::Copying(Place { tail, .. }) => tail,
            State::Going(None) | State::Judging(_) => self.begin_tail(id),
        };
        let (window, entry) = (self.window, self.tails.get_mut(&tail)?);
        entry.push(digest, window);
        entry.touched = newest;
        Some(Place { tail, messages: entry.stored })
    }

    /// The bookmark for messages that were stored in this tail.
    pub fn bookmark(&self, tail: TailId, digests: &[Digest]) -> Option<Bookmark> {
        let bytes = |count: usize| u32::try_from(count * DIGEST).ok();
        Some(Bookmark {
            key: Arc::clone(&self.tails.get(&tail)?.key),
            keep: Keep::Tail(bytes(self.window)?),
            data: digests.iter().flat_map(|digest| digest.0).collect(),
            ends: (1..=digests.len()).map(bytes).collect::<Option<_>>()?,
        })
    }

    /// Everything up to this place is durable.
    pub fn settled(&mut self, place: Place) {
        if let Some(tail) = self.tails.get_mut(&place.tail) {
            tail.durable = tail.durable.max(place.messages);
        }
    }

    /// True if everything up to this place is durable.
    pub fn is_settled(&self, place: Place) -> bool {
        self.tails.get(&place.tail).is_none_or(|tail| tail.durable >= place.messages)
    }

    /// The client has closed its session: there is nothing that it could send again. Answers with
    /// the names of bookmarks that are not needed any more.
    pub fn close(&mut self, id: SessionId) -> Vec<Arc<[u8]>> {
        let session = self.sessions.remove(&id);
        let tail = session.and_then(|session| session.state.tail());
        tail.and_then(|tail| self.tails.remove(&tail)).map(|tail| tail.key).into_iter().collect()
    }

    /// The session broke. Answers with the names of bookmarks that are not needed any more.
    pub fn abandon(&mut self, id: SessionId) -> Vec<Arc<[u8]>> {
        let Some(session) = self.sessions.remove(&id) else { return Vec::new() };
        let tail = session.state.tail().and_then(|tail| self.tails.get_mut(&tail));
        let Some(tail) = tail else { return Vec::new() };
        (tail.owner, tail.chances) = (None, CHANCES);
        self.prune(&session.client)
    }

    /// The session has begun with new messages. Answers with the names of bookmarks of tails for
    /// which that was the last chance.
    pub fn missed(&mut self, id: SessionId) -> Vec<Arc<[u8]>> {
        let Some(client) = self.sessions.get(&id).map(|session| &session.client) else {
            return Vec::new();
        };
        let orphans = self.tails.values_mut().filter(|tail| tail.is_orphan_of(client));
        orphans.for_each(|tail| tail.chances = tail.chances.saturating_sub(1));
        let done = |tail: &Tail| tail.owner.is_none() && tail.chances == 0;
        self.tails.extract_if(.., |_, tail| done(tail)).map(|(_, tail)| tail.key).collect()
    }

    /// Where the first message of a session may be copied from: behind it.
    fn beginnings(&self, id: SessionId, digest: Digest) -> Vec<Place> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        let mut places = Vec::new();
        for (tail, entry) in &self.tails {
            if entry.client == session.client && entry.is_free_for(id) {
                let first = entry.first();
                let matching = entry.digests.iter().enumerate().filter(|(_, at)| **at == digest);
                let behind = |(index, _)| Place { tail: *tail, messages: first + index as u64 + 1 };
                places.extend(matching.map(behind));
            }
        }
        places
    }

    /// Takes one more message into a run, after the candidates were looked through for it.
    fn weigh(&mut self, id: SessionId, mut run: Run, digest: Digest) -> Verdict {
        if run.candidates.is_empty() {
            let first = run.held == 0;
            let verdict = self.decide(id, run.best);
            return if first { Verdict::New } else { verdict };
        }
        run.held += 1;
        let is_end = |place: &Place| {
            self.tails.get(&place.tail).is_some_and(|tail| tail.stored == place.messages)
        };
        let ends = run.candidates.iter().filter(|place| is_end(place));
        if let Some(end) = ends.max_by_key(|end| self.tails.get(&end.tail).map(|t| t.touched)) {
            run.best = Some((run.held, *end));
            run.candidates.retain(|place| !is_end(place));
        }
        match run.candidates[..] {
            [] => return self.decide(id, run.best),
            [place] if self.tails.get(&place.tail).is_some_and(|tail| tail.has_once(digest)) => {
                run.unlike += 1;
                if run.unlike >= ENOUGH {
                    return self.decide(id, Some((run.held, place)));
                }
            }
            _ => {}
        }
        self.set(id, State::Judging(run));
        Verdict::Undecided
    }

    /// Ends the judging: what is held is copied up to the place, or it is new.
    fn decide(&mut self, id: SessionId, best: Option<(usize, Place)>) -> Verdict {
        // Meanwhile another session may have gone on with that tail.
        let free = |place: &Place| self.tails.get(&place.tail).is_some_and(|t| t.is_free_for(id));
        let Some((count, place)) = best.filter(|(_, place)| free(place)) else {
            self.set(id, State::Going(None));
            return Verdict::Copies { count: 0, original: None };
        };
        if let Some(tail) = self.tails.get_mut(&place.tail) {
            tail.touched = SessionId(self.next);
            if let Some(former) = tail.owner.replace(id) {
                self.set(former, State::Replaced);
            }
        }
        // Who was about to go on with it earlier was left by the client as well.
        for (_, other) in self.sessions.range_mut(..id) {
            if other.state.is_judging(place.tail) {
                other.state = State::Replaced;
            }
        }
        let at_end = self.at(place).is_none();
        let state = if at_end { State::Going(Some(place.tail)) } else { State::Copying(place) };
        self.set(id, state);
        Verdict::Copies { count, original: Some(place) }
    }

    /// Older sessions whose next message is sent again are dead.
    fn replace_waiting(&mut self, id: SessionId, digest: Digest) {
        let Some(client) = self.sessions.get(&id).map(|session| Arc::clone(&session.client)) else {
            return;
        };
        for (_, older) in self.sessions.range_mut(..id) {
            if older.client == client && older.waiting == Some(digest) {
                // Its tail is an orphan from now on.
                let tail = older.state.tail().and_then(|tail| self.tails.get_mut(&tail));
                tail.into_iter().for_each(|tail| tail.owner = None);
                older.state = State::Replaced;
            }
        }
    }

    fn set(&mut self, id: SessionId, state: State) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.state = state;
        }
    }

    /// The message behind a place.
    fn at(&self, place: Place) -> Option<Digest> {
        self.tails.get(&place.tail)?.at(place.messages)
    }

    fn begin_tail(&mut self, id: SessionId) -> TailId {
        let tail = TailId(self.number());
        if let Some(session) = self.sessions.get_mut(&id) {
            session.state = State::Going(Some(tail));
            let client = Arc::clone(&session.client);
            let key = make_key(tail, &client);
            let fresh = Tail::new(client, key, Some(id));
            self.tails.insert(tail, fresh);
        }
        tail
    }

    /// Drops the oldest orphans where there are too many.
    fn prune(&mut self, client: &str) -> Vec<Arc<[u8]>> {
        let mut unneeded = self.drop_oldest(ORPHANS_PER_CLIENT, |tail| tail.is_orphan_of(client));
        unneeded.extend(self.drop_oldest(ORPHANS, |tail| tail.owner.is_none()));
        unneeded
    }

    fn drop_oldest(&mut self, keep: usize, which: impl Fn(&Tail) -> bool) -> Vec<Arc<[u8]>> {
        let mut ages: Vec<(SessionId, TailId)> = self
            .tails
            .iter()
            .filter(|(_, tail)| which(tail))
            .map(|(id, tail)| (tail.touched, *id))
            .collect();
        ages.sort_unstable();
        ages.truncate(ages.len().saturating_sub(keep));
        ages.iter().filter_map(|(_, id)| self.tails.remove(id)).map(|tail| tail.key).collect()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

impl State {
    /// True if it holds messages that may be copies of this tail's.
    fn is_judging(&self, tail: TailId) -> bool {
        matches!(self, State::Judging(run) if run.candidates.iter().any(|place| place.tail == tail))
    }

    fn tail(&self) -> Option<TailId> {
        match self {
            State::Going(tail) => *tail,
            State::Copying(place) => Some(place.tail),
            State::Judging(_) | State::Replaced => None,
        }
    }
}

#[cfg(test)]
mod tests;
