//! What a lying node needs: statements it must not make. Exists under the feature `byzantine` only,
//! for the simulator; also reads statements, so that the simulator sees who contradicts itself.

use super::{
    context::{Address, BlockId, Height, Ledger, Sig},
    wire::Signed,
};
use bytes::Bytes;
use mct::{
    Context as _, NilOrVal, Proposal as _, Round, SignedProposal, SignedVote, Vote as _, VoteType,
};
use record::{
    Hash,
    crypto::{PublicKey, SigningKey},
};

/// A step of a round in which a node says one thing at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The proposal.
    Propose,
    /// The first vote.
    Prevote,
    /// The second vote.
    Precommit,
}

/// A signed statement of one node. Its signature is not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Said {
    /// The height.
    pub height: u64,
    /// The round; -1 is none.
    pub round: i64,
    /// The step.
    pub step: Step,
    /// The block; `None` is nil.
    pub value: Option<Hash>,
    /// Of a proposal: the round of its proof of lock; -1 is none.
    pub pol_round: i64,
    /// Who says so.
    pub signer: PublicKey,
}

/// Reads a vote or proposal; `None` for certificates, and for what is none of them.
pub fn said(bytes: &[u8]) -> Option<Said> {
    match Signed::decode(bytes)? {
        Signed::Vote(vote) => {
            let vote = &vote.message;
            let step = match vote.vote_type() {
                VoteType::Prevote => Step::Prevote,
                VoteType::Precommit => Step::Precommit,
            };
            let value = match vote.value() {
                NilOrVal::Nil => None,
                NilOrVal::Val(id) => Some(Hash(id.0)),
            };
            let signer = PublicKey(vote.validator_address().0);
            let (height, round) = (vote.height().0, vote.round().as_i64());
            Some(Said { height, round, step, value, pol_round: -1, signer })
        }
        Signed::Proposal(proposal) => {
            let proposal = &proposal.message;
            Some(Said {
                height: proposal.height().0,
                round: proposal.round().as_i64(),
                step: Step::Propose,
                value: Some(Hash(proposal.value().0)),
                pol_round: proposal.pol_round().as_i64(),
                signer: PublicKey(proposal.validator_address().0),
            })
        }
        Signed::Polka(_) | Signed::Round(_) => None,
    }
}

/// A certificate's kind, round, and what its signatures are for; `None` for what is none.
pub fn certificate(bytes: &[u8]) -> Option<String> {
    match Signed::decode(bytes)? {
        Signed::Polka(polka) => {
            Some(format!("polka r{} {:?}", polka.round.as_i64(), polka.value_id))
        }
        Signed::Round(round) => Some(format!("{:?} of r{}", round.cert_type, round.round.as_i64())),
        Signed::Vote(_) | Signed::Proposal(_) => None,
    }
}

/// Says something with this key, as it travels: `said`'s signer does not matter.
pub fn sign(key: &SigningKey, said: &Said) -> Bytes {
    let (height, round, address) =
        (Height(said.height), to_round(said.round), Address(key.public().0));
    let value = said.value.map(|id| BlockId(id.0));
    let signed = if said.step == Step::Propose {
        let (value, pol_round) = (value.unwrap_or(BlockId([0; 32])), to_round(said.pol_round));
        let proposal = Ledger.new_proposal(height, round, value, pol_round, address);
        let signature = Sig(key.sign(&proposal.sign_bytes()).0);
        Signed::Proposal(SignedProposal::<Ledger>::new(proposal, signature))
    } else {
        let value = value.map_or(NilOrVal::Nil, NilOrVal::Val);
        let vote = match said.step {
            Step::Prevote => Ledger.new_prevote(height, round, value, address),
            _ => Ledger.new_precommit(height, round, value, address),
        };
        let signature = Sig(key.sign(&vote.sign_bytes()).0);
        Signed::Vote(SignedVote::<Ledger>::new(vote, signature))
    };
    signed.encode().into()
}

fn to_round(round: i64) -> Round {
    u32::try_from(round).map_or(Round::Nil, Round::new)
}
