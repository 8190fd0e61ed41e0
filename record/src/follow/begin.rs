//! Beginning behind entries that were given up, with what their ledger's base says of them.
//!
//! A base is one node's word until the declaration is read that names it: see [`declares`]. Whoever follows a
//! ledger from there on believes nothing before that.

use super::{AgentLog, Follower, MAX_AGENTS, Phase, Vouch};
use crate::{
    AgentName, Hash, Origin, TreeSize, UnixMillis, UnixSeconds,
    block::Height,
    crypto::PublicKey,
    declaration::{Declaration, Matter},
    entry::{Entry, Kind},
    merkle::Frontier,
};
use std::collections::BTreeMap;

/// Where a ledger stood right behind the last block that it gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The ledger.
    pub origin: Origin,
    /// Its frontier.
    pub frontier: Frontier,
    /// The height of that block.
    pub height: Height,
    /// Its time.
    pub time: UnixMillis,
    /// How many entries had been given up by then, from the first one on.
    pub dropped: TreeSize,
    /// The agents that were enrolled.
    pub agents: BTreeMap<AgentName, StandingLog>,
}

/// Where an agent's log stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingLog {
    /// The key that was enrolled.
    pub key: PublicKey,
    /// The log.
    pub frontier: Frontier,
    /// The time of its newest seal.
    pub sealed: UnixSeconds,
}

impl Follower {
    /// Right behind the entries that were given up; `None` if there are more than [`MAX_AGENTS`] agents.
    pub fn behind(standing: Standing) -> Option<Self> {
        let Standing { origin, frontier, height, time, dropped, agents } = standing;
        if agents.len() > MAX_AGENTS {
            return None;
        }
        let log = |StandingLog { key, frontier, sealed }| {
            let next = frontier.size().0;
            AgentLog { key, next, frontier: Some(frontier), sealed }
        };
        Some(Follower {
            origin,
            first: frontier.size().0,
            tree: frontier,
            height: height.0,
            time,
            phase: Phase::Enrolments,
            open: None,
            agents: agents.into_iter().map(|(agent, at)| (agent, log(at))).collect(),
            dropped,
            due: UnixMillis(0),
        })
    }

    /// What cannot be if this ledger was read up to `earlier` before: an agent that is gone, has another key, or fewer
    /// records.
    pub fn contradicts(&self, earlier: &Follower) -> Option<String> {
        earlier.agents.iter().find_map(|(agent, before)| {
            let Some(now) = self.agents.get(agent) else {
                return Some(format!("agent {agent} was enrolled, and is not any more"));
            };
            if now.key != before.key {
                return Some(format!("agent {agent} was enrolled with another key"));
            }
            let (had, has) = (before.next, now.next);
            (has < had).then(|| format!("agent {agent} had {had} records, and has {has}"))
        })
    }
}

/// True if an entry gives up old entries of a ledger in favour of the base with this digest, and an operator signed it.
pub fn declares(entry: &[u8], origin: &Origin, base: Hash, vouch: Vouch<'_>) -> bool {
    let parsed = Entry::parse(entry).ok().filter(|entry| entry.kind() == Kind::Prune);
    let Some(Declaration { matter, time, certificate, signature }) =
        parsed.and_then(|entry| Declaration::from_entry(&entry))
    else {
        return false;
    };
    let names = matches!(&matter, Matter::Prune(prune) if prune.base == base);
    let text = Declaration::statement(origin, &matter, time);
    names && vouch(&certificate, text.as_bytes(), &signature)
}
