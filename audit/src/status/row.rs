//! A line of the table: one node, as it says itself or as others see it.

use super::ask::{Answer, Asked};
use crate::output::shown;
use link::message::{ClusterStatus, NodeState, PeerStatus};

/// A clock that is off by more is alarmed on, milliseconds.
pub(super) const CLOCK_ALARM_MS: u64 = 2000;
/// Less free space is alarmed on, bytes; a node refuses batches only below its own, lower bound.
const DISK_ALARM: u64 = 1 << 30;
/// The longest name shown.
const MAX_NAME: usize = 63;

/// A node that answered, or what is known of one that did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its name, or its address if that is not known.
    pub name: String,
    /// Where it was asked; empty if it was not.
    pub address: String,
    /// What it is doing, for people.
    pub state: String,
    /// True if it takes part in decisions, as far as is known.
    pub voting: bool,
    /// The height of its newest block.
    pub height: Option<u64>,
    /// Its number of entries.
    pub size: Option<u64>,
    /// Blocks behind the highest node.
    pub lag: Option<u64>,
    /// How many of how many other nodes are connected to it.
    pub peers: Option<(usize, usize)>,
    /// Its clock against the middle of all nodes' clocks, milliseconds.
    pub offset_ms: Option<i64>,
    /// Bytes free for its store.
    pub disk_free: Option<u64>,
    /// Seconds since its newest cosignature.
    pub cosigned_ago: Option<u64>,
    /// Seconds since a quorum cosigned its newest checkpoint.
    pub checkpoint_age: Option<u64>,
    /// Its version.
    pub version: String,
    /// Its checkpoint, text.
    pub checkpoint: String,
}

/// What every row is compared with.
pub(super) struct Scene {
    /// The greatest height of all answers.
    pub(super) height: u64,
    /// The middle of the nodes' clocks minus ours, milliseconds.
    pub(super) reference: i64,
    /// The time by the middle of the nodes' clocks, seconds since 1970.
    pub(super) now: u64,
    /// How many must agree; 0 if unknown.
    pub(super) quorum: usize,
}

impl Scene {
    /// The row of a node that was asked.
    pub(super) fn row(&self, asked: &Asked) -> Row {
        let Ok(answer) = &asked.answer else {
            let (name, address) = (asked.address.clone(), asked.address.clone());
            return Row { name, address, state: "no answer".into(), ..Row::default() };
        };
        let (status, cluster) = (&answer.status, answer.cluster.as_ref());
        let connected = |cluster: &ClusterStatus| {
            let connected = cluster.peers.iter().filter(|peer| peer.connected).count();
            (connected, cluster.peers.len())
        };
        Row {
            name: name(&answer.name),
            address: asked.address.clone(),
            state: state(cluster),
            voting: cluster.is_some_and(|cluster| cluster.state == NodeState::Voting),
            height: Some(status.height),
            size: Some(status.size),
            lag: Some(self.height.saturating_sub(status.height)),
            peers: cluster.map(connected),
            offset_ms: answer.offset_ms.map(|offset| offset.saturating_sub(self.reference)),
            disk_free: Some(status.disk_free),
            cosigned_ago: cluster.and_then(|cluster| self.ago(cluster.signed)),
            checkpoint_age: self.checkpoint_time(answer).and_then(|time| self.ago(time)),
            version: shown(status.version.as_bytes(), 32),
            checkpoint: status.checkpoint.clone(),
        }
    }

    /// When a quorum had cosigned the node's checkpoint: as verified, else as it says.
    fn checkpoint_time(&self, answer: &Answer) -> Option<u64> {
        match (&answer.trusted, &answer.cluster) {
            (Some(Ok(times)), _) => times.get(self.quorum.saturating_sub(1)).copied(),
            (_, Some(cluster)) => Some(cluster.checkpoint_time),
            _ => None,
        }
    }

    /// The row of a node that was not asked, as `by` sees it.
    pub(super) fn seen(&self, peer: &PeerStatus, by: &Answer) -> Row {
        let clock = by.offset_ms.and_then(|own| own.checked_add(peer.offset_ms?));
        let known = |number: u64| peer.connected.then_some(number);
        Row {
            name: name(&peer.name),
            state: seen_state(peer, by, "not asked"),
            voting: peer.connected,
            height: known(peer.height),
            size: known(peer.size),
            lag: known(self.height.saturating_sub(peer.height)),
            offset_ms: clock.map(|offset| offset.saturating_sub(self.reference)),
            cosigned_ago: self.ago(peer.signed),
            version: shown(peer.version.as_bytes(), 32),
            ..Row::default()
        }
    }

    /// Seconds since `time`; `None` if it is 0, which stands for never.
    fn ago(&self, time: u64) -> Option<u64> {
        (time > 0).then(|| self.now.saturating_sub(time))
    }
}

impl Row {
    /// True if nobody answered at the address, and it is not known whose it is.
    pub(super) fn is_unnamed(&self) -> bool {
        self.name == self.address
    }

    /// What somebody should look at in this row.
    pub(super) fn alarms(&self, max_age: u64) -> impl Iterator<Item = String> {
        let off = self.offset_ms.filter(|offset| offset.unsigned_abs() > CLOCK_ALARM_MS);
        let clock = off.map(|offset| {
            let by = off_by(offset);
            format!("its clock is {by} the nodes': is it synchronised?")
        });
        let old = self.checkpoint_age.filter(|age| *age > max_age);
        let age = old.map(|age| format!("its checkpoint is {age} s old: no quorum cosigned since"));
        let low = self.disk_free.filter(|free| *free < DISK_ALARM);
        let disk = low.map(|free| format!("only {} MiB are free on its disk", free >> 20));
        let asked = self.peers.is_some() || self.address.is_empty();
        let state = (asked && !self.voting).then(|| format!("does not vote: {}", self.state));
        [clock, age, disk, state].into_iter().flatten()
    }
}

/// How a node that did not tell itself looks to one that did.
pub(super) fn seen_state(peer: &PeerStatus, by: &Answer, first: &str) -> String {
    let state = if peer.connected { "connected to" } else { "NOT connected to" };
    format!("{first}; {state} {}", name(&by.name))
}

fn state(cluster: Option<&ClusterStatus>) -> String {
    match cluster.map(|cluster| cluster.state) {
        None => "a ledger of one".to_owned(),
        Some(NodeState::Voting) => "voting".to_owned(),
        Some(NodeState::Syncing { to }) => format!("syncing to {to}"),
        Some(NodeState::Rejoining { until }) => format!("rejoining above {until}"),
        Some(NodeState::Waiting) => "waiting for peers".to_owned(),
    }
}

/// `2.4 s ahead of`, `0.3 s behind`.
pub(super) fn off_by(offset_ms: i64) -> String {
    let direction = if offset_ms > 0 { "ahead of" } else { "behind" };
    format!("{:.1} s {direction}", offset_ms.unsigned_abs() as f64 / 1000.0)
}

/// A node's name as a person may safely see it.
pub(super) fn name(text: &str) -> String {
    shown(text.as_bytes(), MAX_NAME)
}
