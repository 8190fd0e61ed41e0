//! What a user's table does, and what no line may do.

mod gateways;

use super::*;
use proptest::prelude::*;

/// The time and the fields of a line, in one text each.
fn extracted(format: Format, line: &str) -> Vec<String> {
    shown(&Extractor::new(format, &UserTable::default()).unwrap(), line)
}

fn shown(extractor: &Extractor, line: &str) -> Vec<String> {
    let access = extractor.extract(line.as_bytes());
    let time = access.time.map(|time| format!("time={time}"));
    let fields = access.fields.iter().map(|(name, value)| format!("{name}={value}"));
    time.into_iter().chain(fields).collect()
}

const KONG: &str = r#"{"request":{"uri":"/v1/household/A123456789?full=1","method":"GET","id":"f3d1","headers":{"host":"api.city.example","x-purpose":"\u6236\u7c4d\u67e5\u8a62","x-subject":"A123456789","accept":["a","b"]},"size":75},"response":{"status":200,"headers":{"content-type":"application/json"},"size":1403},"latencies":{"proxy":10,"kong":2,"request":12.5},"client_ip":"10.1.2.3","consumer":{"username":"clerk07","id":"0f1e"},"route":{"name":"household-read","id":"aa"},"started_at":1795248147125}"#;

fn user(fields: &[(&str, &str)]) -> UserTable {
    let places = |from: &str| if from.is_empty() { vec![] } else { vec![Wanted::from(from)] };
    let fields = fields.iter().map(|(name, from)| (name.to_string(), places(from))).collect();
    UserTable { pattern: None, fields }
}

#[test]
fn a_users_entry_replaces_the_predefined_one() {
    let mut own =
        user(&[("user.id", "/consumer/id"), ("action", ""), ("party", "/request/headers/HOST")]);
    let millis = |from: &str| Wanted { from: from.into(), unit: Some("ms".into()) };
    own.fields.insert(
        "event.duration".into(),
        vec![millis("/latencies/none"), millis("/latencies/kong")],
    );
    own.fields.insert(TIME.into(), vec![]);
    let extractor = Extractor::new(Format::Kong, &own).unwrap();
    let all = shown(&extractor, KONG);
    for wanted in
        ["user.id=0f1e", "event.duration=2000000", "party=api.city.example", "transaction.id=f3d1"]
    {
        assert!(all.iter().any(|field| field == wanted), "{wanted}: {all:?}");
    }
    assert!(
        !all.iter().any(|field| field.starts_with("time=") || field.starts_with("action=")),
        "{all:?}"
    );
}

#[test]
fn a_users_pattern_gives_the_fields_its_groups() {
    let mut own = user(&[("user.id", "who"), ("url.path", "what"), ("purpose", "why")]);
    own.pattern = Some(r"^(?<when>\S+) (?<who>\w+) (?<what>\S+)(?: because (?<why>.*))?$".into());
    own.fields.insert(TIME.into(), vec![Wanted { from: "when".into(), unit: Some("s".into()) }]);
    let extractor = Extractor::new(Format::Regex, &own).unwrap();
    assert_eq!(
        shown(&extractor, "1795248147.5 林07 /a?b because 查詢"),
        ["time=2026-11-21T08:02:27.500Z", "user.id=林07", "url.path=/a", "purpose=查詢"]
    );
    assert_eq!(shown(&extractor, "1795248147 lin /a").len(), 3);
    own.pattern = Some("(?i:who)=(?<who>.)(?<when>)(?<what>)(?<why>)".to_owned());
    assert_eq!(shown(&Extractor::new(Format::Regex, &own).unwrap(), "WHO=林"), ["user.id=林"]);
    assert!(shown(&extractor, "something else altogether, is it not").is_empty());
}

#[test]
fn a_table_that_does_not_fit_is_refused_with_its_place() {
    let field = |name: &str| Place::Field(name.to_owned());
    let with_unit = |name: &str, unit: &str| {
        let wanted = Wanted { from: "/a".into(), unit: Some(unit.into()) };
        UserTable { fields: [(name.to_owned(), vec![wanted])].into(), ..UserTable::default() }
    };
    let pattern = |pattern: &str, fields: &[(&str, &str)]| UserTable {
        pattern: Some(pattern.into()),
        ..user(fields)
    };
    let many = vec![Wanted::from("/a"); 17];
    let many = UserTable { fields: [("party".to_owned(), many)].into(), ..UserTable::default() };
    for (format, table, place, said) in [
        (
            Format::Kong,
            user(&[("user", "/a")]),
            field("user"),
            "is no access field: use user.id, source.ip",
        ),
        (Format::Kong, user(&[("party", "a")]), field("party"), "'a' is no JSON pointer"),
        (Format::Kong, user(&[("event.duration", "/a")]), field("event.duration"), "needs a unit"),
        (Format::Kong, user(&[("time", "/a")]), field("time"), "rfc3339, clf, s, ms, us, ns"),
        (Format::Kong, with_unit("party", "ms"), field("party"), "has no unit"),
        (
            Format::Kong,
            with_unit("event.duration", "clf"),
            field("event.duration"),
            "'clf' is no unit of it",
        ),
        (Format::Kong, with_unit("time", "days"), field("time"), "'days' is no unit of it"),
        (Format::Kong, many, field("party"), "more than 16 places"),
        (
            Format::Kong,
            pattern("a", &[]),
            Place::Pattern,
            "belongs to format 'regex', and this source's is 'kong'",
        ),
        (Format::Raw, user(&[("party", "/a")]), Place::Format, "format 'raw' extracts nothing"),
        (Format::Json, user(&[]), Place::Format, "format 'json' has no fields of its own"),
        (
            Format::Haproxy,
            user(&[("party", "/a")]),
            field("party"),
            "no part of a line in the format 'haproxy': use client_ip",
        ),
        (Format::Regex, user(&[]), Place::Format, "needs a pattern"),
        (
            Format::Regex,
            pattern("(a", &[]),
            Place::Pattern,
            "is no regular expression: unclosed group",
        ),
        (
            Format::Regex,
            pattern("(?<a>b)", &[("party", "c")]),
            field("party"),
            "has no group 'c': it has a",
        ),
        (
            Format::Regex,
            pattern("(a)", &[("party", "c")]),
            field("party"),
            "it has none with a name",
        ),
        (
            Format::Regex,
            pattern(r"(\w{1000}){1000}", &[]),
            Place::Pattern,
            "is no regular expression",
        ),
    ] {
        let error = Extractor::new(format, &table).unwrap_err();
        assert_eq!(error.place, place, "{error}");
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
}

#[test]
fn a_format_is_known_by_its_name() {
    for format in Format::ALL {
        assert_eq!(format.name().parse(), Ok(format));
        let written = serde_json::to_string(&format).unwrap();
        assert_eq!(written, format!("\"{format}\""));
    }
    let error = "king".parse::<Format>().unwrap_err().to_string();
    assert!(error.starts_with("'king' is no format: use one of raw, json"), "{error}");
}

/// All formats, those without predefined fields with some of their own.
fn all_extractors() -> Vec<Extractor> {
    let own = |format| match format {
        Format::Json => user(&[("user.id", "/a/0"), ("purpose", "/headers/b")]),
        Format::Regex => {
            UserTable { pattern: Some("(?<a>.) (?<b>.*)".into()), ..user(&[("party", "b")]) }
        }
        _ => UserTable::default(),
    };
    Format::ALL.into_iter().map(|format| Extractor::new(format, &own(format)).unwrap()).collect()
}

proptest! {
    #[test]
    fn no_bytes_make_a_format_panic(
        json in r#"(\{|\}|\[|\]|:|,|"request"|"headers"|"x-purpose"|"started_at"|"a\\ud83d"|-?[0-9]{1,25}(e[0-9]{1,3})?|null|true|é){0,20}"#,
        value in r#"(-?[0-9]{1,25}(\.[0-9])?(e[0-9]{1,3})?|null|true|\[\[\{\}\]\]|\{"a":\[\]\}|"(é|\\n|\\u00e9|\?|#|,|:|\[)*")"#,
        text in r#"(1\.2\.3\.4:5| - |\[|\]|"| |-|21/Nov/2026:08:02:27|2026-11-21T08:02:27Z|\+0000|200|GET|é|/|\{|\||\}|#|#E6|\\|\\x|0/0/0/0/0|12ms){0,30}"#,
        bytes: Vec<u8>,
    ) {
        let object = format!(
            r#"{{"started_at":{value},"latency":{value},"status":{value},"duration":{value},"ts":{value},"client_ip":{value},"request":{{"uri":{value},"headers":{{"x-purpose":{value}}}}},"a":{value},"ClientHost":{value}}}"#
        );
        for extractor in all_extractors() {
            for line in [json.as_bytes(), object.as_bytes(), text.as_bytes(), &bytes] {
                let access = extractor.extract(line);
                prop_assert!(access.fields.iter().all(|(_, value)| !value.is_empty()));
            }
        }
    }

    #[test]
    fn a_real_line_with_anything_put_into_it_makes_nothing_panic(at in 0usize..400, what in any::<u8>()) {
        let text = r#"Feb  6 12:14:14 x haproxy[1]: 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /index.html HTTP/1.1""#;
        for line in [KONG, text] {
            let mut line = line.as_bytes().to_vec();
            line.insert(at.min(line.len()), what);
            for extractor in all_extractors() {
                extractor.extract(&line);
            }
        }
    }
}
