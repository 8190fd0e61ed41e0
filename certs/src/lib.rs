//! The public-key infrastructure behind `logseal certs`: one certificate
//! authority in one directory, and the profiles that give every program,
//! person and syslog sender its role.
//!
//! What an operator may rely on:
//!
//! - A private key is created once, readable by its owner alone, and is never
//!   overwritten; a key that is replaced is kept under another name.
//! - Every certificate is in the index before it exists as a file, so whatever
//!   was ever signed can be revoked.
//! - Files other than keys change by an atomic rename. A program that reads
//!   them sees the old one or the new one, never half of one.
//! - No clock is read here: every call that needs the time takes it.
//!
//! Programs do not depend on this crate. What they need of a certificate is in
//! `certs/README.md`, so that any other authority can issue it as well.
//!
//! ```
//! use logseal_certs::{LEAF_DAYS, Pki, Request, Timestamp, Validity};
//!
//! # fn main() -> Result<(), logseal_certs::Error> {
//! # let scratch = tempfile::tempdir().expect("a temporary directory");
//! # let dir = scratch.path().join("pki");
//! let now = Timestamp::from(std::time::SystemTime::now());
//! let pki = Pki::init(&dir, "Example CA", Validity::days(now, 3650)?, now)?;
//! let issued = pki.issue(&Request::new("agent", "gw01", Validity::days(now, LEAF_DAYS)?)?)?;
//! assert!(issued.certificate.ends_with("issued/agent-gw01.pem"));
//! # Ok(())
//! # }
//! ```

mod error;
mod files;
mod index;
mod pki;
mod profile;
mod report;
mod time;
mod x509;

pub use error::Error;
pub use index::{Reason, Serial};
pub use pki::{Issued, Pki, Renewal, Request, Revocation, Which};
pub use profile::{Host, MAX_NAME_LEN, Name, PROFILES, Profile, URI_PREFIX, default_hosts};
pub use report::{CaReport, CertificateReport, CrlReport, InstalledFile, Report, Status};
pub use time::{BACKDATE_SECONDS, CA_DAYS, CRL_DAYS, LEAF_DAYS, MAX_DAYS, Timestamp, Validity};
