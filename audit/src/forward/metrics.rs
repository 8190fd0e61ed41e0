//! What a forwarder counts.

use crate::output::{Failure, fail};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use service::signals::Shutdown;
use std::{net::SocketAddr, sync::Arc};
use tokio::runtime::Handle;

/// The metrics of a forwarder.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    entries: Counter,
    failures: Counter,
    next: Gauge,
    size: Gauge,
}

impl Metrics {
    /// Registers them, and serves them if an address is given.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(
        address: Option<SocketAddr>,
        handle: &Handle,
        shutdown: &Shutdown,
    ) -> Result<Self, Failure> {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        let mut add = |name: &str, help: &str, gauge: &Gauge| {
            registry.register(format!("logseal_forward_{name}"), help, gauge.clone());
        };
        add("next", "Entries in front of this one were handed on", &metrics.next);
        add("ledger_size", "Entries of the newest checkpoint", &metrics.size);
        let mut add = |name: &str, help: &str, counter: &Counter| {
            registry.register(format!("logseal_forward_{name}"), help, counter.clone());
        };
        add("entries", "Entries handed on since the start", &metrics.entries);
        add("failures", "Times that it could not go on", &metrics.failures);
        if let Some(address) = address {
            let listener = handle.block_on(service::metrics::bind(address, "metrics"));
            let serve = service::metrics::serve(
                listener.map_err(fail)?,
                Arc::new(registry),
                shutdown.clone(),
            );
            handle.spawn(serve);
        }
        Ok(metrics)
    }

    /// Where it stands: handed on are the entries in front of `next`, of `size` that there are.
    pub fn stands(&self, next: u64, size: u64) {
        self.next.set(next.cast_signed());
        self.size.set(size.cast_signed());
    }

    /// So many entries were handed on.
    pub fn delivered(&self, count: u64) {
        self.entries.inc_by(count);
    }

    /// It could not go on.
    pub fn failed(&self) {
        self.failures.inc();
    }
}
