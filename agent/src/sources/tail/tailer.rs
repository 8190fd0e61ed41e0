//! The loop of a tailed source: passes over the directories, rounds over the
//! open files, and waiting. It does what [`super::plan`] decides.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::{Path, PathBuf},
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

use super::{
    super::{
        Phase, Shutdown, SourceStats,
        limiter::Limiter,
        stats::{add, set},
        stopped,
    },
    config::{Start, TailConfig, TailConfigError},
    file::{self, Change, TailedFile, Yield},
    plan::{Action, Node, Opening, Reached, Tracker},
    scan::Scanner,
    sent::Sent,
    watch::{Signals, Watcher},
};

/// Between two rounds that found little, to let lines gather: each round costs
/// a look at every open file, and each chunk a hand-over.
const GATHER: Duration = Duration::from_millis(5);

/// The least time between two passes over the directories, however much happens in them.
const PASS_PAUSE: Duration = Duration::from_millis(100);

/// A pass may take one in so many parts of the time.
const PASS_SHARE: u32 = 50;

/// How often the log names the same file that cannot be read.
const COMPLAIN: Duration = Duration::from_secs(60);

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
    complaints: Limiter<PathBuf>,
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
            complaints: Limiter::new(COMPLAIN),
            last_pass: now,
            next_pass: now,
        })
    }

    /// Runs until it is to stop. Answers with the positions behind what it has sent.
    pub(super) async fn run(mut self) -> Vec<FilePosition> {
        let mut watcher = Watcher::new(Arc::clone(&self.signals));
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
        let Some(file) = self.files.get_mut(&node) else { return };
        let result = match file.look() {
            Ok(Change::None) => file.read(),
            Ok(Change::Refingerprint(old)) => {
                let (source, new) = (self.config.id, file.id());
                self.outbox.push_back(SourceEvent::Refingerprint { source, old, new });
                file.read()
            }
            Ok(Change::Replaced) => return self.replaced(node),
            Err(error) => Err(error),
        };
        let now = Instant::now();
        match result {
            Ok(got) => {
                self.tracker.read(node, now, got.busy, file.reached());
                self.take(got);
            }
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

    fn take(&mut self, got: Yield) {
        add(&self.stats.cut_lines, got.cuts);
        self.outbox.extend(got.chunk.map(SourceEvent::Chunk));
    }

    /// The file was truncated or rewritten in place: what was read of it is
    /// complete, and what is in it now is new.
    fn replaced(&mut self, node: Node) {
        let Some(file) = self.files.get_mut(&node) else { return };
        let (rest, lost) = file.rest(true);
        let (source, old) = (self.config.id, file.id());
        let restarted = file.restart();
        let position = file.position();
        add(&self.stats.truncated_files, 1);
        if lost > 0 {
            add(&self.stats.lost_files, 1);
            add(&self.stats.lost_bytes, lost);
            warn!(
                source = source.0, file = %old, lost_bytes = lost,
                "a file was truncated before it was read to its end: use rename instead of \
                 copytruncate to rotate it"
            );
        } else {
            info!(source = source.0, file = %old, "a file was truncated: reading it from 0");
        }
        self.take(rest);
        self.outbox.push_back(SourceEvent::FileGone { source, file: old });
        match restarted {
            Ok(()) => {
                self.outbox.push_back(SourceEvent::FileFound { source, position });
                self.tracker.read(node, Instant::now(), true, Reached::More);
            }
            Err(error) => {
                self.unreadable(node, &error);
                self.files.remove(&node);
                self.tracker.close(node);
            }
        }
        self.signals.wake.notify_one();
    }

    /// The file was rotated away and nothing more will come.
    fn finish(&mut self, node: Node) {
        let Some(mut file) = self.files.remove(&node) else { return };
        let (rest, lost) = file.rest(false);
        self.take(rest);
        let (source, FilePosition { file, offset }) = (self.config.id, file.position());
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
        self.outbox.push_back(SourceEvent::FileGone { source, file });
        self.tracker.close(node);
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
        let scan = self.scanner.scan(&self.tracker.wanted());
        // First the watches: what happens from now on leads to another pass.
        watcher.follow(scan.directories, scan.names);
        let mut unreadable = Vec::new();
        for (path, error) in scan.errors {
            self.complain(&path, &error);
            unreadable.push(path);
        }
        let waiting = self.tracker.waiting();
        for action in self.tracker.pass(start, &scan.found, &unreadable) {
            match action {
                Action::Park(node) => self.park(node),
                Action::Open(opening) => self.open(&opening),
                Action::Forget { position, fully_read } => self.forget(position, fully_read),
            }
        }
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
        self.last_pass = Instant::now();
        let took = self.last_pass - start;
        self.next_pass = self.last_pass + self.config.rescan.max(took * PASS_SHARE);
    }

    fn open(&mut self, opening: &Opening) {
        if let Err(error) = self.try_open(opening) {
            match error.kind() {
                // The name is gone or another file's already; the next pass sees which.
                io::ErrorKind::NotFound => self.signals.pass.store(true, Relaxed),
                _ => self.complain(&opening.path, &error),
            }
        }
    }

    fn try_open(&mut self, opening: &Opening) -> io::Result<()> {
        let (file, metadata) = file::open(&opening.path)?;
        let node = Node::of_metadata(&metadata);
        if node != opening.node || !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let head = file::read_head(&file)?;
        let end = match opening.start {
            Start::Beginning => 0,
            Start::End => file::end_of_lines(&file, metadata.len(), self.config.max_line)?,
        };
        let (source, place) = (self.config.id, self.tracker.place(node, metadata.len(), &head));
        for FilePosition { file, offset } in place.gone {
            add(&self.stats.lost_files, 1);
            warn!(
                source = source.0, path = %opening.path.display(), %file, offset,
                "a file was truncated or replaced while it was not open: lines behind the \
                 offset, if there were any, were not read"
            );
            self.outbox.push_back(SourceEvent::FileGone { source, file });
        }
        if opening.rotated && place.resume.is_none() {
            return Ok(());
        }
        let base = place.resume.map_or(end, |position| position.offset);
        let file = TailedFile::new(file, node, head, base, source, self.config.max_line);
        let position = file.position();
        self.outbox.extend(match place.resume {
            Some(known) if known.file == position.file => None,
            Some(known) => {
                Some(SourceEvent::Refingerprint { source, old: known.file, new: position.file })
            }
            None => Some(SourceEvent::FileFound { source, position }),
        });
        let path = opening.path.display();
        debug!(source = source.0, %path, file = %file.id(), base, "reading");
        self.tracker.open(opening, Instant::now());
        self.files.insert(node, file);
        Ok(())
    }

    fn park(&mut self, node: Node) {
        if let Some(file) = self.files.remove(&node) {
            debug!(source = self.config.id.0, file = %file.id(), "closed until it grows");
            self.tracker.park(file.position());
        }
    }

    fn forget(&mut self, position: FilePosition, fully_read: bool) {
        let (source, FilePosition { file, offset }) = (self.config.id, position);
        if fully_read {
            info!(source = source.0, %file, "a file that was read to its end is gone");
        } else {
            add(&self.stats.lost_files, 1);
            warn!(
                source = source.0, %file, offset,
                "a file went away (deleted, moved or compressed) while the agent was down: lines \
                 behind the offset, if there were any, were not read"
            );
        }
        self.outbox.push_back(SourceEvent::FileGone { source, file });
    }

    fn unreadable(&mut self, node: Node, error: &io::Error) {
        let path = self.tracker.path(node).to_owned();
        self.complain(&path, error);
    }

    fn complain(&mut self, path: &Path, error: &io::Error) {
        add(&self.stats.read_errors, 1);
        if let Some(suppressed) = self.complaints.turn(path.to_owned(), Instant::now()) {
            error!(
                source = self.config.id.0, path = %path.display(), %error, suppressed,
                "cannot be read: let the agent's user read it (files) and search it (directories)"
            );
        }
    }
}
