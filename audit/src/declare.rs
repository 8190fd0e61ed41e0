//! Signing a declaration with an operator's certificate, and having the ledger decide on it; and whether one did.

use crate::{
    client::{Client, Connection},
    output::{Failure, fail},
};
use link::{
    Identity, Role,
    message::{FromNode, RefusalCode, ToNode},
    statement,
};
use pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use record::{
    Origin,
    declaration::{Declaration, Matter},
};
use std::time::Duration;

/// How often a declaration is signed anew when another one of the same second came first.
const TRIES: usize = 5;
/// Until another declaration is newer.
const SECOND: Duration = Duration::from_secs(1);

/// An operator's certificate and key.
pub struct Signer {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Signer {
    /// Reads them from the files that the connection is made with.
    ///
    /// # Errors
    /// When one of the files cannot be read.
    pub fn of(client: &Client) -> Result<Self, Failure> {
        let named = |path: &std::path::Path, error: pki_types::pem::Error| {
            Failure(format!("{}: {error}", path.display()))
        };
        let (cert, key) = (&client.tls.cert, &client.tls.key);
        Ok(Signer {
            certificate: CertificateDer::from_pem_file(cert).map_err(|e| named(cert, e))?,
            key: PrivateKeyDer::from_pem_file(key).map_err(|e| named(key, e))?,
        })
    }

    /// Declares something over this connection; answers with the ledger index of the declaration.
    ///
    /// # Errors
    /// When it cannot be signed, or the ledger does not agree to it.
    pub async fn declare(
        &self,
        connection: &mut Connection,
        matter: Matter,
    ) -> Result<u64, Failure> {
        let ledger: Origin = connection.welcome.origin.parse().map_err(fail)?;
        for _ in 0..TRIES {
            let declaration = self.sign(&ledger, &matter)?.encode();
            match connection.ask(&ToNode::Declare { declaration }).await? {
                FromNode::Declared { index } => return Ok(index),
                // Somebody else declared something in this second.
                FromNode::Refused(refusal) if refusal.code == RefusalCode::NotNext => {
                    tokio::time::sleep(SECOND).await;
                }
                other => return Err(connection.unexpected(other)),
            }
        }
        Err(Failure("another declaration came first each time: try again".into()))
    }

    fn sign(&self, ledger: &Origin, matter: &Matter) -> Result<Declaration, Failure> {
        let time = service::clock::now().seconds();
        let text = Declaration::statement(ledger, matter, time);
        let signature = statement::sign(&self.key, text.as_bytes()).map_err(fail)?;
        let (matter, certificate) = (matter.clone(), self.certificate.to_vec());
        Ok(Declaration { matter, time, certificate, signature })
    }
}

/// True if the holder of an operator's certificate signed the text. Whether the ledger's CA
/// issued the certificate, its nodes have checked; it may have run out since.
pub fn operator_signed(certificate: &[u8], text: &[u8], signature: &[u8]) -> bool {
    let operator = Identity::from_der(certificate).is_ok_and(|id| id.role == Role::Operator);
    operator && statement::verifies(certificate, text, signature)
}
