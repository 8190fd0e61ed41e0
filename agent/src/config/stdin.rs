//! `[[source.stdin]]`.

use pipeline::Format;
use serde::Deserialize;
use service::config::ConfigError;

use super::{SourceConfig, SourceKind, formats::Fields, meaning::At, sources::MAX_LINE_KIB};
use crate::sources::stdin::StdinConfig;

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stdin {
    name: String,
    #[serde(default)]
    format: Format,
    pattern: Option<String>,
    #[serde(default)]
    fields: Fields,
    max_line_kib: Option<u64>,
}

impl At<'_> {
    pub(super) fn stdin(&self, table: String, stdin: Stdin) -> Result<SourceConfig, ConfigError> {
        let key = format!("{table}.max_line_kib");
        let bounds = 1..=MAX_LINE_KIB;
        let max_line = self.number(&key, stdin.max_line_kib, MAX_LINE_KIB, bounds, "KiB")?;
        let kind = SourceKind::Stdin(StdinConfig { max_line: (max_line << 10) as usize });
        let name = self.source_name(&table, stdin.name)?;
        let format = self.extractor(&table, stdin.format, stdin.pattern, stdin.fields)?;
        Ok(SourceConfig { name, format, kind, table })
    }
}
