//! `index.json`: every certificate that this authority has signed or was about
//! to sign, in that order. It is what revocation lists are made from.

use std::{fmt, io, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Host, Name, Profile, Timestamp, Validity, files, pki::Which, profile::excerpt};

/// The only format there is so far.
const FORMAT: u32 = 1;

/// The number a certificate is known by in a revocation list: 16 random bytes,
/// written as 32 lower-case hex digits. The first byte is 0x40 to 0x7f, so that
/// the number is positive and always 16 bytes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial([u8; 16]);

/// Why a certificate was revoked, as in RFC 5280 section 5.3.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No reason is given.
    #[default]
    Unspecified,
    /// The private key is or may be known to somebody else.
    KeyCompromise,
    /// The holder has another name or belongs elsewhere now.
    AffiliationChanged,
    /// Another certificate has taken its place.
    Superseded,
    /// The holder is no longer in operation.
    CessationOfOperation,
    /// The holder has lost the right that the certificate gives.
    PrivilegeWithdrawn,
}

/// When and why a certificate was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revoked {
    pub(crate) time: Timestamp,
    pub(crate) reason: Reason,
}

/// A profile, written as its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Role(pub(crate) &'static Profile);

/// One certificate. File names are relative to the PKI directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) serial: Serial,
    pub(crate) role: Role,
    pub(crate) name: Name,
    pub(crate) hosts: Vec<Host>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) certificate: String,
    pub(crate) key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked: Option<Revoked>,
}

/// The whole index.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    format: u32,
    /// The number of the newest revocation list; it only rises.
    pub(crate) crl_number: u64,
    pub(crate) certificates: Vec<Entry>,
}

impl Index {
    pub(crate) fn new() -> Self {
        Index { format: FORMAT, crl_number: 0, certificates: Vec::new() }
    }

    pub(crate) fn load(path: &Path, dir: &Path) -> Result<Self, Error> {
        let bytes = files::read(path).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Error::NoCa(dir.to_owned())
            }
            other => other,
        })?;
        let damaged = |problem| Error::Damaged { path: path.to_owned(), problem };
        let index: Index = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if index.format != FORMAT {
            return Err(damaged(format!("format {} is not {FORMAT}", index.format)));
        }
        Ok(index)
    }

    pub(crate) fn store(&self, path: &Path) -> Result<(), Error> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("an index has no unwritable part");
        bytes.push(b'\n');
        files::replace(path, &bytes)
    }

    /// The newest certificate of an identity: the one that its file holds.
    pub(crate) fn newest(&self, role: Role, name: &Name) -> Option<&Entry> {
        self.certificates.iter().rev().find(|e| e.role == role && e.name == *name)
    }

    /// Revokes what is chosen and still in force, and says what that was.
    pub(crate) fn revoke(
        &mut self,
        which: &Which,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Vec<Serial>, Error> {
        let chosen = |e: &Entry| match which {
            Which::Identity { profile, name } => e.role.0 == *profile && e.name == *name,
            Which::Serial(serial) => e.serial == *serial,
        };
        if !self.certificates.iter().any(chosen) {
            return Err(which.unknown());
        }
        let mut done = Vec::new();
        for entry in self.certificates.iter_mut().filter(|e| chosen(e)) {
            if entry.revoked.is_none() && entry.not_after >= now {
                entry.revoked = Some(Revoked { time: now, reason });
                done.push(entry.serial);
            }
        }
        if done.is_empty() { Err(Error::NothingToRevoke(which.to_string())) } else { Ok(done) }
    }
}

impl Entry {
    pub(crate) fn validity(&self) -> Validity {
        Validity { not_before: self.not_before, not_after: self.not_after }
    }
}

impl Serial {
    pub(crate) fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[0] = bytes[0] & 0x3f | 0x40;
        Serial(bytes)
    }

    /// The number's bytes, big-endian.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for Serial {
    type Err = Error;

    /// Takes upper and lower case, with or without colons.
    fn from_str(text: &str) -> Result<Self, Error> {
        let digits: String = text.chars().filter(|c| *c != ':').take(33).collect();
        let bad = || Error::Serial(excerpt(text));
        if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        u128::from_str_radix(&digits, 16).map(|n| Serial(n.to_be_bytes())).map_err(|_| bad())
    }
}

impl TryFrom<String> for Serial {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Reason {
    /// All reasons.
    pub const ALL: [Reason; 6] = [
        Reason::Unspecified,
        Reason::KeyCompromise,
        Reason::AffiliationChanged,
        Reason::Superseded,
        Reason::CessationOfOperation,
        Reason::PrivilegeWithdrawn,
    ];

    /// The reason as it is written in commands and in the index.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unspecified => "unspecified",
            Reason::KeyCompromise => "key-compromise",
            Reason::AffiliationChanged => "affiliation-changed",
            Reason::Superseded => "superseded",
            Reason::CessationOfOperation => "cessation-of-operation",
            Reason::PrivilegeWithdrawn => "privilege-withdrawn",
        }
    }
}

impl FromStr for Reason {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Reason::ALL.into_iter().find(|r| r.as_str() == text);
        found.ok_or_else(|| Error::Reason(excerpt(text)))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Role {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Profile::of(&text).map(Role)
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.0.role.to_owned()
    }
}

pub(crate) fn all_reasons() -> String {
    Reason::ALL.map(Reason::as_str).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_can_be_typed_as_openssl_prints_it() {
        let serial = Serial::from_random([0xff; 16]);
        assert_eq!(serial.to_string(), "7fffffffffffffffffffffffffffffff");
        let colons = "7F:FF:FF:FF:FF:FF:FF:FF:FF:FF:FF:FF:FF:FF:FF:FF";
        assert_eq!(colons.parse::<Serial>().unwrap(), serial);
        assert_eq!(Serial::from_random([0; 16]).as_bytes()[0], 0x40);
        for bad in ["", "7f", "+fffffffffffffffffffffffffffffff", &"a".repeat(33)] {
            assert!(bad.parse::<Serial>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_reason_that_is_written_can_be_read_again() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse::<Reason>().unwrap(), reason);
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{reason}\""));
        }
        assert!("lost".parse::<Reason>().is_err());
    }

    #[test]
    fn an_index_from_a_later_format_is_refused_rather_than_misread() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.json");
        Index::new().store(&path).unwrap();
        assert_eq!(Index::load(&path, dir.path()).unwrap().crl_number, 0);
        for text in [r#"{"format":2,"crl_number":0,"certificates":[]}"#, "{}", ""] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(Index::load(&path, dir.path()), Err(Error::Damaged { .. })), "{text}");
        }
    }
}
