//! Tails files, through rotation, truncation and restarts.
//!
//! What it guarantees: every line that was in a file while the file could be
//! read is handed over once, byte for byte, as often as the file is rotated,
//! renamed, deleted or created again, and whether the agent runs meanwhile or
//! not. That holds also
//!
//! - for what was not read before a truncation, if a copy was made first
//!   (`copytruncate`): it is read in the copy, and no copy is read twice;
//! - for files that are compressed (gzip, zstd), or moved to another disk,
//!   before they were read to their end;
//! - for files that came and were rotated away unseen, if their names are
//!   those of rotated files and are newer than that of one that is known.
//!
//! Whatever is not read is counted and named in the log. The limits:
//!
//! - What is truncated unread, without a copy in a directory that a pattern leads
//!   to, is gone. So is what is deleted while the agent is down, and what is
//!   compressed in another way.
//! - A file that was never seen before it was rotated away under a name that no
//!   pattern matches is found only as said above: not on the first rotation
//!   ever, and not if its name is no number or date.
//! - A file that was truncated, or whose inode was given to another, while the
//!   agent was down, is taken for having grown if the first
//!   [`Fingerprint::MAX_LEN`](pipeline::line::Fingerprint::MAX_LEN) bytes are the
//!   same and it is not shorter than what was read. While the agent runs, the
//!   bytes that were read last tell.
//! - If several files could be the copy, and differ, none is read.
//! - A copy of a file that goes on is recognised by its name, which must go on from
//!   that of the file (`a.log.1`, `a.log-copy`), and is remembered once it has been
//!   quiet for the grace time.
//! - Compressed files that a pattern matches are read only for what is known to be
//!   unread in them. A file that begins as a compressed one does counts as one.
//! - A line whose line feed is missing at the end of a file that a pattern
//!   matches waits for it until the file is renamed out of the pattern or deleted.
//!
//! Each source has a thread of its own. It holds back when the pipeline does,
//! and goes on opening new files meanwhile, so that a rotation under
//! back-pressure loses nothing either.

mod body;
pub mod config;
mod file;
mod heir;
mod names;
mod plan;
mod scan;
mod sent;
mod split;
mod tailer;
mod trouble;
mod watch;

use std::{io, sync::Arc, thread};

use pipeline::line::{FilePosition, SourceEvent};
use tokio::sync::{mpsc, oneshot};

pub use config::{Start, TailConfig, TailConfigError, Watch};

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
