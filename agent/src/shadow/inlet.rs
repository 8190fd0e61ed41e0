//! Where the seal thread hands over what it sealed: it never waits, and copies nothing.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use pipeline::{
    SourceSettings,
    line::{Chunk, SourceEvent, SourceId},
};
use record::merkle::EntryIndex;
use tokio::sync::mpsc;

use crate::{
    config::{Config, ShadowConfig},
    run::settings,
};

/// How many chunks wait to be compared, at most, ...
const MAX_CHUNKS: usize = 256;
/// ... and how many bytes.
const MAX_BYTES: usize = 16 << 20;

/// Lines that became records.
#[derive(Debug)]
pub(super) struct SealedLines {
    pub(super) chunk: Chunk,
    /// The first record of each line, and the one behind the last.
    pub(super) numbers: Vec<EntryIndex>,
    pub(super) source: Arc<SourceSettings>,
}

/// The seal thread's end.
#[derive(Debug)]
pub struct Inlet {
    sender: mpsc::Sender<SealedLines>,
    shared: Arc<Shared>,
    /// Those that are compared; all, if none is named.
    names: Vec<String>,
    /// By source, how it is read, if it is compared.
    wanted: Vec<Option<Arc<SourceSettings>>>,
}

/// The keeper's end.
#[derive(Debug)]
pub(super) struct Incoming {
    receiver: mpsc::Receiver<SealedLines>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicUsize,
    missed: AtomicU64,
}

impl Inlet {
    pub(super) fn new(shadow: &ShadowConfig, config: &Config) -> (Self, Incoming) {
        let (mut inlet, incoming) = Inlet::comparing(shadow.sources.clone());
        for (index, source) in config.sources.iter().enumerate() {
            inlet.source(index, &settings(source));
        }
        (inlet, incoming)
    }

    fn comparing(names: Vec<String>) -> (Self, Incoming) {
        let (sender, receiver) = mpsc::channel(MAX_CHUNKS);
        let shared = Arc::new(Shared::default());
        let incoming = Incoming { receiver, shared: Arc::clone(&shared) };
        (Inlet { sender, shared, names, wanted: Vec::new() }, incoming)
    }

    /// Whether lines of this source are compared.
    pub fn wants(&self, source: SourceId) -> bool {
        self.wanted.get(usize::from(source.0)).is_some_and(Option::is_some)
    }

    /// Learns of sources that are new, or read in another way.
    pub fn observe(&mut self, event: &SourceEvent) {
        if let SourceEvent::Configure { source, settings } = event {
            self.source(usize::from(source.0), settings);
        }
    }

    /// Hands over lines that became records. Drops and counts them if too many wait.
    pub fn sealed(&self, chunk: Chunk, numbers: Vec<EntryIndex>) {
        let source = self.wanted.get(usize::from(chunk.source.0)).cloned().flatten();
        let Some(source) = source else { return };
        let (bytes, lines) = (chunk.bytes.capacity(), chunk.lines.len() as u64);
        let waiting = self.shared.bytes.fetch_add(bytes, Relaxed);
        let sealed = SealedLines { chunk, numbers, source };
        if waiting > MAX_BYTES || self.sender.try_send(sealed).is_err() {
            self.shared.bytes.fetch_sub(bytes, Relaxed);
            self.shared.missed.fetch_add(lines, Relaxed);
        }
    }

    fn source(&mut self, index: usize, settings: &SourceSettings) {
        let wanted = self.names.is_empty() || self.names.contains(&settings.name);
        if self.wanted.len() <= index {
            self.wanted.resize(index + 1, None);
        }
        self.wanted[index] = wanted.then(|| Arc::new(settings.clone()));
    }
}

impl Incoming {
    /// The next lines; none when the agent stops.
    pub(super) async fn next(&mut self) -> Option<SealedLines> {
        let sealed = self.receiver.recv().await?;
        self.shared.bytes.fetch_sub(sealed.chunk.bytes.capacity(), Relaxed);
        Some(sealed)
    }

    /// How many lines were dropped since this was asked last.
    pub(super) fn missed(&self) -> u64 {
        self.shared.missed.swap(0, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline::{
        Extractor,
        line::{ChunkOrigin, LineSpan},
    };
    use record::UnixMillis;

    fn chunk(source: u16, len: u32) -> Chunk {
        let origin = ChunkOrigin::Sender { peer: None, transport: None };
        let line = LineSpan { start: 0, end: len, next: len };
        let (bytes, received) = (vec![b'x'; len as usize], UnixMillis(7));
        match SourceEvent::lines(SourceId(source), bytes, vec![line; 3], origin, received) {
            SourceEvent::Chunk(chunk) => chunk,
            other => panic!("{other:?}"),
        }
    }

    fn sealed(inlet: &Inlet, len: u32) {
        let numbers = (0..4).map(EntryIndex).collect();
        inlet.sealed(chunk(1, len), numbers);
    }

    #[tokio::test]
    async fn too_many_lines_are_counted_and_hold_nobody_back() {
        let (mut inlet, mut incoming) = Inlet::comparing(vec!["kong".into()]);
        for (source, name) in [(0, "other"), (1, "kong")] {
            let (name, format) = (name.to_owned(), Extractor::default());
            let settings = SourceSettings { name, format, syslog: false };
            inlet.observe(&SourceEvent::Configure { source: SourceId(source), settings });
        }
        assert!(inlet.wants(SourceId(1)) && !inlet.wants(SourceId(0)) && !inlet.wants(SourceId(2)));
        (0..MAX_CHUNKS + 10).for_each(|_| sealed(&inlet, 10));
        assert_eq!(incoming.missed(), 30, "the queue is full");
        for _ in 0..MAX_CHUNKS {
            assert_eq!(incoming.next().await.unwrap().chunk.lines.len(), 3);
        }
        (0..20).for_each(|_| sealed(&inlet, 1 << 20));
        assert_eq!(incoming.missed(), 9, "as many as have 16 MiB wait, and one more");
        drop(inlet);
        let mut waiting = 0;
        while incoming.next().await.is_some() {
            waiting += 1;
        }
        assert_eq!(waiting, 17);
    }
}
