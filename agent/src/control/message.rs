//! What is asked and answered on the local socket. Fields are only ever added.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// What the agent is doing.
    Status,
    /// Records, as they are sealed from now on.
    Tap {
        /// Only those of this source.
        #[serde(default)]
        source: Option<String>,
    },
}

/// What the agent is doing. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's name.
    pub agent: String,
    /// The ledger's origin.
    pub ledger: String,
    /// The program's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Since its start, in seconds.
    pub uptime_s: u64,
    /// True while the agent waits for the ledger to know it; no source is read then.
    pub waiting_for_enrolment: bool,
    /// The last second of its certificate.
    pub certificate_expires: Option<String>,
    /// Its log.
    pub log: LogStatus,
    /// Its spool.
    pub spool: SpoolStatus,
    /// Its connection to the ledger.
    pub uplink: UplinkStatus,
    /// Its sources, by name.
    pub sources: Vec<SourceStatus>,
}

/// The agent's log, since the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Records sealed.
    pub sealed: u64,
    /// Records with a verified receipt.
    pub receipted: u64,
    /// Records a second, over the last ten seconds or so.
    pub rate: f64,
}

/// The spool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// Its directory.
    pub dir: PathBuf,
    /// Bytes in use.
    pub bytes: u64,
    /// Bytes above which sources are held back.
    pub limit_bytes: u64,
    /// Records without a verified receipt.
    pub records_waiting: u64,
    /// For how many seconds it has room if no receipt comes, at the rate of the last minutes;
    /// nothing when hardly anything is written.
    pub lasts_s: Option<u64>,
    /// Why sources are held back, if they are: `limit` or `disk-full`.
    pub held_back: Option<String>,
}

/// The connection to the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UplinkStatus {
    /// The configured nodes.
    pub nodes: Vec<NodeStatus>,
    /// Batches handed over and not answered yet.
    pub in_flight: u64,
    /// When the last receipt was verified, in this run.
    pub last_receipt: Option<String>,
}

/// A node, as the agent sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its address.
    pub address: String,
    /// True while batches are handed to it.
    pub connected: bool,
    /// What was last wrong with it, until a receipt of it is verified.
    pub problem: Option<String>,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// What it is: `file`, `syslog`, …
    pub kind: String,
    /// Where its lines come from: patterns, or an address.
    pub from: String,
    /// Why it does not run, if it does not.
    pub failure: Option<String>,
    /// Lines taken over in this run.
    pub lines: u64,
    /// Bytes taken over in this run.
    pub bytes: u64,
    /// Lines a second, over the last ten seconds or so.
    pub rate: f64,
    /// Bytes that are there and not taken over yet, as far as that can be known.
    pub lag_bytes: u64,
    /// When the last line was sealed, in this run.
    pub last_line: Option<String>,
    /// When a receipt for lines of it was last verified, in this run.
    pub last_receipt: Option<String>,
    /// Connections that are open.
    pub connections: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// How often something could not be read.
    pub read_errors: u64,
    /// How many paths cannot be read now.
    pub unreadable: u64,
    /// What was lost, as far as that can be known: files, connections in a message.
    pub lost: u64,
    /// The files being read; of very many the first hundred.
    pub files: Vec<FileStatus>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatus {
    /// Its name when it was last seen.
    pub path: PathBuf,
    /// How many of its bytes were taken over.
    pub position: u64,
    /// How many there are.
    pub size: u64,
}

impl FileStatus {
    /// How many files of a source are named at most.
    pub const MOST: usize = 100;
}

/// A record that was sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tapped {
    /// Its number in the agent's log.
    pub n: u64,
    /// Its source.
    pub source: String,
    /// The entry, with U+FFFD for what is not UTF-8.
    pub entry: String,
    /// How many batches passed by in front of it because this reader was too slow.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
