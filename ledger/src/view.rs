//! What every part of a node may look at while the node works.

use arc_swap::ArcSwap;
use link::message::AgentStatus;
use record::{AgentName, NodeName, batch::LogState, block::Height, note::SignedNote};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The newest durable state that was signed.
#[derive(Debug)]
pub struct Head {
    /// The height of the newest block.
    pub height: Height,
    /// Its checkpoint, signed and cosigned.
    pub checkpoint: SignedNote,
}

/// A node's public side.
#[derive(Debug)]
pub struct View {
    /// The node's name.
    pub name: NodeName,
    head: ArcSwap<Head>,
    accepting: AtomicBool,
    agents: Mutex<BTreeMap<AgentName, LogState>>,
    connected: Mutex<BTreeSet<AgentName>>,
}

/// Says that an agent is connected, as long as it lives.
#[derive(Debug)]
pub struct Presence {
    view: Arc<View>,
    agent: AgentName,
}

impl Drop for Presence {
    fn drop(&mut self) {
        lock(&self.view.connected).remove(&self.agent);
    }
}

impl View {
    /// The view of a node that starts at `head`.
    pub fn new(name: NodeName, head: Head, agents: BTreeMap<AgentName, LogState>) -> Self {
        View {
            name,
            head: ArcSwap::from_pointee(head),
            accepting: AtomicBool::new(true),
            agents: Mutex::new(agents),
            connected: Mutex::default(),
        }
    }

    /// The newest signed state.
    pub fn head(&self) -> Arc<Head> {
        self.head.load_full()
    }

    /// True while the node takes batches.
    pub fn accepting(&self) -> bool {
        self.accepting.load(Ordering::Relaxed)
    }

    /// Where the log of `agent` stands; `None` if it is not enrolled.
    pub fn log_of(&self, agent: &AgentName) -> Option<LogState> {
        lock(&self.agents).get(agent).cloned()
    }

    /// All agents, for a status report.
    pub fn agents(&self) -> Vec<AgentStatus> {
        let connected = lock(&self.connected).clone();
        let status = |(name, log): (&AgentName, &LogState)| AgentStatus {
            name: name.to_string(),
            records: log.frontier.size().0,
            sealed: log.sealed.0,
            connected: connected.contains(name),
        };
        lock(&self.agents).iter().map(status).collect()
    }

    /// How many agents are connected.
    pub fn connected(&self) -> usize {
        lock(&self.connected).len()
    }

    /// Marks `agent` as connected; `None` if another connection speaks for it already.
    pub fn enter(self: &Arc<Self>, agent: &AgentName) -> Option<Presence> {
        let new = lock(&self.connected).insert(agent.clone());
        new.then(|| Presence { view: Arc::clone(self), agent: agent.clone() })
    }

    pub(crate) fn set_head(&self, head: Head) {
        self.head.store(Arc::new(head));
    }

    pub(crate) fn set_accepting(&self, accepting: bool) -> bool {
        self.accepting.swap(accepting, Ordering::Relaxed) != accepting
    }

    pub(crate) fn set_logs(&self, changed: impl IntoIterator<Item = (AgentName, LogState)>) {
        lock(&self.agents).extend(changed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
