//! How many may be connected, and how many may be on their way in.
//!
//! What it guarantees: who has not shown who it is takes nothing from those who have. So many
//! handshakes are under way at a time, and the longest of them makes room for the next arrival,
//! so that strangers who say nothing cannot keep a sender out. However many connect, descriptors
//! are left for files, the spool and the ledger.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    task::AbortHandle,
};

use super::listener::Gate;

/// How many handshakes of a listener may be under way at a time.
pub const HANDSHAKES: usize = 256;

/// Descriptors that connections leave for everything else; at most half of all.
const RESERVE: u64 = 2048;

/// No more descriptors are asked for, and none beyond it are used.
const MOST_DESCRIPTORS: u64 = 65_536;

/// What connections of all listeners may take of the process's descriptors.
static DESCRIPTORS: LazyLock<Semaphore> = LazyLock::new(|| {
    let limit = raise_limit();
    Semaphore::new(usize::try_from(limit - RESERVE.min(limit / 2)).unwrap_or(0))
});

/// Raises the soft limit to the hard one, and answers with what there is.
fn raise_limit() -> u64 {
    let has = getrlimit(Resource::Nofile);
    let wanted = has.maximum.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    let current = has.current.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    let raised = Rlimit { current: Some(wanted), maximum: has.maximum };
    if current < wanted && setrlimit(Resource::Nofile, raised).is_ok() { wanted } else { current }
}

/// A listener's entrance. One task lets everybody in.
pub(super) struct Entrance {
    gate: Arc<Gate>,
    places: Arc<Semaphore>,
    most: usize,
    /// How many descriptors a connection takes.
    descriptors: u32,
    /// Those whose handshakes may be under way, the longest first.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    address: SocketAddr,
    task: AbortHandle,
    settled: Arc<AtomicBool>,
}

impl Entrance {
    /// For so many connections at a time, each of which takes so many descriptors.
    pub(super) fn new(gate: Arc<Gate>, most: usize, descriptors: u32) -> Self {
        let places = Arc::new(Semaphore::new(most));
        Entrance { gate, places, most, descriptors, waiting: VecDeque::new() }
    }

    /// Lets somebody begin; nothing if there is no place or no descriptor, which is reported.
    pub(super) fn arrive(&mut self, address: SocketAddr) -> Option<Arrival> {
        if self.places.available_permits() == 0 {
            full(&self.gate, address, self.most);
            return None;
        }
        self.make_room();
        let Ok(descriptors) = DESCRIPTORS.try_acquire_many(self.descriptors) else {
            let problem = "the process has no more descriptors for connections: raise LimitNOFILE";
            self.gate.refuse(address, "descriptors", &problem);
            return None;
        };
        Some(Arrival {
            address,
            gate: Arc::clone(&self.gate),
            places: Arc::clone(&self.places),
            most: self.most,
            settled: Arc::default(),
            descriptors,
        })
    }

    /// Names the task in which the last arrival's handshake happens.
    pub(super) fn wait_for(&mut self, address: SocketAddr, settled: Settled, task: AbortHandle) {
        self.waiting.push_back(Waiting { address, task, settled: settled.0 });
    }

    /// Cuts off the longest handshake if there are too many.
    fn make_room(&mut self) {
        if self.waiting.len() >= HANDSHAKES {
            let under_way = |one: &Waiting| !one.settled.load(Relaxed) && !one.task.is_finished();
            self.waiting.retain(under_way);
        }
        while self.waiting.len() >= HANDSHAKES {
            let Some(longest) = self.waiting.pop_front() else { return };
            if !longest.settled.swap(true, Relaxed) {
                longest.task.abort();
                let problem = format_args!(
                    "{HANDSHAKES} others came in while its handshake was under way: it was cut off"
                );
                self.gate.refuse(longest.address, "handshakes", &problem);
            }
        }
    }
}

/// Tells whether a handshake is over.
pub(super) struct Settled(Arc<AtomicBool>);

/// A connection that has not shown who it is.
pub(super) struct Arrival {
    address: SocketAddr,
    gate: Arc<Gate>,
    places: Arc<Semaphore>,
    most: usize,
    settled: Arc<AtomicBool>,
    descriptors: SemaphorePermit<'static>,
}

impl Arrival {
    /// Where it comes from.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn settled(&self) -> Settled {
        Settled(Arc::clone(&self.settled))
    }

    /// The handshake is over, and it may come in: its place. Nothing if there is none left, which
    /// is reported, or if it was cut off in this moment.
    pub(super) fn come_in(self) -> Option<Place> {
        if self.settled.swap(true, Relaxed) {
            return None;
        }
        let Ok(place) = self.places.try_acquire_owned() else {
            full(&self.gate, self.address, self.most);
            return None;
        };
        Some(Place { place, descriptors: self.descriptors })
    }
}

/// What a connection occupies for as long as it lasts.
pub(super) struct Place {
    /// One of the listener's places.
    pub(super) place: OwnedSemaphorePermit,
    /// Its part of the process's descriptors.
    pub(super) descriptors: SemaphorePermit<'static>,
}

fn full(gate: &Gate, address: SocketAddr, most: usize) {
    let problem = format_args!("{most} senders are connected already (max_connections)");
    gate.refuse(address, "too-many", &problem);
}
