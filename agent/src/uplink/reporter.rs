//! Says what happens with nodes: at every change, and now and then while a problem lasts.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::trouble::Trouble;
use crate::{
    config::NodeAddress,
    metrics::{Metrics, ReasonLabel},
};

/// Remembers what was said. Bounded by the number of nodes.
#[derive(Debug)]
pub(super) struct Reporter {
    remind: Duration,
    metrics: Metrics,
    said: HashMap<String, (&'static str, Instant)>,
}

impl Reporter {
    pub(super) fn new(remind: Duration, metrics: Metrics) -> Self {
        Reporter { remind, metrics, said: HashMap::new() }
    }

    /// A connection, or an attempt at one, came to nothing.
    pub(super) fn trouble(&mut self, node: &NodeAddress, trouble: &Trouble) {
        let reason = trouble.label();
        self.metrics.uplink_problems.get_or_create(&ReasonLabel { reason }).inc();
        if !self.is_due(node, reason) {
            tracing::debug!(%node, reason, problem = %trouble, "no batches can be handed over");
        } else if trouble.is_grave() {
            tracing::error!(%node, reason, problem = %trouble, "no batches can be handed over");
        } else {
            tracing::warn!(%node, reason, problem = %trouble, "no batches can be handed over");
        }
    }

    /// All is well with a node.
    pub(super) fn well(&mut self, node: &NodeAddress) {
        self.said.remove(&node.to_string());
    }

    fn is_due(&mut self, node: &NodeAddress, reason: &'static str) -> bool {
        let now = Instant::now();
        let said = self.said.get(&node.to_string());
        let due = said.is_none_or(|(last, at)| *last != reason || now - *at >= self.remind);
        if due {
            self.said.insert(node.to_string(), (reason, now));
        }
        due
    }
}
