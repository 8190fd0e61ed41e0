//! Reading entries: in steps, each believed once its hashes lead to the checkpoint.

use super::{
    Monitor, Word,
    alarm::{Found, as_evidence},
    proof::{Relation, relation},
    pruned::Awaited,
};
use crate::{declare::operator_signed, output::Failure, tiles::TilesError};
use record::{
    Checkpoint, Hash, TreeSize,
    follow::{Follower, declares},
    note::SignedNote,
};
use std::time::Duration;
use tokio::time::timeout;

/// Entries between two times that the state is written, on a long way.
const STEP: u64 = 1 << 16;
/// How long a node may take for them: one that dawdles must not blind us to the others.
const LIMIT: Duration = Duration::from_secs(120);
/// The most findings of a step, or of all steps behind a base, that are told one by one.
const MAX_FINDINGS: usize = 100;

/// What a look at a node's checkpoint comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds, and all it is over was read.
    Right,
    /// It does not, or not now; that was told.
    Wrong,
    /// The node gave up what would be read next.
    Pruned,
}

impl From<bool> for Verdict {
    fn from(right: bool) -> Self {
        if right { Verdict::Right } else { Verdict::Wrong }
    }
}

/// How far a node's entries were read.
#[derive(Clone)]
pub(super) struct Reading {
    follower: Follower,
    /// What all of it stands on, and was not declared yet.
    awaited: Option<Awaited>,
    /// What is wrong with what was read since.
    findings: Vec<Found>,
    /// Findings that were left out.
    more: u64,
}

impl Reading {
    /// Behind a base, which is to be declared.
    pub(super) fn behind(follower: Follower, awaited: Awaited) -> Self {
        Reading { follower, awaited: Some(awaited), findings: Vec::new(), more: 0 }
    }
}

impl Monitor {
    /// Reads up to a node's checkpoint, which is known to extend what was read. Where the node gave up what comes
    /// next, `begin` says whether to begin behind that.
    pub(super) async fn read_to(
        &mut self,
        node: usize,
        note: &SignedNote,
        begin: bool,
    ) -> Result<Verdict, Failure> {
        let Ok(Checkpoint { size, root, .. }) = Checkpoint::parse(note.text()) else {
            return Ok(Verdict::Wrong);
        };
        let (mut reading, mut begun) = (self.place(node), false);
        while reading.follower.size() < size {
            match self.read_on(node, note, (size, root), &mut reading).await? {
                Verdict::Right => {}
                Verdict::Pruned if begin && !begun => {
                    begun = true;
                    match self.begin_behind(node, note, (size, root)).await? {
                        Some(behind) => reading = behind,
                        None => return Ok(Verdict::Wrong),
                    }
                }
                Verdict::Wrong => {
                    // What was read holds; the next pass goes on there.
                    self.nodes[node].behind = reading.awaited.is_some().then(|| Box::new(reading));
                    return Ok(Verdict::Wrong);
                }
                Verdict::Pruned => return Ok(Verdict::Pruned),
            }
        }
        let Some(awaited) = reading.awaited.clone() else { return Ok(Verdict::Right) };
        self.nodes[node].behind = Some(Box::new(reading));
        self.undeclared(node, note, &awaited).await?;
        Ok(Verdict::Wrong)
    }

    /// Where to read on at a node: behind a base of it that still awaits its declaration, or where all stands.
    fn place(&mut self, node: usize) -> Reading {
        let known = &self.history.follower;
        let behind = self.nodes[node].behind.take();
        let follower = known.clone();
        match behind.filter(|behind| behind.follower.size() > known.size()) {
            Some(behind) => *behind,
            None => Reading { follower, awaited: None, findings: Vec::new(), more: 0 },
        }
    }

    /// Reads a step on. What it stands on being declared, it is what is known from then on.
    async fn read_on(
        &mut self,
        node: usize,
        note: &SignedNote,
        (size, root): (TreeSize, Hash),
        reading: &mut Reading,
    ) -> Result<Verdict, Failure> {
        let from = reading.follower.size().0;
        let to = TreeSize(size.0.min((from / STEP + 1) * STEP));
        let step = match timeout(LIMIT, self.step(node, size, to, reading)).await {
            Ok(Ok(step)) => step,
            Ok(Err(Stopped { at, error: TilesError::NotFound(_) })) => {
                return self.not_there(node, note, at).await;
            }
            Ok(Err(Stopped { error, .. })) => {
                return self.not_read(node, &error).await.map(|()| Verdict::Wrong);
            }
            Err(_) => {
                let slow = TilesError::Away(format!("it gives its entries too slowly: {LIMIT:?}"));
                return self.not_read(node, &slow).await.map(|()| Verdict::Wrong);
            }
        };
        let leads = match self.leads_to(node, &step.follower, (size, root)).await {
            Ok(leads) => leads,
            Err(error) => return self.not_read(node, &error).await.map(|()| Verdict::Wrong),
        };
        if !leads {
            let problem = format!(
                "the entries that it serves from {from} on are not those that its checkpoint of \
                 {size} was signed for"
            );
            let evidence = [("checkpoint", as_evidence(note))];
            self.raise(Word::BadEntry, Some(node), problem, &evidence).await?;
            return Ok(Verdict::Wrong);
        }
        let declared = step.declared;
        reading.take(step);
        if let Some(index) = declared
            && let Some(awaited) = reading.awaited.take()
        {
            let unread = self.history.follower.size().0..awaited.size.0;
            self.teller.unread(unread, index);
        }
        if reading.awaited.is_none() {
            self.go_on_from(node, note, size, reading).await?;
        }
        Ok(Verdict::Right)
    }

    /// What was read is what is known from now on.
    async fn go_on_from(
        &mut self,
        node: usize,
        note: &SignedNote,
        size: TreeSize,
        reading: &mut Reading,
    ) -> Result<(), Failure> {
        let findings = std::mem::take(&mut reading.findings);
        self.tell_findings(node, note, findings, std::mem::take(&mut reading.more)).await?;
        self.history.follower = reading.follower.clone();
        for node in 0..self.nodes.len() {
            (self.nodes[node].behind, self.nodes[node].undeclared) = (None, None);
            self.clear(Word::UndeclaredPrune, Some(node));
        }
        if reading.follower.size() == size {
            self.history.keep(note);
        }
        self.folder.save(&self.history)?;
        self.teller.progress(&self.history, size);
        Ok(())
    }

    /// Reads up to `to` of the node's `size` entries.
    async fn step(
        &mut self,
        node: usize,
        size: TreeSize,
        to: TreeSize,
        reading: &Reading,
    ) -> Result<Step, Stopped> {
        let mut step = Step {
            follower: reading.follower.clone(),
            awaited: reading.awaited.as_ref().map(|awaited| awaited.digest),
            declared: None,
            room: MAX_FINDINGS.saturating_sub(reading.findings.len()),
            findings: Vec::new(),
            more: 0,
        };
        while step.follower.size() < to {
            let at = step.follower.size().0;
            let entries = self.nodes[node]
                .with(&self.tls, async |tiles| tiles.entries_from(at, size.0).await)
                .await
                .map_err(|error| Stopped { at, error })?;
            entries.iter().take((to.0 - at) as usize).for_each(|entry| step.push(entry));
        }
        Ok(step)
    }

    /// True if what was read is the beginning of the checkpoint's tree.
    async fn leads_to(
        &mut self,
        node: usize,
        read: &Follower,
        checkpoint: (TreeSize, Hash),
    ) -> Result<bool, TilesError> {
        let here = (read.size(), read.root());
        if here.0 == checkpoint.0 {
            return Ok(here.1 == checkpoint.1);
        }
        let node = &mut self.nodes[node];
        let found = relation(node, &self.tls, checkpoint.0, here, checkpoint).await?;
        Ok(found == Relation::Extends)
    }
}

/// Entries that were read and are not believed yet.
struct Step {
    follower: Follower,
    /// The digest that a declaration must name.
    awaited: Option<Hash>,
    /// The entry that does.
    declared: Option<u64>,
    /// So many findings are kept.
    room: usize,
    findings: Vec<Found>,
    /// Findings that were left out.
    more: u64,
}

/// Why a step was not read: what was asked for, and what became of that.
struct Stopped {
    at: u64,
    error: TilesError,
}

impl Reading {
    /// A step was found right.
    fn take(&mut self, step: Step) {
        self.follower = step.follower;
        self.findings.extend(step.findings);
        self.more += step.more;
    }
}

impl Step {
    fn push(&mut self, entry: &[u8]) {
        let mut found = Vec::new();
        let (index, dropped) = (self.follower.size().0, self.follower.dropped());
        self.follower.push(entry, &operator_signed, &mut found);
        if let Some(base) = self.awaited.filter(|_| self.follower.dropped() != dropped)
            && declares(entry, self.follower.origin(), base, &operator_signed)
        {
            self.declared = Some(index);
        }
        let room = self.room.saturating_sub(self.findings.len());
        self.more += found.len().saturating_sub(room) as u64;
        let found = found.into_iter().take(room);
        self.findings.extend(found.map(|finding| Found { finding, entry: entry.to_vec() }));
    }
}
