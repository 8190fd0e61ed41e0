//! What happens to bytes long after they were acknowledged: it is named, and what was not hit stays readable.

use std::fs;
use std::path::{Path, PathBuf};

use logseal_journal::{Damage, DamageKind, Error, Reader, Recovery, Seq, open_read_only, scan};
use proptest::prelude::*;

use crate::support::{assert_holds, base_of, copy, open, payload, segments, unbuffered};

const RECORDS: u64 = 17;

/// Four segments, synced in groups of different sizes; still open.
fn journal(dir: &Path) -> (logseal_journal::Journal, Vec<Vec<u8>>) {
    let (mut journal, _) = open(dir, unbuffered(256));
    let records = (0..RECORDS).map(|n| payload(n, (n as usize * 11) % 37)).collect::<Vec<_>>();
    for (n, record) in records.iter().enumerate() {
        journal.append(&[record]).unwrap();
        if n % 3 == 1 {
            journal.sync().unwrap();
        }
    }
    journal.sync().unwrap();
    assert_eq!(segments(dir).len(), 4);
    (journal, records)
}

/// Asserts that each record is right, or named as damaged, or behind the end; and returns how many are damaged.
fn assert_named(reader: &Reader, recovery: &Recovery, records: &[Vec<u8>]) -> usize {
    let mut damaged = 0;
    for (n, record) in records.iter().enumerate() {
        let seq = Seq(n as u64);
        match reader.read(seq) {
            Ok(read) => assert_eq!(&read, record, "record {seq}"),
            Err(Error::Damaged(named)) => {
                assert!(recovery.damage.contains(&named), "record {seq}");
                assert!(named.first_seq <= seq && seq < named.last_seq);
                damaged += 1;
            }
            Err(Error::NotDurable { .. }) => assert!(seq >= recovery.next_seq, "record {seq}"),
            Err(error) => panic!("record {seq}: {error}"),
        }
    }
    let through = reader.iter(Seq(0)).filter(Result::is_ok).count();
    assert_eq!(
        through,
        recovery.next_seq.0 as usize - damaged,
        "an iteration reaches all that is left"
    );
    damaged
}

/// Flips each bit of each byte of each segment, one at a time.
fn for_each_flip(image: &Path, mut check: impl FnMut(&str, u64)) {
    for segment in segments(image) {
        let original = fs::read(&segment).unwrap();
        for bit in 0..original.len() * 8 {
            let mut bytes = original.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&segment, bytes).unwrap();
            check(&format!("bit {bit} of {}", segment.display()), base_of(&segment));
        }
        fs::write(&segment, original).unwrap();
    }
}

#[test]
fn after_a_clean_close_no_flipped_bit_goes_unnoticed_and_each_costs_one_record_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, records) = journal(dir.path());
    journal.close().unwrap();
    for_each_flip(dir.path(), |place, _| {
        let (reader, recovery) = open_read_only(dir.path()).unwrap();
        assert_eq!(recovery.next_seq, Seq(RECORDS), "{place}");
        assert_eq!(recovery.damage.len() + usize::from(recovery.torn.is_some()), 1, "{place}");
        assert!(assert_named(&reader, &recovery, &records) <= 1, "{place}");
    });
}

#[test]
fn after_a_crash_a_flipped_bit_is_named_unless_nothing_proves_its_record_durable() {
    let dir = tempfile::tempdir().unwrap();
    let image = tempfile::tempdir().unwrap();
    let (_journal, records) = journal(dir.path());
    copy(dir.path(), image.path());
    let last = segments(image.path()).pop().unwrap();
    let proven = scan(&fs::read(&last).unwrap(), Seq(base_of(&last))).proven;
    assert_eq!(proven, 14, "all but the last group are proven");
    assert!(base_of(&last) < 14, "by records, not by the segment");
    for_each_flip(image.path(), |place, base| {
        let (reader, recovery) = open_read_only(image.path()).unwrap();
        let torn = recovery.torn.is_some();
        assert_eq!(recovery.damage.len() + usize::from(torn), 1, "{place}");
        assert!(recovery.next_seq >= Seq(proven), "{place}");
        assert!(!torn || base == base_of(&last), "{place}");
        assert!(assert_named(&reader, &recovery, &records) <= 1, "{place}");
    });
}

/// Writes a journal, lets something happen to its closed files, and opens it twice: the damage is named both times,
/// and the journal goes on behind it.
fn after(change: impl Fn(&[PathBuf])) -> (Vec<Damage>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let (journal, records) = journal(dir.path());
    journal.close().unwrap();
    change(&segments(dir.path()));
    let (mut journal, recovery) = open(dir.path(), unbuffered(256));
    assert_eq!(recovery.next_seq, Seq(RECORDS));
    let damaged = assert_named(&journal.reader(), &recovery, &records);
    assert_eq!(journal.append(&[b"goes on"]).unwrap(), Seq(RECORDS));
    journal.close().unwrap();
    let (journal, again) = open(dir.path(), unbuffered(256));
    assert_eq!(again.damage, recovery.damage);
    assert_eq!(journal.reader().read(Seq(RECORDS)).unwrap(), b"goes on");
    (recovery.damage, damaged)
}

fn change_bytes(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_missing_segment_is_named_and_the_rest_stays() {
    let (damage, damaged) = after(|segments| fs::remove_file(&segments[1]).unwrap());
    assert_eq!((damage.len(), damage[0].kind), (1, DamageKind::Missing));
    assert_eq!(damaged as u64, damage[0].last_seq.0 - damage[0].first_seq.0);
    assert!(damaged > 1);
}

#[test]
fn an_emptied_segment_is_named_and_the_rest_stays() {
    for index in [0, 1] {
        let (damage, damaged) = after(|segments| fs::write(&segments[index], b"").unwrap());
        assert!(damage.iter().any(|damage| damage.kind == DamageKind::Missing) && damaged > 1);
    }
}

#[test]
fn a_segment_cut_short_at_a_record_is_named() {
    let (damage, damaged) = after(|segments| {
        let found = scan(&fs::read(&segments[0]).unwrap(), Seq(0));
        change_bytes(&segments[0], |bytes| bytes.truncate(*found.records.last().unwrap() as usize));
    });
    assert_eq!((damage.len(), damage[0].kind, damaged), (1, DamageKind::Missing, 1));
}

#[test]
fn records_are_found_without_their_segments_header() {
    let (damage, damaged) =
        after(|segments| change_bytes(&segments[1], |bytes| bytes[..32].fill(0xff)));
    assert_eq!((damage.len(), damage[0].kind, damaged), (1, DamageKind::Header, 0));
}

#[test]
fn a_sector_of_zeros_in_the_middle_is_damage_and_not_an_end() {
    let (damage, damaged) =
        after(|segments| change_bytes(&segments[1], |bytes| bytes[64..160].fill(0)));
    assert_eq!((damage.len(), damage[0].kind), (1, DamageKind::Bytes));
    assert!(damaged >= 1);
}

#[test]
fn a_segment_under_anothers_name_is_not_believed() {
    let (damage, damaged) = after(|segments| {
        fs::copy(&segments[0], &segments[1]).unwrap();
    });
    assert!(!damage.is_empty() && damaged > 1);
}

#[test]
fn a_strangers_file_does_not_hide_records() {
    let (damage, damaged) = after(|segments| {
        let stray = segments[0].with_file_name(format!("{:020}.seg", 2));
        fs::write(stray, b"not a segment").unwrap();
    });
    assert_eq!((damage.len(), damage[0].kind, damaged), (1, DamageKind::Header, 0));
}

#[test]
fn the_last_segments_header_is_restored_after_it_was_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, records) = journal(dir.path());
    journal.close().unwrap();
    change_bytes(&segments(dir.path())[3], |bytes| bytes[0] ^= 1);
    let (journal, recovery) = open(dir.path(), unbuffered(256));
    assert_eq!(recovery.damage[0].kind, DamageKind::Header);
    journal.close().unwrap();
    let (journal, recovery) = open(dir.path(), unbuffered(256));
    assert_eq!(recovery.damage, []);
    assert_holds(&journal.reader(), Seq(0), &records);
}

#[test]
fn a_damaged_mark_does_not_cost_the_records_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let image = tempfile::tempdir().unwrap();
    let options = unbuffered(4096);
    let records = (0..4).map(|n| payload(n, 40)).collect::<Vec<_>>();
    let (mut journal, _) = open(dir.path(), options);
    journal.append(&[&records[0]]).unwrap();
    journal.close().unwrap();
    let mark = segments(dir.path())[0].metadata().unwrap().len() as usize - 24;
    let (mut journal, _) = open(dir.path(), options);
    for record in &records[1..] {
        journal.append(&[record]).unwrap();
    }
    journal.sync().unwrap();
    copy(dir.path(), image.path());
    change_bytes(&segments(image.path())[0], |bytes| bytes[mark + 9] ^= 1);
    let (journal, recovery) = open(image.path(), options);
    assert_eq!((recovery.damage.len(), recovery.torn), (1, None));
    assert_eq!(recovery.damage[0].first_seq, recovery.damage[0].last_seq);
    assert_holds(&journal.reader(), Seq(0), &records);
}

#[test]
fn damage_that_happens_while_the_journal_is_open_is_named_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, records) = journal(dir.path());
    let reader = journal.reader();
    assert_holds(&reader, Seq(0), &records);
    let first = segments(dir.path())[0].clone();
    let original = fs::read(&first).unwrap();
    let offsets = scan(&original, Seq(0)).records;
    let (begin, end) = (offsets[1] as usize, offsets[2] as usize);
    for byte in begin..end {
        change_bytes(&first, |bytes| bytes[byte] ^= 1);
        let Err(Error::Damaged(named)) = reader.read(Seq(1)) else { panic!("read byte {byte}") };
        assert_eq!((&named.segment, named.offset), (&first, begin as u64));
        assert_eq!((named.first_seq, named.last_seq), (Seq(1), Seq(2)));
        assert_eq!(reader.read(Seq(0)).unwrap(), records[0]);
        assert_eq!(reader.read(Seq(2)).unwrap(), records[2]);
        fs::write(&first, &original).unwrap();
    }
    assert_holds(&reader, Seq(0), &records);
}

#[test]
fn a_segment_with_a_senseless_number_costs_neither_memory_nor_the_end_of_an_iteration() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = journal(dir.path());
    journal.close().unwrap();
    fs::write(dir.path().join(format!("{:020}.seg", u64::MAX / 2)), b"").unwrap();
    let (reader, recovery) = open_read_only(dir.path()).unwrap();
    assert!(!recovery.damage.is_empty());
    assert_eq!(reader.iter(Seq(0)).filter(Result::is_ok).count() as u64, RECORDS);
}

/// Something that happens to one of the files.
#[derive(Clone, Debug)]
enum Blow {
    Overwrite(prop::sample::Index, Vec<u8>),
    Truncate(prop::sample::Index),
    Extend(usize),
    Delete,
    /// It becomes a copy of another one.
    Replace(prop::sample::Index),
}

fn blow() -> impl Strategy<Value = Blow> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..12),
        (1..200_usize).prop_map(|length| vec![0; length]),
    ];
    prop_oneof![
        6 => (any::<prop::sample::Index>(), bytes).prop_map(|(at, bytes)| Blow::Overwrite(at, bytes)),
        1 => any::<prop::sample::Index>().prop_map(Blow::Truncate),
        1 => (1..300_usize).prop_map(Blow::Extend),
        1 => Just(Blow::Delete),
        1 => any::<prop::sample::Index>().prop_map(Blow::Replace),
    ]
}

fn strike(files: &[PathBuf], target: &Path, blow: &Blow) {
    // An earlier blow may have deleted it.
    let Ok(mut bytes) = fs::read(target) else { return };
    match blow {
        Blow::Overwrite(at, with) => {
            let at = at.index(bytes.len() + 1);
            let length = with.len().min(bytes.len() - at);
            bytes[at..at + length].copy_from_slice(&with[..length]);
        }
        Blow::Truncate(at) => bytes.truncate(at.index(bytes.len() + 1)),
        Blow::Extend(length) => bytes.resize(bytes.len() + length, 0),
        Blow::Delete => return fs::remove_file(target).unwrap(),
        Blow::Replace(with) => {
            bytes = fs::read(&files[with.index(files.len())]).unwrap_or_default()
        }
    }
    fs::write(target, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_the_files_no_wrong_record_is_read_and_writing_goes_on(
        blows in prop::collection::vec((any::<prop::sample::Index>(), blow()), 1..5),
        closed: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let image = tempfile::tempdir().unwrap();
        let (journal, records) = journal(dir.path());
        if closed {
            journal.close().unwrap();
        }
        copy(dir.path(), image.path());
        let files = segments(image.path());
        for (index, blow) in &blows {
            strike(&files, &files[index.index(files.len())], blow);
        }
        let (seen, audited) = open_read_only(image.path()).unwrap();
        assert_intact(&seen, &audited, &records);
        let (mut journal, recovery) = open(image.path(), unbuffered(256));
        prop_assert_eq!(&recovery, &audited);
        assert_intact(&journal.reader(), &recovery, &records);
        let seq = journal.append(&[b"goes on"]).unwrap();
        prop_assert_eq!(seq, recovery.next_seq);
        journal.close().unwrap();
        let (journal, again) = open(image.path(), unbuffered(256));
        prop_assert_eq!((again.next_seq, again.torn), (seq.next(), None));
        prop_assert_eq!(journal.reader().read(seq).unwrap(), b"goes on");
    }
}

/// Asserts that everything between first and next is either right or named, whatever else happened.
fn assert_intact(reader: &Reader, recovery: &Recovery, records: &[Vec<u8>]) {
    for seq in recovery.first_seq.0..recovery.next_seq.0 {
        match reader.read(Seq(seq)) {
            Ok(read) => assert_eq!(read, records[seq as usize], "record {seq}"),
            Err(Error::Damaged(named)) => assert!(recovery.damage.contains(&named), "record {seq}"),
            Err(error) => panic!("record {seq}: {error}"),
        }
    }
}
