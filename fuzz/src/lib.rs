//! A fuzz target for every decoder: bytes from anywhere go in, and nothing may panic, take
//! memory without bound, or be read in a way that its writer would not write.
//!
//! ```text
//! cargo install cargo-fuzz
//! RUSTC_BOOTSTRAP=1 cargo fuzz list
//! RUSTC_BOOTSTRAP=1 cargo fuzz run entry fuzz/corpus/entry fuzz/seeds/entry -- -max_total_time=60
//! RUSTC_BOOTSTRAP=1 cargo fuzz run entry fuzz/artifacts/entry/crash-…     again, what was found
//! ```
//!
//! A C++ compiler is needed; `RUSTC_BOOTSTRAP=1` makes the stable Rust compiler do. What is found
//! lands in `fuzz/corpus` and `fuzz/artifacts`, which are not kept; `fuzz/seeds` holds the worked
//! examples of `docs/formats.md`. What a target finds becomes an ordinary test of its crate.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod agent;
mod evidence;
mod storage;

pub use agent::{extract, otlp, pipeline, relp, shadow, syslog_frames};
pub use evidence::{batch, checkpoint, enrolment, entry, note, policy, tlog_proof, vkey};
pub use storage::{block, block_header, equivocation, frame, journal_scan, message, spool};

use record::{AgentName, Origin, UnixSeconds, crypto::SigningKey};
use zeroize::Zeroizing;

/// The time of everything that is sealed here.
const NOW: UnixSeconds = UnixSeconds(1_795_248_147);

fn origin() -> Origin {
    "l.example/x".parse().expect("an origin")
}

fn agent() -> AgentName {
    "gw01".parse().expect("a name")
}

fn key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([4; 32]))
}
