//! What must never happen, looked for after every step.

use crate::{disk::Kept, past::Past};
use record::{
    AgentName, Hash, UnixMillis, batch::SealedBatch, equivocation::Equivocation, merkle::Frontier,
    note::SignedNote, policy::Policy,
};
use replica::{
    Event, Executed, LedgerState, Members, Message,
    forge::{Said, Step, said},
    message::Cosigned,
    verify_certificate,
};
use std::collections::{BTreeMap, BTreeSet};

/// Something that must never happen has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// Whether all is well.
pub type Verdict = Result<(), Violation>;

/// Fails with what was violated.
pub fn violated<T>(what: impl Into<String>) -> Result<T, Violation> {
    Err(Violation(what.into()))
}

/// A block as it was decided.
pub(crate) struct Decided {
    pub(crate) id: Hash,
    pub(crate) time: UnixMillis,
    pub(crate) size: u64,
    pub(crate) root: Hash,
}

/// Where a batch came to stand.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The block.
    pub height: u64,
    /// The ledger's size behind its seal.
    pub behind: u64,
}

/// What has been decided, said and promised so far.
pub struct Checker {
    members: Members,
    policy: Policy,
    liars: BTreeSet<usize>,
    splitter: Option<AgentName>,
    chain: Vec<Decided>,
    roots: BTreeMap<u64, Hash>,
    next: BTreeMap<AgentName, u64>,
    sealed: BTreeSet<Hash>,
    placed: BTreeMap<Hash, Place>,
    said: BTreeMap<(usize, u64, i64, Step), Said>,
    cosigned: BTreeMap<(usize, u64), Hash>,
    believed: BTreeSet<String>,
    receipted: BTreeMap<Hash, Place>,
    /// Who was convicted in the ledger.
    pub convicted: BTreeMap<String, u64>,
    past: Past,
}

impl Checker {
    /// Nothing has happened yet.
    pub fn new(
        members: &Members,
        policy: Policy,
        liars: BTreeSet<usize>,
        splitter: Option<AgentName>,
    ) -> Self {
        let root = Frontier::default().root();
        Checker {
            members: members.clone(),
            policy,
            liars,
            splitter,
            chain: vec![],
            roots: BTreeMap::from([(0, root)]),
            next: BTreeMap::new(),
            sealed: BTreeSet::new(),
            placed: BTreeMap::new(),
            said: BTreeMap::new(),
            cosigned: BTreeMap::new(),
            believed: BTreeSet::new(),
            receipted: BTreeMap::new(),
            convicted: BTreeMap::new(),
            past: Past::default(),
        }
    }

    fn honest(&self, node: usize) -> bool {
        !self.liars.contains(&node)
    }

    /// The highest block that an honest node has.
    pub fn height(&self) -> u64 {
        self.chain.len() as u64
    }

    /// How many batches have a receipt.
    pub fn receipts(&self) -> usize {
        self.receipted.len()
    }

    /// An agent sealed a batch.
    pub fn sealed(&mut self, digest: Hash) {
        self.sealed.insert(digest);
    }

    /// A node has made its next block durable: agreement, and what is new in it.
    pub fn appended(&mut self, node: usize, executed: &Executed) -> Verdict {
        if !self.honest(node) {
            return Ok(());
        }
        let header = &executed.block.header;
        let (height, id) = (header.height.0, header.id());
        let certificate = &executed.block.certificate;
        if self.members.count() > 1
            && !verify_certificate(&self.members, header.height, id, certificate)
        {
            return violated(format!("n{node} kept block {height} without a certificate"));
        }
        if let Some(decided) = self.chain.get(height as usize - 1) {
            return match decided.id == id {
                true => Ok(()),
                false => violated(format!("AGREEMENT: n{node} has another block {height}")),
            };
        }
        if height != self.height() + 1 {
            return violated(format!("n{node} kept block {height} behind {}", self.height()));
        }
        self.extend(executed)
    }

    /// The first honest node has a block: order of batches, and what they are.
    fn extend(&mut self, executed: &Executed) -> Verdict {
        let header = &executed.block.header;
        let height = header.height.0;
        for (placed, digest) in executed.placed.iter().zip(&header.batches) {
            let next = self.next.entry(placed.agent.clone()).or_default();
            if placed.start.0 != *next {
                let (agent, start) = (&placed.agent, placed.start.0);
                return violated(format!("GAP: {agent} goes on with {start}, not with {next}"));
            }
            *next += u64::from(placed.count);
            if !self.sealed.contains(digest) {
                return violated(format!("a batch in block {height} that no agent sealed"));
            }
            let behind = placed.first.0 + u64::from(placed.count) + 1;
            if self.placed.insert(*digest, Place { height, behind }).is_some() {
                return violated(format!("a batch in block {height} is there twice"));
            }
        }
        for bytes in &executed.block.equivocations {
            let Ok(equivocation) = Equivocation::decode(bytes) else {
                return violated(format!("equivocation in block {height} cannot be read"));
            };
            self.accused(&equivocation)?;
            *self.convicted.entry(equivocation.kind.as_str().to_owned()).or_default() += 1;
        }
        let (size, root) = (header.size.0, header.root);
        self.roots.insert(size, root);
        self.chain.push(Decided { id: header.id(), time: header.time, size, root });
        self.past.declared(executed, &self.chain)
    }

    /// A node gives up the blocks up to one, behind which the ledger is this.
    pub fn gave_up(&mut self, node: usize, kept: &Kept, state: &LedgerState) -> Verdict {
        if self.honest(node) { self.past.gave_up(node, kept, state) } else { Ok(()) }
    }

    /// A node begins again with a base and these leaf hashes.
    pub fn rebased(&self, node: usize, kept: &Kept, leaves: &[Hash]) -> Verdict {
        if self.honest(node) { self.past.rebased(node, kept, leaves, &self.chain) } else { Ok(()) }
    }

    fn accused(&self, equivocation: &Equivocation) -> Verdict {
        let culprit = equivocation.culprit.as_str();
        let liar = self.liars.iter().any(|node| culprit == format!("n{node}"));
        let splitter = self.splitter.as_ref().is_some_and(|agent| agent.as_str() == culprit);
        if liar || splitter {
            return Ok(());
        }
        violated(format!("CONTRADICTION: {culprit}, {:?}, though it is honest", equivocation.kind))
    }

    /// A node says something; `durable` is the height of its disk.
    pub fn sent(&mut self, node: usize, message: &Message, durable: u64) -> Verdict {
        if !self.honest(node) {
            return Ok(());
        }
        match message {
            Message::Consensus(bytes) => self.stated(node, bytes),
            Message::Proposal { signed, .. } => self.stated(node, signed),
            Message::Cosigned(cosigned) => self.cosigned(node, cosigned, durable),
            _ => Ok(()),
        }
    }

    fn stated(&mut self, node: usize, bytes: &[u8]) -> Verdict {
        let Some(said) = said(bytes) else { return Ok(()) };
        if said.signer != self.members.keys()[node] {
            return Ok(());
        }
        let place = (node, said.height, said.round, said.step);
        let before = *self.said.entry(place).or_insert(said);
        if before.value == said.value {
            return Ok(());
        }
        violated(format!("CONTRADICTION: n{node} says {said:?} after {before:?}"))
    }

    fn cosigned(&mut self, node: usize, cosigned: &Cosigned, durable: u64) -> Verdict {
        let (height, size) = (cosigned.height.0, cosigned.size.0);
        let before = *self.cosigned.entry((node, size)).or_insert(cosigned.root);
        if before != cosigned.root {
            return violated(format!("TWO ROOTS: n{node} cosigned two at size {size}"));
        }
        if height > durable {
            return violated(format!(
                "TOO EARLY: n{node} cosigned block {height}, and {durable} is durable"
            ));
        }
        let at = height.checked_sub(1).and_then(|at| self.chain.get(at as usize));
        let fits = at.map_or(size == 0, |at| at.size == size && at.root == cosigned.root);
        match fits {
            true => Ok(()),
            false => violated(format!("n{node} cosigned what was not decided, at size {size}")),
        }
    }

    /// An honest node says what an operator should know: it must not accuse honest nodes.
    pub fn event(&self, node: usize, event: &Event) -> Verdict {
        if !self.honest(node) {
            return Ok(());
        }
        match event {
            Event::Fault { peer, problem } if self.honest(usize::from(peer.0)) => {
                violated(format!("ACCUSED: n{node} says of n{peer}: {problem}"))
            }
            Event::Diverged { peer, size } if self.honest(usize::from(peer.0)) => {
                violated(format!("DIVERGED: n{node} and n{peer} at size {size}"))
            }
            Event::Equivocation(equivocation) => self.accused(equivocation),
            _ => Ok(()),
        }
    }

    /// A node shows an agent a checkpoint that is to cover a batch. False if it does not.
    pub fn receipt(&mut self, digest: Hash, checkpoint: &SignedNote) -> Result<bool, Violation> {
        if !self.believe(checkpoint)? {
            return Ok(false);
        }
        let size = size_of(checkpoint);
        let Some(place) = self.placed.get(&digest).filter(|place| place.behind <= size) else {
            return violated("RECEIPT: for a batch that no honest node has");
        };
        self.receipted.insert(digest, *place);
        Ok(true)
    }

    /// True if the policy believes a checkpoint; then it must be one of the decided ledger.
    pub fn believe(&mut self, checkpoint: &SignedNote) -> Result<bool, Violation> {
        let text = checkpoint.to_string();
        if self.believed.contains(&text) {
            return Ok(true);
        }
        let Ok(verified) = self.policy.verify(checkpoint) else { return Ok(false) };
        let checkpoint = verified.checkpoint();
        if self.roots.get(&checkpoint.size.0) != Some(&checkpoint.root) {
            return violated(format!(
                "BELIEVED: a checkpoint of size {} that was never decided",
                checkpoint.size.0
            ));
        }
        self.believed.insert(text);
        Ok(true)
    }

    /// In the end an honest node's log must hold everything that has a receipt.
    pub fn kept(&self, node: usize, durable: u64) -> Verdict {
        let newest = self.receipted.values().map(|place| place.height).max().unwrap_or_default();
        if self.honest(node) && durable < newest {
            return violated(format!("LOST: n{node} lacks block {newest}, which has receipts"));
        }
        Ok(())
    }

    /// A stored block must be the decided one, whole.
    pub fn stored<'d>(&self, node: usize, blocks: impl Iterator<Item = &'d Executed>) -> Verdict {
        for executed in blocks {
            let block = &executed.block;
            let Some(decided) = self.chain.get(block.header.height.0 as usize - 1) else { break };
            let same = block.header.id() == decided.id;
            let mut bodies = block.batches.iter().zip(&block.header.batches);
            if !same || !bodies.all(|(body, named)| SealedBatch::digest(&body.encoded) == *named) {
                let height = block.header.height.0;
                return violated(format!("LOST: n{node} has another block {height} stored"));
            }
        }
        Ok(())
    }
}

/// The size a checkpoint names.
pub fn size_of(checkpoint: &SignedNote) -> u64 {
    checkpoint.text().lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or_default()
}
