//! Building records: our elements in front, the line's bytes behind.

use super::{Enterprise, MAX_ENTRY_LEN, Message};
use crate::{merkle::EntryIndex, name::AgentName, time::UnixMillis};
use std::{borrow::Cow, num::NonZeroU32};

/// The header of an entry that is built around a line (RFC 5424, section 6.2).
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Facility * 8 + severity, at most 191.
    pub priority: u8,
    /// When it happened; `None` writes the nil value.
    pub time: Option<UnixMillis>,
    /// HOSTNAME; made printable and cut at 255 bytes, nil if empty.
    pub host: &'a [u8],
    /// APP-NAME; made printable and cut at 48 bytes, nil if empty.
    pub app: &'a [u8],
    /// PROCID; made printable and cut at 128 bytes, nil if empty.
    pub procid: &'a [u8],
    /// MSGID; made printable and cut at 32 bytes, nil if empty.
    pub msgid: &'a [u8],
}

/// Which part of a line an entry holds, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// This part, 1 to `of`.
    pub number: NonZeroU32,
    /// All parts of the line, at least 2.
    pub of: NonZeroU32,
}

/// The element that makes an entry a record: `[log@32473 agent="…" n="…" source="…" received="…"]`.
#[derive(Clone, Copy, Debug)]
pub struct LogElement<'a> {
    /// The number behind the `@`.
    pub enterprise: Enterprise,
    /// Whose log the record is in.
    pub agent: &'a AgentName,
    /// The record's index there.
    pub n: EntryIndex,
    /// The configured name of the source the line came from.
    pub source: &'a str,
    /// When the agent received the line.
    pub received: UnixMillis,
    /// The authenticated sender, if the line came from one.
    pub peer: Option<&'a str>,
    /// The way the line came, if its sender showed no certificate on it: `udp-unauthenticated`.
    pub transport: Option<&'a str>,
    /// The part, if the line was too long for one entry.
    pub part: Option<Part>,
}

/// An extracted access field: its name, as in ECS where that has one, and its value.
pub type Field<'a> = (&'static str, Cow<'a, str>);

/// How an entry was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Built {
    /// The entry is complete.
    Whole,
    /// It would be too long by this many bytes; nothing was appended.
    TooLong(usize),
}

/// The bound of an access field's value, in bytes; the whole value is in the line anyway.
const MAX_VALUE_LEN: usize = 1024;

impl LogElement<'_> {
    /// Appends an entry whose MSG is `line`, byte for byte.
    pub fn wrap(
        &self,
        out: &mut Vec<u8>,
        header: &Header<'_>,
        access: &[Field<'_>],
        line: &[u8],
    ) -> Built {
        let start = out.len();
        header.write(out);
        self.write(out, false);
        write_access(out, self.enterprise, access);
        if !line.is_empty() {
            out.push(b' ');
            out.extend_from_slice(line);
        }
        bounded(out, start)
    }

    /// Appends an entry made of an RFC 5424 `line` by splicing our elements in front of the
    /// sender's; every other byte is kept. The access element is there even when it is empty, so
    /// that a sender's own is never taken for ours.
    pub fn splice(&self, out: &mut Vec<u8>, line: &Message<'_>, access: &[Field<'_>]) -> Built {
        let start = out.len();
        out.extend_from_slice(line.header());
        self.write(out, true);
        write_access_element(out, self.enterprise, access);
        if line.has_structured_data() {
            out.extend_from_slice(line.structured_data());
        }
        out.extend_from_slice(line.tail());
        bounded(out, start)
    }

    fn write(&self, out: &mut Vec<u8>, spliced: bool) {
        out.extend_from_slice(b"[log@");
        push_number(out, self.enterprise.0.into());
        out.extend_from_slice(b" agent=\"");
        out.extend_from_slice(self.agent.as_str().as_bytes());
        out.extend_from_slice(b"\" n=\"");
        push_number(out, self.n.0);
        out.push(b'"');
        push_param(out, "source", self.source);
        out.extend_from_slice(b" received=\"");
        self.received.write_rfc3339(out);
        out.push(b'"');
        if let Some(peer) = self.peer {
            push_param(out, "peer", peer);
        }
        if let Some(transport) = self.transport {
            push_param(out, "transport", transport);
        }
        if let Some(part) = self.part {
            out.extend_from_slice(b" part=\"");
            push_number(out, part.number.get().into());
            out.push(b'/');
            push_number(out, part.of.get().into());
            out.push(b'"');
        }
        if spliced {
            out.extend_from_slice(b" form=\"spliced\"");
        }
        out.push(b']');
    }
}

impl Header<'_> {
    /// Appends everything in front of the structured data, the last space included.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'<');
        push_number(out, self.priority.min(191).into());
        out.extend_from_slice(b">1 ");
        match self.time {
            Some(time) => time.write_rfc3339(out),
            None => out.push(b'-'),
        }
        push_token(out, self.host, 255);
        push_token(out, self.app, 48);
        push_token(out, self.procid, 128);
        push_token(out, self.msgid, 32);
        out.push(b' ');
    }
}

/// Appends ` name="value"` with the value escaped as RFC 5424, section 6.3.3 asks; control
/// characters become U+FFFD so that an entry's elements stay on one line.
pub fn push_param(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    let special = |b: &u8| matches!(b, b'"' | b'\\' | b']' | 0..=0x1f | 0x7f);
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(&special) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b @ (b'"' | b'\\' | b']') => out.extend_from_slice(&[b'\\', b]),
            _ => out.extend_from_slice("\u{fffd}".as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Appends a whole element.
pub fn push_element(out: &mut Vec<u8>, id: &str, enterprise: Enterprise, params: &[(&str, &str)]) {
    out.push(b'[');
    out.extend_from_slice(id.as_bytes());
    out.push(b'@');
    push_number(out, enterprise.0.into());
    for (name, value) in params {
        push_param(out, name, value);
    }
    out.push(b']');
}

fn write_access(out: &mut Vec<u8>, enterprise: Enterprise, access: &[Field<'_>]) {
    if !access.is_empty() {
        write_access_element(out, enterprise, access);
    }
}

fn write_access_element(out: &mut Vec<u8>, enterprise: Enterprise, access: &[Field<'_>]) {
    out.extend_from_slice(b"[access@");
    push_number(out, enterprise.0.into());
    for (name, value) in access {
        push_param(out, name, &value[..value.floor_char_boundary(MAX_VALUE_LEN)]);
    }
    out.push(b']');
}

fn bounded(out: &mut Vec<u8>, start: usize) -> Built {
    let len = out.len() - start;
    if len <= MAX_ENTRY_LEN {
        return Built::Whole;
    }
    out.truncate(start);
    Built::TooLong(len - MAX_ENTRY_LEN)
}

/// Appends a space and a token of printable ASCII, or the nil value.
fn push_token(out: &mut Vec<u8>, token: &[u8], max: usize) {
    out.push(b' ');
    if token.is_empty() {
        out.push(b'-');
    }
    let printable = |b: &u8| if b.is_ascii_graphic() { *b } else { b'?' };
    out.extend(token.iter().take(max).map(printable));
}

fn push_number(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
