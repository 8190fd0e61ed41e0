//! `[[source.relp]]`.

use link::tls::TlsFiles;
use pipeline::{Format, MAX_LINE};
use serde::Deserialize;
use service::config::{ConfigError, Tls};

use super::{ListenerTls, RelpSettings, SourceConfig, SourceKind, formats::Fields, meaning::At};
use crate::sources::relp::RelpConfig;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Relp {
    pub(super) name: String,
    listen: String,
    #[serde(default)]
    pub(super) format: Format,
    pub(super) pattern: Option<String>,
    #[serde(default)]
    pub(super) fields: Fields,
    max_message_kib: Option<u64>,
    max_connections: Option<u64>,
    max_buffered_mib: Option<u64>,
    resend_window: Option<u64>,
    tls: Option<Tls>,
    #[serde(default)]
    plain: bool,
}

impl At<'_> {
    pub(super) fn relp(
        &self,
        table: String,
        relp: Relp,
        tls: &TlsFiles,
    ) -> Result<SourceConfig, ConfigError> {
        let key = |name: &str| format!("{table}.{name}");
        let longest = (MAX_LINE >> 10) as u64;
        let max_message = self.number(
            &key("max_message_kib"),
            relp.max_message_kib,
            longest,
            64..=longest,
            "KiB",
        )?;
        let most = relp.max_connections;
        let most = self.number(&key("max_connections"), most, 64, 1..=8192, "connections")?;
        let buffered = relp.max_buffered_mib;
        let buffered = self.number(&key("max_buffered_mib"), buffered, 64, 8..=1024, "MiB")?;
        let window = relp.resend_window;
        let window = self.number(&key("resend_window"), window, 4096, 128..=65_536, "messages")?;
        let listen = self.address(&key("listen"), &relp.listen)?;
        if relp.plain && !listen.ip().is_loopback() {
            let problem = "without TLS only this machine may send: listen on 127.0.0.1 or [::1]";
            return self
                .fail(&key("listen"), format!("{listen} is reachable from outside; {problem}"));
        }
        if relp.plain && relp.tls.is_some() {
            return self.fail(&key("plain"), "plain = true and tls contradict each other");
        }
        let tls = match relp.tls {
            _ if relp.plain => None,
            Some(own) => Some(ListenerTls { files: own.files(), table: table.clone() }),
            None => Some(ListenerTls { files: tls.clone(), table: "tls".to_owned() }),
        };
        let settings = RelpConfig {
            max_message: (max_message << 10) as usize,
            max_connections: most as usize,
            max_buffered: (buffered << 20) as usize,
            resend_window: window as usize,
            ..RelpConfig::new(listen)
        };
        let kind = SourceKind::Relp(RelpSettings { relp: settings, tls });
        let format = self.extractor(&table, relp.format, relp.pattern, relp.fields)?;
        let name = self.source_name(&table, relp.name)?;
        Ok(SourceConfig { name, format, kind, table })
    }
}
