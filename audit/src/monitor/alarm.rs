//! What can be wrong, and what is kept of it.

use super::Monitor;
use crate::output::Failure;
use record::{
    follow::{Finding, Flaw},
    note::SignedNote,
};
use std::{collections::BTreeSet, path::PathBuf};

/// What is wrong. The words are for programs and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// Two histories: two roots at one size, or a tree that does not extend an earlier one.
    Fork,
    /// A node, or all of them, show less than was shown before.
    Rollback,
    /// Nobody has cosigned for long.
    Stale,
    /// A block or a record is missing.
    Gap,
    /// Records without a seal, or a seal that does not hold.
    BadSeal,
    /// An entry that cannot be, or that the checkpoint was not signed for.
    BadEntry,
    /// A node shows checkpoints, and does not give what they are over.
    Withheld,
    /// Entries were given up before their time.
    EarlyPrune,
    /// Entries were given up, and no declaration names what was kept of them.
    UndeclaredPrune,
    /// A checkpoint that does not satisfy the policy.
    BadCheckpoint,
    /// A node that does not answer. It is told, and is no alarm.
    Unreachable,
}

impl Word {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Word::Fork => "fork",
            Word::Rollback => "rollback",
            Word::Stale => "stale",
            Word::Gap => Flaw::Gap.as_str(),
            Word::BadSeal => Flaw::BadSeal.as_str(),
            Word::BadEntry => Flaw::BadEntry.as_str(),
            Word::EarlyPrune => Flaw::EarlyPrune.as_str(),
            Word::UndeclaredPrune => "undeclared-prune",
            Word::Withheld => "withheld",
            Word::BadCheckpoint => "bad-checkpoint",
            Word::Unreachable => "unreachable",
        }
    }

    fn of(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Gap => Word::Gap,
            Flaw::BadSeal => Word::BadSeal,
            Flaw::BadEntry => Word::BadEntry,
            Flaw::EarlyPrune => Word::EarlyPrune,
        }
    }
}

/// Something is wrong.
#[derive(Clone, Debug)]
pub struct Alarm {
    /// What kind of thing.
    pub word: Word,
    /// The node it was seen at; empty if it is not about one.
    pub node: String,
    /// What, for people.
    pub problem: String,
    /// Where the signed checkpoints that prove it are.
    pub evidence: Option<PathBuf>,
}

/// Something that is wrong with an entry.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) finding: Finding,
    /// The entry as the node served it.
    pub(super) entry: Vec<u8>,
}

impl Monitor {
    /// Raises an alarm that stands until it is cleared: it is told once.
    pub(super) async fn raise(
        &mut self,
        word: Word,
        node: Option<usize>,
        problem: String,
        evidence: &[(&str, Vec<u8>)],
    ) -> Result<(), Failure> {
        let node = node.map(|index| self.nodes[index].address.clone()).unwrap_or_default();
        if self.standing.insert((word, node.clone())) {
            self.tell(word, node, problem, evidence).await?;
        }
        Ok(())
    }

    /// Something that was told is not so any more.
    pub(super) fn clear(&mut self, word: Word, node: Option<usize>) {
        let node = node.map(|index| self.nodes[index].address.clone()).unwrap_or_default();
        if self.standing.remove(&(word, node.clone())) {
            self.teller.cleared(word, &node);
        }
    }

    /// Tells what is wrong with entries that lead to the checkpoint `note`; `more` findings were left
    /// out. The first of each kind is kept, with what the nodes signed it by.
    pub(super) async fn tell_findings(
        &mut self,
        node: usize,
        note: &SignedNote,
        findings: Vec<Found>,
        more: u64,
    ) -> Result<(), Failure> {
        let node = self.nodes[node].address.clone();
        let mut kept = BTreeSet::new();
        for Found { finding, entry } in findings {
            let word = Word::of(finding.flaw);
            let evidence = [("checkpoint", as_evidence(note)), ("entry", entry)];
            let evidence = if kept.insert(word) { &evidence[..] } else { &[] };
            self.tell(word, node.clone(), finding.problem, evidence).await?;
        }
        if more > 0 {
            let problem = format!("{more} more such findings in these entries are not told");
            self.tell(Word::BadEntry, node, problem, &[]).await?;
        }
        Ok(())
    }

    async fn tell(
        &mut self,
        word: Word,
        node: String,
        problem: String,
        evidence: &[(&str, Vec<u8>)],
    ) -> Result<(), Failure> {
        let kept = match evidence {
            [] => None,
            some => self.folder.keep_evidence(word, &node, &problem, some)?,
        };
        if word != Word::Unreachable {
            self.alarms += 1;
        }
        self.teller.alarm(&Alarm { word, node, problem, evidence: kept }).await;
        Ok(())
    }
}

/// A note as evidence.
pub(super) fn as_evidence(note: &SignedNote) -> Vec<u8> {
    note.to_string().into_bytes()
}
