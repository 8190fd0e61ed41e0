//! Where lines come from: tailed files, senders of syslog, programs of this machine.
//!
//! A source sends [`SourceEvent`]s into one
//! bounded channel. It guarantees to the pipeline what [`pipeline::line`] says,
//! and to the operator: a slow pipeline slows the source down and never makes
//! it drop a line; whatever a source refuses, cuts or cannot read is counted in
//! [`SourceStats`] and named in the log; no fault of one file or one sender
//! disturbs another.

mod datagram;
pub mod entrance;
mod gather;
pub mod journald;
mod limiter;
pub mod listener;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod relp;
pub mod stats;
pub mod stdin;
pub mod syslog_tls;
pub mod tail;
pub mod udp;
pub mod unix;

pub use stats::SourceStats;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use pipeline::line::{FilePosition, SourceEvent, SourceId};
use record::UnixMillis;
use tokio::sync::{mpsc, watch};

use crate::tickets::Tickets;

/// Tells a source how far its life has come.
pub type Shutdown = watch::Receiver<Phase>;

/// How far the life of a source has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It works.
    #[default]
    Run,
    /// Another takes its place: it lets nobody new in, goes on with the senders it has, and ends
    /// when they have gone.
    Retire,
    /// It hands over what it has and ends.
    Stop,
}

/// What a source works with.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// The source.
    pub id: SourceId,
    /// Where its events go.
    pub events: mpsc::Sender<SourceEvent>,
    /// Tells it to end.
    pub shutdown: Shutdown,
    /// What it counts.
    pub stats: Arc<SourceStats>,
    /// Whom it asks what is durable.
    pub tickets: Tickets,
}

/// What a source remembers of earlier runs. When it ends it answers with the same, so that it
/// can go on in this run: by then everything in it was handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// How far it came in files.
    pub files: Vec<FilePosition>,
    /// Its bookmarks: names and values.
    pub bookmarks: Vec<(Arc<[u8]>, Vec<u8>)>,
}

/// Up to this many bytes of lines, the source collects them into one chunk.
/// Only a line that is longer makes a longer chunk.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Waits until the source is to stop.
async fn stopped(shutdown: &mut Shutdown) {
    reached(shutdown, Phase::Stop).await;
}

/// Waits for a phase, or one behind it.
async fn reached(shutdown: &mut Shutdown, phase: Phase) {
    // An error says that nobody is left who could ask for anything.
    let _ = shutdown.wait_for(|now| *now >= phase).await;
}

/// The agent's clock. Before 1970 it is 1970.
fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}
