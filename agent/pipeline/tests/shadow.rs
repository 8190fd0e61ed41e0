//! Shadow mode against a naive model, and against what relays do to lines.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

use logseal_pipeline::{
    Extractor, Format, Now, SourceSettings, Syntax,
    shadow::{Matcher, Ours, Report, Settings, Side, State, Verdict, table},
};
use proptest::prelude::*;
use record::UnixMillis;

const SETTLE: u64 = 1000;
const START: u64 = 1_795_248_000_000;

fn settings() -> Settings {
    Settings { period_s: 3600, settle_ms: SETTLE, max_pending: 1000, examples: 5 }
}

fn now(ms: u64) -> Now {
    Now { monotonic_ms: 1_000_000 + ms, wall: UnixMillis(START + ms) }
}

/// A line as a gateway writes it: what tells it from others is in the middle.
fn line(id: u64) -> String {
    let unique = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!(
        r#"{{"request":{{"method":"GET","uri":"/v1/household/{unique:016x}","id":"{:016x}"}},"user":"職員","time":{}}}"#,
        unique.rotate_left(29),
        START + id
    )
}

fn source(syslog: bool, format: Format) -> SourceSettings {
    let format = Extractor::new(format, &Default::default()).unwrap();
    let syntax = if syslog { Syntax::Syslog } else { Syntax::Plain };
    SourceSettings { name: "kong".into(), format, syntax }
}

fn message(line: &str) -> String {
    format!("<134>Nov 21 08:00:00 gw01 kong: {line}\n")
}

struct World {
    matcher: Matcher,
    record: u64,
    at: u64,
}

impl World {
    fn new(settings: Settings) -> Self {
        World { matcher: Matcher::new(settings, now(0)), record: 0, at: 0 }
    }

    fn wait(&mut self, ms: u64) {
        self.at += ms;
        self.matcher.advance(now(self.at));
    }

    fn ours(&mut self, line: &str) {
        self.ours_of(&source(false, Format::Raw), line);
    }

    fn ours_of(&mut self, source: &SourceSettings, line: &str) {
        let (record, end) = (self.record, self.record + 1);
        self.record = end;
        self.matcher.ours(&Ours { line: line.as_bytes(), source, record, end }, now(self.at));
    }

    fn theirs(&mut self, message: &str) {
        self.matcher.theirs(message.as_bytes(), now(self.at));
    }

    /// The report of the first period, when all is decided and in the ledger.
    fn end(mut self) -> Report {
        self.matcher.receipted(self.record);
        self.wait(3 * SETTLE);
        self.at = self.at.max(3_600_000);
        self.wait(3 * SETTLE);
        let report = self.matcher.poll_settled().unwrap();
        check(&report);
        assert_eq!(report.state, State::Final);
        report
    }
}

fn check(report: &Report) {
    assert!(report.adds_up(), "{report:#?}");
}

#[test]
fn every_fault_of_the_old_way_is_named_with_its_line() {
    let mut world = World::new(settings());
    for id in 0..100 {
        let line = line(id);
        world.ours(&line);
        match id {
            10 | 11 => {}
            20 => (0..3).for_each(|_| world.theirs(&message(&line))),
            30 => world.theirs(&message(&line)[..130]),
            40 => world.theirs(&message(&line.replacen("GET", "PUT", 1))),
            50 => world.theirs(&message(&line.replace('職', "???").replace('員', "?"))),
            60 => world.theirs(&format!("<134>Nov:21-gw01 {line}")),
            70 => world.theirs("<134>Nov 21 08:00:00 gw01 sshd: Accepted publickey for root"),
            _ => world.theirs(&message(&line)),
        }
        world.wait(7);
    }
    world.theirs(&message(&line(70)));
    let report = world.end();
    assert_eq!((report.sealed.lines, report.delivered, report.lost), (100, 94, 2));
    assert_eq!((report.duplicated, report.only_there), (2, 1));
    let altered = &report.altered;
    assert_eq!((altered.truncated, altered.encoded, altered.other), (1, 1, 2));
    let records = |examples: &[logseal_pipeline::shadow::Example]| -> Vec<Option<u64>> {
        examples.iter().map(|example| example.record).collect()
    };
    assert_eq!(records(&report.examples.lost), [Some(10), Some(11)]);
    assert_eq!(records(&report.examples.altered), [30, 40, 50, 60].map(Some));
    assert!(report.examples.altered[0].change.as_ref().unwrap().starts_with("cut to "));
    assert!(report.examples.only_there[0].old_feed.as_ref().unwrap().contains("publickey"));
    let (page, json) = (report.to_string(), serde_json::to_string(&report).unwrap());
    assert!(page.contains("LOST by the old way") && page.contains("record 10"), "{page}");
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    let verdict = Verdict::of(&[report]);
    assert!(!verdict.is_clean());
    assert!(verdict.old_way().contains("lost 2 of 100 lines (2.0 %)"), "{}", verdict.old_way());
    assert!(verdict.switch().contains("1 line came by the old way only"), "{}", verdict.switch());
}

#[test]
fn control_characters_that_rsyslog_escaped_are_told_from_those_in_the_line() {
    let mut world = World::new(settings());
    world.theirs(&message("a#011b"));
    world.ours("a\tb");
    world.ours("a#011b");
    world.theirs(&message("a#011b"));
    world.ours("tab\t\r");
    world.theirs(&message("tab#011#015"));
    world.ours("stripped\tby the relay");
    world.theirs(&message("stripped by the relay"));
    let report = world.end();
    assert_eq!((report.altered.escaped, report.delivered), (3, 1));
}

/// An entry of the journal, and a log record of OpenTelemetry, with a line as their message.
fn told(line: &str) -> [(Syntax, String); 2] {
    let text = serde_json::to_string(line).unwrap();
    let time = START * 1000;
    let journal = format!(r#"{{"__REALTIME_TIMESTAMP":"{time}","_PID":"7","MESSAGE":{text}}}"#);
    let record = format!(r#"{{"timeUnixNano":"{time}000","body":{{"stringValue":{text}}}}}"#);
    let otlp = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}"#);
    [(Syntax::Journal, journal), (Syntax::Otlp, otlp)]
}

#[test]
fn of_the_journal_and_of_log_records_the_message_is_what_the_old_way_must_deliver() {
    for nth in 0..2 {
        let mut world = World::new(settings());
        let says = |id: u64| told(&line(id))[nth].clone();
        let source = SourceSettings { syntax: says(0).0, ..source(false, Format::Raw) };
        (0..5).for_each(|id| world.ours_of(&source, &says(id).1));
        for delivered in [line(0), line(1)[..99].to_owned(), line(2), line(2)] {
            world.theirs(&message(&delivered));
        }
        world.theirs(&message(&line(3).replacen("GET", "PUT", 1)));
        // What has no text could not be sent by the old way.
        world.ours_of(&source, r#"{"_PID":"7"}"#);
        let report = world.end();
        assert_eq!((report.delivered, report.lost, report.duplicated), (2, 1, 1), "{report}");
        assert_eq!((report.altered.truncated, report.altered.other), (1, 1), "{report}");
        assert_eq!((report.only_there, report.not_compared.reasons.empty), (0, 1), "{report}");
        let lost = report.examples.lost[0].sealed.clone().unwrap();
        assert!(line(4).starts_with(lost.trim_end_matches('…')), "{lost}");
    }
}

#[test]
fn an_entry_that_is_read_long_after_it_was_written_is_blamed_on_nobody() {
    for (syntax, text) in told("no time but the journal's or the exporter's own") {
        let mut world = World::new(settings());
        world.at = 2 * SETTLE;
        let source = SourceSettings { syntax, ..source(false, Format::Raw) };
        world.ours_of(&source, &text);
        let report = world.end();
        assert_eq!((report.lost, report.not_compared.reasons.behind), (0, 1), "{report}");
    }
}

#[test]
fn a_feed_of_thousands_of_identical_lines_is_counted_exactly() {
    let mut world = World::new(Settings { max_pending: 100_000, ..settings() });
    (0..20_000).for_each(|_| world.ours("GET /health"));
    (0..19_990).for_each(|_| world.theirs(&message("GET /health")));
    let report = world.end();
    assert_eq!((report.delivered, report.lost, report.duplicated), (19_990, 10, 0));
}

#[test]
fn what_we_missed_ourselves_is_blamed_on_nobody() {
    let mut world = World::new(settings());
    (0..10).for_each(|id| world.ours(&line(id)));
    world.matcher.missed(Side::OldFeed, 7, now(world.at));
    world.wait(5 * SETTLE);
    (20..30).for_each(|id| world.theirs(&message(&line(id))));
    world.matcher.missed(Side::Sealed, 4, now(world.at));
    world.wait(5 * SETTLE);
    world.matcher.behind(now(world.at));
    (30..40).for_each(|id| world.theirs(&message(&line(id))));
    (40..50).for_each(|id| world.ours(&line(id)));
    let report = world.end();
    assert_eq!((report.lost, report.only_there), (3, 6));
    assert_eq!(report.old_feed.dropped_here, 7);
    let not = &report.not_compared;
    assert_eq!((not.reasons.missed_here, not.reasons.behind), (7 + 4 + 4, 20));
    assert!(report.to_string().contains("listener dropped 7 messages"));
}

#[test]
fn what_was_read_long_after_it_was_written_is_blamed_on_nobody() {
    let mut world = World::new(settings());
    let settle_s = SETTLE / 1000;
    for (record, age_s) in (0..).zip([0, settle_s - 1, settle_s + 2, 3600]) {
        let written = record::UnixSeconds(START / 1000 - age_s);
        let line = format!("<13>1 {written} gw01 kong - - - a line that was written {age_s} s ago");
        let source = source(true, Format::Raw);
        let ours = Ours { line: line.as_bytes(), source: &source, record, end: record + 1 };
        world.matcher.ours(&ours, now(0));
    }
    world.record = 4;
    let report = world.end();
    assert_eq!((report.lost, report.not_compared.reasons.behind), (2, 2));
}

#[test]
fn what_exceeds_the_bound_is_counted_and_accuses_nobody() {
    let mut world = World::new(Settings { max_pending: 10, ..settings() });
    (0..30).for_each(|id| world.ours(&line(id)));
    (0..30).for_each(|id| world.theirs(&message(&line(id))));
    let report = world.end();
    assert_eq!((report.delivered, report.lost, report.only_there), (10, 0, 0));
    assert_eq!(report.not_compared.reasons.too_many, 40);
}

#[test]
fn a_pair_counts_in_the_hour_in_which_the_line_was_sealed() {
    let mut world = World::new(settings());
    world.at = 3_600_000 - 1;
    world.ours(&line(1));
    world.wait(10);
    world.theirs(&message(&line(1)));
    world.theirs(&message(&line(2)));
    world.wait(10);
    world.ours(&line(2));
    world.wait(3 * SETTLE);
    let first = world.matcher.poll_settled().unwrap();
    check(&first);
    assert_eq!((first.delivered, first.lost, first.old_feed.lines), (1, 0, 1));
    assert_eq!((first.state, first.sealed.waiting), (State::Settled, 1));
    assert_eq!(world.matcher.poll_settled(), None, "the second hour goes on");
    world.matcher.receipted(2);
    assert_eq!(world.matcher.poll_receipted(), Some((first.start_s, 1)));
    let mut first = first;
    first.receipted(1);
    assert_eq!((first.state, first.sealed.in_ledger), (State::Final, 1));
}

#[test]
fn an_hour_goes_on_after_a_restart_and_says_so() {
    let mut world = World::new(settings());
    world.ours(&line(1));
    world.theirs(&message(&line(1)));
    world.ours(&line(2));
    let mut report = world.matcher.open().next().unwrap().clone();
    report.interrupt("2026-11-21T08:10:00Z".to_owned());
    let mut again = World::new(settings());
    again.matcher.resume(report);
    again.record = 2;
    again.ours(&line(3));
    let report = again.end();
    assert_eq!((report.sealed.lines, report.delivered, report.lost), (3, 1, 1));
    assert_eq!((report.not_compared.reasons.interrupted, report.sealed.in_ledger), (1, 3));
    assert!(report.to_string().contains("started again at 2026-11-21T08:10:00Z"));
}

#[test]
fn a_manager_reads_the_verdict_and_nothing_is_claimed_without_grounds() {
    let report = |delivered, lost| Report {
        period_s: 3600,
        sealed: logseal_pipeline::shadow::Sealed {
            lines: delivered + lost,
            in_ledger: delivered + lost,
            ..Default::default()
        },
        old_feed: logseal_pipeline::shadow::Feed { lines: delivered, ..Default::default() },
        delivered,
        lost,
        state: State::Final,
        ..Report::default()
    };
    let says = |report: Report| {
        let verdict = Verdict::of(&[report]);
        format!("{} {}", verdict.old_way(), verdict.switch())
    };
    let lossy = says(report(97_106, 1204));
    assert!(
        lossy.starts_with("In 1 hour the old way lost 1,204 of 98,310 lines (1.2 %)"),
        "{lossy}"
    );
    assert!(lossy.contains("switching loses nothing"));
    assert!(says(report(1_000_000, 1)).contains("(less than 0.1 %)"));
    assert!(says(report(5, 0)).contains("lost none of 5 lines"));
    let nothing = says(report(0, 5));
    assert!(nothing.contains("delivered nothing at all") && !nothing.contains("lost"), "{nothing}");
    assert!(says(Report::default()).contains("nothing to compare"));
    let table = table(&[report(10, 0), report(20, 1)]);
    assert!(table.contains("all") && table.contains("lost 1 of 31 lines"), "{table}");
}

/// What one side says at one time.
#[derive(Clone, Copy, Debug)]
struct Event {
    side: Side,
    id: u64,
    wait: u64,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let side = prop::sample::select(&[Side::Sealed, Side::OldFeed][..]);
    let event = (side, 0u64..6, prop::sample::select(&[0u64, 1, 300, 900][..]));
    let event = event.prop_map(|(side, id, wait)| Event { side, id, wait });
    proptest::collection::vec(event, 0..60)
}

/// A line of the naive model.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: u64,
    side: Side,
    id: u64,
    open: bool,
    leftover: bool,
}

/// The same rules for lines that are equal or nothing alike, with everything at hand.
fn naive(events: &[Event]) -> (u64, u64, u64, u64) {
    let (mut at, mut lines, mut met) = (0, Vec::<Seen>::new(), Vec::<(u64, u64)>::new());
    let (mut delivered, mut lost, mut twice, mut only) = (0, 0, 0, 0);
    let end = Event { side: Side::Sealed, id: u64::MAX, wait: 3 * SETTLE };
    for event in events.iter().chain([&end]) {
        at += event.wait;
        for line in lines.iter_mut().filter(|line| line.open && line.at + SETTLE <= at) {
            let copy = met.iter().any(|(time, id)| *id == line.id && time + SETTLE >= line.at);
            let late = line.at + 2 * SETTLE <= at;
            // That is looked at when it is left over, and in the end.
            let was_leftover = std::mem::replace(&mut line.leftover, true);
            let copy = copy && (late || !was_leftover);
            match line.side {
                Side::OldFeed if copy => twice += 1,
                Side::OldFeed if late => only += 1,
                Side::Sealed if late => lost += 1,
                _ => continue,
            }
            line.open = false;
        }
        let like = |line: &&mut Seen| line.open && line.side != event.side && line.id == event.id;
        let like = lines.iter_mut().find(like);
        let open = like.is_none();
        if let Some(like) = like {
            like.open = false;
            delivered += 1;
            met.push((at, event.id));
        }
        lines.push(Seen { at, side: event.side, id: event.id, open, leftover: false });
    }
    (delivered, lost, twice, only)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn pairs_are_those_of_the_naive_model(events in events()) {
        // Lines that have nothing in common.
        let texts: Vec<String> =
            (0..6u8).map(|id| char::from(b'a' + id).to_string().repeat(20 + 10 * usize::from(id))).collect();
        let mut world = World::new(settings());
        for event in &events {
            world.wait(event.wait);
            let text = &texts[event.id as usize];
            match event.side {
                Side::Sealed => world.ours(text),
                Side::OldFeed => world.theirs(&message(text)),
            }
        }
        let report = world.end();
        prop_assert_eq!(
            (report.delivered, report.lost, report.duplicated, report.only_there),
            naive(&events)
        );
    }

    #[test]
    fn a_relay_that_does_all_at_once_is_told_apart(
        faults in proptest::collection::vec(0u8..12, 1..150),
        shuffle in any::<u64>(),
    ) {
        let mut world = World::new(settings());
        let mut wanted = [0u64; 5];
        for (id, fault) in (0..).zip(&faults) {
            let line = line(shuffle.wrapping_add(id));
            world.ours(&line);
            world.wait(id % 3);
            match fault {
                0 => wanted[0] += 1,
                1 => { wanted[1] += 1; world.theirs(&message(&line[..line.len() - 21])); }
                2 => { wanted[2] += 1; world.theirs(&message(&line.replacen("\"time\"", "\"tXme\"", 1))); }
                3 => { wanted[3] += 1; (0..2).for_each(|_| world.theirs(&message(&line))); }
                4 => {
                    wanted[4] += 1;
                    world.theirs(&message(&line));
                    world.theirs(&format!("<13>Nov 21 08:00:00 web01 su: session {id} opened"));
                }
                _ => world.theirs(&message(&line)),
            }
        }
        let report = world.end();
        let found = [
            report.lost,
            report.altered.truncated,
            report.altered.other,
            report.duplicated,
            report.only_there,
        ];
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn no_bytes_upset_it_and_every_line_is_counted(
        lines in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60), 0u64..500), 0..60)
    ) {
        let mut world = World::new(Settings { max_pending: 20, ..settings() });
        for (ours, bytes, wait) in lines {
            world.wait(wait);
            if ours {
                let (source, record) = (source(true, Format::Kong), world.record);
                let line = Ours { line: &bytes, source: &source, record, end: record + 1 };
                world.record += 1;
                world.matcher.ours(&line, now(world.at));
            } else {
                world.matcher.theirs(&bytes, now(world.at));
            }
            world.matcher.open().for_each(check);
        }
        let _ = world.end().to_string();
    }
}
