//! The segment that `docs/formats.md` shows.

use std::fs;

use logseal_journal::Options;

use crate::{
    fixture::Fixtures,
    support::{open, segments},
};

#[test]
fn a_segment_of_today_is_read_in_ten_years() {
    let pinned = Fixtures::seen_from(env!("CARGO_MANIFEST_DIR"), "../record");
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Options::default());
    journal.append(&[b"abc"]).unwrap();
    journal.sync().unwrap();
    journal.append(&[b"defghijkl"]).unwrap();
    journal.close().unwrap();
    let made = fs::read(&segments(dir.path())[0]).unwrap();
    pinned.pin_hex("journal-segment.hex", &made);

    fs::write(&segments(dir.path())[0], pinned.read_hex("journal-segment.hex")).unwrap();
    let (journal, recovery) = open(dir.path(), Options::default());
    assert!(recovery.damage.is_empty() && recovery.torn.is_none());
    let reader = journal.reader();
    let records: Vec<Vec<u8>> =
        reader.iter(logseal_journal::Seq(0)).map(|r| r.unwrap().1).collect();
    assert_eq!(records, [&b"abc"[..], b"defghijkl"]);
}
