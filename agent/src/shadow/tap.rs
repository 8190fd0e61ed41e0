//! Where the seal thread hands over what it sealed: it never waits, and copies nothing.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use pipeline::line::{Chunk, SourceEvent, SourceId};
use record::merkle::EntryIndex;
use tokio::sync::mpsc;

use crate::config::{Config, ShadowConfig};

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
    pub(super) syslog: bool,
}

/// The seal thread's end.
#[derive(Debug)]
pub struct Tap {
    sender: mpsc::Sender<SealedLines>,
    shared: Arc<Shared>,
    /// Those that are compared; all, if none is named.
    names: Vec<String>,
    /// By source: whether its lines are syslog messages, if they are compared.
    wanted: Vec<Option<bool>>,
}

/// The keeper's end.
#[derive(Debug)]
pub(super) struct Tapped {
    receiver: mpsc::Receiver<SealedLines>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicUsize,
    missed: AtomicU64,
}

impl Tap {
    pub(super) fn new(shadow: &ShadowConfig, config: &Config) -> (Self, Tapped) {
        let (sender, receiver) = mpsc::channel(MAX_CHUNKS);
        let shared = Arc::new(Shared::default());
        let tapped = Tapped { receiver, shared: Arc::clone(&shared) };
        let mut tap = Tap { sender, shared, names: shadow.sources.clone(), wanted: Vec::new() };
        for (index, source) in config.sources.iter().enumerate() {
            tap.source(index, &source.name, source.kind.is_syslog());
        }
        (tap, tapped)
    }

    /// Whether lines of this source are compared.
    pub fn wants(&self, source: SourceId) -> bool {
        self.wanted.get(usize::from(source.0)).is_some_and(Option::is_some)
    }

    /// Learns of sources that are new, or read in another way.
    pub fn observe(&mut self, event: &SourceEvent) {
        if let SourceEvent::Configure { source, settings } = event {
            self.source(usize::from(source.0), &settings.name, settings.syslog);
        }
    }

    /// Hands over lines that became records. Drops and counts them if too many wait.
    pub fn sealed(&self, chunk: Chunk, numbers: Vec<EntryIndex>) {
        let syslog = self.wanted.get(usize::from(chunk.source.0)).copied().flatten();
        let Some(syslog) = syslog else { return };
        let (bytes, lines) = (chunk.bytes.capacity(), chunk.lines.len() as u64);
        let waiting = self.shared.bytes.fetch_add(bytes, Relaxed);
        let sealed = SealedLines { chunk, numbers, syslog };
        if waiting > MAX_BYTES || self.sender.try_send(sealed).is_err() {
            self.shared.bytes.fetch_sub(bytes, Relaxed);
            self.shared.missed.fetch_add(lines, Relaxed);
        }
    }

    fn source(&mut self, index: usize, name: &str, syslog: bool) {
        let wanted = self.names.is_empty() || self.names.iter().any(|other| other == name);
        if self.wanted.len() <= index {
            self.wanted.resize(index + 1, None);
        }
        self.wanted[index] = wanted.then_some(syslog);
    }
}

impl Tapped {
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
