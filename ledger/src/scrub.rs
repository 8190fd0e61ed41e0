//! The scrub: everything in the store is looked at again, slowly, over and over.
//!
//! A disk loses bits in places that nobody reads for years. So a thread of its own reads all segments in
//! order, hashes every entry, and compares block log, tree and index; what is wrong is logged and counted
//! once, and handed to the node's thread, which mends it. It begins when the node is ready, and again
//! after a while; soon, if something was found, to see that it is mended.

use crate::{
    metrics::Metrics,
    node::Command,
    store::{
        StoreReader,
        check::{Checker, Depth, Fault, FaultKind, Item, Mend, items},
    },
    view::View,
};
use journal::Extent;
use record::{Checkpoint, batch::Codec, block::Height};
use service::signals::Shutdown;
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::timeout};

/// How soon everything is looked at again when something was found.
const AGAIN_SOON: Duration = Duration::from_secs(5);
/// So often at most, when what was found stays.
const SOON_PASSES: u32 = 5;
/// Faults that are told one by one.
const TOLD: usize = 10_000;
/// What is handed over to be mended at one time.
const MENDS: usize = 64;

/// How the scrub goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From the beginning of one pass to the next.
    pub every: Duration,
    /// Bytes of the block log read a second, at most.
    pub bytes_per_second: u64,
}

/// What the last pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// When it ended, seconds since 1970; 0 before the first.
    pub time: u64,
    /// Blocks it looked at.
    pub blocks: u64,
    /// What was wrong, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What was wrong first, for people.
    pub first: Option<String>,
}

/// What the scrub works with.
pub struct Scrub {
    /// The store's directory.
    pub dir: PathBuf,
    /// The store.
    pub store: Arc<StoreReader>,
    /// Where it says what it found.
    pub view: Arc<View>,
    /// The node's thread.
    pub node: mpsc::Sender<Command>,
    /// What it counts.
    pub metrics: Metrics,
    /// How it goes about it.
    pub pace: Pace,
}

/// The node is stopping.
struct Stop;

impl Scrub {
    /// Runs until shutdown.
    pub async fn run(self, mut shutdown: Shutdown) {
        let mut told = BTreeSet::new();
        let mut soon = 0;
        loop {
            let begun = Instant::now();
            let Ok(scrubbed) = self.pass(&mut told, &mut shutdown).await else { return };
            let whole = scrubbed.is_some();
            if let Some(scrubbed) = scrubbed {
                soon = if scrubbed.faults.is_empty() { 0 } else { soon + 1 };
                self.metrics.scrubbed.set(scrubbed.time as i64);
                self.view.set_scrubbed(scrubbed);
            }
            let pause = match soon {
                _ if !whole => AGAIN_SOON,
                1..=SOON_PASSES => AGAIN_SOON,
                _ => self.pace.every.saturating_sub(begun.elapsed()).max(AGAIN_SOON),
            };
            if timeout(pause, shutdown.wait()).await.is_ok() {
                return;
            }
        }
    }

    /// Looks at everything up to what is the newest block now; nothing is said if blocks were given up meanwhile.
    async fn pass(
        &self,
        told: &mut BTreeSet<String>,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Scrubbed>, Stop> {
        let (tip, _) = self.view.tip();
        let signed = self
            .view
            .head()
            .checkpoint
            .as_ref()
            .and_then(|note| Checkpoint::parse(note.text()).ok());
        let (tree, index) = (self.store.tree().clone(), self.store.index().clone());
        let params = self.store.params().clone();
        let mut checker = Checker::new(&self.dir, params, Depth::Hashes, tree, Some(index), signed);
        let mut scrubbed = Scrubbed::default();
        let base = self.store.base();
        let digest = base.as_ref().map(|kept| kept.digest);
        let chunks = match checker.begin(self.store.blocks(), base) {
            Ok(chunks) => chunks,
            Err(error) => {
                tracing::error!(%error, "what is kept of pruned blocks cannot be looked at");
                0
            }
        };
        for chunk in 0..chunks {
            let begun = Instant::now();
            let bytes = checker.chunk(chunk);
            self.tell(checker.take_faults(), told, &mut scrubbed).await?;
            self.rest(bytes, begun, shutdown).await?;
        }
        let mut codec = Codec::default();
        for extent in self.store.blocks().segments() {
            let begun = Instant::now();
            let bytes = self.look(&mut checker, extent, tip, &mut codec).await?;
            if self.store.base().map(|kept| kept.digest) != digest {
                // What is missing now is no fault. The next pass comes soon.
                return Ok(None);
            }
            self.tell(checker.take_faults(), told, &mut scrubbed).await?;
            self.rest(bytes, begun, shutdown).await?;
        }
        checker.end();
        self.tell(checker.take_faults(), told, &mut scrubbed).await?;
        scrubbed.time = service::clock::now().0 / 1000;
        scrubbed.blocks = checker.totals().blocks;
        Ok(Some(scrubbed))
    }

    /// Waits until reading on is in keeping with the pace.
    async fn rest(&self, bytes: u64, begun: Instant, shutdown: &mut Shutdown) -> Result<(), Stop> {
        let pause = Duration::from_secs_f64(bytes as f64 / self.pace.bytes_per_second as f64);
        let pause = pause.saturating_sub(begun.elapsed());
        let stops = timeout(pause, shutdown.wait()).await.is_ok() || shutdown.requested();
        if stops { Err(Stop) } else { Ok(()) }
    }

    /// Looks at a segment; answers with its size in bytes.
    async fn look(
        &self,
        checker: &mut Checker,
        extent: Extent,
        tip: Height,
        codec: &mut Codec,
    ) -> Result<u64, Stop> {
        let segment = match self.store.blocks().load(extent) {
            Ok(segment) => segment,
            // It was released meanwhile.
            Err(journal::Error::Released { .. }) => return Ok(0),
            Err(error) => {
                tracing::error!(%error, "a segment cannot be looked at");
                return Ok(0);
            }
        };
        let items = items(self.store.params(), &segment, false, codec);
        let within = |item: &Item| match item {
            Item::Block(facts) => facts.header.height <= tip,
            Item::NoBlock { height, .. } => *height <= tip,
            Item::Lost(damage) => damage.first_seq.0 < tip.0,
            Item::Scratch { .. } => true,
        };
        for item in items.into_iter().filter(within) {
            // A damaged index may make sled panic.
            if catch_unwind(AssertUnwindSafe(|| checker.take(item))).is_err() {
                let problem = "sled panicked while it read its files".to_owned();
                self.node.send(Command::IndexBroken(problem)).await.map_err(|_| Stop)?;
                return Err(Stop);
            }
        }
        Ok(segment.bytes())
    }

    /// Logs and counts what is new, and has it mended.
    async fn tell(
        &self,
        faults: Vec<Fault>,
        told: &mut BTreeSet<String>,
        scrubbed: &mut Scrubbed,
    ) -> Result<(), Stop> {
        let mut mends: Vec<Mend> = Vec::new();
        for fault in faults {
            *scrubbed.faults.entry(fault.kind.as_str()).or_default() += 1;
            let said = fault.to_string();
            scrubbed.first.get_or_insert_with(|| said.clone());
            if told.len() < TOLD && told.insert(said) {
                self.metrics.store_fault(fault.kind.as_str());
                tracing::error!(kind = fault.kind.as_str(), "{fault}: {}", fault.kind.advice());
            }
            // What somebody changed stays as it is, for whoever investigates.
            if fault.kind != FaultKind::Rewritten {
                mends.extend(fault.mend);
            }
        }
        while !mends.is_empty() {
            let rest = mends.split_off(mends.len().min(MENDS));
            self.node.send(Command::Mend(mends)).await.map_err(|_| Stop)?;
            mends = rest;
        }
        Ok(())
    }
}

/// Runs the scrub on a thread of its own: hashing would keep others waiting.
///
/// # Errors
/// When the system has no thread to give.
pub fn start(scrub: Scrub, shutdown: Shutdown) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let thread = std::thread::Builder::new().name("scrub".into());
    thread.spawn(move || runtime.block_on(scrub.run(shutdown))).map(drop)
}
