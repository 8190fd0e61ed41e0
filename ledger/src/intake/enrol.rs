//! Checking an enrolment: an operator's statement, signed with the key of the certificate that the
//! connection was made with. Other nodes check it again, against the CA that all of them trust.

use link::{Role, tls::ReloadingServer};

use record::{
    Origin, UnixSeconds,
    enrolment::{Enrolment, EnrolmentError},
};
use replica::Vouch;
use std::sync::Arc;

/// How far an enrolment's time may be from the node's, in seconds.
const MAX_DRIFT: u64 = 300;

/// An enrolment is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// It cannot be read.
    #[error(transparent)]
    Format(#[from] EnrolmentError),
    /// It was signed by somebody else than the one who sends it.
    #[error("the enrolment carries another certificate than the connection was made with")]
    Certificate,
    /// The signature does not hold.
    #[error("the operator's signature on the enrolment does not hold")]
    Signature,
    /// The operator's clock, or the node's, is wrong.
    #[error("the enrolment is dated {found}, but it is {now} here: check both clocks")]
    Time {
        /// The enrolment's time.
        found: UnixSeconds,
        /// The node's time.
        now: UnixSeconds,
    },
}

/// Checks enrolments that another node took.
pub struct Operators {
    /// Knows the CA and its revocation list.
    pub tls: Arc<ReloadingServer>,
    /// The ledger.
    pub ledger: Origin,
}

impl Vouch for Operators {
    fn operator_signed(&self, enrolment: &Enrolment) -> bool {
        signed(&self.ledger, enrolment)
            && self.tls.would_admit(&enrolment.certificate, Role::Operator)
    }
}

fn signed(ledger: &Origin, enrolment: &Enrolment) -> bool {
    let Enrolment { agent, key, time, certificate, signature } = enrolment;
    let statement = Enrolment::statement(ledger, agent, *key, *time);
    link::statement::verifies(certificate, statement.as_bytes(), signature)
}

/// Reads an enrolment and checks it. `certificate` is that of the connection, whose role and
/// validity TLS has checked.
pub fn check(
    bytes: &[u8],
    ledger: &Origin,
    certificate: &[u8],
    now: UnixSeconds,
) -> Result<Enrolment, EnrolError> {
    let enrolment = Enrolment::decode(bytes)?;
    if enrolment.certificate != certificate {
        return Err(EnrolError::Certificate);
    }
    if enrolment.time.0.abs_diff(now.0) > MAX_DRIFT {
        return Err(EnrolError::Time { found: enrolment.time, now });
    }
    if !signed(ledger, &enrolment) {
        return Err(EnrolError::Signature);
    }
    Ok(enrolment)
}
