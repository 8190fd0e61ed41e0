//! What a crash may do to bytes that were not yet acknowledged: lose them, keep them, keep some of them in any order.

use std::fs::{self, OpenOptions};
use std::path::Path;

use logseal_journal::{Seq, open_read_only, scan};

use crate::support::{
    assert_holds, base_of, copy, crash_image, open, payload, segments, unbuffered,
};

const CHUNK: usize = 16;

/// A journal whose first records are synced and the rest only written; still open, as at a crash.
fn interrupted(dir: &Path, synced: u64, unsynced: u64) -> (logseal_journal::Journal, Vec<Vec<u8>>) {
    let (mut journal, _) = open(dir, unbuffered(4096));
    let records = (0..synced + unsynced).map(|n| payload(n, 8)).collect::<Vec<_>>();
    for (n, record) in records.iter().enumerate() {
        if n as u64 == synced {
            journal.sync().unwrap();
        }
        journal.append(&[record]).unwrap();
    }
    (journal, records)
}

/// Opens an image as the next start would, and asserts what a crash must leave: a prefix that holds all that was
/// acknowledged, and a journal that goes on behind it, also when the next crash follows at once.
fn assert_recovers(image: &Path, acknowledged: u64, records: &[Vec<u8>]) -> u64 {
    let (mut journal, recovery) = open(image, unbuffered(4096));
    let next = recovery.next_seq.0;
    assert_eq!(recovery.damage, []);
    assert!((acknowledged..=records.len() as u64).contains(&next), "{next}");
    assert_holds(&journal.reader(), Seq(0), &records[..next as usize]);

    let again = tempfile::tempdir().unwrap();
    copy(image, again.path());
    assert_eq!(open_read_only(again.path()).unwrap().1.next_seq, Seq(next), "what was found stays");

    let mut longer = records[..next as usize].to_vec();
    // As long as the first record that was cut, so that what followed that one would follow this one, were it there.
    longer.push(payload(99, 8));
    assert_eq!(journal.append(&[&longer[next as usize]]).unwrap(), Seq(next));
    journal.sync().unwrap();
    let again = tempfile::tempdir().unwrap();
    copy(image, again.path());
    let (reader, recovery) = open_read_only(again.path()).unwrap();
    assert_eq!((recovery.damage.len(), recovery.torn), (0, None), "what was cut stays away");
    assert_holds(&reader, Seq(0), &longer);
    journal.close().unwrap();
    let (journal, recovery) = open(image, unbuffered(4096));
    assert_eq!((recovery.damage.len(), recovery.torn), (0, None));
    assert_holds(&journal.reader(), Seq(0), &longer);
    next
}

#[test]
fn a_lost_append_leaves_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let image = tempfile::tempdir().unwrap();
    let (journal, records) = interrupted(dir.path(), 4, 3);
    crash_image(dir.path(), image.path(), journal.durable(), CHUNK, || false);
    assert_eq!(assert_recovers(image.path(), 4, &records), 4);
}

#[test]
fn a_kept_but_unacknowledged_append_is_made_durable() {
    let dir = tempfile::tempdir().unwrap();
    let image = tempfile::tempdir().unwrap();
    let (journal, records) = interrupted(dir.path(), 4, 3);
    crash_image(dir.path(), image.path(), journal.durable(), CHUNK, || true);
    assert_eq!(assert_recovers(image.path(), 4, &records), 7);
}

#[test]
fn whatever_part_of_the_unacknowledged_tail_reached_the_disk_a_prefix_is_left() {
    for synced in [0, 1, 4] {
        let dir = tempfile::tempdir().unwrap();
        let (journal, records) = interrupted(dir.path(), synced, 3);
        for kept in 0..1_u32 << 6 {
            let image = tempfile::tempdir().unwrap();
            let mut chunk = 0;
            crash_image(dir.path(), image.path(), journal.durable(), CHUNK, || {
                chunk += 1;
                kept & (1 << (chunk - 1)) != 0
            });
            let whole_records = (kept | 1 << 6).trailing_ones().min(6) / 2;
            let next = assert_recovers(image.path(), synced, &records);
            assert_eq!(next, synced + u64::from(whole_records), "kept {kept:b}");
        }
    }
}

#[test]
fn a_last_segment_cut_anywhere_leaves_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), unbuffered(256));
    let records = (0..11).map(|n| payload(n, 20 + n as usize)).collect::<Vec<_>>();
    for record in &records {
        journal.append(&[record]).unwrap();
        journal.sync().unwrap();
    }
    journal.close().unwrap();
    let last = segments(dir.path()).pop().unwrap();
    let bytes = fs::read(&last).unwrap();
    let found = scan(&bytes, Seq(base_of(&last)));
    assert!(segments(dir.path()).len() > 1 && found.records.len() > 1);
    for length in 0..=bytes.len() {
        let image = tempfile::tempdir().unwrap();
        copy(dir.path(), image.path());
        let path = image.path().join(last.file_name().unwrap());
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length as u64).unwrap();
        let (mut journal, recovery) = open(image.path(), unbuffered(256));
        let ends = found.records.iter().skip(1).copied().chain([bytes.len() as u32 - 24]);
        let whole = ends.filter(|end| *end as usize <= length).count() as u64;
        assert_eq!(recovery.next_seq, Seq(found.base + whole), "cut at {length}");
        // A header is durable before its segment has a name, so that a header is missing is never a crash's doing.
        assert_eq!(recovery.damage.len(), usize::from(length < 32), "cut at {length}");
        assert_holds(&journal.reader(), Seq(0), &records[..recovery.next_seq.0 as usize]);
        journal.append(&[b"goes on"]).unwrap();
        journal.close().unwrap();
        let (journal, again) = open(image.path(), unbuffered(256));
        assert_eq!(again.damage, []);
        assert_eq!(journal.reader().read(recovery.next_seq).unwrap(), b"goes on");
    }
}

#[test]
fn a_segment_that_was_being_made_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), unbuffered(256));
    journal.append(&[b"one"]).unwrap();
    journal.close().unwrap();
    let unfinished = dir.path().join("00000000000000000001.new");
    let stranger = dir.path().join("notes.new");
    fs::write(&unfinished, [0; 100]).unwrap();
    fs::write(&stranger, b"not ours").unwrap();
    let (mut journal, recovery) = open(dir.path(), unbuffered(256));
    assert_eq!((recovery.next_seq, recovery.damage.len()), (Seq(1), 0));
    assert!(!unfinished.exists() && stranger.exists());
    journal.append(&[&payload(1, 250)]).unwrap();
    journal.close().unwrap();
}

#[test]
fn space_kept_by_a_crash_while_a_segment_was_sealed_is_returned_and_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), unbuffered(256));
    for n in 0..6 {
        journal.append(&[&payload(n, 60)]).unwrap();
    }
    journal.close().unwrap();
    let first = &segments(dir.path())[0];
    let used = first.metadata().unwrap().len();
    OpenOptions::new().write(true).open(first).unwrap().set_len(used + 200).unwrap();
    let (_, recovery) = open(dir.path(), unbuffered(256));
    assert_eq!((recovery.damage.len(), recovery.torn), (0, None));
    assert_eq!(first.metadata().unwrap().len(), used);
}

#[test]
fn a_release_that_a_crash_undid_brings_the_records_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let image = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), unbuffered(256));
    let records = (0..9).map(|n| payload(n, 60)).collect::<Vec<_>>();
    for record in &records {
        journal.append(&[record]).unwrap();
    }
    journal.sync().unwrap();
    copy(dir.path(), image.path());
    journal.release(Seq(9)).unwrap();
    assert!(journal.first_seq() > Seq(0));
    let (journal, recovery) = open(image.path(), unbuffered(256));
    assert_eq!((recovery.first_seq, recovery.damage.len()), (Seq(0), 0));
    assert_holds(&journal.reader(), Seq(0), &records);
}
