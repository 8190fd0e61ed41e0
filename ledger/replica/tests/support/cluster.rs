//! Replicas that talk to each other in memory, without delay and without loss unless a test cuts
//! them off: what the driver does, without a disk.
#![allow(dead_code, reason = "each test uses a part of it")]

#[path = "pruned.rs"]
mod pruned;

#[allow(unused_imports, reason = "each test uses a part of it")]
pub use pruned::{Came, DAY};

use bytes::Bytes;
use logseal_replica::{
    Base, BlankStart, Block, Event, Executed, Head, Identity, LedgerState, Member, Members,
    Message, NodeIndex, Now, Objection, Output, Params, Pending, PoolError, Replica, Settings,
    Standing, Ticks, Timing, Vouch,
};
use record::{
    AgentName, FaultModel, Hash, UnixMillis, UnixSeconds,
    batch::{BatchBuilder, Codec},
    block::Height,
    crypto::SigningKey,
    declaration::Declaration,
    enrolment::Enrolment,
    entry::{Enterprise, Header, LogElement},
    note::{NoteSigner, SignatureType, VerifierKey},
    policy::{Policy, write_policy},
    seal::SealEntry,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
};
use zeroize::Zeroizing;

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

pub fn params() -> Params {
    Params { origin: "l.example/x".parse().unwrap(), enterprise: Enterprise::default() }
}

pub fn agent() -> AgentName {
    "gw01".parse().unwrap()
}

/// What an operator's signature looks like here.
pub const SIGNATURE: &[u8] = &[2];

/// Believes every enrolment, and signed declarations as long as its node does not object.
struct Operators(u8, Arc<Mutex<BTreeSet<u8>>>);

impl Vouch for Operators {
    fn operator_signed(&self, _: &Enrolment) -> bool {
        true
    }

    fn declaration(&self, declaration: &Declaration, _: &LedgerState) -> Result<(), Objection> {
        if declaration.signature != SIGNATURE {
            return Err(Objection::Unsigned);
        }
        match self.1.lock().unwrap().contains(&self.0) {
            true => Err(Objection::Policy("this node objects".into())),
            false => Ok(()),
        }
    }
}

/// What the network makes of a message: from, to, message.
pub type Twist = Box<dyn FnMut(u8, u8, Message) -> Vec<Message>>;

/// What a node keeps of blocks that it gave up.
#[derive(Clone)]
pub struct Gone {
    pub base: Arc<Base>,
    pub encoded: Bytes,
    /// The block by which they were given up, if it is not among the node's own yet.
    pub by: Bytes,
}

fn identity(node: u8) -> Identity {
    let signer = |name: &str, kind, seed| {
        NoteSigner::new(name.parse().unwrap(), kind, &Zeroizing::new([seed; 32]))
    };
    Identity {
        name: format!("n{node}").parse().unwrap(),
        log: signer("l.example/x", SignatureType::Ed25519, 10 + node),
        cosigner: signer(
            &format!("l.example/x/node/n{node}"),
            SignatureType::CosignatureV1,
            20 + node,
        ),
    }
}

pub fn consensus_key(node: u8) -> SigningKey {
    key(30 + node)
}

pub fn members(count: u8, model: FaultModel) -> Members {
    let member = |node| {
        let identity = identity(node);
        Member {
            name: identity.name,
            consensus: consensus_key(node).public(),
            cosigner: identity.cosigner.vkey().clone(),
        }
    };
    Members::new((0..count).map(member).collect(), model).unwrap()
}

pub struct Cluster {
    pub nodes: Vec<Replica>,
    pub members: Members,
    pub blocks: Vec<Vec<Executed>>,
    pub vote_logs: Vec<Vec<Vec<u8>>>,
    pub heads: Vec<Option<Head>>,
    pub events: Vec<(u8, Event)>,
    /// Blocks that were looked for and found.
    pub mended: Vec<(u8, Height, Bytes)>,
    pub queue: VecDeque<(u8, u8, Message)>,
    pub now: u64,
    /// Nodes that hear and say nothing.
    pub dead: BTreeSet<u8>,
    /// By how much the wall clocks are ahead, in milliseconds.
    pub aged: u64,
    /// Nodes that agree to no declaration.
    pub objecting: Arc<Mutex<BTreeSet<u8>>>,
    pub declined: Vec<(u8, Hash, String)>,
    /// What is kept of blocks that are not in `blocks` any more.
    pub gone: Vec<Option<Gone>>,
    /// Each node's leaf hashes.
    pub leaves: Vec<Vec<Hash>>,
    /// Bases and chunks that came, and whether a ledger is to begin with them.
    pub came: Vec<(u8, Came)>,
    pub twist: Option<Twist>,
    timing: Timing,
}

pub const START: u64 = 1_795_248_147_000;

impl Cluster {
    pub fn new(count: u8, model: FaultModel) -> Self {
        let members = members(count, model);
        let mut cluster = Cluster {
            nodes: vec![],
            blocks: (0..count).map(|_| vec![]).collect(),
            vote_logs: vec![vec![]; usize::from(count)],
            heads: vec![None; usize::from(count)],
            events: vec![],
            mended: vec![],
            queue: VecDeque::new(),
            now: START,
            dead: BTreeSet::new(),
            aged: 0,
            objecting: Arc::default(),
            declined: vec![],
            gone: vec![None; usize::from(count)],
            leaves: vec![vec![]; usize::from(count)],
            came: vec![],
            twist: None,
            timing: Timing::default(),
            members,
        };
        for node in 0..count {
            let replica = cluster.replica(node, LedgerState::genesis(), &[], BlankStart::Genesis);
            cluster.nodes.push(replica);
        }
        cluster.connect();
        cluster
    }

    pub fn time(&self) -> Now {
        Now { ticks: Ticks(self.now), wall: UnixMillis(self.now + self.aged) }
    }

    pub fn replica(
        &self,
        node: u8,
        state: LedgerState,
        vote_log: &[Vec<u8>],
        blank: BlankStart,
    ) -> Replica {
        let settings = Settings {
            params: params(),
            members: self.members.clone(),
            identity: identity(node),
            timing: self.timing,
            vouch: Box::new(Operators(node, Arc::clone(&self.objecting))),
            blank,
        };
        Replica::new(settings, state, vote_log, consensus_key(node), self.time()).unwrap()
    }

    fn connect(&mut self) {
        for a in 0..self.nodes.len() as u8 {
            for b in (0..self.nodes.len() as u8).filter(|b| *b != a) {
                let now = self.time();
                self.nodes[usize::from(a)].handle_up(now, NodeIndex(b));
            }
        }
        self.settle();
    }

    /// Ends a node: nothing reaches it, nothing leaves it.
    pub fn kill(&mut self, node: u8) {
        self.dead.insert(node);
        self.queue.retain(|(from, to, _)| *from != node && *to != node);
        let now = self.time();
        for other in (0..self.nodes.len() as u8).filter(|other| !self.dead.contains(other)) {
            self.nodes[usize::from(other)].handle_down(now, NodeIndex(node));
        }
    }

    /// Starts a node again, with its block log and vote log, or with empty ones.
    pub fn restart(&mut self, node: u8, blank: BlankStart) {
        let at = usize::from(node);
        if blank == BlankStart::Rejoin {
            self.blocks[at].clear();
            self.vote_logs[at].clear();
            self.leaves[at].clear();
            self.gone[at] = None;
        }
        let state = self.state(node);
        self.nodes[at] = self.replica(node, state, &self.vote_logs[at], blank);
        self.dead.remove(&node);
        let now = self.time();
        for other in (0..self.nodes.len() as u8).filter(|other| *other != node) {
            if !self.dead.contains(&other) {
                self.nodes[usize::from(other)].handle_up(now, NodeIndex(node));
                self.nodes[at].handle_up(now, NodeIndex(other));
            }
        }
        self.settle();
    }

    /// The ledger as a node's store has it.
    pub fn state(&self, node: u8) -> LedgerState {
        let at = usize::from(node);
        let gone = self.gone[at].as_ref().map(|gone| gone.base.state().unwrap());
        let mut state = gone.unwrap_or_else(LedgerState::genesis);
        self.blocks[at].iter().for_each(|executed| executed.apply(&mut state));
        state
    }

    /// Delivers everything that is under way.
    pub fn settle(&mut self) {
        loop {
            for node in 0..self.nodes.len() as u8 {
                if !self.dead.contains(&node) {
                    self.carry_out(node);
                }
            }
            let Some((from, to, message)) = self.queue.pop_front() else { return };
            if self.dead.contains(&to) || self.dead.contains(&from) {
                continue;
            }
            let told = match &mut self.twist {
                Some(twist) => twist(from, to, message),
                None => vec![message],
            };
            for message in told {
                // Through its bytes, as on a wire.
                let message = Message::decode(&message.encode().into()).unwrap();
                let now = self.time();
                self.nodes[usize::from(to)].handle_message(now, NodeIndex(from), message).unwrap();
            }
        }
    }

    /// Delivers so many messages.
    pub fn deliver(&mut self, count: usize) {
        for _ in 0..count {
            (0..self.nodes.len() as u8).for_each(|node| self.carry_out(node));
            let Some((from, to, message)) = self.queue.pop_front() else { return };
            let now = self.time();
            self.nodes[usize::from(to)].handle_message(now, NodeIndex(from), message).unwrap();
        }
        (0..self.nodes.len() as u8).for_each(|node| self.carry_out(node));
    }

    /// Lets time pass.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now += 10;
            for node in 0..self.nodes.len() as u8 {
                if !self.dead.contains(&node) {
                    let now = self.time();
                    self.nodes[usize::from(node)].handle_tick(now).unwrap();
                }
            }
            self.settle();
        }
    }

    fn carry_out(&mut self, node: u8) {
        let at = usize::from(node);
        while let Some(output) = self.nodes[at].poll().unwrap() {
            match output {
                Output::Log(record) => self.vote_logs[at].push(record),
                Output::SyncLog => {}
                Output::Send { to, message } => {
                    let all = 0..self.nodes.len() as u8;
                    for other in all.filter(|o| *o != node && to.is_none_or(|to| to.0 == *o)) {
                        self.queue.push_back((node, other, message.clone()));
                    }
                }
                Output::Append(executed) => {
                    let bytes = executed.block.encode_parts().concat();
                    assert_eq!(Block::decode(&bytes).unwrap(), executed.block);
                    let now = self.time();
                    self.leaves[at].extend_from_slice(executed.tree.leaves());
                    self.nodes[at].handle_durable(now, &executed).unwrap();
                    self.blocks[at].push(*executed);
                }
                Output::Published(head) => self.heads[at] = Some(head),
                Output::ServeBlocks { to, from } => {
                    if self.serve_pruned(node, to.0, from) {
                        self.queue.push_back((node, to.0, Message::Served));
                        continue;
                    }
                    let from = (from.0 - self.floor(node)) as usize - 1;
                    for executed in self.blocks[at].iter().skip(from).take(8) {
                        let bytes = executed.block.encode_parts().concat().into();
                        self.queue.push_back((node, to.0, Message::Block(bytes)));
                    }
                    self.queue.push_back((node, to.0, Message::Served));
                }
                Output::Dropped(_) => {}
                Output::Declined { digest, why } => self.declined.push((node, digest, why)),
                Output::ServeBase { to, digest, offset } => {
                    self.serve_base(node, to.0, digest, offset);
                }
                Output::ServeLeaves { to, chunk } => self.serve_leaves(node, to.0, chunk),
                Output::Base { base, encoded, begins } => {
                    self.came.push((node, Came::Base(base, encoded, begins)));
                }
                Output::Leaves { chunk, leaves } => {
                    self.came.push((node, Came::Leaves(chunk, leaves)));
                }
                Output::Rebase(base) => self.rebase(node, &base),
                Output::Mended { height, bytes } => self.mended.push((node, height, bytes)),
                Output::Event(event) => self.events.push((node, event)),
            }
        }
    }

    pub fn policy(&self) -> Policy {
        let logs: Vec<VerifierKey> =
            (0..self.nodes.len() as u8).map(|node| identity(node).log.vkey().clone()).collect();
        let cosigners: Vec<(String, VerifierKey)> =
            self.members.iter().map(|(_, m)| (m.name.to_string(), m.cosigner.clone())).collect();
        Policy::parse(write_policy(&logs, &cosigners, self.members.quorum()).as_bytes()).unwrap()
    }

    pub fn enrol(&mut self, at: u8) -> Result<(), PoolError> {
        let enrolment = Enrolment {
            agent: agent(),
            key: key(9).public(),
            time: UnixSeconds(1),
            certificate: vec![1],
            signature: vec![2],
        };
        let now = self.time();
        let taken = self.nodes[usize::from(at)].handle_enrolment(now, enrolment).unwrap();
        self.settle();
        taken
    }

    /// Submits lines of the agent to a node.
    pub fn submit(
        &mut self,
        at: u8,
        builder: &mut BatchBuilder,
        lines: &[&str],
    ) -> (Result<(), PoolError>, SealEntry) {
        let (pending, seal) = self.pending(at, builder, lines);
        (self.hand(at, pending), seal)
    }

    pub fn hand(&mut self, at: u8, pending: Pending) -> Result<(), PoolError> {
        let now = self.time();
        let taken = self.nodes[usize::from(at)].handle_batch(now, pending).unwrap();
        self.settle();
        taken
    }

    pub fn pending(
        &self,
        at: u8,
        builder: &mut BatchBuilder,
        lines: &[&str],
    ) -> (Pending, SealEntry) {
        for line in lines {
            let (agent, n) = (builder.agent().clone(), builder.next());
            let element = LogElement {
                enterprise: Enterprise::default(),
                agent: &agent,
                n,
                source: "kong",
                received: UnixMillis(0),
                peer: None,
                transport: None,
                part: None,
            };
            let header = Header {
                priority: 110,
                time: None,
                host: b"h",
                app: b"a",
                procid: b"",
                msgid: b"",
            };
            builder.push(|out| element.wrap(out, &header, &[], line.as_bytes()));
        }
        let sealed = builder.seal(&key(9), UnixSeconds(self.now / 1000), &mut Codec::default());
        let (encoded, seal) = (sealed.batch.encode(), sealed.batch.seal_entry());
        let log = self.nodes[usize::from(at)].log_of(&agent()).unwrap();
        let verified =
            sealed.batch.open(&params().origin, log, &mut Codec::default(), &mut vec![]).unwrap();
        (Pending::new(verified, log.clone(), encoded.into()), seal)
    }

    pub fn heights(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.state().height.0).collect()
    }

    /// All nodes that live have the same blocks, and nobody was accused.
    pub fn assert_agreed(&self) {
        let mut decided = BTreeMap::new();
        for executed in self.blocks.iter().flatten() {
            let header = &executed.block.header;
            assert_eq!(decided.entry(header.height).or_insert(header), &header);
        }
        let faults: Vec<_> =
            self.events.iter().filter(|(_, e)| matches!(e, Event::Fault { .. })).collect();
        assert!(faults.is_empty(), "{faults:?}");
    }

    pub fn standing(&self, node: u8) -> Standing {
        self.nodes[usize::from(node)].standing()
    }
}

pub fn builder() -> BatchBuilder {
    BatchBuilder::new(params().origin, agent(), Default::default())
}
