//! Full disks: sources are held back, batches are refused, reading goes on, nothing is lost.

use logseal::site::{AgentOptions, LedgerOptions};
use logseal_tests::{Running, faults::SmallDisk, file_source, wait_for};
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

/// Lines of 4 KiB that do not compress.
pub fn endless_noise() -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0_usize..).map(move |n| {
        let mut line = format!("{n} ").into_bytes();
        while line.len() < 4096 {
            let bytes = random().to_le_bytes();
            line.extend(bytes.iter().filter(|b| **b != b'\n'));
        }
        line
    })
}

/// So much of it that a few MiB of it fill a disk.
pub fn noise(mib: usize) -> Vec<Vec<u8>> {
    endless_noise().take(mib * 256).collect()
}

pub fn write(path: &Path, lines: &[Vec<u8>]) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    for line in lines {
        file.write_all(line).unwrap();
        file.write_all(b"\n").unwrap();
    }
}

fn all_there_once(running: &Running, lines: &[Vec<u8>]) {
    running.wait_records(lines.len());
    assert!(running.lines("plain") == lines, "every line once and in order");
}

fn options(site: &logseal::site::Site) -> AgentOptions {
    AgentOptions::new("gw01", file_source("plain", &site.path("plain.log"), "raw"))
}

#[test]
fn a_full_disk_at_the_agent_holds_its_sources_back_and_loses_nothing() {
    let (dir, site) = logseal_tests::new_site();
    let disk = SmallDisk::mount(&site.path("agent-disk"), 64);
    let running = Running::on(dir, site, LedgerOptions::default(), |site| AgentOptions {
        spool: Some("agent-disk/spool".into()),
        ..options(site)
    });
    let lines = noise(40);
    let log = running.site.path("plain.log");
    write(&log, &lines[..10]);
    running.wait_receipted(10);
    let ballast = disk.fill(0);
    write(&log, &lines[10..]);
    wait_for("the agent to say that its disk is full", || {
        running.agent.log_tail().contains("space").then_some(())
    });
    assert!(running.records().len() < lines.len());
    fs::remove_file(ballast).unwrap();
    all_there_once(&running, &lines);
}

#[test]
fn a_full_disk_at_the_ledger_refuses_batches_while_reading_goes_on() {
    let (dir, site) = logseal_tests::new_site();
    let disk = SmallDisk::mount(&site.path("ledger-disk"), 160);
    let ledger =
        LedgerOptions { store: "ledger-disk/store".into(), min_free_mib: 32, ..Default::default() };
    let running = Running::on(dir, site, ledger, options);
    let lines = noise(12);
    let log = running.site.path("plain.log");
    write(&log, &lines[..50]);
    running.wait_receipted(50);
    let ballast = disk.fill(16 << 20);
    wait_for("the node to refuse batches", || {
        running.ledger.log_tail().contains("disk is full").then_some(())
    });
    write(&log, &lines[50..]);
    wait_for("the agent to be told", || {
        running.agent.log_tail().contains("disk is full").then_some(())
    });
    assert_eq!(running.records().len(), 50, "reading goes on");
    fs::remove_file(ballast).unwrap();
    all_there_once(&running, &lines);
}
