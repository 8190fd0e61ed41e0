//! An rsyslog that carries lines: file → mutual TLS (OpenSSL), with a queue that goes to the disk
//! when it is full → file. What logseal is measured against.

use crate::wait_for;
use logseal::site::{Process, Site, free_ports};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// The program.
pub const PROGRAM: &str = "/usr/sbin/rsyslogd";

/// When the sender's queue goes to the disk.
#[derive(Clone, Copy, Debug)]
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

/// Both ends.
pub struct Pair {
    /// Reads `logs/*.log` of the folder and sends.
    pub sender: Process,
    /// Receives and writes.
    pub receiver: Process,
    /// What was written.
    pub output: Output,
}

impl Pair {
    /// Starts both ends in a folder, of which nothing is kept that was there.
    pub fn start(site: &Site, dir: &Path, queue: Queue) -> Self {
        let _ = std::fs::remove_dir_all(dir);
        for folder in ["logs", "sender", "receiver"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        let [port] = free_ports().unwrap();
        let receiver = process(dir, "receiver", &receiver_conf(site, dir, port));
        wait_for("rsyslogd to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        let sender = process(dir, "sender", &sender_conf(site, dir, port, queue));
        Pair { sender, receiver, output: Output::new(dir.join("output")) }
    }
}

/// The file that the receiver writes, and how many lines of it were counted.
pub struct Output {
    path: PathBuf,
    file: Option<File>,
    lines: u64,
}

impl Output {
    /// Counts the lines of a file from its beginning.
    pub fn new(path: PathBuf) -> Self {
        Output { path, file: None, lines: 0 }
    }

    /// How many lines have arrived.
    pub fn count(&mut self) -> u64 {
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

/// Starts an rsyslogd with this configuration; its files are named after this end.
pub fn process(dir: &Path, end: &str, conf: &str) -> Process {
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
