//! The pipeline's state machine: chunks and the time in, sealed batches out.

use crate::{
    entries::{Appended, Incoming, RecordSettings, SourceSettings},
    line::{
        Bookmark, Chunk, ChunkOrigin, FileId, FilePosition, Keep, SourceEvent, SourceId, Ticket,
    },
};
use record::{
    Origin, UnixMillis, UnixSeconds,
    batch::{BatchBuilder, Codec, Sealed},
    crypto::SigningKey,
    merkle::{EntryIndex, Frontier},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// When a batch is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealing {
    /// At the latest this many milliseconds after its first record; at most 50 are useful.
    pub linger_ms: u64,
    /// As soon as it has so many records.
    pub max_records: usize,
    /// As soon as it has so many bytes before compression.
    pub max_bytes: usize,
    /// At the latest this many milliseconds after its first record that somebody waits for, who
    /// sends no more until then.
    pub answer_ms: u64,
    /// A seal without records after so many milliseconds of silence.
    pub heartbeat_ms: u64,
}

/// Both clocks, read at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds that never go back; decides when to seal.
    pub monotonic_ms: u64,
    /// The wall clock; written into records and seals.
    pub wall: UnixMillis,
}

/// A change of what is known about a source, durable together with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PositionChange {
    /// Everything in front of this position is sealed.
    Reached(SourceId, FilePosition),
    /// The file is known by another identity from now on: old, then new.
    Renamed(SourceId, FileId, FileId),
    /// The file is gone for good.
    Gone(SourceId, FileId),
    /// The source's bookmark of this name is added to.
    Marked(SourceId, Arc<[u8]>, Keep, Vec<u8>),
    /// The source's bookmark of this name is not needed any more.
    Unmarked(SourceId, Arc<[u8]>),
}

impl Outgoing {
    /// A batch that nobody waits for.
    pub fn new(sealed: Sealed, positions: Vec<PositionChange>) -> Self {
        Outgoing { sealed, positions, tickets: vec![], sources: vec![] }
    }
}

impl PositionChange {
    /// Which source it is about.
    pub fn source(&self) -> SourceId {
        match self {
            PositionChange::Reached(source, ..)
            | PositionChange::Renamed(source, ..)
            | PositionChange::Gone(source, ..)
            | PositionChange::Marked(source, ..)
            | PositionChange::Unmarked(source, ..) => *source,
        }
    }
}

/// A sealed batch and the positions that become durable with it.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The batch.
    pub sealed: Sealed,
    /// What to remember about sources, in order.
    pub positions: Vec<PositionChange>,
    /// Who is to be told when the batch is durable.
    pub tickets: Vec<Ticket>,
    /// Whose lines are in it, and how many records they became.
    pub sources: Vec<(SourceId, u32)>,
}

/// Where an agent's log stood when it was last sealed.
#[derive(Clone, Debug)]
pub struct LogPosition {
    /// The log.
    pub frontier: Frontier,
    /// The time of the newest seal; 0 before the first.
    pub sealed: UnixSeconds,
}

/// What the open batch adds to a bookmark.
type Added = (Keep, Vec<u8>);

/// The pipeline.
pub struct Pipeline {
    settings: Arc<RecordSettings>,
    sealing: Sealing,
    key: SigningKey,
    batch: BatchBuilder,
    codec: Codec,
    reached: BTreeMap<(SourceId, FileId), u64>,
    /// Bookmarks to write with the open batch.
    marked: BTreeMap<(SourceId, Arc<[u8]>), Added>,
    /// Renamed and gone files and bookmarks, in order.
    changes: Vec<PositionChange>,
    tickets: Vec<Ticket>,
    /// Records of the open batch, by source.
    counts: BTreeMap<SourceId, u32>,
    /// Monotonic time of the open batch's first record.
    opened_ms: Option<u64>,
    /// Monotonic time of its first record that somebody waits for.
    awaited_ms: Option<u64>,
    /// Monotonic time of the newest seal.
    sealed_ms: u64,
    sealed: UnixSeconds,
    ready: VecDeque<Outgoing>,
}

impl Pipeline {
    /// Goes on behind `log`.
    pub fn new(
        settings: RecordSettings,
        sealing: Sealing,
        ledger: Origin,
        key: SigningKey,
        log: LogPosition,
        now: Now,
    ) -> Self {
        let batch = BatchBuilder::new(ledger, settings.agent.clone(), log.frontier);
        Pipeline {
            settings: Arc::new(settings),
            sealing,
            key,
            batch,
            codec: Codec::default(),
            reached: BTreeMap::new(),
            marked: BTreeMap::new(),
            changes: vec![],
            tickets: vec![],
            counts: BTreeMap::new(),
            opened_ms: None,
            awaited_ms: None,
            sealed_ms: now.monotonic_ms,
            sealed: log.sealed,
            ready: VecDeque::new(),
        }
    }

    /// Takes what a source says. Batches that become full on the way are sealed.
    pub fn handle_event(&mut self, event: SourceEvent, now: Now) {
        match event {
            SourceEvent::Chunk(chunk) => self.handle_chunk(&chunk, now, |_| {}),
            SourceEvent::Refingerprint { source, old, new } => {
                if let Some(offset) = self.reached.remove(&(source, old)) {
                    self.reached.insert((source, new), offset);
                }
                self.changes.push(PositionChange::Renamed(source, old, new));
            }
            SourceEvent::FileFound { source, position } => {
                self.reached.insert((source, position.file), position.offset);
            }
            SourceEvent::FileGone { source, file } => {
                self.reached.remove(&(source, file));
                self.changes.push(PositionChange::Gone(source, file));
            }
            SourceEvent::Unmark { source, key } => {
                self.marked.remove(&(source, Arc::clone(&key)));
                self.changes.push(PositionChange::Unmarked(source, key));
            }
            SourceEvent::Configure { source, settings } => self.configure(source, settings),
        }
        self.handle_time(now);
    }

    /// Takes lines as [`Pipeline::handle_event`] does, and tells which record each of them begins,
    /// and last which one would be next.
    pub fn handle_lines(&mut self, chunk: &Chunk, now: Now) -> Vec<EntryIndex> {
        let mut numbers = Vec::with_capacity(chunk.lines.len() + 1);
        self.handle_chunk(chunk, now, |number| numbers.push(number));
        numbers.push(self.batch.next());
        self.handle_time(now);
        numbers
    }

    /// Seals what has waited long enough, and a heartbeat after a long silence.
    pub fn handle_time(&mut self, now: Now) {
        if self.deadline_ms() <= now.monotonic_ms {
            self.seal(now);
        }
    }

    /// Seals what is there, however little: before a stop.
    pub fn handle_stop(&mut self, now: Now) {
        let nothing = self.batch.is_empty()
            && self.reached.is_empty()
            && self.marked.is_empty()
            && self.changes.is_empty();
        if !nothing {
            self.seal(now);
        }
    }

    /// The monotonic time at which [`Pipeline::handle_time`] has something to do.
    pub fn deadline_ms(&self) -> u64 {
        let Some(opened) = self.opened_ms else {
            return self.sealed_ms + self.sealing.heartbeat_ms;
        };
        let linger = opened + self.sealing.linger_ms;
        self.awaited_ms.map_or(linger, |awaited| linger.min(awaited + self.sealing.answer_ms))
    }

    /// The next sealed batch. Nothing may be acknowledged to its sources before it is durable.
    pub fn poll_sealed(&mut self) -> Option<Outgoing> {
        self.ready.pop_front()
    }

    fn handle_chunk(&mut self, chunk: &Chunk, now: Now, mut begun: impl FnMut(EntryIndex)) {
        let settings = Arc::clone(&self.settings);
        let source = &settings.sources[usize::from(chunk.source.0)];
        let (file, peer, transport) = match &chunk.origin {
            ChunkOrigin::File { file, base } => (Some((*file, *base)), None, None),
            ChunkOrigin::Sender { peer, transport } => (None, peer.as_deref(), *transport),
        };
        for (index, span) in chunk.lines.iter().enumerate() {
            let incoming = Incoming {
                source,
                peer,
                transport,
                received: chunk.received,
                line: &chunk.bytes[span.start as usize..span.end as usize],
            };
            let mut before = self.batch.len();
            begun(self.batch.next());
            while settings.append(&mut self.batch, &incoming) == Appended::NoRoom {
                assert!(!self.batch.is_empty(), "an empty batch has room for every line");
                self.seal(now);
                before = 0;
            }
            let records = u32::try_from(self.batch.len() - before).expect("a batch is bounded");
            *self.counts.entry(chunk.source).or_default() += records;
            self.opened_ms.get_or_insert(now.monotonic_ms);
            if chunk.ticket.is_some() {
                self.awaited_ms.get_or_insert(now.monotonic_ms);
            }
            if let Some((file, base)) = file {
                self.reached.insert((chunk.source, file), base + u64::from(span.next));
            }
            if let Some(bookmark) = &chunk.bookmark {
                self.mark(chunk.source, bookmark, index);
            }
            if index + 1 == chunk.lines.len() {
                self.tickets.extend(chunk.ticket);
            }
            if self.is_full() {
                self.seal(now);
            }
        }
    }

    fn mark(&mut self, source: SourceId, bookmark: &Bookmark, index: usize) {
        let key = (source, Arc::clone(&bookmark.key));
        let (keep, value) = self.marked.entry(key).or_insert_with(|| (bookmark.keep, Vec::new()));
        *keep = bookmark.keep;
        keep.add(value, bookmark.of_line(index));
    }

    fn configure(&mut self, source: SourceId, settings: SourceSettings) {
        let sources = &mut Arc::make_mut(&mut self.settings).sources;
        match sources.get_mut(usize::from(source.0)) {
            Some(known) => *known = settings,
            None => {
                assert_eq!(sources.len(), usize::from(source.0), "sources are numbered in order");
                sources.push(settings);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= self.sealing.max_records
            || self.batch.bytes() >= self.sealing.max_bytes
            || !self.batch.has_room()
    }

    fn seal(&mut self, now: Now) {
        // A clock that jumped back must not make the log's seals run backwards. A seal without
        // records is told from the one before it by its time alone.
        let earliest = self.sealed.0.saturating_add(self.batch.is_empty().into());
        self.sealed = UnixSeconds(earliest).max(now.wall.seconds());
        let sealed = self.batch.seal(&self.key, self.sealed, &mut self.codec);
        let mut positions = std::mem::take(&mut self.changes);
        let reached = std::mem::take(&mut self.reached).into_iter();
        positions.extend(reached.map(|((source, file), offset)| {
            PositionChange::Reached(source, FilePosition { file, offset })
        }));
        let marked = std::mem::take(&mut self.marked).into_iter();
        positions.extend(marked.map(|((source, key), (keep, value))| {
            PositionChange::Marked(source, key, keep, value)
        }));
        let tickets = std::mem::take(&mut self.tickets);
        let sources = std::mem::take(&mut self.counts).into_iter().collect();
        (self.opened_ms, self.awaited_ms) = (None, None);
        self.sealed_ms = now.monotonic_ms;
        self.ready.push_back(Outgoing { sealed, positions, tickets, sources });
    }
}
