//! A throw-away site: PKI, configuration and processes of a ledger and its agents on this machine.
//!
//! The demo, the benchmarks and the end-to-end tests all stand on it, so they
//! run the real programs the way an operator would.

pub mod corpus;
mod layout;
mod nodes;
mod process;
mod sender;

pub use layout::{AgentOptions, Home, LedgerOptions, Site, free_ports};
pub use process::{Process, Programs};
pub use sender::{SyslogSender, TlsStream};

/// The site could not be made, or one of its programs did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The PKI.
    #[error(transparent)]
    Certs(#[from] certs::Error),
    /// A program is missing.
    #[error("{0} is missing: run 'cargo build --workspace' with the same profile first")]
    NoProgram(String),
    /// A program ended, or did not get ready in time.
    #[error("{program} {problem}; the end of its log ({log}):\n{tail}")]
    Program {
        /// Which program.
        program: String,
        /// What happened.
        problem: String,
        /// Its log file.
        log: String,
        /// The last lines of it.
        tail: String,
    },
    /// Something else went wrong.
    #[error("{0}")]
    Other(String),
}

impl SiteError {
    /// For `map_err`: names the file.
    pub fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> SiteError {
        let path = path.display().to_string();
        move |source| SiteError::File { path, source }
    }
}
