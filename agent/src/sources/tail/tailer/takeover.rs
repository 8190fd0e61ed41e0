//! What becomes of a position when its file is truncated, written anew or gone:
//! it moves to the heir, or is lost and said to be.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::Ordering::Relaxed,
    time::{Instant, SystemTime},
};

use pipeline::line::{FileId, FilePosition, SourceEvent};
use tracing::{info, warn};

use super::{
    super::{
        super::stats::add,
        body::Body,
        config::Start,
        file,
        heir::{self, Candidate, Heir, Search, Wanted},
        names::{self, Age},
        plan::{Found, Node, Opening, Parked, Reached},
        scan::{Scan, Scanner},
    },
    Tailer,
};

/// How many files of one name that were rotated away and read stay known.
const REMEMBERED: usize = 2;

/// What lies around the files of a source, as the last pass found it.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    directories: BTreeSet<PathBuf>,
    /// When something was created, renamed or deleted in them last.
    changed: BTreeMap<PathBuf, SystemTime>,
    /// The tailed files, by their names. Names of rotated ones go on from these.
    bases: BTreeMap<OsString, Vec<PathBuf>>,
}

/// The rotated files of one name.
type Family<'a> = Vec<(Age, &'a Found)>;

impl Surroundings {
    pub(super) fn new(scanner: &Scanner, scan: &Scan) -> Self {
        let matched = scan.found.iter().filter(|found| found.matched);
        let matched: Vec<_> = matched.map(|found| found.path.clone()).collect();
        // The file itself may not be there now.
        let absent = matched.iter().flat_map(|path| {
            let stems =
                names::stems(path).filter(|stem| names::age(path, Path::new(stem)).is_some());
            stems.map(|stem| path.with_file_name(stem)).filter(|base| scanner.matches(base))
        });
        let fixed = scanner.fixed_paths().map(Path::to_owned);
        let paths: BTreeSet<PathBuf> = absent.chain(fixed).chain(matched.clone()).collect();
        let mut bases: BTreeMap<OsString, Vec<PathBuf>> = BTreeMap::new();
        for path in paths {
            if let Some(name) = path.file_name() {
                bases.entry(name.to_owned()).or_default().push(path);
            }
        }
        let directories = scan.directories.clone();
        let modified = |path: &PathBuf| fs::metadata(path).and_then(|found| found.modified());
        let changed =
            directories.iter().filter_map(|path| Some((path.clone(), modified(path).ok()?)));
        Surroundings { changed: changed.collect(), directories, bases }
    }

    /// True if files were created, renamed or deleted since.
    pub(super) fn differ(&self, earlier: &Self) -> bool {
        self.changed != earlier.changed
    }

    /// True if the path has a name that a rotated file could have.
    pub(super) fn is_relative(&self, path: &Path) -> bool {
        names::stems(path).any(|stem| self.bases.contains_key(stem))
    }

    /// The tailed files that the path could be a rotated name of.
    pub(super) fn bases_of(&self, path: &Path) -> Vec<PathBuf> {
        let bases = names::stems(path).filter_map(|stem| self.bases.get(stem));
        bases.flatten().cloned().collect()
    }

    /// The files with rotated names, by directory and name.
    fn families<'a>(&self, listed: &'a [Found]) -> BTreeMap<(&'a Path, &'a OsStr), Family<'a>> {
        let mut families: BTreeMap<_, Family<'a>> = BTreeMap::new();
        for found in listed {
            let (Some(directory), path) = (found.path.parent(), &found.path) else { continue };
            for stem in names::stems(path).filter(|stem| self.bases.contains_key(*stem)) {
                if let Some(age) = names::age(path, Path::new(stem)) {
                    families.entry((directory, stem)).or_default().push((age, found));
                }
            }
        }
        families
    }
}

impl Tailer {
    /// The file was truncated or written anew in place: what was in it goes on in its heir, if
    /// there is one, and what is in it now is new. Of a file with a rotated name that is not
    /// sure: another one may have been copied over it, so the next pass finds out what it is.
    pub(super) fn replaced(&mut self, node: Node) {
        let Some(file) = self.files.get(&node) else { return };
        let (wanted, head) = (file.wanted(), file.head().to_vec());
        add(&self.stats.truncated_files, 1);
        if !self.inherit(&wanted) {
            self.end_replaced(node);
        }
        self.consume_copies(&wanted, Some(&head));
        let path = self.tracker.path(node).to_owned();
        self.tracker.close(node);
        let Some(mut file) = self.files.remove(&node) else { return };
        if self.around.is_relative(&path) {
            self.signals.pass.store(true, Relaxed);
            return;
        }
        if let Err(error) = file.restart() {
            return self.complain(&path, &error);
        }
        let (source, position, now) = (self.config.id, file.position(), Instant::now());
        self.outbox.push_back(SourceEvent::FileFound { source, position });
        // It is read after its heir.
        let opening =
            Opening { path, node, rotated: false, finite: false, start: Start::Beginning };
        self.tracker.open(&opening, now);
        self.tracker.read(node, now, true, Reached::More);
        self.files.insert(node, file);
        self.signals.wake.notify_one();
    }

    /// Nothing but what is in memory is left of what was in the file.
    fn end_replaced(&mut self, node: Node) {
        let Some(file) = self.files.get_mut(&node) else { return };
        let (source, old) = (self.config.id, file.id());
        let (rest, lost) = file.rest(true);
        if lost > 0 {
            add(&self.stats.lost_files, 1);
            add(&self.stats.lost_bytes, lost);
            warn!(
                source = source.0, file = %old, lost_bytes = lost,
                "a file was truncated before it was read to its end, and no copy of it lies \
                 beside it: rotate it by renaming it"
            );
        } else {
            info!(source = source.0, file = %old, "a file was truncated: reading it from 0");
        }
        self.take(rest);
        self.outbox.push_back(SourceEvent::FileGone { source, file: old });
    }

    /// The file was truncated or replaced while it was not open.
    pub(super) fn inherit_replaced(&mut self, position: FilePosition, fully_read: bool) {
        let (source, FilePosition { file, offset }) = (self.config.id, position);
        if fully_read {
            self.outbox.push_back(SourceEvent::FileGone { source, file });
            return;
        }
        let wanted = Wanted { position, seen: None, vanished: false };
        if !self.inherit(&wanted) {
            add(&self.stats.lost_files, 1);
            warn!(
                source = source.0, %file, offset,
                "a file was truncated or replaced while it was not open, and no copy of it lies \
                 beside it: lines behind the offset, if there were any, were not read"
            );
            self.outbox.push_back(SourceEvent::FileGone { source, file });
        }
        self.consume_copies(&wanted, None);
    }

    /// A known file is nowhere to be found.
    pub(super) fn forget(&mut self, position: FilePosition, fully_read: bool) {
        let (source, FilePosition { file, offset }) = (self.config.id, position);
        let heir = self.search(&Wanted { position, seen: None, vanished: true });
        if heir.is_some_and(|heir| self.move_to(heir, position, fully_read)) {
            return;
        }
        if fully_read {
            info!(source = source.0, %file, "a file that was read to its end is gone");
        } else {
            add(&self.stats.lost_files, 1);
            warn!(
                source = source.0, %file, offset,
                "a file went away (deleted, or moved to where no pattern leads) while it was not \
                 open: lines behind the offset, if there were any, were not read"
            );
        }
        self.outbox.push_back(SourceEvent::FileGone { source, file });
    }

    /// Moves a position to the heir of its file, which is opened by the next pass if it has more.
    fn move_to(&mut self, heir: Heir, old: FilePosition, fully_read: bool) -> bool {
        let Heir { found, mut body, head } = heir;
        let complete = body.ends_at(old.offset);
        let complete = complete.and_then(|ends| Ok(ends || !body.reaches(old.offset + 1)?));
        let Ok(complete) = complete.inspect_err(|error| self.complain(&found.path, error)) else {
            return false;
        };
        if fully_read && !complete {
            // It was read to its end, and this one has another.
            return false;
        }
        let position = FilePosition { file: file::identity(found.node, &head), ..old };
        self.rename(old.file, position.file, &found.path);
        self.tracker.adopt(position, complete.then_some(Parked::of(&found)));
        self.signals.pass.store(true, Relaxed);
        true
    }

    /// Goes on in the heir at once, if there is one.
    fn inherit(&mut self, wanted: &Wanted) -> bool {
        let Some(heir) = self.search(wanted) else { return false };
        let (path, node) = (heir.found.path.clone(), heir.found.node);
        let opening = Opening::of(&heir.found, Start::Beginning);
        match self.read_from(&opening, heir, wanted.position.offset) {
            Ok(()) => {
                let new = self.files.get(&node).map(|file| file.id());
                new.inspect(|new| self.rename(wanted.position.file, *new, &path));
                new.is_some()
            }
            Err(error) => {
                self.complain(&path, &error);
                false
            }
        }
    }

    fn rename(&mut self, old: FileId, new: FileId, path: &Path) {
        let (source, path) = (self.config.id, path.display());
        info!(source = source.0, file = %old, %path, "what was in a file goes on in another");
        self.outbox.push_back(SourceEvent::Refingerprint { source, old, new });
        self.tracker.note_rotation();
    }

    fn search(&mut self, wanted: &Wanted) -> Option<Heir> {
        if !std::mem::replace(&mut self.searching, true) {
            self.drop_overwritten();
            self.searching = false;
        }
        match heir::find(wanted, self.candidates()) {
            Search::Nothing => None,
            Search::Heir(heir) => Some(*heir),
            Search::Unclear(paths) => {
                let (source, FilePosition { file, offset }) = (self.config.id, wanted.position);
                warn!(
                    source = source.0, %file, offset, ?paths,
                    "each of these files could hold what was in a file that was truncated or is \
                     gone, and nothing tells which: none of them is read"
                );
                None
            }
        }
    }

    /// Files with rotated names that others were copied over are what they were no longer, and may
    /// be heirs now.
    fn drop_overwritten(&mut self) {
        let around = &self.around;
        let open = self.files.keys().copied();
        let relative = open.filter(|node| around.is_relative(self.tracker.path(*node)));
        for node in relative.collect::<Vec<_>>() {
            if let Err(error) = self.look(node) {
                self.unreadable(node, &error);
            }
        }
        let listed = self.scanner.list(&self.around.directories);
        self.settle_replaced(&listed);
    }

    /// Positions whose inodes are other files' by now, or whose files were truncated, move to their
    /// heirs. Only after that it is known which files are new.
    pub(super) fn settle_replaced(&mut self, found: &[Found]) {
        let mut gone = Vec::new();
        for found in found {
            if !self.tracker.may_have_changed(found) {
                continue;
            }
            // What cannot be read now is looked at by the next pass.
            let Ok((mut body, metadata)) = Body::open(&found.path) else { continue };
            let Ok(head) = body.head() else { continue };
            let same = Node::of_metadata(&metadata) == found.node;
            if same && !self.tracker.is_still(found, &head) {
                gone.extend(self.tracker.drop_known(found.node));
            }
        }
        for (position, fully_read) in gone {
            self.inherit_replaced(position, fully_read);
        }
    }

    /// The files that nothing is known of.
    fn candidates(&self) -> Vec<Candidate> {
        let listed = self.scanner.list(&self.around.directories).into_iter();
        let unknown = listed.filter(|found| !self.tracker.has(found.node));
        let candidate =
            |found: Found| Candidate { relative: self.around.is_relative(&found.path), found };
        unknown.map(candidate).collect()
    }

    /// A copy that was made before the last lines were read is no heir, and nothing new either.
    fn consume_copies(&mut self, wanted: &Wanted, was: Option<&[u8]>) {
        let fingerprint = wanted.position.file.fingerprint;
        for Candidate { found, relative } in self.candidates() {
            if !relative || found.packed || !(1..=wanted.end()).contains(&found.size) {
                continue;
            }
            let Ok((mut body, metadata)) = Body::open(&found.path) else { continue };
            let same = Node::of_metadata(&metadata) == found.node && !body.is_packed();
            let Ok(head) = body.head() else { continue };
            let begins_alike = match was {
                Some(was) => was.starts_with(&head),
                None => fingerprint.len > 0 && fingerprint.matches(&head),
            };
            if same && begins_alike && !head.is_empty() {
                self.consume(&found, &head);
            }
        }
    }

    /// Reads the files that came and were rotated away while nobody looked: those with rotated
    /// names that are newer than the newest one that is known.
    pub(super) fn read_orphans(&mut self) {
        if !self.tracker.take_rotation() {
            return;
        }
        let listed = self.scanner.list(&self.around.directories);
        let mut orphans = Vec::new();
        for family in self.around.families(&listed).into_values() {
            orphans.extend(self.orphans_of(family));
        }
        for orphan in orphans {
            let twin = |found: &Found| names::is_twin(&orphan.path, &found.path);
            // One that is being compressed is there twice.
            if listed.iter().any(twin) {
                continue;
            }
            let path = orphan.path.clone();
            if let Err(error) = self.read_orphan(orphan, &listed)
                && error.kind() != io::ErrorKind::NotFound
            {
                self.complain(&path, &error);
            }
        }
    }

    /// What is newer than the oldest one that is known was not there when that one was read. The
    /// oldest first.
    fn orphans_of(&self, mut family: Family<'_>) -> Vec<Found> {
        family.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(Ordering::Equal));
        let known = family.iter().position(|(_, found)| self.tracker.has(found.node));
        let Some(known) = known else { return Vec::new() };
        let (age, anchor) = family[known].clone();
        let fresh = family.into_iter().filter(|(other, found)| {
            let opened_by_itself = found.matched && !found.packed;
            let newer = *other > age && found.modified >= anchor.modified;
            newer && !opened_by_itself && !self.tracker.has(found.node)
        });
        fresh.map(|(_, found)| found.clone()).collect()
    }

    /// Of the files that were rotated away and read to their end the newest stay known: what is
    /// newer than these was not seen. More would only be positions to keep. One that is not read to
    /// its end keeps all that are newer.
    pub(super) fn forget_older(&mut self) {
        let listed = self.scanner.list(&self.around.directories);
        let mut old = Vec::new();
        for mut family in self.around.families(&listed).into_values() {
            family.retain(|(_, found)| !found.matched && self.tracker.has(found.node));
            family.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(Ordering::Equal));
            family.truncate(family.len().saturating_sub(REMEMBERED));
            let parked = family.iter().take_while(|(_, found)| self.tracker.is_parked(found));
            old.extend(parked.map(|(_, found)| found.node));
        }
        for (FilePosition { file, .. }, _) in
            old.into_iter().flat_map(|node| self.tracker.drop_known(node)).collect::<Vec<_>>()
        {
            self.outbox.push_back(SourceEvent::FileGone { source: self.config.id, file });
        }
    }

    fn read_orphan(&mut self, found: Found, listed: &[Found]) -> io::Result<()> {
        let (mut body, metadata) = Body::open(&found.path)?;
        if Node::of_metadata(&metadata) != found.node || self.tracker.has(found.node) {
            return Ok(());
        }
        let found = Found { packed: body.is_packed(), ..found };
        let head = body.head()?;
        if self.may_be_another(&head, listed)
            || self.is_no_log_of_its_own(&found, &mut body, &head)?
        {
            if !self.tracker.has(found.node) {
                self.tracker.note_rotation();
            }
            return Ok(());
        }
        let opening = Opening { rotated: true, ..Opening::of(&found, Start::Beginning) };
        let path = found.path.display().to_string();
        info!(source = self.config.id.0, path, "came and was rotated away unseen: reading it");
        self.begin(&opening, Heir { found, body, head })
    }

    /// True if it begins as a file does that is open and has no name any more, or that is known
    /// and was not opened yet: it may be that one.
    fn may_be_another(&self, head: &[u8], listed: &[Found]) -> bool {
        let has_name = |node: &Node| listed.iter().any(|found| found.node == *node);
        let nameless = self.files.iter().filter(|(node, _)| !has_name(node));
        let alike = |was: &[u8]| !was.is_empty() && head.starts_with(was);
        nameless.into_iter().any(|(_, file)| alike(file.head()))
            || self.tracker.unopened().any(|position| {
                let fingerprint = position.file.fingerprint;
                fingerprint.len > 0 && fingerprint.matches(head)
            })
    }
}
