//! Opening, closing, reading, releasing: nothing goes wrong here.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use logseal_journal::{Error, Journal, MAX_RECORD_BYTES, Options, Seq, open_read_only};

use crate::support::{assert_holds, copy, open, payload, segments, unbuffered};

#[test]
fn records_survive_a_clean_close_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = Vec::new();
    for round in 0..5 {
        let (mut journal, recovery) = open(dir.path(), unbuffered(512));
        assert_eq!(recovery.next_seq, Seq(records.len() as u64));
        assert_eq!((recovery.damage.len(), recovery.torn), (0, None));
        for n in 0..7 {
            records.push(payload(n, (round * 31 + n as usize * 13) % 90));
            let (head, tail) =
                records[records.len() - 1].split_at(records[records.len() - 1].len() / 3);
            assert_eq!(journal.append(&[head, &[], tail]).unwrap(), Seq(records.len() as u64 - 1));
        }
        assert_eq!(journal.sync().unwrap(), journal.next_seq());
        assert_holds(&journal.reader(), Seq(0), &records);
        journal.close().unwrap();
    }
    assert_holds(&open(dir.path(), Options::default()).0.reader(), Seq(0), &records);
}

#[test]
fn dropping_keeps_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), Options::default()).0.append(&[b"kept"]).unwrap();
    assert_eq!(open(dir.path(), Options::default()).0.reader().read(Seq(0)).unwrap(), b"kept");
}

#[test]
fn a_closed_journal_takes_no_more_space_than_its_records() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), unbuffered(1024));
    for n in 0..20 {
        journal.append(&[&payload(n, 100)]).unwrap();
    }
    journal.close().unwrap();
    let size =
        || segments(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum::<u64>();
    let closed = size();
    assert!(closed < 20 * 128 + 3 * 32 + 24 + 1, "{closed}");
    let (journal, _) = open(dir.path(), unbuffered(1024));
    assert_eq!(journal.bytes(), closed);
    journal.close().unwrap();
    assert_eq!(size(), closed, "opening and closing alone adds nothing");
}

#[test]
fn a_record_is_readable_once_synced_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Options::default());
    let reader = journal.reader();
    journal.append(&[b"one"]).unwrap();
    assert!(matches!(reader.read(Seq(0)), Err(Error::NotDurable { .. })));
    let mut records = reader.iter(Seq(0));
    assert!(records.next().is_none());
    journal.sync().unwrap();
    assert_eq!(records.next().unwrap().unwrap(), (Seq(0), b"one".to_vec()));
    assert!(records.next().is_none());
    assert!(matches!(reader.read(Seq(u64::MAX)), Err(Error::NotDurable { .. })));
}

#[test]
fn records_larger_than_a_segment_are_kept_up_to_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 256,
        max_record_bytes: 300_000,
        buffer_bytes: 1024,
        ..Options::default()
    };
    let lengths = [300_000, 10, 100_000, 0, 250, 200, 224, 300_000];
    let records = lengths.map(|length| payload(length as u64, length)).to_vec();
    let (mut journal, _) = open(dir.path(), options);
    for record in &records {
        journal.append(&[record]).unwrap();
    }
    let refused = journal.append(&[&[0; 300_000], &[0]]);
    assert!(matches!(refused, Err(Error::TooLarge { length: 300_001, limit: 300_000 })));
    journal.sync().unwrap();
    assert_holds(&journal.reader(), Seq(0), &records);
    journal.close().unwrap();
    let smaller = Options { max_record_bytes: 10, ..options };
    assert_holds(&open(dir.path(), smaller).0.reader(), Seq(0), &records);
}

#[test]
fn released_records_go_and_numbers_stay() {
    let dir = tempfile::tempdir().unwrap();
    let options = unbuffered(256);
    let records = (0..20).map(|n| payload(n, 60)).collect::<Vec<_>>();
    let (mut journal, _) = open(dir.path(), options);
    for record in &records {
        journal.append(&[record]).unwrap();
    }
    assert!(matches!(journal.release(Seq(20)), Err(Error::NotDurable { .. })));
    journal.sync().unwrap();
    let before = journal.bytes();
    journal.release(Seq(11)).unwrap();
    let first = journal.first_seq();
    assert!(first > Seq(0) && first <= Seq(11), "{first}");
    assert!(journal.bytes() < before);
    let reader = journal.reader();
    let released = reader.read(Seq(0));
    assert!(matches!(released, Err(Error::Released { first: named, .. }) if named == first));
    let mut iter = reader.iter(Seq(0));
    assert!(matches!(iter.next(), Some(Err(Error::Released { .. }))));
    assert_eq!(iter.next().unwrap().unwrap().0, first);
    journal.close().unwrap();

    let (mut journal, recovery) = open(dir.path(), options);
    assert_eq!((recovery.first_seq, recovery.next_seq), (first, Seq(20)));
    assert_holds(&journal.reader(), first, &records[first.0 as usize..]);
    journal.release(Seq(20)).unwrap();
    assert_eq!(segments(dir.path()).len(), 1);
    journal.close().unwrap();
    assert_eq!(open(dir.path(), options).0.next_seq(), Seq(20));
}

#[test]
fn a_second_writer_is_refused_and_an_auditor_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Options::default());
    journal.append(&[b"one"]).unwrap();
    journal.sync().unwrap();
    let refused = Journal::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(&refused, Error::Locked { dir: named } if named == dir.path()));
    assert!(refused.to_string().contains(dir.path().to_str().unwrap()));
    assert_eq!(open_read_only(dir.path()).unwrap().0.read(Seq(0)).unwrap(), b"one");
    drop(journal);
    open(dir.path(), Options::default());
}

#[test]
fn nobody_else_can_look_into_a_journal() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("journal");
    let (mut journal, _) = open(&dir, Options::default());
    journal.append(&[b"private"]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("LOCK")), 0o600);
    assert_eq!(mode(&segments(&dir)[0]), 0o600);
}

#[test]
fn an_auditor_changes_nothing_not_even_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let image = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), unbuffered(256));
    for n in 0..6 {
        journal.append(&[&payload(n, 50)]).unwrap();
    }
    copy(dir.path(), image.path());
    let last = segments(image.path()).pop().unwrap();
    let length = last.metadata().unwrap().len();
    let file = OpenOptions::new().write(true).open(&last).unwrap();
    file.set_len(length - 250 + 60).unwrap();
    let contents = || {
        segments(image.path())
            .into_iter()
            .map(|path| (fs::read(&path).unwrap(), path))
            .collect::<Vec<_>>()
    };
    let before = contents();
    let (_, recovery) = open_read_only(image.path()).unwrap();
    assert_eq!((recovery.next_seq, recovery.damage.len()), (Seq(4), 0));
    assert!(recovery.torn.is_some());
    assert_eq!(contents(), before);
    assert_eq!(fs::read_dir(image.path()).unwrap().count(), before.len());
}

#[test]
fn an_auditor_sees_a_journal_that_is_being_written_without_a_false_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 4096,
        max_record_bytes: 4096,
        buffer_bytes: 128,
        ..Options::default()
    };
    let (mut journal, _) = open(dir.path(), options);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            for n in 0..1500 {
                journal.append(&[&payload(n, n as usize % 200)]).unwrap();
                if n % 5 == 0 {
                    journal.sync().unwrap();
                }
                if n % 50 == 0 {
                    journal.release(Seq(n.saturating_sub(300))).unwrap();
                }
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let (reader, recovery) = open_read_only(dir.path()).unwrap();
            assert_eq!(recovery.damage, []);
            for record in reader.iter(reader.first_seq()) {
                match record {
                    Ok((seq, bytes)) => assert_eq!(bytes, payload(seq.0, seq.0 as usize % 200)),
                    Err(Error::Io { source, .. }) => {
                        assert_eq!(source.kind(), std::io::ErrorKind::NotFound)
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
}

#[test]
fn readers_on_other_threads_follow_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), unbuffered(1024));
    let reader = journal.reader();
    thread::scope(|scope| {
        for _ in 0..2 {
            let reader = reader.clone();
            scope.spawn(move || {
                let mut records = reader.iter(Seq(0));
                let mut seen = 0;
                while seen < 400 {
                    match records.next() {
                        Some(Ok((seq, bytes))) => {
                            assert_eq!((seq.0, bytes), (seen, payload(seen, 70)));
                            seen += 1;
                        }
                        Some(Err(error)) => panic!("{error}"),
                        None => thread::yield_now(),
                    }
                }
            });
        }
        for n in 0..400 {
            journal.append(&[&payload(n, 70)]).unwrap();
            journal.sync().unwrap();
        }
    });
}

#[test]
fn options_out_of_bounds_are_refused_before_anything_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    for options in [
        Options { segment_bytes: 127, ..Options::default() },
        Options { segment_bytes: 1 << 40, ..Options::default() },
        Options { max_record_bytes: MAX_RECORD_BYTES + 1, ..Options::default() },
        Options { buffer_bytes: 1 << 30, ..Options::default() },
    ] {
        assert!(matches!(Journal::open(&path, options), Err(Error::Options { .. })));
    }
    assert!(!path.exists());
}

#[test]
fn a_journal_of_a_newer_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Options::default());
    journal.append(&[b"one"]).unwrap();
    journal.close().unwrap();
    let path = &segments(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    fs::write(path, &bytes).unwrap();
    let refused = Journal::open(dir.path(), Options::default());
    assert!(matches!(refused, Err(Error::Version { found: 2, .. })));
    assert_eq!(fs::read(path).unwrap(), bytes);
}

#[test]
fn a_journal_goes_on_where_it_is_told_to() {
    for before in [0, 1, 9] {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path(), unbuffered(256));
        for n in 0..before {
            journal.append(&[&payload(n, 50)]).unwrap();
        }
        journal.skip_to(Seq(before)).unwrap();
        assert_eq!(journal.next_seq(), Seq(before), "there already");
        journal.skip_to(Seq(40)).unwrap();
        assert_eq!((journal.first_seq(), journal.durable()), (Seq(40), Seq(40)));
        assert_eq!(segments(dir.path()).len(), 1);
        assert!(matches!(journal.reader().read(Seq(3)), Err(Error::Released { .. })));
        let records: Vec<Vec<u8>> = (0..20).map(|n| payload(n, 60)).collect();
        for (at, record) in (40..).zip(&records) {
            assert_eq!(journal.append(&[record]).unwrap(), Seq(at));
        }
        journal.close().unwrap();
        let (journal, recovery) = open(dir.path(), unbuffered(256));
        assert_eq!((recovery.first_seq, recovery.damage.len()), (Seq(40), 0));
        assert_holds(&journal.reader(), Seq(40), &records);
    }
}

#[test]
fn a_journal_that_was_interrupted_on_its_way_is_told_again() {
    let (dir, before) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut journal, _) = open(dir.path(), unbuffered(256));
    for n in 0..9 {
        journal.append(&[&payload(n, 50)]).unwrap();
    }
    journal.sync().unwrap();
    copy(dir.path(), before.path());
    journal.skip_to(Seq(40)).unwrap();
    journal.close().unwrap();
    // What was deleted is there again, as if it had not come to that.
    for path in segments(before.path()) {
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let (mut journal, _) = open(dir.path(), unbuffered(256));
    assert_eq!((journal.first_seq(), journal.next_seq()), (Seq(0), Seq(40)));
    journal.skip_to(Seq(40)).unwrap();
    assert_eq!((journal.first_seq(), segments(dir.path()).len()), (Seq(40), 1));
}
