//! What stands in our certificates and revocation lists (RFC 5280). The rest
//! of the crate knows only keys, names and times.

use std::path::Path;

use pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, SigningKey,
};
use ring::rand::{SecureRandom, SystemRandom};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, revocation_list};
use zeroize::Zeroizing;

use crate::{
    Error, Host, Reason, Serial, Timestamp, Validity, files,
    index::{Entry, Index},
};

/// A private key that is overwritten in memory when it is dropped. (The copy
/// that the signing library keeps inside cannot be reached.)
pub(crate) type Key = Zeroizing<KeyPair>;

/// A certificate authority that can sign.
pub(crate) struct Ca {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) not_after: Timestamp,
    key: Key,
}

/// What a certificate says about itself.
pub(crate) struct Facts {
    pub(crate) subject: String,
    pub(crate) serial: Vec<u8>,
    pub(crate) validity: Validity,
}

/// A new ECDSA P-256 key: browsers, OpenSSL, GnuTLS and rustls all take it.
pub(crate) fn new_key() -> Result<Key, Error> {
    KeyPair::generate().map(Zeroizing::new).map_err(crypto("make a key"))
}

/// The key as PKCS #8 PEM.
pub(crate) fn key_pem(key: &Key) -> Zeroizing<String> {
    Zeroizing::new(key.serialize_pem())
}

/// Reads a private key from its file.
pub(crate) fn load_key(path: &Path) -> Result<Key, Error> {
    let bytes = files::read_key(path)?;
    let damaged = |problem: String| Error::Damaged { path: path.to_owned(), problem };
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged("not a PEM file".to_owned()))?;
    KeyPair::from_pem(text).map(Zeroizing::new).map_err(|e| damaged(e.to_string()))
}

/// 16 random bytes from the system.
pub(crate) fn new_serial() -> Result<Serial, Error> {
    let mut bytes = [0; 16];
    let refused = |_| Error::Crypto {
        doing: "make a serial number",
        problem: "the system gives no random numbers".to_owned(),
    };
    SystemRandom::new().fill(&mut bytes).map_err(refused)?;
    Ok(Serial::from_random(bytes))
}

/// A certificate that its own key signs, for a new authority, as PEM.
pub(crate) fn self_signed(name: &str, validity: Validity, key: &Key) -> Result<String, Error> {
    let mut params = named(name, validity, new_serial()?);
    // It signs leaves and nothing below another authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let signed = params.self_signed(&**key).map_err(crypto("sign the CA certificate"))?;
    Ok(signed.pem())
}

impl Ca {
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let (der, facts) = load_certificate(certificate)?;
        let key = load_key(key)?;
        Ok(Ca { certificate: der, not_after: facts.validity.not_after, key })
    }

    /// Signs the certificate that `entry` announces, for `key`, as PEM.
    pub(crate) fn sign(&self, entry: &Entry, key: &Key) -> Result<String, Error> {
        let mut params = named(entry.name.as_str(), entry.validity(), entry.serial);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if entry.role.0.server {
            params.extended_key_usages.insert(0, ExtendedKeyUsagePurpose::ServerAuth);
        }
        let doing = "sign a certificate";
        let uri = entry.role.0.uri(&entry.name).try_into().map_err(crypto(doing))?;
        params.subject_alt_names.push(SanType::URI(uri));
        for host in &entry.hosts {
            params.subject_alt_names.push(match host {
                Host::Dns(name) => {
                    SanType::DnsName(name.as_str().try_into().map_err(crypto(doing))?)
                }
                Host::Ip(ip) => SanType::IpAddress(*ip),
            });
        }
        let signed = params.signed_by(&**key, &self.issuer()?).map_err(crypto(doing))?;
        Ok(signed.pem())
    }

    /// Signs a revocation list of everything in the index that is revoked, as
    /// PEM. A certificate stays on it until it has been expired for as long as
    /// one list holds: then no list in use can miss it while it still counts.
    pub(crate) fn sign_crl(&self, index: &Index, validity: Validity) -> Result<String, Error> {
        let span = validity.not_after.seconds() - validity.not_before.seconds();
        let oldest = validity.not_before.minus_seconds(span);
        let listed = index.certificates.iter().filter(|e| e.not_after >= oldest);
        let revoked_certs = listed
            .filter_map(|e| e.revoked.map(|r| (e.serial, r)))
            .map(|(serial, revoked)| RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial.as_bytes()),
                revocation_time: revoked.time.asn1().to_datetime(),
                reason_code: Some(reason_code(revoked.reason)),
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: validity.not_before.asn1().to_datetime(),
            next_update: validity.not_after.asn1().to_datetime(),
            crl_number: SerialNumber::from(index.crl_number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let doing = "sign the revocation list";
        let signed = params.signed_by(&self.issuer()?).map_err(crypto(doing))?;
        signed.pem().map_err(crypto(doing))
    }

    fn issuer(&self) -> Result<Issuer<'static, impl SigningKey>, Error> {
        Issuer::from_ca_cert_der(&self.certificate, &*self.key).map_err(crypto("use the CA"))
    }
}

/// Reads the first certificate of a PEM file and what it says.
pub(crate) fn load_certificate(path: &Path) -> Result<(CertificateDer<'static>, Facts), Error> {
    let bytes = files::read(path)?;
    let damaged = |problem: String| Error::Damaged { path: path.to_owned(), problem };
    let der = CertificateDer::from_pem_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| damaged(e.to_string()))?;
    let facts = Facts {
        subject: parsed.subject().to_string(),
        serial: parsed.raw_serial().to_vec(),
        validity: Validity {
            not_before: timestamp(parsed.validity().not_before),
            not_after: timestamp(parsed.validity().not_after),
        },
    };
    Ok((der, facts))
}

/// From when until when the revocation list in a PEM file holds, and how many
/// certificates are on it.
pub(crate) fn load_crl(path: &Path) -> Result<(Validity, usize), Error> {
    let bytes = files::read(path)?;
    let damaged = |problem: String| Error::Damaged { path: path.to_owned(), problem };
    let der =
        CertificateRevocationListDer::from_pem_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    let (_, parsed) = revocation_list::CertificateRevocationList::from_der(&der)
        .map_err(|e| damaged(e.to_string()))?;
    let next = parsed.next_update().ok_or_else(|| damaged("it has no nextUpdate".to_owned()))?;
    let validity =
        Validity { not_before: timestamp(parsed.last_update()), not_after: timestamp(next) };
    Ok((validity, parsed.iter_revoked_certificates().count()))
}

fn named(name: &str, validity: Validity, serial: Serial) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = validity.not_before.asn1().to_datetime();
    params.not_after = validity.not_after.asn1().to_datetime();
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn timestamp(time: x509_parser::time::ASN1Time) -> Timestamp {
    u64::try_from(time.timestamp()).unwrap_or(0).into()
}

fn reason_code(reason: Reason) -> rcgen::RevocationReason {
    match reason {
        Reason::Unspecified => rcgen::RevocationReason::Unspecified,
        Reason::KeyCompromise => rcgen::RevocationReason::KeyCompromise,
        Reason::AffiliationChanged => rcgen::RevocationReason::AffiliationChanged,
        Reason::Superseded => rcgen::RevocationReason::Superseded,
        Reason::CessationOfOperation => rcgen::RevocationReason::CessationOfOperation,
        Reason::PrivilegeWithdrawn => rcgen::RevocationReason::PrivilegeWithdrawn,
    }
}

fn crypto(doing: &'static str) -> impl FnOnce(rcgen::Error) -> Error {
    move |error| Error::Crypto { doing, problem: error.to_string() }
}
