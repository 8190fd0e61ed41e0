//! A world: nodes, agents, network and time, and one queue of what happens next.

use crate::{
    agent::Agent,
    cast,
    check::{Checker, Verdict, Violation, violated},
    clock::Clock,
    liar::Liar,
    net::Net,
    node::{Input, Node, Reply, index},
    plan::{Fault, Lie, Plan},
    rng::Rng,
    show,
    trace::Trace,
};
use bytes::Bytes;
use replica::{Members, Message};
use std::collections::{BTreeMap, BTreeSet};

/// Microseconds in a second.
pub const SECOND: u64 = 1_000_000;
/// What the seed of a world's second source of chance differs by.
const AGING: u64 = 0x6f6c_645f_6c6f_6773;
/// How long all may take to be well again after faults have stopped.
pub const RECOVERY: u64 = 30 * SECOND;

/// What happens at a moment.
#[derive(Debug)]
pub enum Happening {
    /// A message arrives.
    Arrive { from: usize, to: usize, epoch: u64, bytes: Bytes },
    /// A process may have a timer that runs out.
    Wake { node: usize, incarnation: u64 },
    /// A block is written, or a full disk is tried again.
    Written { node: usize, incarnation: u64 },
    /// A process starts.
    Start { node: usize },
    /// Two nodes may connect.
    Connect { a: usize, b: usize },
    /// A node notices that a connection is lost.
    Notice { node: usize, peer: usize, epoch: u64 },
    /// Something reaches a process from outside the network of nodes.
    Reach { node: usize, incarnation: u64, input: Input },
    /// An agent is answered.
    Answer { agent: usize, connection: u64, reply: Reply },
    /// An agent looks whether there is something to do.
    Agent { agent: usize },
    /// An agent seals.
    Seal { agent: usize },
    /// Something goes wrong.
    Fault(Fault),
    /// A disk has space again.
    Space { node: usize },
    /// A partition is over.
    Heal { mask: u64 },
    /// A storm is over.
    Clear { from: usize, to: usize },
    /// Faults stop.
    Calm,
    /// Looks whether all is well again.
    Settled,
    /// A node looks for what its disk lost.
    Scrub { node: usize, incarnation: u64 },
}

/// What a world came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Things that happened, by name.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts one.
    pub fn one(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    /// Counts some.
    pub fn add(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }
}

/// A world.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) members: Members,
    pub(crate) rng: Rng,
    pub(crate) time: u64,
    /// By how many milliseconds the world has grown older at once.
    pub(crate) aged: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    count: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) net: Net,
    pub(crate) checker: Checker,
    pub(crate) trace: Trace,
    pub(crate) tally: Tally,
    pub(crate) calm: bool,
    /// More nodes lie or forgot than the ledger tolerates: only safety is asked for.
    pub(crate) beyond: bool,
    done: bool,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, print: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut plan = Plan::of(&mut rng);
        // From a stream of its own: worlds that do not grow old are what they were without it.
        let mut dice = Rng::new(seed ^ AGING);
        plan.grow_old(&mut dice);
        let members = cast::members(plan.nodes, plan.model);
        let liars: BTreeSet<usize> = plan.liars.keys().copied().collect();
        let splitter = plan.splitter.map(cast::agent_name);
        let checker = Checker::new(&members, cast::policy(&members), liars, splitter);
        let nodes = (0..plan.nodes).map(|node| first(&plan, node, &mut rng)).collect();
        let agents =
            (0..plan.agents).map(|agent| Agent::new(agent, rng.index(plan.nodes))).collect();
        let mut world = World {
            net: Net::new(plan.nodes),
            members,
            rng,
            time: 0,
            aged: 0,
            queue: BTreeMap::new(),
            count: 0,
            nodes,
            agents,
            checker,
            trace: Trace::new(print),
            tally: Tally::default(),
            calm: false,
            beyond: false,
            done: false,
            plan,
        };
        world.say(format_args!("{}", show::plan(&world.plan.clone())));
        world.begin();
        world
    }

    fn begin(&mut self) {
        for node in 0..self.plan.nodes {
            let at = self.rng.within(0..200_000);
            self.at(at, Happening::Start { node });
        }
        for agent in 0..self.plan.agents {
            let at = self.rng.within(0..500_000);
            self.at(at, Happening::Agent { agent });
            self.at(at + self.plan.pace, Happening::Seal { agent });
        }
        for (at, fault) in self.plan.faults.clone() {
            self.at(at, Happening::Fault(fault));
        }
        self.at(self.plan.calm, Happening::Calm);
    }

    /// Runs until all is well again after the last fault.
    ///
    /// # Errors
    /// What must never happen, and did.
    pub fn run(&mut self) -> Verdict {
        while !self.done {
            let Some(((time, _), happening)) = self.queue.pop_first() else {
                return violated("nothing happens any more");
            };
            self.time = time;
            self.happen(happening)?;
            self.tally.one("steps");
        }
        self.finish()
    }

    pub(crate) fn say(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.line(self.time, what);
    }

    pub(crate) fn at(&mut self, time: u64, happening: Happening) {
        self.count += 1;
        self.queue.insert((time.max(self.time), self.count), happening);
    }

    pub(crate) fn after(&mut self, delay: u64, happening: Happening) {
        self.at(self.time + delay, happening);
    }

    fn happen(&mut self, happening: Happening) -> Verdict {
        match happening {
            Happening::Arrive { from, to, epoch, bytes } => self.arrive(from, to, epoch, &bytes),
            Happening::Wake { node, incarnation } => self.wake(node, incarnation),
            Happening::Written { node, incarnation } if self.runs(node, incarnation) => {
                self.written(node)
            }
            Happening::Written { .. } => Ok(()),
            Happening::Start { node } => self.start(node),
            Happening::Connect { a, b } => self.connect(a, b),
            Happening::Notice { node, peer, epoch } => self.notice(node, peer, epoch),
            Happening::Reach { node, incarnation, input } if self.runs(node, incarnation) => {
                self.input(node, input)
            }
            Happening::Reach { .. } => Ok(()),
            Happening::Answer { agent, connection, reply } => {
                self.answered(agent, connection, reply)
            }
            Happening::Agent { agent } => self.look(agent),
            Happening::Seal { agent } => self.seal(agent),
            Happening::Fault(fault) => self.fault(fault),
            Happening::Space { node } => {
                self.nodes[node].disk.full = false;
                Ok(())
            }
            Happening::Heal { mask } => self.heal(mask),
            Happening::Clear { from, to } => {
                *self.net.weather(from, to) = crate::net::Weather::FINE;
                Ok(())
            }
            Happening::Calm => self.calm_down(),
            Happening::Settled => self.settled(),
            Happening::Scrub { node, incarnation } if self.runs(node, incarnation) => {
                self.scrub(node)
            }
            Happening::Scrub { .. } => Ok(()),
        }
    }

    pub(crate) fn runs(&self, node: usize, incarnation: u64) -> bool {
        let node = &self.nodes[node];
        node.process.is_some() && node.incarnation == incarnation
    }

    fn arrive(&mut self, from: usize, to: usize, epoch: u64, bytes: &Bytes) -> Verdict {
        let pair = self.net.pair(from, to);
        let (up, same) = (pair.up, pair.epoch == epoch);
        // What was sent before a connection broke may still come, until the receiver notices.
        let process = self.nodes[to].process.as_ref();
        let unnoticed = process.is_some_and(|process| process.told_up.contains(&from));
        if !same || !unnoticed || (!up && self.rng.permille(300)) {
            self.tally.one("messages lost with a connection");
            return Ok(());
        }
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => return violated(format!("n{from} sent what is no message: {error}")),
        };
        self.tally.one("messages");
        self.say(format_args!("n{to} <- n{from} {}", show::message(&message)));
        if let Some(liar) = &mut self.nodes[to].liar {
            liar.overhear(&message);
        }
        self.input(to, Input::Message(from, message))
    }

    /// Hands a message to the network; a liar sends something else.
    pub(crate) fn transmit(
        &mut self,
        from: usize,
        to: usize,
        message: &Message,
        delay: u64,
    ) -> Verdict {
        let Node { process, liar, .. } = &mut self.nodes[from];
        let (Some(process), Some(liar)) = (process, liar) else {
            return self.put(from, to, message, delay);
        };
        let told = liar.twist(&process.replica, &mut self.rng, message);
        told.iter().try_for_each(|message| self.put(from, to, message, delay))
    }

    fn put(&mut self, from: usize, to: usize, message: &Message, delay: u64) -> Verdict {
        let pair = self.net.pair(from, to);
        let (up, epoch) = (pair.up, pair.epoch);
        if !up {
            return Ok(());
        }
        let bytes = Bytes::from(message.encode());
        let lane = usize::from(message.is_bulk());
        let left = self.time + delay;
        for at in self.net.send(&mut self.rng, left, (from, to), lane) {
            self.at(at, Happening::Arrive { from, to, epoch, bytes: bytes.clone() });
        }
        Ok(())
    }

    /// Connects two nodes, if both are there and nothing is between them.
    fn connect(&mut self, a: usize, b: usize) -> Verdict {
        let there = self.nodes[a].process.is_some() && self.nodes[b].process.is_some();
        let pair = self.net.pair(a, b);
        if a == b || !there || pair.up || pair.cut {
            return Ok(());
        }
        (pair.up, pair.epoch) = (true, pair.epoch + 1);
        self.say(format_args!("n{a} -- n{b} connected"));
        for (node, peer) in [(a, b), (b, a)] {
            self.lost(node, peer)?;
            if let Some(process) = &mut self.nodes[node].process {
                process.told_up.insert(peer);
            }
            self.input(node, Input::Up(peer))?;
        }
        Ok(())
    }

    /// Breaks a connection; each side notices some time later.
    pub(crate) fn disconnect(&mut self, a: usize, b: usize) {
        let pair = self.net.pair(a, b);
        if a == b || !pair.up {
            return;
        }
        pair.up = false;
        let epoch = pair.epoch;
        self.say(format_args!("n{a} -- n{b} broken"));
        for (node, peer) in [(a, b), (b, a)] {
            let slow = self.rng.permille(100);
            let delay = self.rng.within(0..if slow { 3 * SECOND } else { 20_000 });
            self.after(delay, Happening::Notice { node, peer, epoch });
        }
        let again = self.rng.within(50_000..SECOND);
        self.after(again, Happening::Connect { a, b });
    }

    fn notice(&mut self, node: usize, peer: usize, epoch: u64) -> Verdict {
        let pair = self.net.pair(node, peer);
        if pair.up || pair.epoch != epoch { Ok(()) } else { self.lost(node, peer) }
    }

    /// Tells a node that a connection is lost, if it does not know.
    fn lost(&mut self, node: usize, peer: usize) -> Verdict {
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        if process.told_up.remove(&peer) {
            return self.input(node, Input::Down(peer));
        }
        Ok(())
    }

    fn start(&mut self, node: usize) -> Verdict {
        if self.nodes[node].process.is_some() {
            return Ok(());
        }
        if self.nodes[node].disk.damaged {
            self.say(format_args!("n{node} finds its store damaged"));
            self.nodes[node].disk.wipe();
        }
        self.checker.stored(node, self.nodes[node].disk.shelf().blocks())?;
        let height = self.nodes[node].disk.height();
        self.say(format_args!("n{node} starts with {height} blocks"));
        if let Err(problem) = self.nodes[node].start(node, &self.members, self.time) {
            return violated(format!("n{node} does not start: {problem}"));
        }
        self.tally.one("starts");
        self.give_up(node)?;
        self.scrub_soon(node);
        for peer in (0..self.plan.nodes).filter(|peer| *peer != node) {
            let delay = self.rng.within(1000..100_000);
            self.after(delay, Happening::Connect { a: node, b: peer });
        }
        self.work(node)
    }

    fn settled(&mut self) -> Verdict {
        if self.is_well() || (self.beyond && self.time > self.plan.calm + RECOVERY) {
            self.done = true;
            return Ok(());
        }
        if self.time > self.plan.calm + RECOVERY {
            return violated(format!("NO PROGRESS: {}", self.complaint()));
        }
        self.after(100_000, Happening::Settled);
        Ok(())
    }

    fn is_well(&self) -> bool {
        let mut honest = self.honest();
        let Some(first) = honest.next() else { return true };
        let newest = self.checker.height();
        let same = |node: &Node| {
            node.disk.height() == newest
                && node.published.is_some()
                && node.published == first.published
                && node.process.as_ref().is_some_and(|process| !process.blocked)
                && node.has_what_it_should(&node.disk.shelf())
        };
        same(first) && honest.all(same) && self.agents.iter().all(Agent::is_served)
    }

    fn honest(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.liar.is_none())
    }

    fn complaint(&self) -> String {
        let nodes: Vec<String> = (0..self.plan.nodes).map(|node| show::node(self, node)).collect();
        let agents: Vec<String> = self
            .agents
            .iter()
            .map(|agent| format!("gw{} keeps {}", agent.number, agent.spool.len()))
            .collect();
        format!("{}; {}", nodes.join("; "), agents.join(", "))
    }

    fn finish(&mut self) -> Verdict {
        if self.beyond {
            self.tally.one("worlds beyond what is tolerated");
            return Ok(());
        }
        for node in 0..self.plan.nodes {
            self.checker.kept(node, self.nodes[node].disk.height())?;
            self.checker.stored(node, self.nodes[node].disk.shelf().blocks())?;
        }
        let told = self.nodes.iter().filter_map(|node| node.liar.as_ref());
        let (mut lies, mut contradictions) = (0, 0);
        told.for_each(|liar| {
            (lies, contradictions) = (lies + liar.told, contradictions + liar.contradictions);
        });
        self.tally.add("lies", lies);
        self.tally.add("contradictions", contradictions);
        let [lost, repeated, reordered] = self.net.harmed;
        self.tally.add("messages lost", lost);
        self.tally.add("messages repeated", repeated);
        self.tally.add("messages reordered", reordered);
        self.tally.add("blocks", self.checker.height());
        self.tally.add("receipts", self.checker.receipts() as u64);
        Ok(())
    }

    /// The newest height of an honest node's replica at `node`, if it runs.
    pub(crate) fn now(&self, node: usize) -> replica::Now {
        let node = &self.nodes[node];
        let begun = node.process.as_ref().map_or(self.time, |process| process.begun);
        node.clock.now(self.time, begun)
    }

    /// Sends to one node, or to all others.
    pub(crate) fn broadcast(
        &mut self,
        from: usize,
        to: Option<replica::NodeIndex>,
        message: &Message,
        delay: u64,
    ) -> Verdict {
        let durable = self.nodes[from].disk.height();
        self.checker.sent(from, message, durable)?;
        for other in (0..self.plan.nodes).filter(|other| *other != from) {
            if to.is_none_or(|to| to == index(other)) {
                self.transmit(from, other, message, delay)?;
            }
        }
        Ok(())
    }
}

fn first(plan: &Plan, node: usize, rng: &mut Rng) -> Node {
    let lies = plan.liars.get(&node);
    let far = lies.is_some_and(|lies| lies.contains(&Lie::Time));
    let offset = if far {
        rng.pick(&[-3_600_000, -20_000, -2500, 2500, 20_000, 3_600_000])
    } else {
        rng.within(0..400) as i64 - 200
    };
    let clock = Clock { offset, drift: rng.within(0..400) as i64 - 200, aged: 0 };
    let retention = plan.retention[node];
    Node { retention, ..Node::new(clock, lies.map(|lies| Liar::new(node, lies.clone()))) }
}

/// A violation of what a process itself must keep up.
pub(crate) fn failed(node: usize, problem: &dyn std::fmt::Display) -> Violation {
    Violation(format!("ENDED: n{node}: {problem}"))
}
