//! What operators get to see: log lines, metrics, and the state of the cluster.

use super::{Node, NodeError, REPORT_EVERY};
use link::message::{ClusterStatus, NodeState, PeerStatus};
use record::{FaultModel, block::Height};
use replica::{Event, Members, NodeIndex, Slowness, Standing};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A clock that is further off than this is worth a warning, in milliseconds.
const CLOCK_ALARM_MS: u64 = 1000;

/// How often a node's faults are logged: a node that lies can do so often.
const FAULTS_EVERY: Duration = Duration::from_secs(1);

/// Keeps nodes that lie from filling the log.
#[derive(Default)]
pub(super) struct Faults(BTreeMap<String, (Instant, u64)>);

impl Faults {
    /// How many faults of `peer` were not logged since the last that was, if this one is to be.
    pub(super) fn note(&mut self, peer: &str) -> Option<u64> {
        let now = Instant::now();
        match self.0.get_mut(peer) {
            Some((last, unsaid)) if now.duration_since(*last) < FAULTS_EVERY => {
                *unsaid += 1;
                None
            }
            Some((last, unsaid)) => {
                *last = now;
                Some(std::mem::take(unsaid))
            }
            None => {
                self.0.insert(peer.to_owned(), (now, 0));
                Some(0)
            }
        }
    }
}

impl Node {
    /// Logs and counts what the replica noticed.
    pub(super) fn handle_news(&mut self, event: Event) -> Result<(), NodeError> {
        match event {
            Event::Fault { peer, problem } => {
                let peer = self.name(peer);
                self.metrics.fault(&peer, "message");
                if let Some(since) = self.faults.note(&peer) {
                    tracing::error!(peer, problem, since, "a node did what no honest node does");
                }
            }
            Event::Refused { peer, problem } => {
                let peer = self.name(peer);
                self.metrics.fault(&peer, "proposal");
                if let Some(since) = self.faults.note(&peer) {
                    tracing::error!(peer, problem, since, "a proposal was not voted for");
                }
            }
            Event::Disagreed { peer, word, problem } => {
                let peer = self.name(peer);
                if let Some(since) = self.faults.note(&peer) {
                    tracing::warn!(
                        peer,
                        declaration = word,
                        problem,
                        since,
                        "this node does not agree to what an operator declared"
                    );
                }
            }
            Event::Equivocation(equivocation) => {
                let (kind, culprit) = (equivocation.kind.as_str(), equivocation.culprit.as_str());
                self.metrics.equivocation(kind);
                tracing::error!(
                    kind,
                    culprit,
                    "somebody contradicted itself: both signed statements go into the ledger"
                );
            }
            Event::Diverged { peer, size } => {
                let peer = self.name(peer);
                self.metrics.fault(&peer, "diverged");
                if let Some(since) = self.faults.note(&peer) {
                    tracing::error!(
                        peer,
                        size,
                        since,
                        "a node cosigned another root at this size: one of the two holds another history"
                    );
                }
            }
            Event::Slow { peer, slow } => {
                let peer = self.name(peer);
                if slow {
                    tracing::warn!(
                        peer,
                        "a node let its turn pass: its proposals are not waited for"
                    );
                } else {
                    tracing::info!(peer, "a node proposes again");
                }
            }
            Event::Standing(standing) => self.handle_standing(&standing)?,
        }
        Ok(())
    }

    fn handle_standing(&mut self, standing: &Standing) -> Result<(), NodeError> {
        match standing {
            Standing::Voting => {
                crate::rejoin::clear(&self.options.dir)?;
                tracing::info!("this node votes");
            }
            Standing::Refused { height } => return Err(NodeError::Blank { height: height.0 }),
            Standing::Rejoining { until: Some(until), .. } => tracing::info!(
                until = until.0,
                "this node lost its store: it fetches everything, and votes again when this height is decided"
            ),
            Standing::Blank { .. } | Standing::Rejoining { .. } => {}
        }
        Ok(())
    }

    fn name(&self, peer: NodeIndex) -> String {
        self.replica.members().get(peer).name.to_string()
    }

    pub(super) fn note_tip(&mut self) {
        let state = self.replica.state();
        self.metrics.height.set(state.height.0 as i64);
        self.metrics.size.set(state.tree.size().0 as i64);
        self.metrics.block_bytes.set(self.store.block_bytes() as i64);
        self.view.set_tip(state.height, state.tree.size());
    }

    /// Shows the state of the cluster, now and then.
    pub(super) fn report(&mut self) {
        if self.reported.is_some_and(|at| at.elapsed() < REPORT_EVERY) {
            return;
        }
        self.reported = Some(Instant::now());
        self.note_tip();
        let status = self.cluster();
        for peer in &status.peers {
            self.metrics.peers.note(&peer.name, peer.offset_ms, peer.height);
            let alarm = peer.offset_ms.is_some_and(|ms| ms.unsigned_abs() > CLOCK_ALARM_MS);
            if self.view.set_clock_alarm(&peer.name, alarm) && alarm {
                tracing::error!(
                    peer = peer.name,
                    offset_ms = peer.offset_ms,
                    "the clocks of this node and another differ: check time synchronisation on both"
                );
            }
        }
        self.view.set_cluster(status);
    }

    fn cluster(&self) -> ClusterStatus {
        let (members, own) = (self.replica.members(), self.replica.own());
        let mut heights = Vec::with_capacity(members.count());
        let mut peers = Vec::with_capacity(members.count());
        for (index, member) in members.iter().filter(|(index, _)| *index != own) {
            let view = self.replica.peer(index);
            heights.push(view.height);
            let address = self.options.addresses.get(&member.name).cloned();
            peers.push(PeerStatus {
                name: member.name.to_string(),
                address: address.unwrap_or_default(),
                connected: view.up,
                version: self.versions.get(&member.name).cloned().unwrap_or_default(),
                height: view.height.0,
                size: view.size.0,
                offset_ms: view.offset_ms,
                rtt_us: view.round_trip.map(|time| time.as_micros() as u64),
                signed: view.signed.0,
                slow: view.slowness == Slowness::Distrusted,
                heard: view.heard.map(|time| time.as_millis() as u64),
            });
        }
        let tip = self.replica.state().height;
        let best = believable(heights, members);
        let state = match self.replica.standing() {
            Standing::Rejoining { until, .. } => {
                NodeState::Rejoining { until: until.map_or(0, |height| height.0) }
            }
            Standing::Blank { .. } | Standing::Refused { .. } => NodeState::Waiting,
            Standing::Voting if best.0 > tip.0 + 1 => NodeState::Syncing { to: best.0 },
            Standing::Voting => NodeState::Voting,
        };
        let head = self.replica.published();
        ClusterStatus {
            fault_model: members.fault_model().to_string(),
            quorum: members.quorum() as u16,
            tolerates: members.tolerates() as u16,
            proposer: members.get(self.replica.next_proposer()).name.to_string(),
            state,
            signed: self.replica.peer(own).signed.0,
            checkpoint_size: head.map_or(0, |head| head.size.0),
            checkpoint_time: head.map_or(0, |head| head.time.0),
            clock: service::clock::now().0,
            peers,
        }
    }
}

/// The height that an honest node among these has or exceeds: the greatest that remains when as
/// many as may lie are left out. What one node says of itself must not make others seem to lag.
fn believable(mut heights: Vec<Height>, members: &Members) -> Height {
    let liars = match members.fault_model() {
        FaultModel::Byzantine => members.tolerates(),
        FaultModel::Crash => 0,
    };
    heights.sort_unstable_by(|a, b| b.cmp(a));
    heights.get(liars).copied().unwrap_or_default()
}
