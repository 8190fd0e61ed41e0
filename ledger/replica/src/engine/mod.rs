//! The one place that drives the consensus engine (Malachite's Tendermint core).
//!
//! An [`Engine`] works on one height at a time. It takes inputs and gives
//! [`Action`]s, in the order in which they must be carried out: what must be
//! remembered comes before the vote that rests on it. It never reads a clock
//! and never waits. A peer's input may be refused; an error of the engine
//! itself ends the process.

#![expect(clippy::result_large_err, reason = "the engine's own error types are that large")]

mod context;
mod equivocation;
#[cfg(feature = "byzantine")]
pub mod forge;
mod host;
mod log;
mod verify;
mod wire;

use crate::{block::Certificate, members::Members};
use context::{Address, BlockId, Height, Ledger, Validators};
use host::Host;
use mcc::{Error, Input, LocallyProposedValue, Params, ProposedValue, State, process};
use mct::{
    Context as _, Round, Timeout, TimeoutKind, Validity, ValueOrigin, ValuePayload,
    VoteExtensionPolicy,
};
use record::{
    Hash,
    crypto::{PublicKey, SigningKey},
    equivocation::Equivocation,
};
use std::collections::VecDeque;

pub use verify::verify_certificate;
pub(crate) use wire::Signed;

/// Inputs for later heights that the engine may hold back: none come, the replica holds them.
const QUEUED_INPUTS: usize = 16;
/// Votes that the engine may hold for one later height.
const QUEUED_PER_HEIGHT: usize = 64;

/// The engine failed: this program, or its vote log, is at fault, and it must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the consensus engine failed at height {height}: {problem}")]
pub struct EngineError {
    /// The height it worked on.
    pub height: u64,
    /// What it says.
    pub problem: String,
}

/// What may run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Propose,
    Prevote,
    Precommit,
    Rebroadcast,
}

/// What the engine wants done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Remember this for a restart.
    Remember(Vec<u8>),
    /// Tell all nodes. What was to be remembered must be durable before this leaves.
    Publish(Signed),
    /// A round begins.
    Round(u32),
    /// Call [`Engine::timeout`] after a while.
    Schedule(Timer, u32),
    /// That is not needed any more.
    Cancel(Timer, u32),
    /// None is.
    CancelAll,
    /// A block is wanted for this round.
    Propose { round: u32 },
    /// A block is decided.
    Decided { id: Hash, certificate: Certificate },
    /// Somebody contradicted itself.
    Equivocation(Vec<Equivocation>),
}

/// The consensus engine of one node, at one height.
pub(crate) struct Engine {
    state: State<Ledger>,
    host: Host,
    params: Params<Ledger>,
    validators: Validators,
}

impl Engine {
    /// The engine of the node with this key.
    pub(crate) fn new(key: SigningKey, members: &Members) -> Self {
        let validators = verify::validators(&members.keys());
        let params = Params {
            address: Address(key.public().0),
            threshold_params: verify::thresholds(members.fault_model()),
            value_payload: ValuePayload::ProposalAndParts,
            enabled: true,
        };
        let state = fresh(Height(0), &validators, &params);
        let host = Host::new(key, members.clone());
        Engine { state, host, params, validators }
    }

    /// The height it works on, or worked on last.
    pub(crate) fn height(&self) -> u64 {
        self.state.height().0
    }

    /// The round it is in, if it has begun.
    pub(crate) fn round(&self) -> Option<u32> {
        self.state.round().as_u32()
    }

    /// Whose turn it is to propose.
    pub(crate) fn proposer(&self, height: u64, round: u32) -> PublicKey {
        let round = Round::new(round);
        PublicKey(Ledger.select_proposer(&self.validators, Height(height), round).address.0)
    }

    /// Begins a height, with what was remembered of it before a restart.
    pub(crate) fn start(
        &mut self,
        height: record::block::Height,
        remembered: &[Vec<u8>],
    ) -> Result<(), EngineError> {
        let height = Height(height.0);
        let corrupt = || EngineError {
            height: height.0,
            problem: "the vote log holds a record that cannot be read".into(),
        };
        let inputs: Vec<Input<Ledger>> = remembered
            .iter()
            .map(|bytes| log::decode(bytes).ok_or_else(corrupt))
            .collect::<Result<_, _>>()?;
        self.state = fresh(height, &self.validators, &self.params);
        self.host.begin(&inputs);
        let (set, policy) = (self.validators.clone(), VoteExtensionPolicy::Disabled);
        let start = Input::StartHeight(height, set, false, None, policy);
        if inputs.is_empty() {
            return self.own(start);
        }
        self.own(start)?;
        self.state.index_wal_entries(inputs.iter());
        for input in inputs {
            self.own(input)?;
        }
        self.state.reset_entries_index();
        self.host.end_replay();
        Ok(())
    }

    /// Takes a verified message of a peer for this height. What the engine makes of a peer's
    /// message is the peer's fault, so errors are returned as text.
    pub(crate) fn receive(&mut self, message: Signed) -> Result<(), String> {
        self.step(message.into_input()).map_err(|error| error.to_string())
    }

    /// Proposes a block.
    pub(crate) fn propose(&mut self, round: u32, id: Hash) -> Result<(), EngineError> {
        let (height, round) = (self.state.height(), Round::new(round));
        self.own(Input::Propose(LocallyProposedValue::new(height, round, BlockId(id.0))))
    }

    /// Says whether a proposed block is valid.
    pub(crate) fn judge(
        &mut self,
        round: u32,
        pol_round: Option<u32>,
        id: Hash,
        valid: bool,
    ) -> Result<(), EngineError> {
        let height = self.state.height();
        let round = Round::new(round);
        let proposer = self.state.get_proposer(height, round);
        let value = ProposedValue {
            height,
            round,
            valid_round: pol_round.map_or(Round::Nil, Round::new),
            proposer: *proposer,
            value: BlockId(id.0),
            validity: Validity::from_bool(valid),
        };
        self.own(Input::ProposedValue(value, ValueOrigin::Consensus))
    }

    /// A timer has run out.
    pub(crate) fn timeout(&mut self, timer: Timer, round: u32) -> Result<(), EngineError> {
        let kind = match timer {
            Timer::Propose => TimeoutKind::Propose,
            Timer::Prevote => TimeoutKind::Prevote,
            Timer::Precommit => TimeoutKind::Precommit,
            Timer::Rebroadcast => TimeoutKind::Rebroadcast,
        };
        self.own(Input::TimeoutElapsed(Timeout::new(Round::new(round), kind)))
    }

    /// The next thing to do.
    pub(crate) fn action(&mut self) -> Option<Action> {
        self.host.actions.pop_front()
    }

    /// Forgets what was to be done: the height was decided elsewhere.
    pub(crate) fn abandon(&mut self) {
        self.host.actions = VecDeque::new();
    }

    fn own(&mut self, input: Input<Ledger>) -> Result<(), EngineError> {
        let height = self.state.height().0;
        self.step(input).map_err(|error| EngineError { height, problem: error.to_string() })
    }

    fn step(&mut self, input: Input<Ledger>) -> Result<(), Error<Ledger>> {
        let host = &mut self.host;
        process!(input: input, state: &mut self.state, metrics: &(), with: effect => host.carry_out(effect))
    }
}

fn fresh(height: Height, validators: &Validators, params: &Params<Ledger>) -> State<Ledger> {
    let (validators, params) = (validators.clone(), params.clone());
    State::new(Ledger, height, validators, params, QUEUED_INPUTS, QUEUED_PER_HEIGHT)
}
