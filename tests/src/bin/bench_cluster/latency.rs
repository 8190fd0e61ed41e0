//! From the write of a line to its verified receipt, at a steady rate.

use crate::{Figures, LIMIT, cluster::Running, figure};
use logseal::site::corpus::Corpus;
use logseal_tests::figures::quantile;
use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How often the agent's counter is looked at: so much too late a receipt may seem to come.
const LOOK: Duration = Duration::from_millis(3);
/// A writer writes what is due, that often.
const TICK: Duration = Duration::from_millis(2);

/// Writes `rate` lines a second in the background; gives back when each was written.
pub fn write_lines(path: PathBuf, rate: u64, count: u64) -> JoinHandle<Vec<Instant>> {
    std::thread::spawn(move || {
        let mut file = File::create(path).unwrap();
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

/// The median and the 99th percentile over all lines of some seconds.
pub fn measure(running: &Running<'_>, rate: u64, seconds: u64) -> Figures {
    let (meter, count) = (running.meter(), rate * seconds);
    let before = running.usage();
    let already = meter.read().unwrap().receipted;
    let writer = write_lines(running.site.path(format!("logs/rate-{rate}.log")), rate, count);
    let mut seen: Vec<Instant> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(seconds) + LIMIT;
    while (seen.len() as u64) < count {
        let receipted = (meter.read().unwrap().receipted - already) as usize;
        let now = Instant::now();
        assert!(now < deadline, "only {receipted} of {count} receipts");
        seen.resize(receipted.max(seen.len()), now);
        std::thread::sleep(LOOK);
    }
    let written = writer.join().unwrap();
    let waits: Vec<f64> =
        written.iter().zip(&seen).map(|(w, s)| (*s - *w).as_secs_f64() * 1000.0).collect();
    let (p50, p99) = (quantile(waits.clone(), 0.5), quantile(waits, 0.99));
    let after = running.usage();
    let core = |now: &logseal_tests::figures::Usage, then| now.cpu_us_since(then, seconds) / 1e4;
    println!(
        "latency     p50 {p50:.1} ms, p99 {p99:.1} ms at {rate} records/s; agent {:.1} %, node1 {:.1} % of a core",
        core(&after.agent, &before.agent),
        core(&after.nodes[0], &before.nodes[0]),
    );
    vec![figure(&format!("p50_ms_at_{rate}"), p50), figure(&format!("p99_ms_at_{rate}"), p99)]
}
