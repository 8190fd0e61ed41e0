//! What the agent's sources are doing, for metrics and `status`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::Ordering::Relaxed,
    },
};

use pipeline::line::SourceId;
use record::{TreeSize, UnixMillis};

use crate::sources::SourceStats;

/// Of how many batches under way it is remembered whose lines are in them. Of more, the newest
/// count: a time of the last receipt may then come a little late.
const MAX_BATCHES: usize = 4096;

/// Where batches end, and whose lines are in them.
type Batches = VecDeque<(TreeSize, Vec<SourceId>)>;

/// All sources, by name. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Board {
    entries: Arc<RwLock<BTreeMap<String, Entry>>>,
    /// Where batches end, and whose lines are in them.
    batches: Arc<Mutex<Batches>>,
    /// What was last wrong with nodes, by their addresses.
    problems: Arc<Mutex<BTreeMap<String, String>>>,
}

/// One source.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number in this run.
    pub id: SourceId,
    /// What it is: `file`, `syslog`, …
    pub kind: &'static str,
    /// Where its lines come from.
    pub from: String,
    /// What it counts.
    pub stats: Arc<SourceStats>,
    /// Why it does not run.
    pub failure: Option<String>,
}

impl Board {
    /// A source starts. What it counted before in this run stays.
    pub fn enter(
        &self,
        id: SourceId,
        name: &str,
        kind: &'static str,
        from: String,
    ) -> Arc<SourceStats> {
        let mut entries = self.write();
        let stats = entries.get(name).map(|entry| Arc::clone(&entry.stats)).unwrap_or_default();
        let entry = Entry { id, kind, from, stats: Arc::clone(&stats), failure: None };
        entries.insert(name.to_owned(), entry);
        stats
    }

    /// A source could not be started.
    pub fn failed(&self, name: &str, reason: &dyn ToString) {
        if let Some(entry) = self.write().get_mut(name) {
            entry.failure = Some(reason.to_string());
        }
    }

    /// A source is no longer configured.
    pub fn leave(&self, name: &str) {
        self.write().remove(name);
    }

    /// All sources, by name.
    pub fn entries(&self) -> Vec<(String, Entry)> {
        self.read().iter().map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }

    /// A batch that ends at `end` was sealed, with records of these sources.
    pub fn sealed(&self, end: TreeSize, sources: &[(SourceId, u32)], now: UnixMillis) {
        if sources.is_empty() {
            return;
        }
        let sources: Vec<_> = sources.iter().map(|(source, _)| *source).collect();
        self.each(&sources, |stats| stats.last_line_ms.store(now.0, Relaxed));
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        if batches.len() == MAX_BATCHES {
            batches.pop_front();
        }
        batches.push_back((end, sources));
    }

    /// Everything in front of `size` has a verified receipt.
    pub fn receipted(&self, size: TreeSize, now: UnixMillis) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, sources)) = batches.pop_front_if(|(end, _)| *end <= size) {
            self.each(&sources, |stats| stats.last_receipt_ms.store(now.0, Relaxed));
        }
    }

    /// Something is wrong with a node.
    pub fn trouble(&self, node: &str, problem: String) {
        self.problems().insert(node.to_owned(), problem);
    }

    /// A node does its work.
    pub fn well(&self, node: &str) {
        self.problems().remove(node);
    }

    /// What was last wrong with a node.
    pub fn problem(&self, node: &str) -> Option<String> {
        self.problems().get(node).cloned()
    }

    fn problems(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn each(&self, sources: &[SourceId], act: impl Fn(&SourceStats)) {
        let entries = self.read();
        entries.values().filter(|entry| sources.contains(&entry.id)).for_each(|e| act(&e.stats));
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Entry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_counts_for_the_sources_whose_lines_it_covers() {
        let board = Board::default();
        let a = board.enter(SourceId(0), "a", "file", String::new());
        let b = board.enter(SourceId(1), "b", "file", String::new());
        board.sealed(TreeSize(10), &[(SourceId(0), 10)], UnixMillis(1));
        board.sealed(TreeSize(20), &[(SourceId(0), 4), (SourceId(1), 6)], UnixMillis(2));
        board.receipted(TreeSize(15), UnixMillis(3));
        let times = || [&a, &b].map(|stats| stats.last_receipt_ms.load(Relaxed));
        assert_eq!(times(), [3, 0]);
        board.receipted(TreeSize(20), UnixMillis(4));
        assert_eq!(times(), [4, 4]);
        assert_eq!(b.last_line_ms.load(Relaxed), 2);
        let again = board.enter(SourceId(1), "b", "file", String::new());
        assert_eq!(again.last_line_ms.load(Relaxed), 2, "a reload does not begin to count anew");
    }
}
