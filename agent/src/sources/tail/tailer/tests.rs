//! Rotations that happen while the tail looks: in every moment between two of
//! its looks, one after the other.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    rc::Rc,
};

use pipeline::line::SourceId;
use tempfile::TempDir;
use tokio::sync::watch;

use super::{
    super::{
        config::Watch,
        race::tests::{at_last, in_moment},
    },
    *,
};

/// More passes than anything takes to come to rest.
const PASSES: usize = 6;

/// How long lines are: two of the middle ones are longer than what a fingerprint is taken of, and
/// so is one of the last.
const FILLERS: [usize; 3] = [0, 700, 1500];

/// A directory with log files.
struct Place(TempDir);

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The `number`-th line.
    fn line(&self, number: usize, filler: usize) {
        let mut file =
            OpenOptions::new().append(true).create(true).open(self.path("a.log")).unwrap();
        let filler = number.to_string().repeat(filler);
        file.write_all(format!("{number} {filler}\n").as_bytes()).unwrap();
    }

    fn copy_over(&self, name: &str) {
        let modified = fs::metadata(self.path("a.log")).unwrap().modified().unwrap();
        fs::copy(self.path("a.log"), self.path(name)).unwrap();
        // As `cp -p` does.
        OpenOptions::new()
            .write(true)
            .open(self.path(name))
            .unwrap()
            .set_modified(modified)
            .unwrap();
    }

    fn truncate(&self) {
        OpenOptions::new().write(true).open(self.path("a.log")).unwrap().set_len(0).unwrap();
    }

    fn copytruncate(&self) {
        for n in (1..4).rev() {
            let name = |n: usize| self.path(&format!("a.log.{n}"));
            // What is not there needs no other name.
            let _ = fs::rename(name(n), name(n + 1));
        }
        self.copy_over("a.log.1");
        self.truncate();
    }
}

/// A tail in this thread.
struct Bench {
    tailer: Tailer,
    watcher: Watcher,
    lines: Vec<String>,
}

impl Bench {
    fn new(dir: &Path, pattern: &str, known: Vec<FilePosition>) -> Self {
        let path = format!("{}/{pattern}", dir.display());
        let mut config = TailConfig::new(SourceId(3), [path]);
        (config.watch, config.grace) = (Watch::Poll, Duration::ZERO);
        let ((tx, _), (_, shutdown)) = (mpsc::channel(1), watch::channel(Phase::Run));
        let tailer = Tailer::new(config, known, tx, shutdown, Arc::default()).unwrap();
        let watcher = Watcher::new(Watch::Poll, Arc::clone(&tailer.signals));
        Bench { tailer, watcher, lines: Vec::new() }
    }

    /// One pass, and everything that is open read to its end.
    fn work(&mut self) {
        self.tailer.pass(&mut self.watcher);
        for node in self.tailer.tracker.order() {
            loop {
                self.tailer.visit(node);
                self.take();
                let file = self.tailer.files.get(&node);
                if file.is_none_or(|file| file.reached() != Reached::More) {
                    break;
                }
            }
        }
    }

    fn take(&mut self) {
        while let Some(event) = self.tailer.outbox.pop_front() {
            self.tailer.sent.take(&event);
            if let SourceEvent::Chunk(chunk) = &event {
                let text = |line: &[u8]| String::from_utf8_lossy(line)[..1].to_owned();
                self.lines.extend(chunk.iter().map(text));
            }
        }
    }

    fn rest(&mut self) {
        (0..PASSES).for_each(|_| self.work());
    }

    /// The next run of the same source.
    fn again(mut self, dir: &Path, pattern: &str) -> Self {
        self.take();
        Bench { lines: self.lines, ..Self::new(dir, pattern, self.tailer.sent.positions()) }
    }
}

/// Tells the story once for every moment of the pass in which `meanwhile` happens. Lines 0 and 1
/// were read before, and each up to line `lines` must come once.
fn in_every_moment(lines: usize, before: fn(&Place, usize), meanwhile: fn(&Place, usize)) {
    let tales = ["a.log", "a.log*"].into_iter().flat_map(|pattern| {
        FILLERS
            .into_iter()
            .flat_map(move |filler| [false, true].map(|restarted| (pattern, filler, restarted)))
    });
    for (pattern, filler, restarted) in tales {
        let mut n = 0;
        while happens(n, lines, (pattern, filler, restarted), before, meanwhile) {
            n += 1;
        }
        assert!(n > 5, "the moments of {pattern} never came");
    }
}

/// False if there is no such moment.
fn happens(
    n: usize,
    lines: usize,
    (pattern, filler, restarted): (&str, usize, bool),
    before: fn(&Place, usize),
    meanwhile: fn(&Place, usize),
) -> bool {
    let place = Rc::new(Place(tempfile::tempdir().unwrap()));
    let mut bench = Bench::new(place.0.path(), pattern, Vec::new());
    place.line(0, filler);
    bench.rest();
    place.copytruncate();
    place.line(1, filler);
    bench.rest();
    if restarted {
        bench = bench.again(place.0.path(), pattern);
    }
    before(&place, filler);
    let there = Rc::clone(&place);
    in_moment(n, move || meanwhile(&there, filler));
    bench.work();
    let came = at_last();
    bench.rest();
    bench.lines.sort();
    let expected: Vec<_> = (0..=lines).map(|number| number.to_string()).collect();
    assert_eq!(
        bench.lines, expected,
        "moment {n}, {pattern}, filler {filler}, restarted {restarted}"
    );
    came
}

#[test]
fn a_rotation_in_any_moment_repeats_nothing() {
    in_every_moment(
        3,
        |place, filler| place.line(2, filler),
        |place, filler| {
            place.copytruncate();
            place.line(3, filler);
        },
    );
}

#[test]
fn a_truncation_in_any_moment_after_the_copy_repeats_nothing() {
    in_every_moment(
        3,
        |place, filler| {
            place.line(2, filler);
            place.copy_over("a.log.7");
        },
        |place, filler| {
            place.truncate();
            place.line(3, filler);
        },
    );
}

/// As a file system gives the inode of the oldest copy, which is deleted, to the next one.
#[test]
fn a_copy_with_the_inode_of_a_known_one_is_the_heir_whatever_it_is_renamed_to() {
    in_every_moment(
        4,
        |place, filler| {
            place.line(2, filler);
            place.copy_over("a.log.1");
            place.truncate();
            place.line(3, filler);
        },
        |place, filler| {
            place.copytruncate();
            place.line(4, filler);
        },
    );
}
