//! Faults as they strike, and how they stop.

use crate::{
    check::Verdict,
    net::Weather,
    node::Node,
    plan::{Fault, Lie},
    world::{Happening, SECOND, World},
};

impl World {
    pub(crate) fn fault(&mut self, fault: Fault) -> Verdict {
        self.say(format_args!("FAULT {fault:?}"));
        self.tally.one("faults");
        match fault {
            Fault::Crash { node, steps, down } => {
                (self.nodes[node].crash_in, self.nodes[node].down) = (Some(steps), down);
                Ok(())
            }
            Fault::CrashAll { down } => {
                for node in 0..self.plan.nodes {
                    self.nodes[node].down = down + self.rng.within(0..100_000);
                    self.crash(node)?;
                }
                Ok(())
            }
            Fault::FailWrite { node } => {
                self.nodes[node].fail_write = true;
                Ok(())
            }
            Fault::Full { node, lasts } => {
                self.nodes[node].disk.full = true;
                self.after(lasts, Happening::Space { node });
                Ok(())
            }
            Fault::Wipe { node, down } => self.wipe(node, down),
            Fault::Flip { node } => {
                self.nodes[node].disk.damaged = self.may_lose(node);
                Ok(())
            }
            Fault::Break { a, b } => {
                self.disconnect(a, b);
                Ok(())
            }
            Fault::Partition { mask, lasts } => self.partition(mask, lasts),
            Fault::Storm { from, to, weather } => {
                *self.net.weather(from, to) = weather;
                let lasts = self.rng.within(SECOND / 5..6 * SECOND);
                self.after(lasts, Happening::Clear { from, to });
                Ok(())
            }
            Fault::Jump { node, by } => {
                self.nodes[node].clock.offset += by;
                Ok(())
            }
            Fault::Age { days } => {
                self.grow_older(days);
                Ok(())
            }
            Fault::Declare { node, what } => {
                self.declare(node, what);
                Ok(())
            }
            Fault::Rot { node, what } => {
                self.rot(node, what);
                Ok(())
            }
            Fault::Agent { agent } => {
                self.agents[agent].leave(self.time + SECOND / 5);
                Ok(())
            }
        }
    }

    /// How many nodes lie, or have forgotten what they said.
    pub(crate) fn forgot_or_lie(&self) -> usize {
        let forgot = |node: &&Node| node.disk.rejoining || node.disk.damaged || node.liar.is_some();
        self.nodes.iter().filter(forgot).count()
    }

    /// The rejoin rule holds as long as those who lie and those who forgot are few enough together.
    pub(crate) fn may_lose(&self, node: usize) -> bool {
        let Node { disk, liar, .. } = &self.nodes[node];
        let already = disk.rejoining || disk.damaged;
        let fits = already || self.forgot_or_lie() < self.members.tolerates();
        self.plan.nodes > 1 && liar.is_none() && fits
    }

    fn wipe(&mut self, node: usize, down: u64) -> Verdict {
        if !self.may_lose(node) {
            return Ok(());
        }
        self.nodes[node].down = down;
        self.crash(node)?;
        self.nodes[node].disk.wipe();
        self.nodes[node].published = None;
        self.tally.one("wiped disks");
        Ok(())
    }

    fn partition(&mut self, mask: u64, lasts: u64) -> Verdict {
        self.each_pair(|world, a, b| {
            if (mask >> a) & 1 != (mask >> b) & 1 {
                world.net.pair(a, b).cut = true;
                world.disconnect(a, b);
            }
        });
        self.after(lasts, Happening::Heal { mask });
        Ok(())
    }

    pub(crate) fn heal(&mut self, mask: u64) -> Verdict {
        self.each_pair(|world, a, b| {
            if (mask >> a) & 1 != (mask >> b) & 1 {
                world.reconnect(a, b);
            }
        });
        Ok(())
    }

    fn reconnect(&mut self, a: usize, b: usize) {
        self.net.pair(a, b).cut = false;
        let delay = self.rng.within(1000..SECOND / 2);
        self.after(delay, Happening::Connect { a, b });
    }

    fn each_pair(&mut self, mut with: impl FnMut(&mut World, usize, usize)) {
        for a in 0..self.plan.nodes {
            for b in a + 1..self.plan.nodes {
                with(self, a, b);
            }
        }
    }

    /// A process ends: what it had in memory, and a part of what it had not synced, is gone.
    pub(crate) fn crash(&mut self, node: usize) -> Verdict {
        self.nodes[node].crash_in = None;
        let Some(process) = self.nodes[node].process.take() else { return Ok(()) };
        self.say(format_args!("n{node} ends"));
        self.tally.one("crashes");
        self.nodes[node].disk.crash(&mut self.rng);
        if let Some(executed) = process.writing
            && self.rng.permille(500)
        {
            // Written, not acknowledged: such a block may be there after the crash.
            self.nodes[node].disk.append(&executed);
            self.checker.appended(node, &executed)?;
        }
        for peer in (0..self.plan.nodes).filter(|peer| *peer != node) {
            self.disconnect(node, peer);
        }
        for agent in 0..self.agents.len() {
            if self.agents[agent].link.is_some_and(|link| link.node == node) {
                self.agents[agent].leave(self.time + SECOND / 10);
            }
        }
        let down = self.nodes[node].down.max(10_000);
        self.after(down, Happening::Start { node });
        Ok(())
    }

    /// Faults stop; liars go on lying.
    pub(crate) fn calm_down(&mut self) -> Verdict {
        self.say(format_args!("CALM"));
        self.calm = true;
        for node in 0..self.plan.nodes {
            let state = &mut self.nodes[node];
            (state.crash_in, state.fail_write, state.disk.full) = (None, false, false);
            let lies = self.plan.liars.get(&node);
            if !lies.is_some_and(|lies| lies.contains(&Lie::Time)) {
                state.clock.offset = self.rng.within(0..400) as i64 - 200;
            }
            for other in 0..self.plan.nodes {
                *self.net.weather(node, other) = Weather::FINE;
            }
            self.after(SECOND / 10, Happening::Start { node });
        }
        self.each_pair(World::reconnect);
        self.after(SECOND, Happening::Settled);
        Ok(())
    }
}
