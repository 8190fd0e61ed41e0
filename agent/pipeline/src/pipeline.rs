//! The pipeline's state machine: chunks and the time in, sealed batches out.

use crate::{
    entries::{Appended, Incoming, RecordSettings},
    line::{Chunk, ChunkOrigin, FileId, FilePosition, SourceEvent, SourceId},
};
use record::{
    Origin, UnixMillis, UnixSeconds,
    batch::{BatchBuilder, Codec, Sealed},
    crypto::SigningKey,
    merkle::Frontier,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// When a batch is sealed.
#[derive(Clone, Copy, Debug)]
pub struct Sealing {
    /// At the latest this many milliseconds after its first record; at most 50 are useful.
    pub linger_ms: u64,
    /// As soon as it has so many records.
    pub max_records: usize,
    /// As soon as it has so many bytes before compression.
    pub max_bytes: usize,
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

/// A change of what is known about a source's files, durable together with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionChange {
    /// Everything in front of this position is sealed.
    Reached(SourceId, FilePosition),
    /// The file is known by another identity from now on: old, then new.
    Renamed(SourceId, FileId, FileId),
    /// The file is gone for good.
    Gone(SourceId, FileId),
}

/// A sealed batch and the positions that become durable with it.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The batch.
    pub sealed: Sealed,
    /// What to remember about files, in order.
    pub positions: Vec<PositionChange>,
}

/// Where an agent's log stood when it was last sealed.
#[derive(Clone, Debug)]
pub struct LogPosition {
    /// The log.
    pub frontier: Frontier,
    /// The time of the newest seal; 0 before the first.
    pub sealed: UnixSeconds,
}

/// The pipeline.
pub struct Pipeline {
    settings: Arc<RecordSettings>,
    sealing: Sealing,
    key: SigningKey,
    batch: BatchBuilder,
    codec: Codec,
    reached: BTreeMap<(SourceId, FileId), u64>,
    /// Renamed and gone files, in order.
    files: Vec<PositionChange>,
    /// Monotonic time of the open batch's first record.
    opened_ms: Option<u64>,
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
            files: vec![],
            opened_ms: None,
            sealed_ms: now.monotonic_ms,
            sealed: log.sealed,
            ready: VecDeque::new(),
        }
    }

    /// Takes what a source says. Batches that become full on the way are sealed.
    pub fn handle_event(&mut self, event: SourceEvent, now: Now) {
        match event {
            SourceEvent::Chunk(chunk) => self.handle_chunk(&chunk, now),
            SourceEvent::Refingerprint { source, old, new } => {
                if let Some(offset) = self.reached.remove(&(source, old)) {
                    self.reached.insert((source, new), offset);
                }
                self.files.push(PositionChange::Renamed(source, old, new));
            }
            SourceEvent::FileFound { source, position } => {
                self.reached.insert((source, position.file), position.offset);
            }
            SourceEvent::FileGone { source, file } => {
                self.reached.remove(&(source, file));
                self.files.push(PositionChange::Gone(source, file));
            }
        }
        self.handle_time(now);
    }

    /// Seals what has waited long enough, and a heartbeat after a long silence.
    pub fn handle_time(&mut self, now: Now) {
        if self.deadline_ms() <= now.monotonic_ms {
            self.seal(now);
        }
    }

    /// Seals what is there, however little: before a stop.
    pub fn handle_stop(&mut self, now: Now) {
        let nothing = self.batch.is_empty() && self.reached.is_empty() && self.files.is_empty();
        if !nothing {
            self.seal(now);
        }
    }

    /// The monotonic time at which [`Pipeline::handle_time`] has something to do.
    pub fn deadline_ms(&self) -> u64 {
        match self.opened_ms {
            Some(opened) => opened + self.sealing.linger_ms,
            None => self.sealed_ms + self.sealing.heartbeat_ms,
        }
    }

    /// The next sealed batch. Nothing may be acknowledged to its sources before it is durable.
    pub fn poll_sealed(&mut self) -> Option<Outgoing> {
        self.ready.pop_front()
    }

    fn handle_chunk(&mut self, chunk: &Chunk, now: Now) {
        let settings = Arc::clone(&self.settings);
        let source = &settings.sources[usize::from(chunk.source.0)];
        let (file, peer) = match &chunk.origin {
            ChunkOrigin::File { file, base } => (Some((*file, *base)), None),
            ChunkOrigin::Network { peer } => (None, Some(peer.as_ref())),
        };
        for span in &chunk.lines {
            let incoming = Incoming {
                source,
                peer,
                received: chunk.received,
                line: &chunk.bytes[span.start as usize..span.end as usize],
            };
            while settings.append(&mut self.batch, &incoming) == Appended::NoRoom {
                assert!(!self.batch.is_empty(), "an empty batch has room for every line");
                self.seal(now);
            }
            self.opened_ms.get_or_insert(now.monotonic_ms);
            if let Some((file, base)) = file {
                self.reached.insert((chunk.source, file), base + u64::from(span.next));
            }
            if self.is_full() {
                self.seal(now);
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
        let mut positions = std::mem::take(&mut self.files);
        let reached = std::mem::take(&mut self.reached).into_iter();
        positions.extend(reached.map(|((source, file), offset)| {
            PositionChange::Reached(source, FilePosition { file, offset })
        }));
        self.opened_ms = None;
        self.sealed_ms = now.monotonic_ms;
        self.ready.push_back(Outgoing { sealed, positions });
    }
}
