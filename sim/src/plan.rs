//! What will go wrong in a world, all of it drawn from the seed before the world begins.

use crate::{net::Weather, rng::Rng};
use record::{FaultModel, declaration::MIN_RETENTION_DAYS};
use std::collections::BTreeMap;

const SECOND: u64 = 1_000_000;

/// How a node lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// It votes for different things towards different nodes.
    Vote,
    /// It makes two proposals in one round.
    Proposal,
    /// It proposes blocks with a root they do not lead to.
    Root,
    /// It proposes batches and does not show them.
    Withhold,
    /// Its clock is far off.
    Time,
    /// It says again what it and others said.
    Replay,
    /// It serves blocks that were not decided, or none.
    Sync,
    /// It says nothing.
    Silent,
    /// It claims to be where it is not.
    Status,
    /// It cosigns two roots at one size.
    Cosign,
    /// It sends noise.
    Noise,
    /// It lies about what it gave up and what it keeps of that. Only worlds that grow old have it.
    Base,
}

impl Lie {
    /// All of them, but for those of worlds that grow old.
    pub const ALL: [Lie; 11] = [
        Lie::Vote,
        Lie::Proposal,
        Lie::Root,
        Lie::Withhold,
        Lie::Time,
        Lie::Replay,
        Lie::Sync,
        Lie::Silent,
        Lie::Status,
        Lie::Cosign,
        Lie::Noise,
    ];
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// A process ends after so many more steps, and starts again after `down` microseconds.
    Crash { node: usize, steps: u32, down: u64 },
    /// All processes end at once.
    CrashAll { down: u64 },
    /// The next write fails, which ends the process.
    FailWrite { node: usize },
    /// The disk is full for a while.
    Full { node: usize, lasts: u64 },
    /// A process ends and its disk is lost.
    Wipe { node: usize, down: u64 },
    /// A bit of a stored block flips, and is found at the next start.
    Flip { node: usize },
    /// A connection breaks.
    Break { a: usize, b: usize },
    /// Nodes of the mask cannot reach the others for a while.
    Partition { mask: u64, lasts: u64 },
    /// The network gets bad in one direction.
    Storm { from: usize, to: usize, weather: Weather },
    /// A wall clock jumps by milliseconds.
    Jump { node: usize, by: i64 },
    /// An agent starts again.
    Agent { agent: usize },
    /// All clocks, and the world, are so many days later.
    Age { days: u64 },
    /// An operator declares something at a node.
    Declare { node: usize, what: Declare },
    /// A disk loses something that was durable.
    Rot { node: usize, what: Rotten },
}

/// What an operator declares.
#[derive(Clone, Copy, Debug)]
pub enum Declare {
    /// A drill.
    Drill,
    /// Old entries go: so many thousandths of the blocks that may.
    Prune { permille: u64, days: u32 },
    /// What no node may agree to.
    Wrong(u64),
}

/// What a disk loses.
#[derive(Clone, Copy, Debug)]
pub enum Rotten {
    /// A block: where it stands, in thousandths.
    Block { permille: u64 },
    /// The base.
    Base,
    /// Leaf hashes.
    Leaves,
}

/// A world, before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// What they may do at worst.
    pub model: FaultModel,
    /// Who lies, and how.
    pub liars: BTreeMap<usize, Vec<Lie>>,
    /// How many agents.
    pub agents: usize,
    /// The agent that seals twice.
    pub splitter: Option<usize>,
    /// How long between two seals of an agent, in microseconds.
    pub pace: u64,
    /// How many inputs are handled before outputs are carried out.
    pub together: u64,
    /// What goes wrong when, in microseconds; in order.
    pub faults: Vec<(u64, Fault)>,
    /// When faults stop.
    pub calm: u64,
    /// How many days each node keeps entries for.
    pub retention: Vec<u32>,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(rng: &mut Rng) -> Self {
        let (nodes, model) = size(rng);
        let tolerated = model.tolerates(nodes);
        let mut plan = Plan {
            nodes,
            model,
            liars: BTreeMap::new(),
            agents: rng.within(1..4) as usize,
            splitter: None,
            pace: rng.pick(&[120_000, 300_000, 700_000]),
            together: rng.pick(&[1, 1, 4, 16]),
            faults: vec![],
            calm: rng.within(15..30) * SECOND,
            retention: vec![MIN_RETENTION_DAYS; nodes],
        };
        if rng.permille(250) {
            plan.splitter = Some(rng.index(plan.agents));
        }
        if model == FaultModel::Byzantine && tolerated > 0 && rng.permille(750) {
            plan.draw_liars(rng, tolerated);
        }
        plan.draw_faults(rng);
        plan
    }

    fn draw_liars(&mut self, rng: &mut Rng, tolerated: usize) {
        for _ in 0..rng.within(1..tolerated as u64 + 1) {
            let node = rng.index(self.nodes);
            let mut lies = vec![rng.pick(&Lie::ALL)];
            if rng.permille(400) {
                lies.push(rng.pick(&Lie::ALL));
            }
            self.liars.insert(node, lies);
        }
    }

    fn draw_faults(&mut self, rng: &mut Rng) {
        let count = rng.pick(&[0, 5, 15, 40]);
        let (stormy, brittle) = (rng.permille(400), rng.permille(200));
        for _ in 0..if brittle { 100 } else { count } {
            let at = rng.within(SECOND / 10..self.calm);
            let fault = if brittle {
                let (node, down) = (rng.index(self.nodes), rng.pick(&[20_000, 20_000, 300_000]));
                Fault::Crash { node, steps: rng.within(1..60) as u32, down }
            } else {
                self.draw(rng, stormy)
            };
            self.faults.push((at, fault));
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }

    fn draw(&self, rng: &mut Rng, stormy: bool) -> Fault {
        let node = rng.index(self.nodes);
        let down = rng.pick(&[20_000, 300_000, 2 * SECOND, 6 * SECOND]);
        match rng.within(0..100) {
            0..25 => Fault::Crash { node, steps: rng.within(0..200) as u32, down },
            25..30 => Fault::CrashAll { down },
            30..36 => Fault::FailWrite { node },
            36..42 => Fault::Full { node, lasts: rng.within(SECOND / 10..5 * SECOND) },
            42..48 => Fault::Wipe { node, down },
            48..52 => Fault::Flip { node },
            52..66 => Fault::Break { a: node, b: rng.index(self.nodes) },
            66..76 => {
                let mask = rng.within(1..(1 << self.nodes));
                Fault::Partition { mask, lasts: rng.within(SECOND / 5..8 * SECOND) }
            }
            76..86 => {
                Fault::Storm { from: node, to: rng.index(self.nodes), weather: storm(rng, stormy) }
            }
            86..94 => Fault::Jump { node, by: rng.within(0..8000) as i64 - 4000 },
            _ => Fault::Agent { agent: rng.index(self.agents) },
        }
    }
}

fn size(rng: &mut Rng) -> (usize, FaultModel) {
    match rng.within(0..100) {
        0..5 => (1, FaultModel::Byzantine),
        5..12 => (3, FaultModel::Byzantine),
        12..27 => (3, FaultModel::Crash),
        27..32 => (5, FaultModel::Crash),
        32..85 => (4, FaultModel::Byzantine),
        _ => (7, FaultModel::Byzantine),
    }
}

fn storm(rng: &mut Rng, stormy: bool) -> Weather {
    let slow = Weather {
        delay: rng.within(300..50_000),
        jitter: rng.within(0..200_000),
        lost: 0,
        repeated: 0,
        reordered: 0,
    };
    if !stormy {
        return slow;
    }
    let (lost, repeated) = (rng.pick(&[0, 10, 100, 500, 1000]), rng.pick(&[0, 20, 200]));
    Weather { lost, repeated, reordered: rng.pick(&[0, 50, 300]), ..slow }
}
