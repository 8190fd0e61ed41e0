//! Says what happens with nodes: at every change, and now and then while it lasts.
//!
//! A node that takes a connection and then no batch, over and over, is said to
//! do so once: only a verified receipt makes news of everything again.

use std::{
    cell::RefCell,
    collections::HashMap,
    time::{Duration, Instant},
};

use super::trouble::Trouble;
use crate::{
    board::Board,
    config::NodeAddress,
    metrics::{Metrics, ReasonLabel},
};

/// What is said of a connection that began.
const CONNECTED: &str = "connected";

/// Remembers what was said of each node.
#[derive(Debug)]
pub(super) struct Reporter {
    remind: Duration,
    metrics: Metrics,
    board: Board,
    /// Bounded by the nodes and the labels of troubles.
    said: RefCell<HashMap<(String, &'static str), Instant>>,
}

impl Reporter {
    pub(super) fn new(remind: Duration, metrics: Metrics, board: Board) -> Self {
        Reporter { remind, metrics, board, said: RefCell::default() }
    }

    /// A node said welcome, and that it has `next` records of this agent.
    pub(super) fn connected(&self, node: &NodeAddress, name: &str, next: u64) {
        if self.is_news(node, CONNECTED) {
            tracing::info!(%node, name, next, "connected to the ledger");
        }
    }

    /// A connection, or an attempt at one, came to nothing.
    pub(super) fn trouble(&self, node: &NodeAddress, trouble: &Trouble) {
        let reason = trouble.label();
        self.metrics.uplink_problems.get_or_create(&ReasonLabel { reason }).inc();
        if !matches!(trouble, Trouble::Nearer) {
            self.board.trouble(&node.to_string(), trouble.to_string());
        }
        if !self.is_news(node, reason) {
            tracing::debug!(%node, reason, problem = %trouble, "no batches can be handed over");
        } else if trouble.is_grave() {
            tracing::error!(%node, reason, problem = %trouble, "no batches can be handed over");
        } else {
            tracing::warn!(%node, reason, problem = %trouble, "no batches can be handed over");
        }
    }

    /// A receipt of this node was verified.
    pub(super) fn receipted(&self, node: &NodeAddress) {
        let mut said = self.said.borrow_mut();
        if said.is_empty() {
            return;
        }
        self.board.well(&node.to_string());
        let node = node.to_string();
        let troubled = said.keys().any(|(n, what)| *n == node && *what != CONNECTED);
        said.retain(|(n, _), _| *n != node);
        if troubled {
            tracing::info!(node, "batches can be handed over again");
        }
    }

    fn is_news(&self, node: &NodeAddress, what: &'static str) -> bool {
        let now = Instant::now();
        let mut said = self.said.borrow_mut();
        let last = said.entry((node.to_string(), what));
        let mut news = false;
        let at = last.or_insert_with(|| {
            news = true;
            now
        });
        if now.duration_since(*at) >= self.remind {
            *at = now;
            news = true;
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_once_until_a_receipt_makes_it_news_again() {
        let node: NodeAddress = "node1:7514".parse().unwrap();
        let other: NodeAddress = "node2:7514".parse().unwrap();
        let reporter = Reporter::new(Duration::from_secs(60), Metrics::default(), Board::default());
        for news in [true, false, false] {
            assert_eq!(reporter.is_news(&node, CONNECTED), news);
            assert_eq!(reporter.is_news(&node, "busy"), news);
        }
        assert!(reporter.is_news(&other, "busy"));
        reporter.receipted(&node);
        assert!(reporter.is_news(&node, "busy") && !reporter.is_news(&other, "busy"));
        let hasty = Reporter::new(Duration::ZERO, Metrics::default(), Board::default());
        assert!(hasty.is_news(&node, "busy") && hasty.is_news(&node, "busy"), "and now and then");
    }
}
