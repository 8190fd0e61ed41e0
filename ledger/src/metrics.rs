//! A node's metrics, the whole closed list of them.

use link::peer::Lane;
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use record::NodeName;

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
    /// What nodes did that no honest node does, by node and kind.
    pub faults: Family<OfNode, Counter>,
    /// Contradictions that were proven, by kind.
    pub equivocations: Family<Reason, Counter>,
    /// What the scrub found to be wrong, by kind.
    pub store_faults: Family<Reason, Counter>,
    /// What was mended, by kind.
    pub store_mended: Family<Reason, Counter>,
    /// When the scrub last looked at everything, seconds since 1970.
    pub scrubbed: Gauge,
    /// The connections with the other nodes.
    pub peers: PeerMetrics,
    /// The outside witnesses.
    pub witnesses: WitnessMetrics,
}

/// The metrics of the outside witnesses, by the names of their keys.
#[derive(Clone, Debug, Default)]
pub struct WitnessMetrics {
    size: Family<OfWitness, Gauge>,
    cosigned: Family<OfWitness, Gauge>,
    contradicts: Family<OfWitness, Gauge>,
    problems: Family<OfLane<String>, Counter>,
}

/// A label with an outside witness.
type OfWitness = [(&'static str, String); 1];

/// Labels with a node and a kind.
type OfNode = [(&'static str, String); 2];
/// Labels with a lane: of connections that we dialled (`out`) or accepted (`in`), or of a peer.
type OfLane<T> = [(&'static str, T); 2];
/// A label with a peer of the members file.
type OfPeer = [(&'static str, String); 1];

/// The metrics of the connections between nodes.
#[derive(Clone, Debug, Default)]
pub struct PeerMetrics {
    connected: Family<OfLane<&'static str>, Gauge>,
    dropped: Family<OfLane<String>, Counter>,
    refused: Family<Reason, Counter>,
    violations: Family<OfPeer, Counter>,
    sent: Family<OfPeer, Counter>,
    received: Family<OfPeer, Counter>,
    clock_offset: Family<OfPeer, Gauge>,
    height: Family<OfPeer, Gauge>,
}

/// Counts a connection as long as it lives.
#[derive(Debug)]
pub struct Connected(Gauge);

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
            faults: Family::default(),
            equivocations: Family::default(),
            store_faults: Family::default(),
            store_mended: Family::default(),
            scrubbed: Gauge::default(),
            peers: PeerMetrics::default(),
            witnesses: WitnessMetrics::default(),
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
        let faults = "Messages and proposals that no honest node makes";
        r.register("node_faults", faults, m.faults);
        r.register("equivocations", "Contradictions that were proven", m.equivocations);
        r.register("store_faults", "What was found to be wrong in the store", m.store_faults);
        r.register("store_mended", "What was mended in the store", m.store_mended);
        let scrubbed = "When everything in the store was last looked at";
        r.register("store_scrubbed_timestamp_seconds", scrubbed, m.scrubbed);
        m.peers.register(r);
        m.witnesses.register(r);
        metrics
    }

    /// Counts a refusal.
    pub fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }
}

impl Metrics {
    /// Counts what a node did that no honest node does.
    pub fn fault(&self, node: &str, kind: &'static str) {
        let labels = [("node", node.to_owned()), ("kind", kind.to_owned())];
        self.faults.get_or_create(&labels).inc();
    }

    /// What of a kind was mended.
    pub fn mended(&self, kind: &'static str) -> Counter {
        self.store_mended.get_or_create(&[("kind", kind)]).clone()
    }

    /// Counts something wrong in the store.
    pub fn store_fault(&self, kind: &'static str) {
        self.store_faults.get_or_create(&[("kind", kind)]).inc();
    }

    /// Counts an equivocation.
    pub fn equivocation(&self, kind: &'static str) {
        self.equivocations.get_or_create(&[("kind", kind)]).inc();
    }
}

impl PeerMetrics {
    fn register(self, r: &mut Registry) {
        r.register("peer_connections", "Connections with other nodes", self.connected);
        r.register("peer_frames_dropped", "Frames that a peer could not be sent", self.dropped);
        r.register("peer_refused", "Connections of nodes refused", self.refused);
        let ended = "Connections ended for what the peer sent";
        r.register("peer_violations", ended, self.violations);
        r.register("peer_sent_bytes", "Bytes of frames sent to a peer", self.sent);
        let offset = "A peer's clock minus ours, in milliseconds";
        r.register("peer_clock_offset_ms", offset, self.clock_offset);
        r.register("peer_height", "Height of a peer's newest block", self.height);
        r.register("peer_received_bytes", "Bytes of frames received from a peer", self.received);
    }

    /// Counts a connection while what is given back lives; `direction` is `out` if we dialled it, else `in`.
    pub fn connected(&self, lane: Lane, direction: &'static str) -> Connected {
        let labels = [("lane", lane.as_str()), ("direction", direction)];
        let gauge = self.connected.get_or_create(&labels).clone();
        gauge.inc();
        Connected(gauge)
    }

    /// Notes what a peer said of itself.
    pub fn note(&self, peer: &str, offset_ms: Option<i64>, height: u64) {
        let labels = [("peer", peer.to_owned())];
        if let Some(offset) = offset_ms {
            self.clock_offset.get_or_create(&labels).set(offset);
        }
        self.height.get_or_create(&labels).set(height as i64);
    }

    /// Counts a frame that was not sent.
    pub fn dropped(&self, peer: &NodeName, lane: Lane) {
        let labels = [("peer", peer.to_string()), ("lane", lane.as_str().to_owned())];
        self.dropped.get_or_create(&labels).inc();
    }

    /// Counts a connection that was refused.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts a connection that was ended for what the peer sent.
    pub fn violation(&self, peer: &NodeName) {
        self.violations.get_or_create(&of(peer)).inc();
    }

    /// Counts bytes of frames sent to a peer.
    pub fn sent(&self, peer: &NodeName) -> Counter {
        self.sent.get_or_create(&of(peer)).clone()
    }

    /// Counts bytes of frames received from a peer.
    pub fn received(&self, peer: &NodeName) -> Counter {
        self.received.get_or_create(&of(peer)).clone()
    }
}

impl WitnessMetrics {
    fn register(self, r: &mut Registry) {
        let size = "Entries under the newest checkpoint that an outside witness cosigned";
        r.register("witness_size_entries", size, self.size);
        let cosigned = "When an outside witness cosigned last, seconds since 1970";
        r.register("witness_cosigned_seconds", cosigned, self.cosigned);
        let contradicts = "1 if a witness knows another history of this ledger: rollback or fork";
        r.register("witness_contradicts", contradicts, self.contradicts);
        r.register("witness_problems", "Times that a witness did not cosign", self.problems);
    }

    /// A witness cosigned.
    pub fn cosigned(&self, witness: &str, size: u64, time: u64) {
        let labels = [("witness", witness.to_owned())];
        self.size.get_or_create(&labels).set(i64::try_from(size).unwrap_or(i64::MAX));
        self.cosigned.get_or_create(&labels).set(i64::try_from(time).unwrap_or(i64::MAX));
    }

    /// Whether a witness knows another history.
    pub fn contradicts(&self, witness: &str, contradicts: bool) {
        self.contradicts.get_or_create(&[("witness", witness.to_owned())]).set(contradicts.into());
    }

    /// A witness did not cosign.
    pub fn problem(&self, witness: &str, kind: &'static str) {
        let labels = [("witness", witness.to_owned()), ("kind", kind.to_owned())];
        self.problems.get_or_create(&labels).inc();
    }
}

fn of(peer: &NodeName) -> OfPeer {
    [("peer", peer.to_string())]
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}
