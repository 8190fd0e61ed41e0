//! Lines of one side that wait for their like, oldest first.

use super::{
    forms::{Form, Key},
    text::Text,
};
use record::UnixMillis;
use std::collections::{BTreeMap, BTreeSet};

/// Names a line while it waits, in the order in which lines came.
pub(super) type Id = u64;

/// A line of either side.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// How it may be read: in one way if it is ours.
    pub(super) forms: Box<[Form]>,
    pub(super) text: Text,
    /// Monotonic, when it came.
    pub(super) seen_ms: u64,
    pub(super) wall: UnixMillis,
    /// The period in which it came.
    pub(super) period: u64,
    /// The first record that it became, if it is ours.
    pub(super) record: Option<u64>,
    /// One like it had been delivered before it came.
    pub(super) copy: bool,
    /// It was written so long before it came that its like may have been here and gone.
    pub(super) late: bool,
}

/// A bounded number of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    lines: BTreeMap<Id, Line>,
    keys: BTreeSet<(Key, Id)>,
    next: Id,
    bytes: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// How many bytes of texts are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn put(&mut self, line: Line) {
        self.keys.extend(line.forms.iter().map(|form| (form.key, self.next)));
        self.bytes += line.text.kept();
        self.lines.insert(self.next, line);
        self.next += 1;
    }

    /// Takes the oldest line that may be read as this.
    pub(super) fn take(&mut self, key: Key) -> Option<Line> {
        let (_, id) = *self.keys.range((key, Id::MIN)..=(key, Id::MAX)).next()?;
        self.remove(id)
    }

    /// Takes the oldest line if it came no later than this.
    pub(super) fn take_older(&mut self, seen_ms: u64) -> Option<Line> {
        let (id, line) = self.lines.first_key_value()?;
        if line.seen_ms > seen_ms {
            return None;
        }
        self.remove(*id)
    }

    fn remove(&mut self, id: Id) -> Option<Line> {
        let line = self.lines.remove(&id)?;
        for form in &line.forms {
            self.keys.remove(&(form.key, id));
        }
        self.bytes -= line.text.kept();
        Some(line)
    }
}
