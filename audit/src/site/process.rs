//! The programs of a site, as processes that end with it.

use super::SiteError;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::{net::UnixDatagram, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// The programs that were built beside the running one (for a test: one folder up).
    pub fn beside_this() -> Result<Self, SiteError> {
        let own = std::env::current_exe().map_err(|e| SiteError::Other(e.to_string()))?;
        let dirs = own.ancestors().skip(1).take(2);
        for dir in dirs {
            if dir.join("logseal-agent").exists() && dir.join("logseal-ledger").exists() {
                return Ok(Programs { dir: dir.to_owned() });
            }
        }
        Err(SiteError::NoProgram("logseal-agent or logseal-ledger".into()))
    }

    /// The path of a program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// A running program. It is killed when this is dropped, unless it was let go.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where the program says that it is ready, as to a service manager.
    notify: UnixDatagram,
    keep: bool,
}

impl Process {
    /// Starts a program; its output goes to `log`, behind what is there.
    pub fn start(program: &Path, args: &[&str], log: &Path) -> Result<Self, SiteError> {
        Self::start_reading(program, args, log, Stdio::null())
    }

    /// The same, with something to read.
    pub fn start_reading(
        program: &Path,
        args: &[&str],
        log: &Path,
        input: Stdio,
    ) -> Result<Self, SiteError> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let open = || File::options().create(true).append(true).open(log);
        let (out, err) =
            (open().map_err(SiteError::file(log))?, open().map_err(SiteError::file(log))?);
        let socket = log.with_extension("notify");
        let _ = std::fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).map_err(SiteError::file(&socket))?;
        let child = Command::new(program)
            .args(args)
            .env("NOTIFY_SOCKET", &socket)
            .env_remove("JOURNAL_STREAM")
            .stdin(input)
            // Ctrl-C is for the program that shows the site, not for the site.
            .process_group(0)
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(SiteError::file(program))?;
        Ok(Process { name, child, log: log.to_owned(), notify, keep: false })
    }

    /// Waits until the program says that it is ready.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<(), SiteError> {
        let deadline = Instant::now() + limit;
        let mut message = [0; 256];
        self.notify
            .set_read_timeout(Some(Duration::from_millis(100)))
            .map_err(SiteError::file(&self.log))?;
        loop {
            if let Ok(len) = self.notify.recv(&mut message)
                && message[..len].starts_with(b"READY=1")
            {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.problem(&format!("ended before it was ready ({status})")));
            }
            if Instant::now() > deadline {
                return Err(self.problem(&format!("was not ready within {limit:?}")));
            }
        }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> Result<(), SiteError> {
        self.child.kill().map_err(SiteError::file(&self.log))?;
        self.child.wait().map(drop).map_err(SiteError::file(&self.log))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), SiteError> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| SiteError::Other("a process without an id".into()))?;
        kill_process(pid, signal).map_err(|error| SiteError::Other(error.to_string()))
    }

    /// Tells it to stop and waits until it has.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus, SiteError> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, SiteError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().map_err(SiteError::file(&self.log))? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(self.problem(&format!("did not end within {limit:?}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Leaves it running when this is dropped.
    pub fn let_go(&mut self) {
        self.keep = true;
    }

    /// CPU time it has used so far, all threads.
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
    }

    /// Memory it has in RAM, in bytes.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib << 10)
    }

    /// All of its log.
    pub fn log_text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(&self.log) {
            let len = file.metadata().map_or(0, |m| m.len());
            let _ = file.seek(SeekFrom::Start(len.saturating_sub(4000)));
            let mut bytes = Vec::new();
            let _ = file.read_to_end(&mut bytes);
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
        text
    }

    fn problem(&self, problem: &str) -> SiteError {
        SiteError::Program {
            program: self.name.clone(),
            problem: problem.to_owned(),
            log: self.log.display().to_string(),
            tail: self.log_tail(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.keep && self.is_running() {
            let _ = self.kill();
        }
    }
}
