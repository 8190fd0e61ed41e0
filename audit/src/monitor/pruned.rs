//! Nodes that gave old entries up: beginning behind those, with what a node says was kept of them.
//!
//! A base is one node's word. Its hashes must lead to the checkpoint, operators must have signed its enrolments, and it
//! must fit what was read before. All else in it is believed once the declaration is read that names it; until then
//! nothing that is read behind it becomes what this monitor knows.

use super::{
    Monitor, Word,
    alarm::as_evidence,
    proof::{Relation, relation},
    read::{Reading, Verdict},
};
use crate::{declare::operator_signed, output::Failure, tiles::TilesError};
use hyper::body::Bytes;
use record::{
    Hash, Origin, TreeSize,
    enrolment::Enrolment,
    entry::Entry,
    follow::{Follower, Standing, StandingLog},
    note::SignedNote,
};
use replica::Base;
use std::time::Instant;

/// A base that no declaration was read for yet.
#[derive(Clone, Debug)]
pub(super) struct Awaited {
    /// What the declaration must name.
    pub(super) digest: Hash,
    /// So many entries were given up.
    pub(super) size: TreeSize,
    encoded: Bytes,
}

/// What a checkpoint says: its size and root.
type Head = (TreeSize, Hash);

impl Monitor {
    /// A node does not serve entry `at`: it gave it up, or there is a gap.
    pub(super) async fn not_there(
        &mut self,
        node: usize,
        note: &SignedNote,
        at: u64,
    ) -> Result<Verdict, Failure> {
        let tls = &self.tls;
        let first = self.nodes[node].with(tls, async |tiles| tiles.first_entry().await).await;
        match first {
            Ok(first) if at < first => return Ok(Verdict::Pruned),
            Ok(_) => {}
            Err(error) => return self.not_read(node, &error).await.map(|()| Verdict::Wrong),
        }
        let problem = format!(
            "it does not serve entry {at}, which its checkpoint was signed for, and does not say that it was given up"
        );
        let evidence = [("checkpoint", as_evidence(note))];
        self.raise(Word::Gap, Some(node), problem, &evidence).await?;
        Ok(Verdict::Wrong)
    }

    /// What a node's base says, to be read on from. `None` if it cannot be used.
    pub(super) async fn begin_behind(
        &mut self,
        node: usize,
        note: &SignedNote,
        head: Head,
    ) -> Result<Option<Reading>, Failure> {
        let at = self.history.follower.size().0;
        let tls = &self.tls;
        let encoded = match self.nodes[node].with(tls, async |tiles| tiles.base().await).await {
            Ok(encoded) => encoded,
            Err(TilesError::NotFound(_)) => {
                let problem =
                    format!("it gave up entry {at}, and has no base that says what stayed");
                return self.unusable(node, note, Word::Gap, problem, None).await;
            }
            Err(error) => return self.not_read(node, &error).await.map(|()| None),
        };
        let bad = Word::BadEntry;
        let base = match Base::decode(&encoded) {
            Ok(base) => base,
            Err(error) => {
                return self.unusable(node, note, bad, error.to_string(), Some(encoded)).await;
            }
        };
        let size = base.header.size;
        if size.0 <= at {
            let problem = format!("it does not serve entry {at}, and its base ends at {size}");
            return self.unusable(node, note, Word::Gap, problem, Some(encoded)).await;
        }
        if size > head.0 {
            let early = "it gave up more than its checkpoint is over yet".to_owned();
            return self.not_read(node, &TilesError::Away(early)).await.map(|()| None);
        }
        let tls = &self.tls;
        let stood = (size, base.header.root);
        match relation(&mut self.nodes[node], tls, head.0, stood, head).await {
            Ok(Relation::Extends) => {}
            Ok(_) => {
                let problem =
                    "its base is not of the ledger that its checkpoint was signed for".to_owned();
                return self.unusable(node, note, bad, problem, Some(encoded)).await;
            }
            Err(error) => return self.not_read(node, &error).await.map(|()| None),
        }
        match behind(&base, &self.history.follower) {
            Ok(follower) => {
                let digest = Base::digest_of(&encoded);
                Ok(Some(Reading::behind(follower, Awaited { digest, size, encoded })))
            }
            Err(problem) => self.unusable(node, note, bad, problem, Some(encoded)).await,
        }
    }

    /// A node gave up what is behind its base, too: it is at it just now, and its next base will say so.
    pub(super) async fn is_pruning(&mut self, node: usize) -> Result<(), Failure> {
        let problem = "it gives up more entries than its base says";
        self.not_read(node, &TilesError::Away(problem.to_owned())).await
    }

    async fn unusable(
        &mut self,
        node: usize,
        note: &SignedNote,
        word: Word,
        problem: String,
        base: Option<Bytes>,
    ) -> Result<Option<Reading>, Failure> {
        let mut evidence = vec![("checkpoint", as_evidence(note))];
        evidence.extend(base.map(|base| ("base", base.to_vec())));
        self.raise(word, Some(node), problem, &evidence).await?;
        Ok(None)
    }

    /// All that a node's checkpoint is over was read, and nothing declared its base. A checkpoint that witnesses have
    /// still to cosign may be over that, so it is an alarm only if it stays so.
    pub(super) async fn undeclared(
        &mut self,
        node: usize,
        note: &SignedNote,
        awaited: &Awaited,
    ) -> Result<(), Failure> {
        let since = *self.nodes[node].undeclared.get_or_insert_with(Instant::now);
        if since.elapsed() < self.settings.patience {
            return Ok(());
        }
        let (size, digest) = (awaited.size, awaited.digest);
        let problem = format!(
            "it gave up the first {size} entries, and no operator's declaration in the ledger names what it says was kept of \
             them (base {digest})"
        );
        let evidence = [("checkpoint", as_evidence(note)), ("base", awaited.encoded.to_vec())];
        self.raise(Word::UndeclaredPrune, Some(node), problem, &evidence).await
    }

    /// True if something was given up whose declaration was not found yet, and no alarm was raised for it.
    pub(super) fn awaits_declaration(&self) -> bool {
        self.nodes.iter().any(|node| {
            let told = || self.standing.contains(&(Word::UndeclaredPrune, node.address.clone()));
            node.undeclared.is_some() && !told()
        })
    }
}

/// Right behind a base, which must fit what was read before.
fn behind(base: &Base, before: &Follower) -> Result<Follower, String> {
    let origin = before.origin();
    if let Some(index) = unsigned(base, origin) {
        return Err(format!("its base has an enrolment in entry {index} that no operator signed"));
    }
    let state = base.state().map_err(|error| error.to_string())?;
    let agents = state.agents.iter().map(|(agent, log)| {
        let (key, frontier, sealed) = (log.key, log.frontier.clone(), log.sealed);
        (agent.clone(), StandingLog { key, frontier, sealed })
    });
    let standing = Standing {
        origin: origin.clone(),
        frontier: base.frontier.clone(),
        height: base.header.height,
        time: base.header.time,
        dropped: state.dropped(),
        agents: agents.collect(),
    };
    let follower = Follower::behind(standing).ok_or("its base has too many agents")?;
    match follower.contradicts(before) {
        Some(problem) => Err(format!("its base is not what was read before: {problem}")),
        None => Ok(follower),
    }
}

/// The first enrolment in a base that no operator signed.
fn unsigned(base: &Base, origin: &Origin) -> Option<u64> {
    let mut kept = base.kept.iter();
    let bad = kept.find(|(_, bytes)| {
        let enrolment = Entry::parse(bytes).ok().and_then(|entry| Enrolment::from_entry(&entry));
        enrolment.is_some_and(|Enrolment { agent, key, time, certificate, signature, .. }| {
            let text = Enrolment::statement(origin, &agent, key, time);
            !operator_signed(&certificate, text.as_bytes(), &signature)
        })
    });
    bad.map(|(index, _)| index.0)
}
