//! What formats that are not JSON have in common: named parts of a line, in an order of their own.

use super::value::Value;
use std::borrow::Cow;

/// A text format.
#[derive(Debug)]
pub(super) struct Format {
    /// The names of its parts.
    pub(super) parts: &'static [&'static str],
    /// Fills in the parts, in the order of their names; `None` if the line is not in this format.
    pub(super) read: for<'a> fn(&'a str, &mut [Value<'a>]) -> Option<()>,
}

/// What is left of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest<'a>(pub(super) &'a str);

impl<'a> Rest<'a> {
    /// Everything up to `end`, which is taken away too.
    pub(super) fn until(&mut self, end: &str) -> Option<&'a str> {
        let (part, rest) = self.0.split_once(end)?;
        self.0 = rest;
        Some(part)
    }

    /// Everything up to the next space.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        self.until(" ")
    }

    /// What is left out of the line: `text`, or nothing is taken.
    pub(super) fn skip(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// `"…"` up to the first quote that is not behind a backslash.
    pub(super) fn quoted(&mut self) -> Option<&'a str> {
        let inside = self.0.strip_prefix('"')?;
        let mut escaped = false;
        let end = inside.bytes().position(|byte| {
            let end = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            end
        })?;
        self.0 = &inside[end + 1..];
        Some(&inside[..end])
    }

    /// `"…"` in a format that escapes nothing: up to the first quote.
    pub(super) fn quoted_plainly(&mut self) -> Option<&'a str> {
        self.skip("\"")?;
        self.until("\"")
    }
}

/// Method and target of `GET /a?b HTTP/1.1`. What is no request has neither.
pub(super) fn request(line: &str) -> Option<(&str, &str)> {
    let (method, rest) = line.split_once(' ')?;
    let target = rest.rsplit_once(" HTTP/").map_or(rest, |(target, _)| target);
    Some((method, target))
}

/// True for a number of one to three digits.
pub(super) fn is_status(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Takes back what a gateway wrote as an escape character and two hexadecimal digits, or, behind
/// a backslash, as one character.
pub(super) fn unescape<'a>(text: &'a str, mark: u8, lead: &[u8]) -> Cow<'a, str> {
    if !text.as_bytes().contains(&mark) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.strip_prefix(lead).and_then(|digits| digits.split_first_chunk());
        match digits.and_then(|([high, low], more)| Some((hex(*high)? * 16 + hex(*low)?, more))) {
            Some((value, more)) if byte == mark => {
                out.push(value);
                rest = more;
            }
            _ if byte == mark && mark == b'\\' => {
                let (&next, more) = behind.split_first().unwrap_or((&byte, behind));
                out.push(next);
                rest = more;
            }
            _ => {
                out.push(byte);
                rest = behind;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_behind_a_backslash_does_not_end_the_text() {
        let mut rest = Rest(r#""a \"b\\" "c" d"#);
        assert_eq!(rest.quoted(), Some(r#"a \"b\\"#));
        assert_eq!(rest.word(), Some(""));
        assert_eq!(rest.quoted_plainly(), Some("c"));
        assert_eq!(rest.quoted(), None);
        assert_eq!(rest.0, " d");
    }

    #[test]
    fn what_gateways_escape_comes_back() {
        assert_eq!(unescape(r"a\x22\xE6\x88\xB6\\\q\", b'\\', b"x"), "a\"戶\\q\\");
        assert_eq!(unescape("#E6#88#B6#2x#", b'#', b""), "戶#2x#");
        assert_eq!(unescape("\\xff", b'\\', b"x"), "\u{fffd}");
        assert!(matches!(unescape("plain", b'#', b""), Cow::Borrowed("plain")));
    }
}
