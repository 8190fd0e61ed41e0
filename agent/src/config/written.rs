//! The configuration as it is written: types of TOML, nothing checked.

use std::path::PathBuf;

use pipeline::Format;
use serde::Deserialize;
use service::config::Tls;

use super::formats::Fields;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) policy: PathBuf,
    pub(super) enterprise: Option<u32>,
    pub(super) host: Option<String>,
    pub(super) ledger: Ledger,
    pub(super) tls: Tls,
    pub(super) seal: Seal,
    pub(super) spool: Spool,
    #[serde(default)]
    pub(super) source: Sources,
    pub(super) metrics: Option<Metrics>,
    pub(super) shadow: Option<Shadow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    pub(super) nodes: Vec<String>,
    pub(super) patience_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seal {
    pub(super) key: PathBuf,
    pub(super) linger_ms: Option<u64>,
    pub(super) max_records: Option<u64>,
    pub(super) max_kib: Option<u64>,
    pub(super) heartbeat_s: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spool {
    pub(super) dir: PathBuf,
    pub(super) max_mib: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sources {
    #[serde(default)]
    pub(super) file: Vec<File>,
    #[serde(default)]
    pub(super) syslog: Vec<Syslog>,
    #[serde(default)]
    pub(super) relp: Vec<super::relp::Relp>,
    #[serde(default)]
    pub(super) unix: Vec<super::unix::Unix>,
    #[serde(default)]
    pub(super) udp: Vec<super::udp::Udp>,
    #[serde(default)]
    pub(super) stdin: Vec<super::stdin::Stdin>,
    #[serde(default)]
    pub(super) journald: Vec<super::journald::Journald>,
    #[cfg(feature = "otlp")]
    #[serde(default)]
    pub(super) otlp: Vec<super::otlp::Otlp>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) paths: Vec<String>,
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    #[serde(default)]
    pub(super) format: Format,
    pub(super) pattern: Option<String>,
    #[serde(default)]
    pub(super) fields: Fields,
    #[serde(default)]
    pub(super) start: Start,
    #[serde(default)]
    pub(super) watch: Watch,
    pub(super) max_line_kib: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Watch {
    #[default]
    System,
    Poll,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Start {
    #[default]
    Beginning,
    End,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Syslog {
    pub(super) name: String,
    pub(super) listen: String,
    #[serde(default)]
    pub(super) format: Format,
    pub(super) pattern: Option<String>,
    #[serde(default)]
    pub(super) fields: Fields,
    pub(super) max_message_kib: Option<u64>,
    pub(super) max_connections: Option<u64>,
    pub(super) max_buffered_mib: Option<u64>,
    pub(super) tls: Option<Tls>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) listen: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shadow {
    #[serde(default)]
    pub(super) sources: Vec<String>,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    pub(super) udp: Option<String>,
    pub(super) tcp: Option<String>,
    pub(super) file: Option<String>,
    pub(super) dir: PathBuf,
    pub(super) keep_days: Option<u64>,
    pub(super) settle_s: Option<u64>,
    pub(super) period_s: Option<u64>,
    pub(super) max_pending: Option<u64>,
    pub(super) examples: Option<u64>,
    pub(super) rcvbuf_kib: Option<u64>,
}
