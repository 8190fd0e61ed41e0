//! Running worlds, and what became of them.

use crate::{
    check::Violation,
    world::{Tally, World},
};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

/// What became of a world.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Hash of its trace.
    pub trace: u64,
    /// What happened how often.
    pub tally: Tally,
    /// Equivocation in the ledger, by kind.
    pub convicted: BTreeMap<String, u64>,
    /// How nodes lied.
    pub lies: Vec<String>,
    /// What must never happen, if it did.
    pub violation: Option<Violation>,
    /// When it ended, in microseconds of its own time.
    pub ended: u64,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}
static HOOK: Once = Once::new();

/// Runs the world of a seed; prints its trace if that is wanted. A panic is a violation.
pub fn run(seed: u64, print: bool) -> Outcome {
    // The message is reported with the seed, once, instead of at once and without it.
    HOOK.call_once(|| {
        panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
    });
    let mut world = World::new(seed, print);
    let ran = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = match ran {
        Ok(verdict) => verdict.err(),
        Err(_) => Some(Violation(format!("PANIC: {}", PANIC.take().unwrap_or_default()))),
    };
    if let Some(Violation(what)) = &violation {
        world.say(format_args!("VIOLATION {what}"));
    }
    let lies = world.plan.liars.values().flatten().map(|lie| format!("{lie:?}")).collect();
    Outcome {
        seed,
        trace: world.trace.hash(),
        convicted: std::mem::take(&mut world.checker.convicted),
        tally: std::mem::take(&mut world.tally),
        lies,
        violation,
        ended: world.time,
    }
}

/// Many outcomes.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many worlds.
    pub seeds: u64,
    /// What happened how often, in all of them.
    pub tally: Tally,
    /// Equivocation in the ledgers, by kind.
    pub convicted: BTreeMap<String, u64>,
    /// Worlds in which a node lied in a way, by that way; and in how many of them a node
    /// contradicted itself towards one other, and was convicted.
    pub lies: BTreeMap<String, [u64; 3]>,
    /// What went wrong.
    pub violations: Vec<(u64, Violation)>,
    /// Virtual seconds.
    pub seconds: u64,
}

impl Summary {
    /// Adds an outcome.
    pub fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.seconds += outcome.ended / 1_000_000;
        let contradicted = outcome.tally.counts.get("contradictions").is_some_and(|n| *n > 0);
        let convicted = outcome.convicted.keys().any(|kind| kind != "seals");
        for lie in &outcome.lies {
            let [worlds, said, caught] = self.lies.entry(lie.clone()).or_default();
            *worlds += 1;
            *said += u64::from(contradicted);
            *caught += u64::from(contradicted && convicted);
        }
        for (what, count) in outcome.tally.counts {
            self.tally.add(what, count);
        }
        for (kind, count) in outcome.convicted {
            *self.convicted.entry(kind).or_default() += count;
        }
        if let Some(violation) = outcome.violation {
            self.violations.push((outcome.seed, violation));
        }
    }
}
