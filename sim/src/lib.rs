//! The simulator: the ledger's replicas, as they are, in a world that is made up from a seed.
//!
//! A world has one queue of what happens next, in virtual microseconds, and
//! one source of chance. So the same seed is the same world, to the last bit,
//! and a failure can be looked at again. What is simulated is what a node's
//! driver stands on: network, disk, clocks; and who acts on it: agents that
//! fail over, and nodes that lie. [`check`] has what must never happen.
//!
//! Exists under the feature `byzantine` only, which a build of the whole
//! workspace does not have: it puts the means to lie into the replica.
#![cfg(feature = "byzantine")]

mod agent;
mod aging;
mod base;
mod cast;
mod check;
mod clock;
mod disk;
mod drive;
mod faults;
mod liar;
mod net;
mod node;
mod past;
mod plan;
mod prune;
mod report;
mod rng;
mod serve;
mod show;
mod trace;
mod world;

pub use report::{Outcome, Summary, run};
