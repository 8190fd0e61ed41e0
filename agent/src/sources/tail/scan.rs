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
};

/// How often a directory is listed, at most, if it changes meanwhile.
const LISTINGS: usize = 3;

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
            scan.look_beside(&missing);
        }
        scan
    }

    /// All files of these directories, each once, whatever their names.
    pub(super) fn list(&self, directories: &BTreeSet<PathBuf>) -> Vec<Found> {
        let mut files = BTreeMap::new();
        for directory in directories {
            let changed = || fs::metadata(directory).and_then(|found| found.modified()).ok();
            // A file that is renamed meanwhile can be missed.
            for _ in 0..LISTINGS {
                let before = changed();
                self.list_one(directory, &mut files);
                if before == changed() {
                    break;
                }
            }
        }
        files.into_values().collect()
    }

    fn list_one(&self, directory: &Path, files: &mut BTreeMap<Node, Found>) {
        // What cannot be read is reported by each pass.
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries.take(MAX_LISTED) {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else { continue };
            if !metadata.is_file() {
                continue;
            }
            let matched = self.matches(&path);
            let found = Found::new(path, &metadata, matched);
            match files.get(&found.node) {
                // Of several names one that a pattern matches counts.
                Some(other) if other.matched && !matched && other.path.exists() => {}
                _ => drop(files.insert(found.node, found)),
            }
        }
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
    fn look_beside(&mut self, missing: &BTreeSet<Node>) {
        let inodes: BTreeSet<u64> = missing.iter().map(|node| node.inode).collect();
        for directory in self.directories.clone() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) => {
                    self.failed(&directory, error);
                    continue;
                }
            };
            for entry in entries {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) => {
                        self.failed(&directory, error);
                        break;
                    }
                };
                if !inodes.contains(&entry.ino()) {
                    continue;
                }
                match entry.metadata() {
                    Ok(metadata) if metadata.is_file() => {
                        let found = Found::new(entry.path(), &metadata, false);
                        if missing.contains(&found.node) {
                            self.found.push(found);
                        }
                    }
                    Ok(_) => {}
                    Err(error) => self.failed(&entry.path(), error),
                }
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
