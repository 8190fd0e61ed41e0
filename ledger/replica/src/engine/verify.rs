//! Signatures and quorums: what the engine asks to be verified, and certificates of blocks.

use super::context::{Address, BlockId, Height, Ledger, Sig, Validator, Validators, verifies};
use crate::{block::Certificate, members::Members};
use mct::{
    CertificateError, CommitSignature, Context as _, NilOrVal, Round, RoundCertificate,
    RoundCertificateType, ThresholdParam, ThresholdParams, ValidatorSet, VoteType,
};
use record::{FaultModel, Hash, crypto::PublicKey};
use std::{collections::BTreeSet, sync::Arc};

/// What a quorum is, and how many nodes include one that does what it should.
pub(super) fn thresholds(model: FaultModel) -> ThresholdParams {
    match model {
        FaultModel::Byzantine => ThresholdParams::default(),
        // Nobody lies, so one node that has moved on is reason enough to follow.
        FaultModel::Crash => {
            ThresholdParams { quorum: ThresholdParam::new(1, 2), honest: ThresholdParam::new(0, 1) }
        }
    }
}

/// Checks that a quorum of `members` decided the block `id` at `height`.
pub fn verify_certificate(
    members: &Members,
    height: record::block::Height,
    id: Hash,
    certificate: &Certificate,
) -> bool {
    let set = validators(&members.keys());
    let round = Round::new(certificate.round);
    let signed = certificate.signatures.iter().map(|(key, signature)| {
        let address = Address(key.0);
        let bytes = precommit_bytes(Height(height.0), round, BlockId(id.0), address);
        (address, bytes, Sig(signature.0))
    });
    check_quorum(&set, thresholds(members.fault_model()).quorum, signed).is_ok()
}

pub(super) fn validators(keys: &[PublicKey]) -> Validators {
    let validator = |key: &PublicKey| Validator { address: Address(key.0) };
    Validators(Arc::new(keys.iter().map(validator).collect()))
}

pub(super) fn precommit_bytes(
    height: Height,
    round: Round,
    id: BlockId,
    address: Address,
) -> Vec<u8> {
    Ledger.new_precommit(height, round, NilOrVal::Val(id), address).sign_bytes()
}

/// Checks a certificate of the votes that ended a round.
pub(super) fn check_round(
    c: &RoundCertificate<Ledger>,
    set: &Validators,
    thresholds: ThresholdParams,
) -> Result<(), CertificateError<Ledger>> {
    let threshold = match c.cert_type {
        RoundCertificateType::Precommit => thresholds.quorum,
        RoundCertificateType::Skip => thresholds.honest,
    };
    let signed = c.round_signatures.iter().map(|s| {
        let vote = match s.vote_type {
            VoteType::Prevote => Ledger.new_prevote(c.height, c.round, s.value_id, s.address),
            VoteType::Precommit => Ledger.new_precommit(c.height, c.round, s.value_id, s.address),
        };
        (s.address, vote.sign_bytes(), s.signature)
    });
    check_quorum(set, threshold, signed)
}

/// Checks that signatures of different validators reach the threshold.
pub(super) fn check_quorum(
    set: &Validators,
    threshold: ThresholdParam,
    signed: impl Iterator<Item = (Address, Vec<u8>, Sig)>,
) -> Result<(), CertificateError<Ledger>> {
    let mut seen = BTreeSet::new();
    for (address, bytes, signature) in signed {
        if !seen.insert(address) {
            return Err(CertificateError::DuplicateVote(address));
        }
        if set.get_by_address(&address).is_none() {
            return Err(CertificateError::UnknownValidator(address));
        }
        if !verifies(&address.0, &bytes, &signature) {
            let signature = CommitSignature::new(address, signature);
            return Err(CertificateError::InvalidCommitSignature(signature));
        }
    }
    let (signed, total) = (seen.len() as u64, set.total_voting_power());
    if threshold.is_met(signed, total) {
        return Ok(());
    }
    let expected = threshold.min_expected(total);
    Err(CertificateError::NotEnoughVotingPower { signed: total.min(signed), total, expected })
}
