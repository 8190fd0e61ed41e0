//! What the answers of all nodes amount to. No clock and no network: the same answers give the
//! same overview.

use super::{
    ask::{Answer, Asked},
    row::{CLOCK_ALARM_MS, Row, Scene, name, off_by, seen_state},
    stores, witnesses,
};
use crate::output::shown;
use link::message::{AgentStatus, PeerStatus, RetentionStatus, StoreStatus, WitnessStatus};
use service::members::FaultModel;
use std::collections::{BTreeMap, BTreeSet};

/// The answer in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All nodes vote, and there is nothing to look at.
    Healthy,
    /// The ledger goes on, and somebody should look.
    Degraded,
    /// Too few nodes vote, none takes batches, or no checkpoint satisfies the policy.
    NoQuorum,
    /// Checkpoints contradict each other or the policy.
    Broken,
}

impl Verdict {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Healthy => "healthy",
            Verdict::Degraded => "degraded",
            Verdict::NoQuorum => "no quorum",
            Verdict::Broken => "BROKEN",
        }
    }
}

/// All nodes together.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The ledger; empty if no node answered.
    pub origin: String,
    /// What the nodes are protected against, if it is a model that is known here.
    pub fault_model: Option<FaultModel>,
    /// How many nodes the ledger has.
    pub nodes: usize,
    /// How many must agree; 0 if no node said.
    pub quorum: usize,
    /// Who proposes the next block, as the highest node says.
    pub proposer: Option<String>,
    /// The nodes, sorted by name.
    pub rows: Vec<Row>,
    /// Agents, each where it is furthest and connected if it is so to any node.
    pub agents: Vec<AgentStatus>,
    /// What each node that answered found in its store, by its name.
    pub stores: BTreeMap<String, StoreStatus>,
    /// How long each keeps entries, and what it gave up, by its name.
    pub retention: BTreeMap<String, RetentionStatus>,
    /// Outside witnesses, each where it is furthest.
    pub witnesses: Vec<WitnessStatus>,
    /// What contradicts the policy or another node: evidence.
    pub broken: Vec<String>,
    /// What somebody should look at.
    pub alarms: Vec<String>,
    /// The answer.
    pub verdict: Verdict,
}

impl Overview {
    /// Judges what the nodes said at `now_ms` of our clock, milliseconds since 1970. A checkpoint
    /// older than `max_age` seconds is alarmed on.
    pub fn new(asked: &[Asked], now_ms: u64, max_age: u64) -> Self {
        let answers: Vec<&Answer> = asked.iter().filter_map(|a| a.answer.as_ref().ok()).collect();
        let highest = answers.iter().max_by_key(|answer| answer.status.height);
        let clusters = answers.iter().filter_map(|answer| answer.cluster.as_ref());
        let best = clusters.max_by_key(|cluster| cluster.peers.len());
        let reference = middle(answers.iter().filter_map(|answer| answer.offset_ms).collect());
        let scene = Scene {
            height: highest.map_or(0, |answer| answer.status.height),
            reference,
            now: now_ms.saturating_add_signed(reference) / 1000,
            quorum: best.map_or(0, |cluster| usize::from(cluster.quorum)),
        };
        let proposing = highest.and_then(|answer| answer.cluster.as_ref());
        let mut overview = Overview {
            origin: highest.map(|a| shown(a.origin.as_bytes(), 200)).unwrap_or_default(),
            fault_model: best.and_then(|cluster| cluster.fault_model.parse().ok()),
            nodes: best.map_or(asked.len(), |cluster| cluster.peers.len() + 1),
            quorum: scene.quorum,
            proposer: proposing.map(|cluster| name(&cluster.proposer)),
            rows: asked.iter().map(|asked| scene.row(asked)).collect(),
            agents: agents(&answers),
            stores: answers.iter().map(|a| (name(&a.name), a.store.clone())).collect(),
            retention: answers.iter().map(|a| (name(&a.name), a.retention.clone())).collect(),
            witnesses: witnesses::merged(&answers),
            broken: broken(&answers),
            alarms: Vec::new(),
            verdict: Verdict::Healthy,
        };
        overview.add_seen(&answers, &scene);
        overview.rows.sort_by(|a, b| a.name.cmp(&b.name));
        overview.alarms = overview.alarms_of(asked, &answers, &scene, max_age);
        overview.verdict = overview.judge(&answers);
        overview
    }

    /// Adds the nodes that others know of and that did not answer, as those see them.
    fn add_seen(&mut self, answers: &[&Answer], scene: &Scene) {
        let mut known: BTreeSet<String> = self.rows.iter().map(|row| row.name.clone()).collect();
        let mut seen: Vec<(&PeerStatus, &Answer)> = Vec::new();
        for answer in answers {
            let peers = answer.cluster.iter().flat_map(|cluster| &cluster.peers);
            seen.extend(peers.filter(|peer| known.insert(name(&peer.name))).map(|p| (p, *answer)));
        }
        // An address that gave no answer is the node of that host, if there is only one such.
        let hosts: Vec<String> = self
            .rows
            .iter()
            .filter(|row| row.is_unnamed())
            .map(|row| host(&row.address).to_owned())
            .collect();
        for row in self.rows.iter_mut().filter(|row| row.is_unnamed()) {
            let own = host(&row.address).to_owned();
            if hosts.iter().filter(|host| **host == own).count() != 1 {
                continue;
            }
            let mut of_host = seen.iter().filter(|(peer, _)| host(&peer.address) == own);
            let (Some((peer, by)), None) = (of_host.next().copied(), of_host.next()) else {
                continue;
            };
            let (address, state) = (row.address.clone(), seen_state(peer, by, "no answer"));
            *row = Row { address, state, ..scene.seen(peer, by) };
            seen.retain(|(other, _)| other.name != peer.name);
        }
        // The rest of those addresses are nodes that are known by name, but not which.
        let unnamed = self.rows.iter().filter(|row| row.is_unnamed()).count();
        seen.sort_by_key(|(peer, _)| peer.connected);
        self.rows.extend(seen.into_iter().skip(unnamed).map(|(peer, by)| scene.seen(peer, by)));
    }

    fn alarms_of(
        &self,
        asked: &[Asked],
        answers: &[&Answer],
        scene: &Scene,
        max_age: u64,
    ) -> Vec<String> {
        let unanswered = asked.iter().filter_map(|asked| asked.answer.as_ref().err());
        let mut alarms: Vec<String> =
            unanswered.map(|problem| shown(problem.as_bytes(), 400)).collect();
        for row in &self.rows {
            alarms.extend(row.alarms(max_age).map(|alarm| format!("{}: {alarm}", row.name)));
        }
        for answer in answers {
            let own = answer_alarms(answer, &self.origin, answers);
            alarms.extend(own.into_iter().map(|alarm| format!("{}: {alarm}", name(&answer.name))));
        }
        if scene.reference.unsigned_abs() > CLOCK_ALARM_MS {
            let by = off_by(scene.reference.saturating_neg());
            alarms.push(format!("this machine's clock is {by} the nodes'"));
        }
        alarms
    }

    fn judge(&self, answers: &[&Answer]) -> Verdict {
        let voting = self.voting();
        let quorum = if self.quorum == 0 { self.nodes } else { self.quorum };
        let accepting = answers.iter().any(|answer| answer.status.accepting);
        let distrusted = |answer: &&Answer| matches!(answer.trusted, Some(Err(_)));
        if !self.broken.is_empty() {
            Verdict::Broken
        } else if voting < quorum || !accepting || answers.iter().all(distrusted) {
            Verdict::NoQuorum
        } else if voting < self.nodes || !self.alarms.is_empty() {
            Verdict::Degraded
        } else {
            Verdict::Healthy
        }
    }

    /// How many nodes vote, as far as is known.
    pub fn voting(&self) -> usize {
        self.rows.iter().filter(|row| row.voting).count()
    }
}

/// What one answer says that the table does not.
fn answer_alarms(answer: &Answer, origin: &str, all: &[&Answer]) -> Vec<String> {
    let mut alarms = Vec::new();
    if answer.origin != origin {
        let other = shown(answer.origin.as_bytes(), 200);
        alarms.push(format!("is a node of another ledger, {other}"));
    }
    if !answer.status.accepting {
        alarms.push("REFUSES batches: its disk is full".to_owned());
    }
    alarms.extend(witnesses::problems(answer, false));
    alarms.extend(stores::problem(&answer.store));
    if let Some(Err(distrust)) = &answer.trusted
        && distrust.too_few
    {
        alarms.push(shown(distrust.problem.as_bytes(), 300));
    }
    let Some(cluster) = &answer.cluster else {
        alarms.push("is a ledger of one: its configuration has no [cluster]".to_owned());
        return alarms;
    };
    for peer in &cluster.peers {
        if !peer.connected && all.iter().any(|other| other.name == peer.name) {
            alarms.push(format!("is not connected to {}", name(&peer.name)));
        }
        if peer.slow {
            alarms.push(format!("does not wait for the proposals of {}", name(&peer.name)));
        }
    }
    alarms
}

/// An answer and the root of its checkpoint.
type Rooted<'a> = (&'a Answer, [u8; 32]);

/// Checkpoints that do not hold under the policy, and those that contradict each other.
fn broken(answers: &[&Answer]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut sizes: BTreeMap<(&str, u64), Vec<Rooted>> = BTreeMap::new();
    for answer in answers {
        let contradicted = witnesses::problems(answer, true);
        broken.extend(contradicted.map(|said| format!("{}: {said}", name(&answer.name))));
        match (&answer.trusted, &answer.checkpoint) {
            (Some(Err(distrust)), _) if !distrust.too_few => {
                let problem = shown(distrust.problem.as_bytes(), 300);
                broken.push(format!("{}: CHECKPOINT BROKEN: {problem}", name(&answer.name)));
            }
            (_, Some(checkpoint)) => {
                let place = (checkpoint.origin.as_str(), checkpoint.size.0);
                sizes.entry(place).or_default().push((answer, checkpoint.root.0));
            }
            (_, None) => {
                broken.push(format!("{}: its checkpoint is none", name(&answer.name)));
            }
        }
    }
    for ((_, size), answers) in sizes {
        let Some(((first, root), rest)) = answers.split_first() else { continue };
        for (other, _) in rest.iter().filter(|(_, other)| other != root) {
            broken.push(format!(
                "FORK: {} and {} have two histories: different roots at size {size}. Keep these \
                 two checkpoints, they are evidence:\n{}\n{}",
                name(&first.name),
                name(&other.name),
                note(&first.status.checkpoint),
                note(&other.status.checkpoint),
            ));
        }
    }
    broken
}

/// A checkpoint as a person may safely see it, line by line.
fn note(text: &str) -> String {
    let lines = text.lines().take(64).map(|line| format!("  {}\n", shown(line.as_bytes(), 200)));
    lines.collect()
}

fn agents(answers: &[&Answer]) -> Vec<AgentStatus> {
    let mut agents: BTreeMap<&str, AgentStatus> = BTreeMap::new();
    for agent in answers.iter().flat_map(|answer| &answer.status.agents) {
        let known = agents.entry(&agent.name).or_insert_with(|| agent.clone());
        known.connected |= agent.connected;
        known.records = known.records.max(agent.records);
        known.sealed = known.sealed.max(agent.sealed);
    }
    agents.into_values().collect()
}

fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// The middle of the nodes' clocks: one that is off cannot shift it far.
fn middle(mut offsets: Vec<i64>) -> i64 {
    offsets.sort_unstable();
    let (low, high) = (offsets.len().saturating_sub(1) / 2, offsets.len() / 2);
    match (offsets.get(low), offsets.get(high)) {
        (Some(low), Some(high)) => low / 2 + high / 2 + (low % 2 + high % 2) / 2,
        _ => 0,
    }
}
