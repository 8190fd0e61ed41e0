//! Checking what operators state: enrolments and declarations, signed with the key of the certificate that
//! the connection was made with. Other nodes check it again, against the CA that all of them trust.

use crate::store::StoreReader;
use link::{
    Role,
    statement::{declaration_holds, enrolment_holds},
    tls::ReloadingServer,
};
use record::{
    Origin, UnixSeconds,
    declaration::{Declaration, DeclarationError, Matter, Prune},
    enrolment::{Enrolment, EnrolmentError},
};
use replica::{LedgerState, Objection, Vouch};
use std::sync::Arc;

/// How far a statement's time may be from the node's, in seconds.
const MAX_DRIFT: u64 = 300;

/// An operator's statement is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// It is an enrolment that cannot be read.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// It is a declaration that cannot be read.
    #[error(transparent)]
    Declaration(#[from] DeclarationError),
    /// It was signed by somebody else than the one who sends it.
    #[error("the statement carries another certificate than the connection was made with")]
    Certificate,
    /// The signature does not hold.
    #[error("the operator's signature does not hold")]
    Signature,
    /// The operator's clock, or the node's, is wrong.
    #[error("the statement is dated {found}, but it is {now} here: check both clocks")]
    Time {
        /// The statement's time.
        found: UnixSeconds,
        /// The node's time.
        now: UnixSeconds,
    },
}

/// Checks what another node took.
pub struct Operators {
    /// Knows the CA and its revocation list.
    pub tls: Arc<ReloadingServer>,
    /// The store, with which declarations are compared.
    pub store: Arc<StoreReader>,
    /// For how many days entries are kept at least; `None` if none is ever given up.
    pub retention: Option<u32>,
}

impl Vouch for Operators {
    fn operator_signed(&self, enrolment: &Enrolment) -> bool {
        enrolment_holds(&self.store.params().origin, enrolment)
            && self.tls.would_admit(&enrolment.certificate, Role::Operator)
    }

    fn declaration(&self, declaration: &Declaration, state: &LedgerState) -> Result<(), Objection> {
        if !declaration_holds(&self.store.params().origin, declaration) {
            return Err(Objection::Unsigned);
        }
        // Other nodes may know another revocation list, or another time.
        if !self.tls.would_admit(&declaration.certificate, Role::Operator) {
            let problem =
                "the certificate that it was signed with is no operator's, or does not hold now";
            return Err(Objection::Policy(problem.to_owned()));
        }
        match &declaration.matter {
            Matter::Prune(prune) => self.prune(prune, state).map_err(Objection::Policy),
            Matter::Drill(_) => Ok(()),
        }
    }
}

impl Operators {
    /// Whether the policy here allows it, and whether what it says is what the store has.
    fn prune(&self, prune: &Prune, state: &LedgerState) -> Result<(), String> {
        let Some(days) = self.retention else {
            return Err(
                "this node keeps everything: its configuration has no [retention]".to_owned()
            );
        };
        if prune.days < days {
            let asked = prune.days;
            return Err(format!("this node keeps entries for {days} days, not for {asked}"));
        }
        let made = self.store.make_base(prune.height, &state.agents).map_err(|e| e.to_string())?;
        let (header, frontier) = (&made.base.header, &made.base.frontier);
        let same = header.id() == prune.block
            && header.time == prune.before
            && *frontier == prune.frontier
            && made.digest == prune.base;
        if same { Ok(()) } else { Err("it is about other blocks than this node has".to_owned()) }
    }
}

/// Reads an enrolment and checks it. `certificate` is that of the connection, whose role and
/// validity TLS has checked.
pub fn enrolment(
    bytes: &[u8],
    ledger: &Origin,
    certificate: &[u8],
    now: UnixSeconds,
) -> Result<Enrolment, OperatorError> {
    let enrolment = Enrolment::decode(bytes)?;
    check(&enrolment.certificate, enrolment.time, certificate, now)?;
    if enrolment_holds(ledger, &enrolment) { Ok(enrolment) } else { Err(OperatorError::Signature) }
}

/// Reads a declaration and checks it, as [`enrolment`] does. Whether the ledger agrees is decided elsewhere.
pub fn declaration(
    bytes: &[u8],
    ledger: &Origin,
    certificate: &[u8],
    now: UnixSeconds,
) -> Result<Declaration, OperatorError> {
    let declaration = Declaration::decode(bytes)?;
    check(&declaration.certificate, declaration.time, certificate, now)?;
    let holds = declaration_holds(ledger, &declaration);
    if holds { Ok(declaration) } else { Err(OperatorError::Signature) }
}

fn check(
    signer: &[u8],
    time: UnixSeconds,
    connection: &[u8],
    now: UnixSeconds,
) -> Result<(), OperatorError> {
    if signer != connection {
        return Err(OperatorError::Certificate);
    }
    if time.0.abs_diff(now.0) > MAX_DRIFT {
        return Err(OperatorError::Time { found: time, now });
    }
    Ok(())
}
