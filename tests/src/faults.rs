//! Disks that refuse: programs whose system calls strace makes fail, and file systems of a few MiB.

use crate::LIMIT;
use logseal::site::{Process, Site, SiteError};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// Which system calls fail, and how.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The calls, with commas between them.
    pub calls: String,
    /// Only those on these files and folders, which need not exist; on all if there is none named.
    ///
    /// strace compares whole paths: that of an argument, or that behind a file descriptor. Sockets, pipes and the
    /// log have other ones, so a `write` to them is left alone.
    pub only: Vec<PathBuf>,
    /// The error and when, as strace's `inject` takes it; it counts for each thread and each call apart.
    pub how: String,
}

impl Fault {
    /// These calls fail wherever they go.
    pub fn of(calls: &str, how: impl Into<String>) -> Self {
        Fault { calls: calls.to_owned(), only: Vec::new(), how: how.into() }
    }

    /// Only those on these files and folders do.
    pub fn on(self, only: Vec<PathBuf>) -> Self {
        Fault { only, ..self }
    }

    /// strace's arguments, which the program follows; the calls are written to `trace`.
    pub fn arguments(&self, trace: &Path) -> Vec<String> {
        let fixed = ["-f", "-qq", "-s", "0", "-o"].map(String::from).into_iter();
        let fixed = fixed.chain([trace.display().to_string()]);
        let only = self.only.iter().flat_map(|path| ["-P".to_owned(), path.display().to_string()]);
        let what = [
            "-e".to_owned(),
            format!("trace={}", self.calls),
            "-e".to_owned(),
            format!("inject={}:{}", self.calls, self.how),
        ];
        fixed.chain(only).chain(what).collect()
    }
}

/// A program below strace.
#[derive(Debug)]
pub struct Failing {
    strace: Process,
    trace: PathBuf,
    /// How long its log was before.
    log_from: usize,
}

impl Failing {
    /// Starts the site's node.
    pub fn node(site: &Site, fault: &Fault) -> Self {
        Self::start(site, ["logseal-ledger", "ledger.toml", "ledger.log"], fault)
    }

    /// Starts the site's agent.
    pub fn agent(site: &Site, fault: &Fault) -> Self {
        Self::start(site, ["logseal-agent", "gw01.toml", "gw01.log"], fault)
    }

    /// Starts a program with the configuration and the log of these names.
    pub fn start(site: &Site, [program, config, log]: [&str; 3], fault: &Fault) -> Self {
        let (program, config) = (site.programs.path(program), site.path(config));
        let trace = site.path("strace.log");
        let mut args = fault.arguments(&trace);
        args.extend([program.display().to_string(), "run".into(), "--config".into()]);
        args.push(config.display().to_string());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let log = site.path(log);
        let log_from = fs::metadata(&log).map_or(0, |found| found.len() as usize);
        let strace = Process::start(Path::new("strace"), &args, &log).unwrap();
        Failing { strace, trace, log_from }
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.strace.is_running()
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It ended before.
    pub fn wait_ready(&mut self) -> Result<(), SiteError> {
        self.strace.wait_ready(LIMIT)
    }

    /// How many calls strace made fail so far.
    pub fn failed(&self) -> usize {
        let trace = fs::read(&self.trace).unwrap_or_default();
        trace.split(|byte| *byte == b'\n').filter(|line| line.ends_with(b"(INJECTED)")).count()
    }

    /// What it said since it was started.
    pub fn said(&self) -> String {
        self.strace.log_text().get(self.log_from..).unwrap_or_default().to_owned()
    }

    /// What it ended with: the last line that is no log line.
    pub fn last_words(&self) -> String {
        let said = self.said();
        let words = said.lines().rev().find(|line| line.starts_with("logseal-"));
        words.unwrap_or_default().to_owned()
    }

    /// Ends it at once, and all of its threads.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Tells it to stop, and waits until it has.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// strace itself lets nothing end it; it ends with the last thread of its program.
    fn end(&mut self, signal: Signal) {
        let strace = self.strace.pid();
        let children = format!("/proc/{strace}/task/{strace}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        for child in children.split_whitespace() {
            let child = Pid::from_raw(child.parse().unwrap()).unwrap();
            // One that has just ended by itself is gone already.
            let _ = kill_process(child, signal);
        }
        self.strace.wait(LIMIT).unwrap();
    }
}

/// A file system of a few MiB, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one.
    pub fn mount(path: &Path, mib: u32) -> Self {
        fs::create_dir_all(path).unwrap();
        // Few inodes besides, so that these can run out as well.
        let options = format!("size={mib}m,nr_inodes=1000,mode=700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
        let output = mounted.unwrap();
        assert!(
            output.status.success(),
            "this test needs to mount a small tmpfs: run the tests as root or with CAP_SYS_ADMIN ({})",
            String::from_utf8_lossy(&output.stderr)
        );
        SmallDisk(path.to_owned())
    }

    /// Takes all space but `leave` bytes.
    pub fn fill(&self, leave: u64) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).unwrap();
        let free = service::disk::free_bytes(&self.0).unwrap();
        let _ = file.write_all(&vec![1; free.saturating_sub(leave) as usize]);
        path
    }

    /// Makes files until there is room for so many more only.
    pub fn crowd(&self, leave: u64) -> PathBuf {
        let dir = self.0.join("crowd");
        fs::create_dir(&dir).unwrap();
        let free = rustix::fs::statvfs(&self.0).unwrap().f_ffree;
        for number in leave..free {
            // Somebody else may be faster with the last ones.
            let _ = File::create(dir.join(number.to_string()));
        }
        dir
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
