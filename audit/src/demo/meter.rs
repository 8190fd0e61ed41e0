//! Reading the agent's metrics.

use crate::output::{Failure, fail};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// What the agent's metrics say at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// Lines read from sources.
    pub lines: u64,
    /// Records sealed.
    pub sealed: u64,
    /// Records with a verified receipt.
    pub receipted: u64,
    /// Median time from a batch's first line to its verified receipt.
    pub p50_ms: f64,
    /// The 99th percentile of that.
    pub p99_ms: f64,
}

/// Reads the metrics of an agent on loopback.
#[derive(Debug)]
pub struct Meter {
    port: u16,
}

impl Meter {
    /// The meter of the agent whose metrics are at `port`.
    pub fn new(port: u16) -> Self {
        Meter { port }
    }

    /// Reads all metrics now.
    pub fn read(&self) -> Result<Reading, Failure> {
        Ok(reading(&self.text()?))
    }

    /// The metrics' text.
    pub fn text(&self) -> Result<String, Failure> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(fail)?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(fail)?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .map_err(fail)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(fail)?;
        Ok(answer)
    }

    /// Waits until so many records have receipts.
    pub fn wait_receipted(&self, records: u64, limit: Duration) -> Result<Reading, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            let reading = self.read()?;
            if reading.receipted >= records {
                return Ok(reading);
            }
            if Instant::now() > deadline {
                let got = reading.receipted;
                return Err(Failure(format!(
                    "only {got} of {records} receipts came within {limit:?}"
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn reading(text: &str) -> Reading {
    let sum = |name: &str| -> u64 {
        let values = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
    };
    let buckets = buckets(text, "logseal_agent_receipt_seconds_bucket");
    Reading {
        lines: sum("logseal_agent_source_lines_total"),
        sealed: sum("logseal_agent_records_sealed_total"),
        receipted: sum("logseal_agent_records_receipted_total"),
        p50_ms: quantile(&buckets, 0.5) * 1000.0,
        p99_ms: quantile(&buckets, 0.99) * 1000.0,
    }
}

/// Upper bounds in seconds (as an ordered number of microseconds) and how many lie below.
fn buckets(text: &str, name: &str) -> BTreeMap<u64, f64> {
    let mut buckets = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with(name)) {
        let bound = line.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
        let count = line.rsplit_once(' ').and_then(|(_, count)| count.parse::<f64>().ok());
        let (Some(bound), Some(count)) = (bound, count) else { continue };
        let micros = bound.parse::<f64>().map_or(u64::MAX, |seconds| (seconds * 1e6) as u64);
        *buckets.entry(micros).or_insert(0.0) += count;
    }
    buckets
}

/// The quantile by linear interpolation within its bucket, in seconds.
fn quantile(buckets: &BTreeMap<u64, f64>, q: f64) -> f64 {
    let Some((_, total)) = buckets.last_key_value() else { return 0.0 };
    let (target, mut low, mut below) = (total * q, 0.0, 0.0);
    for (micros, count) in buckets {
        let high = if *micros == u64::MAX { low } else { *micros as f64 / 1e6 };
        if *count >= target {
            let width = count - below;
            return if width > 0.0 { low + (high - low) * (target - below) / width } else { high };
        }
        (low, below) = (high, *count);
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_out_of_the_text_format() {
        let text = "logseal_agent_source_lines_total{source=\"a\"} 3\nlogseal_agent_source_lines_total{source=\"b\"} 4\n\
            logseal_agent_records_sealed_total 7\nlogseal_agent_records_sealed_total_more 9\n\
            logseal_agent_receipt_seconds_bucket{le=\"0.01\"} 0\n\
            logseal_agent_receipt_seconds_bucket{le=\"0.02\"} 10\n\
            logseal_agent_receipt_seconds_bucket{le=\"+Inf\"} 10\n";
        let reading = reading(text);
        assert_eq!((reading.lines, reading.sealed), (7, 7));
        assert!((reading.p50_ms - 15.0).abs() < 0.01, "{}", reading.p50_ms);
    }
}
