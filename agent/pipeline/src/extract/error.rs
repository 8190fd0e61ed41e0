//! What can be wrong with a user's table.

use super::{
    Format,
    table::{ACCESS_FIELDS, MAX_FROM, TIME},
};

/// A user's table does not fit its format; whoever wrote it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ExtractError {
    /// Which key is wrong.
    pub place: Place,
    problem: Problem,
}

/// A key of a source in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `format`.
    Format,
    /// `pattern`.
    Pattern,
    /// The entry of this name in the table of fields.
    Field(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("is no access field: use {}, or {TIME}", ACCESS_FIELDS.join(", "))]
    UnknownField,
    #[error("format '{0}' extracts nothing: choose another one, or take the fields away")]
    NoFieldsPossible(Format),
    #[error("format '{0}' has no fields of its own: say in a table 'fields' what to take")]
    NothingWanted(Format),
    #[error(
        "'{0}' is no JSON pointer: write /, a name, / and so on, with ~0 for ~ and ~1 for / in \
         names, 16 names at most"
    )]
    Pointer(String),
    #[error("'{from}' is no part of a line in the format '{format}': use {}", known.join(", "))]
    UnknownPart { from: String, format: Format, known: Vec<String> },
    #[error("the pattern has no group '{from}': it has {}", listed(known))]
    UnknownGroup { from: String, known: Vec<String> },
    #[error("has no unit: only event.duration and {TIME} have one")]
    NoUnitPossible,
    #[error("needs a unit: write {{ from = \"…\", unit = \"…\" }} with one of {0}")]
    UnitMissing(&'static str),
    #[error("'{0}' is no unit of it: use {1}")]
    UnknownUnit(String, &'static str),
    #[error("names more than {MAX_FROM} places to look at")]
    TooMany,
    #[error("format 'regex' needs a pattern with groups such as (?<who>…)")]
    PatternMissing,
    #[error("a pattern belongs to format 'regex', and this source's is '{0}'")]
    PatternUnused(Format),
    #[error("is no regular expression: {0}")]
    Pattern(String),
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { "none with a name".to_owned() } else { known.join(", ") }
}

impl Problem {
    pub(super) fn at(self, place: Place) -> ExtractError {
        ExtractError { place, problem: self }
    }

    pub(super) fn of(self, field: &str) -> ExtractError {
        self.at(Place::Field(field.chars().take(100).collect()))
    }
}
