//! What may be the line in a message of the old feed.
//!
//! A sender, and every relay behind it, puts a header of its own in front of a
//! line, trims its end, or escapes control characters in it. So a message has
//! several forms, and whichever of them is a line of ours decides. All are what
//! is left when something was taken away in front, so no form is ever invented.

use crate::{SourceSettings, entries::Syntax};
use record::{
    UnixMillis, UnixSeconds,
    crypto::sha256,
    entry::{Message, parse_priority},
    time::days_from_civil,
};
use std::borrow::Cow;

/// What a line says, as 128 bits of its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 16]);

/// One way to read a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What it says then.
    pub key: Key,
    /// True if escapes of control characters were undone for it.
    pub unescaped: bool,
}

/// The longest TAG that is looked for, in bytes; RFC 3164 has 32, programs have more.
const MAX_TAG: usize = 64;

impl Key {
    /// The key of a content.
    pub fn of(content: &[u8]) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&sha256(&[content])[..16]);
        Key(key)
    }

    /// Half of it, where memory counts for more than certainty.
    pub(super) fn half(self) -> u64 {
        self.0.iter().take(8).fold(0, |half, byte| half << 8 | u64::from(*byte))
    }
}

/// What a line of ours says, as syslog would carry it, without the white space around it: all of
/// it, of a syslog message what is behind the header, of an entry of the journal and the like its
/// message. Empty if that says nothing in text.
pub fn content(line: &[u8], syntax: Syntax) -> Cow<'_, [u8]> {
    let Some(told) = syntax.told(line) else {
        let syslog = syntax == Syntax::Syslog;
        return Cow::Borrowed(if syslog { likeliest(line) } else { trim(line) });
    };
    match told.message.unwrap_or_default() {
        Cow::Borrowed(message) => Cow::Borrowed(trim(message)),
        Cow::Owned(message) => Cow::Owned(trim(&message).to_vec()),
    }
}

/// What a message of the old feed says in the likeliest reading.
pub fn likeliest(message: &[u8]) -> &[u8] {
    trim(bodies(message)[0].unwrap_or(message))
}

/// When a line of ours was written, if it says so with a year and a zone.
pub fn written(line: &[u8], source: &SourceSettings) -> Option<UnixMillis> {
    let header = match source.syntax {
        Syntax::Syslog => Message::parse(line).and_then(|message| parse_time(message.tokens()[0])),
        syntax => syntax.told(line).and_then(|told| told.time),
    };
    header.or_else(|| source.extract(line).time)
}

/// `2026-11-21T08:02:27.123456+08:00`, to the second.
fn parse_time(text: &[u8]) -> Option<UnixMillis> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        let add = |sum: u64, digit: &u8| {
            digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'))
        };
        digits.iter().try_fold(0, add)
    };
    let days = days_from_civil(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    let local = days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let seconds = match text.len().checked_sub(6).map(|zone| (zone, text[zone])) {
        Some((zone, sign @ (b'+' | b'-'))) => {
            let offset = number(zone + 1, zone + 3)? * 3600 + number(zone + 4, zone + 6)? * 60;
            if sign == b'+' { local.checked_sub(offset)? } else { local + offset }
        }
        _ => local,
    };
    Some(UnixSeconds(seconds).millis())
}

/// HOSTNAME of a message, if it has one where it should be.
pub fn host(message: &[u8]) -> Option<&[u8]> {
    if let Some(message) = Message::parse(message) {
        return Some(message.tokens()[1]);
    }
    let rest = behind_time(behind_priority(message))?;
    let end = rest.iter().position(|byte| *byte == b' ')?;
    Some(&rest[..end]).filter(|host| !host.is_empty() && !host.ends_with(b":"))
}

/// All ways to read a message, the likeliest first, each once. None if it says nothing.
pub fn forms(message: &[u8]) -> Vec<Form> {
    let mut contents: Vec<&[u8]> = Vec::with_capacity(5);
    for body in bodies(message).into_iter().flatten() {
        let content = trim(body);
        // All of them end where the message does, so their lengths tell them apart.
        if !content.is_empty() && contents.iter().all(|other| other.len() != content.len()) {
            contents.push(content);
        }
    }
    let plain = contents.iter().map(|content| Form { key: Key::of(content), unescaped: false });
    let undone = contents.iter().filter_map(|content| {
        let undone = undo_escapes(content)?;
        Some(Form { key: Key::of(trim(&undone)), unescaped: true })
    });
    plain.chain(undone).collect()
}

/// What may be the line, the shortest first.
fn bodies(message: &[u8]) -> [Option<&[u8]>; 5] {
    let whole = Some(message);
    if let Some(parsed) = Message::parse(message) {
        let msg = Some(parsed.msg()).filter(|msg| !trim(msg).is_empty());
        // A relay that made RFC 5424 of an older message may have left its TAG in MSG.
        return [msg, behind_tag(parsed.msg()), None, None, whole];
    }
    let rest = behind_priority(message);
    let Some(timed) = behind_time(rest) else {
        let body = behind_tag(rest).unwrap_or(rest);
        return [Some(body), Some(rest), None, None, whole];
    };
    let hosted = behind_host(timed);
    let body = hosted.and_then(behind_tag).or_else(|| behind_tag(timed)).or(hosted);
    [body.or(Some(timed)), hosted, Some(timed), Some(rest), whole]
}

fn behind_priority(message: &[u8]) -> &[u8] {
    parse_priority(message).map_or(message, |(_, len)| &message[len..])
}

/// What is behind a time stamp as RFC 3164 or RFC 3339 writes it, and a space.
fn behind_time(text: &[u8]) -> Option<&[u8]> {
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    // "Nov 21 08:02:27 "
    let old = text.get(3) == Some(&b' ') && text.get(9) == Some(&b':') && digit(8) && digit(13);
    if old && text.first().is_some_and(u8::is_ascii_uppercase) && text.get(15) == Some(&b' ') {
        return Some(&text[16..]);
    }
    // "2026-11-21T08:02:27.123456+08:00 "
    let new = digit(0) && text.get(4) == Some(&b'-') && text.get(10) == Some(&b'T');
    let end = text.iter().take(40).position(|byte| *byte == b' ').filter(|_| new)?;
    Some(&text[end + 1..])
}

fn behind_host(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().take(256).position(|byte| *byte == b' ')?;
    (end > 0).then(|| &text[end + 1..])
}

/// What is behind `kong:`, `kong[77]:` and the like.
fn behind_tag(text: &[u8]) -> Option<&[u8]> {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-/[]()@".contains(byte);
    let end = text.iter().take(MAX_TAG).position(|byte| !part(byte))?;
    let tag = text[end] == b':' && text[..end].iter().any(u8::is_ascii_alphabetic);
    tag.then(|| &text[end + 1..])
}

/// Without what senders and relays add and take away: white space and NUL at the end, spaces and a
/// byte order mark at the front.
pub fn trim(content: &[u8]) -> &[u8] {
    let start = content.iter().position(|byte| *byte != b' ').unwrap_or(content.len());
    let content = &content[start..];
    let content = content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(content);
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    let end = content.iter().rposition(|byte| !blank(byte)).map_or(0, |last| last + 1);
    &content[..end]
}

/// rsyslog writes a control character as `#` and three octal digits.
pub(super) fn escape_at(text: &[u8], at: usize) -> Option<u8> {
    let octal = |offset: usize| {
        let digit = text.get(at + offset)?.wrapping_sub(b'0');
        (digit < 8).then_some(u16::from(digit))
    };
    if text.get(at) != Some(&b'#') {
        return None;
    }
    let value = octal(1)? * 64 + octal(2)? * 8 + octal(3)?;
    let value = u8::try_from(value).ok()?;
    (!(32..127).contains(&value)).then_some(value)
}

/// The text with rsyslog's escapes undone, if it has any.
fn undo_escapes(text: &[u8]) -> Option<Vec<u8>> {
    let first = memchr::memchr_iter(b'#', text).find(|at| escape_at(text, *at).is_some())?;
    let (mut out, mut at) = (text[..first].to_vec(), first);
    while let Some(byte) = text.get(at) {
        let escape = escape_at(text, at);
        out.push(escape.unwrap_or(*byte));
        at += if escape.is_some() { 4 } else { 1 };
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Extractor, Format};
    use proptest::prelude::*;

    fn source(syslog: bool, format: Format) -> SourceSettings {
        let format = Extractor::new(format, &Default::default()).unwrap();
        let syntax = if syslog { Syntax::Syslog } else { Syntax::Plain };
        SourceSettings { name: "kong".into(), format, syntax }
    }

    const LINE: &str = r#"{"request":{"uri":"/v1/household/A1"},"user":"clerk: 7"}"#;

    #[test]
    fn a_line_is_found_behind_every_header() {
        for header in [
            "",
            "<134>",
            "<134>1 2026-11-21T08:02:27Z gw01 kong - - - ",
            "<134>1 2026-11-21T08:02:27.000001+08:00 gw01 kong 7 ID [a@1 b=\"c\"] \u{feff}",
            "<134>1 2026-11-21T08:02:27Z gw01 - - - - kong: ",
            "<134>Nov 21 08:02:27 gw01 kong: ",
            "<134>Nov  1 08:02:27 gw01 kong[77]: ",
            "<190>Nov 21 08:02:27 nginx: ",
            "<134>Nov 21 08:02:27 gw01 kong:",
            "<134>Nov 21 08:02:27 gw01 ",
            "<134>kong: ",
            "<13>2026-11-21T08:02:27.123456+08:00 gw01 kong: ",
            "Nov 21 08:02:27 gw01 kong: ",
            "2026-11-21T08:02:27.123456+08:00 gw01 kong[7]: ",
        ] {
            for end in ["", "\n", "\r\n", " ", "\0"] {
                let message = format!("{header}{LINE}{end}");
                let found = forms(message.as_bytes());
                let wanted = Key::of(&content(LINE.as_bytes(), Syntax::Plain));
                assert!(found.iter().any(|form| form.key == wanted), "{message:?}");
                let plain = !header.ends_with("- kong: ");
                assert!(!plain || likeliest(message.as_bytes()) == LINE.as_bytes(), "{message:?}");
            }
        }
    }

    #[test]
    fn escapes_of_rsyslog_are_undone_and_said_to_be() {
        let found = forms(b"<134>Nov 21 08:02:27 gw01 kong: a#011b#012c #999 #101 #015");
        let wanted = Key::of(b"a\tb\nc #999 #101");
        assert_eq!(found.iter().find(|form| form.key == wanted).map(|f| f.unescaped), Some(true));
        assert!(forms(b"<13>x: plain # 12").iter().all(|form| !form.unescaped));
    }

    #[test]
    fn who_sent_a_message_is_read_from_its_header() {
        assert_eq!(host(b"<134>Nov 21 08:02:27 gw01 kong: x"), Some(&b"gw01"[..]));
        assert_eq!(host(b"<134>1 2026-11-21T08:02:27Z gw02 kong - - - x"), Some(&b"gw02"[..]));
        assert_eq!(host(b"<190>Nov 21 08:02:27 nginx: x"), None);
        assert_eq!(host(b"<190>x"), None);
    }

    #[test]
    fn when_a_line_was_written_is_read_from_its_header_or_its_fields() {
        let time = |line: &str, syslog, format| {
            Some(written(line.as_bytes(), &source(syslog, format))?.to_string())
        };
        let ten = Some("2026-11-21T02:00:27.000Z".to_owned());
        for stamp in ["02:00:27Z", "10:00:27.123+08:00", "00:30:27-01:30"] {
            let line = format!("<13>1 2026-11-21T{stamp} gw01 kong - - - x");
            assert_eq!(time(&line, true, Format::Raw), ten, "{stamp}");
            assert_eq!(time(&line, false, Format::Raw), None);
        }
        let line = r#"1.2.3.4 - - [21/Nov/2026:10:00:27 +0800] "GET / HTTP/1.1" 200 5 "-" "-""#;
        assert_eq!(time(line, false, Format::NginxCombined), ten);
        let line = r#"{"__REALTIME_TIMESTAMP":"1795226427000999","MESSAGE":"x"}"#;
        let journal = SourceSettings { syntax: Syntax::Journal, ..source(false, Format::Raw) };
        assert_eq!(written(line.as_bytes(), &journal), Some(UnixMillis(1_795_226_427_000)));
        assert_eq!(time("<13>1 - gw01 kong - - - x", true, Format::Raw), None);
        assert_eq!(time("<13>Nov 21 10:00:27 gw01 kong: x", true, Format::Raw), None);
    }

    #[test]
    fn of_lines_that_say_all_in_json_the_message_is_compared() {
        let said = |line: &str, syntax| {
            String::from_utf8(content(line.as_bytes(), syntax).into_owned()).unwrap()
        };
        let journal = r#"{"_HOSTNAME":"gw01","MESSAGE":" a \"b\"\n","__REALTIME_TIMESTAMP":"7"}"#;
        assert_eq!(said(journal, Syntax::Journal), r#"a "b""#);
        assert_eq!(said(r#"{"MESSAGE":[104,105,32]}"#, Syntax::Journal), "hi");
        let otlp = |body: &str| {
            format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{body}]}}]}}]}}"#)
        };
        let text = otlp(r#"{"body":{"stringValue":"GET /x "}}"#);
        assert_eq!(said(&text, Syntax::Otlp), "GET /x");
        let table = otlp(r#"{"body":{"kvlistValue":{"values":[]}}}"#);
        for (line, syntax) in [
            (table.as_str(), Syntax::Otlp),
            (r#"{"_PID":"7"}"#, Syntax::Journal),
            ("no JSON", Syntax::Journal),
        ] {
            assert_eq!(said(line, syntax), "", "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it_and_every_form_ends_the_message(
            data in proptest::collection::vec(any::<u8>(), 0..200),
            head in prop::sample::select(&["", "<1>", "<1>Nov 21 08:02:27 ", "<1>1 - - - - - - "][..]),
        ) {
            let message = [head.as_bytes(), &data].concat();
            for body in bodies(&message).into_iter().flatten() {
                prop_assert!(message.ends_with(body));
            }
            let wanted = trim(&data);
            let found = forms(&message);
            if !wanted.is_empty() && !data.starts_with(b" ") {
                prop_assert!(found.iter().any(|form| form.key == Key::of(wanted)), "{:?}", message);
            }
            let _ = written(&message, &source(true, Format::Kong));
            prop_assert!(host(&message).is_none_or(|host| host.len() < message.len()));
        }
    }
}
