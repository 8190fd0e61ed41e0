//! From a gateway's log line to the access fields: who, what, whom, why.
//!
//! Extraction never changes a line and never fails: a line that is not in its
//! source's format becomes a record without access fields. It happens once,
//! here; nodes index what was signed.

mod kong;
mod nginx;

use record::{UnixMillis, entry::Field};
use std::borrow::Cow;

/// The format of a source's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Kept as they are, no fields extracted.
    #[default]
    Raw,
    /// Kong's `file-log` and `http-log` JSON.
    Kong,
    /// nginx's predefined `combined` format.
    NginxCombined,
}

/// What was extracted from a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access<'a> {
    /// When it happened, by the gateway's clock.
    pub time: Option<UnixMillis>,
    /// The access fields, in the order in which they are written.
    pub fields: Vec<Field<'a>>,
}

impl<'a> Access<'a> {
    fn put(&mut self, name: &'static str, value: impl Into<Cow<'a, str>>) {
        let value = value.into();
        if !value.is_empty() {
            self.fields.push((name, value));
        }
    }
}

impl Format {
    /// Extracts the access fields of `line`.
    pub fn extract(self, line: &[u8]) -> Access<'_> {
        match self {
            Format::Raw => Access::default(),
            Format::Kong => kong::extract(line).unwrap_or_default(),
            Format::NginxCombined => nginx::extract(line).unwrap_or_default(),
        }
    }
}

/// The path of a request target: everything in front of the query.
fn path(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or_default()
}
