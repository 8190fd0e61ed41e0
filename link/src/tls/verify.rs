//! Verification of the peer: what webpki checks, and then the role. Nothing
//! here weakens or repeats a check of webpki's.

use std::sync::Arc;

use pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{
    Identity, Role,
    identity::{IdentityError, list},
};

use super::{Credentials, provider};

const CHECKED: &str = "loading has checked that there is a CA and that every list can be read";

/// A certificate that is valid, and not one of those that are wanted here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAccepted {
    /// It is in another role.
    #[error("its certificate is that of {found}, and only these roles are accepted here: {roles}",
        roles = list(accepted))]
    Role {
        /// Whose it is.
        found: Identity,
        /// Which roles would do.
        accepted: Vec<Role>,
    },
    /// It names no identity.
    #[error("its certificate names no holder: {0}")]
    NoIdentity(#[from] IdentityError),
}

/// Accepts clients of certain roles.
#[derive(Debug)]
pub(super) struct Clients {
    webpki: Arc<dyn ClientCertVerifier>,
    accepts: Vec<Role>,
}

/// Accepts servers of certain roles.
#[derive(Debug)]
pub(super) struct Servers {
    webpki: Arc<WebPkiServerVerifier>,
    accepts: Vec<Role>,
}

/// The identity in a certificate, if its role is one of `accepts`.
pub(super) fn admit(certificate: &[u8], accepts: &[Role]) -> Result<Identity, NotAccepted> {
    let found = Identity::from_der(certificate)?;
    if accepts.contains(&found.role) {
        Ok(found)
    } else {
        Err(NotAccepted::Role { found, accepted: accepts.to_vec() })
    }
}

/// Trusts the CA of `credentials` and obeys its revocation list, for leaves.
pub(super) fn webpki_servers(credentials: &Credentials) -> Arc<WebPkiServerVerifier> {
    WebPkiServerVerifier::builder_with_provider(credentials.roots.clone(), provider())
        .with_crls(credentials.crls.iter().cloned())
        .only_check_end_entity_revocation()
        .enforce_revocation_expiration()
        .build()
        .expect(CHECKED)
}

impl Clients {
    pub(super) fn new(credentials: &Credentials, accepts: &[Role], optional: bool) -> Self {
        let mut webpki =
            WebPkiClientVerifier::builder_with_provider(credentials.roots.clone(), provider())
                .with_crls(credentials.crls.iter().cloned())
                .only_check_end_entity_revocation()
                .enforce_revocation_expiration();
        if optional {
            webpki = webpki.allow_unauthenticated();
        }
        Clients { webpki: webpki.build().expect(CHECKED), accepts: accepts.to_vec() }
    }
}

impl Servers {
    pub(super) fn new(webpki: Arc<WebPkiServerVerifier>, accepts: &[Role]) -> Self {
        Servers { webpki, accepts: accepts.to_vec() }
    }
}

fn refuse(reason: NotAccepted) -> Error {
    CertificateError::Other(OtherError(Arc::new(reason))).into()
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.webpki.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.webpki.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.webpki.verify_client_cert(end_entity, intermediates, now)?;
        admit(end_entity, &self.accepts).map_err(refuse)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        admit(end_entity, &self.accepts).map_err(refuse)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
