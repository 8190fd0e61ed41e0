//! Decides which files to open, resume, finish and forget. Pure: it sees what
//! a pass over the directories found and what is known, and answers with actions
//! (`pass`); in between it is told and asked what became of each file.
//!
//! The rules, and what they are good for:
//!
//! - A file is its device and inode, not its name. What it begins with tells
//!   whether an inode, or a place in a file, is still the one that was meant.
//! - A file that no pattern matches any more was rotated away. It is read on,
//!   before all others, until it has been quiet for the grace time. While it
//!   exists it stays known, so that it is never taken for something new.
//! - A position from an earlier run is looked for under the matching names and
//!   then under all names of the same directories. Only two passes in a row
//!   that find it nowhere make it forgotten, because a pass can miss a file
//!   that is being renamed.
//! - When too many files are open, the quietest ones are closed and their
//!   positions kept, as if they came from an earlier run.

mod pass;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use pipeline::line::{FileId, FilePosition};

use super::config::Start;

/// How many files are known that are not open, at most, before those are forgotten at once that
/// were rotated away and read to their end: a position is in every state that the spool writes.
const MAX_REMEMBERED: usize = 1024;

/// What a file system knows a file by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Node {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// A regular file that a pass found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) node: Node,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
    /// True if a pattern matches the path; false if it only lies in the same directory.
    pub(super) matched: bool,
    /// True if its name is one that compressed files have.
    pub(super) packed: bool,
}

/// What is to be done after a pass, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing is left of a file that there is a position of, under this inode.
    Forget { position: FilePosition, fully_read: bool },
    /// Close the file and call [`Tracker::park`].
    Park(Node),
    /// Open the file and, unless that fails, call [`Tracker::place`].
    Open(Opening),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) path: PathBuf,
    pub(super) node: Node,
    /// No pattern matches it, or it is compressed: it is not read from its beginning.
    pub(super) rotated: bool,
    /// It is compressed, so that it cannot grow.
    pub(super) finite: bool,
    pub(super) start: Start,
}

/// What a file that was opened is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where to go on, if the file is known.
    pub(super) resume: Option<FilePosition>,
    /// What was known under the same inode and is not this file, or is not in it any more; and
    /// whether it was read to its end.
    pub(super) gone: Vec<(FilePosition, bool)>,
}

/// What a file was on disk when it was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parked {
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

/// How far a file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// There is more to read.
    More,
    /// To the end, where a line is still without its line feed.
    PartialLine,
    /// To the end.
    End,
}

/// All files of one source.
#[derive(Debug)]
pub(super) struct Tracker {
    open: BTreeMap<Node, Open>,
    known: BTreeMap<Node, Vec<Known>>,
    /// For files found in the first pass.
    start: Start,
    grace: Duration,
    max_open: usize,
    waiting: usize,
    opened: u64,
    /// A file got another name, or was rotated away, since somebody asked.
    rotation: bool,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    /// Since when no pattern matches it.
    away: Option<Instant>,
    /// True if it cannot grow any more, whatever its name.
    finite: bool,
    /// When it last had something to read, or was opened.
    busy: Instant,
    /// How far the last look came.
    reached: Reached,
    /// The how many-th opened file it is.
    number: u64,
}

#[derive(Debug)]
struct Known {
    position: FilePosition,
    /// What the file was if it was read to its end in this run, and then closed.
    parked: Option<Parked>,
    misses: u8,
}

impl Node {
    pub(super) fn of(file: &FileId) -> Self {
        Node { device: file.device, inode: file.inode }
    }
}

impl Tracker {
    /// `known` are the positions of earlier runs. `start` counts only when there are none.
    pub(super) fn new(
        known: impl IntoIterator<Item = FilePosition>,
        start: Start,
        grace: Duration,
        max_open: usize,
    ) -> Self {
        let mut by_node: BTreeMap<Node, Vec<Known>> = BTreeMap::new();
        for position in known {
            let known = Known { position, parked: None, misses: 0 };
            by_node.entry(Node::of(&position.file)).or_default().push(known);
        }
        let start = if by_node.is_empty() { start } else { Start::Beginning };
        let open = BTreeMap::new();
        let rotation = !by_node.is_empty();
        Tracker { open, known: by_node, start, grace, max_open, waiting: 0, opened: 0, rotation }
    }

    /// The files that a pass must look for under any name.
    pub(super) fn wanted(&self) -> BTreeSet<Node> {
        self.known.keys().copied().collect()
    }

    /// How many files wait because too many are open.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// True if the file is open, or its position known.
    pub(super) fn has(&self, node: Node) -> bool {
        self.open.contains_key(&node) || self.is_known(node)
    }

    /// True if there is a position in the file, which is not open.
    pub(super) fn is_known(&self, node: Node) -> bool {
        self.known.contains_key(&node)
    }

    /// The positions in files that the last pass found nowhere.
    pub(super) fn missing(&self) -> impl Iterator<Item = &FilePosition> {
        let known = self.known.values().flatten();
        known.filter(|known| known.misses > 0).map(|known| &known.position)
    }

    /// The positions in files that are neither open nor known to be read to their end.
    pub(super) fn unopened(&self) -> impl Iterator<Item = &FilePosition> {
        let known = self.known.values().flatten();
        known.filter(|known| known.parked.is_none()).map(|known| &known.position)
    }

    /// The open file that was seen last under this path.
    pub(super) fn node_at(&self, path: &Path) -> Option<Node> {
        let mut open = self.open.iter();
        open.find(|(_, open)| open.away.is_none() && open.path == path).map(|(node, _)| *node)
    }

    /// True if a file was rotated since this was asked last. Kept for later while something is missing.
    pub(super) fn take_rotation(&mut self) -> bool {
        self.missing().next().is_none() && std::mem::take(&mut self.rotation)
    }

    /// What was rotated is to be looked for once more.
    pub(super) fn note_rotation(&mut self) {
        self.rotation = true;
    }

    /// Finds out what an opened file is. Afterwards nothing is known of its
    /// inode; when the file is to be read, [`Tracker::open`] follows.
    pub(super) fn place(&mut self, node: Node, size: u64, head: &[u8]) -> Place {
        let mut known = self.known.remove(&node).unwrap_or_default();
        // The longest fingerprint says the most.
        known.sort_by_key(|known| Reverse(known.position.file.fingerprint.len));
        let same = known.iter().position(|known| known.is_in(head, size));
        let resume = same.map(|index| known.remove(index).position);
        let gone = known.iter().map(|known| (known.position, known.parked.is_some())).collect();
        Place { resume, gone }
    }

    /// True if a position of this inode is in the file that has it now.
    pub(super) fn is_still(&self, found: &Found, head: &[u8]) -> bool {
        let size = if found.packed { u64::MAX } else { found.size };
        let mut known = self.known.get(&found.node).into_iter().flatten();
        known.any(|known| known.is_in(head, size))
    }

    /// Forgets what is known under this inode, and answers with it, and with whether it was read to
    /// its end.
    pub(super) fn drop_known(&mut self, node: Node) -> Vec<(FilePosition, bool)> {
        let known = self.known.remove(&node).unwrap_or_default();
        known.iter().map(|known| (known.position, known.parked.is_some())).collect()
    }

    /// True if there is a position under this inode, and nothing says that the file is as it was.
    pub(super) fn may_have_changed(&self, found: &Found) -> bool {
        let mut known = self.known.get(&found.node).into_iter().flatten();
        known.any(|known| !known.parked_at(found))
    }

    /// True if the file was read to its end, closed, and has not changed since.
    pub(super) fn is_parked(&self, found: &Found) -> bool {
        let mut known = self.known.get(&found.node).into_iter().flatten();
        known.any(|known| known.parked_at(found))
    }

    /// The file is being read from now on.
    pub(super) fn open(&mut self, opening: &Opening, now: Instant) {
        self.opened += 1;
        let open = Open {
            path: opening.path.clone(),
            away: opening.rotated.then_some(now),
            finite: opening.finite,
            busy: now,
            reached: Reached::More,
            number: self.opened,
        };
        self.open.insert(opening.node, open);
    }

    /// The file was looked at: whether there was something to read, and what is left.
    pub(super) fn read(&mut self, node: Node, now: Instant, busy: bool, reached: Reached) {
        if let Some(open) = self.open.get_mut(&node) {
            open.reached = reached;
            if busy {
                open.busy = now;
            }
        }
    }

    /// The name under which the file was last seen; empty when it is not open.
    pub(super) fn path(&self, node: Node) -> &Path {
        self.open.get(&node).map_or(Path::new(""), |open| &open.path)
    }

    /// True if the file was rotated away.
    pub(super) fn is_away(&self, node: Node) -> bool {
        self.open.get(&node).is_some_and(|open| open.away.is_some())
    }

    /// True if the file was rotated away, read to its end, and nobody writes to it any more.
    pub(super) fn is_complete(&self, node: Node, now: Instant) -> bool {
        self.open.get(&node).is_some_and(|open| {
            let quiet = |since: Instant| now.saturating_duration_since(since) >= self.grace;
            open.reached != Reached::More && open.away.is_some_and(quiet) && quiet(open.busy)
        })
    }

    /// The file was closed for good.
    pub(super) fn close(&mut self, node: Node) {
        self.open.remove(&node);
    }

    /// The file was closed after it was read to its end. False if there is no room for one more
    /// that was rotated away: then it is forgotten.
    pub(super) fn park(&mut self, position: FilePosition, parked: Parked) -> bool {
        let away = self.is_away(Node::of(&position.file));
        let remembered = !away || self.known.len() < MAX_REMEMBERED;
        self.close(Node::of(&position.file));
        if remembered {
            self.adopt(position, Some(parked));
        }
        remembered
    }

    /// The file, which is not open, was read up to this position; `parked` says that this is its end.
    pub(super) fn adopt(&mut self, position: FilePosition, parked: Option<Parked>) {
        let known = Known { position, parked, misses: 0 };
        self.known.insert(Node::of(&position.file), vec![known]);
    }

    /// The file is open no longer, and is looked for under any name.
    pub(super) fn let_go(&mut self, position: FilePosition) {
        self.close(Node::of(&position.file));
        self.adopt(position, None);
    }

    /// The order in which open files are read: those rotated away first, then
    /// as they were opened.
    pub(super) fn order(&self) -> Vec<Node> {
        let mut order: Vec<_> = self.open.iter().collect();
        order.sort_by_key(|(_, open)| (open.away.is_none(), open.number));
        order.into_iter().map(|(node, _)| *node).collect()
    }
}

impl Opening {
    pub(super) fn of(found: &Found, start: Start) -> Self {
        Opening {
            path: found.path.clone(),
            node: found.node,
            rotated: !found.matched || found.packed,
            finite: found.packed,
            start,
        }
    }
}

impl Parked {
    pub(super) fn of(found: &Found) -> Self {
        Parked { size: found.size, modified: found.modified }
    }
}

impl Known {
    /// True if nothing has come since it was parked.
    fn parked_at(&self, found: &Found) -> bool {
        self.parked == Some(Parked::of(found))
    }

    /// True if the position is in a file that begins with `head` and has `size` bytes.
    fn is_in(&self, head: &[u8], size: u64) -> bool {
        self.position.file.fingerprint.matches(head) && self.position.offset <= size
    }

    fn forget(&self) -> Action {
        Action::Forget { position: self.position, fully_read: self.parked.is_some() }
    }
}

#[cfg(test)]
mod tests;
