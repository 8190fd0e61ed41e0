//! A fuzz target for every decoder: bytes from anywhere go in, and nothing may panic, take
//! memory without bound, or be read in a way that its writer would not write.
//!
//! ```text
//! cargo xtask fuzz                          every target for 60 seconds
//! cargo xtask fuzz --seconds 600 entry      one of them for longer
//! cargo xtask fuzz --keep                   and write what is worth keeping to fuzz/corpus
//! ```
//!
//! A C++ compiler is needed, and nothing else. What is found lands below the build's folder; the
//! report says where, and how to see it again. What a target finds becomes an ordinary test of its
//! crate, and the input is kept as `fuzz/corpus/<target>/found-<what>`. `fuzz/seeds` holds the
//! worked examples of `docs/formats.md` and lines of every gateway, `fuzz/corpus` few small inputs
//! that reach what those do not. An ordinary test runs each target on all of them.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod agent;
mod evidence;
mod folders;
mod outside;
mod storage;

pub use agent::{extract, otlp, pipeline, relp, shadow, syslog_frames};
pub use evidence::{batch, checkpoint, enrolment, entry, note, policy, tlog_proof, vkey};
pub use folders::{export_files, export_manifest, range_proof, snapshot};
pub use outside::{add_checkpoint, follow, monitor_state};
pub use storage::{
    base, block, block_header, declaration, equivocation, frame, journal_offsets, journal_scan,
    message, spool,
};

use record::{AgentName, Origin, UnixSeconds, crypto::SigningKey};
use zeroize::Zeroizing;

/// A target: bytes from anywhere go in, and a panic is a finding.
pub type Target = fn(&[u8]);

/// All targets by their names in `Cargo.toml`.
pub const TARGETS: &[(&str, Target)] = &[
    ("add_checkpoint", add_checkpoint),
    ("base", base),
    ("batch", batch),
    ("block", block),
    ("block_header", block_header),
    ("checkpoint", checkpoint),
    ("declaration", declaration),
    ("enrolment", enrolment),
    ("entry", entry),
    ("equivocation", equivocation),
    ("export_files", export_files),
    ("export_manifest", export_manifest),
    ("extract", extract),
    ("follow", follow),
    ("frame", frame),
    ("journal_offsets", journal_offsets),
    ("journal_scan", journal_scan),
    ("message", message),
    ("monitor_state", monitor_state),
    ("note", note),
    ("otlp", otlp),
    ("pipeline", pipeline),
    ("policy", policy),
    ("range_proof", range_proof),
    ("relp", relp),
    ("shadow", shadow),
    ("snapshot", snapshot),
    ("spool", spool),
    ("syslog_frames", syslog_frames),
    ("tlog_proof", tlog_proof),
    ("vkey", vkey),
];

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
