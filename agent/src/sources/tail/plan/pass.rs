//! A pass: what was found decides which files are rotated, forgotten, opened and closed.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{Action, Found, Node, Open, Opening, Reached, Tracker};
use crate::sources::tail::config::Start;

/// After how many passes in a row without a trace a known file is forgotten.
const MISSES: u8 = 2;

impl Tracker {
    /// Takes in what a pass found. `unreadable` are paths below which it could not look.
    pub(in crate::sources::tail) fn pass(
        &mut self,
        now: Instant,
        found: &[Found],
        unreadable: &[PathBuf],
    ) -> Vec<Action> {
        let mut files: BTreeMap<Node, &Found> = BTreeMap::new();
        for file in found {
            let first = files.entry(file.node).or_insert(file);
            if file.matched && !first.matched {
                *first = file;
            }
        }
        self.see_open(now, &files, unreadable);
        let mut actions = self.see_known(&files, unreadable.is_empty());
        let openings = self.openings(&files);
        self.start = Start::Beginning;
        actions.extend(self.make_room(now, openings));
        actions
    }

    fn see_open(&mut self, now: Instant, files: &BTreeMap<Node, &Found>, unreadable: &[PathBuf]) {
        for (node, open) in &mut self.open {
            match files.get(node).filter(|found| found.matched) {
                Some(found) => {
                    self.rotation |= open.path != found.path;
                    open.path.clone_from(&found.path);
                    if !open.finite {
                        open.away = None;
                    }
                }
                None if hidden(&open.path, unreadable) => {}
                None => {
                    self.rotation |= open.away.is_none();
                    open.away.get_or_insert(now);
                }
            }
        }
    }

    /// Forgets what is known of files that have left no trace.
    fn see_known(&mut self, files: &BTreeMap<Node, &Found>, complete: bool) -> Vec<Action> {
        let mut forgotten = Vec::new();
        self.known.retain(|node, known| {
            let found = files.contains_key(node);
            known.retain_mut(|known| {
                known.misses = match (found, complete) {
                    (true, _) => 0,
                    (false, true) => known.misses + 1,
                    (false, false) => known.misses,
                };
                if known.misses >= MISSES {
                    forgotten.push(known.forget());
                }
                known.misses < MISSES
            });
            !known.is_empty()
        });
        forgotten
    }

    /// What to open: the rest of rotated files before new files, old ones before young ones. Those
    /// that are known come before those that are not, which could be copies of them.
    fn openings(&self, files: &BTreeMap<Node, &Found>) -> Vec<Opening> {
        let known = |node: &Node| self.known.get(node).map_or(&[][..], Vec::as_slice);
        let wanted = |found: &Found| {
            let known = known(&found.node);
            let unchanged = known.iter().any(|known| known.parked_at(found));
            let new = known.is_empty() && found.matched && !found.packed;
            new || (!known.is_empty() && !unchanged)
        };
        let closed = files.values().filter(|found| !self.open.contains_key(&found.node));
        let mut openings: Vec<&Found> = closed.copied().filter(|found| wanted(found)).collect();
        // Where the clock of the file system cannot tell, a.log.2 is older than a.log.1.
        openings.sort_by_key(|found| {
            let new = known(&found.node).is_empty();
            (found.matched, new, found.modified, Reverse(&found.path))
        });
        openings.into_iter().map(|found| Opening::of(found, self.start)).collect()
    }

    fn make_room(&mut self, now: Instant, mut openings: Vec<Opening>) -> Vec<Action> {
        let room = self.max_open.saturating_sub(self.open.len());
        let lacking = openings.len().saturating_sub(room);
        let quiet = |open: &Open| now.saturating_duration_since(open.busy) >= self.grace;
        let mut parkable: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| open.away.is_none() && open.reached == Reached::End && quiet(open))
            .map(|(node, open)| (open.busy, *node))
            .collect();
        parkable.sort();
        parkable.truncate(lacking);
        self.waiting = lacking - parkable.len();
        openings.truncate(room + parkable.len());
        let parks = parkable.into_iter().map(|(_, node)| Action::Park(node));
        parks.chain(openings.into_iter().map(Action::Open)).collect()
    }
}

/// True if the path lies where a pass could not look.
fn hidden(path: &Path, unreadable: &[PathBuf]) -> bool {
    unreadable.iter().any(|place| path.starts_with(place))
}
