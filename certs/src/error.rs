//! What can go wrong in the PKI directory, and what its operator does about it.

use std::{io, path::PathBuf};

use crate::{Timestamp, time::MAX_DAYS};

/// Why a certificate operation did not happen. Every message names the file or
/// the argument at fault and what to do; nothing was signed unless it says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Input: no such role.
    #[error("'{0}' is not a role: use one of {all}", all = crate::profile::all_roles())]
    Role(String),
    /// Input: not a name.
    #[error(
        "'{0}' is not a name: use 1 to 63 of a-z, 0-9, '.' and '-', beginning with a letter or digit"
    )]
    Name(String),
    /// Input: neither a DNS name nor an IP address.
    #[error("'{0}' is neither a DNS name nor an IP address: give --host gw01.example or 192.0.2.7")]
    Host(String),
    /// Input: an unusable name for the authority.
    #[error(
        "'{0}' cannot be the name of an authority: use 1 to 64 characters, none of them control"
    )]
    CommonName(String),
    /// Input: an unusable number of days.
    #[error("{0} days is not a validity: use 1 to {MAX_DAYS}")]
    Days(u32),
    /// Input: validity ends before it begins.
    #[error("a validity from {not_before} until {not_after} holds at no time: exchange the two")]
    Backwards {
        /// Where it was to begin.
        not_before: Timestamp,
        /// Where it was to end.
        not_after: Timestamp,
    },
    /// Input: not a revocation reason.
    #[error("'{0}' is not a reason: use one of {all}", all = crate::index::all_reasons())]
    Reason(String),
    /// Input: not a serial number.
    #[error("'{0}' is not a serial number: use the 32 hex digits that 'logseal certs show' prints")]
    Serial(String),
    /// Input: more validity than the authority has left.
    #[error(
        "the certificate would hold until {asked}, but the CA itself ends on {ca_ends}: ask for \
         fewer --days, or start a new CA in another --dir"
    )]
    OutlivesCa {
        /// The end that was asked for.
        asked: Timestamp,
        /// The CA's own end.
        ca_ends: Timestamp,
    },
    /// Input: a key or certificate is there already.
    #[error("{path} exists: a {what} is never overwritten; {advice}", path = path.display())]
    Exists {
        /// The file in the way.
        path: PathBuf,
        /// What kind of file it is.
        what: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
    /// Input: the identity has a certificate.
    #[error(
        "{role} {name} has a certificate already: use 'logseal certs renew {role} {name}', or \
         choose another name"
    )]
    AlreadyIssued {
        /// The role asked for.
        role: String,
        /// The name asked for.
        name: String,
    },
    /// Input: the identity has no certificate.
    #[error(
        "no certificate was issued to {role} {name}: see 'logseal certs show', or use \
         'logseal certs issue {role} {name}'"
    )]
    NotIssued {
        /// The role asked for.
        role: String,
        /// The name asked for.
        name: String,
    },
    /// Input: the serial number is not in the index.
    #[error("no certificate with serial number {0} was issued here: see 'logseal certs show'")]
    UnknownSerial(String),
    /// Input: all that could be revoked is revoked or expired.
    #[error("{0} has no certificate that is still in force: nothing is left to revoke")]
    NothingToRevoke(String),
    /// Input: a revoked key would come back into use.
    #[error(
        "the certificate of {role} {name} was revoked, so its key must not return: add --new-key"
    )]
    RevokedKey {
        /// The role asked for.
        role: String,
        /// The name asked for.
        name: String,
    },
    /// Input: the directory is no PKI.
    #[error("{dir} holds no CA: run 'logseal certs init --dir {dir}', or name another --dir",
        dir = .0.display())]
    NoCa(PathBuf),
    /// Machine: another run holds the directory.
    #[error("{dir} is in use by another 'logseal certs': wait until it is done", dir = .0.display())]
    Locked(PathBuf),
    /// Configuration: others can read what is secret.
    #[error("{path} can be read by others (mode {mode:04o}): run 'chmod {right} {path}'", path = path.display())]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The permission bits it should have, in octal.
        right: &'static str,
    },
    /// Input: a file is not what it should be.
    #[error("{path} is damaged: {problem}; restore it from a backup", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Machine: the file system refused.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// This program: the cryptographic library refused.
    #[error("cannot {doing}: {problem}")]
    Crypto {
        /// What was being done.
        doing: &'static str,
        /// The library's answer.
        problem: String,
    },
}
