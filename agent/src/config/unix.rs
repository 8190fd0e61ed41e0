//! `[[source.unix]]`.

use std::path::PathBuf;

use pipeline::Format;
use serde::Deserialize;
use service::config::ConfigError;

use super::{SourceConfig, SourceKind, formats::Fields, meaning::At, sources::MAX_LINE_KIB};
use crate::sources::unix::{Kind, UnixConfig};

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unix {
    name: String,
    path: PathBuf,
    #[serde(default)]
    kind: WrittenKind,
    mode: Option<String>,
    #[serde(default)]
    format: Format,
    pattern: Option<String>,
    #[serde(default)]
    fields: Fields,
    max_message_kib: Option<u64>,
    max_connections: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenKind {
    #[default]
    Datagram,
    Stream,
}

impl At<'_> {
    pub(super) fn unix(&self, table: String, unix: Unix) -> Result<SourceConfig, ConfigError> {
        let bounds = 64..=MAX_LINE_KIB;
        let key = format!("{table}.max_message_kib");
        let max_message = self.number(&key, unix.max_message_kib, 1024, bounds, "KiB")?;
        let key = format!("{table}.max_connections");
        let max_connections =
            self.number(&key, unix.max_connections, 64, 1..=8192, "connections")?;
        if !unix.path.is_absolute() {
            let path = unix.path.display();
            return self.fail(&format!("{table}.path"), format!("'{path}' is not absolute"));
        }
        let kind = SourceKind::Unix(UnixConfig {
            path: unix.path,
            kind: match unix.kind {
                WrittenKind::Datagram => Kind::Datagram,
                WrittenKind::Stream => Kind::Stream,
            },
            mode: self.mode(&format!("{table}.mode"), unix.mode.as_deref().unwrap_or("0666"))?,
            max_message: (max_message << 10) as usize,
            max_connections: max_connections as usize,
        });
        let name = self.source_name(&table, unix.name)?;
        let format = self.extractor(&table, unix.format, unix.pattern, unix.fields)?;
        Ok(SourceConfig { name, format, kind, table })
    }

    fn mode(&self, key: &str, text: &str) -> Result<u32, ConfigError> {
        let octal = text.bytes().all(|b| matches!(b, b'0'..=b'7'));
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777);
        let hint = "is no mode of a file: write it in octal, such as '0666' or '0620'";
        mode.ok_or_else(|| self.0.error(key, format!("'{text}' {hint}")))
    }
}
