//! Shadow mode: what the old feed did to the lines that this agent sealed.
//!
//! A site that moves from plain syslog sends a copy of its **old feed** here
//! while the agent seals the same lines. [`Matcher`] pairs both sides by what
//! they say, and tells for each period, an hour as a rule, which lines the old
//! way lost, altered, delivered twice, or carried although nobody sealed them.
//!
//! Pure, as the rest of this crate: time is an argument. It guarantees:
//!
//! - Every line of either side is counted once: as delivered, as one of the
//!   faults above, as undecided while its period is open, or as not compared,
//!   with the reason.
//! - Nothing is blamed on the old way that this agent may have missed itself.
//! - Memory is bounded, however long it runs and whatever arrives.
//!
//! | module | has |
//! |---|---|
//! | `forms` | what may be the line in a message of the old feed |
//! | `text` | what is kept of a line, and how much two lines are alike |
//! | `waiting`, `leftovers` | lines that wait for their like, and those that have none |
//! | `excuses` | what this agent missed itself |
//! | `recent` | what was delivered lately |
//! | `receipts` | how many lines are in the ledger |
//! | `matcher`, `decide` | the rules |
//! | `report`, `render` | what is told, to programs and to people |

mod decide;
mod excuses;
pub mod forms;
mod leftovers;
mod matcher;
mod receipts;
mod recent;
mod render;
mod report;
mod text;
mod waiting;

pub use matcher::{Matcher, Ours, Settings, Side};
pub use render::{Verdict, table};
pub use report::{
    Altered, Example, Examples, Feed, NotCompared, Reasons, Report, Sealed, State, Undecided,
};
