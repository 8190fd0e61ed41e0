//! What the benchmarks share: the arithmetic of figures, and what a process has used so far.

use logseal::site::{Process, corpus::Corpus};
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// What a process has used since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time of all threads.
    pub cpu: Duration,
    /// Bytes it caused to be written to the disk.
    pub written: u64,
    /// Memory in RAM now, in bytes.
    pub resident: u64,
    /// The most of it so far, in bytes.
    pub peak: u64,
}

impl Usage {
    /// Of a process that runs.
    pub fn of(process: &Process) -> Self {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", process.pid())).unwrap()
        };
        let (io, status) = (read("io"), read("status"));
        Usage {
            cpu: process.cpu_time().unwrap(),
            written: field(&io, "write_bytes:"),
            resident: field(&status, "VmRSS:") << 10,
            peak: field(&status, "VmHWM:") << 10,
        }
    }

    /// CPU time since `before`, in microseconds for each of `count`.
    pub fn cpu_us_since(&self, before: &Usage, count: u64) -> f64 {
        (self.cpu - before.cpu).as_secs_f64() * 1e6 / count as f64
    }

    /// Bytes written since `before`, for each of `count`.
    pub fn written_since(&self, before: &Usage, count: u64) -> f64 {
        (self.written - before.written) as f64 / count as f64
    }
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Writes a corpus of so many lines, durable, and gives back its last line.
pub fn write_corpus(path: &Path, seed: u64, lines: u64) -> String {
    let mut corpus = Corpus::new(seed, service::clock::now().0);
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut last = String::new();
    for _ in 0..lines {
        last = corpus.line("bench");
        writeln!(file, "{last}").unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
    last
}

/// A writer writes what is due, that often.
const TICK: Duration = Duration::from_millis(2);

/// Writes `rate` lines a second in the background; gives back when each was written.
pub fn write_lines(path: PathBuf, rate: u64, count: u64) -> JoinHandle<Vec<Instant>> {
    std::thread::spawn(move || {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        let mut corpus = Corpus::new(rate, service::clock::now().0);
        let (begun, mut written) = (Instant::now(), Vec::with_capacity(count as usize));
        while (written.len() as u64) < count {
            let due = count.min((begun.elapsed().as_secs_f64() * rate as f64) as u64 + 1);
            let lines: String =
                (written.len() as u64..due).map(|_| corpus.line("rate") + "\n").collect();
            file.write_all(lines.as_bytes()).unwrap();
            written.resize(due as usize, Instant::now());
            std::thread::sleep(TICK);
        }
        written
    })
}

/// The value in the middle.
///
/// # Panics
/// If there is none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values.into_iter().collect(), 0.5)
}

/// The value below which a share `q` of all lies.
///
/// # Panics
/// If there is none.
pub fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() as f64 * q) as usize]
}

/// Two digits behind the point.
pub fn round2(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// In MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
