//! A node's metrics, the whole closed list of them.

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// A label with the reason for a refusal.
pub type Reason = [(&'static str, &'static str); 1];

/// All metrics of a node.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Blocks appended.
    pub blocks: Counter,
    /// Batches appended.
    pub batches: Counter,
    /// Records appended.
    pub records: Counter,
    /// Batches, enrolments and connections refused, by reason.
    pub refused: Family<Reason, Counter>,
    /// Entries in the ledger.
    pub size: Gauge,
    /// The newest block's height.
    pub height: Gauge,
    /// Agents connected.
    pub connected: Gauge,
    /// 1 while batches are taken, 0 while the disk is too full.
    pub accepting: Gauge,
    /// Bytes free on the store's disk.
    pub disk_free: Gauge,
    /// Bytes of the block log.
    pub block_bytes: Gauge,
    /// Seconds from proposing a block to its checkpoint.
    pub commit_seconds: Histogram,
}

impl Metrics {
    /// Registers all metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics {
            blocks: Counter::default(),
            batches: Counter::default(),
            records: Counter::default(),
            refused: Family::default(),
            size: Gauge::default(),
            height: Gauge::default(),
            connected: Gauge::default(),
            accepting: Gauge::default(),
            disk_free: Gauge::default(),
            block_bytes: Gauge::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
        };
        let m = metrics.clone();
        let r = registry.sub_registry_with_prefix("logseal_ledger");
        r.register("blocks", "Blocks appended", m.blocks);
        r.register("batches", "Batches appended", m.batches);
        r.register("records", "Records appended", m.records);
        r.register("refused", "Requests and connections refused", m.refused);
        r.register("size_entries", "Entries in the ledger", m.size);
        r.register("height", "Height of the newest block", m.height);
        r.register("connected_agents", "Agents connected", m.connected);
        r.register("accepting", "1 while batches are taken", m.accepting);
        r.register("disk_free_bytes", "Bytes free on the store's disk", m.disk_free);
        r.register("block_log_bytes", "Bytes of the block log", m.block_bytes);
        r.register("commit_seconds", "From proposal to checkpoint", m.commit_seconds);
        metrics
    }

    /// Counts a refusal.
    pub fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }
}
