//! How far each file of each source was taken over, durably.

use std::collections::BTreeMap;

use pipeline::line::{FileId, FilePosition};

/// A change of what is known about a source's files. Sources go by name here: their order in the
/// configuration may change from one start to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedChange<'a> {
    /// Everything in front of this position is sealed.
    Reached(&'a str, FilePosition),
    /// The file is known by another identity from now on: old, then new.
    Renamed(&'a str, FileId, FileId),
    /// The file is gone for good.
    Gone(&'a str, FileId),
}

/// The positions of all sources, those included that are no longer configured: a source that comes
/// back goes on where it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(BTreeMap<String, BTreeMap<FileId, u64>>);

impl Positions {
    /// Applies a change.
    pub fn apply(&mut self, change: &NamedChange<'_>) {
        match *change {
            NamedChange::Reached(source, position) => self.set(source, position),
            NamedChange::Renamed(source, old, new) => {
                let files = self.0.get_mut(source);
                let offset = files.and_then(|files| files.remove(&old));
                if let Some(offset) = offset {
                    self.set(source, FilePosition { file: new, offset });
                }
            }
            NamedChange::Gone(source, file) => {
                if let Some(files) = self.0.get_mut(source) {
                    files.remove(&file);
                }
            }
        }
    }

    /// The positions of one source.
    pub fn of(&self, source: &str) -> Vec<FilePosition> {
        let files = self.0.get(source).into_iter().flatten();
        files.map(|(file, offset)| FilePosition { file: *file, offset: *offset }).collect()
    }

    /// All positions, by source and file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, FilePosition)> {
        self.0.iter().flat_map(|(source, files)| {
            let position =
                |(file, offset): (&FileId, &u64)| FilePosition { file: *file, offset: *offset };
            files.iter().map(move |entry| (source.as_str(), position(entry)))
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn set(&mut self, source: &str, position: FilePosition) {
        match self.0.get_mut(source) {
            Some(files) => files.insert(position.file, position.offset),
            None => {
                let files = BTreeMap::from([(position.file, position.offset)]);
                self.0.insert(source.to_owned(), files);
                None
            }
        };
    }
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
}
