//! What a node's driver does: it hands inputs to the replica, and carries out what that wants, in
//! order. Between any two steps the process may end.

use crate::{
    check::{Verdict, violated},
    node::{Input, Node, Reply, Session, behind},
    show,
    world::{Happening, World, failed},
};
use bytes::Bytes;
use record::batch::{Codec, SealedBatch};
use replica::{Event, Executed, Head, Message, NodeIndex, Output, Pending, Standing};

/// How long the answer to an agent takes, in microseconds.
pub const LINE: u64 = 500;
/// How often a full disk is tried again.
const RETRY: u64 = 100_000;
/// Blocks and bytes that are sent for one request.
const SERVED: (u64, usize) = (64, 8 << 20);

impl World {
    /// Gives a process something to do.
    pub(crate) fn input(&mut self, node: usize, input: Input) -> Verdict {
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        process.inbox.push_back(input);
        if process.blocked { Ok(()) } else { self.work(node) }
    }

    pub(crate) fn wake(&mut self, node: usize, incarnation: u64) -> Verdict {
        if !self.runs(node, incarnation) {
            return Ok(());
        }
        if let Some(process) = &mut self.nodes[node].process {
            if process.wake > self.time {
                return Ok(());
            }
            process.wake = u64::MAX;
        }
        self.input(node, Input::Tick)
    }

    /// Does all there is to do.
    pub(crate) fn work(&mut self, node: usize) -> Verdict {
        loop {
            self.carry_out(node)?;
            let together = self.rng.within(1..self.plan.together + 1);
            for _ in 0..together {
                let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
                if process.blocked {
                    return Ok(());
                }
                let Some(input) = process.inbox.pop_front() else { break };
                self.handle(node, input)?;
            }
            self.carry_out(node)?;
            let process = self.nodes[node].process.as_ref();
            if process.is_none_or(|process| process.blocked || process.inbox.is_empty()) {
                return self.sleep(node);
            }
        }
    }

    /// Sees to it that the process is woken when its next timer runs out.
    fn sleep(&mut self, node: usize) -> Verdict {
        let clock = self.nodes[node].clock;
        let incarnation = self.nodes[node].incarnation;
        let time = self.time;
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        if process.blocked {
            return Ok(());
        }
        let due = clock.when(process.replica.deadline(), process.begun);
        process.spins = if due <= time { process.spins + 1 } else { 0 };
        if process.spins > 1000 {
            return violated(format!("SPINS: n{node} has a timer that never ends"));
        }
        let due = due.max(time + 1000);
        if due < process.wake {
            process.wake = due;
            self.at(due, Happening::Wake { node, incarnation });
        }
        Ok(())
    }

    fn handle(&mut self, node: usize, input: Input) -> Verdict {
        let now = self.now(node);
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        let replica = &mut process.replica;
        let done = match input {
            Input::Message(from, message) => {
                replica.handle_message(now, NodeIndex(from as u8), message)
            }
            Input::Up(peer) => {
                replica.handle_up(now, NodeIndex(peer as u8));
                Ok(())
            }
            Input::Down(peer) => {
                replica.handle_down(now, NodeIndex(peer as u8));
                Ok(())
            }
            Input::Tick if now.ticks >= replica.deadline() => replica.handle_tick(now),
            Input::Tick => Ok(()),
            Input::Submit { agent, connection, encoded } => {
                return self.submit(node, agent, connection, &encoded);
            }
            Input::Enrol(agent) => {
                let enrolment = crate::cast::enrolment(agent, now.wall.seconds());
                replica.handle_enrolment(now, enrolment).map(drop)
            }
            Input::Declare(declaration) => {
                let taken = replica.handle_declaration(now, *declaration);
                let taken = taken.map_err(|error| failed(node, &error))?;
                return self.declared(node, taken);
            }
        };
        done.map_err(|error| failed(node, &error))
    }

    /// What intake does with a batch, and the node's thread after it.
    fn submit(&mut self, node: usize, agent: usize, connection: u64, encoded: &Bytes) -> Verdict {
        let now = self.now(node);
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        let Ok(batch) = SealedBatch::decode(encoded) else {
            return violated("an agent sent what is no batch");
        };
        let digest = SealedBatch::digest(encoded);
        let session = process.sessions.get(&agent).filter(|s| s.connection == connection);
        let log = match session.and_then(|session| session.log.clone()) {
            Some(log) => Some(log),
            None => process.replica.log_of(&batch.agent).cloned(),
        };
        let Some(log) = log else {
            self.reply(agent, connection, Reply::Refused);
            return Ok(());
        };
        let newer = batch.count > 0 || batch.seal.time > log.sealed;
        let name = batch.agent.clone();
        let start = batch.start;
        let origin = process.replica.params().origin.clone();
        let fits = start.0 == log.frontier.size().0 && newer;
        let opened = fits.then(|| batch.open(&origin, &log, &mut Codec::default(), &mut vec![]));
        let mut taken = false;
        if let Some(Ok(verified)) = opened {
            let after = Some(verified.log_state());
            process.sessions.insert(agent, Session { connection, log: after });
            let pending = Pending::new(verified, log, encoded.clone());
            let handled = process.replica.handle_batch(now, pending);
            taken = handled.map_err(|error| failed(node, &error))?.is_ok();
        }
        let here = taken
            || process.placed.contains_key(&digest)
            || process.replica.waiting(&name, start).any(|waiting| waiting == digest);
        if here {
            process.waiting.insert(digest, (agent, connection));
            return self.receipts(node);
        }
        self.reply(agent, connection, Reply::Refused);
        Ok(())
    }

    fn reply(&mut self, agent: usize, connection: u64, reply: Reply) {
        self.after(LINE, Happening::Answer { agent, connection, reply });
    }

    /// Carries out what the replica wants, until it wants nothing more or must wait.
    fn carry_out(&mut self, node: usize) -> Verdict {
        // Syncing takes a moment, and what comes after it leaves later.
        let mut delay = 0;
        loop {
            if self.crashes(node) {
                return self.crash(node);
            }
            let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
            if process.blocked {
                return Ok(());
            }
            let output = match process.stalled.take() {
                Some(output) => output,
                None => match process.replica.poll().map_err(|error| failed(node, &error))? {
                    Some(output) => output,
                    None => return Ok(()),
                },
            };
            match output {
                Output::Log(_) | Output::SyncLog | Output::Append(_) => {
                    self.write(node, output, &mut delay)?;
                }
                other => self.tell(node, other, delay)?,
            }
        }
    }

    /// True if the process is to end right here.
    fn crashes(&mut self, node: usize) -> bool {
        let Some(steps) = &mut self.nodes[node].crash_in else { return false };
        *steps = steps.saturating_sub(1);
        *steps == 0
    }

    fn write(&mut self, node: usize, output: Output, delay: &mut u64) -> Verdict {
        let pause = self.rng.within(100..8000);
        let incarnation = self.nodes[node].incarnation;
        let full = self.nodes[node].disk.full;
        if !full && std::mem::take(&mut self.nodes[node].fail_write) {
            self.tally.one("failed writes");
            return self.crash(node);
        }
        let Node { process, disk, .. } = &mut self.nodes[node];
        let Some(process) = process else { return Ok(()) };
        match output {
            output if full => {
                (process.blocked, process.stalled) = (true, Some(output));
                self.after(RETRY, Happening::Written { node, incarnation });
            }
            Output::Log(record) => disk.log(record),
            Output::SyncLog => {
                disk.sync();
                *delay += pause / 4;
            }
            Output::Append(executed) => {
                (process.blocked, process.writing) = (true, Some(executed));
                self.after(pause, Happening::Written { node, incarnation });
            }
            _ => {}
        }
        Ok(())
    }

    /// What was written is durable, or the disk is tried again.
    pub(crate) fn written(&mut self, node: usize) -> Verdict {
        let now = self.now(node);
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        process.blocked = false;
        let Some(executed) = process.writing.take() else { return self.work(node) };
        self.nodes[node].disk.append(&executed);
        self.checker.appended(node, &executed)?;
        self.say(format_args!("n{node} has {}", show::block(&executed)));
        if self.crashes(node) {
            return self.crash(node);
        }
        self.nodes[node].disk.release();
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        process.placed.extend(behind(&executed));
        process.replica.handle_durable(now, &executed).map_err(|error| failed(node, &error))?;
        self.give_up(node)?;
        self.work(node)
    }

    fn tell(&mut self, node: usize, output: Output, delay: u64) -> Verdict {
        match output {
            Output::Send { to, message } => self.broadcast(node, to, &message, delay),
            Output::Published(head) => self.published(node, head),
            Output::ServeBlocks { to, from } => self.serve(node, to, from.0),
            Output::Mended { height, bytes } => self.mended(node, height.0, &bytes),
            Output::Declined { why, .. } => {
                self.say(format_args!("n{node} declines: {why}"));
                self.tally.one("declarations declined");
                Ok(())
            }
            Output::ServeBase { to, digest, offset } => self.serve_base(node, to, digest, offset),
            Output::ServeLeaves { to, chunk } => self.serve_leaves(node, to, chunk),
            Output::Base { base, encoded, begins } => self.base_came(node, base, encoded, begins),
            Output::Leaves { chunk, leaves } => self.leaves_came(node, chunk, leaves),
            Output::Rebase(base) => self.rebase(node, &base),
            Output::Dropped(pending) => {
                let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
                if let Some((agent, connection)) = process.waiting.remove(&pending.digest()) {
                    self.reply(agent, connection, Reply::Refused);
                }
                Ok(())
            }
            Output::Event(event) => self.event(node, event),
            Output::Log(_) | Output::SyncLog | Output::Append(_) => Ok(()),
        }
    }

    fn published(&mut self, node: usize, head: Head) -> Verdict {
        self.say(format_args!("n{node} publishes size {}", head.size));
        let text = head.checkpoint.text().to_owned();
        if self.nodes[node].liar.is_none() && !self.checker.believe(&head.checkpoint)? {
            return violated(format!("n{node} published what the policy does not believe"));
        }
        self.nodes[node].published = Some(text);
        if let Some(process) = &mut self.nodes[node].process {
            process.head = Some(head);
        }
        self.receipts(node)
    }

    /// Answers all who wait for what the published checkpoint covers, in the ledger's order.
    fn receipts(&mut self, node: usize) -> Verdict {
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        let Some(head) = process.head.clone() else { return Ok(()) };
        let behind = |digest| process.placed.get(digest).filter(|size| **size <= head.size.0);
        let mut covered: Vec<_> = process
            .waiting
            .iter()
            .filter_map(|(digest, to)| Some((*behind(digest)?, *digest, *to)))
            .collect();
        covered.sort_unstable();
        for (_, digest, (agent, connection)) in covered {
            if let Some(process) = &mut self.nodes[node].process {
                process.waiting.remove(&digest);
            }
            let checkpoint = Box::new(head.checkpoint.clone());
            self.reply(agent, connection, Reply::Receipt(digest, checkpoint));
        }
        Ok(())
    }

    fn serve(&mut self, node: usize, to: NodeIndex, from: u64) -> Verdict {
        if self.serve_pruned(node, to, from)? {
            return self.transmit(node, usize::from(to.0), &Message::Served, 0);
        }
        let last = self.nodes[node].disk.height().min(from.saturating_add(SERVED.0 - 1));
        let mut sent = 0;
        for height in from.max(1)..=last {
            let Some(bytes) = self.nodes[node].disk.shelf().block(height) else { break };
            if sent > 0 && sent + bytes.len() > SERVED.1 {
                break;
            }
            sent += bytes.len();
            self.transmit(node, usize::from(to.0), &Message::Block(bytes), 0)?;
        }
        self.transmit(node, usize::from(to.0), &Message::Served, 0)
    }

    fn event(&mut self, node: usize, event: Event) -> Verdict {
        self.say(format_args!("n{node} {}", show::event(&event)));
        self.checker.event(node, &event)?;
        match event {
            Event::Standing(Standing::Voting) => self.nodes[node].disk.rejoining = false,
            Event::Standing(Standing::Refused { .. }) => return self.refused(node),
            Event::Equivocation(_) => self.tally.one("equivocation seen"),
            Event::Refused { .. } => self.tally.one("proposals refused"),
            Event::Fault { .. } => self.tally.one("lies noticed"),
            Event::Disagreed { .. } => self.tally.one("disagreements on declarations"),
            _ => {}
        }
        Ok(())
    }

    /// An empty node in a ledger that exists: its operator says that it may come in.
    fn refused(&mut self, node: usize) -> Verdict {
        self.nodes[node].disk.rejoining = true;
        self.nodes[node].down = 100_000;
        self.tally.one("refused blank starts");
        if self.forgot_or_lie() > self.members.tolerates() {
            // More than the rules promise anything for: what is decided stays safe, no more.
            self.beyond = true;
        }
        self.crash(node)
    }
}

/// How many signatures hold a block.
pub fn signatures(executed: &Executed) -> usize {
    executed.block.certificate.signatures.len()
}
