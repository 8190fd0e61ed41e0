//! Looking at everything a store holds, and saying what is not as it should be.
//!
//! A [`Segment`](journal::Segment) becomes [`Item`]s: facts about each block, found without knowing
//! any other, so that segments can be looked at side by side. A [`Checker`] takes the items in order and
//! knows what follows from what: the chain of blocks, the roots, the logs of agents. It goes on behind
//! whatever is damaged, so that all of it is named.

mod chain;
mod facts;
mod fault;
mod pruned;

pub use chain::{Checker, Depth, Totals};
pub use facts::{BlockFacts, Item, items};
pub use fault::{Fault, FaultKind, Mend};
pub use pruned::is_signed;
