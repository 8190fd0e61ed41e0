//! From a line to its entry, or entries: header, our elements, the line's bytes.

use crate::extract::{Access, Extractor};
use record::{
    AgentName, UnixMillis,
    batch::{BatchBuilder, MAX_BATCH_BYTES},
    entry::{Built, Enterprise, Header, LogElement, MAX_ENTRY_LEN, Message, Part, parse_priority},
    merkle::EntryIndex,
};
use std::num::NonZeroU32;
use syslog_loose::{ProcId, Variant};

/// The longest line, in bytes: all parts of a line must fit into one batch, so that a source's
/// position never points into the middle of a line.
pub const MAX_LINE: usize = 3 << 20;

/// Facility 13 (log audit), severity 6 (informational): for lines that bring no priority.
const DEFAULT_PRIORITY: u8 = 110;

/// How a source's lines become records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSettings {
    /// The source's name in every record.
    pub name: String,
    /// What is taken from its lines.
    pub format: Extractor,
    /// True if its lines are syslog messages, false if they are plain lines.
    pub syslog: bool,
}

impl SourceSettings {
    /// What is taken from a line; of a syslog message, from what it carries.
    pub fn extract<'a>(&self, line: &'a [u8]) -> Access<'a> {
        if !self.syslog {
            return self.format.extract(line);
        }
        match Message::parse(line) {
            Some(message) => self.format.extract(message.msg()),
            None => self.format.extract(Loose::parse(line).msg),
        }
    }
}

/// What all records of an agent have in common.
#[derive(Clone, Debug)]
pub struct RecordSettings {
    /// The agent's name.
    pub agent: AgentName,
    /// The enterprise number of our elements.
    pub enterprise: Enterprise,
    /// HOSTNAME of records whose lines bring none.
    pub host: String,
    /// The configured sources; a [`crate::line::SourceId`] is an index into them.
    pub sources: Vec<SourceSettings>,
}

/// A line with everything its record says about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) source: &'a SourceSettings,
    pub(crate) peer: Option<&'a str>,
    pub(crate) transport: Option<&'a str>,
    pub(crate) received: UnixMillis,
    pub(crate) line: &'a [u8],
}

impl RecordSettings {
    /// Appends the record of a line to a batch, in several parts if it is too long for one entry.
    /// Nothing is appended if the batch has no room for all of them.
    pub(crate) fn append(&self, batch: &mut BatchBuilder, incoming: &Incoming<'_>) -> Appended {
        if !batch.has_room() {
            return Appended::NoRoom;
        }
        let built = if incoming.source.syslog {
            self.append_syslog(batch, incoming)
        } else {
            let access = incoming.source.format.extract(incoming.line);
            self.append_plain(batch, incoming, &access)
        };
        match built {
            Built::Whole => Appended::Done,
            Built::TooLong(_) => self.append_parts(batch, incoming),
        }
    }

    fn append_plain(
        &self,
        batch: &mut BatchBuilder,
        incoming: &Incoming<'_>,
        access: &Access<'_>,
    ) -> Built {
        let header = self.plain_header(incoming, access);
        let element = self.element(incoming, batch.next(), None);
        batch.push(|out| element.wrap(out, &header, &access.fields, incoming.line))
    }

    fn append_syslog(&self, batch: &mut BatchBuilder, incoming: &Incoming<'_>) -> Built {
        let element = self.element(incoming, batch.next(), None);
        if let Some(message) = Message::parse(incoming.line) {
            let access = incoming.source.format.extract(message.msg());
            return batch.push(|out| element.splice(out, &message, &access.fields));
        }
        let loose = Loose::parse(incoming.line);
        let access = incoming.source.format.extract(loose.msg);
        let header = loose.header(&self.host, incoming.received, access.time);
        batch.push(|out| element.wrap(out, &header, &access.fields, incoming.line))
    }

    /// All parts hold a piece of the line as MSG; only the first has the access fields.
    fn append_parts(&self, batch: &mut BatchBuilder, incoming: &Incoming<'_>) -> Appended {
        let access = incoming.source.extract(incoming.line);
        let header = self.plain_header(incoming, &access);
        let most = NonZeroU32::MAX;
        let widest =
            self.element(incoming, EntryIndex(u64::MAX), Some(Part { number: most, of: most }));
        let mut scratch = Vec::new();
        widest.wrap(&mut scratch, &header, &access.fields, b"");
        let piece = MAX_ENTRY_LEN - scratch.len() - 1;
        let count = incoming.line.len().div_ceil(piece);
        let needed = incoming.line.len() + count * (scratch.len() + 3);
        if batch.bytes() + needed + MAX_ENTRY_LEN > MAX_BATCH_BYTES as usize && !batch.is_empty() {
            return Appended::NoRoom;
        }
        let of = u32::try_from(count).ok().and_then(NonZeroU32::new).expect("a line is bounded");
        for (number, bytes) in (1..).filter_map(NonZeroU32::new).zip(incoming.line.chunks(piece)) {
            let element = self.element(incoming, batch.next(), Some(Part { number, of }));
            let fields = if number.get() == 1 { &access.fields[..] } else { &[] };
            let built = batch.push(|out| element.wrap(out, &header, fields, bytes));
            assert_eq!(built, Built::Whole, "a piece fits by construction");
        }
        Appended::Done
    }

    fn plain_header<'a>(&'a self, incoming: &Incoming<'a>, access: &Access<'_>) -> Header<'a> {
        Header {
            priority: DEFAULT_PRIORITY,
            time: Some(access.time.unwrap_or(incoming.received)),
            host: self.host.as_bytes(),
            app: incoming.source.name.as_bytes(),
            procid: b"",
            msgid: b"",
        }
    }

    fn element<'a>(
        &'a self,
        incoming: &Incoming<'a>,
        n: EntryIndex,
        part: Option<Part>,
    ) -> LogElement<'a> {
        LogElement {
            enterprise: self.enterprise,
            agent: &self.agent,
            n,
            source: &incoming.source.name,
            received: incoming.received,
            peer: incoming.peer,
            transport: incoming.transport,
            part,
        }
    }
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// It is in the batch.
    Done,
    /// The batch must be sealed first.
    NoRoom,
}

/// What can be told of a message that is not RFC 5424. Its time is not used: without a year and a
/// zone of its own it would have to be guessed, and the time of receipt is the better one to sign.
struct Loose<'a> {
    priority: u8,
    host: Option<&'a str>,
    app: Option<&'a str>,
    procid: Option<String>,
    msg: &'a [u8],
}

impl<'a> Loose<'a> {
    fn parse(line: &'a [u8]) -> Self {
        let priority = parse_priority(line).map(|(value, _)| value);
        let nothing =
            Loose { priority: DEFAULT_PRIORITY, host: None, app: None, procid: None, msg: line };
        let (Some(priority), Ok(text)) = (priority, std::str::from_utf8(line)) else {
            return nothing;
        };
        let parsed = syslog_loose::parse_message_with_year_exact(text, |_| 1970, Variant::RFC3164);
        let Ok(parsed) = parsed else { return Loose { priority, ..nothing } };
        let procid = parsed.procid.map(|procid| match procid {
            ProcId::PID(pid) => pid.to_string(),
            ProcId::Name(name) => name.to_owned(),
        });
        Loose {
            priority,
            host: parsed.hostname,
            app: parsed.appname,
            procid,
            msg: parsed.msg.as_bytes(),
        }
    }

    fn header<'h>(
        &'h self,
        host: &'h str,
        received: UnixMillis,
        time: Option<UnixMillis>,
    ) -> Header<'h> {
        Header {
            priority: self.priority,
            time: Some(time.unwrap_or(received)),
            host: self.host.unwrap_or(host).as_bytes(),
            app: self.app.unwrap_or_default().as_bytes(),
            procid: self.procid.as_deref().unwrap_or_default().as_bytes(),
            msgid: b"",
        }
    }
}
