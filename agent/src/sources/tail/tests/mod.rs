//! Tailing real files. Every line that arrives is compared byte for byte, and
//! every chunk must begin where the position of its file stands.

mod cases;
mod pressure;

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use pipeline::line::{ChunkOrigin, FileId, FilePosition, SourceEvent, SourceId};
use tempfile::TempDir;
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{Start, TailConfig, Watch, start};
use crate::sources::{Phase, SourceStats};

/// What takes longer than this will not happen.
const BOUND: Duration = Duration::from_secs(30);

/// A directory with log files, and a tail that can be stopped and started.
struct Bench {
    dir: TempDir,
    config: TailConfig,
    running: Option<Running>,
    /// What the pipeline would have stored.
    positions: BTreeMap<FileId, u64>,
    /// Lines that arrived and were not asked for yet.
    lines: Vec<Vec<u8>>,
    gone: usize,
    runtime: Runtime,
}

struct Running {
    rx: mpsc::Receiver<SourceEvent>,
    stop: watch::Sender<Phase>,
    ended: oneshot::Receiver<Vec<FilePosition>>,
    stats: Arc<SourceStats>,
}

impl Bench {
    /// Tails what `patterns` match in a new directory, with short times.
    fn new(patterns: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let absolute = |pattern: &&str| format!("{}/{pattern}", dir.path().display());
        let mut config = TailConfig::new(SourceId(3), patterns.iter().map(absolute));
        config.rescan = Duration::from_millis(50);
        config.grace = Duration::from_secs(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (positions, lines) = (BTreeMap::new(), Vec::new());
        Bench { dir, config, running: None, positions, lines, gone: 0, runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(bytes.as_ref()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn start(&mut self) {
        let known = self.positions.iter().map(|(&file, &offset)| FilePosition { file, offset });
        let (tx, rx) = mpsc::channel(2);
        let (stop, shutdown) = watch::channel(Phase::Run);
        let stats = Arc::new(SourceStats::default());
        let ended =
            start(self.config.clone(), known.collect(), tx, shutdown, Arc::clone(&stats)).unwrap();
        self.running = Some(Running { rx, stop, ended, stats });
    }

    /// Stops the tail; what is still in the channel arrives. It knows where to go on.
    fn stop(&mut self) {
        let running = self.running.as_mut().unwrap();
        running.stop.send(Phase::Stop).unwrap();
        while let Some(event) = self.receive() {
            self.take(event);
        }
        let ended = self.running.take().unwrap().ended.blocking_recv().unwrap();
        let reached = ended.into_iter().map(|known| (known.file, known.offset));
        assert_eq!(reached.collect::<BTreeMap<_, _>>(), self.positions);
    }

    fn stats(&self) -> &SourceStats {
        &self.running.as_ref().unwrap().stats
    }

    fn receive(&mut self) -> Option<SourceEvent> {
        let rx = &mut self.running.as_mut().unwrap().rx;
        let event = self.runtime.block_on(async { timeout(BOUND, rx.recv()).await });
        event.unwrap_or_else(|_| panic!("nothing came; waiting: {:?}", self.lines))
    }

    /// The next event, which must come.
    fn step(&mut self) {
        let event = self.receive().expect("the tail runs");
        self.take(event);
    }

    fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::FileFound { source, position } => {
                assert_eq!(source, self.config.id);
                let before = self.positions.insert(position.file, position.offset);
                assert_eq!(before, None, "a known file was found again");
            }
            SourceEvent::Refingerprint { source, old, new } => {
                assert_eq!(source, self.config.id);
                let offset = self.positions.remove(&old).expect("a known file");
                assert_eq!(self.positions.insert(new, offset), None);
            }
            SourceEvent::FileGone { source, file } => {
                assert_eq!(source, self.config.id);
                self.positions.remove(&file).expect("a known file");
                self.gone += 1;
            }
            SourceEvent::Chunk(chunk) => {
                assert_eq!(chunk.source, self.config.id);
                let ChunkOrigin::File { file, base } = chunk.origin else { panic!("{chunk:?}") };
                let position = self.positions.get_mut(&file).expect("a known file");
                assert_eq!(*position, base, "a byte was skipped or came twice");
                let mut next = 0;
                for line in &chunk.lines {
                    assert_eq!(line.start, next, "lines follow each other");
                    next = line.next;
                    let between = &chunk.bytes[line.end as usize..next as usize];
                    assert!(matches!(between, b"" | b"\n"), "only a line feed is taken away");
                }
                assert_eq!(next as usize, chunk.bytes.len());
                *position += u64::from(next);
                self.lines.extend(chunk.iter().map(<[u8]>::to_vec));
            }
            SourceEvent::Unmark { .. } | SourceEvent::Configure { .. } => panic!("{event:?}"),
        }
    }

    /// Waits for so many lines and takes all that came.
    fn next_lines(&mut self, count: usize) -> Vec<String> {
        while self.lines.len() < count {
            self.step();
        }
        self.lines.drain(..).map(|line| line.escape_ascii().to_string()).collect()
    }

    /// Stops, and shows with the next start that no line was lost or comes twice.
    fn finish(&mut self) {
        if self.running.is_some() {
            self.stop();
        }
        assert_eq!(self.next_lines(0), [""; 0], "lines that were not expected");
        // The youngest file is read last: when its line comes, all others have.
        self.append("sentinel", "sentinel\n");
        self.config.paths.push(self.path("sentinel").to_str().unwrap().to_owned());
        self.start();
        assert_eq!(self.next_lines(1), ["sentinel"]);
        self.stop();
        assert_eq!(self.next_lines(0), [""; 0]);
    }
}

/// Waits for a condition that another thread brings about.
fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "{what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused_at_the_start() {
    let (tx, _rx) = mpsc::channel(1);
    let (_stop, shutdown) = watch::channel(Phase::Run);
    let config = TailConfig::new(SourceId(0), ["relative.log"]);
    let error = start(config, Vec::new(), tx, shutdown, Arc::default()).unwrap_err();
    assert!(error.to_string().contains("'relative.log' is not an absolute path"), "{error}");
}

#[test]
fn a_start_at_the_end_skips_what_was_there_and_nothing_else() {
    let mut bench = Bench::new(&["*.log"]);
    bench.config.start = Start::End;
    bench.append("a.log", "old\nbeg");
    bench.start();
    while bench.positions.is_empty() {
        bench.step();
    }
    bench.append("a.log", "un\n");
    assert_eq!(bench.next_lines(1), ["begun"]);
    bench.append("b.log", "new\n");
    assert_eq!(bench.next_lines(1), ["new"]);
    bench.stop();
    bench.append("a.log", "while down\n");
    bench.append("c.log", "c\n");
    bench.start();
    let mut lines = bench.next_lines(2);
    lines.sort();
    assert_eq!(lines, ["c", "while down"]);
    bench.finish();
}

#[test]
fn a_change_is_seen_at_once_and_not_only_by_the_periodic_pass() {
    let mut bench = Bench::new(&["a.log", "link.log"]);
    bench.config.rescan = Duration::from_secs(3600);
    fs::create_dir(bench.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(bench.path("elsewhere/b.log"), bench.path("link.log")).unwrap();
    bench.append("elsewhere/b.log", "1\n");
    bench.start();
    assert_eq!(bench.next_lines(1), ["1"]);
    bench.append("elsewhere/b.log", "2\n");
    assert_eq!(bench.next_lines(1), ["2"]);
    bench.append("a.log", "3\n");
    assert_eq!(bench.next_lines(1), ["3"]);
    bench.append("a.log", "4\n");
    assert_eq!(bench.next_lines(1), ["4"]);
    bench.rename("a.log", "a.log.1");
    bench.append("a.log", "5\n");
    assert_eq!(bench.next_lines(1), ["5"]);
    bench.finish();
}

#[test]
fn an_unreadable_file_hides_no_other_and_is_counted() {
    let mut bench = Bench::new(&["*.log", "loop"]);
    std::os::unix::fs::symlink("loop", bench.path("loop")).unwrap();
    bench.append("a.log", "1\n");
    bench.start();
    assert_eq!(bench.next_lines(1), ["1"]);
    assert!(bench.stats().read_errors.load(Relaxed) > 0);
    assert_eq!(bench.stats().unreadable_paths.load(Relaxed), 1);
    fs::remove_file(bench.path("loop")).unwrap();
    let stats = Arc::clone(&bench.running.as_ref().unwrap().stats);
    until("it is no trouble any more", || stats.unreadable_paths.load(Relaxed) == 0);
    bench.append("loop", "2\n");
    assert_eq!(bench.next_lines(1), ["2"]);
    bench.finish();
}
