//! The batch of the worked examples in `docs/formats.md`, made of its lines by the pipeline.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

#[path = "../../../record/tests/support/fixture.rs"]
mod fixture;

use fixture::Fixtures;
use logseal_pipeline::{
    Extractor, Format, LogPosition, Now, Pipeline, RecordSettings, Sealing, SourceSettings,
    extract::UserTable,
    line::{Chunk, ChunkOrigin, FileId, Fingerprint, LineSpan, SourceEvent, SourceId},
};
use record::{
    UnixMillis, UnixSeconds,
    batch::{Codec, SealedBatch},
    crypto::SigningKey,
    merkle::Frontier,
};
use zeroize::Zeroizing;

const RECEIVED: UnixMillis = UnixMillis(1_795_255_347_180);

fn pipeline(now: Now) -> Pipeline {
    let source = |name: &str, format, syslog| {
        let format = Extractor::new(format, &UserTable::default()).unwrap();
        SourceSettings { name: name.into(), format, syslog }
    };
    let settings = RecordSettings {
        agent: "gw01".parse().unwrap(),
        enterprise: Default::default(),
        host: "gw01".into(),
        sources: vec![source("kong", Format::Kong, false), source("syslog", Format::Raw, true)],
    };
    let sealing = Sealing {
        linger_ms: 50,
        max_records: 100,
        max_bytes: 1 << 20,
        answer_ms: 1,
        heartbeat_ms: 60_000,
    };
    let key = SigningKey::from_seed(&Zeroizing::new([4; 32]));
    let log = LogPosition { frontier: Frontier::default(), sealed: UnixSeconds(0) };
    let origin = "ledger.city.example/access".parse().unwrap();
    Pipeline::new(settings, sealing, origin, key, log, now)
}

fn chunk(source: u16, origin: ChunkOrigin, line: Vec<u8>) -> SourceEvent {
    let end = line.len() as u32;
    let lines = vec![LineSpan { start: 0, end, next: end }];
    SourceEvent::Chunk(Chunk {
        source: SourceId(source),
        bytes: line,
        lines,
        origin,
        received: RECEIVED,
        bookmark: None,
        ticket: None,
    })
}

#[test]
fn the_documented_lines_become_the_documented_batch() {
    let pinned = Fixtures::seen_from(env!("CARGO_MANIFEST_DIR"), "../../record");
    let now = Now { monotonic_ms: 0, wall: RECEIVED };
    let mut pipeline = pipeline(now);
    let file = FileId { device: 1, inode: 2, fingerprint: Fingerprint::of(b"x") };
    let sender = || ChunkOrigin::Sender { peer: Some("web01".into()), transport: None };
    let tailed = ChunkOrigin::File { file, base: 0 };
    pipeline.handle_event(chunk(0, tailed, pinned.read("line-kong")), now);
    pipeline.handle_event(chunk(1, sender(), pinned.read("line-rfc5424")), now);
    pipeline.handle_event(chunk(1, sender(), pinned.read("line-rfc3164")), now);
    pipeline.handle_stop(now);
    let mut made = pipeline.poll_sealed().unwrap().sealed.batch;

    let kept = SealedBatch::decode(&pinned.read_hex("batch.hex")).unwrap();
    let (mut codec, mut ours, mut theirs) = (Codec::default(), vec![], vec![]);
    codec.unpack(&made, &mut ours).unwrap();
    codec.unpack(&kept, &mut theirs).unwrap();
    assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs));
    // The same records may be compressed in more ways than one.
    made.compressed.clone_from(&kept.compressed);
    assert_eq!(made, kept);
}
