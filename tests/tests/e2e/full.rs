//! Small file systems that are really full, at every fill level: whatever write comes next finds no space. Some rounds leave
//! a few bytes, others no room for new files; some fill the disk under a program that runs, others before it starts.

use crate::{
    disk::{endless_noise, write},
    failing::{small_segments, verify},
};
use logseal::{
    demo::Meter,
    site::{AgentOptions, LedgerOptions, Process, Site, free_ports},
};
use logseal_tests::{
    LIMIT, Running,
    cluster::{Dice, tell},
    faults::SmallDisk,
    file_source, new_site, wait_for,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const ROUNDS: usize = 24;
const DISK_MIB: u32 = 256;
/// Lines of a round: more than the disk ever has room for.
const LINES: usize = 700;
/// At most so many bytes are left.
const MOST_LEFT: u64 = 2 << 20;
/// How long the disk stays full.
const FULL: Duration = Duration::from_millis(600);

fn source(site: &Site) -> AgentOptions {
    AgentOptions::new("gw01", file_source("plain", &site.path("plain.log"), "raw"))
}

/// Shadow mode, with a report every second.
pub fn shadow(dir: &Path, port: u16) -> String {
    format!(
        "[shadow]\ndir = {dir:?}\nudp = \"127.0.0.1:{port}\"\nsettle_s = 1\nperiod_s = 1\nsources = [\"plain\"]\n"
    )
}

/// Takes the space away.
fn fill(disk: &SmallDisk, dice: &mut Dice) -> (String, PathBuf) {
    if dice.below(3) == 0 {
        let leave = dice.below(3);
        return (format!("{leave} files left"), disk.crowd(leave));
    }
    // Often next to nothing: then it is small writes that fail.
    let at_most = MOST_LEFT >> (4 * dice.below(4));
    let leave = dice.below(at_most);
    (format!("{leave} bytes left"), disk.fill(leave))
}

fn free(ballast: &Path) {
    match ballast.is_dir() {
        true => fs::remove_dir_all(ballast).unwrap(),
        false => fs::remove_file(ballast).unwrap(),
    }
}

/// How many records the programs count, each since its start.
fn counted(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or_default()
}

/// One of the programs of a site, which is to survive.
#[derive(Clone, Copy)]
struct Subject {
    of: fn(&mut Running) -> &mut Process,
    program: [&'static str; 3],
    /// Beneath which its files are.
    dir: &'static str,
    /// How many records there are in the ledger, as the other program counts them.
    records: fn(&Running) -> u64,
}

impl Subject {
    fn spawn(self, running: &mut Running) {
        let [program, config, log] = self.program;
        *(self.of)(running) = running.site.spawn(program, config, log).unwrap();
    }

    /// Lets it run on a full disk; true if that ended it. It then said where, and what to do.
    fn bear(self, running: &mut Running, from: usize, what: &str) -> bool {
        let (program, begun) = ((self.of)(running), Instant::now());
        while begun.elapsed() < FULL && program.is_running() {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        if program.is_running() {
            return false;
        }
        let said = program.log_text().split_off(from);
        let words =
            said.lines().rev().find(|line| line.starts_with("logseal-")).unwrap_or_default();
        let told = words.contains(self.dir) && words.contains("free space");
        assert!(told, "{what}: it ended and did not say where, and what to do: {said}");
        true
    }
}

/// Fills the disk of a running site, again and again; all that was written is in the ledger in the end, once.
fn survive(running: &mut Running, disk: &SmallDisk, subject: Subject, what: &str) {
    let mut dice = Dice::new(0x0f11);
    let (mut noise, mut lines) = (endless_noise(), Vec::new());
    let log = running.site.path("plain.log");
    let [mut ended, mut went_on, mut refused, mut waited] = [0; 4];
    for round in 0..ROUNDS {
        let starts = round % 4 == 3;
        if starts {
            (subject.of)(running).stop(LIMIT).unwrap();
        }
        let (how, ballast) = fill(disk, &mut dice);
        let said_before = (subject.of)(running).log_text().len();
        if starts {
            subject.spawn(running);
        }
        let more: Vec<Vec<u8>> = noise.by_ref().take(LINES).collect();
        write(&log, &more);
        lines.extend(more);
        let over = subject.bear(running, said_before, &format!("round {round}, {how}"));
        // One that goes on may be killed, too, in the middle of waiting for space.
        let killed = !over && round % 5 == 2;
        if killed {
            (subject.of)(running).kill().unwrap();
        }
        let said = (subject.of)(running).log_text().split_off(said_before);
        waited += usize::from(!over && said.contains("the disk is full"));
        free(&ballast);
        match (over, starts) {
            (true, true) => refused += 1,
            (true, false) => ended += 1,
            (false, _) => went_on += 1,
        }
        if over || killed {
            subject.spawn(running);
        }
        wait_for(&format!("round {round}, {how}: all lines"), || {
            let process = (subject.of)(running);
            assert!(process.is_running(), "round {round}, {how}: {}", process.log_tail());
            ((subject.records)(running) >= lines.len() as u64).then_some(())
        });
    }
    assert!(running.lines("plain") == lines, "every line once and in order");
    assert!(ended + refused + waited > ROUNDS / 2, "the disk was full indeed: {waited}");
    tell(&format!(
        "{what} on a small disk: {ROUNDS} rounds, {ended} ended it, {refused} did not let it start, {went_on} did not stop \
         it, and in {waited} of these it waited; {} lines, 0 lost, 0 twice",
        lines.len()
    ));
}

#[test]
fn a_node_bears_a_disk_that_is_full_at_any_write() {
    let (dir, site) = new_site();
    let disk = SmallDisk::mount(&site.path("node-disk"), DISK_MIB);
    // Nothing warns the node: other programs may fill a disk at any moment.
    let ledger =
        LedgerOptions { store: "node-disk/store".into(), min_free_mib: 0, ..Default::default() };
    let mut running = Running::on(dir, site, ledger, source);
    small_segments(&running.site);
    let subject = Subject {
        of: |running| &mut running.ledger,
        program: ["logseal-ledger", "ledger.toml", "ledger.log"],
        dir: "/node-disk/",
        records: |running| {
            let text = running.meter().text().unwrap_or_default();
            counted(&text, "logseal_agent_records_receipted_total ")
        },
    };
    survive(&mut running, &disk, subject, "a node");
    running.ledger.stop(LIMIT).unwrap();
    verify(&running.site.path("node-disk/store"));
}

#[test]
fn an_agent_bears_a_disk_that_is_full_at_any_write() {
    let (dir, site) = new_site();
    let disk = SmallDisk::mount(&site.path("agent-disk"), DISK_MIB);
    let [port] = free_ports().unwrap();
    // Everything that an agent keeps: spool, socket, the reports of shadow mode.
    let agent = |site: &Site| AgentOptions {
        spool: Some("agent-disk/spool".into()),
        extra: shadow(&site.path("agent-disk/shadow"), port),
        ..source(site)
    };
    let mut running = Running::on(dir, site, LedgerOptions::default(), agent);
    let subject = Subject {
        of: |running| &mut running.agent,
        program: ["logseal-agent", "gw01.toml", "gw01.log"],
        dir: "/agent-disk/",
        records: |running| {
            let node = Meter::new(running.site.ledger_metrics_port);
            counted(&node.text().unwrap_or_default(), "logseal_ledger_records_total ")
        },
    };
    survive(&mut running, &disk, subject, "an agent");
    assert!(running.site.path("agent-disk/shadow").read_dir().unwrap().count() > 0, "reports");
}
