//! `[[source.otlp]]`.

use link::tls::TlsFiles;
use pipeline::Format;
use serde::Deserialize;
use service::config::{ConfigError, Tls};

use super::{SourceConfig, SourceKind, formats::Fields, meaning::At};
use crate::sources::otlp::OtlpConfig;

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Otlp {
    name: String,
    listen: String,
    #[serde(default)]
    plain: bool,
    #[serde(default)]
    format: Format,
    pattern: Option<String>,
    #[serde(default)]
    fields: Fields,
    max_request_kib: Option<u64>,
    max_connections: Option<u64>,
    tls: Option<Tls>,
}

impl At<'_> {
    pub(super) fn otlp(
        &self,
        table: String,
        otlp: Otlp,
        tls: &TlsFiles,
    ) -> Result<SourceConfig, ConfigError> {
        let listen = self.address(&format!("{table}.listen"), &otlp.listen)?;
        if otlp.plain && !listen.ip().is_loopback() {
            let problem =
                "without TLS it is taken on loopback only: leave it out, or use 127.0.0.1";
            return self.fail(&format!("{table}.plain"), problem);
        }
        let key = format!("{table}.max_request_kib");
        let bounds = 64..=16 << 10;
        let max_request = self.number(&key, otlp.max_request_kib, 4096, bounds, "KiB")?;
        let key = format!("{table}.max_connections");
        let max_connections =
            self.number(&key, otlp.max_connections, 64, 1..=8192, "connections")?;
        let tls = match otlp.tls {
            _ if otlp.plain => None,
            Some(own) => Some((own.files(), table.clone())),
            None => Some((tls.clone(), "tls".to_owned())),
        };
        let kind = SourceKind::Otlp(OtlpConfig {
            listen,
            tls,
            max_request: (max_request << 10) as usize,
            max_connections: max_connections as usize,
        });
        let name = self.source_name(&table, otlp.name)?;
        let format = self.extractor(&table, otlp.format, otlp.pattern, otlp.fields)?;
        Ok(SourceConfig { name, format, kind, table })
    }
}
