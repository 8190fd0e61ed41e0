//! `[[source.journald]]`.

use std::path::PathBuf;

use pipeline::Format;
use serde::Deserialize;
use service::config::ConfigError;

use super::{SourceConfig, SourceKind, formats::Fields, meaning::At};
use crate::sources::journald::{JournaldConfig, Start};

/// Where packages put it.
const JOURNALCTL: &str = "/usr/bin/journalctl";

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journald {
    name: String,
    #[serde(default)]
    units: Vec<String>,
    #[serde(default)]
    identifiers: Vec<String>,
    #[serde(default)]
    matches: Vec<String>,
    priority: Option<String>,
    directory: Option<PathBuf>,
    namespace: Option<String>,
    #[serde(default)]
    start: WrittenStart,
    #[serde(default)]
    format: Format,
    pattern: Option<String>,
    #[serde(default)]
    fields: Fields,
    journalctl: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenStart {
    #[default]
    Beginning,
    End,
    Boot,
}

impl At<'_> {
    pub(super) fn journald(
        &self,
        table: String,
        written: Journald,
    ) -> Result<SourceConfig, ConfigError> {
        for (leaf, values) in [("units", &written.units), ("identifiers", &written.identifiers)] {
            if values.iter().any(String::is_empty) {
                return self.fail(&format!("{table}.{leaf}"), "a name is empty");
            }
        }
        if let Some(wrong) = written.matches.iter().find(|text| !is_match(text)) {
            let hint = "is no match: write FIELD=value, such as '_UID=33'";
            return self.fail(&format!("{table}.matches"), format!("'{wrong}' {hint}"));
        }
        if let Some(directory) = written.directory.as_ref().filter(|dir| !dir.is_absolute()) {
            let problem = format!("'{}' is not absolute", directory.display());
            return self.fail(&format!("{table}.directory"), problem);
        }
        if let Some(priority) = &written.priority
            && !is_priority(priority)
        {
            let hint =
                "is no priority: use 0 to 7, emerg to debug, or a range such as 'emerg..err'";
            return self.fail(&format!("{table}.priority"), format!("'{priority}' {hint}"));
        }
        let kind = SourceKind::Journald(JournaldConfig {
            journalctl: written.journalctl.unwrap_or_else(|| JOURNALCTL.into()),
            units: written.units,
            identifiers: written.identifiers,
            matches: written.matches,
            priority: written.priority,
            directory: written.directory,
            namespace: written.namespace,
            start: match written.start {
                WrittenStart::Beginning => Start::Beginning,
                WrittenStart::End => Start::End,
                WrittenStart::Boot => Start::Boot,
            },
        });
        let name = self.source_name(&table, written.name)?;
        let format = self.extractor(&table, written.format, written.pattern, written.fields)?;
        Ok(SourceConfig { name, format, kind, table })
    }
}

/// `FIELD=value`; what begins otherwise would be an option or an operator to `journalctl`.
fn is_match(text: &str) -> bool {
    let field = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    text.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.bytes().all(field))
}

fn is_priority(text: &str) -> bool {
    let names = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
    let one = |text: &str| names.contains(&text) || matches!(text.as_bytes(), [b'0'..=b'7']);
    text.split_once("..").map_or_else(|| one(text), |(from, to)| one(from) && one(to))
}
