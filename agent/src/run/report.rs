//! Answers what the agent is doing, from what its parts count.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use record::{UnixMillis, UnixSeconds};

use crate::{
    board::{Board, Entry},
    config::Config,
    control::{LogStatus, NodeStatus, SourceStatus, SpoolStatus, Status, UplinkStatus},
    metrics::{HELD_BY_DISK, HELD_BY_LIMIT, Metrics, NodeLabel, ReasonLabel},
    pulse::{Pulse, bounded},
    sources::SourceStats,
};

/// What an answer is made of.
pub(super) struct Reporter {
    /// Everything that never changes.
    fixed: Status,
    started: Instant,
    waiting: Arc<AtomicBool>,
    metrics: Metrics,
    board: Board,
    pulse: Pulse,
}

impl Reporter {
    /// `waiting` is true while the agent waits for the ledger to know it.
    pub(super) fn new(
        config: &Config,
        waiting: Arc<AtomicBool>,
        metrics: Metrics,
        board: Board,
        pulse: Pulse,
    ) -> Self {
        let node = |node: &crate::config::NodeAddress| NodeStatus {
            address: node.to_string(),
            connected: false,
            problem: None,
        };
        let fixed = Status {
            agent: config.name.to_string(),
            ledger: config.origin.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_s: 0,
            waiting_for_enrolment: false,
            certificate_expires: None,
            log: LogStatus { sealed: 0, receipted: 0, rate: 0.0 },
            spool: SpoolStatus {
                dir: config.spool.dir.clone(),
                bytes: 0,
                limit_bytes: config.spool.max_bytes,
                records_waiting: 0,
                lasts_s: None,
                held_back: None,
            },
            uplink: UplinkStatus {
                nodes: config.nodes.iter().map(node).collect(),
                in_flight: 0,
                last_receipt: None,
            },
            sources: Vec::new(),
        };
        Reporter { fixed, started: Instant::now(), waiting, metrics, board, pulse }
    }

    /// The answer, now.
    pub(super) fn status(&self) -> Status {
        let mut status = self.fixed.clone();
        let metrics = &self.metrics;
        status.uptime_s = self.started.elapsed().as_secs();
        status.waiting_for_enrolment = self.waiting.load(Relaxed);
        status.certificate_expires = seconds(metrics.certificate_expires.get());
        status.log.sealed = metrics.records_sealed.get();
        status.log.receipted = metrics.records_receipted.get();
        status.log.rate = round(self.pulse.records_per_second());
        let spool = &mut status.spool;
        spool.bytes = unsigned(metrics.spool_bytes.get());
        spool.records_waiting = unsigned(metrics.spool_records_waiting.get());
        spool.lasts_s = bounded(metrics.spool_lasts_seconds.get());
        spool.held_back = [HELD_BY_DISK, HELD_BY_LIMIT]
            .into_iter()
            .find(|reason| metrics.held_back.get_or_create(&ReasonLabel { reason }).get() == 1)
            .map(Into::into);
        let uplink = &mut status.uplink;
        uplink.in_flight = unsigned(metrics.uplink_in_flight.get());
        uplink.last_receipt = seconds(metrics.last_receipt.get());
        for node in &mut uplink.nodes {
            let label = NodeLabel { node: node.address.clone() };
            node.connected = metrics.uplink_connected.get_or_create(&label).get() == 1;
            node.problem = self.board.problem(&node.address);
        }
        let entries = self.board.entries().into_iter();
        status.sources = entries.map(|(name, entry)| self.source(name, &entry)).collect();
        status
    }

    fn source(&self, name: String, entry: &Entry) -> SourceStatus {
        let SourceStats { files, .. } = &*entry.stats;
        let files = files.lock().unwrap_or_else(PoisonError::into_inner);
        let files = files.clone();
        let read = |counter: fn(&SourceStats) -> &AtomicU64| counter(&entry.stats).load(Relaxed);
        let time = |ms: u64| (ms > 0).then(|| UnixMillis(ms).to_string());
        SourceStatus {
            kind: entry.kind.into(),
            from: entry.from.clone(),
            failure: entry.failure.clone(),
            lines: read(|s| &s.lines),
            bytes: read(|s| &s.bytes),
            rate: round(self.pulse.lines_per_second(&name)),
            lag_bytes: read(|s| &s.lag_bytes),
            last_line: time(read(|s| &s.last_line_ms)),
            last_receipt: time(read(|s| &s.last_receipt_ms)),
            connections: read(|s| &s.open_connections),
            refused: read(|s| &s.refused_connections),
            read_errors: read(|s| &s.read_errors),
            unreadable: read(|s| &s.unreadable_paths),
            lost: read(|s| &s.lost_files) + read(|s| &s.partial_messages),
            files,
            name,
        }
    }
}

fn unsigned(gauge: i64) -> u64 {
    u64::try_from(gauge).unwrap_or(0)
}

fn seconds(gauge: i64) -> Option<String> {
    let seconds = u64::try_from(gauge).ok().filter(|seconds| *seconds > 0)?;
    Some(UnixSeconds(seconds).to_string())
}

fn round(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}
