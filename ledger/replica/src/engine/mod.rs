//! The one place that drives the consensus engine (Malachite's core).
//!
//! With a single validator the engine decides within one call: it proposes,
//! prevotes and precommits to itself. No vote leaves the process, so there is
//! nothing that a crash could make it contradict, and the votes need no log
//! of their own: a block that was decided but is not in the block log was
//! never cosigned and never acknowledged.

#![expect(clippy::result_large_err, reason = "the engine's own error types are that large")]

mod context;

use crate::block::{BlockHeader, Certificate};
use context::{Address, BlockId, Height, Ledger, Sig, Validator, Validators, verifies};
use mcc::{
    ConsensusMsg, Effect, Error, Input, LocallyProposedValue, Params, Resumable, Resume, State,
    process,
};
use mct::{
    CertificateError, CommitCertificate, CommitSignature, Context as _, NilOrVal, Round,
    RoundCertificateType, SignedProposal, SignedVote, ThresholdParam, ThresholdParams,
    ValidatorSet, ValuePayload, VoteExtensionPolicy, VoteType,
};
use record::{
    Hash,
    crypto::{PublicKey, Signature, SigningKey},
};
use std::sync::Arc;

/// Inputs for later heights that the engine may hold back; bounded by count, so by peers' limits too.
const QUEUED_INPUTS: usize = 16;
/// Votes that the engine may hold for one later height.
const QUEUED_PER_HEIGHT: usize = 64;

/// The engine did not decide: this program is at fault, and must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The engine reported an error of its own.
    #[error("the consensus engine failed at height {height}: {problem}")]
    Engine {
        /// The height it worked on.
        height: u64,
        /// What it says.
        problem: String,
    },
    /// A single validator must decide at once.
    #[error("the consensus engine did not decide height {0}")]
    Undecided(u64),
}

/// The consensus engine of one node.
pub(crate) struct Engine {
    state: State<Ledger>,
    host: Host,
}

/// What the engine's effects act on.
struct Host {
    key: SigningKey,
    validators: Validators,
    address: Address,
    value: Option<BlockId>,
    next: Vec<Input<Ledger>>,
    decided: Option<CommitCertificate<Ledger>>,
}

type Resumed = Result<Resume<Ledger>, Error<Ledger>>;

impl Engine {
    /// The engine of the only validator, about to decide `height`.
    pub(crate) fn single(key: SigningKey, height: record::block::Height) -> Self {
        let address = Address(key.public().0);
        let validators = validators(&[key.public()]);
        let params = Params {
            address,
            threshold_params: ThresholdParams::default(),
            value_payload: ValuePayload::ProposalAndParts,
            enabled: true,
        };
        let state = State::new(
            Ledger,
            Height(height.0),
            validators.clone(),
            params,
            QUEUED_INPUTS,
            QUEUED_PER_HEIGHT,
        );
        let host = Host { key, validators, address, value: None, next: vec![], decided: None };
        Engine { state, host }
    }

    /// Decides the block that `header` describes, at the header's height.
    pub(crate) fn decide(&mut self, header: &BlockHeader) -> Result<Certificate, EngineError> {
        let height = header.height.0;
        self.host.value = Some(BlockId(header.id().0));
        self.host.decided = None;
        let validators = self.host.validators.clone();
        let policy = VoteExtensionPolicy::Disabled;
        self.host.next = vec![Input::StartHeight(Height(height), validators, false, None, policy)];
        while let Some(input) = self.host.next.pop() {
            self.step(input)
                .map_err(|problem| EngineError::Engine { height, problem: problem.to_string() })?;
        }
        let decided = self.host.decided.take().ok_or(EngineError::Undecided(height))?;
        if decided.value_id.0 != header.id().0 || decided.height.0 != height {
            return Err(EngineError::Undecided(height));
        }
        Ok(Certificate {
            round: decided.round.as_u32().unwrap_or_default(),
            signatures: decided
                .commit_signatures
                .iter()
                .map(|s| (PublicKey(s.address.0), Signature(s.signature.0)))
                .collect(),
        })
    }

    fn step(&mut self, input: Input<Ledger>) -> Result<(), Error<Ledger>> {
        let host = &mut self.host;
        process!(input: input, state: &mut self.state, metrics: &(), with: effect => host.carry_out(effect))
    }
}

impl Host {
    fn sign(&self, message: &[u8]) -> Sig {
        Sig(self.key.sign(message).0)
    }

    fn carry_out(&mut self, effect: Effect<Ledger>) -> Resumed {
        Ok(match effect {
            Effect::CancelAllTimeouts(r) => r.resume_with(()),
            Effect::CancelTimeout(_, r) => r.resume_with(()),
            // A single validator's height is over before any timer could run out.
            Effect::ScheduleTimeout(_, r) => r.resume_with(()),
            Effect::StartRound(_, _, _, _, r) => r.resume_with(()),
            // There is nobody to tell.
            Effect::PublishConsensusMsg(_, r) => r.resume_with(()),
            Effect::PublishLivenessMsg(_, r) => r.resume_with(()),
            Effect::RepublishVote(_, r) => r.resume_with(()),
            Effect::RepublishRoundCertificate(_, r) => r.resume_with(()),
            Effect::RestreamProposal(_, _, _, _, _, r) => r.resume_with(()),
            // No vote leaves the process, so none has to be remembered.
            Effect::WalAppend(_, _, r) => r.resume_with(()),
            Effect::GetValue(height, round, _, r) => {
                if let Some(value) = self.value {
                    let proposed = LocallyProposedValue::new(height, round, value);
                    self.next.push(Input::Propose(proposed));
                }
                r.resume_with(())
            }
            Effect::Decide(certificate, _, r) => {
                self.decided = Some(certificate);
                r.resume_with(())
            }
            Effect::Finalize(_, _, _, r) => r.resume_with(()),
            signing => return self.sign_or_verify(signing),
        })
    }

    fn sign_or_verify(&mut self, effect: Effect<Ledger>) -> Resumed {
        Ok(match effect {
            Effect::SignVote(vote, r) => {
                let signature = self.sign(&vote.sign_bytes());
                r.resume_with(SignedVote::<Ledger>::new(vote, signature))
            }
            Effect::SignProposal(proposal, r) => {
                let signature = self.sign(&proposal.sign_bytes());
                r.resume_with(SignedProposal::<Ledger>::new(proposal, signature))
            }
            Effect::VerifySignature(signed, key, r) => {
                let bytes = match &signed.message {
                    ConsensusMsg::Vote(vote) => vote.sign_bytes(),
                    ConsensusMsg::Proposal(proposal) => proposal.sign_bytes(),
                };
                r.resume_with(verifies(&key, &bytes, &signed.signature))
            }
            Effect::VerifyCommitCertificate(c, set, thresholds, r) => {
                let signatures = c.commit_signatures.iter();
                let bytes = |a| precommit_bytes(c.height, c.round, c.value_id, a);
                let signed = signatures.map(|s| (s.address, bytes(s.address), s.signature));
                r.resume_with(check_quorum(&set, thresholds.quorum, signed))
            }
            Effect::VerifyExtendedCommitCertificate(c, set, thresholds, _, r) => {
                let signatures = c.commit_signatures.iter();
                let bytes = |a| precommit_bytes(c.height, c.round, c.value_id, a);
                let signed = signatures.map(|s| (s.address, bytes(s.address), s.signature));
                r.resume_with(check_quorum(&set, thresholds.quorum, signed))
            }
            Effect::VerifyPolkaCertificate(c, set, thresholds, r) => {
                let value = NilOrVal::Val(c.value_id);
                let bytes = |a| Ledger.new_prevote(c.height, c.round, value, a).sign_bytes();
                let signatures = c.polka_signatures.iter();
                let signed = signatures.map(|s| (s.address, bytes(s.address), s.signature));
                r.resume_with(check_quorum(&set, thresholds.quorum, signed))
            }
            Effect::VerifyRoundCertificate(c, set, thresholds, r) => {
                let threshold = match c.cert_type {
                    RoundCertificateType::Precommit => thresholds.quorum,
                    RoundCertificateType::Skip => thresholds.honest,
                };
                let signed = c.round_signatures.iter().map(|s| {
                    let vote = match s.vote_type {
                        VoteType::Prevote => {
                            Ledger.new_prevote(c.height, c.round, s.value_id, s.address)
                        }
                        VoteType::Precommit => {
                            Ledger.new_precommit(c.height, c.round, s.value_id, s.address)
                        }
                    };
                    (s.address, vote.sign_bytes(), s.signature)
                });
                r.resume_with(check_quorum(&set, threshold, signed))
            }
            // Vote extensions are disabled: cosignatures are made after the commit.
            Effect::ExtendVote(_, _, _, _, r) => r.resume_with(None),
            Effect::VerifyVoteExtension(_, _, _, _, _, _, r) => r.resume_with(Ok(())),
            // A single validator has nobody to fetch blocks from.
            Effect::CertVerifiedSyncValue(_, _, r) => r.resume_with(()),
            Effect::CertRejectedSyncValue(_, _, _, r) => r.resume_with(()),
            other => unreachable!("carried out before: {other:?} at {}", self.address),
        })
    }
}

/// Checks that a quorum of `keys` decided the block `id` at `height`.
pub fn verify_certificate(
    keys: &[PublicKey],
    height: record::block::Height,
    id: Hash,
    certificate: &Certificate,
) -> bool {
    let set = validators(keys);
    let round = Round::new(certificate.round);
    let signed = certificate.signatures.iter().map(|(key, signature)| {
        let address = Address(key.0);
        let bytes = precommit_bytes(Height(height.0), round, BlockId(id.0), address);
        (address, bytes, Sig(signature.0))
    });
    check_quorum(&set, ThresholdParams::default().quorum, signed).is_ok()
}

fn validators(keys: &[PublicKey]) -> Validators {
    let validator = |key: &PublicKey| Validator { address: Address(key.0) };
    Validators(Arc::new(keys.iter().map(validator).collect()))
}

fn precommit_bytes(height: Height, round: Round, id: BlockId, address: Address) -> Vec<u8> {
    Ledger.new_precommit(height, round, NilOrVal::Val(id), address).sign_bytes()
}

fn check_quorum(
    set: &Validators,
    threshold: ThresholdParam,
    signed: impl Iterator<Item = (Address, Vec<u8>, Sig)>,
) -> Result<(), CertificateError<Ledger>> {
    let mut seen = std::collections::BTreeSet::new();
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
    Err(CertificateError::NotEnoughVotingPower { signed, total, expected })
}
