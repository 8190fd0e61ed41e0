//! Tails files, through rotation, truncation and restarts.
//!
//! What it guarantees: every line that was in a file while the file could be
//! read is handed over once, byte for byte, as often as the file is rotated,
//! renamed, deleted or created again, and whether the agent runs meanwhile or
//! not. The limits of this, each of which is counted and named in the log:
//!
//! - What is truncated before it was read is gone. `copytruncate` loses what was
//!   written between the last read and the truncation.
//! - A file that was rotated twice, or compressed, while the agent was down is
//!   found only if a pattern matches its new name, or if it was known before.
//! - So is a file that appeared and was rotated away again within a second.
//! - A file that was rewritten in place with the same first
//!   [`Fingerprint::MAX_LEN`](pipeline::line::Fingerprint::MAX_LEN) bytes and
//!   is not shorter than what was read looks as if it had only grown.
//!
//! Each source has a thread of its own. It holds back when the pipeline does,
//! and goes on opening new files meanwhile, so that a rotation under
//! back-pressure loses nothing either.

pub mod config;
mod file;
mod plan;
mod scan;
mod sent;
pub(super) mod split;
mod tailer;
mod watch;

use std::{io, sync::Arc, thread};

use pipeline::line::{FilePosition, SourceEvent};
use tokio::sync::{mpsc, oneshot};

pub use config::{Start, TailConfig, TailConfigError};

use super::{Shutdown, SourceStats};
use tailer::Tailer;

/// Starts to tail the files of one source in a thread of its own.
///
/// `known` are the positions that are durable from earlier runs. The thread
/// ends soon after `shutdown`, or when nobody receives from `tx` any more; what
/// was not handed over by then is read again the next time. It answers with the
/// positions to go on from.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] with a [`TailConfigError`] when the
/// configuration is wrong; others when the machine has no thread to give.
pub fn start(
    config: TailConfig,
    known: Vec<FilePosition>,
    tx: mpsc::Sender<SourceEvent>,
    shutdown: Shutdown,
    stats: Arc<SourceStats>,
) -> io::Result<oneshot::Receiver<Vec<FilePosition>>> {
    let name = format!("tail-{}", config.id.0);
    let positions = known.clone();
    let tailer = Tailer::new(config, known, tx, shutdown, stats)?;
    let (tell, ended) = oneshot::channel();
    thread::Builder::new().name(name).spawn(move || {
        // Only this thread's waiting for the channel, the clock and the stop needs a runtime.
        let reached = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime.block_on(tailer.run()),
            Err(error) => {
                tracing::error!(%error, "no file is tailed: the machine is out of files");
                positions
            }
        };
        // Whoever does not wait for it needs no positions.
        let _ = tell.send(reached);
    })?;
    Ok(ended)
}

#[cfg(test)]
mod tests;
