//! Lines that say themselves, as JSON, what belongs into a record's header.
//!
//! Nothing here fails: what a line does not say, or says in a way that nobody
//! expects, is taken from elsewhere, and the line is kept whatever it is.

mod journal;
mod otlp;

pub(crate) use journal::journal;
pub(crate) use otlp::otlp;

use crate::{entries::DEFAULT_PRIORITY, extract::Access};
use record::{UnixMillis, entry::Header};
use std::borrow::Cow;

/// What a line says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told<'a> {
    /// 0 to 7.
    severity: Option<u8>,
    /// 0 to 23.
    facility: Option<u8>,
    pub(crate) time: Option<UnixMillis>,
    host: Option<Cow<'a, [u8]>>,
    app: Option<Cow<'a, [u8]>>,
    procid: Option<Cow<'a, [u8]>>,
    /// What the source's format is for.
    pub(crate) message: Option<Cow<'a, [u8]>>,
}

impl Told<'_> {
    /// The header; what is not told is that of a `plain` line.
    pub(crate) fn header<'h>(&'h self, plain: &Header<'h>, access: &Access<'_>) -> Header<'h> {
        let facility = self.facility.unwrap_or(DEFAULT_PRIORITY / 8);
        let severity = self.severity.unwrap_or(DEFAULT_PRIORITY % 8);
        Header {
            priority: facility * 8 + severity,
            time: access.time.or(self.time).or(plain.time),
            host: self.host.as_deref().unwrap_or(plain.host),
            app: self.app.as_deref().unwrap_or(plain.app),
            procid: self.procid.as_deref().unwrap_or(plain.procid),
            msgid: plain.msgid,
        }
    }
}
