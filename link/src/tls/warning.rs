//! What is right today and will be wrong soon, or is right here and wrong elsewhere.

use std::path::PathBuf;

use record::UnixSeconds;

/// How long before its end a certificate or revocation list is warned of, in
/// days.
pub const EXPIRY_WARNING_DAYS: u64 = 7;

/// Something an operator should look at. The files were loaded all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The revocation list has run out: every connection is refused.
    #[error(
        "the revocation list {path} ran out on {on}, so every connection is refused: put a new \
         one in its place ('logseal certs crl')", path = path.display()
    )]
    CrlExpired {
        /// Its file.
        path: PathBuf,
        /// Its last second.
        on: UnixSeconds,
    },
    /// The revocation list will run out soon.
    #[error(
        "the revocation list {path} runs out on {on}, and every connection will be refused then: \
         put a new one in its place ('logseal certs crl')", path = path.display()
    )]
    CrlExpires {
        /// Its file.
        path: PathBuf,
        /// Its last second.
        on: UnixSeconds,
    },
    /// Our certificate will expire soon, or has expired since it was loaded.
    #[error(
        "the certificate {path} expires on {on}, and peers refuse it from then on: renew it ('logseal certs renew')",
        path = path.display()
    )]
    CertificateExpires {
        /// Its file.
        path: PathBuf,
        /// Its last second.
        on: UnixSeconds,
    },
    /// Our certificate is on the revocation list.
    #[error(
        "the certificate {path} is revoked, so peers that have this revocation list refuse it: \
         replace it and its key", path = path.display()
    )]
    Revoked {
        /// Its file.
        path: PathBuf,
    },
    /// Our certificate was signed by a CA that we do not trust ourselves.
    #[error(
        "the certificate {path} is not signed by a CA in {ca}, so peers that trust only those \
         refuse it: is one of the two files from another installation?",
        path = path.display(), ca = ca.display()
    )]
    ForeignCa {
        /// Its file.
        path: PathBuf,
        /// The file of trusted CAs.
        ca: PathBuf,
    },
}
