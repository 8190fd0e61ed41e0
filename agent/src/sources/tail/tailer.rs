//! The loop of a tailed source: passes over the directories, rounds over the
//! open files, and waiting. It does what [`super::plan`] decides.

mod open;
mod takeover;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use pipeline::line::{FilePosition, SourceEvent};
use tokio::{
    select,
    sync::mpsc,
    time::{sleep_until, timeout},
};
use tracing::{debug, error, info, warn};

use crate::control::FileStatus;

use super::{
    super::{
        Phase, Shutdown, SourceStats,
        stats::{add, set},
        stopped,
    },
    config::{TailConfig, TailConfigError},
    file::{Change, TailedFile, Yield},
    plan::{Action, Found, Node, Reached, Tracker},
    scan::Scanner,
    sent::Sent,
    trouble::Troubles,
    watch::{Signals, Watcher},
};

/// Between two rounds that found little, to let lines gather: each round costs
/// a look at every open file, and each chunk a hand-over.
const GATHER: Duration = Duration::from_millis(5);

/// The least time between two passes over the directories, however much happens in them.
const PASS_PAUSE: Duration = Duration::from_millis(100);

/// A pass may take one in so many parts of the time.
const PASS_SHARE: u32 = 50;

/// What the system says of an open file that its server has forgotten (`ESTALE`).
const STALE: i32 = rustix::io::Errno::STALE.raw_os_error();

/// A tailed source at work.
pub(super) struct Tailer {
    config: TailConfig,
    scanner: Scanner,
    tracker: Tracker,
    files: BTreeMap<Node, TailedFile>,
    /// Events in the order in which they must be sent.
    outbox: VecDeque<SourceEvent>,
    tx: mpsc::Sender<SourceEvent>,
    shutdown: Shutdown,
    /// Where the next start goes on, as far as events were sent.
    sent: Sent,
    stats: Arc<SourceStats>,
    signals: Arc<Signals>,
    troubles: Troubles,
    around: takeover::Surroundings,
    /// True while an heir is searched for.
    searching: bool,
    /// Copies of files that are still there, which are not read.
    held: BTreeMap<Node, open::Held>,
    /// Compressed files that are not read.
    passed_over: BTreeSet<Node>,
    last_pass: Instant,
    next_pass: Instant,
}

/// The source is to end.
struct Stop;

impl Tailer {
    pub(super) fn new(
        config: TailConfig,
        known: Vec<FilePosition>,
        tx: mpsc::Sender<SourceEvent>,
        shutdown: Shutdown,
        stats: Arc<SourceStats>,
    ) -> Result<Self, TailConfigError> {
        let now = Instant::now();
        Ok(Tailer {
            scanner: Scanner::new(&config)?,
            tracker: Tracker::new(
                known.iter().copied(),
                config.start,
                config.grace,
                config.max_open,
            ),
            config,
            files: BTreeMap::new(),
            outbox: VecDeque::new(),
            tx,
            shutdown,
            sent: Sent::new(&known),
            stats,
            signals: Arc::new(Signals::default()),
            troubles: Troubles::default(),
            around: takeover::Surroundings::default(),
            searching: false,
            held: BTreeMap::new(),
            passed_over: BTreeSet::new(),
            last_pass: now,
            next_pass: now,
        })
    }

    /// Runs until it is to stop. Answers with the positions behind what it has sent.
    pub(super) async fn run(mut self) -> Vec<FilePosition> {
        let mut watcher = Watcher::new(self.config.watch, Arc::clone(&self.signals));
        while let Ok(()) = self.turn(&mut watcher).await {}
        set(&self.stats.open_files, 0);
        self.sent.positions()
    }

    async fn turn(&mut self, watcher: &mut Watcher) -> Result<(), Stop> {
        self.pass_if_due(watcher);
        self.hand_over(watcher).await?;
        let round = Instant::now();
        if !self.round(watcher).await? {
            self.wait(round + GATHER).await?;
        }
        Ok(())
    }

    /// Waits for a change, or for the next pass.
    async fn wait(&mut self, not_before: Instant) -> Result<(), Stop> {
        select! {
            biased;
            () = stopped(&mut self.shutdown) => return Err(Stop),
            () = self.signals.wake.notified() => {}
            () = sleep_until(self.next_pass.into()) => return Ok(()),
        }
        let gathered = not_before.saturating_duration_since(Instant::now());
        match timeout(gathered, stopped(&mut self.shutdown)).await {
            Ok(()) => Err(Stop),
            Err(_) => Ok(()),
        }
    }

    /// Sends everything in the outbox. While the pipeline holds back, new
    /// files are opened all the same: a file that is open cannot get lost.
    async fn hand_over(&mut self, watcher: &mut Watcher) -> Result<(), Stop> {
        while let Some(event) = self.outbox.pop_front() {
            let permit = loop {
                select! {
                    biased;
                    () = stopped(&mut self.shutdown) => return Err(Stop),
                    permit = self.tx.reserve() => break permit.map_err(|_| Stop)?,
                    () = sleep_until(self.next_pass.into()) => {}
                }
                self.pass(watcher);
            };
            if let SourceEvent::Chunk(chunk) = &event {
                self.stats.handed_over(chunk.lines.len(), chunk.bytes.len());
            }
            self.sent.take(&event);
            permit.send(event);
        }
        if *self.shutdown.borrow() == Phase::Stop { Err(Stop) } else { Ok(()) }
    }

    /// Reads a chunk of every file, and those that were rotated away to their
    /// end. Answers whether there is more to read.
    async fn round(&mut self, watcher: &mut Watcher) -> Result<bool, Stop> {
        let mut more = false;
        for node in self.tracker.order() {
            loop {
                self.visit(node);
                self.hand_over(watcher).await?;
                self.pass_if_due(watcher);
                let Some(file) = self.files.get(&node) else { break };
                let left = file.reached() == Reached::More;
                if !(left && self.tracker.is_away(node)) {
                    more |= left;
                    break;
                }
            }
        }
        let lag = self.files.values().map(TailedFile::lag).sum();
        set(&self.stats.lag_bytes, lag);
        Ok(more)
    }

    fn visit(&mut self, node: Node) {
        let result = match self.look(node) {
            Ok(true) => self.files.get_mut(&node).map(TailedFile::read).transpose(),
            Ok(false) => return,
            Err(error) => Err(error),
        };
        let (now, Some(file)) = (Instant::now(), self.files.get(&node)) else { return };
        match result {
            Ok(got) => {
                let got = got.unwrap_or_default();
                self.tracker.read(node, now, got.busy, file.reached());
                self.take(got);
            }
            Err(error) if error.raw_os_error() == Some(STALE) => return self.let_go(node),
            Err(error) => {
                // It counts as read, or it could never be given up.
                self.tracker.read(node, now, false, Reached::PartialLine);
                self.unreadable(node, &error);
            }
        }
        if self.tracker.is_complete(node, now) {
            self.finish(node);
        }
    }

    /// Looks at an open file, and does what must be done when it was replaced. Answers whether it
    /// can be read.
    fn look(&mut self, node: Node) -> io::Result<bool> {
        let Some(file) = self.files.get_mut(&node) else { return Ok(false) };
        match file.look()? {
            Change::None => {}
            Change::Refingerprint(old) => {
                let (source, new) = (self.config.id, file.id());
                self.outbox.push_back(SourceEvent::Refingerprint { source, old, new });
            }
            Change::Replaced => {
                self.replaced(node);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The server of the file system knows the open file no longer: it is opened again, under
    /// whatever name it is found.
    fn let_go(&mut self, node: Node) {
        let Some(file) = self.files.remove(&node) else { return };
        info!(source = self.config.id.0, file = %file.id(), "its handle is stale: opening it again");
        self.tracker.let_go(file.position());
        self.signals.pass.store(true, Relaxed);
    }

    fn take(&mut self, got: Yield) {
        add(&self.stats.cut_lines, got.cuts);
        self.outbox.extend(got.chunk.map(SourceEvent::Chunk));
    }

    /// The file was rotated away and nothing more will come.
    fn finish(&mut self, node: Node) {
        let Some(mut file) = self.files.remove(&node) else { return };
        let (rest, lost) = file.rest(false);
        self.take(rest);
        let (source, parked, position) = (self.config.id, file.parked(), file.position());
        let FilePosition { file, offset } = position;
        if lost > 0 {
            add(&self.stats.lost_files, 1);
            add(&self.stats.lost_bytes, lost);
            warn!(
                source = source.0, %file, offset, lost_bytes = lost,
                "a file that was rotated away could not be read to its end"
            );
        } else {
            info!(source = source.0, %file, offset, "a file that was rotated away is complete");
        }
        add(&self.stats.finished_files, 1);
        // While it exists it is known, so that it is not read again should it turn up.
        if !self.tracker.park(position, parked) {
            self.outbox.push_back(SourceEvent::FileGone { source, file });
        }
        self.forget_older();
        set(&self.stats.open_files, self.files.len() as u64);
    }

    fn pass_if_due(&mut self, watcher: &mut Watcher) {
        if self.signals.pass.swap(false, Relaxed) {
            self.next_pass = self.next_pass.min(self.last_pass + PASS_PAUSE);
        }
        if Instant::now() >= self.next_pass {
            self.pass(watcher);
        }
    }

    fn pass(&mut self, watcher: &mut Watcher) {
        let start = Instant::now();
        self.end_troubles();
        let scan = self.scanner.scan(&self.tracker.wanted());
        let around = takeover::Surroundings::new(&self.scanner, &scan);
        if around.differ(&self.around) {
            self.tracker.note_rotation();
        }
        self.around = around;
        // First the watches: what happens from now on leads to another pass.
        watcher.follow(scan.directories, scan.names);
        let mut unreadable = Vec::new();
        for (path, error) in scan.errors {
            self.complain(&path, &error);
            unreadable.push(path);
        }
        self.look_at_changed(&scan.found);
        self.settle_replaced(&scan.found);
        let waiting = self.tracker.waiting();
        for action in self.tracker.pass(start, &scan.found, &unreadable) {
            match action {
                Action::Park(node) => self.park(node),
                Action::Open(opening) => self.open(&opening),
                Action::Forget { position, fully_read } => self.forget(position, fully_read),
            }
        }
        self.read_orphans();
        self.forget_unopened(&scan.found);
        if self.tracker.waiting() > waiting {
            error!(
                source = self.config.id.0,
                waiting = self.tracker.waiting(),
                "more files match than may be open ({}): the others wait until one is quiet; \
                 match fewer files or raise the limit",
                self.config.max_open
            );
        }
        set(&self.stats.waiting_files, self.tracker.waiting() as u64);
        set(&self.stats.open_files, self.files.len() as u64);
        self.show_files();
        self.last_pass = Instant::now();
        let took = self.last_pass - start;
        self.next_pass = self.last_pass + self.config.rescan.max(took * PASS_SHARE);
    }

    /// Tells `status` how far the files came.
    fn show_files(&self) {
        let shown = self.files.iter().map(|(node, file)| {
            let position = file.position().offset;
            let path = self.tracker.path(*node).to_owned();
            FileStatus { path, position, size: position + file.lag() }
        });
        self.stats.show_files(shown);
    }

    /// Under back-pressure files are not read, but what is truncated meanwhile is noticed.
    fn look_at_changed(&mut self, found: &[Found]) {
        for Found { node, size, modified, .. } in found {
            let changed = self.files.get(node).is_some_and(|f| f.has_changed(*size, *modified));
            if changed && let Err(error) = self.look(*node) {
                self.unreadable(*node, &error);
            }
        }
    }

    fn park(&mut self, node: Node) {
        if let Some(file) = self.files.remove(&node) {
            debug!(source = self.config.id.0, file = %file.id(), "closed until it grows");
            self.tracker.park(file.position(), file.parked());
        }
    }

    fn unreadable(&mut self, node: Node, error: &io::Error) {
        let path = self.tracker.path(node).to_owned();
        self.complain(&path, error);
    }

    fn complain(&mut self, path: &Path, error: &io::Error) {
        add(&self.stats.read_errors, 1);
        if self.troubles.note(path, error) {
            error!(
                source = self.config.id.0, path = %path.display(), %error,
                "cannot be read, and is tried again all the time: let the agent's user read it \
                 (files) and search it (directories)"
            );
        }
        set(&self.stats.unreadable_paths, self.troubles.count() as u64);
    }

    fn end_troubles(&mut self) {
        for path in self.troubles.begin_pass() {
            let (source, path) = (self.config.id.0, path.display());
            info!(source, %path, "is readable again, or gone");
        }
        set(&self.stats.unreadable_paths, self.troubles.count() as u64);
    }
}
