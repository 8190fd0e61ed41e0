//! Tables from what a line holds to the access fields.

use super::error::Problem;
use super::value::{Clock, Kind, Unit};
use std::collections::BTreeMap;

/// The access fields, in the order in which they are written.
pub const ACCESS_FIELDS: [&str; 12] = [
    "user.id",
    "source.ip",
    "http.request.method",
    "url.path",
    "http.response.status_code",
    "event.duration",
    "purpose",
    "subject",
    "transaction.id",
    "action",
    "items",
    "party",
];

/// The name, in tables, of the time that becomes TIMESTAMP.
pub const TIME: &str = "time";

/// The most places that are looked at for one field.
pub(super) const MAX_FROM: usize = 16;

/// A line of a gateway's table: the field is the first of these that is there. Several entries of a
/// field are looked at one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) field: &'static str,
    pub(super) from: &'static [&'static str],
    pub(super) kind: Kind,
}

/// An entry of a field without a unit.
pub(super) const fn of(field: &'static str, from: &'static [&'static str]) -> Entry {
    Entry { field, from, kind: Kind::Plain }
}

/// An entry of the duration.
pub(super) const fn took(unit: Unit, from: &'static [&'static str]) -> Entry {
    Entry { field: "event.duration", from, kind: Kind::Duration(unit) }
}

/// An entry of the time.
pub(super) const fn at(clock: Clock, from: &'static [&'static str]) -> Entry {
    Entry { field: TIME, from, kind: Kind::Time(clock) }
}

/// What a user wants instead of, or besides, the predefined table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserTable {
    /// The regular expression of [`super::Format::Regex`].
    pub pattern: Option<String>,
    /// By access field, or [`TIME`]: where to look. The first that is there is taken; nowhere takes
    /// the predefined entry away.
    pub fields: BTreeMap<String, Vec<Wanted>>,
}

/// A place to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// A JSON pointer (RFC 6901), the name of a part of the line, or of a group of the pattern.
    pub from: String,
    /// For the duration `s`, `ms`, `us` or `ns`; for the time these, counted from 1970, or
    /// `rfc3339` or `clf`.
    pub unit: Option<String>,
}

impl Wanted {
    /// A place to look at for a field without a unit.
    pub fn from(from: &str) -> Self {
        Wanted { from: from.to_owned(), unit: None }
    }

    /// What its value is, for this field.
    pub(super) fn kind(&self, field: &str) -> Result<Kind, Problem> {
        const DURATIONS: &str = "s, ms, us, ns";
        const TIMES: &str = "rfc3339, clf, s, ms, us, ns";
        let unit = self.unit.as_deref();
        let unknown = |known| Problem::UnknownUnit(unit.unwrap_or_default().to_owned(), known);
        match (field, unit) {
            ("event.duration", None) => Err(Problem::UnitMissing(DURATIONS)),
            ("event.duration", Some(unit)) => {
                Unit::parse(unit).map(Kind::Duration).ok_or_else(|| unknown(DURATIONS))
            }
            (TIME, None) => Err(Problem::UnitMissing(TIMES)),
            (TIME, Some("rfc3339")) => Ok(Kind::Time(Clock::Rfc3339)),
            (TIME, Some("clf")) => Ok(Kind::Time(Clock::Clf)),
            (TIME, Some(unit)) => {
                let epoch = Unit::parse(unit).map(|unit| Kind::Time(Clock::Epoch(unit)));
                epoch.ok_or_else(|| unknown(TIMES))
            }
            (_, None) => Ok(Kind::Plain),
            (_, Some(_)) => Err(Problem::NoUnitPossible),
        }
    }
}
