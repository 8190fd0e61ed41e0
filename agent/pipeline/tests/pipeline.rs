//! The pipeline from chunks to batches that a ledger would take.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

use logseal_pipeline::{
    Extractor, Format, LogPosition, Now, Outgoing, Pipeline, PositionChange, RecordSettings,
    Sealing, SourceSettings,
    extract::UserTable,
    line::{
        Bookmark, Chunk, ChunkOrigin, FileId, FilePosition, Fingerprint, Keep, LineSpan,
        SourceEvent, SourceId, Ticket,
    },
};
use proptest::prelude::*;
use record::{
    Origin, UnixMillis, UnixSeconds,
    batch::{Codec, LogState},
    crypto::SigningKey,
    entry::restore,
    merkle::Frontier,
};
use zeroize::Zeroizing;

const SEALING: Sealing = Sealing {
    linger_ms: 50,
    max_records: 100,
    max_bytes: 1 << 20,
    answer_ms: 1,
    heartbeat_ms: 60_000,
};

fn now(ms: u64) -> Now {
    Now { monotonic_ms: ms, wall: UnixMillis(1_795_248_147_000 + ms) }
}

fn key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([4; 32]))
}

fn origin() -> Origin {
    "l.example/x".parse().unwrap()
}

fn pipeline(sealing: Sealing) -> Pipeline {
    let source = |name: &str, format, syslog| {
        let format = Extractor::new(format, &UserTable::default()).unwrap();
        SourceSettings { name: name.into(), format, syslog }
    };
    let sources = vec![source("kong", Format::Kong, false), source("syslog", Format::Raw, true)];
    pipeline_of(sources, sealing)
}

fn pipeline_of(sources: Vec<SourceSettings>, sealing: Sealing) -> Pipeline {
    let settings = RecordSettings {
        agent: "gw01".parse().unwrap(),
        enterprise: Default::default(),
        host: "gw01".into(),
        sources,
    };
    let log = LogPosition { frontier: Frontier::default(), sealed: UnixSeconds(0) };
    Pipeline::new(settings, sealing, origin(), key(), log, now(0))
}

fn file() -> FileId {
    FileId { device: 1, inode: 2, fingerprint: Fingerprint::of(b"x") }
}

fn chunk(lines: &[&[u8]]) -> Chunk {
    let (mut bytes, mut spans) = (vec![], vec![]);
    for line in lines {
        let start = bytes.len() as u32;
        bytes.extend_from_slice(line);
        let end = bytes.len() as u32;
        bytes.push(b'\n');
        spans.push(LineSpan { start, end, next: end + 1 });
    }
    Chunk {
        source: SourceId(0),
        bytes,
        lines: spans,
        origin: ChunkOrigin::File { file: file(), base: 1000 },
        received: UnixMillis(7),
        bookmark: None,
        ticket: None,
    }
}

fn syslog(lines: &[&[u8]]) -> SourceEvent {
    let origin = ChunkOrigin::Sender { peer: Some("web01".into()), transport: None };
    SourceEvent::Chunk(Chunk { source: SourceId(1), origin, ..chunk(lines) })
}

fn drain(pipeline: &mut Pipeline) -> Vec<Outgoing> {
    std::iter::from_fn(|| pipeline.poll_sealed()).collect()
}

/// Opens batches as a ledger does and gives back the entries.
fn entries(outgoing: &[Outgoing]) -> Vec<Vec<u8>> {
    let mut state =
        LogState { key: key().public(), frontier: Frontier::default(), sealed: UnixSeconds(0) };
    let (mut codec, mut all) = (Codec::default(), vec![]);
    for out in outgoing {
        let (batch, mut scratch) = (out.sealed.batch.clone(), vec![]);
        let verified = batch.clone().open(&origin(), &state, &mut codec, &mut scratch).unwrap();
        assert_eq!(verified.leaves(), out.sealed.leaves);
        state.frontier = verified.after().clone();
        state.sealed = batch.seal.time;
        let ranges = codec.unpack(&batch, &mut scratch).unwrap();
        all.extend(ranges.into_iter().map(|range| scratch[range].to_vec()));
    }
    all
}

#[test]
fn a_batch_is_sealed_when_it_has_lingered_and_no_earlier() {
    let mut p = pipeline(SEALING);
    p.handle_event(SourceEvent::Chunk(chunk(&[b"a", b"b"])), now(10));
    p.handle_time(now(59));
    assert!(p.poll_sealed().is_none());
    assert_eq!(p.deadline_ms(), 60);
    p.handle_time(now(60));
    let out = drain(&mut p);
    assert_eq!(out.len(), 1);
    let reached = FilePosition { file: file(), offset: 1004 };
    assert_eq!(out[0].positions, [PositionChange::Reached(SourceId(0), reached)]);
    assert_eq!(p.deadline_ms(), 60 + 60_000);
    p.handle_time(now(60_060));
    let heartbeat = drain(&mut p);
    assert_eq!(heartbeat[0].sealed.batch.count, 0);
}

#[test]
fn a_full_batch_is_sealed_in_the_middle_of_a_chunk_with_the_position_it_reached() {
    let mut p = pipeline(SEALING);
    let lines: Vec<&[u8]> = vec![b"x"; 250];
    p.handle_event(SourceEvent::Chunk(chunk(&lines)), now(0));
    p.handle_stop(now(1));
    let out = drain(&mut p);
    let counts: Vec<u32> = out.iter().map(|o| o.sealed.batch.count).collect();
    assert_eq!(counts, [100, 100, 50]);
    let PositionChange::Reached(_, position) = out[0].positions[0] else { panic!() };
    assert_eq!(position.offset, 1000 + 200);
    assert_eq!(entries(&out).len(), 250);
}

#[test]
fn a_clock_that_jumps_back_does_not_stop_the_log() {
    let mut p = pipeline(SEALING);
    let later = Now { monotonic_ms: 100, wall: UnixMillis(1_000_000_000_000) };
    p.handle_event(SourceEvent::Chunk(chunk(&[b"a"])), now(0));
    p.handle_stop(now(1));
    p.handle_event(SourceEvent::Chunk(chunk(&[b"b"])), later);
    p.handle_stop(later);
    let out = drain(&mut p);
    assert_eq!(entries(&out).len(), 2);
    assert_eq!(out[0].sealed.batch.seal.time, out[1].sealed.batch.seal.time);
}

#[test]
fn a_heartbeat_is_newer_than_the_seal_before_it_whatever_the_clock_does() {
    let mut p = pipeline(SEALING);
    p.handle_event(SourceEvent::Chunk(chunk(&[b"a"])), now(100));
    p.handle_time(now(1000));
    let first = drain(&mut p)[0].sealed.batch.seal.time;
    let frozen = Now { monotonic_ms: 62_000, ..now(1000) };
    p.handle_time(frozen);
    let jumped = Now { monotonic_ms: 130_000, ..now(0) };
    p.handle_time(jumped);
    let heartbeats = drain(&mut p);
    let times: Vec<_> = heartbeats.iter().map(|h| h.sealed.batch.seal.time.0).collect();
    assert_eq!(times, [first.0 + 1, first.0 + 2]);
    assert!(heartbeats.iter().all(|h| h.sealed.batch.count == 0));
}

#[test]
fn a_line_too_long_for_an_entry_is_split_and_no_byte_is_lost() {
    for len in [65_000, 70 << 10, 1 << 20, logseal_pipeline::MAX_LINE] {
        let line: Vec<u8> = (0..len).map(|i| (i * 7 % 256) as u8).filter(|b| *b != b'\n').collect();
        let mut p = pipeline(SEALING);
        p.handle_event(SourceEvent::Chunk(chunk(&[b"before", &line, b"after"])), now(0));
        p.handle_event(syslog(&[&line]), now(0));
        p.handle_stop(now(1));
        let entries = entries(&drain(&mut p));
        let mut restored: Vec<Vec<u8>> = vec![];
        for entry in &entries {
            let piece = restore(entry).unwrap();
            match piece.part {
                Some(part) if part.number.get() > 1 => {
                    restored.last_mut().unwrap().extend_from_slice(&piece.line);
                }
                _ => restored.push(piece.line),
            }
        }
        assert_eq!(restored.len(), 4);
        assert_eq!((&restored[0][..], &restored[2][..]), (&b"before"[..], &b"after"[..]));
        assert!(restored[1] == line && restored[3] == line, "{len}");
    }
}

#[test]
fn syslog_of_every_kind_is_kept_byte_for_byte() {
    let lines: [&[u8]; 7] = [
        b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \xef\xbb\xbf'su root' failed",
        b"<165>1 2003-10-11T22:14:15.003Z h app - ID47 [a@1 b=\"c\\]\"] msg ",
        b"<34>Oct 11 22:14:15 mymachine su[77]: 'su root' failed for lonvick",
        b"no priority at all",
        b"<34>1 broken [structured data",
        b"\x00\xff\xfe\x01 control",
        b"<999>x",
    ];
    let mut p = pipeline(SEALING);
    p.handle_event(syslog(&lines), now(0));
    p.handle_stop(now(1));
    let entries = entries(&drain(&mut p));
    for (entry, line) in entries.iter().zip(lines) {
        assert_eq!(restore(entry).unwrap().line, line);
    }
    insta::assert_snapshot!(
        entries
            .iter()
            .map(|e| String::from_utf8_lossy(e).into_owned())
            .collect::<Vec<_>>()
            .join("\n")
    );
}

#[test]
fn a_syslog_message_of_several_parts_has_the_fields_of_what_it_carries() {
    let kong = Extractor::new(Format::Kong, &UserTable::default()).unwrap();
    let source = SourceSettings { name: "devices".into(), format: kong, syslog: true };
    let json = format!(r#"{{"client_ip":"10.1.2.3","x":"{}"}}"#, "y".repeat(70_000));
    for head in ["<34>Oct 11 22:14:15 gw kong: ", "<34>1 - gw kong - - - "] {
        let message = format!("{head}{json}");
        let mut p = pipeline_of(vec![source.clone()], SEALING);
        p.handle_event(SourceEvent::Chunk(chunk(&[message.as_bytes()])), now(0));
        p.handle_stop(now(1));
        let entries = entries(&drain(&mut p));
        let has =
            |entry: &Vec<u8>| String::from_utf8_lossy(entry).contains("source.ip=\"10.1.2.3\"");
        assert_eq!(entries.iter().map(has).collect::<Vec<_>>(), [true, false]);
    }
}

proptest! {
    #[test]
    fn every_line_becomes_a_record_whatever_the_batching(
        lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..120),
        max_records in 1usize..20, max_bytes in 1usize..4000, per_chunk in 1usize..30,
    ) {
        let mut p = pipeline(Sealing { max_records, max_bytes, ..SEALING });
        for (at, lines) in lines.chunks(per_chunk).enumerate() {
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            p.handle_event(SourceEvent::Chunk(chunk(&lines)), now(at as u64 * 20));
        }
        p.handle_stop(now(10_000));
        let entries = entries(&drain(&mut p));
        let restored: Vec<Vec<u8>> = entries.iter().map(|e| restore(e).unwrap().line).collect();
        prop_assert_eq!(restored, lines);
    }
}

#[test]
fn a_bookmark_is_exact_for_each_batch_that_a_chunk_fills() {
    let mut p = pipeline(Sealing { max_records: 2, ..SEALING });
    let bookmark = |keep| Bookmark {
        key: b"web01/1".as_slice().into(),
        keep,
        data: b"abbccc".to_vec(),
        ends: vec![1, 3, 6],
    };
    let chunk = Chunk {
        bookmark: Some(bookmark(Keep::Tail(100))),
        ticket: Some(Ticket(9)),
        ..chunk(&[b"1", b"2", b"3"])
    };
    p.handle_event(SourceEvent::Chunk(chunk.clone()), now(10));
    assert_eq!(p.deadline_ms(), 11, "somebody waits for it");
    p.handle_time(now(11));
    let out = drain(&mut p);
    let marked = |out: &Outgoing| match &out.positions[1] {
        PositionChange::Marked(_, key, _, value) => (key.to_vec(), value.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(marked(&out[0]), (b"web01/1".to_vec(), b"abb".to_vec()));
    assert_eq!(marked(&out[1]), (b"web01/1".to_vec(), b"ccc".to_vec()));
    let tickets: Vec<_> = out.iter().map(|out| out.tickets.clone()).collect();
    assert_eq!(tickets, [vec![], vec![Ticket(9)]], "not before its last line is in a batch");
    let counts: Vec<_> = out.iter().map(|out| out.sources.clone()).collect();
    assert_eq!(counts, [[(SourceId(0), 2)], [(SourceId(0), 1)]]);

    let last = Chunk { bookmark: Some(bookmark(Keep::Last)), ..chunk };
    p.handle_event(SourceEvent::Chunk(last), now(20));
    p.handle_time(now(21));
    let out = drain(&mut p);
    assert_eq!((marked(&out[0]).1, marked(&out[1]).1), (b"bb".to_vec(), b"ccc".to_vec()));
}

#[test]
fn a_source_that_is_changed_while_it_runs_keeps_what_was_read_before() {
    let mut p = pipeline(SEALING);
    p.handle_event(SourceEvent::Chunk(chunk(&[b"a"])), now(1));
    let settings = |name: &str| SourceSettings {
        name: name.into(),
        format: Extractor::default(),
        syslog: false,
    };
    let configure = |source, name| SourceEvent::Configure {
        source: SourceId(source),
        settings: settings(name),
    };
    p.handle_event(configure(0, "renamed"), now(1));
    p.handle_event(configure(2, "third"), now(1));
    p.handle_event(SourceEvent::Chunk(chunk(&[b"b"])), now(1));
    p.handle_event(SourceEvent::Chunk(Chunk { source: SourceId(2), ..chunk(&[b"c"]) }), now(1));
    p.handle_stop(now(2));
    let entries = entries(&drain(&mut p));
    let sources = [" kong - - ", " renamed - - ", " third - - "];
    for (entry, source) in entries.iter().zip(sources) {
        let text = String::from_utf8_lossy(entry);
        assert!(text.contains(source), "{text}");
    }
    assert_eq!(entries.len(), 3);
}

#[test]
fn each_line_is_told_which_record_it_begins() {
    let mut pipeline = pipeline(SEALING);
    let long = vec![b'x'; 150_000];
    let numbers = pipeline.handle_lines(&chunk(&[b"a", &long, b"", b"b"]), now(0));
    let numbers: Vec<u64> = numbers.iter().map(|number| number.0).collect();
    assert_eq!(numbers, [0, 1, 4, 5, 6]);
    let lines: Vec<Vec<u8>> = (0..250u32).map(|n| n.to_string().into_bytes()).collect();
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let numbers = pipeline.handle_lines(&chunk(&lines), now(1));
    assert!(numbers.iter().map(|number| number.0).eq(6..=256), "across batches");
}
