//! One pass over the directories: which files the patterns match, which of the
//! wanted files lie beside them, and which directories are worth watching.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
};

use glob::MatchOptions;

use super::{
    config::{TailConfig, TailConfigError},
    file::modified,
    names,
    plan::{Found, Node},
    race,
};

/// How often a directory is listed, at most, if it changes meanwhile.
const LISTINGS: usize = 8;

/// How many files of a directory are looked at when the rest of one is searched for.
const MAX_LISTED: usize = 16_384;

/// As a shell matches.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// The patterns of one source.
#[derive(Debug)]
pub(super) struct Scanner {
    patterns: Vec<Pattern>,
    exclude: Vec<glob::Pattern>,
}

/// What a pass found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) found: Vec<Found>,
    /// Where files can appear or change.
    pub(super) directories: BTreeSet<PathBuf>,
    /// Under which names the matched files change.
    pub(super) names: BTreeSet<PathBuf>,
    /// Where the pass could not look, and why.
    pub(super) errors: Vec<(PathBuf, io::Error)>,
}

#[derive(Debug)]
enum Pattern {
    Path(PathBuf),
    Glob { glob: glob::Pattern, base: PathBuf },
}

impl Scanner {
    pub(super) fn new(config: &TailConfig) -> Result<Self, TailConfigError> {
        config.check()?;
        let patterns = config.paths.iter().filter_map(|text| Pattern::new(text)).collect();
        let exclude = config.exclude.iter().filter_map(|text| glob::Pattern::new(text).ok());
        Ok(Scanner { patterns, exclude: exclude.collect() })
    }

    /// Looks at everything the patterns match, and for the `wanted` files also
    /// at everything else in the same directories.
    pub(super) fn scan(&self, wanted: &BTreeSet<Node>) -> Scan {
        let mut scan = Scan::default();
        for pattern in &self.patterns {
            match pattern {
                Pattern::Path(path) => {
                    scan.directory_of(path);
                    self.matched(path, &mut scan);
                }
                Pattern::Glob { glob, base } => {
                    scan.directories.insert(base.clone());
                    for path in glob::glob_with(glob.as_str(), OPTIONS).into_iter().flatten() {
                        match path {
                            Ok(path) => self.matched(&path, &mut scan),
                            Err(error) => {
                                let path = error.path().to_owned();
                                scan.failed(&path, error.into());
                            }
                        }
                    }
                }
            }
        }
        let seen: BTreeSet<Node> = scan.found.iter().map(|found| found.node).collect();
        let missing: BTreeSet<Node> = wanted.difference(&seen).copied().collect();
        if !missing.is_empty() {
            scan.look_beside(self, &missing);
        }
        scan
    }

    /// All files of these directories, each once, whatever their names.
    pub(super) fn list(&self, directories: &BTreeSet<PathBuf>) -> Vec<Found> {
        let mut files = BTreeMap::new();
        for directory in directories {
            for found in self.list_one(directory) {
                match files.get(&found.node) {
                    // Of several names one that a pattern matches counts.
                    Some(Found { matched: true, .. }) if !found.matched => {}
                    _ => drop(files.insert(found.node, found)),
                }
            }
        }
        files.into_values().collect()
    }

    /// Lists a directory until nothing was renamed meanwhile: a file that is can be missed, or be
    /// found under the name that another one has.
    fn list_one(&self, directory: &Path) -> Vec<Found> {
        let changed = || fs::metadata(directory).and_then(|found| found.modified()).ok();
        let mut earlier: Option<Vec<Found>> = None;
        for _ in 0..LISTINGS {
            let before = changed();
            let (listed, whole) = self.list_once(directory);
            let same = |(a, b): (&Found, &Found)| a.path == b.path && a.node == b.node;
            let agree = earlier.as_ref().is_some_and(|earlier| {
                earlier.len() == listed.len() && earlier.iter().zip(&listed).all(same)
            });
            earlier = Some(listed);
            if agree || (whole && before == changed()) {
                break;
            }
        }
        earlier.unwrap_or_default()
    }

    /// Answers also whether each name was still the same file's when that was looked at.
    fn list_once(&self, directory: &Path) -> (Vec<Found>, bool) {
        // What cannot be read is reported by each pass.
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let entries = entries.take(MAX_LISTED).map(|entry| (entry.path(), entry.ino()));
        let (entries, mut whole) = (entries.collect::<Vec<_>>(), true);
        let mut listed = Vec::new();
        for (path, inode) in entries {
            race::moment();
            match fs::symlink_metadata(&path) {
                Ok(metadata) => {
                    whole &= metadata.ino() == inode;
                    if metadata.is_file() {
                        let matched = self.matches(&path);
                        listed.push(Found::new(path, &metadata, matched));
                    }
                }
                Err(error) => whole &= error.kind() != ErrorKind::NotFound,
            }
        }
        (listed, whole)
    }

    /// The paths that are configured and are no globs.
    pub(super) fn fixed_paths(&self) -> impl Iterator<Item = &Path> {
        self.patterns.iter().filter_map(|pattern| match pattern {
            Pattern::Path(path) => Some(path.as_path()),
            Pattern::Glob { .. } => None,
        })
    }

    /// True if a pattern matches the path, whether there is a file or not.
    pub(super) fn matches(&self, path: &Path) -> bool {
        let matched = self.patterns.iter().any(|pattern| match pattern {
            Pattern::Path(fixed) => fixed == path,
            Pattern::Glob { glob, .. } => glob.matches_path_with(path, OPTIONS),
        });
        matched && !self.excludes(path)
    }

    fn excludes(&self, path: &Path) -> bool {
        self.exclude.iter().any(|pattern| pattern.matches_path_with(path, OPTIONS))
    }

    fn matched(&self, path: &Path, scan: &mut Scan) {
        if self.excludes(path) {
            return;
        }
        let target = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => {
                if let Ok(target) = fs::canonicalize(path) {
                    scan.directory_of(&target);
                    scan.names.insert(target);
                }
                fs::metadata(path)
            }
            other => other,
        };
        match target {
            Ok(metadata) if metadata.is_file() => {
                scan.directory_of(path);
                scan.names.insert(path.to_owned());
                scan.found.push(Found::new(path.to_owned(), &metadata, true));
            }
            Ok(_) => {}
            Err(error) => scan.failed(path, error),
        }
    }
}

impl Scan {
    /// Finds files by their inode in the directories where files can appear.
    fn look_beside(&mut self, scanner: &Scanner, missing: &BTreeSet<Node>) {
        let inodes: BTreeSet<u64> = missing.iter().map(|node| node.inode).collect();
        for directory in self.directories.clone() {
            for _ in 0..LISTINGS {
                let there = match named(&directory, &inodes) {
                    Ok(there) => there,
                    Err(error) => {
                        self.failed(&directory, error);
                        break;
                    }
                };
                let before = self.found.len();
                if there.into_iter().all(|path| self.take_missing(path, scanner, missing)) {
                    break;
                }
                // One was renamed meanwhile.
                self.found.truncate(before);
            }
        }
    }

    /// False if the path is not that of a missing file any more.
    fn take_missing(&mut self, path: PathBuf, scanner: &Scanner, missing: &BTreeSet<Node>) -> bool {
        race::moment();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                let matched = scanner.matches(&path);
                let found = Found::new(path, &metadata, matched);
                let is_missing = missing.contains(&found.node);
                self.found.extend(is_missing.then_some(found));
                is_missing
            }
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => {
                self.failed(&path, error);
                true
            }
        }
    }

    fn directory_of(&mut self, path: &Path) {
        if let Some(directory) = path.parent() {
            self.directories.insert(directory.to_owned());
        }
    }

    /// That something is not there is no failure: it may come, or has just gone.
    fn failed(&mut self, path: &Path, error: io::Error) {
        if error.kind() != ErrorKind::NotFound && error.kind() != ErrorKind::NotADirectory {
            self.errors.push((path.to_owned(), error));
        }
    }
}

/// What in a directory has one of these inodes.
fn named(directory: &Path, inodes: &BTreeSet<u64>) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if inodes.contains(&entry.ino()) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

impl Pattern {
    /// The configuration was checked: it is a glob, if it is no path.
    fn new(text: &str) -> Option<Self> {
        let special = |part: &str| part.contains(['*', '?', '[']);
        if !special(text) {
            return Some(Pattern::Path(text.into()));
        }
        let plain: PathBuf = text.split_inclusive('/').take_while(|part| !special(part)).collect();
        let glob = glob::Pattern::new(text).ok()?;
        Some(Pattern::Glob { glob, base: plain.components().collect() })
    }
}

impl Node {
    pub(super) fn of_metadata(metadata: &Metadata) -> Self {
        Node { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl Found {
    fn new(path: PathBuf, metadata: &Metadata, matched: bool) -> Self {
        Found {
            packed: names::is_compressed(&path),
            path,
            node: Node::of_metadata(metadata),
            size: metadata.size(),
            modified: modified(metadata),
            matched,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline::line::SourceId;

    #[test]
    fn the_directory_a_glob_begins_in_is_watched() {
        for (text, expected) in
            [("/var/log/*.log", "/var/log"), ("/var/log/*/a.log", "/var/log"), ("/*", "/")]
        {
            let Some(Pattern::Glob { base, .. }) = Pattern::new(text) else { panic!("{text}") };
            assert_eq!(base, Path::new(expected));
        }
        assert!(matches!(Pattern::new("/var/log/a.log"), Some(Pattern::Path(_))));
    }

    #[test]
    fn only_what_was_asked_for_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a.log", "b.log", ".c.log", "d.log.gz", "known", "alien"] {
            fs::write(path(name), name).unwrap();
        }
        fs::create_dir(path("e.log")).unwrap();
        std::os::unix::fs::symlink(path("nowhere"), path("f.log")).unwrap();
        let text = |name: &str| path(name).to_str().unwrap().to_owned();
        let mut config = TailConfig::new(SourceId(0), [text("*.log*"), text("g/h.log")]);
        config.exclude = vec![text("*.gz")];
        let known = Node::of_metadata(&fs::metadata(path("known")).unwrap());
        let scan = Scanner::new(&config).unwrap().scan(&BTreeSet::from([known]));
        let names: Vec<_> = scan
            .found
            .iter()
            .map(|found| (found.path.file_name().unwrap().to_str().unwrap(), found.matched))
            .collect();
        assert_eq!(names, [("a.log", true), ("b.log", true), ("known", false)]);
        assert!(scan.errors.is_empty(), "{:?}", scan.errors);
        assert!(scan.directories.contains(dir.path()) && scan.directories.contains(&path("g")));
    }
}
