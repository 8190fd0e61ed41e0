//! What cannot be read: each path is reported once for a reason, tried again by
//! every pass, and reported once more when it can be read again.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

/// How many paths are told apart. Beyond that the log has been flooded with names anyway.
const MAX_PATHS: usize = 4096;

/// The paths that cannot be read now.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    paths: BTreeMap<PathBuf, Trouble>,
    pass: u64,
}

#[derive(Debug)]
struct Trouble {
    reason: Reason,
    /// The last pass in which it was seen.
    pass: u64,
}

/// What the system says, without what varies.
type Reason = (io::ErrorKind, Option<i32>);

impl Troubles {
    /// True if this has not been said yet.
    pub(super) fn note(&mut self, path: &Path, error: &io::Error) -> bool {
        let reason = (error.kind(), error.raw_os_error());
        let pass = self.pass;
        if let Some(trouble) = self.paths.get_mut(path) {
            trouble.pass = pass;
            return std::mem::replace(&mut trouble.reason, reason) != reason;
        }
        if self.paths.len() >= MAX_PATHS {
            return false;
        }
        self.paths.insert(path.to_owned(), Trouble { reason, pass });
        true
    }

    /// Call it when a pass begins: everything has been tried once since the last call. Answers
    /// which paths are no trouble any more.
    pub(super) fn begin_pass(&mut self) -> Vec<PathBuf> {
        let ended = self.paths.extract_if(.., |_, trouble| trouble.pass < self.pass);
        let ended = ended.map(|(path, _)| path).collect();
        self.pass += 1;
        ended
    }

    /// How many paths cannot be read.
    pub(super) fn count(&self) -> usize {
        self.paths.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_once_for_a_reason_and_its_end_once() {
        let mut troubles = Troubles::default();
        let path = Path::new("/a");
        let mut pass = |error: Option<i32>| {
            let ended = troubles.begin_pass().len();
            let error = error.map(io::Error::from_raw_os_error);
            let told = error.is_some_and(|error| troubles.note(path, &error));
            (told, ended, troubles.count())
        };
        assert_eq!(pass(Some(13)), (true, 0, 1));
        assert_eq!(pass(Some(13)), (false, 0, 1));
        assert_eq!(pass(Some(5)), (true, 0, 1));
        assert_eq!(pass(None), (false, 0, 1));
        assert_eq!(pass(None), (false, 1, 0));
        assert_eq!(pass(Some(13)), (true, 0, 1));
    }

    #[test]
    fn a_flood_of_paths_takes_no_memory() {
        let (mut troubles, error) = (Troubles::default(), io::Error::from_raw_os_error(13));
        let told = (0..10_000).filter(|n| troubles.note(&PathBuf::from(n.to_string()), &error));
        assert_eq!(told.count(), MAX_PATHS);
    }
}
