//! Reading a ledger as an auditor: entry after entry, everything that can be checked is.
//!
//! A [`Follower`] is given every entry once, in order, and holds what is needed to judge the next
//! one: the ledger's frontier, the newest block, every agent's key and frontier. It says what is
//! wrong and goes on, so that one fault does not hide the next. Whether the entries are those that
//! a checkpoint was signed for is not its business: compare [`Follower::size`] and
//! [`Follower::root`] with one.
//!
//! What is taken as granted here, is checked nowhere else: that heights have no gaps; that records
//! of an agent are numbered without gaps, and that each of its batches ends in a seal of its
//! enrolled key over the whole log; that an operator signed each enrolment and declaration; that no entry is given
//! up before its time.

mod begin;
mod state;

pub use begin::{Standing, StandingLog, declares};
pub use state::{History, MAX_AGENTS, MAX_NODES, MAX_NOTES, Seen, StateError};

use crate::{
    AgentName, Hash, Origin, TreeSize, UnixMillis, UnixSeconds,
    block::BlockEntry,
    crypto::PublicKey,
    declaration::{Declaration, Matter},
    enrolment::Enrolment,
    entry::{Entry, Kind, record_of},
    equivocation::Equivocation,
    merkle::{Frontier, leaf_hash},
    seal::SealEntry,
};
use std::collections::BTreeMap;

/// What kind of thing is wrong. The words are for programs and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// `gap`: a number is missing, of a block or of a record.
    Gap,
    /// `bad-seal`: records without a seal, or a seal that does not hold.
    BadSeal,
    /// `bad-entry`: an entry that cannot be, or not here.
    BadEntry,
    /// `early-prune`: entries were given up before their time.
    EarlyPrune,
}

impl Flaw {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Flaw::Gap => "gap",
            Flaw::BadSeal => "bad-seal",
            Flaw::BadEntry => "bad-entry",
            Flaw::EarlyPrune => "early-prune",
        }
    }
}

/// Something is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub flaw: Flaw,
    /// The entry's ledger index.
    pub index: u64,
    /// What, and who is at fault.
    pub problem: String,
}

/// An agent's log as far as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AgentLog {
    key: PublicKey,
    /// The number of its next record.
    next: u64,
    /// Of its log, as long as nothing of it was missing.
    frontier: Option<Frontier>,
    sealed: UnixSeconds,
}

/// A batch whose seal has not come yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    agent: AgentName,
    start: u64,
}

/// What may still come in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Enrolments,
    Batches,
    Equivocations,
    Declarations,
}

/// Reads a ledger from its first entry on, or from behind those that it gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    origin: Origin,
    tree: Frontier,
    height: u64,
    time: UnixMillis,
    /// The first entry of the block that is being read.
    first: u64,
    phase: Phase,
    open: Option<Open>,
    agents: BTreeMap<AgentName, AgentLog>,
    /// How many entries were given up, from the first one on.
    dropped: TreeSize,
    /// When entries may be given up that a declaration in the block that is being read gives up; 0 if there is none.
    due: UnixMillis,
}

/// Checks whether the holder of an operator's certificate signed a text: certificate (DER), text, signature (DER).
pub type Vouch<'a> = &'a dyn Fn(&[u8], &[u8], &[u8]) -> bool;

impl Follower {
    /// In front of the first entry of a ledger.
    pub fn new(origin: Origin) -> Self {
        Follower {
            origin,
            tree: Frontier::default(),
            height: 0,
            time: UnixMillis(0),
            first: 0,
            phase: Phase::Enrolments,
            open: None,
            agents: BTreeMap::new(),
            dropped: TreeSize(0),
            due: UnixMillis(0),
        }
    }

    /// The ledger.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How many entries were read.
    pub fn size(&self) -> TreeSize {
        self.tree.size()
    }

    /// The root over them.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The height of the newest block whose end was read.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// How many agents were enrolled.
    pub fn agents(&self) -> usize {
        self.agents.len()
    }

    /// Records read of all agents.
    pub fn records(&self) -> u64 {
        self.agents.values().map(|log| log.next).fold(0, u64::saturating_add)
    }

    /// How many entries the ledger has given up, from the first one on, by what was read.
    pub fn dropped(&self) -> TreeSize {
        self.dropped
    }

    /// Reads the next entry; what is wrong with it goes to `found`, at most four findings.
    pub fn push(&mut self, entry: &[u8], vouch: Vouch<'_>, found: &mut Vec<Finding>) {
        let (index, leaf) = (self.tree.size().0, leaf_hash(entry));
        let mut report = Report { index, found };
        self.tree.push(leaf);
        let parsed = match Entry::parse(entry) {
            Ok(parsed) => parsed,
            Err(error) => {
                report.add(Flaw::BadEntry, format!("it is no entry: {error}"));
                // A node asks of a record only that its beginning is right.
                self.record(entry, leaf, &mut report);
                return;
            }
        };
        match parsed.kind() {
            Kind::Record => self.record(entry, leaf, &mut report),
            Kind::Seal => self.seal(&parsed, &mut report),
            Kind::Enrol => self.enrol(&parsed, vouch, &mut report),
            Kind::Equivocation => self.equivocation(&parsed, &mut report),
            Kind::Prune | Kind::Drill => self.declaration(&parsed, vouch, &mut report),
            Kind::Block => self.block(&parsed, index, &mut report),
        }
    }

    fn record(&mut self, entry: &[u8], leaf: Hash, report: &mut Report<'_>) {
        let Some((agent, n)) = record_of(entry) else {
            report.add(Flaw::BadEntry, "it does not begin as a record must".into());
            return;
        };
        self.enter(Phase::Batches, report);
        if self.open.as_ref().is_some_and(|open| open.agent != agent) {
            self.unsealed(report);
        }
        let Some(log) = self.agents.get_mut(&agent) else {
            report.add(Flaw::BadEntry, format!("it is of agent {agent}, whom nobody enrolled"));
            return;
        };
        if n != log.next {
            let next = log.next;
            let problem = format!("record {n} of agent {agent} stands where {next} should");
            report.add(Flaw::Gap, problem);
            log.frontier = None;
        }
        if let Some(frontier) = &mut log.frontier {
            frontier.push(leaf);
        }
        log.next = n.saturating_add(1);
        self.open.get_or_insert(Open { agent, start: n });
    }

    fn seal(&mut self, entry: &Entry<'_>, report: &mut Report<'_>) {
        self.enter(Phase::Batches, report);
        let Some(SealEntry { agent, start, seal }) = SealEntry::decode(entry) else {
            report.add(Flaw::BadEntry, "it is a seal that cannot be read".into());
            return;
        };
        if self.open.as_ref().is_some_and(|open| open.agent != agent) {
            self.unsealed(report);
        }
        let begun = self.open.take().map(|open| open.start);
        let Some(log) = self.agents.get_mut(&agent) else {
            let problem = format!("it is a seal of agent {agent}, whom nobody enrolled");
            report.add(Flaw::BadSeal, problem);
            return;
        };
        let mut wrong = |problem: &str| {
            report.add(Flaw::BadSeal, format!("the seal of agent {agent} {problem}"));
        };
        if (start.0, seal.size.0) != (begun.unwrap_or(log.next), log.next) {
            wrong("is not for the records in front of it");
            log.frontier = None;
        } else if !seal.verifies(&log.key, &self.origin, &agent) {
            wrong("does not hold under the key that was enrolled");
        } else if log.frontier.as_ref().is_some_and(|log| log.root() != seal.root) {
            wrong("is for other records: its root is not that of the agent's log here");
            log.frontier = None;
        }
        if seal.time < log.sealed {
            wrong("is older than the one before");
        }
        log.sealed = seal.time.max(log.sealed);
    }

    fn enrol(&mut self, entry: &Entry<'_>, vouch: Vouch<'_>, report: &mut Report<'_>) {
        self.enter(Phase::Enrolments, report);
        let Some(enrolment) = Enrolment::from_entry(entry) else {
            report.add(Flaw::BadEntry, "it is an enrolment that cannot be read".into());
            return;
        };
        let agent = enrolment.agent.clone();
        let Enrolment { key, time, certificate, signature, .. } = &enrolment;
        let text = Enrolment::statement(&self.origin, &agent, *key, *time);
        if !vouch(certificate, text.as_bytes(), signature) {
            let problem = "no operator's signature stands behind it";
            report.add(Flaw::BadEntry, format!("the enrolment of agent {agent}: {problem}"));
        }
        if self.agents.contains_key(&agent) {
            let problem = format!("agent {agent} is enrolled a second time");
            report.add(Flaw::BadEntry, problem);
            return;
        }
        if self.agents.len() >= MAX_AGENTS {
            let problem = format!("agent {agent} is one more than the {MAX_AGENTS} followed here");
            report.add(Flaw::BadEntry, problem);
            return;
        }
        let (key, sealed) = (enrolment.key, UnixSeconds(0));
        let log = AgentLog { key, next: 0, frontier: Some(Frontier::default()), sealed };
        self.agents.insert(agent, log);
    }

    fn equivocation(&mut self, entry: &Entry<'_>, report: &mut Report<'_>) {
        self.unsealed(report);
        self.enter(Phase::Equivocations, report);
        let holds = Equivocation::from_entry(entry).is_some_and(|proof| proof.verify().is_ok());
        if !holds {
            report.add(Flaw::BadEntry, "the contradiction that it shows does not hold".into());
        }
    }

    fn declaration(&mut self, entry: &Entry<'_>, vouch: Vouch<'_>, report: &mut Report<'_>) {
        self.unsealed(report);
        self.enter(Phase::Declarations, report);
        let Some(declaration) = Declaration::from_entry(entry) else {
            report.add(Flaw::BadEntry, "it is a declaration that cannot be read".into());
            return;
        };
        let Declaration { matter, time, certificate, signature } = &declaration;
        let text = Declaration::statement(&self.origin, matter, *time);
        if !vouch(certificate, text.as_bytes(), signature) {
            let problem = "the declaration: no operator's signature stands behind it";
            report.add(Flaw::BadEntry, problem.into());
        }
        let Matter::Prune(prune) = matter else { return };
        if !prune.is_sound() {
            let days = prune.days;
            let problem = format!("it gives entries up that are kept for {days} days only");
            report.add(Flaw::EarlyPrune, problem);
        }
        if prune.from.0 != self.dropped.0 || prune.size().0 > self.first {
            let (from, to) = (prune.from, prune.size());
            report.add(
                Flaw::BadEntry,
                format!("it gives up entries {from} to {to}, which cannot be"),
            );
        }
        self.dropped = prune.size().max(self.dropped);
        self.due = prune.allowed_from().max(self.due);
    }

    fn block(&mut self, entry: &Entry<'_>, index: u64, report: &mut Report<'_>) {
        self.unsealed(report);
        let (first, expected) = (self.first, self.height.saturating_add(1));
        self.first = index.saturating_add(1);
        self.phase = Phase::Enrolments;
        let Some(block) = BlockEntry::decode(entry) else {
            report.add(Flaw::BadEntry, "it is the end of a block that cannot be read".into());
            return;
        };
        let height = block.height.0;
        if height != expected {
            report.add(Flaw::Gap, format!("block {height} follows block {}", self.height));
        }
        if block.first.0 != first {
            let said = block.first;
            let problem = format!("block {height} says that it begins at {said}, not at {first}");
            report.add(Flaw::Gap, problem);
        }
        let due = std::mem::take(&mut self.due);
        if block.time < due {
            let early = (due.0 - block.time.0).div_ceil(86_400_000);
            let problem = format!("block {height} gives entries up {early} days before their time");
            report.add(Flaw::EarlyPrune, problem);
        }
        if block.time < self.time {
            let problem = format!("block {height} is dated before the block before it");
            report.add(Flaw::BadEntry, problem);
        }
        self.height = height;
        self.time = block.time.max(self.time);
    }

    /// An entry of this phase comes: none of an earlier one may follow in the block.
    fn enter(&mut self, phase: Phase, report: &mut Report<'_>) {
        if phase < self.phase {
            report.add(Flaw::BadEntry, "it stands behind what it must stand in front of".into());
        }
        self.phase = self.phase.max(phase);
    }

    /// Whatever comes next, the open batch has no seal.
    fn unsealed(&mut self, report: &mut Report<'_>) {
        let Some(Open { agent, start }) = self.open.take() else { return };
        let problem = format!("the records of agent {agent} from {start} on have no seal");
        report.add(Flaw::BadSeal, problem);
    }
}

struct Report<'a> {
    index: u64,
    found: &'a mut Vec<Finding>,
}

impl Report<'_> {
    fn add(&mut self, flaw: Flaw, problem: String) {
        let index = self.index;
        self.found.push(Finding { flaw, index, problem: format!("entry {index}: {problem}") });
    }
}

#[cfg(test)]
mod tests;
