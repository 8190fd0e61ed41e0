//! Where lines come from: tailed files and syslog over TLS.
//!
//! A source sends [`SourceEvent`](pipeline::line::SourceEvent)s into one
//! bounded channel. It guarantees to the pipeline what [`pipeline::line`] says,
//! and to the operator: a slow pipeline slows the source down and never makes
//! it drop a line; whatever a source refuses, cuts or cannot read is counted in
//! [`SourceStats`] and named in the log; no fault of one file or one sender
//! disturbs another.

mod limiter;
pub mod stats;
pub mod syslog_tls;
pub mod tail;

pub use stats::SourceStats;

use std::time::{SystemTime, UNIX_EPOCH};

use record::UnixMillis;
use tokio::sync::watch;

/// Tells sources to stop: `true`, or a sender that is gone.
pub type Shutdown = watch::Receiver<bool>;

/// Up to this many bytes of lines, the source collects them into one chunk.
/// Only a line that is longer makes a longer chunk.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Waits until the sources are to stop.
async fn stopped(shutdown: &mut Shutdown) {
    // An error says that nobody is left who could ask for anything.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// The agent's clock. Before 1970 it is 1970.
fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}
