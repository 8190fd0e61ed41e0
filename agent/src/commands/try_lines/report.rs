//! What is printed about tried lines. Whatever is in them, no control character gets to a terminal.

use std::io::{self, Write};

use pipeline::{
    Format,
    extract::{ACCESS_FIELDS, Access, TIME},
};
use serde::{Serialize, Serializer};

/// A record cuts values at so many bytes.
const MAX_VALUE: usize = 1024;

/// How many lines had what.
#[derive(Debug, Default)]
pub(super) struct Tally {
    lines: u64,
    /// Lines from which something was extracted.
    pub(super) matched: u64,
    /// By field, the time first.
    fields: [u64; ACCESS_FIELDS.len() + 1],
}

/// Prints line by line, and a summary.
pub(super) struct Report<W> {
    out: W,
    json: bool,
    tally: Tally,
}

/// A line, as an object of JSON.
#[derive(Serialize)]
struct LineObject<'a> {
    line: u64,
    matched: bool,
    time: Option<String>,
    #[serde(serialize_with = "as_map")]
    fields: &'a [(&'static str, &'a str)],
}

/// The summary, as an object of JSON.
#[derive(Serialize)]
struct SummaryObject<'a> {
    format: Format,
    lines: u64,
    matched: u64,
    #[serde(serialize_with = "as_map")]
    fields: &'a [(&'static str, u64)],
}

impl<W: Write> Report<W> {
    pub(super) fn new(out: W, json: bool) -> Self {
        Report { out, json, tally: Tally::default() }
    }

    /// How many lines there were.
    pub(super) fn lines(&self) -> u64 {
        self.tally.lines
    }

    /// Prints the next line's fields.
    ///
    /// # Errors
    /// When nobody reads them any more.
    pub(super) fn line(&mut self, access: &Access<'_>) -> io::Result<()> {
        self.tally.add(access);
        let time = access.time.map(|time| time.to_string());
        let fields: Vec<_> =
            access.fields.iter().map(|(name, value)| (*name, cut(value))).collect();
        let (line, matched) = (self.tally.lines, !access.is_empty());
        if self.json {
            let object = LineObject { line, matched, time, fields: &fields };
            return self.object(&object);
        }
        writeln!(self.out, "line {line}")?;
        if !matched {
            writeln!(self.out, "  no fields: the line is not in the format")?;
        }
        let time = time.as_deref().map(|time| (TIME, time));
        for (name, value) in time.into_iter().chain(fields) {
            writeln!(self.out, "  {name} = {}", visible(value))?;
        }
        Ok(())
    }

    /// Prints the summary. Whoever closed the output does not want to read it.
    pub(super) fn end(mut self, format: Format) -> Tally {
        let _ = self.summary(format).and_then(|()| self.out.flush());
        self.tally
    }

    fn summary(&mut self, format: Format) -> io::Result<()> {
        let Tally { lines, matched, .. } = self.tally;
        let names = std::iter::once(TIME).chain(ACCESS_FIELDS);
        let fields: Vec<_> = names.zip(self.tally.fields).collect();
        if self.json {
            return self.object(&SummaryObject { format, lines, matched, fields: &fields });
        }
        writeln!(self.out, "{lines} lines, {matched} in the format '{format}'")?;
        for (name, count) in fields {
            writeln!(self.out, "  {name}: {count}")?;
        }
        Ok(())
    }

    fn object(&mut self, object: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(object)?;
        // JSON leaves those above U+007E as they are; escaped, they mean the same.
        let escape = |out: &mut String, c: char| out.push_str(&format!("\\u{:04x}", u32::from(c)));
        writeln!(self.out, "{}", escaped(&text, escape))
    }
}

impl Tally {
    fn add(&mut self, access: &Access<'_>) {
        self.lines += 1;
        self.matched += u64::from(!access.is_empty());
        self.fields[0] += u64::from(access.time.is_some());
        for (name, _) in &access.fields {
            if let Some(index) = ACCESS_FIELDS.iter().position(|field| field == name) {
                self.fields[index + 1] += 1;
            }
        }
    }
}

fn as_map<S: Serializer, T: Serialize>(
    fields: &[(&'static str, T)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
}

fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(MAX_VALUE)]
}

/// Text with nothing in it that a terminal would obey.
fn visible(text: &str) -> String {
    escaped(text, |out, c| out.extend(c.escape_unicode()))
}

fn escaped(text: &str, escape: impl Fn(&mut String, char)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Besides control characters, those that turn the direction of the text around them.
        let obeyed = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if obeyed { escape(&mut out, c) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(value: &str) -> Access<'_> {
        Access { time: None, fields: vec![("purpose", value.into())] }
    }

    fn printed(json: bool, access: &Access<'_>) -> String {
        let mut report = Report::new(Vec::new(), json);
        report.line(access).unwrap();
        report.line(&Access::default()).unwrap();
        report.summary(Format::Kong).unwrap();
        String::from_utf8(report.out).unwrap()
    }

    #[test]
    fn no_control_character_gets_to_a_terminal() {
        let evil = "戶\u{1b}[31m\u{9b}1m\u{7f}\u{202e}\r";
        for json in [false, true] {
            let out = printed(json, &access(evil));
            assert!(out.contains('戶'), "{out}");
            assert!(
                out.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'),
                "{out:?}"
            );
        }
        let out = printed(true, &access(evil));
        let object: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
        assert_eq!(object["fields"]["purpose"], evil);
    }

    #[test]
    fn what_is_printed_for_people() {
        let out = printed(false, &access(&"x".repeat(2000)));
        let head =
            format!("line 1\n  purpose = {}\nline 2\n  no fields: the line", "x".repeat(1024));
        assert!(out.starts_with(&head), "{out}");
        assert!(
            out.contains("2 lines, 1 in the format 'kong'\n  time: 0\n  user.id: 0\n"),
            "{out}"
        );
        assert!(out.contains("  purpose: 1\n"), "{out}");
    }
}
