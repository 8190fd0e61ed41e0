//! Reading RFC 5424 messages and entries, strictly and without copying.

use super::MAX_ENTRY_LEN;
use crate::name::AgentName;
use std::borrow::Cow;

/// Bytes are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Longer than an entry can be.
    #[error("longer than {MAX_ENTRY_LEN} bytes")]
    TooLong,
    /// Not an RFC 5424 message.
    #[error("not an RFC 5424 message")]
    Message,
    /// No structured data, so nothing says what the entry is.
    #[error("no structured data")]
    NoElement,
    /// The first element is none of logseal's.
    #[error("the first element is not one of logseal's")]
    Kind,
}

/// What an entry is, by its first element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `log@`: a record of an agent.
    Record,
    /// `seal@`: an agent's seal, right after its batch.
    Seal,
    /// `block@`: the end of a block.
    Block,
    /// `enrol@`: the enrolment of an agent's key.
    Enrol,
    /// `equivocation@`: two statements of one signer that contradict each other.
    Equivocation,
    /// `prune@`: an operator's declaration that old entries go.
    Prune,
    /// `drill@`: an operator's declaration that a backup was restored.
    Drill,
}

/// An RFC 5424 message, split but not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// The fields between PRI and the structured data: start and end of each.
    fields: [(usize, usize); 5],
    priority: u8,
    /// Where the structured data begins and ends.
    data: (usize, usize),
}

impl<'a> Message<'a> {
    /// Splits `bytes` if they are a message as RFC 5424, section 6 defines it. Tokens may have
    /// any printable ASCII and any length; everything else is as strict as the standard.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (priority, mut at) = parse_priority(bytes)?;
        at += bytes[at..].starts_with(b"1 ").then_some(2)?;
        let mut fields = [(0, 0); 5];
        for field in &mut fields {
            let len = bytes[at..].iter().position(|b| *b == b' ')?;
            let token = &bytes[at..at + len];
            if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
                return None;
            }
            *field = (at, at + len);
            at += len + 1;
        }
        let time = &bytes[fields[0].0..fields[0].1];
        if time != b"-" && !is_timestamp(time) {
            return None;
        }
        let end = at + data_len(&bytes[at..])?;
        let ended = bytes.get(end).is_none_or(|b| *b == b' ');
        ended.then_some(Message { bytes, fields, priority, data: (at, end) })
    }

    /// Facility * 8 + severity.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// Everything in front of the structured data, the last space included.
    pub fn header(&self) -> &'a [u8] {
        &self.bytes[..self.data.0]
    }

    /// True unless the structured data is the nil value.
    pub fn has_structured_data(&self) -> bool {
        self.structured_data() != b"-"
    }

    /// The structured data, or `-`.
    pub fn structured_data(&self) -> &'a [u8] {
        &self.bytes[self.data.0..self.data.1]
    }

    /// Everything behind the structured data: nothing, or a space and MSG.
    pub fn tail(&self) -> &'a [u8] {
        &self.bytes[self.data.1..]
    }

    /// MSG, empty if there is none.
    pub fn msg(&self) -> &'a [u8] {
        self.tail().get(1..).unwrap_or_default()
    }

    /// TIMESTAMP, HOSTNAME, APP-NAME, PROCID and MSGID.
    pub fn tokens(&self) -> [&'a [u8]; 5] {
        self.fields.map(|(start, end)| &self.bytes[start..end])
    }

    /// The elements of the structured data.
    pub fn elements(&self) -> Sd<'a> {
        Sd(if self.has_structured_data() { self.structured_data() } else { &[] })
    }
}

/// The elements of well-formed structured data, from left to right.
#[derive(Clone, Copy, Debug)]
pub struct Sd<'a>(&'a [u8]);

impl<'a> Iterator for Sd<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let len = element_len(self.0)?;
        let (element, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(Element(element))
    }
}

/// One element, brackets included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a>(&'a [u8]);

impl<'a> Element<'a> {
    /// The element's bytes, brackets included.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The SD-ID: `log@32473`.
    pub fn id(&self) -> &'a [u8] {
        let inner = &self.0[1..self.0.len() - 1];
        inner.split(|b| *b == b' ').next().unwrap_or_default()
    }

    /// The part of the SD-ID in front of `@`.
    pub fn name(&self) -> &'a [u8] {
        self.id().split(|b| *b == b'@').next().unwrap_or_default()
    }

    /// The parameters in their order, their values unescaped.
    pub fn params(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> + use<'a> {
        let mut rest = &self.0[1 + self.id().len()..];
        std::iter::from_fn(move || {
            let (name, value, len) = split_param(rest)?;
            rest = &rest[len..];
            Some((std::str::from_utf8(name).ok()?, unescape(value)))
        })
    }

    /// The value of the first parameter of this name.
    pub fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.params().find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

/// An entry: a message whose first element says what it is.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    message: Message<'a>,
    kind: Kind,
    first: Element<'a>,
}

impl<'a> Entry<'a> {
    /// Parses an entry.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EntryError> {
        if bytes.len() > MAX_ENTRY_LEN {
            return Err(EntryError::TooLong);
        }
        let message = Message::parse(bytes).ok_or(EntryError::Message)?;
        let first = message.elements().next().ok_or(EntryError::NoElement)?;
        let kind = match first.name() {
            b"log" => Kind::Record,
            b"seal" => Kind::Seal,
            b"block" => Kind::Block,
            b"enrol" => Kind::Enrol,
            b"equivocation" => Kind::Equivocation,
            b"prune" => Kind::Prune,
            b"drill" => Kind::Drill,
            _ => return Err(EntryError::Kind),
        };
        Ok(Entry { message, kind, first })
    }

    /// What the entry is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The entry as a syslog message.
    pub fn message(&self) -> &Message<'a> {
        &self.message
    }

    /// The element that says what the entry is.
    pub fn element(&self) -> &Element<'a> {
        &self.first
    }

    /// The access fields of a record, empty if it has none.
    pub fn access(&self) -> Vec<(&'a str, Cow<'a, str>)> {
        let second = self.message.elements().nth(1).filter(|e| e.name() == b"access");
        second.map(|e| e.params().collect()).unwrap_or_default()
    }
}

/// True if `bytes` are a record that names `agent` and `n`: what a node checks of every entry of
/// a batch, so that no agent speaks for another or for the ledger. It looks only as far as it must.
pub fn is_record_of(bytes: &[u8], agent: &AgentName, n: u64) -> bool {
    fn start<'b>(bytes: &'b [u8], n: &mut [u8; 20], number: u64) -> Option<(&'b [u8], usize)> {
        let mut at = parse_priority(bytes)?.1;
        at += bytes[at..].starts_with(b"1 ").then_some(2)?;
        for _ in 0..5 {
            at += bytes[at..].iter().position(|b| *b == b' ')? + 1;
        }
        let rest = bytes[at..].strip_prefix(b"[log@")?;
        let digits = rest.iter().take(10).take_while(|b| b.is_ascii_digit()).count();
        let rest = rest[digits..].strip_prefix(b" agent=\"")?;
        let mut len = 20;
        let mut left = number;
        loop {
            len -= 1;
            n[len] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                return (digits > 0).then_some((rest, len));
            }
        }
    }
    let mut digits = [0; 20];
    if bytes.len() > MAX_ENTRY_LEN {
        return false;
    }
    let Some((rest, from)) = start(bytes, &mut digits, n) else { return false };
    rest.strip_prefix(agent.as_str().as_bytes())
        .and_then(|rest| rest.strip_prefix(b"\" n=\""))
        .and_then(|rest| rest.strip_prefix(&digits[from..]))
        .is_some_and(|rest| rest.starts_with(b"\" source=\""))
}

/// Whose record `bytes` are, and its number, if [`is_record_of`] finds them to be one.
pub fn record_of(bytes: &[u8]) -> Option<(AgentName, u64)> {
    let mut at = 0;
    for _ in 0..6 {
        at += bytes[at..].iter().position(|b| *b == b' ')? + 1;
    }
    let quoted = |bytes: &'_ [u8]| bytes.iter().take(64).position(|b| *b == b'"');
    let rest = bytes[at..].strip_prefix(b"[log@")?;
    let digits = rest.iter().take(10).take_while(|b| b.is_ascii_digit()).count();
    let rest = rest[digits..].strip_prefix(b" agent=\"")?;
    let (agent, rest) = rest.split_at(quoted(rest)?);
    let rest = rest.strip_prefix(b"\" n=\"")?;
    let agent: AgentName = std::str::from_utf8(agent).ok()?.parse().ok()?;
    let n: u64 = std::str::from_utf8(&rest[..quoted(rest)?]).ok()?.parse().ok()?;
    is_record_of(bytes, &agent, n).then_some((agent, n))
}

/// PRI at the front (RFC 5424, section 6.2.1): its value and its length with the angle brackets.
pub fn parse_priority(bytes: &[u8]) -> Option<(u8, usize)> {
    let rest = bytes.strip_prefix(b"<")?;
    let len = rest.iter().take(4).position(|b| *b == b'>')?;
    let digits = &rest[..len];
    let canonical = digits == b"0" || digits.first().is_some_and(|b| *b != b'0');
    if !canonical || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0u16, |value, b| value * 10 + u16::from(b - b'0'));
    (value <= 191).then_some((value as u8, len + 2))
}

/// TIMESTAMP as RFC 5424, section 6.2.3 restricts RFC 3339.
fn is_timestamp(text: &[u8]) -> bool {
    let shape = |pattern: &[u8], text: &[u8]| {
        text.len() >= pattern.len()
            && pattern.iter().zip(text).all(|(p, b)| match p {
                b'0' => b.is_ascii_digit(),
                p => p == b,
            })
    };
    if !shape(b"0000-00-00T00:00:00", text) {
        return false;
    }
    let mut rest = &text[19..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=6).contains(&digits) {
            return false;
        }
        rest = &fraction[digits..];
    }
    rest == b"Z" || (rest.len() == 6 && (shape(b"+00:00", rest) || shape(b"-00:00", rest)))
}

/// The length of STRUCTURED-DATA at the front (RFC 5424, section 6.3).
fn data_len(bytes: &[u8]) -> Option<usize> {
    if bytes.first() == Some(&b'-') {
        return Some(1);
    }
    let mut at = 0;
    while bytes.get(at) == Some(&b'[') {
        at += element_len(&bytes[at..])?;
    }
    (at > 0).then_some(at)
}

/// The length of the SD-ELEMENT at the front, brackets included.
fn element_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 1 + name_len(bytes.strip_prefix(b"[")?)?;
    loop {
        match bytes.get(at)? {
            b']' => return Some(at + 1),
            b' ' => at += split_param(&bytes[at..])?.2,
            _ => return None,
        }
    }
}

/// Splits ` name="value"` off the front: name, raw value, length.
fn split_param(bytes: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let rest = bytes.strip_prefix(b" ")?;
    let len = name_len(rest)?;
    let (name, rest) = rest.split_at(len);
    let raw = rest.strip_prefix(b"=\"")?;
    let mut end = 0;
    loop {
        match raw.get(end)? {
            b'"' => break,
            b']' => return None,
            b'\\' => end += 1 + usize::from(matches!(raw.get(end + 1)?, b'"' | b'\\' | b']')),
            _ => end += 1,
        }
    }
    let value = &raw[..end];
    std::str::from_utf8(value).ok()?;
    Some((name, value, 1 + len + 2 + end + 1))
}

/// The length of the SD-NAME at the front, 1 to 32 (RFC 5424, section 6.3.2).
fn name_len(bytes: &[u8]) -> Option<usize> {
    let good = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'=' | b']' | b'"');
    let len = bytes.iter().take(33).take_while(|b| good(b)).count();
    (1..=32).contains(&len).then_some(len)
}

fn unescape(raw: &[u8]) -> Cow<'_, str> {
    if !raw.contains(&b'\\') {
        return String::from_utf8_lossy(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        let escaped = raw[at] == b'\\' && matches!(raw.get(at + 1), Some(b'"' | b'\\' | b']'));
        at += usize::from(escaped);
        out.push(raw[at]);
        at += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}
