//! What nodes tell each other about a height, as bytes: the engine's own encoding (borsh).

use super::context::{Height, Ledger, Proposal, Vote, verifies};
use borsh::{BorshDeserialize, BorshSerialize};
use mcc::Input;
use mct::{PolkaCertificate, RoundCertificate, SignedProposal, SignedVote};
use mct::{Proposal as _, Vote as _};
use record::{Hash, crypto::PublicKey};

/// A statement about a height: signed, or made of signatures.
#[derive(Clone, Debug)]
pub(crate) enum Signed {
    Vote(SignedVote<Ledger>),
    Proposal(SignedProposal<Ledger>),
    Polka(PolkaCertificate<Ledger>),
    Round(RoundCertificate<Ledger>),
}

impl Signed {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        let written = match self {
            Signed::Vote(vote) => {
                out.push(0);
                (&vote.message, vote.signature).serialize(&mut out)
            }
            Signed::Proposal(proposal) => {
                out.push(1);
                (&proposal.message, proposal.signature).serialize(&mut out)
            }
            Signed::Polka(certificate) => {
                out.push(2);
                certificate.serialize(&mut out)
            }
            Signed::Round(certificate) => {
                out.push(3);
                certificate.serialize(&mut out)
            }
        };
        written.expect("memory does not fail to be written");
        out
    }

    /// Parses one statement; the frame that carried it bounds what it may hold.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, mut rest) = bytes.split_first()?;
        let rest = &mut rest;
        let signed = match kind {
            0 => {
                let (vote, signature) = <(Vote, _)>::deserialize(rest).ok()?;
                Signed::Vote(SignedVote::<Ledger>::new(vote, signature))
            }
            1 => {
                let (proposal, signature) = <(Proposal, _)>::deserialize(rest).ok()?;
                Signed::Proposal(SignedProposal::<Ledger>::new(proposal, signature))
            }
            2 => Signed::Polka(PolkaCertificate::deserialize(rest).ok()?),
            3 => Signed::Round(RoundCertificate::deserialize(rest).ok()?),
            _ => return None,
        };
        rest.is_empty().then_some(signed)
    }

    pub(super) fn into_input(self) -> Input<Ledger> {
        match self {
            Signed::Vote(vote) => Input::Vote(vote),
            Signed::Proposal(proposal) => Input::Proposal(proposal),
            Signed::Polka(certificate) => Input::PolkaCertificate(certificate),
            Signed::Round(certificate) => Input::RoundCertificate(certificate),
        }
    }

    pub(crate) fn height(&self) -> u64 {
        let Height(height) = match self {
            Signed::Vote(vote) => vote.message.height(),
            Signed::Proposal(proposal) => proposal.message.height(),
            Signed::Polka(certificate) => certificate.height,
            Signed::Round(certificate) => certificate.height,
        };
        height
    }

    /// Who signed it, if the signature holds; certificates are verified by the engine.
    pub(crate) fn verified_signer(&self) -> Option<PublicKey> {
        let (address, bytes, signature) = match self {
            Signed::Vote(v) => {
                (*v.message.validator_address(), v.message.sign_bytes(), v.signature)
            }
            Signed::Proposal(p) => {
                (*p.message.validator_address(), p.message.sign_bytes(), p.signature)
            }
            Signed::Polka(_) | Signed::Round(_) => return None,
        };
        verifies(&address.0, &bytes, &signature).then_some(PublicKey(address.0))
    }

    /// True for what one node signed, as opposed to a certificate of several.
    pub(crate) fn is_single(&self) -> bool {
        matches!(self, Signed::Vote(_) | Signed::Proposal(_))
    }

    /// Of a proposal: its round, the round of its proof of lock, and the block.
    pub(crate) fn proposal(&self) -> Option<(u32, Option<u32>, Hash)> {
        let Signed::Proposal(proposal) = self else { return None };
        let message = &proposal.message;
        let round = message.round().as_u32()?;
        Some((round, message.pol_round().as_u32(), Hash(message.value().0)))
    }
}
