//! The engine's equivocations, in the form in which the ledger keeps it.

use super::context::{Address, Ledger, Sig};
use crate::members::Members;
use mcc::MisbehaviorEvidence;
use record::{
    crypto::{PublicKey, Signature},
    equivocation::{Equivocation, EquivocationKind, Statement},
};

/// All double votes and double proposals that the engine saw at a height.
pub(super) fn equivocation(
    members: &Members,
    found: &MisbehaviorEvidence<Ledger>,
) -> Vec<Equivocation> {
    let mut all = Vec::new();
    for (address, pairs) in found.votes.iter() {
        for (a, b) in pairs {
            let statements = [
                statement(a.message.sign_bytes(), a.signature),
                statement(b.message.sign_bytes(), b.signature),
            ];
            all.extend(put(members, EquivocationKind::Votes, *address, statements));
        }
    }
    for (address, pairs) in found.proposals.iter() {
        for (a, b) in pairs {
            let statements = [
                statement(a.message.sign_bytes(), a.signature),
                statement(b.message.sign_bytes(), b.signature),
            ];
            all.extend(put(members, EquivocationKind::Proposals, *address, statements));
        }
    }
    all
}

fn statement(bytes: Vec<u8>, signature: Sig) -> Statement {
    Statement { bytes, signature: Signature(signature.0) }
}

fn put(
    members: &Members,
    kind: EquivocationKind,
    address: Address,
    statements: [Statement; 2],
) -> Option<Equivocation> {
    let key = PublicKey(address.0);
    let culprit = members.get(members.find_key(&key)?).name.clone();
    let equivocation = Equivocation::new(kind, culprit, key, statements);
    equivocation.verify().is_ok().then_some(equivocation)
}
