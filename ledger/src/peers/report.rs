//! What is said about connections: each situation once, not each attempt.

use super::error::PeerError;
use link::tls::Fault;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Whom the report remembers at most. Strangers may come from many addresses; when there are too
/// many, all is forgotten and may be said once more.
const REMEMBERED: usize = 512;

/// The situation that each one was last reported in.
#[derive(Debug, Default)]
pub(super) struct Report(Mutex<HashMap<String, String>>);

impl Report {
    /// Tells that a connection ended or did not come about, unless that is how it was.
    pub(super) fn problem(&self, who: &str, what: &'static str, error: &PeerError) {
        // What a refusal says may change (another digest), and is then worth saying again.
        let situation = match error {
            PeerError::NotTaken(_) | PeerError::Refused(_) | PeerError::WrongNode { .. } => {
                format!("{what}: {error}")
            }
            _ => format!("{what}: {}", error.label()),
        };
        if !self.changed(who, situation) {
            return;
        }
        let fault = error.fault();
        match fault {
            Fault::Network => tracing::warn!(peer = who, %fault, %error, "{what}"),
            Fault::Peer | Fault::Configuration => {
                tracing::error!(peer = who, %fault, %error, "{what}");
            }
        }
    }

    /// All is well: the next problem is a new one.
    pub(super) fn well(&self, who: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(who);
    }

    fn changed(&self, who: &str, situation: String) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(who) == Some(&situation) {
            return false;
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(who.to_owned(), situation);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_situation_is_told_once_until_it_changes_or_ends() {
        let report = Report::default();
        let told = |who: &str, what: &str| report.changed(who, what.to_owned());
        assert!(told("node2", "unreachable") && !told("node2", "unreachable"));
        assert!(told("node3", "unreachable") && told("node2", "refused"));
        report.well("node2");
        assert!(told("node2", "refused"));
        assert!((0..5 * REMEMBERED).all(|n| told(&n.to_string(), "x")));
        assert!(report.0.lock().unwrap().len() <= REMEMBERED);
    }
}
