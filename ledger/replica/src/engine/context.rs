//! The types that the consensus engine works with, and the bytes that votes are signed over.
//!
//! A value is a block's identifier; the block itself stays outside the engine.

use borsh::{BorshDeserialize, BorshSerialize};
use mct::{NilOrVal, Round, SignedExtension, VoteType, VotingPower};
use record::{
    crypto::{PublicKey, Signature},
    equivocation::{PROPOSAL_DOMAIN, VOTE_DOMAIN},
};
use std::{fmt, sync::Arc};

#[derive(
    Copy,
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
)]
pub(crate) struct Height(pub(crate) u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl mct::Height for Height {
    const ZERO: Self = Height(0);
    const INITIAL: Self = Height(1);

    fn increment_by(&self, n: u64) -> Self {
        Height(self.0 + n)
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Height)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A validator's address: its consensus key itself.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub(crate) struct Address(pub(crate) [u8; 32]);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl mct::Address for Address {}

/// A block's identifier.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub(crate) struct BlockId(pub(crate) [u8; 32]);

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl mct::Value for BlockId {
    type Id = BlockId;

    fn id(&self) -> BlockId {
        *self
    }
}

#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sig(pub(crate) [u8; 64]);

impl fmt::Debug for Sig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sig")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ed25519;

impl mct::SigningScheme for Ed25519 {
    type DecodingError = &'static str;
    type Signature = Sig;
    type PublicKey = [u8; 32];
    /// The engine never signs: it asks for signatures.
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Sig, &'static str> {
        bytes.try_into().map(Sig).map_err(|_| "a signature has 64 bytes")
    }

    fn encode_signature(signature: &Sig) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<[u8; 32], &'static str> {
        bytes.try_into().map_err(|_| "a public key has 32 bytes")
    }

    fn encode_public_key(key: &[u8; 32]) -> Vec<u8> {
        key.to_vec()
    }
}

impl BorshSerialize for Sig {
    fn serialize<W: borsh::io::Write>(&self, writer: &mut W) -> borsh::io::Result<()> {
        writer.write_all(&self.0)
    }
}

impl BorshDeserialize for Sig {
    fn deserialize_reader<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Self> {
        let mut bytes = [0; 64];
        reader.read_exact(&mut bytes)?;
        Ok(Sig(bytes))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validator {
    pub(crate) address: Address,
}

impl mct::Validator<Ledger> for Validator {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &[u8; 32] {
        &self.address.0
    }

    fn voting_power(&self) -> VotingPower {
        1
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validators(pub(crate) Arc<Vec<Validator>>);

impl mct::ValidatorSet<Ledger> for Validators {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn total_voting_power(&self) -> VotingPower {
        self.0.len() as VotingPower
    }

    fn get_by_address(&self, address: &Address) -> Option<&Validator> {
        self.0.iter().find(|validator| validator.address == *address)
    }

    fn get_by_index(&self, index: usize) -> Option<&Validator> {
        self.0.get(index)
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
enum Step {
    Prevote,
    Precommit,
}

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Vote {
    step: Step,
    height: Height,
    round: Round,
    value: NilOrVal<BlockId>,
    address: Address,
    extension: Option<SignedExtension<Ledger>>,
}

impl Vote {
    fn new(step: Step, place: (Height, Round), value: NilOrVal<BlockId>, address: Address) -> Self {
        let (height, round) = place;
        Vote { step, height, round, value, address, extension: None }
    }

    /// `logseal/vote/v1\n`, step (1 prevote, 2 precommit), height, round, block or nil, key.
    pub(crate) fn sign_bytes(&self) -> Vec<u8> {
        let mut out = VOTE_DOMAIN.to_vec();
        out.push(match self.step {
            Step::Prevote => 1,
            Step::Precommit => 2,
        });
        out.extend_from_slice(&self.height.0.to_be_bytes());
        out.extend_from_slice(&self.round.as_i64().to_be_bytes());
        match &self.value {
            NilOrVal::Nil => out.push(0),
            NilOrVal::Val(id) => {
                out.push(1);
                out.extend_from_slice(&id.0);
            }
        }
        out.extend_from_slice(&self.address.0);
        out
    }
}

impl mct::Vote<Ledger> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockId> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<BlockId> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        match self.step {
            Step::Prevote => VoteType::Prevote,
            Step::Precommit => VoteType::Precommit,
        }
    }

    fn validator_address(&self) -> &Address {
        &self.address
    }

    fn extension(&self) -> Option<&SignedExtension<Ledger>> {
        self.extension.as_ref()
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Ledger>> {
        self.extension.take()
    }

    fn extend(self, extension: SignedExtension<Ledger>) -> Self {
        Vote { extension: Some(extension), ..self }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Proposal {
    height: Height,
    round: Round,
    value: BlockId,
    pol_round: Round,
    address: Address,
}

impl Proposal {
    /// `logseal/proposal/v1\n`, height, round, round of the proof of lock, block, key.
    pub(crate) fn sign_bytes(&self) -> Vec<u8> {
        let mut out = PROPOSAL_DOMAIN.to_vec();
        out.extend_from_slice(&self.height.0.to_be_bytes());
        out.extend_from_slice(&self.round.as_i64().to_be_bytes());
        out.extend_from_slice(&self.pol_round.as_i64().to_be_bytes());
        out.extend_from_slice(&self.value.0);
        out.extend_from_slice(&self.address.0);
        out
    }
}

impl mct::Proposal<Ledger> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &BlockId {
        &self.value
    }

    fn take_value(self) -> BlockId {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.pol_round
    }

    fn validator_address(&self) -> &Address {
        &self.address
    }
}

/// Block bodies travel outside the engine, so its proposal parts are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoPart;

impl mct::ProposalPart<Ledger> for NoPart {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Ledger;

impl mct::Context for Ledger {
    type Address = Address;
    type Height = Height;
    type ProposalPart = NoPart;
    type Proposal = Proposal;
    type Validator = Validator;
    type ValidatorSet = Validators;
    type Timeouts = mct::LinearTimeouts;
    type Value = BlockId;
    type Vote = Vote;
    type Extension = Vec<u8>;
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(
        &self,
        validators: &'a Validators,
        height: Height,
        round: Round,
    ) -> &'a Validator {
        let turn = height.0.wrapping_add(round.as_i64().max(0) as u64);
        &validators.0[(turn % validators.0.len() as u64) as usize]
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        value: BlockId,
        pol_round: Round,
        address: Address,
    ) -> Proposal {
        Proposal { height, round, value, pol_round, address }
    }

    fn new_prevote(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<BlockId>,
        address: Address,
    ) -> Vote {
        Vote::new(Step::Prevote, (height, round), value, address)
    }

    fn new_precommit(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<BlockId>,
        address: Address,
    ) -> Vote {
        Vote::new(Step::Precommit, (height, round), value, address)
    }
}

/// True if the validator at `address` signed `message`.
pub(crate) fn verifies(address: &[u8; 32], message: &[u8], signature: &Sig) -> bool {
    PublicKey(*address).verifies(message, &Signature(signature.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mct::Context as _;

    #[test]
    fn votes_of_today_can_be_checked_in_ten_years() {
        let (height, address, id) = (Height(2), Address([7; 32]), BlockId([9; 32]));
        let sevens = [7; 32];
        let bytes = |parts: &[&[u8]]| parts.concat();
        let (two, round) = (2u64.to_be_bytes(), 1i64.to_be_bytes());

        let nil = Ledger.new_prevote(height, Round::new(1), NilOrVal::Nil, address);
        let expected = bytes(&[b"logseal/vote/v1\n\x01", &two, &round, &[0], &sevens]);
        assert_eq!(nil.sign_bytes(), expected);

        let vote = Ledger.new_precommit(height, Round::new(1), NilOrVal::Val(id), address);
        let expected = bytes(&[b"logseal/vote/v1\n\x02", &two, &round, &[1], &[9; 32], &sevens]);
        assert_eq!(vote.sign_bytes(), expected);

        let proposal = Ledger.new_proposal(height, Round::new(1), id, Round::Nil, address);
        let nowhere = (-1i64).to_be_bytes();
        let expected =
            bytes(&[b"logseal/proposal/v1\n", &two, &round, &nowhere, &[9; 32], &sevens]);
        assert_eq!(proposal.sign_bytes(), expected);
    }
}
