//! `[shadow]`: what is compared with the old feed, and how.

use std::{net::SocketAddr, path::PathBuf};

use pipeline::shadow::Settings;
use service::config::ConfigError;

use super::{SourceConfig, meaning::At, written};

/// A day in seconds: periods are its whole parts, so that they begin when days and hours do.
const DAY: u64 = 86_400;

/// Shadow mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowConfig {
    /// The sources whose lines the old feed carries; all, if none is named.
    pub sources: Vec<String>,
    /// The hosts whose messages are compared, by HOSTNAME; all, if none is named.
    pub hosts: Vec<String>,
    /// Where a copy of the old feed comes by UDP.
    pub udp: Option<SocketAddr>,
    /// Where it comes by TCP.
    pub tcp: Option<SocketAddr>,
    /// The file that the old server writes.
    pub file: Option<String>,
    /// Where reports are kept.
    pub dir: PathBuf,
    /// For so many days.
    pub keep_days: u64,
    /// How lines are compared.
    pub settings: Settings,
    /// How many bytes the system is asked to hold for the UDP listener.
    pub receive_buffer: usize,
}

impl At<'_> {
    pub(super) fn shadow(
        &self,
        written: written::Shadow,
        sources: &[SourceConfig],
    ) -> Result<ShadowConfig, ConfigError> {
        let known = |name: &str| sources.iter().any(|source| source.name == name);
        if let Some(name) = written.sources.iter().find(|name| !known(name)) {
            return self.fail("shadow.sources", format!("there is no source '{name}'"));
        }
        let (udp, tcp) = (written.udp.as_deref(), written.tcp.as_deref());
        let udp = udp.map(|text| self.address("shadow.udp", text)).transpose()?;
        let tcp = tcp.map(|text| self.address("shadow.tcp", text)).transpose()?;
        if udp.is_none() && tcp.is_none() && written.file.is_none() {
            let problem = "says nothing about where the old feed comes from: set udp, tcp or file";
            return self.fail("shadow", problem);
        }
        let absolute = |path: &String| path.starts_with('/');
        if let Some(path) = written.file.as_ref().filter(|path| !absolute(path)) {
            let problem = format!("'{path}' is not an absolute path: let it begin with /");
            return self.fail("shadow.file", problem);
        }
        let keep_days = self.number("shadow.keep_days", written.keep_days, 90, 1..=3650, "days")?;
        let rcvbuf =
            self.number("shadow.rcvbuf_kib", written.rcvbuf_kib, 8192, 64..=65_536, "KiB")?;
        Ok(ShadowConfig {
            settings: self.comparing(&written)?,
            sources: written.sources,
            hosts: written.hosts,
            udp,
            tcp,
            file: written.file,
            dir: written.dir,
            keep_days,
            receive_buffer: (rcvbuf << 10) as usize,
        })
    }

    fn comparing(&self, written: &written::Shadow) -> Result<Settings, ConfigError> {
        let key = "shadow.period_s";
        let period_s = self.number(key, written.period_s, 3600, 1..=DAY, "s")?;
        if !DAY.is_multiple_of(period_s) {
            let problem = format!("{period_s} is no whole part of a day, 86400 s: use 3600");
            return self.fail(key, problem);
        }
        let settle_s = self.number("shadow.settle_s", written.settle_s, 60, 1..=3600, "s")?;
        let bounds = 1000..=1_000_000;
        let max_pending =
            self.number("shadow.max_pending", written.max_pending, 100_000, bounds, "lines")?;
        let examples =
            self.number("shadow.examples", written.examples, 20, 0..=1000, "examples")?;
        Ok(Settings {
            period_s,
            settle_ms: settle_s * 1000,
            max_pending: max_pending as usize,
            examples: examples as usize,
        })
    }
}
