//! An rsyslog that carries the same lines: file → mutual TLS (OpenSSL), with a queue that goes to
//! the disk when it is full → file.
//!
//! How full it must be decides how much of a burst goes to the disk, and with it the figures. So
//! it is measured with rsyslog's own settings and with those of the drop-in that the project ships.

use crate::LIMIT;
use logseal::site::Site;
use logseal_tests::{
    figures::{Usage, write_corpus},
    rsyslog_pair::{Output, Pair},
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

pub use logseal_tests::rsyslog_pair::Queue;

const WARM_UP: u64 = 5_000;

/// How long a whole round may take, at most. With its own settings, 8.2302 now and then leaves the last
/// lines of a burst in its queue for good.
const ROUND_LIMIT: Duration = Duration::from_secs(30);
/// Rounds that are tried until one carries all lines.
const TRIES: usize = 5;

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
    let Pair { mut sender, mut receiver, mut output } = Pair::start(site, &dir, queue);
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
    let wanted = output.count() + lines;
    let begun = Instant::now();
    std::fs::rename(&hidden, dir.join(format!("logs/{name}.log"))).unwrap();
    while output.count() < wanted {
        if begun.elapsed() > ROUND_LIMIT {
            return Err(wanted - output.count());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(begun.elapsed())
}
