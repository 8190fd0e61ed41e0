//! The PEM files of a TLS end, read and checked as a whole: what is returned
//! can be used, and what cannot be used is named with what to do about it.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime,
    pem::{self, PemObject},
};
use record::UnixSeconds;
use rustls::{
    CertificateError, Error as TlsError, InconsistentKeys, RootCertStore,
    server::WebPkiClientVerifier, sign::CertifiedKey,
};
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer, revocation_list::CertificateRevocationList,
    time::ASN1Time,
};
use zeroize::Zeroizing;

use crate::{
    Identity, Role,
    identity::{IdentityError, list},
};

use super::{
    provider,
    public::ANY,
    stamp::Stamp,
    warning::{EXPIRY_WARNING_DAYS, Warning},
};

/// The largest certificate or key file that is read, in bytes.
const MAX_PEM_BYTES: u64 = 1 << 20;
/// The largest revocation list that is read, in bytes: half a million entries.
const MAX_CRL_BYTES: u64 = 32 << 20;

/// The PEM files of a TLS end, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The CA certificates that peers' certificates must lead to; one or more.
    pub ca: PathBuf,
    /// Our certificate, followed by intermediate ones if it needs any.
    pub cert: PathBuf,
    /// Our private key: PKCS #8, SEC 1 or PKCS #1, not encrypted, ours alone to read.
    pub key: PathBuf,
    /// Revocation lists, one for each CA that signs leaves. Without it,
    /// revocation is not checked.
    pub crl: Option<PathBuf>,
}

/// What the files hold, checked.
pub struct Credentials {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) crls: Vec<CertificateRevocationListDer<'static>>,
    pub(super) certified: Arc<CertifiedKey>,
    identity: Option<Identity>,
    not_after: UnixSeconds,
    /// The file and last second of our certificate and of each revocation list.
    ends: Vec<(FileKind, PathBuf, UnixSeconds)>,
    /// Warnings that time does not change.
    lasting: Vec<Warning>,
}

/// Files that cannot be used. Configuration is at fault, or the machine where
/// it says so.
#[derive(Debug, thiserror::Error)]
#[error("the {kind} {path} {problem}", path = path.display())]
pub struct FilesError {
    /// What the file is for.
    pub kind: FileKind,
    /// Which file it is.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: FileProblem,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Trusted CA certificates.
    Ca,
    /// Our certificate.
    Certificate,
    /// Our private key.
    Key,
    /// Revocation lists.
    Crl,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// It is not there.
    #[error("does not exist")]
    Missing,
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is too large to be what it should be.
    #[error("is larger than the {0} bytes that such a file may have")]
    TooLarge(u64),
    /// It is not PEM, or holds nothing of the kind.
    #[error("holds no {0} in PEM: {1}")]
    NotPem(&'static str, String),
    /// It is PEM around something unreadable.
    #[error("cannot be understood: {0}")]
    Malformed(String),
    /// Others can read a private key.
    #[error("can be read by others (mode {mode:04o}): run 'chmod 600 {path}'", path = path.display())]
    OpenToOthers {
        /// Its permission bits.
        mode: u32,
        /// The file once more, for the command.
        path: PathBuf,
    },
    /// The key is another certificate's.
    #[error("does not belong to the certificate {cert}: give the pair that was issued together",
        cert = .0.display())]
    Mismatch(PathBuf),
    /// It has expired.
    #[error("expired on {0}: renew it ('logseal certs renew')")]
    Expired(UnixSeconds),
    /// It is not valid yet.
    #[error("is valid only from {0} on: is this machine's clock right?")]
    NotYetValid(UnixSeconds),
    /// It names no holder.
    #[error("names no holder: {0}")]
    NoIdentity(IdentityError),
    /// It names a holder of another role.
    #[error("is that of {found}, but this program needs one of these roles: {roles}",
        roles = list(needed))]
    WrongRole {
        /// Whose it is.
        found: Identity,
        /// What it should be.
        needed: Vec<Role>,
    },
}

impl TlsFiles {
    /// Reads and checks all files as of `now`. Our certificate must be in one
    /// of the roles of `own`, unless that is empty.
    ///
    /// # Errors
    /// The first file that cannot be used, and why.
    pub fn load(&self, own: &[Role], now: UnixSeconds) -> Result<Credentials, FilesError> {
        let roots = self.load_roots()?;
        let chain = self.load_chain()?;
        let facts = self.check_leaf(&chain[0], own, now)?;
        let certified = Arc::new(self.load_key(chain)?);
        let LeafFacts { identity, not_after } = facts;
        let ends = vec![(FileKind::Certificate, self.cert.clone(), not_after)];
        let mut loaded = Credentials {
            roots,
            crls: Vec::new(),
            certified,
            identity,
            not_after,
            ends,
            lasting: Vec::new(),
        };
        if is_foreign(&loaded.roots, &loaded.certified, now) {
            let (path, ca) = (self.cert.clone(), self.ca.clone());
            loaded.lasting.push(Warning::ForeignCa { path, ca });
        }
        if let Some(path) = &self.crl {
            self.load_crls(path, &mut loaded)?;
        }
        Ok(loaded)
    }

    pub(super) fn stamps(&self) -> Vec<Stamp> {
        let files = [Some(&self.ca), Some(&self.cert), Some(&self.key), self.crl.as_ref()];
        files.into_iter().flatten().map(|path| Stamp::of(path)).collect()
    }

    /// Our certificate and key alone.
    pub(super) fn load_own(&self) -> Result<Arc<CertifiedKey>, FilesError> {
        let chain = self.load_chain()?;
        self.check_leaf(&chain[0], ANY, super::reload::now())?;
        Ok(Arc::new(self.load_key(chain)?))
    }

    pub(super) fn load_roots(&self) -> Result<Arc<RootCertStore>, FilesError> {
        let fail = |problem| FilesError::new(FileKind::Ca, &self.ca, problem);
        let bytes = read(&self.ca, MAX_PEM_BYTES).map_err(fail)?;
        let mut roots = RootCertStore::empty();
        for der in sections::<CertificateDer<'_>>(&bytes, "certificate").map_err(fail)? {
            roots.add(der).map_err(|e| fail(FileProblem::Malformed(e.to_string())))?;
        }
        Ok(Arc::new(roots))
    }

    fn load_chain(&self) -> Result<Vec<CertificateDer<'static>>, FilesError> {
        let fail = |problem| FilesError::new(FileKind::Certificate, &self.cert, problem);
        let bytes = read(&self.cert, MAX_PEM_BYTES).map_err(fail)?;
        sections(&bytes, "certificate").map_err(fail)
    }

    fn check_leaf(
        &self,
        leaf: &CertificateDer<'_>,
        own: &[Role],
        now: UnixSeconds,
    ) -> Result<LeafFacts, FilesError> {
        let fail = |problem| FilesError::new(FileKind::Certificate, &self.cert, problem);
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|e| fail(FileProblem::Malformed(e.to_string())))?;
        let not_before = seconds(parsed.validity().not_before);
        let not_after = seconds(parsed.validity().not_after);
        if now < not_before {
            return Err(fail(FileProblem::NotYetValid(not_before)));
        }
        if now > not_after {
            return Err(fail(FileProblem::Expired(not_after)));
        }
        let identity = match Identity::from_der(leaf) {
            Ok(found) if own.is_empty() || own.contains(&found.role) => Some(found),
            Ok(found) => {
                return Err(fail(FileProblem::WrongRole { found, needed: own.to_vec() }));
            }
            Err(IdentityError::None) if own.is_empty() => None,
            Err(error) => return Err(fail(FileProblem::NoIdentity(error))),
        };
        Ok(LeafFacts { identity, not_after })
    }

    fn load_key(&self, chain: Vec<CertificateDer<'static>>) -> Result<CertifiedKey, FilesError> {
        let fail = |problem| FilesError::new(FileKind::Key, &self.key, problem);
        let bytes = read_key(&self.key).map_err(fail)?;
        let der = PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|e| fail(FileProblem::NotPem("private key", pem_problem(&e))))?;
        match CertifiedKey::from_der(chain, der, &provider()) {
            Ok(certified) => Ok(certified),
            Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(fail(FileProblem::Mismatch(self.cert.clone())))
            }
            Err(error) => Err(fail(FileProblem::Malformed(error.to_string()))),
        }
    }

    fn load_crls(&self, path: &Path, to: &mut Credentials) -> Result<(), FilesError> {
        let fail = |problem| FilesError::new(FileKind::Crl, path, problem);
        let malformed = |e: String| fail(FileProblem::Malformed(e));
        let bytes = read(path, MAX_CRL_BYTES).map_err(fail)?;
        to.crls = sections(&bytes, "revocation list").map_err(fail)?;
        let certified = to.certified.clone();
        let (_, leaf) = X509Certificate::from_der(&certified.cert[0]).expect("parsed before");
        for der in &to.crls {
            check_crl(&to.roots, der).map_err(malformed)?;
            let (_, list) =
                CertificateRevocationList::from_der(der).map_err(|e| malformed(e.to_string()))?;
            if let Some(end) = list.next_update() {
                to.ends.push((FileKind::Crl, path.to_owned(), seconds(end)));
            }
            let mut revoked = list.iter_revoked_certificates();
            let ours = list.issuer().as_raw() == leaf.issuer().as_raw();
            if ours && revoked.any(|entry| entry.raw_serial() == leaf.raw_serial()) {
                to.lasting.push(Warning::Revoked { path: self.cert.clone() });
            }
        }
        Ok(())
    }
}

impl Credentials {
    /// Who our certificate says we are; nobody, if that was not asked for.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The last second of our certificate.
    pub fn not_after(&self) -> UnixSeconds {
        self.not_after
    }

    /// What an operator should look at, as of `now`.
    pub fn warnings(&self, now: UnixSeconds) -> Vec<Warning> {
        let soon = now.0.saturating_add(EXPIRY_WARNING_DAYS * 86_400);
        let ending = self.ends.iter().filter(|(_, _, end)| end.0 < soon);
        let ending = ending.map(|(kind, path, end)| {
            let (path, on) = (path.clone(), *end);
            match kind {
                FileKind::Crl if on < now => Warning::CrlExpired { path, on },
                FileKind::Crl => Warning::CrlExpires { path, on },
                _ => Warning::CertificateExpires { path, on },
            }
        });
        self.lasting.iter().cloned().chain(ending).collect()
    }
}

impl fmt::Debug for Credentials {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.identity)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::Ca => "CA file",
            FileKind::Certificate => "certificate",
            FileKind::Key => "private key",
            FileKind::Crl => "revocation list",
        })
    }
}

impl FilesError {
    pub(super) fn new(kind: FileKind, path: &Path, problem: FileProblem) -> Self {
        FilesError { kind, path: path.to_owned(), problem }
    }
}

struct LeafFacts {
    identity: Option<Identity>,
    not_after: UnixSeconds,
}

fn open(path: &Path) -> Result<File, FileProblem> {
    File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => FileProblem::Missing,
        _ => FileProblem::Unreadable(error),
    })
}

fn read(path: &Path, max: u64) -> Result<Vec<u8>, FileProblem> {
    let mut bytes = Vec::new();
    open(path)?.take(max + 1).read_to_end(&mut bytes).map_err(FileProblem::Unreadable)?;
    if bytes.len() as u64 > max { Err(FileProblem::TooLarge(max)) } else { Ok(bytes) }
}

/// Permissions and bytes are those of one open file, so nobody can exchange it in between.
fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileProblem> {
    let file = open(path)?;
    let metadata = file.metadata().map_err(FileProblem::Unreadable)?;
    let mode = metadata.mode() & 0o7777;
    // systemd hands credentials to an unprivileged service by an access list, which
    // shows as root's group being allowed to read: no wider than root itself.
    let credential = mode == 0o440 && (metadata.uid(), metadata.gid()) == (0, 0);
    if mode & 0o077 != 0 && !credential {
        return Err(FileProblem::OpenToOthers { mode, path: path.to_owned() });
    }
    // Room for all of it at once: a buffer that grew would leave copies behind.
    let room = metadata.len().min(MAX_PEM_BYTES) as usize + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes).map_err(FileProblem::Unreadable)?;
    match bytes.len() as u64 {
        length if length > MAX_PEM_BYTES => Err(FileProblem::TooLarge(MAX_PEM_BYTES)),
        _ => Ok(bytes),
    }
}

/// All sections of one kind; at least one.
fn sections<T: PemObject>(bytes: &[u8], what: &'static str) -> Result<Vec<T>, FileProblem> {
    let all: Result<Vec<T>, _> = T::pem_slice_iter(bytes).collect();
    match all {
        Ok(all) if all.is_empty() => {
            Err(FileProblem::NotPem(what, pem_problem(&pem::Error::NoItemsFound)))
        }
        Ok(all) => Ok(all),
        Err(error) => Err(FileProblem::NotPem(what, pem_problem(&error))),
    }
}

/// The library's texts show bytes as numbers and may show parts of a key.
fn pem_problem(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "it has no such section".to_owned(),
        pem::Error::MissingSectionEnd { .. } => "a section has no end; is it cut off?".to_owned(),
        pem::Error::Base64Decode(_) => "a section is not base64; is it damaged?".to_owned(),
        _ => "its sections are malformed".to_owned(),
    }
}

/// What verification will use is checked by what verification uses.
fn check_crl(
    roots: &Arc<RootCertStore>,
    crl: &CertificateRevocationListDer<'static>,
) -> Result<(), String> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
    builder.with_crls([crl.clone()]).build().map(drop).map_err(|e| e.to_string())
}

/// Whether our own certificate would fail here for want of a CA.
fn is_foreign(roots: &Arc<RootCertStore>, own: &CertifiedKey, now: UnixSeconds) -> bool {
    let Ok(verifier) =
        WebPkiClientVerifier::builder_with_provider(roots.clone(), provider()).build()
    else {
        return false;
    };
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.0));
    let result = verifier.verify_client_cert(&own.cert[0], &own.cert[1..], at);
    let foreign = [CertificateError::UnknownIssuer, CertificateError::BadSignature];
    matches!(result, Err(TlsError::InvalidCertificate(e)) if foreign.contains(&e))
}

fn seconds(time: ASN1Time) -> UnixSeconds {
    UnixSeconds(u64::try_from(time.timestamp()).unwrap_or(0))
}
