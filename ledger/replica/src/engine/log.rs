//! The engine's inputs as records of the vote log, so that a restart brings it back to where it was.

use super::context::Ledger;
use borsh::BorshDeserialize;
use mcc::{Input, ProposedValue, SignedConsensusMsg};
use mct::{PolkaCertificate, Round, Timeout, TimeoutKind, ValueOrigin};

/// Encodes an input that the engine wants to be remembered.
///
/// # Panics
/// For an input that the engine never asks to be remembered.
pub(super) fn encode(input: &Input<Ledger>) -> Vec<u8> {
    let encoded = match input {
        Input::Vote(vote) => {
            borsh::to_vec(&(0u8, SignedConsensusMsg::<Ledger>::Vote(vote.clone())))
        }
        Input::Proposal(proposal) => {
            borsh::to_vec(&(0u8, SignedConsensusMsg::<Ledger>::Proposal(proposal.clone())))
        }
        Input::ProposedValue(value, _) => borsh::to_vec(&(1u8, value.clone())),
        Input::PolkaCertificate(certificate) => borsh::to_vec(&(2u8, certificate.clone())),
        Input::TimeoutElapsed(timeout) => {
            let kind = match timeout.kind {
                TimeoutKind::Propose => 0u8,
                TimeoutKind::Prevote => 1,
                _ => 2,
            };
            borsh::to_vec(&(3u8, kind, timeout.round))
        }
        other => unreachable!("the engine never asks to remember {other:?}"),
    };
    encoded.expect("memory does not fail to be written")
}

/// Parses what [`encode`] wrote; `None` for anything else.
pub(super) fn decode(bytes: &[u8]) -> Option<Input<Ledger>> {
    let (kind, mut rest) = bytes.split_first()?;
    let rest = &mut rest;
    let input = match kind {
        0 => match SignedConsensusMsg::deserialize(rest).ok()? {
            SignedConsensusMsg::Vote(vote) => Input::Vote(vote),
            SignedConsensusMsg::Proposal(proposal) => Input::Proposal(proposal),
        },
        1 => {
            let value = ProposedValue::deserialize(rest).ok()?;
            Input::ProposedValue(value, ValueOrigin::Consensus)
        }
        2 => Input::PolkaCertificate(PolkaCertificate::deserialize(rest).ok()?),
        3 => {
            let (kind, round) = <(u8, Round)>::deserialize(rest).ok()?;
            let kind = match kind {
                0 => TimeoutKind::Propose,
                1 => TimeoutKind::Prevote,
                _ => TimeoutKind::Precommit,
            };
            Input::TimeoutElapsed(Timeout::new(round, kind))
        }
        _ => return None,
    };
    rest.is_empty().then_some(input)
}
