//! Every metric of the agent, in one closed list.
//!
//! Names are part of the agent's interface: dashboards and alarms are built on
//! them. All begin with `logseal_agent_`; counters end in `_total`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};

use crate::{board::Board, sources::SourceStats};

/// Bounds from 1 ms to 60 s: where latencies are expected to lie, each is 1 ms or a twentieth above
/// the one before it, so that a quantile read from them is as good as measured.
fn seconds() -> impl Iterator<Item = f64> {
    let millis = (1..=60).chain((62..=100).step_by(2)).chain((105..=250).step_by(5));
    let slow = [275, 300, 350, 400, 500, 600, 750, 1000, 1500, 2000, 3000, 5000, 10_000, 20_000];
    let millis = millis.chain(slow).chain([30_000, 60_000]);
    millis.map(|millis: u32| f64::from(millis) / 1000.0)
}

/// Labels with a node's address as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NodeLabel {
    /// `host:port`.
    pub node: String,
}

/// Labels with one of a closed list of words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// The word.
    pub reason: &'static str,
}

/// The agent's metrics. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// `records_sealed_total`.
    pub records_sealed: Counter,
    /// `batches_sealed_total`, heartbeats included.
    pub batches_sealed: Counter,
    /// `records_receipted_total`.
    pub records_receipted: Counter,
    /// `batches_receipted_total`, heartbeats included.
    pub batches_receipted: Counter,
    /// `receipts_refused_total`.
    pub receipts_refused: Counter,
    /// `receipt_seconds`.
    pub receipt_seconds: Latency,
    /// `seal_to_receipt_seconds`.
    pub seal_to_receipt_seconds: Latency,
    /// `spool_bytes`.
    pub spool_bytes: Gauge,
    /// `spool_limit_bytes`.
    pub spool_limit_bytes: Gauge,
    /// `spool_records_waiting`.
    pub spool_records_waiting: Gauge,
    /// `spool_written_bytes_total`.
    pub spool_written_bytes: Counter,
    /// `spool_lasts_seconds`.
    pub spool_lasts_seconds: Gauge,
    /// `spool_syncs_total`.
    pub spool_syncs: Counter,
    /// `held_back`, by reason: `limit` or `disk-full`.
    pub held_back: Family<ReasonLabel, Gauge>,
    /// `held_back_seconds_total`.
    pub held_back_seconds: Counter<f64, AtomicU64>,
    /// `uplink_connected`, by node.
    pub uplink_connected: Family<NodeLabel, Gauge>,
    /// `uplink_connections_total`, by node.
    pub uplink_connections: Family<NodeLabel, Counter>,
    /// `uplink_problems_total`, by reason.
    pub uplink_problems: Family<ReasonLabel, Counter>,
    /// `uplink_last_receipt_seconds`.
    pub last_receipt: Gauge,
    /// `uplink_in_flight`.
    pub uplink_in_flight: Gauge,
    /// `certificate_expires_seconds`.
    pub certificate_expires: Gauge,
    /// `receipted_size`.
    pub receipted_size: Gauge,
    /// `shadow_…`.
    pub shadow: ShadowMetrics,
}

/// What shadow mode found out about the old feed.
#[derive(Clone, Debug, Default)]
pub struct ShadowMetrics {
    /// `shadow_delivered_total`.
    pub delivered: Counter,
    /// `shadow_lost_total`.
    pub lost: Counter,
    /// `shadow_altered_total`.
    pub altered: Counter,
    /// `shadow_duplicated_total`.
    pub duplicated: Counter,
    /// `shadow_only_there_total`.
    pub only_there: Counter,
    /// `shadow_not_compared_total`.
    pub not_compared: Counter,
    /// `shadow_dropped_here_total`.
    pub dropped_here: Counter,
}

/// A histogram of seconds.
#[derive(Clone, Debug)]
pub struct Latency(pub Histogram);

impl Default for Latency {
    fn default() -> Self {
        Latency(Histogram::new(seconds()))
    }
}

impl Metrics {
    /// A registry with all metrics in it, those of the sources included.
    pub fn registry(&self, sources: Board) -> Registry {
        let mut all = Registry::with_prefix("logseal_agent");
        self.register_log(&mut all);
        self.register_spool(&mut all);
        self.register_uplink(&mut all);
        self.shadow.register(&mut all);
        all.register_collector(Box::new(Sources(sources)));
        all
    }

    fn register_log(&self, all: &mut Registry) {
        all.register("records_sealed", "Records sealed into batches", self.records_sealed.clone());
        all.register(
            "batches_sealed",
            "Batches sealed, heartbeats included",
            self.batches_sealed.clone(),
        );
        all.register(
            "records_receipted",
            "Records in the ledger, by receipts that were verified",
            self.records_receipted.clone(),
        );
        all.register(
            "batches_receipted",
            "Batches in the ledger, by receipts that were verified",
            self.batches_receipted.clone(),
        );
        all.register(
            "receipts_refused",
            "Receipts that did not verify: the node that gave one is at fault",
            self.receipts_refused.clone(),
        );
        all.register(
            "receipt_seconds",
            "From the time a batch's first line was received to its verified receipt",
            self.receipt_seconds.0.clone(),
        );
        all.register(
            "seal_to_receipt_seconds",
            "From the time a batch was sealed to its verified receipt",
            self.seal_to_receipt_seconds.0.clone(),
        );
    }

    fn register_spool(&self, all: &mut Registry) {
        all.register("spool_bytes", "Bytes of the spool", self.spool_bytes.clone());
        all.register(
            "spool_limit_bytes",
            "Bytes of the spool above which sources are held back",
            self.spool_limit_bytes.clone(),
        );
        all.register(
            "spool_records_waiting",
            "Records in the spool without a verified receipt",
            self.spool_records_waiting.clone(),
        );
        all.register(
            "spool_written_bytes",
            "Bytes written to the spool",
            self.spool_written_bytes.clone(),
        );
        all.register(
            "spool_lasts_seconds",
            "For how long the spool has room if no receipt comes, at the rate of the last minutes; \
             ten years when hardly anything is written",
            self.spool_lasts_seconds.clone(),
        );
        all.register("spool_syncs", "Group writes made durable", self.spool_syncs.clone());
        all.register(
            "held_back",
            "1 while sources are held back for this reason",
            self.held_back.clone(),
        );
        all.register(
            "held_back_seconds",
            "For how long sources were held back",
            self.held_back_seconds.clone(),
        );
        for reason in [HELD_BY_LIMIT, HELD_BY_DISK] {
            drop(self.held_back.get_or_create(&ReasonLabel { reason }));
        }
    }

    fn register_uplink(&self, all: &mut Registry) {
        all.register(
            "uplink_connected",
            "1 while batches are handed to this node",
            self.uplink_connected.clone(),
        );
        all.register(
            "uplink_connections",
            "Connections to this node that it accepted",
            self.uplink_connections.clone(),
        );
        all.register(
            "uplink_problems",
            "Attempts and connections that ended for this reason",
            self.uplink_problems.clone(),
        );
        all.register(
            "uplink_last_receipt_seconds",
            "When the last receipt was verified, seconds since 1970; 0 before the first",
            self.last_receipt.clone(),
        );
        all.register(
            "uplink_in_flight",
            "Batches handed over and not answered yet",
            self.uplink_in_flight.clone(),
        );
        all.register(
            "certificate_expires_seconds",
            "The last second of the agent's certificate, seconds since 1970",
            self.certificate_expires.clone(),
        );
        all.register(
            "receipted_size",
            "Records of the log in front of the first without a verified receipt",
            self.receipted_size.clone(),
        );
    }
}

impl ShadowMetrics {
    fn register(&self, all: &mut Registry) {
        for (name, help, counter) in [
            ("shadow_delivered", "Lines that the old way delivered as they were", &self.delivered),
            ("shadow_lost", "Lines that the old way lost", &self.lost),
            ("shadow_altered", "Lines that the old way altered", &self.altered),
            ("shadow_duplicated", "Lines that the old way delivered again", &self.duplicated),
            ("shadow_only_there", "Lines of the old feed that nobody sealed", &self.only_there),
            ("shadow_not_compared", "Lines of either side not compared", &self.not_compared),
            ("shadow_dropped_here", "Messages dropped by our shadow listener", &self.dropped_here),
        ] {
            all.register(name, help, counter.clone());
        }
    }
}

/// The spool has reached its configured size.
pub const HELD_BY_LIMIT: &str = "limit";
/// The disk is full.
pub const HELD_BY_DISK: &str = "disk-full";

/// Reads the sources' own counters whenever metrics are asked for.
#[derive(Debug)]
struct Sources(Board);

/// Name, help, and where the value is.
type Field = (&'static str, &'static str, fn(&SourceStats) -> &AtomicU64);

const SOURCE_COUNTERS: &[Field] = &[
    ("source_lines", "Lines taken over", |s| &s.lines),
    ("source_bytes", "Bytes taken over, with what separates lines", |s| &s.bytes),
    ("source_cut_lines", "Lines longer than the limit that were cut in two", |s| &s.cut_lines),
    ("source_truncated_files", "Files truncated or rewritten in place", |s| &s.truncated_files),
    ("source_finished_files", "Files rotated away and read to their end", |s| &s.finished_files),
    ("source_lost_files", "Files that went away before they were read", |s| &s.lost_files),
    ("source_lost_bytes", "Bytes known to be in a file that went away unread", |s| &s.lost_bytes),
    ("source_lost_messages", "Messages lost on this machine, whole or in part", |s| {
        &s.lost_messages
    }),
    ("source_gaps", "Times at which what was to be read next was gone", |s| &s.gaps),
    ("source_read_errors", "Files or directories that could not be read", |s| &s.read_errors),
    ("source_accepted_connections", "Connections accepted", |s| &s.accepted_connections),
    ("source_refused_connections", "Connections refused", |s| &s.refused_connections),
    ("source_frame_errors", "Connections closed for broken framing", |s| &s.frame_errors),
    ("source_refused_requests", "Requests refused", |s| &s.refused_requests),
    ("source_rejected_records", "Records rejected out of requests", |s| &s.rejected_records),
    ("source_partial_messages", "Connections that ended in a message", |s| &s.partial_messages),
    ("source_resent_messages", "Messages sent again and stored once", |s| &s.resent_messages),
    ("source_doubtful_messages", "Messages that may be stored twice", |s| &s.doubtful_messages),
];

const SOURCE_GAUGES: &[Field] = &[
    ("source_unreadable", "Inputs that cannot be read now", |s| &s.unreadable_paths),
    ("source_open_files", "Files open for reading", |s| &s.open_files),
    ("source_waiting_files", "Files that wait because too many are open", |s| &s.waiting_files),
    ("source_lag_bytes", "Bytes in open files not taken over yet", |s| &s.lag_bytes),
    ("source_open_connections", "Connections open", |s| &s.open_connections),
];

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let sources = self.0.entries();
        for (name, help, value) in SOURCE_COUNTERS {
            let kind = ConstCounter::new(0u64).metric_type();
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for (source, entry) in &sources {
                let labels = [("source", source.as_str())];
                let value = ConstCounter::new(value(&entry.stats).load(Relaxed));
                value.encode(metric.encode_family(&labels)?)?;
            }
        }
        for (name, help, value) in SOURCE_GAUGES {
            let kind = ConstGauge::new(0i64).metric_type();
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for (source, entry) in &sources {
                let labels = [("source", source.as_str())];
                let value = value(&entry.stats).load(Relaxed);
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline::line::SourceId;

    #[test]
    fn dashboards_find_the_metrics_they_were_built_on() {
        let metrics = Metrics::default();
        metrics.records_sealed.inc_by(3);
        metrics.receipt_seconds.0.observe(0.02);
        metrics.uplink_connected.get_or_create(&NodeLabel { node: "n:1".into() }).set(1);
        let board = Board::default();
        board.enter(SourceId(0), "kong", "file", String::new()).lines.store(7, Relaxed);
        let registry = metrics.registry(board);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "logseal_agent_records_sealed_total 3",
            "logseal_agent_records_receipted_total 0",
            "logseal_agent_receipt_seconds_count 1",
            "logseal_agent_held_back{reason=\"disk-full\"} 0",
            "logseal_agent_source_lines_total{source=\"kong\"} 7",
            "logseal_agent_source_open_files{source=\"kong\"} 0",
            "logseal_agent_uplink_connected{node=\"n:1\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
    }

    #[test]
    fn latencies_fall_into_fine_buckets() {
        let bounds: Vec<f64> = seconds().collect();
        assert!(bounds.is_sorted());
        assert_eq!((bounds[0], bounds.last()), (0.001, Some(&60.0)));
        let coarse =
            bounds.windows(2).find(|w| w[0] < 0.25 && w[1] - w[0] > 0.0011f64.max(w[0] * 0.051));
        assert_eq!(coarse, None);
    }
}
