//! `[[source.udp]]`.

use pipeline::Format;
use serde::Deserialize;
use service::config::ConfigError;

use super::{SourceConfig, SourceKind, formats::Fields, meaning::At};
use crate::sources::udp::UdpConfig;

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Udp {
    name: String,
    listen: String,
    #[serde(default)]
    format: Format,
    pattern: Option<String>,
    #[serde(default)]
    fields: Fields,
    receive_buffer_kib: Option<u64>,
}

impl At<'_> {
    pub(super) fn udp(&self, table: String, udp: Udp) -> Result<SourceConfig, ConfigError> {
        let key = format!("{table}.listen");
        let listen = self.address(&key, &udp.listen)?;
        if !listen.ip().is_loopback() {
            let problem = "UDP is taken on loopback only: anybody in the network could write \
                           records. Let a relay on this machine receive it and send it to \
                           127.0.0.1, or use [[source.syslog]]";
            return self.fail(&key, problem);
        }
        let key = format!("{table}.receive_buffer_kib");
        let bounds = 64..=1 << 20;
        let buffer = self.number(&key, udp.receive_buffer_kib, 8192, bounds, "KiB")?;
        let kind = SourceKind::Udp(UdpConfig { listen, receive_buffer: (buffer << 10) as usize });
        let name = self.source_name(&table, udp.name)?;
        let format = self.extractor(&table, udp.format, udp.pattern, udp.fields)?;
        Ok(SourceConfig { name, format, kind, table })
    }
}
