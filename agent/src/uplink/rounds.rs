//! From node to node: who is tried next, after which pause, and when the agent gives up.
//!
//! The nodes are tried in the order in which they are configured. A node's word
//! alone stops the agent only if no other node that can be reached disagrees:
//! a round over all of them must end without one that takes this agent's log.

use std::{cell::Cell, sync::Arc, time::Duration};

use journal::{Reader, Seq};
use record::{Hash, TreeSize};
use tokio::{sync::watch, time::sleep};

use super::{
    StopReason, UplinkSettings,
    backoff::Backoff,
    cursor::Cursor,
    hello::greet,
    judge::{OurLog, judge},
    reporter::Reporter,
    session::{Parts, Session},
    trouble::Trouble,
    verify::Verifier,
};
use crate::{
    config::NodeAddress,
    leaves::LeafHashes,
    metrics::NodeLabel,
    spool::{Backlog, Durable, Inbox},
};

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
}

impl Uplink {
    /// Begins with the spool's backlog.
    pub fn new(settings: Arc<UplinkSettings>, feed: Feed) -> Self {
        let Feed { reader, durable, inbox, leaves, backlog } = feed;
        let verifier = Verifier::new(Arc::clone(&settings), reader.clone(), leaves);
        let (seq, base, root) = (backlog.from, backlog.base, backlog.root);
        let progress = Cell::new(Progress { seq, base, root });
        Uplink { settings, durable, reader, inbox, verifier, progress }
    }

    /// Works until the agent must stop. To stop it otherwise, drop the future: whatever is under
    /// way is offered again at the next start.
    pub async fn run(self) -> StopReason {
        let mut rounds = Rounds::new(&self.settings);
        loop {
            for node in &self.settings.nodes {
                let before = self.progress.get().seq;
                let (accepted, trouble) = self.attempt(node, &rounds.reporter).await;
                rounds.note(node, trouble, accepted);
                if self.progress.get().seq > before {
                    rounds.backoff.reset();
                }
            }
            if let Some(reason) = rounds.end().await {
                return reason;
            }
        }
    }

    /// One connection to one node, to its end; whether the node took our log, and what ended it.
    async fn attempt(&self, node: &NodeAddress, reporter: &Reporter) -> (bool, Trouble) {
        let settings = &*self.settings;
        let connection = match greet(settings, node).await {
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
        });
        let trouble = session.run(connection, self.durable.clone()).await;
        connected.set(0);
        (!matches!(trouble, Trouble::Stop(_)), trouble)
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
        for node in &settings.nodes {
            let greeted = greet(settings, node).await;
            let judged = greeted.and_then(|c| judge(&c.welcome, &settings.ours(None)));
            match judged {
                Ok(_) => {
                    tracing::info!(%node, "the ledger knows this agent and holds no record of it: its log begins");
                    return Ok(());
                }
                Err(trouble) => rounds.note(node, trouble, false),
            }
        }
        if let Some(reason) = rounds.end().await {
            return Err(reason);
        }
    }
}

/// What was learned in a round over all nodes.
struct Rounds {
    reporter: Reporter,
    backoff: Backoff,
    settings: UplinkSettings,
    stop: Option<StopReason>,
    accepted: bool,
    pause: Duration,
}

impl Rounds {
    fn new(settings: &UplinkSettings) -> Self {
        let timing = &settings.timing;
        Rounds {
            reporter: Reporter::new(timing.remind, settings.metrics.clone()),
            backoff: Backoff::new(timing.pause_min, timing.pause_max),
            settings: settings.clone(),
            stop: None,
            accepted: false,
            pause: Duration::ZERO,
        }
    }

    fn note(&mut self, node: &NodeAddress, trouble: Trouble, accepted: bool) {
        self.reporter.trouble(node, &trouble);
        self.accepted |= accepted;
        self.pause = self.pause.max(trouble.pause(&self.settings.timing));
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
        let floor = std::mem::take(&mut self.pause);
        self.accepted = false;
        sleep(self.backoff.pause().max(self.backoff.jittered(floor))).await;
        None
    }
}
