//! A file system without space, which is made for the purpose.

use std::fs;
use std::path::Path;
use std::process::Command;

use logseal_journal::{Error, Journal, Options, Seq};
use tempfile::TempDir;

use crate::support::{assert_holds, open, payload, segments};

/// A file system of 1 MiB in memory.
struct Small {
    dir: TempDir,
}

impl Small {
    fn mount() -> Small {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let mount =
            mount.args(["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"]).arg(dir.path()).output();
        let mount = mount.expect("the tests of a full disk need the program `mount`");
        assert!(
            mount.status.success(),
            "the tests of a full disk mount a tmpfs: run them as root, or in a container with CAP_SYS_ADMIN ({})",
            String::from_utf8_lossy(&mount.stderr).trim()
        );
        Small { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves this many bytes free, more or less.
    fn fill(&self, left: usize) {
        let ballast = self.path().join("ballast");
        // Fails when it has filled everything, which is what is wanted.
        let _ = fs::write(&ballast, vec![1; 2 << 20]);
        let length = ballast.metadata().unwrap().len();
        fs::OpenOptions::new()
            .write(true)
            .open(ballast)
            .unwrap()
            .set_len(length - left as u64)
            .unwrap();
    }

    fn make_space(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "cannot unmount {}",
            self.path().display()
        );
    }
}

fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        max_record_bytes: 1 << 20,
        buffer_bytes: 4096,
        ..Options::default()
    }
}

/// Appends until the disk is full; returns what was accepted.
fn append_until_full(journal: &mut Journal) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    loop {
        let record = payload(records.len() as u64, 1000);
        match journal.append(&[&record]) {
            Ok(_) => records.push(record),
            Err(Error::Full { .. }) => return records,
            Err(error) => panic!("{error}"),
        }
        assert!(records.len() < 2000, "the disk is larger than it should be");
    }
}

#[test]
fn a_full_disk_costs_nothing_accepted_and_writing_goes_on_when_there_is_space() {
    let disk = Small::mount();
    let dir = disk.path().join("journal");
    let (mut journal, _) = open(&dir, options());
    let mut records = append_until_full(&mut journal);
    assert!(records.len() > 500, "{}", records.len());
    assert_eq!(journal.sync().unwrap(), Seq(records.len() as u64));
    assert!(matches!(journal.append(&[&[1; 1000]]), Err(Error::Full { .. })));
    assert_holds(&journal.reader(), Seq(0), &records);
    let unfinished = fs::read_dir(&dir).unwrap().filter(|entry| {
        entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "new")
    });
    assert_eq!(unfinished.count(), 0, "what was half made is gone");

    journal.release(Seq(300)).unwrap();
    let first = journal.first_seq();
    records.push(payload(7, 1000));
    assert_eq!(journal.append(&[&payload(7, 1000)]).unwrap(), Seq(records.len() as u64 - 1));
    journal.sync().unwrap();
    assert_holds(&journal.reader(), first, &records[first.0 as usize..]);
    journal.close().unwrap();
    let (journal, recovery) = open(&dir, options());
    assert_eq!((recovery.damage.len(), recovery.torn), (0, None));
    assert_holds(&journal.reader(), first, &records[first.0 as usize..]);
}

#[test]
fn a_start_on_a_full_disk_reads_and_releases_and_writes_when_there_is_space() {
    let disk = Small::mount();
    let dir = disk.path().join("journal");
    let (mut journal, _) = open(&dir, options());
    let records = (0..100).map(|n| payload(n, 1000)).collect::<Vec<_>>();
    for record in &records {
        journal.append(&[record]).unwrap();
    }
    journal.close().unwrap();
    for left in [0, 20 << 10] {
        disk.fill(left);
        let (mut journal, recovery) = open(&dir, options());
        assert_eq!((recovery.damage.len(), recovery.torn), (0, None));
        let before = segments(&dir).last().unwrap().metadata().unwrap().len();
        assert!(matches!(journal.append(&[b"refused"]), Err(Error::Full { .. })));
        assert_eq!(segments(&dir).last().unwrap().metadata().unwrap().len(), before);
        assert_holds(&journal.reader(), Seq(0), &records);
        journal.close().unwrap();
        disk.make_space();
    }
    disk.fill(0);
    let (mut journal, _) = open(&dir, options());
    journal.release(Seq(100)).unwrap();
    assert!(journal.first_seq() > Seq(0));
    assert_eq!(journal.append(&[b"accepted"]).unwrap(), Seq(100));
    journal.close().unwrap();
    disk.make_space();
    assert_eq!(open(&dir, options()).0.reader().read(Seq(100)).unwrap(), b"accepted");
}

#[test]
fn a_first_record_that_finds_no_space_is_refused_and_can_come_again() {
    let disk = Small::mount();
    let dir = disk.path().join("journal");
    let (mut journal, _) = open(&dir, options());
    disk.fill(20 << 10);
    assert!(matches!(journal.append(&[b"one"]), Err(Error::Full { .. })));
    assert_eq!(segments(&dir).len(), 0);
    disk.make_space();
    journal.append(&[b"one"]).unwrap();
    journal.sync().unwrap();
    assert_eq!(journal.reader().read(Seq(0)).unwrap(), b"one");
}
