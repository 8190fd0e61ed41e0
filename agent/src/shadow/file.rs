//! Reads the file that the old server writes, from its end at the agent's start.

use std::{io, sync::Arc};

use pipeline::line::{SourceEvent, SourceId};
use tokio::sync::{mpsc, watch};

use super::{Delivery, Messages};
use crate::sources::{
    Phase, SourceStats,
    tail::{self, Start, TailConfig},
};

/// How many chunks wait, at most.
const MAX_CHUNKS: usize = 4;

/// A file that is read. Reading ends when it is dropped.
#[derive(Debug)]
pub(super) struct Reading {
    _phase: watch::Sender<Phase>,
}

pub(super) fn start(path: String, deliveries: mpsc::Sender<Delivery>) -> io::Result<Reading> {
    let (phase, shutdown) = watch::channel(Phase::Run);
    let (sender, mut events) = mpsc::channel(MAX_CHUNKS);
    let mut config = TailConfig::new(SourceId(u16::MAX), [path]);
    config.start = Start::End;
    // What was written while the agent was away is not compared: its own listeners were away, too.
    drop(tail::start(config, Vec::new(), sender, shutdown, Arc::new(SourceStats::default()))?);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let SourceEvent::Chunk(chunk) = event else { continue };
            let messages = Messages { bytes: chunk.bytes, lines: chunk.lines };
            if deliveries.send(Delivery::Messages(messages)).await.is_err() {
                return;
            }
        }
    });
    Ok(Reading { _phase: phase })
}
