//! A steady load: what each shipper needs to carry so many lines a second.

use crate::{LIMIT, syslog_ng_pair};
use logseal::{
    demo::Meter,
    site::{Process, Site},
};
use logseal_tests::{
    figures::{Usage, mib, write_lines},
    rsyslog_pair::{Output, Pair, Queue},
    wait_for,
};
use std::path::PathBuf;

/// Lines that are carried before it is measured.
const WARM_UP: u64 = 2000;

/// Who carries the lines.
#[derive(Clone, Copy, Debug)]
pub enum Shipper {
    Logseal,
    Rsyslog,
    SyslogNg,
}

impl Shipper {
    pub const ALL: [Shipper; 3] = [Shipper::Logseal, Shipper::Rsyslog, Shipper::SyslogNg];
}

/// What a shipper needs.
pub struct Weight {
    /// Memory in RAM at the end.
    pub mib: f64,
    /// CPU, in percent of a core.
    pub percent: f64,
}

/// One round, with everything started for it.
pub fn round(site: &Site, shipper: Shipper, rate: u64, seconds: u64) -> Weight {
    match shipper {
        Shipper::Logseal => {
            let mut agent = site.start_agent("gw01").unwrap();
            let meter = Meter::new(site.agent_metrics_port);
            let receipted = || meter.read().map_or(0, |counts| counts.receipted);
            let before = receipted();
            let path = |name: &str| site.path(format!("logs/{name}-{}.log", agent.pid()));
            let weight = measure(&agent, path, rate, seconds, || receipted() - before);
            agent.stop(LIMIT).unwrap();
            weight
        }
        Shipper::Rsyslog => {
            let dir = site.path("rsyslog");
            let mut pair = Pair::start(site, &dir, Queue::Shipped);
            let path = |name: &str| dir.join(format!("logs/{name}.log"));
            let output = &mut pair.output;
            let weight = measure(&pair.sender, path, rate, seconds, || output.count());
            pair.sender.stop(LIMIT).unwrap();
            pair.receiver.stop(LIMIT).unwrap();
            weight
        }
        Shipper::SyslogNg => {
            let dir = site.path("syslog-ng-pair");
            let (mut sender, mut receiver) = syslog_ng_pair::start(site, &dir);
            let mut output = Output::new(dir.join("output"));
            // It watches one file by name.
            let path = |_: &str| dir.join("log");
            let weight = measure(&sender, path, rate, seconds, || output.count());
            sender.stop(LIMIT).unwrap();
            receiver.stop(LIMIT).unwrap();
            weight
        }
    }
}

/// Warms up, and measures while lines come at a steady rate until all have arrived.
fn measure(
    process: &Process,
    path: impl Fn(&str) -> PathBuf,
    rate: u64,
    seconds: u64,
    mut arrived: impl FnMut() -> u64,
) -> Weight {
    write_lines(path("warm-up"), rate, WARM_UP).join().unwrap();
    wait_for("the warm-up", || (arrived() >= WARM_UP).then_some(()));
    let before = Usage::of(process);
    let begun = std::time::Instant::now();
    write_lines(path("steady"), rate, rate * seconds).join().unwrap();
    let (after, took) = (Usage::of(process), begun.elapsed());
    wait_for("all lines", || (arrived() >= WARM_UP + rate * seconds).then_some(()));
    Weight {
        mib: mib(after.resident),
        percent: 100.0 * (after.cpu - before.cpu).as_secs_f64() / took.as_secs_f64(),
    }
}
