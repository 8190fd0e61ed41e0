//! From a gateway's log line to the access fields: who, what, whom, why.
//!
//! Extraction never changes a line and never fails: a line that is not in its
//! source's format becomes a record without access fields. It happens once,
//! here; nodes index what was signed.
//!
//! A reader takes a line apart into values: [`json`] along JSON pointers, the
//! text formats by position, a regular expression by its groups. A table says
//! which value becomes which access field: each gateway has one, which the user
//! may change in the configuration. `docs/gateways.md` shows them all.

mod error;
mod format;
mod gateways;
mod json;
mod plan;
mod table;
mod text;
mod time;
mod value;

use plan::Plan;
use record::{UnixMillis, entry::Field};
use std::{borrow::Cow, sync::Arc};

pub use error::{ExtractError, Place};
pub use format::{Format, UnknownFormat};
pub use table::{ACCESS_FIELDS, TIME, UserTable, Wanted};

/// What was extracted from a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access<'a> {
    /// When it happened, by the gateway's clock.
    pub time: Option<UnixMillis>,
    /// The access fields, in the order in which they are written; none is empty.
    pub fields: Vec<Field<'a>>,
}

impl Access<'_> {
    /// True if nothing was extracted: the line is not in its source's format.
    pub fn is_empty(&self) -> bool {
        self.time.is_none() && self.fields.is_empty()
    }

    fn into_owned(self) -> Access<'static> {
        let fields = self.fields.into_iter();
        let fields = fields.map(|(name, value)| (name, Cow::Owned(value.into_owned()))).collect();
        Access { time: self.time, fields }
    }
}

/// A format with the user's own fields, ready for lines. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Extractor {
    format: Format,
    user: Arc<UserTable>,
    /// `None` extracts nothing.
    plan: Option<Arc<Plan>>,
}

/// Two are the same that were made of the same.
impl PartialEq for Extractor {
    fn eq(&self, other: &Self) -> bool {
        (self.format, &self.user) == (other.format, &other.user)
    }
}

impl Eq for Extractor {}

impl Extractor {
    /// Prepares a format and what the user wants otherwise.
    ///
    /// # Errors
    /// When the user's table does not fit the format: the user is at fault.
    pub fn new(format: Format, user: &UserTable) -> Result<Self, ExtractError> {
        let plan = Plan::new(format, user)?.map(Arc::new);
        Ok(Extractor { format, user: Arc::new(user.clone()), plan })
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Extracts the access fields of `line`.
    pub fn extract<'a>(&self, line: &'a [u8]) -> Access<'a> {
        let Some(plan) = &self.plan else { return Access::default() };
        match std::str::from_utf8(line) {
            Ok(text) => plan.extract(text),
            // A byte that a client slipped into one value must not hide the others.
            Err(_) => plan.extract(&String::from_utf8_lossy(line)).into_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
