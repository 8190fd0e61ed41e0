//! From the write of a line to its verified receipt, at a steady rate.

use crate::{Figures, LIMIT, cluster::Running, figure};
use logseal_tests::figures::{quantile, write_lines};
use std::time::{Duration, Instant};

/// How often the agent's counter is looked at: so much too late a receipt may seem to come.
const LOOK: Duration = Duration::from_millis(3);

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
