//! From node to node: who is tried next, after which pause, and when the agent gives up.
//!
//! In a round each node is tried once, the nearest healthy one first
//! ([`super::nodes`]), without a pause in between. After a connection that brought
//! receipts another round begins. A node's word alone stops the agent only if no other node that can be reached disagrees:
//! a round over all of them must end without one that takes this agent's log.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::{Duration, Instant},
};

use journal::{Reader, Seq};
use record::{Hash, TreeSize};
use tokio::{sync::watch, time::sleep};

use super::{
    StopReason, UplinkSettings,
    backoff::Backoff,
    cursor::Cursor,
    hello::{Connection, greet},
    judge::{OurLog, judge},
    nodes::Nodes,
    reporter::Reporter,
    session::{Parts, Session},
    trouble::Trouble,
    verify::Verifier,
};
use crate::{
    leaves::LeafHashes,
    metrics::NodeLabel,
    spool::{Backlog, Durable, Inbox},
};

/// How often patience is doubled, at most: with the default that is more than two minutes, in which a
/// slow line carries the largest batch.
const MAX_DOUBLINGS: u32 = 5;

/// How far all batches have verified receipts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Below this record of the spool.
    pub(super) seq: Seq,
    /// The agent's log there.
    pub(super) base: TreeSize,
    /// The root there, where it is known.
    pub(super) root: Option<Hash>,
}

/// Where batches come from, and whom to tell that they are in the ledger.
#[derive(Debug)]
pub struct Feed {
    /// Reads the spool.
    pub reader: Reader,
    /// What is durable.
    pub durable: watch::Receiver<Durable>,
    /// Is told what may be released.
    pub inbox: Arc<Inbox>,
    /// Leaf hashes of batches sealed since the start.
    pub leaves: Arc<LeafHashes>,
    /// What waited when the spool was opened.
    pub backlog: Backlog,
}

/// Hands the spool's batches to the ledger.
pub struct Uplink {
    settings: Arc<UplinkSettings>,
    durable: watch::Receiver<Durable>,
    reader: Reader,
    inbox: Arc<Inbox>,
    verifier: Verifier,
    progress: Cell<Progress>,
    nodes: RefCell<Nodes>,
}

impl Uplink {
    /// Begins with the spool's backlog.
    pub fn new(settings: Arc<UplinkSettings>, feed: Feed) -> Self {
        let Feed { reader, durable, inbox, leaves, backlog } = feed;
        let verifier = Verifier::new(Arc::clone(&settings), reader.clone(), leaves);
        let (seq, base, root) = (backlog.from, backlog.base, backlog.root);
        let progress = Cell::new(Progress { seq, base, root });
        let nodes = RefCell::new(Nodes::new(settings.nodes.len()));
        Uplink { settings, durable, reader, inbox, verifier, progress, nodes }
    }

    /// Works until the agent must stop. To stop it otherwise, drop the future: whatever is under
    /// way is offered again at the next start.
    pub async fn run(self) -> StopReason {
        let mut rounds = Rounds::new(&self.settings);
        loop {
            while let Some(index) = self.next(&rounds) {
                let before = self.progress.get().seq;
                let (accepted, trouble) = self.attempt(index, &rounds).await;
                let receipted = self.progress.get().seq > before;
                let then = self.learn(index, receipted, &trouble);
                rounds.note(index, trouble, accepted);
                if receipted {
                    rounds.backoff.reset();
                    rounds.slow = 0;
                }
                match then {
                    Then::Next => {}
                    Then::Again => rounds.begin(),
                    Then::Pause => break,
                }
            }
            if let Some(reason) = rounds.end().await {
                return reason;
            }
        }
    }

    fn next(&self, rounds: &Rounds) -> Option<usize> {
        self.nodes.borrow().next(&rounds.tried, Instant::now())
    }

    /// Remembers how a node did, and says how to go on.
    fn learn(&self, index: usize, receipted: bool, trouble: &Trouble) -> Then {
        let (nodes, now) = (&mut *self.nodes.borrow_mut(), Instant::now());
        if receipted {
            nodes.receipted(index);
        }
        if matches!(trouble, Trouble::Nearer) {
            return Then::Again;
        }
        nodes.failed(index, trouble.is_lie(), now);
        match receipted && !matches!(trouble, Trouble::Stop(_)) {
            true if nodes.any_healthy(now) => Then::Again,
            true => Then::Pause,
            false => Then::Next,
        }
    }

    /// One connection to one node, to its end; whether the node took our log, and what ended it.
    async fn attempt(&self, index: usize, rounds: &Rounds) -> (bool, Trouble) {
        let (settings, node, reporter) =
            (&*self.settings, &self.settings.nodes[index], &rounds.reporter);
        let connection = match self.greet(index).await {
            Ok(connection) => connection,
            Err(trouble) => return (false, trouble),
        };
        let Progress { seq, base, root } = self.progress.get();
        let end = self.durable.borrow().size;
        let log = OurLog { base, root, end };
        let state = match judge(&connection.welcome, &settings.ours(Some(log))) {
            Ok(state) => state,
            Err(trouble) => return (false, trouble),
        };
        reporter.connected(node, &connection.welcome.node, state.next);
        let label = NodeLabel { node: node.to_string() };
        settings.metrics.uplink_connections.get_or_create(&label).inc();
        let connected = settings.metrics.uplink_connected.get_or_create_owned(&label);
        connected.set(1);
        let cursor = Cursor::new(self.reader.clone(), seq, state, settings.spool.clone());
        let session = Session::new(Parts {
            settings,
            node,
            reporter,
            verifier: &self.verifier,
            inbox: &self.inbox,
            progress: &self.progress,
            cursor,
            patience: rounds.patience(),
        });
        let trouble = session.run(connection, self.durable.clone(), self.find_nearer(index)).await;
        connected.set(0);
        (!matches!(trouble, Trouble::Stop(_)), trouble)
    }

    /// Greets a node, and remembers how long that took.
    async fn greet(&self, index: usize) -> Result<Connection, Trouble> {
        let began = Instant::now();
        let connection = greet(&self.settings, &self.settings.nodes[index]).await?;
        self.nodes.borrow_mut().greeted(index, began.elapsed());
        Ok(connection)
    }

    /// Returns when a healthy node is known to be clearly nearer than this one; looks now and then.
    async fn find_nearer(&self, current: usize) {
        loop {
            sleep(self.settings.timing.look).await;
            let others = self.nodes.borrow().others(current, Instant::now());
            for other in others {
                if let Err(trouble) = self.greet(other).await {
                    let node = &self.settings.nodes[other];
                    tracing::debug!(%node, problem = %trouble, "a node that might be nearer");
                    self.nodes.borrow_mut().failed(other, false, Instant::now());
                }
            }
            if self.nodes.borrow().has_nearer(current, Instant::now()) {
                return;
            }
        }
    }
}

/// Asks the ledger whether this agent's log may begin at 0: its spool is empty. Waits for the
/// enrolment, and for a node that can be reached.
///
/// # Errors
/// When the ledger holds records of this agent, or another key of it.
pub async fn establish(settings: &UplinkSettings) -> Result<(), StopReason> {
    let mut rounds = Rounds::new(settings);
    loop {
        for (index, node) in settings.nodes.iter().enumerate() {
            let greeted = greet(settings, node).await;
            let judged = greeted.and_then(|c| judge(&c.welcome, &settings.ours(None)));
            match judged {
                Ok(_) => {
                    tracing::info!(%node, "the ledger knows this agent and holds no record of it: its log begins");
                    return Ok(());
                }
                Err(trouble) => rounds.note(index, trouble, false),
            }
        }
        if let Some(reason) = rounds.end().await {
            return Err(reason);
        }
    }
}

/// How to go on after a connection.
enum Then {
    /// With the next node of this round.
    Next,
    /// With another round at once: batches were taken, and there is a node that did nothing wrong.
    Again,
    /// With another round after a pause: batches were taken, so the node that took them is worth
    /// more than those that are left.
    Pause,
}

/// What was learned in a round over all nodes.
struct Rounds {
    reporter: Reporter,
    backoff: Backoff,
    settings: UplinkSettings,
    /// The nodes that were tried, by their place in the configuration.
    tried: Vec<bool>,
    stop: Option<StopReason>,
    accepted: bool,
    pause: Duration,
    was_slow: bool,
    /// Rounds in which nodes were slow, since the last receipt.
    slow: u32,
}

impl Rounds {
    fn new(settings: &UplinkSettings) -> Self {
        let timing = &settings.timing;
        Rounds {
            reporter: Reporter::new(
                timing.remind,
                settings.metrics.clone(),
                settings.board.clone(),
            ),
            backoff: Backoff::new(timing.pause_min, timing.pause_max),
            settings: settings.clone(),
            tried: vec![false; settings.nodes.len()],
            stop: None,
            accepted: false,
            pause: Duration::ZERO,
            was_slow: false,
            slow: 0,
        }
    }

    /// How long to wait for a receipt before another node is tried. Each round in which all were slow
    /// doubles it: a ledger that stands still, or a line that is slow, is not helped by haste.
    fn patience(&self) -> Option<Duration> {
        let alone = self.settings.nodes.len() < 2;
        (!alone).then(|| self.settings.timing.patience * (1 << self.slow.min(MAX_DOUBLINGS)))
    }

    fn note(&mut self, index: usize, trouble: Trouble, accepted: bool) {
        let node = &self.settings.nodes[index];
        self.tried[index] = true;
        self.accepted |= accepted;
        if matches!(trouble, Trouble::Nearer) {
            tracing::info!(%node, "leaving this node for one that is nearer");
            return;
        }
        self.reporter.trouble(node, &trouble);
        self.pause = self.pause.max(trouble.pause(&self.settings.timing));
        self.was_slow |= matches!(trouble, Trouble::Slow(_));
        if let Trouble::Stop(reason) = trouble {
            self.stop.get_or_insert(reason);
        }
    }

    /// Ends a round: a reason to stop, or a pause and another round.
    async fn end(&mut self) -> Option<StopReason> {
        let stop = self.stop.take();
        // What cannot be read here cannot be handed to anybody.
        if stop.is_some() && (!self.accepted || matches!(stop, Some(StopReason::Spool(_)))) {
            return stop;
        }
        let floor = self.pause;
        self.slow += u32::from(self.was_slow);
        self.begin();
        sleep(self.backoff.pause().max(self.backoff.jittered(floor))).await;
        None
    }

    /// Forgets what was learned in the last round.
    fn begin(&mut self) {
        self.tried.fill(false);
        (self.stop, self.accepted, self.was_slow) = (None, false, false);
        self.pause = Duration::ZERO;
    }
}
