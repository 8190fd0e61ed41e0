//! Shadow mode: runs beside an old syslog feed and reports, period by period,
//! what the old way lost, altered or duplicated ([`pipeline::shadow`] has the rules).
//!
//! ```text
//! seal thread ──lines and numbers──► keeper (thread) ──► dir/2026-11-21T10.json, .txt
//! copy of the old feed: udp (thread), tcp (tasks), file (tail) ──messages──┘
//! ```
//!
//! What it guarantees: it never holds the agent back and never ends it. What it
//! does not keep up with is counted as not compared. Lines of the old feed are
//! neither sealed nor sent anywhere; some stand, shortened, in the reports.

mod behind;
mod file;
pub mod folder;
mod inlet;
mod keeper;
mod late;
mod tcp;
mod udp;

use std::{io, net::SocketAddr, thread::JoinHandle};

use pipeline::line::LineSpan;
use tokio::sync::mpsc;

use crate::{
    board::Board,
    config::{Config, ShadowConfig},
    metrics::Metrics,
    shadow::{behind::Behind, keeper::Keeper},
};

pub use inlet::Inlet;

/// How many groups of messages wait for the keeper, at most. One has up to 256 KiB, or one message.
const MAX_GROUPS: usize = 32;

/// Up to this many bytes, messages are put into one group.
const GROUP_BYTES: usize = 256 << 10;

/// What the old feed brings.
#[derive(Debug)]
enum Delivery {
    /// Messages, at least one.
    Messages(Messages),
    /// A sender was turned away or cut off here: nobody knows how many messages are missing.
    Missed,
}

/// Some messages of the old feed.
#[derive(Debug, Default)]
struct Messages {
    bytes: Vec<u8>,
    lines: Vec<LineSpan>,
}

impl Messages {
    fn push(&mut self, message: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(message);
        let end = self.bytes.len() as u32;
        self.lines.push(LineSpan { start, end, next: end });
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= GROUP_BYTES || self.lines.len() >= 4096
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(|line| line.of(&self.bytes))
    }
}

/// Shadow mode cannot run; the agent goes on without it.
#[derive(Debug, thiserror::Error)]
enum ShadowError {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {0} for a copy of the old feed: {1}: change shadow.udp or shadow.tcp"
    )]
    Bind(SocketAddr, #[source] io::Error),
    /// The folder for reports.
    #[error("cannot keep reports: {0}")]
    Folder(#[from] folder::FolderError),
    /// Machine.
    #[error("cannot start a thread: {0}")]
    Machine(#[from] io::Error),
}

/// Starts shadow mode, if it is configured. The thread ends when the inlet is gone. What hinders it is
/// logged: evidence does not wait for a comparison.
pub fn start(config: &Config, board: &Board, metrics: &Metrics) -> Option<(Inlet, JoinHandle<()>)> {
    let shadow = config.shadow.as_ref()?;
    let started = start_keeper(config, shadow, board, metrics);
    started
        .inspect_err(|error| {
            tracing::error!(%error, "shadow mode does not run; the agent goes on without it");
        })
        .ok()
}

fn start_keeper(
    config: &Config,
    shadow: &ShadowConfig,
    board: &Board,
    metrics: &Metrics,
) -> Result<(Inlet, JoinHandle<()>), ShadowError> {
    let folder = folder::Folder::open(&shadow.dir, shadow.settings.period_s)?;
    let udp = shadow.udp.map(|address| udp::bind(address, shadow.receive_buffer)).transpose()?;
    let tcp = shadow.tcp.map(tcp::bind).transpose()?;
    let (sender, deliveries) = mpsc::channel(MAX_GROUPS);
    let (inlet, sealed) = Inlet::new(shadow, config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let behind = Behind::new(board.clone(), metrics.clone(), shadow.sources.clone());
    let agent = config.name.to_string();
    let keeper = Keeper::new(agent, shadow.clone(), folder, behind, metrics.clone());
    let file = shadow.file.clone();
    let thread = std::thread::Builder::new().name("shadow".into()).spawn(move || {
        runtime.block_on(async move {
            let udp = udp.and_then(|socket| log("udp", udp::start(socket, sender.clone())));
            if let Some(listener) = tcp {
                tokio::spawn(tcp::serve(listener, sender.clone()));
            }
            let file = file.and_then(|path| log("file", file::start(path, sender.clone())));
            drop(sender);
            keeper.run(sealed, deliveries, udp.as_ref()).await;
            drop((udp, file));
        });
    })?;
    Ok((inlet, thread))
}

fn log<T>(what: &'static str, started: io::Result<T>) -> Option<T> {
    let failed = |error: &io::Error| tracing::error!(%error, "shadow.{what} does not run");
    started.inspect_err(failed).ok()
}
