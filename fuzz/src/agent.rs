//! What an agent reads: syslog framing, log lines, and the way from a line to the ledger.

use crate::{agent, key, origin};
use pipeline::{
    Extractor, Format, LogPosition, Now, Pipeline, RecordSettings, Sealing, SourceSettings, Syntax,
    extract::{UserTable, Wanted},
    line::{Chunk, ChunkOrigin, LineSpan, SourceEvent, SourceId},
    shadow::{Matcher, Ours, Report, Settings},
};
use record::{
    UnixMillis, UnixSeconds,
    batch::{Codec, LogState},
    entry::{Entry, restore},
    merkle::Frontier,
};
use std::sync::LazyLock;

/// The frames do not depend on how the input was cut into reads.
pub fn syslog_frames(data: &[u8]) {
    pipeline::frame::check_any_cut(data);
}

/// RELP's frames do not depend on how the input was cut into reads.
pub fn relp(data: &[u8]) {
    pipeline::relp::frame::check_any_cut(data);
}

/// Log lines of every format.
pub fn extract(data: &[u8]) {
    for format in Format::ALL {
        let access = extractor(format).extract(data);
        assert!(access.fields.iter().all(|(_, value)| !value.is_empty()));
        if let Some(time) = access.time {
            assert_eq!(time.to_string().len(), 24, "a time that a header can hold");
        }
    }
}

/// Whatever both sides say, every line is counted once. The first byte of each line chooses the
/// side and the syntax, and lets time pass.
pub fn shadow(data: &[u8]) {
    let settings = Settings { period_s: 60, settle_ms: 1000, max_pending: 30, examples: 3 };
    let at = |ms: u64| Now { monotonic_ms: ms, wall: UnixMillis(1_795_248_147_000 + ms) };
    let (mut matcher, mut ms) = (Matcher::new(settings, at(0)), 0);
    let lines = data.split(|byte| *byte == b'\n').filter_map(<[u8]>::split_first);
    for (record, (choice, line)) in (0..).zip(lines) {
        ms += u64::from(choice >> 3) * 80;
        matcher.advance(at(ms));
        let format = extractor(Format::Kong);
        let syntax = [Syntax::Plain, Syntax::Syslog, Syntax::Journal, Syntax::Otlp];
        let syntax = syntax[usize::from(choice >> 1 & 3)];
        let source = SourceSettings { name: "kong".into(), format, syntax };
        let ours = Ours { line, source: &source, record, end: record + 1 };
        match choice & 1 {
            0 => matcher.theirs(line, at(ms)),
            _ => matcher.ours(&ours, at(ms)),
        }
        assert!(matcher.open().all(Report::adds_up));
        while let Some(report) = matcher.poll_settled() {
            assert!(report.adds_up());
            let _ = report.to_string();
        }
    }
}

/// The format, prepared once: that takes longer than most lines.
fn extractor(format: Format) -> Extractor {
    static ALL: LazyLock<Vec<Extractor>> =
        LazyLock::new(|| Format::ALL.into_iter().map(prepare).collect());
    ALL.iter().find(|extractor| extractor.format() == format).expect("all are there").clone()
}

/// The format as predefined, or with a few fields where it has none.
fn prepare(format: Format) -> Extractor {
    let mut user = UserTable::default();
    let places = |from: &str| vec![Wanted::from(from)];
    match format {
        Format::Json => {
            user.fields.insert("user.id".into(), places("/a/0"));
            user.fields.insert("purpose".into(), places("/headers/x~1y"));
        }
        Format::Regex => {
            user.pattern = Some(r"(?<who>\w+) (?<path>/\S*)".into());
            user.fields.insert("user.id".into(), places("who"));
            user.fields.insert("url.path".into(), places("path"));
        }
        _ => {}
    }
    Extractor::new(format, &user).expect("a right table")
}

/// Requests of OpenTelemetry's exporters. What is read of protobuf is JSON that is read the same.
pub fn otlp(data: &[u8]) {
    let _ = pipeline::otlp::from_json(data);
    let Ok(lines) = pipeline::otlp::from_protobuf(data) else { return };
    for span in &lines.spans {
        let line = span.of(&lines.bytes);
        let again = pipeline::otlp::from_json(line).expect("OTLP's JSON mapping");
        assert_eq!(again.bytes, line);
    }
}

/// Every line becomes records that a ledger takes, and comes back from them. The first byte
/// chooses the source.
pub fn pipeline(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let source = |name: &str, format, syntax| {
        let format = extractor(format);
        SourceSettings { name: name.into(), format, syntax }
    };
    let sources = vec![
        source("syslog", Format::Raw, Syntax::Syslog),
        source("syslog-kong", Format::Kong, Syntax::Syslog),
        source("kong", Format::Kong, Syntax::Plain),
        source("nginx", Format::NginxCombined, Syntax::Plain),
        source("journal", Format::Kong, Syntax::Journal),
        source("otlp", Format::Kong, Syntax::Otlp),
    ];
    let chosen = SourceId(u16::from(*choice) % sources.len() as u16);
    let settings = RecordSettings {
        agent: agent(),
        enterprise: Default::default(),
        host: "gw01".into(),
        sources,
    };
    let sealing = Sealing {
        linger_ms: 50,
        max_records: 16,
        max_bytes: 1 << 16,
        answer_ms: 1,
        heartbeat_ms: 60_000,
    };
    let now = Now { monotonic_ms: 0, wall: UnixMillis(1_795_248_147_000) };
    let log = LogPosition { frontier: Frontier::default(), sealed: UnixSeconds(0) };
    let mut pipeline = Pipeline::new(settings, sealing, origin(), key(), log, now);
    let (chunk, lines) = chunk(chosen, rest);
    pipeline.handle_event(SourceEvent::Chunk(chunk), now);
    pipeline.handle_stop(now);
    let mut state =
        LogState { key: key().public(), frontier: Frontier::default(), sealed: UnixSeconds(0) };
    let (mut codec, mut bundle, mut restored) = (Codec::default(), Vec::new(), Vec::new());
    while let Some(outgoing) = pipeline.poll_sealed() {
        let batch = outgoing.sealed.batch;
        let verified = batch.clone().open(&origin(), &state, &mut codec, &mut bundle);
        let verified = verified.expect("a ledger takes what an agent seals");
        state.frontier = verified.after().clone();
        state.sealed = batch.seal.time;
        for range in codec.unpack(&batch, &mut bundle).expect("it was opened") {
            let entry = &bundle[range];
            Entry::parse(entry).expect("an entry");
            let piece = restore(entry).expect("a record");
            match piece.part {
                Some(part) if part.number.get() > 1 => {
                    let last: &mut Vec<u8> = restored.last_mut().expect("a first part");
                    last.extend_from_slice(&piece.line);
                }
                _ => restored.push(piece.line),
            }
        }
    }
    assert_eq!(restored, lines);
}

fn chunk(source: SourceId, bytes: &[u8]) -> (Chunk, Vec<Vec<u8>>) {
    let (mut lines, mut spans, mut at) = (Vec::new(), Vec::new(), 0);
    for line in bytes.split(|byte| *byte == b'\n') {
        let end = at + line.len() as u32;
        spans.push(LineSpan { start: at, end, next: end + 1 });
        lines.push(line.to_vec());
        at = end + 1;
    }
    let origin = ChunkOrigin::Sender { peer: Some("web01".into()), transport: None };
    let bytes = [bytes, b"\n"].concat();
    (
        Chunk {
            source,
            bytes,
            lines: spans,
            origin,
            received: UnixMillis(7),
            bookmark: None,
            ticket: None,
        },
        lines,
    )
}
