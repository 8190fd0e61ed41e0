//! How fast a node that lost its store has everything again.

use crate::{Figures, LIMIT, cluster::Running, figure};
use logseal_tests::figures::{Usage, mib};
use std::time::{Duration, Instant};

/// The node that loses its store.
const WIPED: usize = 3;

/// Takes a node's store away, fills the ledger up to so many records, and lets the node rejoin.
pub fn measure(running: &mut Running<'_>, records: u64) -> Figures {
    let store = running.site.node_dir(WIPED).join("store");
    running.nodes[WIPED].kill().unwrap();
    std::fs::remove_dir_all(&store).unwrap();
    let size = |running: &Running<'_>, index| running.gauge(index, "logseal_ledger_size_entries");
    while size(running, 0) < records {
        running.carry("fill", (records - size(running, 0)).clamp(1, 300_000));
    }
    let wanted = size(running, 0);
    let begun = Instant::now();
    running.nodes[WIPED] = running.site.spawn_node(WIPED, &["--rejoin"]).unwrap();
    while size(running, WIPED) < wanted {
        assert!(begun.elapsed() < LIMIT, "{}", running.nodes[WIPED].log_tail());
        std::thread::sleep(Duration::from_millis(20));
    }
    let (took, usage) = (begun.elapsed(), Usage::of(&running.nodes[WIPED]));
    let per_second = wanted as f64 / took.as_secs_f64();
    let us = usage.cpu_us_since(&Usage::default(), wanted);
    println!(
        "catch-up    {wanted} records in {:.1} s: {per_second:.0} records/s, {us:.2} µs a record, \
         at most {:.0} MiB",
        took.as_secs_f64(),
        mib(usage.peak),
    );
    vec![
        figure("catch_up_records_per_s", per_second.round()),
        figure("catch_up_records", wanted as f64),
        figure("catch_up_us_per_record", us),
        figure("catch_up_rss_mib", mib(usage.peak)),
    ]
}
