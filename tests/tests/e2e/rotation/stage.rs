//! Where a case plays: its folder, its lines, and what it may ask of the agent.

use super::Ledger;
use logseal_tests::{LIMIT, cluster::Dice};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What the cases, the killer and the observer agree on.
pub struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Cases that are not through.
    playing: usize,
    /// Cases that want the agent to be down, and to stay so.
    want_down: usize,
    up: bool,
    ledger: Ledger,
}

/// The case is through, even if it failed.
pub struct End(Arc<Control>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.change(|state| state.playing -= 1);
    }
}

impl Control {
    pub fn new(cases: usize) -> Self {
        let state = State { playing: cases, want_down: 0, up: true, ledger: Ledger::new() };
        Control { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// A case that fails must not take the others with it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if all cases are through; otherwise waits so long.
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        let state = self.lock();
        let waits = |state: &mut State| state.playing > 0;
        let (state, _) = self
            .changed
            .wait_timeout_while(state, limit, waits)
            .unwrap_or_else(PoisonError::into_inner);
        state.playing == 0
    }

    /// The agent is down; comes back when nobody wants that any more, and it is to be started.
    pub fn down(&self) {
        self.change(|state| state.up = false);
        let deadline = Instant::now() + LIMIT;
        while !self.may_start() {
            assert!(Instant::now() < deadline, "a case keeps the agent down");
            self.wait(Duration::from_millis(200), |state| state.want_down == 0);
        }
    }

    /// From the moment that it is true nobody finds the agent down.
    fn may_start(&self) -> bool {
        let mut state = self.lock();
        state.up = state.want_down == 0;
        let up = state.up;
        drop(state);
        self.changed.notify_all();
        up
    }

    pub fn publish(&self, ledger: Ledger) {
        self.change(|state| state.ledger = ledger);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// False if the condition does not come true within the limit.
    fn wait(&self, limit: Duration, condition: impl Fn(&State) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if condition(&state) || Instant::now() > deadline {
                return condition(&state);
            }
            let waited = self.changed.wait_timeout(state, Duration::from_millis(200));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A case's folder and lines.
pub struct Stage {
    pub name: &'static str,
    /// All lines, in the order in which they were written.
    pub expected: Vec<Vec<u8>>,
    dir: PathBuf,
    control: Arc<Control>,
    dice: Dice,
    number: usize,
    /// Lines were waited for in vain.
    lost: bool,
}

impl Stage {
    pub fn new(name: &'static str, dir: PathBuf, control: Arc<Control>, seed: u64) -> Self {
        let (expected, dice) = (Vec::new(), Dice::new(seed));
        Stage { name, expected, dir, control, dice, number: 0, lost: false }
    }

    pub fn end(&self) -> End {
        End(Arc::clone(&self.control))
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// Waits a random moment. The moment is the point: it is no wait for anything.
    pub fn pause(&mut self) {
        std::thread::park_timeout(Duration::from_micros(self.dice.below(20_000)));
    }

    /// Opens a file as a program does that logs into it.
    pub fn open(&self, name: &str) -> File {
        OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap()
    }

    /// Appends some lines of all kinds. They begin with `generation`, so that their order is known.
    pub fn write(&mut self, name: &str, generation: &str, count: usize) {
        let mut file = self.open(name);
        self.write_to(&mut file, generation, count);
    }

    /// As [`Stage::write`], into an open file.
    pub fn write_to(&mut self, file: &mut File, generation: &str, count: usize) {
        for _ in 0..count {
            self.number += 1;
            let mut line = format!("{generation} {:05} ", self.number).into_bytes();
            match self.dice.below(40) {
                0 => line.extend(b"\0\x01\x1b[31m\x7f\xff\xfe\xc0"),
                1 => line.extend(b"carriage return\r"),
                2 => line.extend((0..66_000u32).map(|i| (i % 245 + 11) as u8)),
                3 => line.extend(b"  blanks \t "),
                4 => drop(line.pop()),
                n => line.extend(std::iter::repeat_n(b'a' + n as u8 % 26, n as usize * 5)),
            }
            self.write_line(file, line);
        }
        self.pause();
    }

    /// Appends these lines as they are, each in one or two writes.
    pub fn write_line(&mut self, file: &mut File, line: Vec<u8>) {
        let torn = self.dice.below(line.len() as u64 + 1) as usize;
        let bytes = [&line[..], b"\n"].concat();
        let (front, back) = bytes.split_at(if torn.is_multiple_of(4) { torn } else { 0 });
        file.write_all(front).unwrap();
        file.write_all(back).unwrap();
        self.expected.push(line);
    }

    /// Appends a line without a line feed.
    pub fn write_end(&mut self, name: &str, generation: &str) {
        let line = format!("{generation} without a line feed").into_bytes();
        self.open(name).write_all(&line).unwrap();
        self.expected.push(line);
    }

    /// The case's last line, which comes when all is over.
    pub fn last_line(&mut self) {
        let name = if self.path("d").is_dir() { "d/a.log" } else { "a.log" };
        let mut file = self.open(name);
        self.write_line(&mut file, b"~ the last line".to_vec());
    }

    /// Waits until all lines are in the ledger: what comes next destroys what was not read.
    pub fn taken(&mut self) {
        // What is missing after that is judged in the end; whoever waits again waits for the rest.
        let there = |state: &State| state.ledger.get(self.name).map_or(0, Vec::len);
        let all = self.expected.len();
        if !self.lost && !self.control.wait(LIMIT / 2, |state| there(state) >= all) {
            self.lost = true;
        }
    }

    /// Does something while the agent is down.
    pub fn down(&mut self, act: impl FnOnce(&mut Self)) {
        self.control.change(|state| state.want_down += 1);
        assert!(self.control.wait(LIMIT, |state| !state.up), "the agent is not killed");
        act(self);
        self.control.change(|state| state.want_down -= 1);
        assert!(self.control.wait(LIMIT, |state| state.up), "the agent is not started");
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
        self.pause();
    }

    pub fn remove(&mut self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
        self.pause();
    }

    pub fn copy(&mut self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
        self.pause();
    }

    pub fn truncate(&mut self, name: &str) {
        OpenOptions::new().write(true).open(self.path(name)).unwrap().set_len(0).unwrap();
        self.pause();
    }

    /// Renames `a.log.1` to `a.log.2` and so on, whether compressed or not.
    pub fn shift(&mut self) {
        for n in (1..20).rev() {
            for packed in ["", ".gz", ".zst"] {
                let name = |n| self.path(format!("a.log.{n}{packed}"));
                if name(n).exists() {
                    fs::rename(name(n), name(n + 1)).unwrap();
                }
            }
        }
    }

    /// Rotates `a.log` by renaming.
    pub fn rotate(&mut self) {
        self.shift();
        self.rename("a.log", "a.log.1");
    }

    /// Rotates `a.log` by copying and truncating it.
    pub fn copytruncate(&mut self) {
        self.shift();
        self.copy("a.log", "a.log.1");
        self.truncate("a.log");
    }

    /// Points a symbolic link somewhere else.
    pub fn flip(&mut self, target: &str, link: &str) {
        std::os::unix::fs::symlink(target, self.path("link.new")).unwrap();
        self.rename("link.new", link);
    }

    /// Compresses a file with `gzip`, which leaves the compressed one.
    pub fn gzip(&mut self, name: &str) {
        let status = Command::new("gzip").arg(self.path(name)).status().unwrap();
        assert!(status.success());
        self.pause();
    }

    /// Compresses a file with zstd.
    pub fn zstd(&mut self, name: &str) {
        let (from, to) = (self.path(name), self.path(format!("{name}.zst")));
        let modified = fs::metadata(&from).unwrap().modified().unwrap();
        let packed = zstd::encode_all(&*fs::read(&from).unwrap(), 1).unwrap();
        let mut file = File::create(to).unwrap();
        file.write_all(&packed).unwrap();
        file.set_modified(modified).unwrap();
        fs::remove_file(from).unwrap();
    }

    /// Runs logrotate with these settings.
    pub fn logrotate(&mut self, settings: &str) {
        let conf = self.path("logrotate.conf");
        let log = self.path("a.log");
        fs::write(&conf, format!("{log:?} {{\nrotate 90\nmissingok\n{settings}\n}}\n")).unwrap();
        let output = Command::new("/usr/sbin/logrotate")
            .arg("--force")
            .arg("--state")
            .arg(self.path("logrotate.state"))
            .arg(&conf)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", self.name);
        self.pause();
    }
}
