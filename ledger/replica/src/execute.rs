//! Execution: from a block's contents to the entries it appends and the tree that results.

use crate::{
    block::{Block, BlockBatch, BlockHeader, Certificate},
    members::Members,
    pool::{Body, Picked},
    state::{Conviction, LedgerState, Params, Pruned, Slot},
};
use bytes::Bytes;
use record::{
    AgentName, Hash, NodeName, TreeSize, UnixMillis, UnixSeconds,
    batch::{BatchError, Codec, LogState, SealedBatch, VerifiedBatch},
    block::{BlockEntry, Height},
    declaration::{Declaration, DeclarationError, Matter, Prune},
    enrolment::{Enrolment, EnrolmentError},
    equivocation::{Equivocation, EquivocationError, EquivocationKind},
    merkle::{EntryIndex, Frontier, NodeId, NodeSource, leaf_hash},
};
use std::collections::{BTreeMap, BTreeSet};

/// How far, in seconds, a declaration's time may be from that of its block: whoever holds one back must not
/// be able to have it decided much later.
const MAX_DECLARATION_AGE: u64 = 3600;

/// A decided block does not execute: it was altered, or it should never have been decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError {
    /// It does not follow the state it is executed on.
    #[error("block {found} does not follow block {height}")]
    NotNext {
        /// The newest height.
        height: u64,
        /// The block's height.
        found: u64,
    },
    /// Its parent is another block than the newest.
    #[error("block {0} does not name the block before it as its parent")]
    Parent(u64),
    /// An enrolment that cannot be read.
    #[error("an enrolment cannot be read: {0}")]
    Enrolment(#[from] EnrolmentError),
    /// An agent that is enrolled already.
    #[error("agent '{0}' is enrolled twice")]
    Enrolled(AgentName),
    /// A batch of an agent that is not enrolled.
    #[error("agent '{0}' is not enrolled")]
    NotEnrolled(AgentName),
    /// A batch that does not verify.
    #[error("the batch of '{agent}' that begins with record {start}: {source}")]
    Batch {
        /// Whose batch.
        agent: AgentName,
        /// Its first record.
        start: u64,
        /// What is wrong with it.
        source: BatchError,
    },
    /// A batch that does not decode.
    #[error("a batch cannot be read")]
    Unreadable,
    /// A batch is kept with another frontier than its agent's log had.
    #[error("the frontier kept with the batch of '{0}' is not that of its log")]
    Frontier(AgentName),
    /// An equivocation that cannot be read, or proves nothing.
    #[error(transparent)]
    Equivocation(#[from] EquivocationError),
    /// An equivocation of somebody whose key it is not.
    #[error("the key in the equivocation is not that of '{0}'")]
    Culprit(NodeName),
    /// An equivocation of somebody who is convicted of the same already.
    #[error("'{0}' is convicted of that already")]
    Convicted(NodeName),
    /// A declaration that cannot be read.
    #[error(transparent)]
    Declaration(#[from] DeclarationError),
    /// A declaration that is not newer than the newest.
    #[error("the declaration is not newer than the one before it: sign a new one")]
    Stale,
    /// A declaration of another time than its block: somebody held it back, or made it up.
    #[error("the declaration was signed at another time than now: sign a new one")]
    Old,
    /// A declaration that gives up what cannot be given up.
    #[error("these entries cannot be given up: {0}")]
    Prune(&'static str),
    /// The header names another tree than execution leads to.
    #[error("block {0} names another tree than its entries lead to")]
    Root(u64),
}

/// Where a batch came to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Whose batch.
    pub agent: AgentName,
    /// Its first record in the agent's log.
    pub start: EntryIndex,
    /// Its records.
    pub count: u32,
    /// Its digest.
    pub digest: Hash,
    /// The time of its seal.
    pub sealed: UnixSeconds,
    /// The ledger index of its first record, or of its seal if it has none.
    pub first: EntryIndex,
}

/// The part of the ledger tree that a block adds, with the frontier it grew from: answers for
/// every node that the block completed and for the frontier's own.
#[derive(Clone, Debug)]
pub struct BlockTree {
    before: Frontier,
    leaves: Vec<Hash>,
    /// Nodes of level 8 and above that the block completed.
    upper: BTreeMap<NodeId, Hash>,
}

impl BlockTree {
    fn new(before: Frontier) -> (Self, Frontier) {
        let after = before.clone();
        (BlockTree { before, leaves: vec![], upper: BTreeMap::new() }, after)
    }

    /// The tree of a log with the frontier `before`, after these `leaves`.
    pub fn of(before: Frontier, leaves: &[Hash]) -> Self {
        let (mut tree, mut after) = BlockTree::new(before);
        leaves.iter().for_each(|leaf| tree.push(&mut after, *leaf));
        tree
    }

    /// The tree's size before the block.
    pub fn start(&self) -> TreeSize {
        self.before.size()
    }

    /// The leaf hashes of the block's entries.
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// The nodes of `level`, a multiple of 8 above 0, that the block completed, in order.
    pub fn completed(&self, level: u8) -> impl Iterator<Item = Hash> {
        let range = NodeId { level, index: 0 }..NodeId { level: level + 1, index: 0 };
        self.upper.range(range).map(|(_, hash)| *hash)
    }

    fn push(&mut self, tree: &mut Frontier, leaf: Hash) {
        self.leaves.push(leaf);
        tree.push_with(leaf, |id, hash| {
            if id.level >= 8 {
                self.upper.insert(id, hash);
            }
        });
    }
}

impl NodeSource for BlockTree {
    type Error = std::convert::Infallible;

    /// # Panics
    /// If the node is neither in the frontier nor completed by the block.
    fn node(&self, id: NodeId) -> Result<Hash, Self::Error> {
        let known = self.upper.get(&id).copied().or_else(|| self.before.get(id));
        if let Some(hash) = known {
            return Ok(hash);
        }
        if id.level == 0 {
            let at = id.index.checked_sub(self.before.size().0).expect("a leaf of this block");
            return Ok(self.leaves[at as usize]);
        }
        let (left, right) = id.children();
        Ok(record::merkle::node_hash(&self.node(left)?, &self.node(right)?))
    }
}

/// A block and all that executing it led to.
#[derive(Clone, Debug)]
pub struct Executed {
    /// The block; its certificate is empty until it is decided.
    pub block: Block,
    /// What it adds to the tree.
    pub tree: BlockTree,
    /// Where its batches stand.
    pub placed: Vec<Placed>,
    /// Where its enrolments stand.
    pub enrolled: Vec<(AgentName, EntryIndex)>,
    /// The ledger's frontier after it.
    pub after: Frontier,
    /// The agents whose logs it changed.
    pub agents: BTreeMap<AgentName, LogState>,
    /// Those whom it convicts.
    pub convicted: BTreeSet<Conviction>,
    /// Where its enrolments, equivocations and declarations stand.
    pub kept: Vec<EntryIndex>,
    /// Digests of its declarations, and where they stand.
    pub declared: Vec<(Hash, EntryIndex)>,
    /// When its newest declaration was signed, if it has one.
    pub declared_at: Option<UnixSeconds>,
    /// What it gives up.
    pub pruned: Option<Pruned>,
}

impl Executed {
    /// Makes this block the newest of `state`.
    pub fn apply(&self, state: &mut LedgerState) {
        state.height = self.block.header.height;
        state.parent = self.block.header.id();
        state.time = self.block.header.time;
        state.tree = self.after.clone();
        state.agents.extend(self.agents.iter().map(|(name, log)| (name.clone(), log.clone())));
        state.convicted.extend(self.convicted.iter().cloned());
        state.declared = self.declared_at.unwrap_or(state.declared);
        state.pruned = self.pruned.clone().or_else(|| state.pruned.take());
    }
}

/// Executes what a proposer picked, on top of `state`, into a block of its own.
pub(crate) fn propose(
    params: &Params,
    members: &Members,
    state: &LedgerState,
    slot: &Slot,
    picked: Picked,
) -> Executed {
    let mut run = Run::new(state);
    let mut bodies = Bodies::default();
    for (enrolment, encoded) in picked.enrolments {
        // Another node's block may have enrolled the agent meanwhile.
        if run.enrol(params, state, &enrolment).is_ok() {
            bodies.enrolment_digests.push(SealedBatch::digest(&encoded));
            bodies.enrolments.push(encoded);
        }
    }
    for pending in picked.batches {
        let Some(log) = run.log(state, &pending.batch().agent) else { continue };
        if !pending.fits(log) {
            continue;
        }
        let before = log.frontier.clone();
        run.batch(params, pending.verified(), pending.digest());
        bodies.batch_digests.push(pending.digest());
        bodies.batches.push(BlockBatch { encoded: pending.encoded().clone(), before });
    }
    for (equivocation, encoded) in picked.equivocations {
        let known = run.convicted.contains(&conviction(&equivocation));
        if !known && convicts(params, members, state, &equivocation).is_ok() {
            run.equivocation(params, slot, &equivocation);
            bodies.equivocation_digests.push(SealedBatch::digest(&encoded));
            bodies.equivocations.push(encoded);
        }
    }
    for (declaration, encoded) in picked.declarations {
        let digest = SealedBatch::digest(&encoded);
        if run.declare(params, state, slot, &declaration, digest).is_ok() {
            bodies.declaration_digests.push(digest);
            bodies.declarations.push(encoded);
        }
    }
    run.finish(params, state, slot, bodies)
}

/// What a header names, as far as it is here.
#[derive(Default)]
pub(crate) struct Named {
    pub(crate) enrolments: Vec<(Enrolment, Bytes)>,
    pub(crate) batches: Vec<Body>,
    pub(crate) equivocations: Vec<(Equivocation, Bytes)>,
    pub(crate) declarations: Vec<(Declaration, Bytes)>,
}

/// Executes what somebody else proposed, on top of `state`. Batches that were verified against the
/// logs they are executed on are not verified again.
pub(crate) fn validate(
    params: &Params,
    members: &Members,
    state: &LedgerState,
    header: &BlockHeader,
    named: Named,
    codec: &mut Codec,
) -> Result<Executed, ExecuteError> {
    let mut convicted = BTreeSet::new();
    for (equivocation, _) in &named.equivocations {
        convicts(params, members, state, equivocation)?;
        if !convicted.insert(conviction(equivocation)) {
            return Err(ExecuteError::Convicted(equivocation.culprit.clone()));
        }
    }
    execute(params, state, header, named, codec)
}

fn execute(
    params: &Params,
    state: &LedgerState,
    header: &BlockHeader,
    named: Named,
    codec: &mut Codec,
) -> Result<Executed, ExecuteError> {
    let mut run = Run::new(state);
    let mut bodies = Bodies::named(header);
    for (enrolment, encoded) in named.enrolments {
        run.enrol(params, state, &enrolment)?;
        bodies.enrolments.push(encoded);
    }
    let mut scratch = Vec::new();
    for (body, digest) in named.batches.into_iter().zip(&header.batches) {
        let batch = match body {
            Body::Verified(pending) => {
                let agent = &pending.batch().agent;
                let log = run
                    .log(state, agent)
                    .ok_or_else(|| ExecuteError::NotEnrolled(agent.clone()))?;
                let before = log.frontier.clone();
                let encoded = pending.encoded().clone();
                if pending.fits(log) {
                    run.batch(params, pending.verified(), *digest);
                } else {
                    run.open(params, state, pending.batch().clone(), *digest, codec, &mut scratch)?;
                }
                BlockBatch { encoded, before }
            }
            Body::Loose(encoded) => {
                let batch = SealedBatch::decode(&encoded).map_err(|_| ExecuteError::Unreadable)?;
                let before = run.open(params, state, batch, *digest, codec, &mut scratch)?;
                BlockBatch { encoded, before }
            }
        };
        bodies.batches.push(batch);
    }
    let slot = Slot { proposer: header.proposer.clone(), time: header.time };
    for (equivocation, encoded) in named.equivocations {
        run.equivocation(params, &slot, &equivocation);
        bodies.equivocations.push(encoded);
    }
    for ((declaration, encoded), digest) in named.declarations.into_iter().zip(&header.declarations)
    {
        run.declare(params, state, &slot, &declaration, *digest)?;
        bodies.declarations.push(encoded);
    }
    let executed = run.finish(params, state, &slot, bodies);
    if executed.block.header == *header {
        Ok(executed)
    } else {
        Err(ExecuteError::Root(header.height.0))
    }
}

/// Executes a decided block again, verifying every batch: for replay, for blocks that others
/// decided, and for audits.
pub fn replay(
    params: &Params,
    state: &LedgerState,
    block: Block,
    codec: &mut Codec,
) -> Result<Executed, ExecuteError> {
    let header = &block.header;
    if header.height.0 != state.height.0 + 1 {
        return Err(ExecuteError::NotNext { height: state.height.0, found: header.height.0 });
    }
    if header.parent != state.parent {
        return Err(ExecuteError::Parent(header.height.0));
    }
    let mut named = Named::default();
    for body in &block.enrolments {
        named.enrolments.push((Enrolment::decode(body)?, body.clone()));
    }
    for body in &block.equivocations {
        named.equivocations.push((Equivocation::decode(body)?, body.clone()));
    }
    for body in &block.declarations {
        named.declarations.push((Declaration::decode(body)?, body.clone()));
    }
    // Whose keys they are was checked by those who decided the block.
    named.equivocations.iter().try_for_each(|(equivocation, _)| equivocation.verify())?;
    named.batches.extend(block.batches.iter().map(|body| Body::Loose(body.encoded.clone())));
    let mut executed = execute(params, state, header, named, codec)?;
    for (kept, run) in block.batches.iter().zip(&executed.block.batches) {
        if kept.before != run.before {
            let agent = SealedBatch::decode(&kept.encoded).map(|batch| batch.agent);
            return Err(agent.map_or(ExecuteError::Unreadable, ExecuteError::Frontier));
        }
    }
    executed.block.certificate = block.certificate;
    Ok(executed)
}

#[derive(Default)]
struct Bodies {
    enrolments: Vec<Bytes>,
    enrolment_digests: Vec<Hash>,
    batches: Vec<BlockBatch>,
    batch_digests: Vec<Hash>,
    equivocations: Vec<Bytes>,
    equivocation_digests: Vec<Hash>,
    declarations: Vec<Bytes>,
    declaration_digests: Vec<Hash>,
}

impl Bodies {
    /// The bodies of a block that is there, still to be filled in.
    fn named(header: &BlockHeader) -> Self {
        Bodies {
            enrolment_digests: header.enrolments.clone(),
            batch_digests: header.batches.clone(),
            equivocation_digests: header.equivocations.clone(),
            declaration_digests: header.declarations.clone(),
            ..Bodies::default()
        }
    }
}

/// A block while it is executed.
struct Run {
    tree: BlockTree,
    after: Frontier,
    placed: Vec<Placed>,
    enrolled: Vec<(AgentName, EntryIndex)>,
    agents: BTreeMap<AgentName, LogState>,
    convicted: BTreeSet<Conviction>,
    kept: Vec<EntryIndex>,
    declared: Vec<(Hash, EntryIndex)>,
    declared_at: Option<UnixSeconds>,
    pruned: Option<Pruned>,
}

impl Run {
    fn new(state: &LedgerState) -> Self {
        let (tree, after) = BlockTree::new(state.tree.clone());
        Run {
            tree,
            after,
            placed: vec![],
            enrolled: vec![],
            agents: BTreeMap::new(),
            convicted: BTreeSet::new(),
            kept: vec![],
            declared: vec![],
            declared_at: None,
            pruned: None,
        }
    }

    fn next(&self) -> EntryIndex {
        EntryIndex(self.after.size().0)
    }

    fn log<'s>(&'s self, state: &'s LedgerState, agent: &AgentName) -> Option<&'s LogState> {
        self.agents.get(agent).or_else(|| state.agents.get(agent))
    }

    fn enrol(
        &mut self,
        params: &Params,
        state: &LedgerState,
        enrolment: &Enrolment,
    ) -> Result<(), ExecuteError> {
        let agent = &enrolment.agent;
        if self.log(state, agent).is_some() {
            return Err(ExecuteError::Enrolled(agent.clone()));
        }
        self.enrolled.push((agent.clone(), self.next()));
        self.kept.push(self.next());
        let entry = enrolment.entry(&params.origin, params.enterprise);
        self.tree.push(&mut self.after, leaf_hash(&entry));
        let log =
            LogState { key: enrolment.key, frontier: Frontier::default(), sealed: UnixSeconds(0) };
        self.agents.insert(agent.clone(), log);
        Ok(())
    }

    fn batch(&mut self, params: &Params, verified: &VerifiedBatch, digest: Hash) {
        let batch = verified.batch();
        self.placed.push(Placed {
            agent: batch.agent.clone(),
            start: batch.start,
            count: batch.count,
            digest,
            sealed: batch.seal.time,
            first: self.next(),
        });
        for leaf in verified.leaves() {
            self.tree.push(&mut self.after, *leaf);
        }
        let seal = batch.seal_entry().encode(params.enterprise);
        self.tree.push(&mut self.after, leaf_hash(&seal));
        let log = verified.log_state();
        self.agents.insert(batch.agent.clone(), log);
    }

    /// Verifies a batch against its agent's log and executes it; gives back the log before it.
    fn open(
        &mut self,
        params: &Params,
        state: &LedgerState,
        batch: SealedBatch,
        digest: Hash,
        codec: &mut Codec,
        scratch: &mut Vec<u8>,
    ) -> Result<Frontier, ExecuteError> {
        let (agent, start) = (batch.agent.clone(), batch.start.0);
        let Some(log) = self.log(state, &agent) else {
            return Err(ExecuteError::NotEnrolled(agent));
        };
        let before = log.frontier.clone();
        let verified = batch
            .open(&params.origin, log, codec, scratch)
            .map_err(|source| ExecuteError::Batch { agent, start, source })?;
        self.batch(params, &verified, digest);
        Ok(before)
    }

    fn equivocation(&mut self, params: &Params, slot: &Slot, equivocation: &Equivocation) {
        self.convicted.insert(conviction(equivocation));
        self.kept.push(self.next());
        let entry = equivocation.entry(slot.time, params.enterprise);
        self.tree.push(&mut self.after, leaf_hash(&entry));
    }

    fn declare(
        &mut self,
        params: &Params,
        state: &LedgerState,
        slot: &Slot,
        declaration: &Declaration,
        digest: Hash,
    ) -> Result<(), ExecuteError> {
        may_declare(state, slot.time, declaration)?;
        if self.declared_at.is_some_and(|newest| declaration.time <= newest) {
            return Err(ExecuteError::Stale);
        }
        if let Matter::Prune(prune) = &declaration.matter {
            if self.pruned.is_some() {
                return Err(ExecuteError::Prune("the block gives up others already"));
            }
            self.pruned = Some(Pruned { prune: prune.clone(), index: self.next() });
        }
        self.declared_at = Some(declaration.time);
        self.declared.push((digest, self.next()));
        self.kept.push(self.next());
        let entry = declaration.entry(params.enterprise);
        self.tree.push(&mut self.after, leaf_hash(&entry));
        Ok(())
    }

    fn finish(
        mut self,
        params: &Params,
        state: &LedgerState,
        slot: &Slot,
        bodies: Bodies,
    ) -> Executed {
        let (height, first) = (Height(state.height.0 + 1), state.tree.size());
        let first = EntryIndex(first.0);
        let entry = BlockEntry { height, time: slot.time, proposer: slot.proposer.clone(), first };
        self.tree.push(&mut self.after, leaf_hash(&entry.encode(params.enterprise)));
        let header = BlockHeader {
            height,
            parent: state.parent,
            time: slot.time,
            proposer: slot.proposer.clone(),
            first,
            enrolments: bodies.enrolment_digests,
            batches: bodies.batch_digests,
            equivocations: bodies.equivocation_digests,
            declarations: bodies.declaration_digests,
            size: self.after.size(),
            root: self.after.root(),
        };
        let certificate = Certificate { round: 0, signatures: vec![] };
        Executed {
            block: Block {
                header,
                certificate,
                enrolments: bodies.enrolments,
                batches: bodies.batches,
                equivocations: bodies.equivocations,
                declarations: bodies.declarations,
            },
            tree: self.tree,
            placed: self.placed,
            enrolled: self.enrolled,
            after: self.after,
            agents: self.agents,
            convicted: self.convicted,
            kept: self.kept,
            declared: self.declared,
            declared_at: self.declared_at,
            pruned: self.pruned,
        }
    }
}

/// Checks what the ledger alone says about a declaration that is to be in a block of that time.
pub(crate) fn may_declare(
    state: &LedgerState,
    time: UnixMillis,
    declaration: &Declaration,
) -> Result<(), ExecuteError> {
    if declaration.time <= state.declared {
        return Err(ExecuteError::Stale);
    }
    if declaration.time.0.abs_diff(time.seconds().0) > MAX_DECLARATION_AGE {
        return Err(ExecuteError::Old);
    }
    match &declaration.matter {
        Matter::Prune(prune) => may_prune(state, time, prune),
        Matter::Drill(_) => Ok(()),
    }
}

/// Checks what the ledger alone says about giving up entries in a block of that time. Whether they are those
/// that the declaration names, each node compares with its store.
fn may_prune(state: &LedgerState, time: UnixMillis, prune: &Prune) -> Result<(), ExecuteError> {
    let refuse = |why| Err(ExecuteError::Prune(why));
    if !prune.is_sound() {
        return refuse("entries are kept for 365 days at least");
    }
    if time < prune.allowed_from() {
        return refuse("they are younger than the retention that the declaration names");
    }
    if prune.from.0 != state.dropped().0 || prune.height <= state.dropped_height() {
        return refuse("others were given up meanwhile: ask for a new plan");
    }
    if prune.height > state.height || prune.minimum_index().0 > state.tree.size().0 {
        return refuse("the newest entries always stay");
    }
    Ok(())
}

/// Whom an equivocation convicts, and of what.
pub(crate) fn conviction(equivocation: &Equivocation) -> Conviction {
    (equivocation.culprit.clone(), equivocation.kind)
}

/// Checks that an equivocation proves something new, about this ledger and against the one it names.
pub(crate) fn convicts(
    params: &Params,
    members: &Members,
    state: &LedgerState,
    equivocation: &Equivocation,
) -> Result<(), ExecuteError> {
    let unknown = || ExecuteError::Culprit(equivocation.culprit.clone());
    let member = || members.find(&equivocation.culprit).map(|index| members.get(index));
    let agent: AgentName = equivocation.culprit.as_str().parse().expect("names follow one rule");
    let (key, origin) = match equivocation.kind {
        EquivocationKind::Votes | EquivocationKind::Proposals => {
            (member().ok_or_else(unknown)?.consensus, None)
        }
        EquivocationKind::Cosignatures => {
            (member().ok_or_else(unknown)?.cosigner.public(), Some(params.origin.clone()))
        }
        EquivocationKind::Seals => {
            let log = state.agents.get(&agent).ok_or_else(unknown)?;
            (log.key, Some(params.origin.agent(&agent)))
        }
    };
    if state.convicted.contains(&conviction(equivocation)) {
        return Err(ExecuteError::Convicted(equivocation.culprit.clone()));
    }
    if key != equivocation.key {
        return Err(unknown());
    }
    let line = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').nth(2).map(<[u8]>::to_vec);
    if let Some(origin) = origin
        && equivocation
            .statements
            .iter()
            .any(|s| line(&s.bytes).as_deref() != Some(origin.as_str().as_bytes()))
    {
        return Err(unknown());
    }
    Ok(equivocation.verify()?)
}
