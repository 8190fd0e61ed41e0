//! What is known of the other nodes: where they stand, how far their clocks are off, whether their
//! proposals are waited for.

use super::{Event, Replica};
use crate::{
    engine::{Signed, Timer},
    members::NodeIndex,
    message::{Message, Status},
    now::{Now, Ticks},
};
use bytes::Bytes;
use record::{TreeSize, UnixMillis, UnixSeconds, block::Height};
use std::{collections::VecDeque, time::Duration};

/// A clock sample is replaced by any newer one after this long, by a better one at any time.
const SAMPLE_AGE: Duration = Duration::from_secs(10);

/// A node that is further behind than this is not waited for; one that has just decided the newest
/// block has not always said so yet.
const LAG: u64 = 2;

/// Whether a node's proposals are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slowness {
    /// They are.
    Prompt,
    /// It cannot be reached.
    Unreachable,
    /// It does not vote, because it lost what it voted before.
    Abstaining,
    /// It is behind, and cannot propose before it has caught up.
    Lagging,
    /// It let its turn pass, or lied, not long ago.
    Distrusted,
}

/// How a node looks from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// True while both connections to it are there.
    pub up: bool,
    /// Its newest block.
    pub height: Height,
    /// Entries of its ledger.
    pub size: TreeSize,
    /// Its clock minus ours, in milliseconds.
    pub offset_ms: Option<i64>,
    /// How long a message to it and back takes.
    pub round_trip: Option<Duration>,
    /// The time of its newest cosignature.
    pub signed: UnixSeconds,
    /// Whether its proposals are waited for.
    pub slowness: Slowness,
    /// How long ago it was heard last.
    pub heard: Option<Duration>,
}

/// A node as this one knows it.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) up: bool,
    pub(super) height: Height,
    size: TreeSize,
    pub(super) abstains_until: Height,
    /// Until when it is not waited for.
    distrusted: Option<Ticks>,
    pub(super) heard: Option<Ticks>,
    /// Its newest clock, and when that came.
    echo: Option<(UnixMillis, Ticks)>,
    sample: Option<Sample>,
    pub(super) signed: UnixSeconds,
    /// Messages for the height after the next block.
    pub(super) early: VecDeque<(Height, Signed, Option<Bytes>)>,
}

#[derive(Clone, Copy)]
struct Sample {
    offset_ms: i64,
    round_trip: u64,
    at: Ticks,
}

impl Peer {
    fn slowness(&self, now: Ticks, tip: Height) -> Slowness {
        if !self.up {
            Slowness::Unreachable
        } else if self.abstains_until > self.height {
            Slowness::Abstaining
        } else if self.height.0.saturating_add(LAG) < tip.0 {
            Slowness::Lagging
        } else if self.distrusted.is_some_and(|until| now < until) {
            Slowness::Distrusted
        } else {
            Slowness::Prompt
        }
    }

    pub(super) fn view(&self, now: Now, tip: Height) -> PeerView {
        PeerView {
            up: self.up,
            height: self.height,
            size: self.size,
            offset_ms: self.sample.map(|sample| sample.offset_ms),
            round_trip: self.sample.map(|sample| Duration::from_millis(sample.round_trip)),
            signed: self.signed,
            slowness: self.slowness(now.ticks, tip),
            heard: self.heard.map(|heard| now.ticks.since(heard)),
        }
    }
}

impl Replica {
    fn peer_mut(&mut self, index: NodeIndex) -> &mut Peer {
        &mut self.peers[usize::from(index.0)]
    }

    pub(super) fn is_slow(&self, index: NodeIndex) -> bool {
        let tip = self.state.height;
        self.peers[usize::from(index.0)].slowness(self.now.ticks, tip) != Slowness::Prompt
    }

    /// Tells a node that has just connected what it may have missed.
    pub(super) fn greet(&mut self, peer: NodeIndex) {
        let status = self.status_for(peer);
        self.send(Some(peer), Message::Status(status));
        if let Some(cosigned) = self.newest_cosigned() {
            self.send(Some(peer), Message::Cosigned(cosigned));
        }
        self.remind(Some(peer), true);
        self.sync_log();
        for message in self.said.clone() {
            self.send(Some(peer), message);
        }
    }

    fn status_for(&self, peer: NodeIndex) -> Status {
        let echo = self.peers[usize::from(peer.0)].echo;
        Status {
            height: self.state.height,
            size: self.state.tree.size(),
            abstains_until: self.abstains_until(),
            clock: self.now.wall,
            echo: echo.map_or(UnixMillis(0), |(clock, _)| clock),
            held: echo.map_or(0, |(_, at)| self.now.ticks.since(at).as_millis() as u64),
        }
    }

    /// Tells all nodes where this one stands.
    pub(super) fn tell_status(&mut self) {
        for peer in self.others() {
            let status = self.status_for(peer);
            self.send(Some(peer), Message::Status(status));
        }
        if let Some(cosigned) = self.newest_cosigned() {
            self.send(None, Message::Cosigned(cosigned));
        }
        self.remind(None, false);
    }

    pub(super) fn handle_status(&mut self, from: NodeIndex, status: &Status) {
        let now = self.now;
        let peer = self.peer_mut(from);
        peer.size = status.size;
        peer.abstains_until = status.abstains_until;
        peer.echo = Some((status.clock, now.ticks));
        if status.echo.0 > 0 {
            peer.take_sample(now, status);
        }
        self.note_height(from, status.height);
        self.heard_height(from, status.height, status.abstains_until > status.height);
    }

    /// A node has said, or shown, that it has this block.
    pub(super) fn note_height(&mut self, from: NodeIndex, height: Height) {
        let peer = self.peer_mut(from);
        peer.height = peer.height.max(height);
    }

    /// This node proposed what can be voted for: it is waited for again. One that only sends
    /// something, at once or late, would cost the whole patience each time it is its turn.
    pub(super) fn note_proposal(&mut self, signer: NodeIndex) {
        if self.peer_mut(signer).distrusted.take().is_some() {
            self.event(Event::Slow { peer: signer, slow: false });
        }
    }

    /// A proposal was waited for in vain.
    pub(super) fn note_timeout(&mut self, timer: Timer, round: u32) {
        let proposer = self.proposer(self.engine.height(), round);
        let height = self.engine.height();
        let current = self.running.is_some_and(|running| running.0 == height)
            && self.engine.round() == Some(round);
        if timer == Timer::Propose && current && proposer != self.own && !self.is_slow(proposer) {
            self.distrust(proposer);
            self.event(Event::Slow { peer: proposer, slow: true });
        }
    }

    /// Does not wait for this node for a while.
    pub(super) fn distrust(&mut self, index: NodeIndex) {
        let until = self.after(self.timing.distrust);
        self.peer_mut(index).distrusted = Some(until);
    }

    /// Stops waiting for the proposal of a node that was just lost.
    pub(super) fn hurry(&mut self, lost: NodeIndex) {
        let Some(round) = self.engine.round() else { return };
        if self.running.is_some() && self.proposer(self.engine.height(), round) == lost {
            let soon = self.after(self.timing.propose_slow);
            if let Some(at) = self.timers.get_mut(&(Timer::Propose, round)) {
                *at = (*at).min(soon);
            }
        }
    }
}

impl Peer {
    /// Our clock went out with an earlier status, came back with this one: RFC 5905, section 8.
    fn take_sample(&mut self, now: Now, status: &Status) {
        let elapsed = now.wall.0.checked_sub(status.echo.0);
        let Some(round_trip) = elapsed.and_then(|elapsed| elapsed.checked_sub(status.held)) else {
            return;
        };
        let middle = status.echo.0 as i64 + (round_trip / 2) as i64;
        // What it says may be anything.
        let theirs = (status.clock.0 as i64).saturating_sub(status.held as i64);
        let sample = Sample { offset_ms: theirs.saturating_sub(middle), round_trip, at: now.ticks };
        let keep = self
            .sample
            .is_some_and(|old| old.round_trip < round_trip && now.ticks.since(old.at) < SAMPLE_AGE);
        if !keep {
            self.sample = Some(sample);
        }
    }
}
