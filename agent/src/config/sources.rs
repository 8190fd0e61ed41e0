//! The sources' part of the configuration.

use std::collections::BTreeSet;

use link::tls::TlsFiles;
use pipeline::{MAX_LINE, line::SourceId};
use service::config::ConfigError;

use super::{MAX_SOURCE_NAME, SourceConfig, SourceKind, SyslogConfig, meaning::At, written};
use crate::sources::tail::{Start, TailConfig, Watch};

/// The longest line or message that can be configured, in KiB.
pub(super) const MAX_LINE_KIB: u64 = (MAX_LINE >> 10) as u64;
/// The most sources: far beyond need, and it keeps their indices small.
const MAX_SOURCES: usize = 256;

impl At<'_> {
    pub(super) fn sources(
        &self,
        written: written::Sources,
        tls: &TlsFiles,
    ) -> Result<Vec<SourceConfig>, ConfigError> {
        let mut sources = Vec::new();
        for (index, file) in written.file.into_iter().enumerate() {
            sources.push(self.files(format!("source.file[{index}]"), file)?);
        }
        for (index, syslog) in written.syslog.into_iter().enumerate() {
            sources.push(self.syslog(format!("source.syslog[{index}]"), syslog, tls)?);
        }
        for (index, relp) in written.relp.into_iter().enumerate() {
            sources.push(self.relp(format!("source.relp[{index}]"), relp, tls)?);
        }
        for (index, unix) in written.unix.into_iter().enumerate() {
            sources.push(self.unix(format!("source.unix[{index}]"), unix)?);
        }
        for (index, udp) in written.udp.into_iter().enumerate() {
            sources.push(self.udp(format!("source.udp[{index}]"), udp)?);
        }
        for (index, stdin) in written.stdin.into_iter().enumerate() {
            sources.push(self.stdin(format!("source.stdin[{index}]"), stdin)?);
        }
        for (index, journald) in written.journald.into_iter().enumerate() {
            sources.push(self.journald(format!("source.journald[{index}]"), journald)?);
        }
        #[cfg(feature = "otlp")]
        for (index, otlp) in written.otlp.into_iter().enumerate() {
            sources.push(self.otlp(format!("source.otlp[{index}]"), otlp, tls)?);
        }
        if sources.is_empty() {
            return self.fail("source", "there is no source: add one, such as [[source.file]]");
        }
        if sources.len() > MAX_SOURCES {
            return self.fail("source", format!("there are more than {MAX_SOURCES} sources"));
        }
        self.check_unique(&sources)?;
        Ok(sources)
    }

    fn files(&self, table: String, file: written::File) -> Result<SourceConfig, ConfigError> {
        let bounds = 1..=MAX_LINE_KIB;
        let key = format!("{table}.max_line_kib");
        let max_line = self.number(&key, file.max_line_kib, MAX_LINE_KIB, bounds, "KiB")?;
        // The source gets its number when it is started.
        let mut tail = TailConfig::new(SourceId(0), file.paths);
        tail.exclude = file.exclude;
        tail.max_line = (max_line << 10) as usize;
        tail.start = match file.start {
            written::Start::Beginning => Start::Beginning,
            written::Start::End => Start::End,
        };
        tail.watch = match file.watch {
            written::Watch::System => Watch::System,
            written::Watch::Poll => Watch::Poll,
        };
        tail.check().map_err(|problem| self.0.error(&format!("{table}.paths"), problem))?;
        let format = self.extractor(&table, file.format, file.pattern, file.fields)?;
        let (name, kind) = (self.source_name(&table, file.name)?, SourceKind::Files(tail));
        Ok(SourceConfig { name, format, kind, table })
    }

    fn syslog(
        &self,
        table: String,
        syslog: written::Syslog,
        tls: &TlsFiles,
    ) -> Result<SourceConfig, ConfigError> {
        let key = format!("{table}.max_message_kib");
        let bounds = 64..=MAX_LINE_KIB;
        let max_message = self.number(&key, syslog.max_message_kib, 1024, bounds, "KiB")?;
        let key = format!("{table}.max_connections");
        let max_connections =
            self.number(&key, syslog.max_connections, 1024, 1..=8192, "connections")?;
        let key = format!("{table}.max_buffered_mib");
        let buffered = self.number(&key, syslog.max_buffered_mib, 64, 8..=1024, "MiB")?;
        let (tls, tls_table) = match syslog.tls {
            Some(own) => (own.files(), table.clone()),
            None => (tls.clone(), "tls".to_owned()),
        };
        let kind = SourceKind::Syslog(SyslogConfig {
            listen: self.address(&format!("{table}.listen"), &syslog.listen)?,
            max_message: (max_message << 10) as usize,
            max_connections: max_connections as usize,
            max_buffered: (buffered << 20) as usize,
            tls,
            tls_table,
        });
        let name = self.source_name(&table, syslog.name)?;
        let format = self.extractor(&table, syslog.format, syslog.pattern, syslog.fields)?;
        Ok(SourceConfig { name, format, kind, table })
    }

    /// A source's name stands in every record as APP-NAME, and in metrics.
    pub(super) fn source_name(&self, table: &str, name: String) -> Result<String, ConfigError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if (1..=MAX_SOURCE_NAME).contains(&name.len()) && name.bytes().all(plain) {
            return Ok(name);
        }
        let problem = "is no name for a source: use 1 to 48 letters, digits, '.', '_' and '-'";
        self.fail(&format!("{table}.name"), format!("'{name}' {problem}"))
    }

    fn check_unique(&self, sources: &[SourceConfig]) -> Result<(), ConfigError> {
        let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
        for source in sources {
            if !names.insert(&source.name) {
                let problem = format!("'{}' is the name of another source already", source.name);
                return self.fail(&format!("{}.name", source.table), problem);
            }
            if let Some((key, place)) = source.kind.place()
                && !places.insert(place.clone())
            {
                let problem = format!("another source listens on {place} already");
                return self.fail(&format!("{}.{key}", source.table), problem);
            }
        }
        Ok(())
    }
}
