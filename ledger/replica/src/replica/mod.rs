//! The replica's state machine: `handle_*` in, [`Output`]s out.
//!
//! One replica is one node's part in the agreement. Its driver hands it what
//! comes in, with the time, and carries out its outputs in order. The order
//! is what makes it safe: a vote leaves after the vote log that holds it is
//! synced, a cosignature after the block that it rests on is durable.

mod bodies;
mod checkpoints;
mod declarations;
mod height;
mod mend;
mod output;
mod peers;
mod proposals;
mod rebase;
mod settings;
mod standing;
mod sync;
mod votelog;

pub use checkpoints::Head;
pub use output::{Event, Output};
pub use peers::{PeerView, Slowness};
pub use rebase::base_part;
pub use settings::{Identity, Objection, Settings, Timing, Vouch};
pub use standing::{BlankStart, Standing};
pub use votelog::vote_log_height;

use crate::{
    engine::{Engine, EngineError, Timer},
    execute::Executed,
    members::{Members, NodeIndex},
    message::Message,
    now::{Now, Ticks},
    pool::{Pending, Pool, PoolError},
    state::{LedgerState, Params},
};
use checkpoints::Checkpoints;
use mend::Mending;
use peers::Peer;
use proposals::Candidate;
use rebase::Rebase;
use record::{
    AgentName, Hash,
    batch::{Codec, LogState},
    block::Height,
    crypto::SigningKey,
    enrolment::Enrolment,
    merkle::EntryIndex,
    seal::Seal,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};
use sync::Sync;

/// A node's replica of the ledger.
pub struct Replica {
    params: Params,
    members: Members,
    own: NodeIndex,
    identity: Identity,
    timing: Timing,
    vouch: Box<dyn Vouch>,
    state: LedgerState,
    engine: Engine,
    standing: Standing,
    /// The height that the engine works on.
    running: Option<Height>,
    /// What the vote log holds of the height that was under way when the process ended.
    remembered: Vec<Vec<u8>>,
    /// The round in which a block of ours is wanted, while there is nothing to put into one.
    wanted: Option<u32>,
    /// Blocks that were proposed at this height.
    candidates: BTreeMap<Hash, Candidate>,
    /// Those of them with a declaration that this node objects to.
    objected: BTreeSet<Hash>,
    /// Those of them that the vote log holds.
    logged: BTreeSet<Hash>,
    /// The vote log has records that are not durable.
    unsynced: bool,
    /// What we said at this height, for peers that come back.
    said: VecDeque<Message>,
    timers: BTreeMap<(Timer, u32), Ticks>,
    peers: Vec<Peer>,
    pool: Pool,
    /// Batches and enrolments that came to this node first, and since when they wait.
    mine: VecDeque<(Hash, Ticks)>,
    /// Each agent's newest seal, as far as it was seen since the start.
    seals: BTreeMap<AgentName, Seal>,
    convicted: BTreeSet<Hash>,
    checkpoints: Checkpoints,
    sync: Sync,
    mending: Mending,
    rebase: Rebase,
    /// The height that the driver is making durable.
    writing: Option<Height>,
    next_status: Ticks,
    codec: Codec,
    /// Records of the batch that is being verified: kept, since room for them is costly to get.
    scratch: Vec<u8>,
    now: Now,
    out: VecDeque<Output>,
}

impl Replica {
    /// Goes on from `state`, which the driver has read from the block log, and from `vote_log`, all
    /// records of the vote log in order. `consensus` signs votes.
    ///
    /// # Errors
    /// When the vote log does not fit.
    ///
    /// # Panics
    /// If the identity is not one of the members'.
    pub fn new(
        settings: Settings,
        state: LedgerState,
        vote_log: &[Vec<u8>],
        consensus: SigningKey,
        now: Now,
    ) -> Result<Self, EngineError> {
        let Settings { params, members, identity, timing, vouch, blank } = settings;
        let own = members.find(&identity.name).expect("a node is one of its ledger's members");
        let engine = Engine::new(consensus, &members);
        let peers = (0..members.count()).map(|_| Peer::default()).collect();
        let standing = Standing::at_start(&members, &state, vote_log, blank);
        let mut replica = Replica {
            checkpoints: Checkpoints::new(&state),
            params,
            members,
            own,
            identity,
            timing,
            vouch,
            state,
            engine,
            standing,
            running: None,
            remembered: vec![],
            wanted: None,
            candidates: BTreeMap::new(),
            objected: BTreeSet::new(),
            logged: BTreeSet::new(),
            unsynced: false,
            said: VecDeque::new(),
            timers: BTreeMap::new(),
            peers,
            pool: Pool::default(),
            mine: VecDeque::new(),
            seals: BTreeMap::new(),
            convicted: BTreeSet::new(),
            sync: Sync::default(),
            mending: Mending::default(),
            rebase: Rebase::default(),
            writing: None,
            next_status: now.ticks,
            codec: Codec::default(),
            scratch: vec![],
            now,
            out: VecDeque::new(),
        };
        replica.recall(vote_log)?;
        replica.cosign();
        if !replica.remembered.is_empty() && replica.may_vote() {
            replica.start_height()?;
        }
        Ok(replica)
    }

    /// The next thing to do. What was handled before takes effect here, so inputs that are handled
    /// together end up in one block.
    ///
    /// # Errors
    /// When the process must stop.
    pub fn poll(&mut self) -> Result<Option<Output>, EngineError> {
        if self.out.is_empty() {
            self.go_on()?;
        }
        Ok(self.out.pop_front())
    }

    /// When [`Replica::handle_tick`] must be called at the latest.
    pub fn deadline(&self) -> Ticks {
        let timers = self.timers.values().min().copied();
        let waits = self.fetch_deadline().into_iter().chain(self.mending_deadline());
        let waits = waits.chain(self.rebase_deadline());
        timers.into_iter().chain(waits).fold(self.next_status, Ticks::min)
    }

    /// The ledger after its newest durable block.
    pub fn state(&self) -> &LedgerState {
        &self.state
    }

    /// The parameters all nodes share.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The nodes.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// What this node may do.
    pub fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Who proposes the next block in its first round.
    pub fn next_proposer(&self) -> NodeIndex {
        self.proposer(self.state.height.0 + 1, 0)
    }

    /// True while agents' batches can be taken: else let them wait.
    pub fn has_room(&self) -> bool {
        self.pool.has_room()
    }

    /// The log that the next batch of `agent` must fit: committed, or ahead of that by what waits.
    pub fn log_of(&self, agent: &AgentName) -> Option<&LogState> {
        self.pool.ahead(agent).or_else(|| self.state.agents.get(agent))
    }

    /// Digests of the batches of `agent` from `start` that wait for a block.
    pub fn waiting(&self, agent: &AgentName, start: EntryIndex) -> impl Iterator<Item = Hash> {
        self.pool.waiting(agent, start).map(Pending::digest)
    }

    /// Takes an agent's batch that was verified against [`Replica::log_of`] it.
    ///
    /// # Errors
    /// In the outer result, when the process must stop; in the inner one, why the batch is refused.
    pub fn handle_batch(
        &mut self,
        now: Now,
        pending: Pending,
    ) -> Result<Result<(), PoolError>, EngineError> {
        self.now = now;
        let agent = &pending.batch().agent;
        let Some(log) = self.log_of(agent) else { return Ok(Err(PoolError::NotEnrolled)) };
        if !pending.fits(log) {
            let next = log.frontier.size().0;
            self.compare_seals(&pending.batch().seal_entry());
            return Ok(Err(PoolError::NotNext { next }));
        }
        let (digest, encoded) = (pending.digest(), pending.encoded().clone());
        if let Err(refused) = self.pool.put(pending) {
            return Ok(Err(refused));
        }
        self.mine.push_back((digest, now.ticks));
        self.send(None, Message::Body(crate::message::BodyKind::Batch, encoded));
        self.body_arrived(digest)?;
        Ok(Ok(()))
    }

    /// Takes an enrolment whose operator was verified.
    ///
    /// # Errors
    /// As [`Replica::handle_batch`].
    pub fn handle_enrolment(
        &mut self,
        now: Now,
        enrolment: Enrolment,
    ) -> Result<Result<(), PoolError>, EngineError> {
        self.now = now;
        if self.state.agents.contains_key(&enrolment.agent) {
            return Ok(Err(PoolError::Enrolled));
        }
        let encoded = enrolment.encode().into();
        let digest = match self.pool.put_enrolment(enrolment) {
            Ok(digest) => digest,
            Err(refused) => return Ok(Err(refused)),
        };
        self.mine.push_back((digest, now.ticks));
        self.send(None, Message::Body(crate::message::BodyKind::Enrolment, encoded));
        self.body_arrived(digest)?;
        Ok(Ok(()))
    }

    /// Takes a message of a node, authenticated by the transport.
    ///
    /// # Errors
    /// When the process must stop.
    pub fn handle_message(
        &mut self,
        now: Now,
        from: NodeIndex,
        message: Message,
    ) -> Result<(), EngineError> {
        self.now = now;
        self.peers[usize::from(from.0)].heard = Some(now.ticks);
        match message {
            Message::Consensus(bytes) => self.handle_statement(from, &bytes, None)?,
            Message::Proposal { signed, header } => {
                self.handle_statement(from, &signed, Some(header))?;
            }
            Message::Status(status) => self.handle_status(from, &status),
            Message::Cosigned(cosigned) => self.handle_cosigned(from, &cosigned),
            Message::Have(digests) => self.handle_have(from, digests),
            Message::Fetch(digests) => self.handle_fetch(from, &digests),
            Message::FetchBlocks(height) => {
                self.out.push_back(Output::ServeBlocks { to: from, from: height });
            }
            Message::Body(kind, bytes) => self.handle_body(from, kind, bytes)?,
            Message::Block(bytes) => self.handle_block(from, &bytes),
            Message::Pruned(bytes) => self.handle_pruned(from, &bytes),
            Message::FetchBase(digest, offset) => {
                self.out.push_back(Output::ServeBase { to: from, digest, offset });
            }
            Message::BasePart { total, offset, part } => {
                self.handle_base_part(from, total, offset, &part);
            }
            Message::FetchLeaves(chunk) => {
                self.out.push_back(Output::ServeLeaves { to: from, chunk });
            }
            Message::Leaves { chunk, hashes } => self.handle_leaves(from, chunk, &hashes),
            Message::Served => {
                self.mending_served(from);
                self.handle_served(from);
            }
        }
        Ok(())
    }

    /// Connections to a node are there: it may have missed what was said before.
    pub fn handle_up(&mut self, now: Now, peer: NodeIndex) {
        self.now = now;
        self.peers[usize::from(peer.0)].up = true;
        self.greet(peer);
    }

    /// Connections to a node are lost: its proposals are not waited for.
    pub fn handle_down(&mut self, now: Now, peer: NodeIndex) {
        self.now = now;
        self.peers[usize::from(peer.0)].up = false;
        self.hurry(peer);
    }

    /// Time has passed.
    ///
    /// # Errors
    /// When the process must stop.
    pub fn handle_tick(&mut self, now: Now) -> Result<(), EngineError> {
        self.now = now;
        let due = |(key, at): (&(Timer, u32), &Ticks)| (*at <= now.ticks).then_some(*key);
        while let Some((timer, round)) = self.timers.iter().find_map(due) {
            self.timers.remove(&(timer, round));
            self.note_timeout(timer, round);
            self.engine.timeout(timer, round)?;
            self.drain()?;
        }
        self.fetch_again();
        if now.ticks >= self.next_status {
            self.next_status = now.ticks + self.timing.status;
            self.renew();
            self.tell_status();
        }
        Ok(())
    }

    /// The block is durable: makes it the newest and cosigns it.
    ///
    /// # Errors
    /// When the process must stop.
    ///
    /// # Panics
    /// If it is not the block that was to be written.
    pub fn handle_durable(&mut self, now: Now, executed: &Executed) -> Result<(), EngineError> {
        self.now = now;
        let header = &executed.block.header;
        assert_eq!(self.writing.take(), Some(header.height), "one block at a time");
        executed.apply(&mut self.state);
        self.keep_seals(&header.batches);
        self.pool.remove(header.digests());
        self.pool.forget_convicted(&executed.convicted);
        let committed: BTreeSet<&Hash> = header.digests().collect();
        self.mine.retain(|(digest, _)| !committed.contains(digest));
        self.drop_unfit(&executed.agents);
        self.drop_declarations();
        self.outgrow_rebase();
        self.end_height();
        self.cosign();
        self.retry_loose()?;
        self.reconsider_standing();
        Ok(())
    }

    /// This node's place among the members.
    pub fn own(&self) -> NodeIndex {
        self.own
    }

    /// The newest checkpoint that a quorum stands behind, if this process has seen one.
    pub fn published(&self) -> Option<&Head> {
        self.checkpoints.published()
    }

    /// How a node looks from here.
    pub fn peer(&self, index: NodeIndex) -> PeerView {
        self.peers[usize::from(index.0)].view(self.now, self.state.height)
    }

    /// Drops batches that do not fit the logs that these agents have now.
    fn drop_unfit(&mut self, agents: &BTreeMap<AgentName, LogState>) {
        for dropped in self.pool.settle(agents) {
            self.mine.retain(|(digest, _)| *digest != dropped.digest());
            self.out.push_back(Output::Dropped(Box::new(dropped)));
        }
    }

    /// Starts what can be started now.
    fn go_on(&mut self) -> Result<(), EngineError> {
        if self.complete_rebase() {
            return Ok(());
        }
        if !self.is_rebasing() {
            self.consider_sync();
        }
        self.consider_mending();
        self.consider_rebase();
        if self.running.is_some() && self.wanted.is_some() {
            self.try_propose()?;
            self.drain()?;
        }
        self.consider_height()
    }

    fn send(&mut self, to: Option<NodeIndex>, message: Message) {
        if self.members.count() > 1 {
            self.out.push_back(Output::Send { to, message });
        }
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn fault(&mut self, peer: NodeIndex, problem: impl Into<String>) {
        self.event(Event::Fault { peer, problem: problem.into() });
    }

    fn proposer(&self, height: u64, round: u32) -> NodeIndex {
        let key = self.engine.proposer(height, round);
        self.members.find_key(&key).expect("the engine picks members")
    }

    fn others(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        let own = self.own;
        (0..self.members.count() as u8).map(NodeIndex).filter(move |index| *index != own)
    }

    fn after(&self, duration: Duration) -> Ticks {
        self.now.ticks + duration
    }
}
