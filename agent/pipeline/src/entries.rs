//! From a line to its entry, or entries: header, our elements, the line's bytes.

use crate::{
    extract::{Access, Extractor},
    syslog::Loose,
    told::{self, Told},
};
use record::{
    AgentName, UnixMillis,
    batch::{BatchBuilder, MAX_BATCH_BYTES},
    entry::{Built, Enterprise, Header, LogElement, MAX_ENTRY_LEN, Message, Part},
    merkle::EntryIndex,
};
use std::num::NonZeroU32;

/// The longest line, in bytes: all parts of a line must fit into one batch, so that a source's
/// position never points into the middle of a line.
pub const MAX_LINE: usize = 3 << 20;

/// Facility 13 (log audit), severity 6 (informational): for lines that bring no priority.
pub(crate) const DEFAULT_PRIORITY: u8 = 110;

/// How a source's lines become records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSettings {
    /// The source's name in every record.
    pub name: String,
    /// What is taken from its lines.
    pub format: Extractor,
    /// What its lines are written in, around what the format is for.
    pub syntax: Syntax,
}

/// What a source's lines are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syntax {
    /// Nothing: the format is for the whole line.
    #[default]
    Plain,
    /// Syslog messages; the format is for their MSG.
    Syslog,
    /// Entries of the systemd journal as `journalctl --output=json` writes them; the format is
    /// for their MESSAGE.
    Journal,
    /// Log records of OpenTelemetry as [`crate::otlp`] writes them; the format is for their body,
    /// where that is text.
    Otlp,
}

impl Syntax {
    /// What a line says of itself, where it is written in one that says all in JSON.
    pub(crate) fn told(self, line: &[u8]) -> Option<Told<'_>> {
        match self {
            Syntax::Plain | Syntax::Syslog => None,
            Syntax::Journal => Some(told::journal(line)),
            Syntax::Otlp => Some(told::otlp(line)),
        }
    }
}

impl SourceSettings {
    /// What is taken from a line; of a syslog message and the like, from what it carries.
    pub fn extract<'a>(&self, line: &'a [u8]) -> Access<'a> {
        if let Some(told) = self.syntax.told(line) {
            return self.format.extract(told.message.as_deref().unwrap_or_default()).into_owned();
        }
        if self.syntax != Syntax::Syslog {
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
        match incoming.source.syntax {
            Syntax::Plain => {
                let access = incoming.source.format.extract(incoming.line);
                let header = self.plain_header(incoming, &access);
                self.append_wrapped(batch, incoming, &header, &access)
            }
            Syntax::Syslog => match self.append_syslog(batch, incoming) {
                Built::Whole => Appended::Done,
                Built::TooLong(_) => {
                    let access = incoming.source.extract(incoming.line);
                    let header = self.plain_header(incoming, &access);
                    self.append_parts(batch, incoming, &header, &access)
                }
            },
            syntax @ (Syntax::Journal | Syntax::Otlp) => {
                let told = syntax.told(incoming.line).unwrap_or_default();
                self.append_told(batch, incoming, &told)
            }
        }
    }

    /// A line that says itself, in its syntax, what belongs into the header.
    fn append_told(
        &self,
        batch: &mut BatchBuilder,
        incoming: &Incoming<'_>,
        told: &Told<'_>,
    ) -> Appended {
        let access = incoming.source.format.extract(told.message.as_deref().unwrap_or_default());
        let header = told.header(&self.plain_header(incoming, &access), &access);
        self.append_wrapped(batch, incoming, &header, &access)
    }

    fn append_wrapped(
        &self,
        batch: &mut BatchBuilder,
        incoming: &Incoming<'_>,
        header: &Header<'_>,
        access: &Access<'_>,
    ) -> Appended {
        let element = self.element(incoming, batch.next(), None);
        match batch.push(|out| element.wrap(out, header, &access.fields, incoming.line)) {
            Built::Whole => Appended::Done,
            Built::TooLong(_) => self.append_parts(batch, incoming, header, access),
        }
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
    fn append_parts(
        &self,
        batch: &mut BatchBuilder,
        incoming: &Incoming<'_>,
        header: &Header<'_>,
        access: &Access<'_>,
    ) -> Appended {
        let most = NonZeroU32::MAX;
        let widest =
            self.element(incoming, EntryIndex(u64::MAX), Some(Part { number: most, of: most }));
        let mut scratch = Vec::new();
        widest.wrap(&mut scratch, header, &access.fields, b"");
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
            let built = batch.push(|out| element.wrap(out, header, fields, bytes));
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
