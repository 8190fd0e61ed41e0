//! The demo's traffic: a gateway that writes its log, and a host that sends syslog over TLS.

use crate::site::{Site, SiteError, SyslogSender, corpus::Corpus};
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How often the gateway writes.
const TICK: Duration = Duration::from_millis(10);
/// Syslog messages a second.
const SYSLOG_RATE: u64 = 50;

type Lines = Result<Vec<Vec<u8>>, SiteError>;

/// Traffic that is under way.
pub(super) struct Traffic {
    written: Arc<AtomicU64>,
    rotate: Arc<AtomicBool>,
    end: Arc<RwLock<bool>>,
    gateway: JoinHandle<Lines>,
    syslog: JoinHandle<Lines>,
}

impl Traffic {
    /// Starts both writers.
    pub(super) fn start(site: &Site, rate: u64, stop: Arc<AtomicBool>) -> Result<Self, SiteError> {
        let (written, rotate) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let end = Arc::new(RwLock::new(false));
        let going = |end: &Arc<RwLock<bool>>, stop: &Arc<AtomicBool>| {
            let (end, stop) = (Arc::clone(end), Arc::clone(stop));
            move || {
                !stop.load(Ordering::Relaxed)
                    && !*end.read().unwrap_or_else(PoisonError::into_inner)
            }
        };
        let gateway = {
            let (path, going) = (site.path("kong.log"), going(&end, &stop));
            let (written, rotate) = (Arc::clone(&written), Arc::clone(&rotate));
            std::thread::spawn(move || gateway(&path, rate, &written, &rotate, going))
        };
        let syslog = {
            let (sender, going) = (SyslogSender::connect(site, "web01")?, going(&end, &stop));
            let written = Arc::clone(&written);
            std::thread::spawn(move || syslog(sender, &written, going))
        };
        Ok(Traffic { written, rotate, end, gateway, syslog })
    }

    /// Lines written so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Makes the gateway rotate its log.
    pub(super) fn rotate(&self) {
        self.rotate.store(true, Ordering::Relaxed);
    }

    /// Ends the traffic and gives back every line that was written.
    pub(super) fn finish(self) -> Lines {
        *self.end.write().unwrap_or_else(PoisonError::into_inner) = true;
        let mut lines = Vec::new();
        for writer in [self.gateway, self.syslog] {
            let written = writer.join();
            lines.extend(written.map_err(|_| SiteError::Other("a writer failed".into()))??);
        }
        Ok(lines)
    }
}

fn gateway(
    path: &Path,
    rate: u64,
    written: &AtomicU64,
    rotate: &AtomicBool,
    going: impl Fn() -> bool,
) -> Lines {
    let open =
        || File::options().create(true).append(true).open(path).map_err(SiteError::file(path));
    let mut corpus = Corpus::new(1, service::clock::now().0);
    let (mut file, mut lines, begun) = (open()?, Vec::new(), Instant::now());
    while going() {
        if rotate.swap(false, Ordering::Relaxed) {
            let old = PathBuf::from(format!("{}.1", path.display()));
            std::fs::rename(path, &old).map_err(SiteError::file(path))?;
            // As gateways do, it writes on into the renamed file until it is told to reopen.
            write_lines(&mut file, path, &mut corpus, 20, &mut lines)?;
            written.fetch_add(20, Ordering::Relaxed);
            file = open()?;
        }
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
        let count = due.saturating_sub(corpus.next_number());
        write_lines(&mut file, path, &mut corpus, count, &mut lines)?;
        written.fetch_add(count, Ordering::Relaxed);
        std::thread::sleep(TICK);
    }
    Ok(lines)
}

fn write_lines(
    file: &mut File,
    path: &Path,
    corpus: &mut Corpus,
    count: u64,
    lines: &mut Vec<Vec<u8>>,
) -> Result<(), SiteError> {
    let mut bytes = Vec::new();
    for _ in 0..count {
        let line = corpus.line("demo").into_bytes();
        bytes.extend_from_slice(&line);
        bytes.push(b'\n');
        lines.push(line);
    }
    file.write_all(&bytes).map_err(SiteError::file(path))
}

fn syslog(mut sender: SyslogSender, written: &AtomicU64, going: impl Fn() -> bool) -> Lines {
    let (mut lines, begun) = (Vec::<Vec<u8>>::new(), Instant::now());
    while going() {
        let due = (begun.elapsed().as_secs_f64() * SYSLOG_RATE as f64) as usize;
        for number in lines.len()..due {
            let time = service::clock::now();
            let message = format!(
                "<86>1 {time} web01 sshd {} - [demo@32473 number=\"{number}\"] Accepted publickey for clerk{:03}",
                1000 + number % 50,
                number % 240
            );
            sender.send(message.as_bytes())?;
            lines.push(message.into_bytes());
            written.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(TICK);
    }
    sender.close()?;
    Ok(lines)
}
