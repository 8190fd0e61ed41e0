//! What the end-to-end tests share: a running site, and a look into its ledger.
//!
//! Everything is real: the programs, their sockets on loopback, their files. A
//! test waits for conditions with a bound and never for time to pass.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails loudly")]

pub mod byzantine;
pub mod cluster;
pub mod faults;
pub mod figures;
pub mod generate;
pub mod http_lines;
pub mod installed;
pub mod kills;
pub mod lying_site;
pub mod network;
pub mod outside;
pub mod page;
pub mod receiver;
pub mod rsyslog_pair;
pub mod syslog_ng;
pub mod systemd;
pub mod wire;

use link::tls::TlsFiles;
use logseal::{
    client::{block_on, read_policy},
    demo::Meter,
    site::{AgentOptions, LedgerOptions, Process, Site},
    tiles::Tiles,
};
use record::{
    Checkpoint,
    entry::{Entry, Kind, restore},
};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The bound of every wait: generous, since the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A site with a ledger node and agent gw01, in a folder of its own.
pub struct Running {
    /// The site.
    pub site: Site,
    /// The node.
    pub ledger: Process,
    /// The agent.
    pub agent: Process,
    /// Removed when this is dropped.
    _dir: TempDir,
}

/// A record as the ledger holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number in its agent's log.
    pub n: u64,
    /// The source it came from.
    pub source: String,
    /// The authenticated sender, empty for files.
    pub peer: String,
    /// The line it was made of, or the part of one.
    pub line: Vec<u8>,
    /// Which part, if it is one.
    pub part: Option<(u32, u32)>,
    /// The whole entry.
    pub entry: Vec<u8>,
}

impl Running {
    /// Starts node and agent with these `[[source.…]]` tables; `kong.log` is the site's log file.
    pub fn start(sources: impl FnOnce(&Site) -> String) -> Self {
        Self::with(LedgerOptions::default(), |site| AgentOptions::new("gw01", sources(site)))
    }

    /// Starts node and agent with these options.
    pub fn with(ledger: LedgerOptions, agent: impl FnOnce(&Site) -> AgentOptions) -> Self {
        let (dir, site) = new_site();
        Self::on(dir, site, ledger, agent)
    }

    /// Starts node and agent on a site that was prepared.
    pub fn on(
        dir: TempDir,
        site: Site,
        ledger: LedgerOptions,
        agent: impl FnOnce(&Site) -> AgentOptions,
    ) -> Self {
        site.configure_ledger(&ledger).unwrap();
        site.configure_agent(&agent(&site)).unwrap();
        let ledger = site.start_ledger().unwrap();
        site.enrol("gw01").unwrap();
        let agent = site.start_agent("gw01").unwrap();
        Running { site, ledger, agent, _dir: dir }
    }

    /// All records of the ledger, read and checked as an auditor would.
    pub fn records(&self) -> Vec<Record> {
        records(&self.site).1
    }

    /// The lines of one source, parts joined.
    pub fn lines(&self, source: &str) -> Vec<Vec<u8>> {
        join_parts(self.records().into_iter().filter(|record| record.source == source))
    }

    /// Waits until so many records have receipts since the agent started.
    pub fn wait_receipted(&self, records: u64) {
        self.meter().wait_receipted(records, LIMIT).unwrap_or_else(|failure| {
            panic!(
                "{failure}\nagent: {}\nledger: {}",
                self.agent.log_tail(),
                self.ledger.log_tail()
            )
        });
    }

    /// Waits until the ledger holds so many records.
    pub fn wait_records(&self, count: usize) -> Vec<Record> {
        wait_for("records in the ledger", || {
            Some(self.records()).filter(|records| records.len() >= count)
        })
    }

    /// The agent's metrics.
    pub fn meter(&self) -> Meter {
        Meter::new(self.site.agent_metrics_port)
    }
}

/// An empty site in a temporary folder.
pub fn new_site() -> (TempDir, Site) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::make(dir.path()).unwrap();
    (dir, site)
}

/// A `[[source.file]]` table for the site's `kong.log`.
pub fn kong_source(site: &Site) -> String {
    file_source("kong", &site.path("kong.log"), "kong")
}

/// A `[[source.file]]` table.
pub fn file_source(name: &str, path: &std::path::Path, format: &str) -> String {
    format!("[[source.file]]\nname = \"{name}\"\npaths = [{path:?}]\nformat = \"{format}\"\n")
}

/// Reads the whole ledger over HTTPS and checks it against its cosigned checkpoint.
pub fn records(site: &Site) -> (Checkpoint, Vec<Record>) {
    let (_, policy) = read_policy(&site.path("policy")).unwrap();
    let mut records = Vec::new();
    let checkpoint = block_on(async {
        let address = format!("127.0.0.1:{}", site.https_port);
        let mut tiles = Tiles::connect(&address, auditor(site)).await?;
        tiles.read_all(&policy, |entry| records.extend(read_record(entry))).await
    });
    (checkpoint.unwrap(), records)
}

/// The auditor's TLS files.
pub fn auditor(site: &Site) -> TlsFiles {
    tls_files(site, "auditor", "auditor")
}

/// The TLS files of an identity.
pub fn tls_files(site: &Site, role: &str, name: &str) -> TlsFiles {
    let pki: PathBuf = site.path("pki");
    TlsFiles {
        ca: pki.join("ca.pem"),
        cert: site.cert(role, name),
        key: site.key(role, name),
        crl: Some(pki.join("crl.pem")),
    }
}

fn read_record(bytes: &[u8]) -> Option<Record> {
    let entry = Entry::parse(bytes).unwrap();
    if entry.kind() != Kind::Record {
        return None;
    }
    let restored = restore(bytes).unwrap();
    let param = |name| entry.element().param(name).unwrap_or_default().into_owned();
    Some(Record {
        n: param("n").parse().unwrap(),
        source: param("source"),
        peer: param("peer"),
        line: restored.line,
        part: restored.part.map(|part| (part.number.get(), part.of.get())),
        entry: bytes.to_vec(),
    })
}

/// Puts lines that were split together again.
pub fn join_parts(records: impl Iterator<Item = Record>) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for record in records {
        match record.part {
            Some((number, _)) if number > 1 => {
                lines.last_mut().expect("the first part comes first").extend(record.line);
            }
            _ => lines.push(record.line),
        }
    }
    lines
}

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
