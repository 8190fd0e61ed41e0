//! Statements signed with the key of a certificate: who says so is in the certificate.
//!
//! ECDSA on P-256 and P-384, Ed25519 and RSA (PKCS #1 v1.5, 2048 to 8192 bits), each with the
//! digest that TLS uses it with.

use pki_types::PrivateKeyDer;
use record::{Origin, declaration::Declaration, enrolment::Enrolment};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::{SignatureScheme, crypto::ring::sign::any_supported_type};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A private key cannot sign statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the private key is of a kind that cannot sign statements: use ECDSA, Ed25519 or RSA")]
pub struct UnsupportedKey;

/// Signs `message` with a certificate's private key.
pub fn sign(key: &PrivateKeyDer<'_>, message: &[u8]) -> Result<Vec<u8>, UnsupportedKey> {
    let schemes = [
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::ED25519,
        SignatureScheme::RSA_PKCS1_SHA256,
    ];
    let key = any_supported_type(key).map_err(|_| UnsupportedKey)?;
    let signer = key.choose_scheme(&schemes).ok_or(UnsupportedKey)?;
    signer.sign(message).map_err(|_| UnsupportedKey)
}

/// True if the holder of `certificate` (DER) signed `message`. Whether the certificate itself is
/// to be trusted is not checked here.
pub fn verifies(certificate: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let key = certificate.public_key();
    let kind = key.algorithm.algorithm.to_id_string();
    let curve = key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
    let curve = curve.map(|oid| oid.to_id_string()).unwrap_or_default();
    let algorithm: &dyn VerificationAlgorithm = match (kind.as_str(), curve.as_str()) {
        ("1.2.840.10045.2.1", "1.2.840.10045.3.1.7") => &signature::ECDSA_P256_SHA256_ASN1,
        ("1.2.840.10045.2.1", "1.3.132.0.34") => &signature::ECDSA_P384_SHA384_ASN1,
        ("1.3.101.112", _) => &signature::ED25519,
        ("1.2.840.113549.1.1.1", _) => &signature::RSA_PKCS1_2048_8192_SHA256,
        _ => return false,
    };
    let key = UnparsedPublicKey::new(algorithm, &key.subject_public_key.data);
    key.verify(message, signature).is_ok()
}

/// True if the holder of the enrolment's certificate signed it for this ledger.
pub fn enrolment_holds(ledger: &Origin, enrolment: &Enrolment) -> bool {
    let Enrolment { agent, key, time, certificate, signature } = enrolment;
    let text = Enrolment::statement(ledger, agent, *key, *time);
    verifies(certificate, text.as_bytes(), signature)
}

/// True if the holder of the declaration's certificate signed it for this ledger.
pub fn declaration_holds(ledger: &Origin, declaration: &Declaration) -> bool {
    let Declaration { matter, time, certificate, signature } = declaration;
    let text = Declaration::statement(ledger, matter, *time);
    verifies(certificate, text.as_bytes(), signature)
}
