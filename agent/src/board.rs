//! What the agent's sources are doing, for metrics and `status`.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use pipeline::line::SourceId;

use crate::sources::SourceStats;

/// All sources, by name. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<RwLock<BTreeMap<String, Entry>>>);

/// One source.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number in this run.
    pub id: SourceId,
    /// What it counts.
    pub stats: Arc<SourceStats>,
    /// Why it does not run.
    pub failure: Option<String>,
}

impl Board {
    /// A source starts. What it counted before in this run stays.
    pub fn enter(&self, id: SourceId, name: &str) -> Arc<SourceStats> {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Entry { id, stats: Arc::default(), failure: None };
        let entry = entries.entry(name.to_owned()).or_insert_with(fresh);
        entry.failure = None;
        Arc::clone(&entry.stats)
    }

    /// A source could not be started.
    pub fn failed(&self, name: &str, reason: &dyn ToString) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(name) {
            entry.failure = Some(reason.to_string());
        }
    }

    /// A source is no longer configured.
    pub fn leave(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// All sources, by name.
    pub fn entries(&self) -> Vec<(String, Entry)> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }
}
