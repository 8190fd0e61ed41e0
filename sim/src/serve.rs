//! Agents in the world: when they seal, connect, send, wait, and go elsewhere.

use crate::{
    agent::{Agent, PATIENCE},
    cast,
    check::Verdict,
    clock::START,
    drive::LINE,
    node::{Input, Reply},
    world::{Happening, SECOND, World},
};
use record::UnixSeconds;

/// How often an agent looks whether there is something to do.
const LOOK: u64 = 200_000;
/// How many batches an agent keeps before it holds its sources back.
const SPOOL: usize = 24;

impl Agent {
    /// True if nothing that it was promised is missing.
    pub fn is_served(&self) -> bool {
        self.split || self.spool.is_empty()
    }
}

impl World {
    pub(crate) fn wall(&self) -> UnixSeconds {
        UnixSeconds((START + self.aged + self.time / 1000) / 1000)
    }

    pub(crate) fn seal(&mut self, agent: usize) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let pause = self.plan.pace / 2 + self.rng.within(0..self.plan.pace);
        self.after(pause, Happening::Seal { agent });
        if self.agents[agent].spool.len() >= SPOOL {
            return Ok(());
        }
        let now = self.wall();
        let digest = self.agents[agent].seal(&mut self.rng, now);
        self.checker.sealed(digest);
        self.tally.one("batches");
        let splits = self.plan.splitter == Some(agent) && self.time > 3 * SECOND;
        if splits && self.rng.permille(150) {
            self.split(agent, now);
        }
        self.send(agent);
        Ok(())
    }

    /// The agent seals another batch at the same size, and shows it to some node.
    fn split(&mut self, agent: usize, now: UnixSeconds) {
        let Some(other) = self.agents[agent].seal_again(now) else { return };
        self.checker.sealed(other.digest);
        self.say(format_args!("gw{agent} seals twice"));
        self.tally.one("split logs");
        let node = self.rng.index(self.plan.nodes);
        let incarnation = self.nodes[node].incarnation;
        let input = Input::Submit { agent, connection: u64::MAX, encoded: other.encoded };
        self.after(LINE, Happening::Reach { node, incarnation, input });
    }

    pub(crate) fn look(&mut self, agent: usize) -> Verdict {
        self.after(LOOK, Happening::Agent { agent });
        if !self.agents[agent].enrolled {
            self.enrol(agent);
            return Ok(());
        }
        let (time, nodes) = (self.time, self.plan.nodes);
        let this = &mut self.agents[agent];
        match this.link {
            None if time >= this.rest && !this.spool.is_empty() => this.connect(nodes, time),
            Some(_) if this.spool.is_empty() => this.progress = time,
            Some(_) if time > this.progress + PATIENCE => this.leave(time),
            _ => {}
        }
        self.send(agent);
        Ok(())
    }

    /// An operator enrols the agent with some node, until all of them know it.
    fn enrol(&mut self, agent: usize) {
        let name = cast::agent_name(agent);
        let knows = |node: &crate::node::Node| {
            let process = node.process.as_ref();
            process.is_some_and(|process| process.replica.state().agents.contains_key(&name))
        };
        if self.nodes.iter().any(|node| node.liar.is_none() && knows(node)) {
            self.agents[agent].enrolled = true;
            return;
        }
        if self.rng.permille(300) {
            let node = self.rng.index(self.plan.nodes);
            let incarnation = self.nodes[node].incarnation;
            let input = Input::Enrol(agent);
            self.after(LINE, Happening::Reach { node, incarnation, input });
        }
    }

    fn send(&mut self, agent: usize) {
        while let Some(spooled) = self.agents[agent].next_to_send() {
            let Some(mut link) = self.agents[agent].link else { return };
            let at = (self.time + self.rng.within(200..5000)).max(link.last + 1);
            link.last = at;
            self.agents[agent].link = Some(link);
            let incarnation = self.nodes[link.node].incarnation;
            let (node, connection) = (link.node, link.connection);
            let input = Input::Submit { agent, connection, encoded: spooled.encoded };
            self.at(at, Happening::Reach { node, incarnation, input });
        }
    }

    pub(crate) fn answered(&mut self, agent: usize, connection: u64, reply: Reply) -> Verdict {
        let current = self.agents[agent].link.is_some_and(|link| link.connection == connection);
        match reply {
            Reply::Receipt(digest, checkpoint) => {
                if self.checker.receipt(digest, &checkpoint)? {
                    self.agents[agent].release(digest, self.time);
                    self.send(agent);
                }
            }
            Reply::Refused if current => {
                let pause = self.rng.within(50_000..SECOND / 2);
                self.agents[agent].leave(self.time + pause);
                self.tally.one("batches refused");
            }
            Reply::Refused => {}
        }
        Ok(())
    }
}
