//! The engine's evidence, in the form in which the ledger keeps it.

use super::context::{Address, Ledger, Sig};
use crate::members::Members;
use mcc::MisbehaviorEvidence;
use record::{
    crypto::{PublicKey, Signature},
    evidence::{Evidence, EvidenceKind, Statement},
};

/// All double votes and double proposals that the engine saw at a height.
pub(super) fn evidence(members: &Members, found: &MisbehaviorEvidence<Ledger>) -> Vec<Evidence> {
    let mut all = Vec::new();
    for (address, pairs) in found.votes.iter() {
        for (a, b) in pairs {
            let statements = [
                statement(a.message.sign_bytes(), a.signature),
                statement(b.message.sign_bytes(), b.signature),
            ];
            all.extend(put(members, EvidenceKind::Votes, *address, statements));
        }
    }
    for (address, pairs) in found.proposals.iter() {
        for (a, b) in pairs {
            let statements = [
                statement(a.message.sign_bytes(), a.signature),
                statement(b.message.sign_bytes(), b.signature),
            ];
            all.extend(put(members, EvidenceKind::Proposals, *address, statements));
        }
    }
    all
}

fn statement(bytes: Vec<u8>, signature: Sig) -> Statement {
    Statement { bytes, signature: Signature(signature.0) }
}

fn put(
    members: &Members,
    kind: EvidenceKind,
    address: Address,
    statements: [Statement; 2],
) -> Option<Evidence> {
    let key = PublicKey(address.0);
    let culprit = members.get(members.find_key(&key)?).name.clone();
    let evidence = Evidence::new(kind, culprit, key, statements);
    evidence.verify().is_ok().then_some(evidence)
}
