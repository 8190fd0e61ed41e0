//! How long receipts stop when a node is killed: the one the agent uses, and the next proposer.

use crate::{Figures, cluster::Running, figure};
use logseal_tests::figures::write_lines;
use std::time::{Duration, Instant};

const RATE: u64 = 1000;
/// Before the kill, until the node is started again, and after that.
const PHASES: [Duration; 3] =
    [Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(5)];
/// How often the agent's counter is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The longest stalls.
pub fn measure(running: &mut Running<'_>) -> Figures {
    let used = running.used_node();
    let agents = kill(running, used, "the agent's node");
    let proposer = running.proposer().expect("some node answers");
    let of_proposer = kill(running, proposer, "the next proposer");
    vec![
        figure("longest_stall_ms", agents.max(of_proposer)),
        figure("stall_ms_agents_node", agents),
        figure("stall_ms_proposer", of_proposer),
    ]
}

/// Kills a node under load and starts it again; the longest time without a receipt, in
/// milliseconds.
fn kill(running: &mut Running<'_>, index: usize, who: &str) -> f64 {
    let count = RATE * PHASES.iter().map(Duration::as_secs).sum::<u64>();
    let already = running.meter().read().unwrap().receipted;
    let name = running.site.node_name(index);
    let writer =
        write_lines(running.site.path(format!("logs/kill-{name}-{already}.log")), RATE, count);
    let before = longest_gap(running, PHASES[0]);
    running.nodes[index].kill().unwrap();
    let without = longest_gap(running, PHASES[1]);
    running.nodes[index] = running.site.spawn_node(index, &[]).unwrap();
    let after = longest_gap(running, PHASES[2]);
    running.nodes[index].wait_ready(crate::LIMIT).unwrap();
    writer.join().unwrap();
    running.meter().wait_receipted(already + count, crate::LIMIT).unwrap();
    running.wait_agreed();
    println!(
        "stall       {without:.0} ms when {name}, {who}, is killed; {before:.0} ms before it, \
         {after:.0} ms when it comes back; {RATE} records/s"
    );
    without.max(after)
}

/// Watches receipts for so long; the longest time in which none came, in milliseconds.
fn longest_gap(running: &Running<'_>, time: Duration) -> f64 {
    let (meter, begun) = (running.meter(), Instant::now());
    let (mut known, mut at, mut longest) = (meter.read().unwrap().receipted, begun, Duration::ZERO);
    while begun.elapsed() < time {
        let receipted = meter.read().unwrap().receipted;
        if receipted > known {
            longest = longest.max(at.elapsed());
            (known, at) = (receipted, Instant::now());
        }
        std::thread::sleep(LOOK);
    }
    longest.max(at.elapsed()).as_secs_f64() * 1000.0
}
