//! An rsyslog that carries the same lines: file → mutual TLS (OpenSSL), with a queue that goes to
//! the disk when it is full → file.
//!
//! How full it must be decides how much of a burst goes to the disk, and with it the figures. So
//! it is measured with rsyslog's own settings and with those of the drop-in that the project ships.

use crate::LIMIT;
use logseal::site::{Process, Site, free_ports};
use logseal_tests::{
    figures::{Usage, write_corpus},
    wait_for,
};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const PROGRAM: &str = "/usr/sbin/rsyslogd";
const WARM_UP: u64 = 5_000;

/// How long a whole round may take, at most. With its own settings, 8.2302 now and then leaves the last
/// lines of a burst in its queue for good.
const ROUND_LIMIT: Duration = Duration::from_secs(30);
/// Rounds that are tried until one carries all lines.
const TRIES: usize = 5;

/// When the sender's queue goes to the disk.
#[derive(Clone, Copy)]
pub enum Queue {
    /// As rsyslog does by itself.
    Stock,
    /// As with the project's drop-in.
    Shipped,
}

impl Queue {
    fn settings(self) -> &'static str {
        match self {
            Queue::Stock => "",
            Queue::Shipped => {
                "queue.highWatermark=\"8000\" queue.lowWatermark=\"2000\" queue.checkpointInterval=\"1000\""
            }
        }
    }
}

/// What one round took.
pub struct Round {
    pub per_second: f64,
    pub sender_us: f64,
    pub receiver_us: f64,
    /// Bytes a record that the sender wrote: its queue, as far as it went to the disk.
    pub queued: f64,
    /// Rounds before it in which lines did not arrive.
    pub failed: usize,
}

/// One round that carries all lines, with both ends started for it.
pub fn round(site: &Site, lines: u64, queue: Queue) -> Round {
    for failed in 0..TRIES {
        match attempt(site, lines, queue) {
            Ok(round) => return Round { failed, ..round },
            Err(missing) => println!("            rsyslog left {missing} lines behind; once more"),
        }
    }
    panic!("rsyslog did not carry {lines} lines in {TRIES} rounds");
}

/// How many lines did not arrive, if not all did.
fn attempt(site: &Site, lines: u64, queue: Queue) -> Result<Round, u64> {
    let dir = site.path("rsyslog");
    let _ = std::fs::remove_dir_all(&dir);
    for folder in ["logs", "sender", "receiver"] {
        std::fs::create_dir_all(dir.join(folder)).unwrap();
    }
    let [port] = free_ports().unwrap();
    let mut receiver = start(&dir, "receiver", &receiver_conf(site, &dir, port));
    wait_for("rsyslogd to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let mut sender = start(&dir, "sender", &sender_conf(site, &dir, port, queue));
    let mut output = Output { path: dir.join("output"), file: None, lines: 0 };
    carry(&dir, "warm-up", WARM_UP, &mut output)?;
    let before = (Usage::of(&sender), Usage::of(&receiver));
    let took = carry(&dir, "round", lines, &mut output)?;
    let after = (Usage::of(&sender), Usage::of(&receiver));
    sender.stop(LIMIT).unwrap();
    receiver.stop(LIMIT).unwrap();
    assert_eq!(output.count(), WARM_UP + lines, "each line once");
    std::fs::remove_dir_all(&dir).unwrap();
    Ok(Round {
        per_second: lines as f64 / took.as_secs_f64(),
        sender_us: after.0.cpu_us_since(&before.0, lines),
        receiver_us: after.1.cpu_us_since(&before.1, lines),
        queued: after.0.written_since(&before.0, lines),
        failed: 0,
    })
}

/// Moves a finished corpus into the watched folder and waits until all of it has arrived: not only
/// its last line, since rsyslog's workers may overtake each other.
fn carry(dir: &Path, name: &str, lines: u64, output: &mut Output) -> Result<Duration, u64> {
    let hidden = dir.join(name);
    write_corpus(&hidden, lines, lines);
    let wanted = output.lines + lines;
    let begun = Instant::now();
    std::fs::rename(&hidden, dir.join(format!("logs/{name}.log"))).unwrap();
    while output.count() < wanted {
        if begun.elapsed() > ROUND_LIMIT {
            return Err(wanted - output.lines);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(begun.elapsed())
}

/// The file that the receiver writes, and how many lines of it were counted.
struct Output {
    path: PathBuf,
    file: Option<File>,
    lines: u64,
}

impl Output {
    fn count(&mut self) -> u64 {
        self.file = self.file.take().or_else(|| File::open(&self.path).ok());
        let mut bytes = vec![0; 1 << 20];
        while let Some(file) = &mut self.file
            && let read @ 1.. = file.read(&mut bytes).unwrap()
        {
            self.lines += bytes[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        self.lines
    }
}

fn start(dir: &Path, end: &str, conf: &str) -> Process {
    let (path, pid) = (dir.join(format!("{end}.conf")), dir.join(format!("{end}.pid")));
    std::fs::write(&path, conf).unwrap();
    let shown = |path: &PathBuf| path.display().to_string();
    let args = ["-n", "-f", &shown(&path), "-i", &shown(&pid)];
    Process::start(Path::new(PROGRAM), &args, &dir.join(format!("{end}.log"))).unwrap()
}

/// What both ends have in common. What they say about themselves goes nowhere: inputs and actions
/// are in rulesets of their own. The files are those of an identity of the site.
fn global(site: &Site, work: &Path, role: &str, name: &str) -> String {
    format!(
        "global(workDirectory={work:?} maxMessageSize=\"64k\" defaultNetstreamDriver=\"ossl\"\n\
         defaultNetstreamDriverCAFile={:?} defaultNetstreamDriverCertFile={:?}\n\
         defaultNetstreamDriverKeyFile={:?})\n",
        site.path("pki/ca.pem"),
        site.cert(role, name),
        site.key(role, name),
    )
}

fn receiver_conf(site: &Site, dir: &Path, port: u16) -> String {
    format!(
        "{}module(load=\"imtcp\" streamDriver.name=\"ossl\" streamDriver.mode=\"1\"\n\
         streamDriver.authMode=\"x509/name\" permittedPeer=[\"web01\"])\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"write\")\n\
         ruleset(name=\"write\") {{ action(type=\"omfile\" file={:?}) }}\n",
        global(site, &dir.join("receiver"), "agent", "gw01"),
        dir.join("output"),
    )
}

fn sender_conf(site: &Site, dir: &Path, port: u16, queue: Queue) -> String {
    format!(
        "{}module(load=\"imfile\")\n\
         input(type=\"imfile\" file={:?} tag=\"kong\" ruleset=\"forward\")\n\
         ruleset(name=\"forward\") {{ action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{port}\" protocol=\"tcp\"\n\
         TCP_Framing=\"octet-counted\" template=\"RSYSLOG_SyslogProtocol23Format\"\n\
         streamDriver=\"ossl\" streamDriverMode=\"1\" streamDriverAuthMode=\"x509/name\"\n\
         streamDriverPermittedPeers=\"localhost\"\n\
         queue.type=\"LinkedList\" queue.filename=\"forward\" queue.size=\"10000\"\n\
         {} queue.maxFileSize=\"16m\" queue.saveOnShutdown=\"on\" queue.discardSeverity=\"8\"\n\
         queue.timeoutEnqueue=\"60000\" action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\") }}\n",
        global(site, &dir.join("sender"), "syslog-client", "web01"),
        dir.join("logs/*.log"),
        queue.settings(),
    )
}
