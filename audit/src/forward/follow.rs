//! Following a ledger: checkpoints that extend each other, runs of entries that lead to their roots.

use super::{
    Sink,
    config::{Config, Start, Wanted},
    metrics::Metrics,
    state::{Place, State, StateFile},
    syslog,
};
use crate::{
    output::{Failure, fail},
    reading::{Ledger, Remote},
};
use record::{
    Checkpoint, TreeSize,
    entry::{Entry, Kind},
    merkle::{
        EntryIndex, Frontier, RangeProof, consistency_proof, leaf_hash, range_proof,
        verify_consistency,
    },
    policy::Policy,
};
use std::{collections::BTreeMap, ops::ControlFlow};
use tokio::runtime::Handle;

/// The most entries that are handed on at once,
const MAX_ENTRIES: u64 = 4096;
/// and about the most bytes.
const MAX_BYTES: usize = 4 << 20;
/// A node that had nothing new so often is left for the next: one that hides what there is cannot be
/// told from a ledger that stands still.
const MAX_QUIET: u32 = 60;

/// A follower of one ledger.
pub struct Follower<'a> {
    config: &'a Config,
    handle: Handle,
    policy: &'a Policy,
    /// Nothing before the first checkpoint of the first start.
    state: Option<State>,
    /// The node that is asked, while it does what it should.
    ledger: Option<Ledger>,
    /// Which of the nodes that is, or is tried next.
    turn: usize,
    /// How often in a row it had nothing new.
    quiet: u32,
    /// The first entry that each node has which gave up what would be next.
    gave_up: BTreeMap<usize, u64>,
    /// Whether to go on behind entries that no node has any more.
    pub skip_pruned: bool,
}

/// A run of entries that was verified.
struct Run {
    /// The ledger's tree behind it.
    tree: Frontier,
    /// The entries that are wanted, as they are handed on.
    bytes: Vec<u8>,
    /// How many these are.
    count: u64,
}

impl<'a> Follower<'a> {
    /// Goes on behind `state`, or begins where the configuration says.
    pub fn new(
        config: &'a Config,
        handle: &Handle,
        policy: &'a Policy,
        state: Option<State>,
    ) -> Self {
        let handle = handle.clone();
        Follower {
            config,
            handle,
            policy,
            state,
            ledger: None,
            turn: 0,
            quiet: 0,
            gave_up: BTreeMap::new(),
            skip_pruned: false,
        }
    }

    /// The entry that is handed on next.
    pub fn next(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.tree.size().0)
    }

    /// What to say if every node gave up the entry that would be next.
    pub fn missed(&self) -> Option<String> {
        let first = *self.gave_up.values().min()?;
        let next = self.next();
        (self.all_gave_up() && !self.skip_pruned).then(|| {
            let count = first.saturating_sub(next);
            format!(
                "{count} entries were given up before they were forwarded: {next} to {}. The first that is there is {first}: \
                 'logseal forward --skip-pruned' goes on there",
                first.saturating_sub(1)
            )
        })
    }

    fn all_gave_up(&self) -> bool {
        self.gave_up.len() == self.config.client.nodes.len()
    }

    /// Saves how far it came, with another end of the output file.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn save(&mut self, file: &StateFile, place: Option<Place>) -> Result<(), Failure> {
        let Some(state) = &mut self.state else { return Ok(()) };
        state.file = place;
        file.save(state)
    }

    /// Hands a run of entries on; false if there is none.
    ///
    /// # Errors
    /// A node, the output or this machine failed. After a failure of a node the next one is asked.
    pub fn step(
        &mut self,
        sink: &mut Sink,
        file: &StateFile,
        metrics: &Metrics,
    ) -> Result<bool, Failure> {
        let read = self.read(sink).map_err(|failure| {
            let node = &self.config.client.nodes[self.turn % self.config.client.nodes.len()];
            let failure = Failure(format!("node {node}: {failure}"));
            self.leave();
            failure
        });
        let read = read?;
        if let Some(state) = &self.state {
            metrics.stands(state.tree.size().0, state.checkpoint.size.0);
        }
        let Some(run) = read else {
            self.quiet += 1;
            if self.quiet >= MAX_QUIET && self.config.client.nodes.len() > 1 {
                self.leave();
            }
            return Ok(false);
        };
        self.quiet = 0;
        if let Some(state) = self.state.as_mut().filter(|state| state.file.is_none())
            && let Sink::File(output) = sink
        {
            // Without it, nobody would know that the first bytes are not recorded yet.
            state.file = Some(output.place());
            file.save(state)?;
        }
        if run.count > 0 {
            match sink {
                Sink::File(output) => output.write(&run.bytes)?,
                Sink::Syslog(output) => output.write(&run.bytes)?,
            }
        }
        if let Some(state) = &mut self.state {
            state.tree = run.tree;
            if let Sink::File(output) = sink {
                state.file = Some(output.place());
            }
            file.save(state)?;
            metrics.delivered(run.count);
            metrics.stands(state.tree.size().0, state.checkpoint.size.0);
        }
        Ok(true)
    }

    /// The next node is to be asked.
    fn leave(&mut self) {
        (self.ledger, self.quiet) = (None, 0);
        self.turn += 1;
    }

    /// The next run of entries, if there is one.
    fn read(&mut self, sink: &Sink) -> Result<Option<Run>, Failure> {
        let mut ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => self.connect()?,
        };
        let ahead = self.state.as_ref().is_some_and(|s| s.tree.size() < s.checkpoint.size)
            && self.state.as_ref().is_some_and(|s| ledger.size() == s.checkpoint.size.0);
        if !ahead {
            self.advance(&mut ledger)?;
        }
        self.pass_over(&ledger)?;
        let run = self.run(&ledger, sink)?;
        self.ledger = Some(ledger);
        Ok(run)
    }

    fn connect(&self) -> Result<Ledger, Failure> {
        let client = &self.config.client;
        let address = &client.nodes[self.turn % client.nodes.len()];
        Remote::connect(&self.handle, client, address).map(Ledger::Node)
    }

    /// A forwarder that begins does so at a node that gave up no more than others which can be asked.
    fn has_most(&self, ledger: &Ledger) -> Result<(), Failure> {
        let (nodes, first) = (&self.config.client.nodes, ledger.first());
        let turn = self.turn % nodes.len();
        if first == 0 || self.config.start == Start::End {
            return Ok(());
        }
        for other in nodes.iter().enumerate().filter(|(at, _)| *at != turn).map(|(_, node)| node) {
            let asked = Remote::connect(&self.handle, &self.config.client, other);
            let asked = asked.and_then(|mut remote| remote.advance(self.policy).map(|_| remote));
            if asked.is_ok_and(|remote| Ledger::Node(remote).first() < first) {
                return Err(Failure(format!("it gave up entries that node {other} still has")));
            }
        }
        Ok(())
    }

    /// Takes a newer checkpoint, which must extend the one before.
    fn advance(&mut self, ledger: &mut Ledger) -> Result<(), Failure> {
        let Ledger::Node(remote) = ledger else { return Ok(()) };
        let (_, new) = remote.advance(self.policy)?;
        let Some(state) = &mut self.state else {
            self.has_most(ledger)?;
            self.state = Some(begin(self.config.start, ledger, new)?);
            return Ok(());
        };
        let old = &state.checkpoint;
        if new.origin != old.origin {
            return Err(Failure(format!(
                "it is of the ledger {}, not of {}",
                new.origin, old.origin
            )));
        }
        if new.size < old.size {
            return Err(Failure(format!("it has {} entries, and others {}", new.size, old.size)));
        }
        let proof = consistency_proof(ledger, old.size, new.size)?;
        verify_consistency(&proof, (old.size, old.root), (new.size, new.root)).map_err(
            |error| {
                let serious = "either this node lies or the ledger was forked";
                Failure(format!(
                    "its checkpoint does not extend the one before: {serious}: {error}"
                ))
            },
        )?;
        state.checkpoint = new;
        Ok(())
    }

    /// If the node gave up the entry that would be next, another one is asked; if all did, that is passed over if it is
    /// wanted, up to the first entry that any of them has.
    fn pass_over(&mut self, ledger: &Ledger) -> Result<(), Failure> {
        let turn = self.turn % self.config.client.nodes.len();
        let (first, next) = (ledger.first(), self.next());
        if next >= first {
            self.gave_up.remove(&turn);
            return Ok(());
        }
        self.gave_up.insert(turn, first);
        let least = self.gave_up.values().min().copied().unwrap_or(first);
        let Some(state) = self.state.as_mut().filter(|_| self.skip_pruned) else {
            return Err(Failure(format!("it gave up entries {next} to {}", first - 1)));
        };
        if self.gave_up.len() < self.config.client.nodes.len() || first > least {
            let problem = "another node may have more of them";
            return Err(Failure(format!("it gave up entries {next} to {}: {problem}", first - 1)));
        }
        state.tree = tree_at(ledger, first, &state.checkpoint)?;
        self.gave_up.clear();
        tracing::warn!(from = next, to = first - 1, "passed over entries that were given up");
        Ok(())
    }

    /// Reads a run of entries and verifies that it leads to the checkpoint.
    fn run(&self, ledger: &Ledger, sink: &Sink) -> Result<Option<Run>, Failure> {
        let Some(state) = &self.state else { return Ok(None) };
        let (first, size) = (state.tree.size().0, state.checkpoint.size);
        if first >= size.0 {
            return Ok(None);
        }
        let end = size.0.min((first / 256) * 256 + MAX_ENTRIES);
        let mut run = Run { tree: state.tree.clone(), bytes: Vec::new(), count: 0 };
        let mut read = 0;
        ledger.entries(first..end, &mut |index, entry| {
            run.tree.push(leaf_hash(entry));
            read += entry.len();
            if self.is_wanted(entry) {
                run.count += 1;
                match sink {
                    Sink::File(file) => file.frame(index, entry, &mut run.bytes),
                    Sink::Syslog(_) => syslog::frame(entry, &mut run.bytes),
                }
            }
            let enough = read >= MAX_BYTES && (index + 1) % 256 == 0;
            Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        let end = EntryIndex(run.tree.size().0);
        let right = range_proof(ledger, end, end, size)?.right;
        let root = RangeProof { left: Vec::new(), right }.end(run.tree.clone(), size);
        if root != Some(state.checkpoint.root) {
            let problem = "its entries are not those that the checkpoint was signed for";
            return Err(Failure(problem.into()));
        }
        Ok(Some(run))
    }

    fn is_wanted(&self, bytes: &[u8]) -> bool {
        let config = self.config;
        if config.wanted == Wanted::All && config.agents.is_empty() && config.sources.is_empty() {
            return true;
        }
        let Ok(entry) = Entry::parse(bytes) else { return config.wanted == Wanted::All };
        if config.wanted == Wanted::Records && entry.kind() != Kind::Record {
            return false;
        }
        let of = |wanted: &[String], name: &str| {
            wanted.is_empty()
                || entry.element().param(name).is_some_and(|v| wanted.iter().any(|w| *w == v))
        };
        of(&config.agents, "agent") && of(&config.sources, "source")
    }
}

/// The state of the first start.
fn begin(start: Start, ledger: &Ledger, checkpoint: Checkpoint) -> Result<State, Failure> {
    let at = match start {
        Start::Beginning => ledger.first(),
        Start::End => checkpoint.size.0,
    };
    let tree = tree_at(ledger, at, &checkpoint)?;
    if start == Start::Beginning && at > 0 {
        tracing::warn!(first = at, "begins there: all entries before were given up");
    }
    Ok(State { tree, checkpoint, file: None })
}

/// The ledger's tree in front of an entry, which leads to the checkpoint.
fn tree_at(ledger: &Ledger, index: u64, checkpoint: &Checkpoint) -> Result<Frontier, Failure> {
    let proof = range_proof(ledger, EntryIndex(index), EntryIndex(index), checkpoint.size)?;
    let tree = Frontier::from_hashes(TreeSize(index), &proof.left).map_err(fail)?;
    if proof.end(tree.clone(), checkpoint.size) != Some(checkpoint.root) {
        return Err(Failure("its hashes do not lead to its checkpoint".into()));
    }
    Ok(tree)
}
