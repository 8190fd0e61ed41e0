//! What `logseal certs show` tells: the authority, its revocation list and
//! every certificate, checked against the files that hold them.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::{
    Error, Host, Name, Pki, Reason, Serial, Timestamp, Validity, files,
    index::{Entry, Index},
    x509,
};

/// The state of a PKI directory at one time.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The authority.
    pub ca: CaReport,
    /// Its revocation list.
    pub crl: CrlReport,
    /// Every certificate, oldest first.
    pub certificates: Vec<CertificateReport>,
}

/// A certificate authority.
#[derive(Clone, Debug, Serialize)]
pub struct CaReport {
    /// Its distinguished name.
    pub subject: String,
    /// Its first and last second.
    #[serde(serialize_with = "validity")]
    pub validity: Validity,
    /// Whether it holds.
    pub status: Status,
    /// Its certificate's file.
    pub certificate: PathBuf,
}

/// A revocation list.
#[derive(Clone, Debug, Serialize)]
pub struct CrlReport {
    /// Its number; it rises with every list.
    pub number: u64,
    /// Its first and last second.
    #[serde(serialize_with = "validity")]
    pub validity: Validity,
    /// Whether it holds.
    pub status: Status,
    /// How many certificates are on it.
    pub revoked: usize,
    /// Its file.
    pub file: PathBuf,
}

/// One certificate.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateReport {
    /// Its role.
    pub role: &'static str,
    /// Its name.
    pub name: Name,
    /// Its serial number.
    pub serial: Serial,
    /// The hosts it holds for.
    pub hosts: Vec<Host>,
    /// Its first and last second.
    #[serde(serialize_with = "validity")]
    pub validity: Validity,
    /// Whether it holds.
    pub status: Status,
    /// Whether it is the newest of its identity.
    pub newest: bool,
    /// Why it was revoked, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// When it was revoked, if it was.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_time")]
    pub revoked_at: Option<Timestamp>,
    /// Its file, or its successor's.
    pub certificate: PathBuf,
    /// Whether that file holds it.
    pub installed: InstalledFile,
}

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It holds.
    Valid,
    /// It will hold later.
    NotYetValid,
    /// It has run out.
    Expired,
    /// It was taken back.
    Revoked,
}

/// Whether the file of a certificate holds that certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstalledFile {
    /// It does.
    Present,
    /// It holds a later certificate of the same identity.
    Replaced,
    /// There is no such file: renewing the certificate makes one.
    Missing,
    /// It holds something else: renewing the certificate replaces it.
    Differs,
}

pub(crate) fn build(pki: &Pki, index: &Index, now: Timestamp) -> Result<Report, Error> {
    let (_, ca) = x509::load_certificate(&pki.ca())?;
    let (crl, revoked) = x509::load_crl(&pki.crl())?;
    Ok(Report {
        ca: CaReport {
            subject: ca.subject,
            validity: ca.validity,
            status: status(ca.validity, now),
            certificate: pki.ca(),
        },
        crl: CrlReport {
            number: index.crl_number,
            validity: crl,
            status: status(crl, now),
            revoked,
            file: pki.crl(),
        },
        certificates: index.certificates.iter().map(|e| one(pki, index, e, now)).collect(),
    })
}

pub(crate) fn time<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(time)
}

pub(crate) fn validity<S: Serializer>(validity: &Validity, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Dates {
        not_before: String,
        not_after: String,
    }
    let Validity { not_before, not_after } = validity;
    Dates { not_before: not_before.to_string(), not_after: not_after.to_string() }.serialize(to)
}

fn optional_time<S: Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => to.collect_str(time),
        None => to.serialize_none(),
    }
}

fn one(pki: &Pki, index: &Index, entry: &Entry, now: Timestamp) -> CertificateReport {
    let newest = index.newest(entry.role, &entry.name).is_some_and(|e| e.serial == entry.serial);
    CertificateReport {
        role: entry.role.0.role,
        name: entry.name.clone(),
        serial: entry.serial,
        hosts: entry.hosts.clone(),
        validity: entry.validity(),
        status: match entry.revoked {
            Some(_) => Status::Revoked,
            None => status(entry.validity(), now),
        },
        newest,
        reason: entry.revoked.map(|r| r.reason),
        revoked_at: entry.revoked.map(|r| r.time),
        certificate: pki.dir().join(&entry.certificate),
        installed: installed(pki, entry, newest),
    }
}

fn installed(pki: &Pki, entry: &Entry, newest: bool) -> InstalledFile {
    let path = pki.dir().join(&entry.certificate);
    if !files::exists(&path) {
        return InstalledFile::Missing;
    }
    match x509::load_certificate(&path) {
        Ok((_, facts)) if facts.serial == entry.serial.as_bytes() => InstalledFile::Present,
        Ok(_) if !newest => InstalledFile::Replaced,
        _ => InstalledFile::Differs,
    }
}

fn status(validity: Validity, now: Timestamp) -> Status {
    if now < validity.not_before {
        Status::NotYetValid
    } else if now > validity.not_after {
        Status::Expired
    } else {
        Status::Valid
    }
}
