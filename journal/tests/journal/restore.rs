//! Records that were damaged are put back from elsewhere.

use std::fs;

use logseal_journal::{DamageKind, Error, Extent, Journal, Look, Options, Seq};

use crate::support::{assert_holds, segments, unbuffered};

fn payload(n: u64) -> Vec<u8> {
    vec![n as u8; 10 + n as usize % 50]
}

fn journal_of(dir: &std::path::Path, count: u64) -> (Journal, Vec<Vec<u8>>) {
    let (mut journal, _) = Journal::open(dir, options()).unwrap();
    let records: Vec<Vec<u8>> = (0..count).map(payload).collect();
    for record in &records {
        journal.append(&[record]).unwrap();
        journal.sync().unwrap();
    }
    (journal, records)
}

fn options() -> Options {
    Options { look: Look::Last, ..unbuffered(1024) }
}

/// Puts back whatever a segment lacks, as one who has all the records would.
fn heal(journal: &mut Journal, records: &[Vec<u8>]) {
    for extent in journal.reader().segments() {
        let segment = journal.reader().load(extent).unwrap();
        if !segment.damage().is_empty() {
            let range = extent.first.0 as usize..extent.last.0 as usize;
            journal.restore(extent.first, &records[range]).unwrap();
        }
    }
}

#[test]
fn opening_reads_the_last_segment_only_and_damage_in_others_shows_when_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, records) = journal_of(dir.path(), 200);
    journal.close().unwrap();
    let files = segments(dir.path());
    let mut bytes = fs::read(&files[1]).unwrap();
    bytes[100] ^= 1;
    fs::write(&files[1], bytes).unwrap();
    let (journal, recovery) = Journal::open(dir.path(), options()).unwrap();
    assert_eq!((recovery.damage.len(), recovery.segments), (0, files.len()));
    assert_eq!((recovery.first_seq, recovery.next_seq), (Seq(0), Seq(200)));
    let damaged: Vec<Extent> = journal
        .reader()
        .segments()
        .into_iter()
        .filter(|extent| !journal.reader().load(*extent).unwrap().damage().is_empty())
        .collect();
    assert_eq!(damaged, [journal.reader().segments()[1]]);
    let lost = (0..200).filter(|n| journal.reader().read(Seq(*n)).is_err()).count();
    assert_eq!(lost, 1);
    for (n, record) in records.iter().enumerate() {
        match journal.reader().read(Seq(n as u64)) {
            Ok(read) => assert_eq!(read, *record),
            Err(Error::Damaged(damage)) => assert_eq!(damage.segment, files[1]),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn whatever_byte_of_a_sealed_segment_flips_it_is_found_and_healed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, records) = journal_of(dir.path(), 100);
    let file = segments(dir.path())[1].clone();
    let original = fs::read(&file).unwrap();
    for at in 0..original.len() {
        let mut bytes = original.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&file, &bytes).unwrap();
        let extent = journal.reader().segments()[1];
        assert!(!journal.reader().load(extent).unwrap().damage().is_empty(), "byte {at}");
        heal(&mut journal, &records);
        assert!(journal.reader().load(extent).unwrap().damage().is_empty(), "byte {at}");
        assert_holds(&journal.reader(), Seq(0), &records);
    }
    journal.close().unwrap();
    let (journal, recovery) =
        Journal::open(dir.path(), Options { look: Look::Everything, ..options() }).unwrap();
    assert_eq!(recovery.damage, []);
    assert_holds(&journal.reader(), Seq(0), &records);
}

#[test]
fn segments_that_were_deleted_are_made_again_at_the_front_in_the_middle_and_at_once() {
    for gone in [vec![0], vec![1], vec![0, 1, 2], vec![2, 4], vec![1, 2, 3]] {
        let dir = tempfile::tempdir().unwrap();
        let (journal, mut records) = journal_of(dir.path(), 200);
        journal.close().unwrap();
        let files = segments(dir.path());
        gone.iter().for_each(|at| fs::remove_file(&files[*at]).unwrap());
        let (mut journal, recovery) = Journal::open(dir.path(), options()).unwrap();
        if recovery.first_seq > Seq(0) {
            let missing = &records[..recovery.first_seq.0 as usize];
            let half = missing.len() / 2;
            journal.restore(Seq(half as u64), &missing[half..]).unwrap();
            journal.restore(Seq(0), &missing[..half]).unwrap();
        }
        heal(&mut journal, &records);
        assert_holds(&journal.reader(), Seq(0), &records);
        let next = journal.append(&[b"goes on"]).unwrap();
        journal.sync().unwrap();
        assert_eq!(next, Seq(200));
        records.push(b"goes on".to_vec());
        journal.close().unwrap();
        let everything = Options { look: Look::Everything, ..options() };
        let (journal, recovery) = Journal::open(dir.path(), everything).unwrap();
        assert_eq!((recovery.damage, recovery.first_seq), (vec![], Seq(0)));
        assert_holds(&journal.reader(), Seq(0), &records);
    }
}

#[test]
fn a_segment_that_is_being_written_is_ended_and_then_healed() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, records) = journal_of(dir.path(), 10);
    journal.close().unwrap();
    let file = segments(dir.path())[0].clone();
    let mut bytes = fs::read(&file).unwrap();
    bytes[60] ^= 4;
    fs::write(&file, bytes).unwrap();
    let (mut journal, recovery) = Journal::open(dir.path(), options()).unwrap();
    assert_eq!(recovery.damage.len(), 1);
    heal(&mut journal, &records);
    assert_holds(&journal.reader(), Seq(0), &records);
    journal.append(&[b"next"]).unwrap();
    assert_eq!(journal.sync().unwrap(), Seq(11));
}

#[test]
fn nothing_that_can_be_read_is_ever_replaced_by_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, mut records) = journal_of(dir.path(), 100);
    let extent = journal.reader().segments()[1];
    let (first, last) = (extent.first.0 as usize, extent.last.0 as usize);
    records[first + 2] = b"forged".to_vec();
    let refused = journal.restore(extent.first, &records[first..last]);
    assert!(matches!(refused, Err(Error::Conflict { seq, .. }) if seq.0 as usize == first + 2));
    let inside = journal.restore(Seq(extent.first.0 + 1), &[payload(extent.first.0 + 1)]);
    assert!(matches!(inside, Err(Error::Conflict { .. })));
    let beyond = journal.restore(Seq(100), &[b"never written".to_vec()]);
    assert!(matches!(beyond, Err(Error::NotDurable { .. })));
}

#[test]
fn offsets_kept_beside_a_segment_are_never_believed_against_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, records) = journal_of(dir.path(), 100);
    journal.close().unwrap();
    let kept = |n: usize| segments(dir.path())[n].with_extension("idx");
    // Another segment's, a damaged one, an empty one, none.
    fs::copy(kept(1), kept(0)).unwrap();
    let mut bytes = fs::read(kept(1)).unwrap();
    bytes[45] ^= 1;
    fs::write(kept(1), bytes).unwrap();
    fs::write(kept(2), b"").unwrap();
    fs::remove_file(kept(3)).unwrap();
    let (mut journal, _) = Journal::open(dir.path(), options()).unwrap();
    assert_holds(&journal.reader(), Seq(0), &records);
    journal.release(Seq(100)).unwrap();
    let left = fs::read_dir(dir.path()).unwrap().filter(|file| {
        file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "idx")
    });
    assert_eq!(left.count(), 0, "they go with their segments");
}

#[test]
fn a_segment_that_was_cut_short_says_that_records_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = journal_of(dir.path(), 100);
    journal.close().unwrap();
    let file = segments(dir.path())[0].clone();
    let bytes = fs::read(&file).unwrap();
    for length in 0..bytes.len() {
        fs::write(&file, &bytes[..length]).unwrap();
        let (journal, _) = Journal::open(dir.path(), options()).unwrap();
        let segment = journal.reader().load(journal.reader().segments()[0]).unwrap();
        let last = segment.damage().last().expect("it is damaged");
        assert!(matches!(last.kind, DamageKind::Missing | DamageKind::Bytes), "{length}: {last}");
        assert_eq!(
            segment.records().filter(|(_, record)| record.is_none()).count() as u64,
            last.last_seq.0 - last.first_seq.0
        );
    }
}

#[test]
fn segments_copied_up_to_any_record_are_a_journal_of_the_records_in_front_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, records) = journal_of(dir.path(), 60);
    let reader = journal.reader();
    for end in 1..=60 {
        let copy = tempfile::tempdir().unwrap();
        for extent in reader.segments().into_iter().filter(|extent| extent.first.0 < end) {
            let segment = reader.load(extent).unwrap();
            let name = format!("{:020}.seg", extent.first.0);
            fs::write(copy.path().join(name), segment.up_to(Seq(end)).unwrap()).unwrap();
        }
        let (copied, recovery) = Journal::open(copy.path(), options()).unwrap();
        assert!(recovery.damage.is_empty() && recovery.torn.is_none(), "{end}: {recovery:?}");
        let found: Vec<Vec<u8>> =
            copied.reader().iter(Seq(0)).map(|item| item.unwrap().1).collect();
        assert_eq!(found, records[..end as usize]);
    }
    let files = segments(dir.path());
    let mut bytes = fs::read(&files[1]).unwrap();
    bytes[100] ^= 1;
    fs::write(&files[1], bytes).unwrap();
    let segment = reader.load(reader.segments()[1]).unwrap();
    assert!(segment.up_to(Seq(60)).is_none() && !segment.raw().is_empty());
}
