//! The transport between the nodes of a ledger.
//!
//! ```text
//! node ──Outlets::send──► outbox (a peer, a lane) ──► dial: two connections a peer ──mTLS──► peer
//! node ◄──Inlets─────────────────────────────────────  accept ◄──────────────────────mTLS──  peer
//! ```
//!
//! What the node may rely on:
//!
//! - **A frame's sender is who it says.** Both ends show a certificate in the role `node`; a node we
//!   dial must have the name that the members file gives it there, one that dials us must be in
//!   that file, and both must have the same origin and members.
//! - **Frames of one lane arrive in the order they were sent, whole, or not at all.** What is lost
//!   with a connection is not sent again: [`Event::Down`] tells of it.
//! - **Sending never waits.** A full outbox, or a peer that is not there, refuses the frame.
//! - **Nobody holds up anybody else.** A peer whose frames are not taken fast enough is read no
//!   further; the others are. Control frames never wait behind bulk ones.
//! - **Everything is bounded**: frames, outboxes, what a peer has in the inlets, handshakes under
//!   way, and the time that anything may take.
//!
//! Certificates are judged at each handshake. Connections are replaced by new ones every ten
//! minutes without losing a frame, and none is kept longer than fifteen, so that is the longest
//! that a revoked certificate may go on.

mod accept;
mod dial;
mod error;
mod outbox;
mod report;
mod wire;

use crate::metrics::Metrics;
use bytes::Bytes;
use link::tls::{ReloadingClient, ReloadingServer};
use outbox::Outbox;
use record::{Hash, NodeName, Origin};
use report::Report;
use service::signals::Shutdown;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, mpsc},
};

pub use link::peer::Lane;

/// Another node of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name, which its certificate must have.
    pub name: NodeName,
    /// Where it listens for nodes, HOST:PORT; the host is looked up at each attempt, and its
    /// certificate must be for it.
    pub address: String,
}

/// What the transport needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's name.
    pub own: NodeName,
    /// The ledger.
    pub origin: Origin,
    /// The digest of who the members are; the same on all nodes.
    pub membership: Hash,
    /// This program's version.
    pub version: String,
    /// The other nodes.
    pub peers: Vec<Peer>,
    /// How long things may take.
    pub timings: Timings,
}

/// How long things may take. The defaults are those of a network of up to a few hundred milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// A handshake, the greeting included; likewise the end of a connection that is replaced.
    pub handshake: Duration,
    /// How often each end of a connection shows that it lives.
    pub beat: Duration,
    /// A control connection on which nothing came for so long is dead.
    pub silence: Duration,
    /// A bulk connection on which no frame came for so long is dead: its largest frame may take a
    /// while.
    pub bulk_silence: Duration,
    /// The first pause before dialling again; it doubles up to `pause_max`, less up to a half by
    /// chance.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// When the dialler replaces its connections, more or less a tenth.
    pub renew: Duration,
    /// When the accepting end closes a connection that was not replaced.
    pub oldest: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Timings {
            handshake: Duration::from_secs(3),
            beat: Duration::from_millis(500),
            silence: Duration::from_secs(3),
            bulk_silence: Duration::from_secs(60),
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_secs(1),
            renew: Duration::from_secs(600),
            oldest: Duration::from_secs(900),
        }
    }
}

impl Timings {
    fn silence_on(&self, lane: Lane) -> Duration {
        match lane {
            Lane::Control => self.silence,
            Lane::Bulk => self.bulk_silence,
        }
    }
}

/// What became of a peer. For each peer they alternate, beginning with `Up`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Both lanes lead to it: frames are taken for it.
    Up {
        /// The peer.
        peer: NodeName,
        /// Its program's version.
        version: String,
    },
    /// It cannot be reached any more. Any frame sent since `Up` may be lost.
    Down {
        /// The peer.
        peer: NodeName,
    },
}

/// A frame that a peer sent.
#[derive(Debug)]
pub struct Incoming {
    /// The peer, as its certificate names it.
    pub from: NodeName,
    /// The frame; neither empty nor longer than its lane allows, and otherwise unchecked.
    pub frame: Vec<u8>,
    /// What it takes of its sender's share of the inlet, given back when this is dropped.
    _share: Option<OwnedSemaphorePermit>,
}

impl Incoming {
    /// A frame that came by another way than the network.
    pub fn new(from: NodeName, frame: Vec<u8>) -> Self {
        Incoming { from, frame, _share: None }
    }
}

/// Where frames and news go to. A peer has at most 512 frames and 2 MiB in `control`, 64 and 24 MiB in
/// `bulk`; a channel with less room than that for all peers serves them in turn.
#[derive(Clone, Debug)]
pub struct Inlets {
    /// Frames of [`Lane::Control`].
    pub control: mpsc::Sender<Incoming>,
    /// Frames of [`Lane::Bulk`].
    pub bulk: mpsc::Sender<Incoming>,
    /// Peers that come and go.
    pub events: mpsc::Sender<Event>,
}

impl Inlets {
    fn of(&self, lane: Lane) -> &mpsc::Sender<Incoming> {
        match lane {
            Lane::Control => &self.control,
            Lane::Bulk => &self.bulk,
        }
    }
}

/// Where the node puts frames for its peers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outlets {
    peers: Arc<HashMap<NodeName, Arc<Outbox>>>,
    metrics: Metrics,
}

impl Outlets {
    /// Puts a frame behind those that wait for this peer and lane. Never blocks. False if there is
    /// no room, the peer is not connected or none of ours: then the frame is dropped and counted.
    ///
    /// # Panics
    /// When the frame is empty, or longer than the lane allows.
    pub fn send(&self, to: &NodeName, lane: Lane, frame: Bytes) -> bool {
        let fits = !frame.is_empty() && frame.len() <= lane.max_frame();
        assert!(fits, "a frame of {} bytes is none for {lane}", frame.len());
        let taken = self.peers.get(to).is_some_and(|outbox| outbox.put(lane, frame));
        if !taken {
            self.metrics.peers.dropped(to, lane);
        }
        taken
    }
}

/// What all tasks share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    client: Arc<ReloadingClient>,
    server: Arc<ReloadingServer>,
    inlets: Inlets,
    metrics: Metrics,
    report: Report,
}

/// Starts dialling and accepting. Everything ends with `shutdown`; nothing is said of it.
pub fn start(
    settings: Settings,
    client: Arc<ReloadingClient>,
    server: Arc<ReloadingServer>,
    listener: TcpListener,
    inlets: Inlets,
    metrics: Metrics,
    shutdown: &Shutdown,
) -> Outlets {
    let report = Report::default();
    let outlets_metrics = metrics.clone();
    let shared = Arc::new(Shared { settings, client, server, inlets, metrics, report });
    let mut peers = HashMap::new();
    for peer in shared.settings.peers.iter().filter(|peer| peer.name != shared.settings.own) {
        let outbox = Arc::new(Outbox::default());
        peers.insert(peer.name.clone(), Arc::clone(&outbox));
        tokio::spawn(dial::run(Arc::clone(&shared), peer.clone(), outbox, shutdown.clone()));
    }
    tokio::spawn(accept::run(shared, listener, shutdown.clone()));
    Outlets { peers: Arc::new(peers), metrics: outlets_metrics }
}
