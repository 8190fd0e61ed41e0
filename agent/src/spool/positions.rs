//! How far each source was taken over, durably: positions in files, and bookmarks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pipeline::{
    PositionChange,
    line::{FileId, FilePosition, Keep},
};

use crate::sources::Known;

/// A change of what is known about a source. Sources go by name here: their order in the
/// configuration may change from one start to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedChange<'a> {
    /// Everything in front of this position is sealed.
    Reached(&'a str, FilePosition),
    /// The file is known by another identity from now on: old, then new.
    Renamed(&'a str, FileId, FileId),
    /// The file is gone for good.
    Gone(&'a str, FileId),
    /// The bookmark of this name is added to.
    Marked(&'a str, &'a [u8], Keep, &'a [u8]),
    /// The bookmark of this name is not needed any more.
    Unmarked(&'a str, &'a [u8]),
}

impl<'a> NamedChange<'a> {
    /// The change, with the name of its source.
    pub(super) fn new(name: &'a str, change: &'a PositionChange) -> Self {
        match change {
            PositionChange::Reached(_, position) => NamedChange::Reached(name, *position),
            PositionChange::Renamed(_, old, new) => NamedChange::Renamed(name, *old, *new),
            PositionChange::Gone(_, file) => NamedChange::Gone(name, *file),
            PositionChange::Marked(_, key, keep, value) => {
                NamedChange::Marked(name, key, *keep, value)
            }
            PositionChange::Unmarked(_, key) => NamedChange::Unmarked(name, key),
        }
    }
}

/// The positions and bookmarks of all sources, those included that are no longer configured: a
/// source that comes back goes on where it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    files: BTreeMap<String, BTreeMap<FileId, u64>>,
    bookmarks: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Positions {
    /// Applies a change.
    pub fn apply(&mut self, change: &NamedChange<'_>) {
        match *change {
            NamedChange::Reached(source, position) => self.set(source, position),
            NamedChange::Renamed(source, old, new) => {
                let files = self.files.get_mut(source);
                let offset = files.and_then(|files| files.remove(&old));
                if let Some(offset) = offset {
                    self.set(source, FilePosition { file: new, offset });
                }
            }
            NamedChange::Gone(source, file) => {
                if let Some(files) = self.files.get_mut(source) {
                    files.remove(&file);
                }
            }
            NamedChange::Marked(source, key, keep, addition) => {
                let bookmarks = entry(&mut self.bookmarks, source);
                keep.add(bookmarks.entry(key.to_vec()).or_default(), addition);
            }
            NamedChange::Unmarked(source, key) => {
                if let Some(bookmarks) = self.bookmarks.get_mut(source) {
                    bookmarks.remove(key);
                }
            }
        }
    }

    /// The positions of one source.
    pub fn of(&self, source: &str) -> Vec<FilePosition> {
        let files = self.files.get(source).into_iter().flatten();
        files.map(|(file, offset)| FilePosition { file: *file, offset: *offset }).collect()
    }

    /// All positions, by source and file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, FilePosition)> {
        self.files.iter().flat_map(|(source, files)| {
            let position =
                |(file, offset): (&FileId, &u64)| FilePosition { file: *file, offset: *offset };
            files.iter().map(move |entry| (source.as_str(), position(entry)))
        })
    }

    /// The bookmarks of one source: names and values.
    pub fn bookmarks_of(&self, source: &str) -> Vec<(Arc<[u8]>, Vec<u8>)> {
        let bookmarks = self.bookmarks.get(source).into_iter().flatten();
        bookmarks.map(|(key, value)| (key.as_slice().into(), value.clone())).collect()
    }

    /// What is known of each source.
    pub fn known(&self) -> BTreeMap<String, Known> {
        let names: BTreeSet<&String> = self.files.keys().chain(self.bookmarks.keys()).collect();
        let known = |name: &str| Known { files: self.of(name), bookmarks: self.bookmarks_of(name) };
        names.into_iter().map(|name| (name.clone(), known(name))).collect()
    }

    /// All bookmarks: source, name, value.
    pub fn bookmarks(&self) -> impl Iterator<Item = (&str, &[u8], &[u8])> {
        self.bookmarks.iter().flat_map(|(source, bookmarks)| {
            bookmarks
                .iter()
                .map(move |(key, value)| (source.as_str(), key.as_slice(), value.as_slice()))
        })
    }

    /// How many positions in files there are.
    pub fn len(&self) -> usize {
        self.files.values().map(BTreeMap::len).sum()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn set(&mut self, source: &str, position: FilePosition) {
        entry(&mut self.files, source).insert(position.file, position.offset);
    }
}

/// What is known of a source; its name is copied only the first time.
fn entry<'m, T: Default>(map: &'m mut BTreeMap<String, T>, source: &str) -> &'m mut T {
    if !map.contains_key(source) {
        map.insert(source.to_owned(), T::default());
    }
    map.get_mut(source).expect("it was there or has just been inserted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline::line::Fingerprint;

    fn file(inode: u64, head: &[u8]) -> FileId {
        FileId { device: 1, inode, fingerprint: Fingerprint::of(head) }
    }

    #[test]
    fn a_file_goes_on_where_it_was_after_it_got_a_longer_fingerprint() {
        let (short, long) = (file(7, b"a"), file(7, b"ab"));
        let mut positions = Positions::default();
        positions.apply(&NamedChange::Reached("s", FilePosition { file: short, offset: 10 }));
        positions.apply(&NamedChange::Renamed("s", short, long));
        assert_eq!(positions.of("s"), [FilePosition { file: long, offset: 10 }]);
        positions.apply(&NamedChange::Renamed("s", short, file(7, b"zz")));
        assert_eq!(positions.len(), 1, "an identity that is not known gives nobody a position");
    }

    #[test]
    fn a_file_that_is_gone_is_forgotten_for_its_own_source_only() {
        let mut positions = Positions::default();
        let at = FilePosition { file: file(7, b"a"), offset: 3 };
        positions.apply(&NamedChange::Reached("s", at));
        positions.apply(&NamedChange::Reached("t", at));
        positions.apply(&NamedChange::Gone("s", at.file));
        assert_eq!((positions.of("s"), positions.of("t")), (vec![], vec![at]));
        assert_eq!(positions.iter().collect::<Vec<_>>(), [("t", at)]);
    }

    #[test]
    fn a_bookmark_is_that_of_its_own_source_only() {
        let mut positions = Positions::default();
        for source in ["s", "t"] {
            positions.apply(&NamedChange::Marked(source, b"k", Keep::Tail(3), b"ab"));
        }
        positions.apply(&NamedChange::Marked("s", b"k", Keep::Tail(3), b"cd"));
        positions.apply(&NamedChange::Unmarked("t", b"k"));
        assert_eq!(positions.bookmarks_of("s"), [(b"k".as_slice().into(), b"bcd".to_vec())]);
        assert_eq!(positions.bookmarks().count(), 1);
        assert!(positions.is_empty(), "bookmarks are no positions in files");
    }
}
