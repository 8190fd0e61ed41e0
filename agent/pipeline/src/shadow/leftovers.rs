//! Lines of one side for which nothing equal came in time. If it comes late, it is
//! taken all the same; else what is most alike is found among their neighbours in alphabetical order, read from the front and from
//! the end: a line that was altered in one place agrees up to there in one of
//! the two, and what tells lines from each other lies in one of the two.

use super::{
    forms::Key,
    text::{Likeness, Skeleton},
    waiting::{Id, Line},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How many neighbours are looked at in each direction.
const NEIGHBOURS: usize = 4;

/// A leftover, with what is compared of it.
#[derive(Clone, Debug)]
pub(super) struct Leftover {
    pub(super) line: Line,
    pub(super) skeleton: Skeleton,
}

/// The leftovers of one side.
#[derive(Clone, Debug, Default)]
pub(super) struct Leftovers {
    lines: BTreeMap<Id, Leftover>,
    keys: BTreeSet<(Key, Id)>,
    forward: BTreeSet<(Arc<[u8]>, Id)>,
    backward: BTreeSet<(Arc<[u8]>, Id)>,
    next: Id,
    bytes: usize,
}

impl Leftovers {
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// How many bytes of texts are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn put(&mut self, line: Line) {
        let skeleton = line.text.skeleton();
        self.forward.insert((Arc::clone(&skeleton.forward), self.next));
        self.backward.insert((Arc::clone(&skeleton.backward), self.next));
        self.keys.extend(line.forms.iter().map(|form| (form.key, self.next)));
        self.bytes += line.text.kept();
        self.lines.insert(self.next, Leftover { line, skeleton });
        self.next += 1;
    }

    /// Takes the oldest line that may be read as this.
    pub(super) fn take_equal(&mut self, key: Key) -> Option<Line> {
        let (_, id) = *self.keys.range((key, Id::MIN)..=(key, Id::MAX)).next()?;
        Some(self.take(id)?.line)
    }

    /// When the oldest came.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.lines.first_key_value().map(|(_, leftover)| leftover.line.seen_ms)
    }

    /// Takes the oldest if it came no later than this.
    pub(super) fn take_older(&mut self, seen_ms: u64) -> Option<Leftover> {
        self.oldest().filter(|oldest| *oldest <= seen_ms)?;
        let (id, _) = self.lines.first_key_value()?;
        self.take(*id)
    }

    pub(super) fn take(&mut self, id: Id) -> Option<Leftover> {
        let leftover = self.lines.remove(&id)?;
        let Skeleton { forward, backward, .. } = &leftover.skeleton;
        self.forward.remove(&(Arc::clone(forward), id));
        self.backward.remove(&(Arc::clone(backward), id));
        for form in &leftover.line.forms {
            self.keys.remove(&(form.key, id));
        }
        self.bytes -= leftover.line.text.kept();
        Some(leftover)
    }

    /// The line that is most alike, the oldest of several, if one is alike at all. `alike` compares
    /// one of these with the one that is asked for.
    pub(super) fn best(
        &self,
        skeleton: &Skeleton,
        alike: impl Fn(&Skeleton) -> Option<Likeness>,
    ) -> Option<(Likeness, Id)> {
        let near = neighbours(&self.forward, &skeleton.forward);
        let near = near.chain(neighbours(&self.backward, &skeleton.backward));
        let rated = near.filter_map(|id| Some((alike(&self.lines[&id].skeleton)?, id)));
        rated.max_by_key(|(likeness, id)| (*likeness, std::cmp::Reverse(*id)))
    }

    /// A leftover that is there.
    pub(super) fn get(&self, id: Id) -> &Leftover {
        &self.lines[&id]
    }
}

fn neighbours<'a>(
    order: &'a BTreeSet<(Arc<[u8]>, Id)>,
    at: &Arc<[u8]>,
) -> impl Iterator<Item = Id> + use<'a> {
    let at = (Arc::clone(at), Id::MIN);
    let before = order.range(..&at).rev().take(NEIGHBOURS);
    let behind = order.range(at.clone()..).take(NEIGHBOURS);
    before.chain(behind).map(|(_, id)| *id).collect::<Vec<_>>().into_iter()
}
