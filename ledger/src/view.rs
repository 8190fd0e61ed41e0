//! What every part of a node may look at while the node works.

use crate::scrub::Scrubbed;
use arc_swap::{ArcSwap, ArcSwapOption};
use link::message::{AgentStatus, ClusterStatus, StoreStatus, WitnessesStatus};
use record::{
    AgentName, Checkpoint, NodeName, TreeSize, batch::LogState, block::Height, note::SignedNote,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The newest state that a quorum stands behind.
#[derive(Debug)]
pub struct Head {
    /// The height of the block behind it.
    pub height: Height,
    /// Entries of the ledger then.
    pub size: TreeSize,
    /// Its checkpoint, signed and cosigned; `None` until a quorum has been heard.
    pub checkpoint: Option<SignedNote>,
}

/// Why a node serves no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// No quorum has been heard since the start.
    NoQuorum,
    /// Too few outside witnesses have ever cosigned one.
    NotWitnessed,
}

/// A node's public side.
#[derive(Debug)]
pub struct View {
    /// The node's name.
    pub name: NodeName,
    head: ArcSwap<Head>,
    tip: ArcSwap<(Height, TreeSize)>,
    cluster: ArcSwapOption<ClusterStatus>,
    /// What is known of outside witnesses, if any are asked.
    witnesses: ArcSwapOption<WitnessesStatus>,
    /// The newest checkpoint that enough of them cosigned.
    witnessed: ArcSwapOption<SignedNote>,
    accepting: AtomicBool,
    scrubbed: ArcSwap<Scrubbed>,
    mended: Mutex<BTreeMap<&'static str, u64>>,
    agents: Mutex<BTreeMap<AgentName, LogState>>,
    connected: Mutex<BTreeSet<AgentName>>,
    /// Nodes whose clocks differ too much from this one's.
    clock_alarms: Mutex<BTreeSet<String>>,
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
            tip: ArcSwap::from_pointee((head.height, head.size)),
            head: ArcSwap::from_pointee(head),
            cluster: ArcSwapOption::empty(),
            witnesses: ArcSwapOption::empty(),
            witnessed: ArcSwapOption::empty(),
            clock_alarms: Mutex::default(),
            scrubbed: ArcSwap::default(),
            mended: Mutex::default(),
            accepting: AtomicBool::new(true),
            agents: Mutex::new(agents),
            connected: Mutex::default(),
        }
    }

    /// The newest durable block, and the entries up to it.
    pub fn tip(&self) -> (Height, TreeSize) {
        **self.tip.load()
    }

    /// How the nodes are together, as far as this one knows.
    pub fn cluster(&self) -> Option<Arc<ClusterStatus>> {
        self.cluster.load_full()
    }

    /// The newest state that a quorum stands behind.
    pub fn head(&self) -> Arc<Head> {
        self.head.load_full()
    }

    /// What the last look at the whole store found.
    pub fn scrubbed(&self) -> Arc<Scrubbed> {
        self.scrubbed.load_full()
    }

    /// How the store is, as far as the scrub knows.
    pub fn store(&self) -> StoreStatus {
        let scrubbed = self.scrubbed();
        let listed = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect()
        };
        StoreStatus {
            scrubbed: scrubbed.time,
            blocks: scrubbed.blocks,
            faults: listed(&scrubbed.faults),
            first_fault: scrubbed.first.clone().unwrap_or_default(),
            mended: listed(&lock(&self.mended)),
        }
    }

    pub(crate) fn note_mended(&self, kind: &'static str, count: u64) {
        *lock(&self.mended).entry(kind).or_default() += count;
    }

    pub(crate) fn set_scrubbed(&self, scrubbed: Scrubbed) {
        self.scrubbed.store(Arc::new(scrubbed));
    }

    /// The checkpoint to serve: the newest one, or where outside witnesses are asked the newest
    /// that enough of them cosigned.
    ///
    /// # Errors
    /// There is none.
    pub fn served(&self) -> Result<SignedNote, Unserved> {
        if self.witnesses.load().is_none() {
            return self.head().checkpoint.clone().ok_or(Unserved::NoQuorum);
        }
        let witnessed = self.witnessed.load_full().ok_or(Unserved::NotWitnessed)?;
        Ok((*witnessed).clone())
    }

    /// Entries under the newest checkpoint that enough outside witnesses cosigned.
    pub(crate) fn witnessed_size(&self) -> Option<u64> {
        let note = self.witnessed.load_full()?;
        Checkpoint::parse(note.text()).ok().map(|checkpoint| checkpoint.size.0)
    }

    /// What outside witnesses say; `None` if none is asked.
    pub fn witnesses(&self) -> Option<Arc<WitnessesStatus>> {
        self.witnesses.load_full()
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

    pub(crate) fn set_tip(&self, height: Height, size: TreeSize) {
        self.tip.store(Arc::new((height, size)));
    }

    pub(crate) fn set_cluster(&self, status: ClusterStatus) {
        self.cluster.store(Some(Arc::new(status)));
    }

    pub(crate) fn set_witnesses(&self, status: WitnessesStatus) {
        self.witnesses.store(Some(Arc::new(status)));
    }

    pub(crate) fn set_witnessed(&self, note: SignedNote) {
        self.witnessed.store(Some(Arc::new(note)));
    }

    /// Notes whether a node's clock is off; true if that is news.
    pub(crate) fn set_clock_alarm(&self, node: &str, alarm: bool) -> bool {
        let mut alarms = lock(&self.clock_alarms);
        if alarm { alarms.insert(node.to_owned()) } else { alarms.remove(node) }
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
