//! The PKI directory and what can be done in it.
//!
//! ```text
//! pki/                       0700
//!   ca.pem                   the authority's certificate: everybody's trust
//!   ca.key                   0600, needed only here; keep the directory offline
//!   crl.pem                  the newest revocation list
//!   index.json               every certificate ever signed here
//!   issued/<role>-<name>.pem the newest certificate of an identity
//!   issued/<role>-<name>.key 0600, its key, PKCS #8
//!   issued/<role>-<name>.key.<serial>   a key that a renewal replaced
//! ```
//!
//! The order of writes is what makes a crash harmless: key, index, certificate.
//! A crash before the index leaves a key without any right; one after it leaves
//! an index entry without a file, which `renew` completes.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    CRL_DAYS, Error, Host, Name, Profile, Reason, Serial, Timestamp, Validity, default_hosts,
    files,
    index::{Entry, Index, Role},
    profile::excerpt,
    report::{self, Report},
    x509::{self, Ca, Key},
};

/// A PKI directory. Calls that change it hold a lock on it while they run.
#[derive(Clone, Debug)]
pub struct Pki {
    dir: PathBuf,
}

/// A certificate to be issued, its key along with it.
#[derive(Clone, Debug)]
pub struct Request {
    profile: &'static Profile,
    name: Name,
    hosts: Vec<Host>,
    validity: Validity,
}

/// A certificate to be issued once more.
#[derive(Clone, Debug)]
pub struct Renewal {
    profile: &'static Profile,
    name: Name,
    hosts: Option<Vec<Host>>,
    validity: Validity,
    new_key: bool,
}

/// Which certificates to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every certificate of this identity that is still in force: after a
    /// renewal there can be several, and a thief can use any of them.
    Identity {
        /// Its role.
        profile: &'static Profile,
        /// Its name.
        name: Name,
    },
    /// This one certificate.
    Serial(Serial),
}

/// A certificate that was issued or renewed.
#[derive(Clone, Debug, Serialize)]
pub struct Issued {
    /// The role it gives.
    pub role: &'static str,
    /// Whose it is.
    pub name: Name,
    /// Its serial number.
    pub serial: Serial,
    /// The hosts it holds for.
    pub hosts: Vec<Host>,
    /// Its first and last second.
    #[serde(serialize_with = "report::validity")]
    pub validity: Validity,
    /// Its PEM file: the certificate alone, as the CA signs it directly.
    pub certificate: PathBuf,
    /// Its key's file.
    pub key: PathBuf,
    /// Where a key that was replaced is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_key: Option<PathBuf>,
}

/// A revocation that took effect in `crl.pem`.
#[derive(Clone, Debug, Serialize)]
pub struct Revocation {
    /// The certificates that are no longer valid.
    pub revoked: Vec<Serial>,
    /// Why.
    pub reason: Reason,
    /// The revocation list that says so; programs must be given it.
    pub crl: PathBuf,
    /// When the list must have been refreshed, at the latest.
    #[serde(serialize_with = "report::time")]
    pub refresh_before: Timestamp,
}

impl Request {
    /// A certificate for `name` in `role`. One that is for a server holds for
    /// [`default_hosts`] besides those added. The validity may lie anywhere,
    /// the past included.
    ///
    /// # Errors
    /// When there is no such role or the name is not one.
    pub fn new(role: &str, name: &str, validity: Validity) -> Result<Self, Error> {
        let profile = Profile::of(role)?;
        Ok(Request { profile, name: name.parse()?, hosts: Vec::new(), validity: validity.check()? })
    }

    /// Adds hosts under which the holder can be reached.
    #[must_use]
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = Host>) -> Self {
        self.hosts.extend(hosts);
        self
    }
}

impl Renewal {
    /// The same hosts and the same key for another span of time.
    ///
    /// # Errors
    /// When there is no such role or the name is not one.
    pub fn new(role: &str, name: &str, validity: Validity) -> Result<Self, Error> {
        let profile = Profile::of(role)?;
        let validity = validity.check()?;
        Ok(Renewal { profile, name: name.parse()?, hosts: None, validity, new_key: false })
    }

    /// Replaces the hosts; a server keeps [`default_hosts`].
    #[must_use]
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = Host>) -> Self {
        self.hosts = Some(hosts.into_iter().collect());
        self
    }

    /// Makes a new key. The old one is kept under another name.
    #[must_use]
    pub fn new_key(mut self) -> Self {
        self.new_key = true;
        self
    }
}

impl Which {
    /// Every certificate of `name` in `role`.
    ///
    /// # Errors
    /// When there is no such role or the name is not one.
    pub fn identity(role: &str, name: &str) -> Result<Self, Error> {
        Ok(Which::Identity { profile: Profile::of(role)?, name: name.parse()? })
    }

    pub(crate) fn unknown(&self) -> Error {
        match self {
            Which::Identity { profile, name } => {
                Error::NotIssued { role: profile.role.to_owned(), name: name.to_string() }
            }
            Which::Serial(serial) => Error::UnknownSerial(serial.to_string()),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Identity { profile, name } => write!(f, "{} {name}", profile.role),
            Which::Serial(serial) => serial.fmt(f),
        }
    }
}

impl Pki {
    /// Makes a new authority named `common_name` in `dir`, which is created if
    /// it is not there, with an empty revocation list.
    ///
    /// # Errors
    /// [`Error::Exists`] when `dir` holds an authority, or any part of one;
    /// [`Error::Open`] when others can read `dir`.
    pub fn init(
        dir: &Path,
        common_name: &str,
        validity: Validity,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let length = common_name.chars().count();
        if !(1..=64).contains(&length) || common_name.chars().any(char::is_control) {
            return Err(Error::CommonName(excerpt(common_name)));
        }
        let validity = validity.check()?;
        files::private_dir(dir)?;
        let pki = Pki { dir: dir.to_owned() };
        let _lock = files::lock(dir)?;
        let advice = "choose another --dir";
        for (path, what) in [(pki.ca_key(), "CA key"), (pki.ca(), "CA"), (pki.index(), "index")] {
            if files::exists(&path) {
                return Err(Error::Exists { path, what, advice });
            }
        }
        files::private_dir(&pki.dir.join("issued"))?;
        let key = x509::new_key()?;
        let certificate = x509::self_signed(common_name, validity, &key)?;
        let pem = x509::key_pem(&key);
        files::create_new(&pki.ca_key(), pem.as_bytes(), 0o600, "CA key", advice)?;
        files::create_new(&pki.ca(), certificate.as_bytes(), 0o644, "CA", advice)?;
        pki.publish(Index::new(), CRL_DAYS, now)?;
        Ok(pki)
    }

    /// Opens the authority in `dir`.
    ///
    /// # Errors
    /// [`Error::NoCa`] when there is none, [`Error::Damaged`] when its index
    /// cannot be read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let pki = Pki { dir: dir.to_owned() };
        if !files::exists(&pki.ca()) {
            return Err(Error::NoCa(pki.dir));
        }
        Index::load(&pki.index(), dir)?;
        Ok(pki)
    }

    /// Issues a first certificate to an identity, with a new key.
    ///
    /// # Errors
    /// [`Error::AlreadyIssued`] when it has one, whatever became of it;
    /// [`Error::OutlivesCa`]; errors of the directory.
    pub fn issue(&self, request: &Request) -> Result<Issued, Error> {
        let _lock = files::lock(&self.dir)?;
        let mut index = Index::load(&self.index(), &self.dir)?;
        let (role, name) = (Role(request.profile), &request.name);
        if index.newest(role, name).is_some() {
            let (role, name) = (role.0.role.to_owned(), name.to_string());
            return Err(Error::AlreadyIssued { role, name });
        }
        let ca = self.signer(request.validity)?;
        let entry = announce(role, name, &request.hosts, request.validity)?;
        let key = x509::new_key()?;
        let path = self.dir.join(&entry.key);
        let advice = "move it away if it belongs to nobody, or choose another name";
        let pem = x509::key_pem(&key);
        files::create_new(&path, pem.as_bytes(), 0o600, "private key", advice)?;
        self.certify(&ca, &mut index, &entry, &key)?;
        Ok(self.issued(entry, None))
    }

    /// Issues another certificate to an identity. The certificate before it
    /// stays valid until it expires, so that nothing stops in between; revoke
    /// it by its serial number if it must not.
    ///
    /// # Errors
    /// [`Error::NotIssued`] when it never had one; [`Error::RevokedKey`] when
    /// its key would come back after a revocation; [`Error::OutlivesCa`];
    /// errors of the directory.
    pub fn renew(&self, renewal: &Renewal) -> Result<Issued, Error> {
        let _lock = files::lock(&self.dir)?;
        let mut index = Index::load(&self.index(), &self.dir)?;
        let (role, name) = (Role(renewal.profile), &renewal.name);
        let asked = || (role.0.role.to_owned(), name.to_string());
        let Some(old) = index.newest(role, name).cloned() else {
            let (role, name) = asked();
            return Err(Error::NotIssued { role, name });
        };
        if old.revoked.is_some() && !renewal.new_key {
            let (role, name) = asked();
            return Err(Error::RevokedKey { role, name });
        }
        let ca = self.signer(renewal.validity)?;
        let hosts = renewal.hosts.as_ref().unwrap_or(&old.hosts);
        let entry = announce(role, name, hosts, renewal.validity)?;
        let path = self.dir.join(&entry.key);
        if !renewal.new_key {
            let key = x509::load_key(&path)?;
            self.certify(&ca, &mut index, &entry, &key)?;
            return Ok(self.issued(entry, None));
        }
        let (key, kept) = replace_key(&path, old.serial, entry.serial)?;
        self.certify(&ca, &mut index, &entry, &key)?;
        Ok(self.issued(entry, kept))
    }

    /// Revokes certificates and writes a new revocation list.
    ///
    /// # Errors
    /// [`Error::NotIssued`], [`Error::UnknownSerial`] or
    /// [`Error::NothingToRevoke`] when there is nothing to revoke; errors of
    /// the directory. If writing the list failed, the index already has the
    /// revocation and [`Pki::refresh_crl`] completes it.
    pub fn revoke(
        &self,
        which: &Which,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Revocation, Error> {
        let _lock = files::lock(&self.dir)?;
        let mut index = Index::load(&self.index(), &self.dir)?;
        let revoked = index.revoke(which, reason, now)?;
        let validity = self.publish(index, CRL_DAYS, now)?;
        Ok(Revocation { revoked, reason, crl: self.crl(), refresh_before: validity.not_after })
    }

    /// Writes a new revocation list with the same content, which holds for
    /// `days` from `now`. Programs refuse every connection once their list has
    /// run out, so this must happen regularly.
    ///
    /// # Errors
    /// [`Error::Days`]; errors of the directory.
    pub fn refresh_crl(&self, days: u32, now: Timestamp) -> Result<Validity, Error> {
        let _lock = files::lock(&self.dir)?;
        let index = Index::load(&self.index(), &self.dir)?;
        self.publish(index, days, now)
    }

    /// All that is in the directory, as it stands at `now`. Takes no lock.
    ///
    /// # Errors
    /// When the CA's certificate, its revocation list or the index cannot be read.
    pub fn show(&self, now: Timestamp) -> Result<Report, Error> {
        let index = Index::load(&self.index(), &self.dir)?;
        report::build(self, &index, now)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The authority's certificate, which every program is to trust.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The revocation list, which every program is to be given.
    pub fn crl(&self) -> PathBuf {
        self.dir.join("crl.pem")
    }

    fn ca_key(&self) -> PathBuf {
        self.dir.join("ca.key")
    }

    fn index(&self) -> PathBuf {
        self.dir.join("index.json")
    }

    fn signer(&self, asked: Validity) -> Result<Ca, Error> {
        let ca = Ca::load(&self.ca(), &self.ca_key())?;
        if asked.not_after > ca.not_after {
            return Err(Error::OutlivesCa { asked: asked.not_after, ca_ends: ca.not_after });
        }
        Ok(ca)
    }

    /// Index first, certificate second: nothing is ever signed that could not be revoked.
    fn certify(&self, ca: &Ca, index: &mut Index, entry: &Entry, key: &Key) -> Result<(), Error> {
        index.certificates.push(entry.clone());
        index.store(&self.index())?;
        let pem = ca.sign(entry, key)?;
        files::replace(&self.dir.join(&entry.certificate), pem.as_bytes())
    }

    fn publish(&self, mut index: Index, days: u32, now: Timestamp) -> Result<Validity, Error> {
        let validity = Validity::days(now, days)?;
        let ca = Ca::load(&self.ca(), &self.ca_key())?;
        index.crl_number += 1;
        index.store(&self.index())?;
        let pem = ca.sign_crl(&index, validity)?;
        files::replace(&self.crl(), pem.as_bytes())?;
        Ok(validity)
    }

    fn issued(&self, entry: Entry, old_key: Option<PathBuf>) -> Issued {
        Issued {
            role: entry.role.0.role,
            serial: entry.serial,
            validity: entry.validity(),
            certificate: self.dir.join(&entry.certificate),
            key: self.dir.join(&entry.key),
            name: entry.name,
            hosts: entry.hosts,
            old_key,
        }
    }
}

fn announce(role: Role, name: &Name, asked: &[Host], validity: Validity) -> Result<Entry, Error> {
    let mut hosts = if role.0.server { default_hosts().to_vec() } else { Vec::new() };
    for host in asked {
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }
    let stem = format!("issued/{}-{name}", role.0.role);
    Ok(Entry {
        serial: x509::new_serial()?,
        role,
        name: name.clone(),
        hosts,
        not_before: validity.not_before,
        not_after: validity.not_after,
        certificate: format!("{stem}.pem"),
        key: format!("{stem}.key"),
        revoked: None,
    })
}

/// Puts a new key at `path`. The old one gets a second name first, so that at
/// no moment there is none and at no moment one is lost.
fn replace_key(path: &Path, old: Serial, new: Serial) -> Result<(Key, Option<PathBuf>), Error> {
    let key = x509::new_key()?;
    let beside = files::sibling(path, &format!(".{new}"));
    let pem = x509::key_pem(&key);
    files::create_new(&beside, pem.as_bytes(), 0o600, "private key", "move it away")?;
    let mut kept = None;
    if files::exists(path) {
        let name = files::sibling(path, &format!(".{old}"));
        kept = Some(files::keep(path, name, &format!("-{new}"))?);
    }
    files::rename(&beside, path)?;
    Ok((key, kept))
}
