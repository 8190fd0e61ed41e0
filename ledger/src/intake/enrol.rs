//! Checking an enrolment: an operator's statement, signed with the key of the certificate that the
//! connection was made with.

use record::{
    Origin, UnixSeconds,
    enrolment::{Enrolment, EnrolmentError},
};

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
    let Enrolment { agent, key, time, .. } = &enrolment;
    let statement = Enrolment::statement(ledger, agent, *key, *time);
    if !link::statement::verifies(certificate, statement.as_bytes(), &enrolment.signature) {
        return Err(EnrolError::Signature);
    }
    Ok(enrolment)
}
