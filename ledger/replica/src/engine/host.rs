//! What the engine's effects become: signatures at once, everything else as actions in order.

use super::{
    Action, Timer,
    context::{Address, BlockId, Ledger, Sig, verifies},
    equivocation::equivocation,
    log,
    verify::{check_quorum, check_round, precommit_bytes},
    wire::Signed,
};
use crate::{block::Certificate, members::Members};
use mcc::{ConsensusMsg, Effect, Error, Input, LivenessMsg, Resumable, Resume, SignedConsensusMsg};
use mct::{
    CommitCertificate, Context as _, NilOrVal, Proposal as _, Round, SignedProposal, SignedVote,
    Timeout, TimeoutKind, Vote as _, VoteType,
};
use record::{
    Hash,
    crypto::{PublicKey, Signature, SigningKey},
};
use std::collections::VecDeque;

pub(super) struct Host {
    key: SigningKey,
    address: Address,
    members: Members,
    /// What the vote log holds of our own, while it is replayed.
    replayed: Option<Vec<Place>>,
    pub(super) actions: VecDeque<Action>,
}

/// What a node says at most once: a step of a round; `None` is the proposal.
type Place = (Option<VoteType>, Round);
type Resumed = Result<Resume<Ledger>, Error<Ledger>>;

impl Host {
    pub(super) fn new(key: SigningKey, members: Members) -> Self {
        let address = Address(key.public().0);
        Host { key, address, members, replayed: None, actions: VecDeque::new() }
    }

    /// A height begins; `inputs` are the vote log's, to be replayed.
    pub(super) fn begin(&mut self, inputs: &[Input<Ledger>]) {
        self.actions.clear();
        let replayed = || inputs.iter().filter_map(|input| self.place(input)).collect();
        self.replayed = (!inputs.is_empty()).then(replayed);
    }

    pub(super) fn end_replay(&mut self) {
        self.replayed = None;
    }

    fn sign(&self, message: &[u8]) -> Sig {
        Sig(self.key.sign(message).0)
    }

    fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn carry_out(&mut self, effect: Effect<Ledger>) -> Resumed {
        Ok(match effect {
            Effect::CancelAllTimeouts(r) => {
                self.push(Action::CancelAll);
                r.resume_with(())
            }
            Effect::CancelTimeout(timeout, r) => {
                if let Some((timer, round)) = timer(timeout) {
                    self.push(Action::Cancel(timer, round));
                }
                r.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, r) => {
                if let Some((timer, round)) = timer(timeout) {
                    self.push(Action::Schedule(timer, round));
                }
                r.resume_with(())
            }
            Effect::StartRound(_, round, _, _, r) => {
                self.push(Action::Round(round.as_u32().unwrap_or_default()));
                r.resume_with(())
            }
            Effect::GetValue(_, round, _, r) => {
                self.push(Action::Propose { round: round.as_u32().unwrap_or_default() });
                r.resume_with(())
            }
            Effect::WalAppend(_, input, r) => {
                self.remember(&input);
                r.resume_with(())
            }
            Effect::Decide(certificate, _, r) => {
                self.decide(&certificate);
                r.resume_with(())
            }
            Effect::Finalize(_, _, found, r) => {
                let found = equivocation(&self.members, &found);
                if !found.is_empty() {
                    self.push(Action::Equivocation(found));
                }
                r.resume_with(())
            }
            publishing => return self.publish(publishing),
        })
    }

    /// Where an input of our own belongs; `None` for what others said.
    fn place(&self, input: &Input<Ledger>) -> Option<Place> {
        match input {
            Input::Vote(vote) if *vote.validator_address() == self.address => {
                Some((Some(vote.vote_type()), vote.round()))
            }
            Input::Proposal(proposal) if *proposal.validator_address() == self.address => {
                Some((None, proposal.round()))
            }
            _ => None,
        }
    }

    /// What is replayed is remembered already, except what the crash kept from the log.
    fn remember(&mut self, input: &Input<Ledger>) {
        let place = self.place(input);
        let known = |replayed: &Vec<_>| place.is_none_or(|place| replayed.contains(&place));
        if self.replayed.as_ref().is_some_and(known) {
            return;
        }
        self.push(Action::Remember(log::encode(input)));
    }

    fn decide(&mut self, certificate: &CommitCertificate<Ledger>) {
        let signatures = certificate.commit_signatures.iter();
        let certified = Certificate {
            round: certificate.round.as_u32().unwrap_or_default(),
            signatures: signatures
                .map(|s| (PublicKey(s.address.0), Signature(s.signature.0)))
                .collect(),
        };
        let id = Hash(certificate.value_id.0);
        self.push(Action::Decided { id, certificate: certified });
    }

    fn publish(&mut self, effect: Effect<Ledger>) -> Resumed {
        Ok(match effect {
            Effect::PublishConsensusMsg(SignedConsensusMsg::Vote(vote), r) => {
                self.push(Action::Publish(Signed::Vote(vote)));
                r.resume_with(())
            }
            Effect::PublishConsensusMsg(SignedConsensusMsg::Proposal(proposal), r) => {
                self.push(Action::Publish(Signed::Proposal(proposal)));
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(LivenessMsg::Vote(vote), r) => {
                self.push(Action::Publish(Signed::Vote(vote)));
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(LivenessMsg::PolkaCertificate(certificate), r) => {
                self.push(Action::Publish(Signed::Polka(certificate)));
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(LivenessMsg::SkipRoundCertificate(certificate), r) => {
                self.push(Action::Publish(Signed::Round(certificate)));
                r.resume_with(())
            }
            Effect::RepublishVote(vote, r) => {
                self.push(Action::Publish(Signed::Vote(vote)));
                r.resume_with(())
            }
            Effect::RepublishRoundCertificate(certificate, r) => {
                self.push(Action::Publish(Signed::Round(certificate)));
                r.resume_with(())
            }
            // Whoever publishes a proposal sends its header along.
            Effect::RestreamProposal(_, _, _, _, _, r) => r.resume_with(()),
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
            certificates => return verify(certificates),
        })
    }
}

fn verify(effect: Effect<Ledger>) -> Resumed {
    Ok(match effect {
        Effect::VerifyCommitCertificate(c, set, thresholds, r) => {
            let bytes = |a: Address| precommit_bytes(c.height, c.round, c.value_id, a);
            let signatures = c.commit_signatures.iter();
            let signed = signatures.map(|s| (s.address, bytes(s.address), s.signature));
            r.resume_with(check_quorum(&set, thresholds.quorum, signed))
        }
        Effect::VerifyExtendedCommitCertificate(c, set, thresholds, _, r) => {
            let bytes = |a: Address| precommit_bytes(c.height, c.round, c.value_id, a);
            let signatures = c.commit_signatures.iter();
            let signed = signatures.map(|s| (s.address, bytes(s.address), s.signature));
            r.resume_with(check_quorum(&set, thresholds.quorum, signed))
        }
        Effect::VerifyPolkaCertificate(c, set, thresholds, r) => {
            let value: NilOrVal<BlockId> = NilOrVal::Val(c.value_id);
            let bytes = |a: Address| Ledger.new_prevote(c.height, c.round, value, a).sign_bytes();
            let signatures = c.polka_signatures.iter();
            let signed = signatures.map(|s| (s.address, bytes(s.address), s.signature));
            r.resume_with(check_quorum(&set, thresholds.quorum, signed))
        }
        Effect::VerifyRoundCertificate(c, set, thresholds, r) => {
            r.resume_with(check_round(&c, &set, thresholds))
        }
        // Vote extensions are disabled: cosignatures are made after the commit.
        Effect::ExtendVote(_, _, _, _, r) => r.resume_with(None),
        Effect::VerifyVoteExtension(_, _, _, _, _, _, r) => r.resume_with(Ok(())),
        // Blocks that others decided are verified and executed outside the engine.
        Effect::CertVerifiedSyncValue(_, _, r) => r.resume_with(()),
        Effect::CertRejectedSyncValue(_, _, _, r) => r.resume_with(()),
        other => unreachable!("carried out before: {other:?}"),
    })
}

fn timer(timeout: Timeout) -> Option<(Timer, u32)> {
    let timer = match timeout.kind {
        TimeoutKind::Propose => Timer::Propose,
        TimeoutKind::Prevote => Timer::Prevote,
        TimeoutKind::Precommit => Timer::Precommit,
        TimeoutKind::Rebroadcast => Timer::Rebroadcast,
        // No target time is set, so heights are finalised at once.
        TimeoutKind::FinalizeHeight(_) => return None,
    };
    Some((timer, timeout.round.as_u32()?))
}
