//! Finds the file in which the content of another goes on to exist: the copy
//! that was made before a truncation, the compressed file, the file that was
//! moved to another disk.
//!
//! A file is taken for an heir only if it begins as the other did, has all that
//! was read of it, and was not modified before that was read. Where several
//! could be meant and nothing tells which, none is: a line that is not read is
//! reported, and one that comes twice would be evidence of something that
//! happened once.

use std::{io, path::PathBuf, time::SystemTime};

use pipeline::line::{FilePosition, Fingerprint};

use super::{
    body::Body,
    plan::{Found, Node},
};

/// How many files are opened to find one heir, at most: those with rotated names, then the newest.
const MAX_OPENED: usize = 1024;

/// So many bytes of two files are compared to tell whether one is a copy of the other.
const COMPARED: usize = 1024;

/// What is looked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Where to go on.
    pub(super) position: FilePosition,
    /// What is remembered of the file if it was open.
    pub(super) seen: Option<Seen>,
    /// The file is gone. Otherwise it was truncated or written anew.
    pub(super) vanished: bool,
}

/// What an open file was when it was whole for the last time.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// How far it was read.
    pub(super) end: u64,
    /// The last bytes in front of `end`.
    pub(super) tail: Vec<u8>,
    /// When it was modified last. What holds more than that was modified later, be it a copy that
    /// kept the time.
    pub(super) since: SystemTime,
}

/// A file that may be the heir.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) found: Found,
    /// Its name goes on from that of a tailed file.
    pub(super) relative: bool,
}

/// The heir, open.
#[derive(Debug)]
pub(super) struct Heir {
    pub(super) found: Found,
    pub(super) body: Body,
    pub(super) head: Vec<u8>,
}

/// What was found.
#[derive(Debug)]
pub(super) enum Search {
    Nothing,
    Heir(Box<Heir>),
    /// Each of these could be it.
    Unclear(Vec<PathBuf>),
}

impl Wanted {
    /// Where reading had come to.
    pub(super) fn end(&self) -> u64 {
        self.seen.as_ref().map_or(self.position.offset, |seen| seen.end)
    }

    fn node(&self) -> Node {
        Node::of(&self.position.file)
    }

    fn fingerprint(&self) -> &Fingerprint {
        &self.position.file.fingerprint
    }
}

/// True if the file can be the heir, as far as names and sizes tell.
///
/// A file that a pattern matches and that has no rotated name is most likely a log of its own that
/// begins alike: it is an heir only if much of the beginning is the same, or its inode.
pub(super) fn may_inherit(wanted: &Wanted, candidate: &Candidate) -> bool {
    let (file, found) = (wanted.position.file, &candidate.found);
    let same_inode = wanted.vanished && found.node.inode == file.inode;
    let long = usize::from(file.fingerprint.len) == Fingerprint::MAX_LEN;
    let own_log = found.matched && !candidate.relative && !long && !same_inode;
    let newer = wanted.seen.as_ref().is_none_or(|seen| found.modified >= seen.since);
    file.fingerprint.len > 0
        && found.node != wanted.node()
        && (found.packed || found.size >= wanted.end())
        && newer
        && !own_log
}

/// Looks for the heir among these files, which are neither open nor known.
pub(super) fn find(wanted: &Wanted, mut candidates: Vec<Candidate>) -> Search {
    candidates.retain(|candidate| may_inherit(wanted, candidate));
    candidates.sort_by_key(|candidate| {
        let found = &candidate.found;
        let same_inode = found.node.inode == wanted.position.file.inode;
        (!(wanted.vanished && same_inode), !candidate.relative, std::cmp::Reverse(found.modified))
    });
    let mut heirs = Vec::new();
    for candidate in candidates.into_iter().take(MAX_OPENED) {
        // What cannot be read is no heir; the pass says why if it is to be read for itself.
        let Ok(Some(heir)) = open(wanted, candidate.found) else { continue };
        if wanted.vanished && heir.found.node.inode == wanted.position.file.inode {
            return Search::Heir(Box::new(heir));
        }
        heirs.push(heir);
    }
    choose(wanted, heirs)
}

/// Opens the candidate, if it is one by its content.
fn open(wanted: &Wanted, found: Found) -> io::Result<Option<Heir>> {
    let (mut body, metadata) = Body::open(&found.path)?;
    if Node::of_metadata(&metadata) != found.node {
        return Ok(None);
    }
    let head = body.head()?;
    if !wanted.fingerprint().matches(&head) || !body.reaches(wanted.end())? {
        return Ok(None);
    }
    if let Some(Seen { end, tail, .. }) = &wanted.seen
        && *end > head.len() as u64
    {
        let mut there = vec![0; tail.len()];
        let read = body.read_at(&mut there, end - tail.len() as u64)?;
        if read < tail.len() || there != *tail {
            return Ok(None);
        }
    }
    Ok(Some(Heir { found, body, head }))
}

fn choose(wanted: &Wanted, mut heirs: Vec<Heir>) -> Search {
    // A file and the same one, compressed: the compressed one may not be complete yet.
    let plain: Vec<PathBuf> = heirs.iter().map(|heir| heir.found.path.clone()).collect();
    heirs.retain(|heir| !plain.iter().any(|path| super::names::is_twin(&heir.found.path, path)));
    // The first that was made after the last look holds what was there then.
    heirs.sort_by_key(|heir| heir.found.modified);
    if wanted.seen.is_some() {
        heirs.truncate(1);
    }
    while heirs.len() > 1 {
        let (Some(mut one), Some(mut other)) = (heirs.pop(), heirs.pop()) else { break };
        if !is_copy(&mut one, &mut other) {
            let paths = [one, other].into_iter().chain(heirs).map(|heir| heir.found.path);
            return Search::Unclear(paths.collect());
        }
        heirs.push(if one.found.size < other.found.size { other } else { one });
    }
    heirs.pop().map_or(Search::Nothing, |heir| Search::Heir(Box::new(heir)))
}

fn is_copy(one: &mut Heir, other: &mut Heir) -> bool {
    let size = one.found.size.min(other.found.size);
    !one.body.is_packed()
        && !other.body.is_packed()
        && same_up_to(&mut one.body, &mut other.body, size).unwrap_or(false)
}

/// True if two files, which have so many bytes, are the same up to there, as far as their first
/// and last bytes tell.
///
/// # Errors
/// When one cannot be read.
pub(super) fn same_up_to(one: &mut Body, other: &mut Body, size: u64) -> io::Result<bool> {
    let length = size.min(COMPARED as u64) as usize;
    let (mut a, mut b) = (vec![0; length], vec![0; length]);
    for offset in [0, size - length as u64] {
        let read = (one.read_at(&mut a, offset)?, other.read_at(&mut b, offset)?);
        if read != (length, length) || a != b {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::{super::body::tests::gzip, *};
    use pipeline::line::FileId;
    use std::{fs, path::Path, time::Duration};

    const GONE: Node = Node { device: 9, inode: u64::MAX };

    fn wanted(head: &[u8], offset: u64, vanished: bool) -> Wanted {
        let fingerprint = Fingerprint::of(head);
        let file = FileId { device: GONE.device, inode: GONE.inode, fingerprint };
        Wanted { position: FilePosition { file, offset }, seen: None, vanished }
    }

    fn candidate(dir: &Path, name: &str, bytes: &[u8], matched: bool, relative: bool) -> Candidate {
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let found = Found {
            packed: super::super::names::is_compressed(&path),
            path,
            node: Node::of_metadata(&metadata),
            size: metadata.len(),
            modified: metadata.modified().unwrap(),
            matched,
        };
        Candidate { found, relative }
    }

    fn name(search: Search) -> String {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        match search {
            Search::Nothing => "nothing".to_owned(),
            Search::Heir(heir) => name(&heir.found.path),
            Search::Unclear(mut paths) => {
                paths.sort();
                paths.iter().map(|path| name(path)).collect::<Vec<_>>().join(" or ")
            }
        }
    }

    #[test]
    fn an_heir_begins_alike_and_has_all_that_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name, bytes: &[u8]| candidate(dir.path(), name, bytes, false, true);
        let search = |files: &[Candidate]| name(find(&wanted(b"1\n2\n", 4, false), files.to_vec()));
        let (short, other) = (file("a.log.3", b"1\n"), file("a.log.2", b"1\n3\n4\n"));
        assert_eq!(search(&[short.clone(), other.clone()]), "nothing");
        let copy = file("a.log.1", b"1\n2\n3\n");
        assert_eq!(search(&[short.clone(), copy.clone(), other.clone()]), "a.log.1");
        let packed = file("a.log.1.gz", &gzip(b"1\n2\n3\n"));
        assert_eq!(search(&[packed.clone(), short.clone()]), "a.log.1.gz");
        assert_eq!(search(&[packed, copy.clone()]), "a.log.1", "it may be packed just now");
        let longer = file("backup", b"1\n2\n3\n4\n");
        assert_eq!(search(&[copy.clone(), longer]), "backup", "a copy of a copy");
        let different = file("a.log.4", b"1\n2\nx\n");
        assert_eq!(search(&[copy, different]), "a.log.1 or a.log.4");
        let nothing_read = name(find(&wanted(b"", 0, false), vec![short, other]));
        assert_eq!(nothing_read, "nothing", "whatever begins with nothing is no heir");
    }

    #[test]
    fn what_was_there_before_the_last_look_is_no_heir() {
        let dir = tempfile::tempdir().unwrap();
        let old = candidate(dir.path(), "a.log.2", b"#head\n1\n", false, true);
        let first = candidate(dir.path(), "a.log.1", b"#head\nx\n", false, true);
        let since = |seconds| {
            let since = first.found.modified + Duration::from_secs(seconds);
            let seen = Some(Seen { end: 6, tail: b"#head\n".to_vec(), since });
            Wanted { seen, ..wanted(b"#head\n", 6, false) }
        };
        let mut younger = first.clone();
        younger.found.modified += Duration::from_secs(2);
        assert_eq!(name(find(&since(1), vec![old.clone(), younger])), "a.log.1");
        assert_eq!(name(find(&since(3), vec![old, first])), "nothing");
    }

    #[test]
    fn a_log_of_its_own_that_begins_alike_is_no_heir() {
        let dir = tempfile::tempdir().unwrap();
        let alike = candidate(dir.path(), "b.log", b"started\nb\n", true, false);
        assert_eq!(name(find(&wanted(b"started\n", 8, true), vec![alike.clone()])), "nothing");
        assert_eq!(name(find(&wanted(b"started\n", 8, false), vec![alike.clone()])), "nothing");
        let mut moved = wanted(b"started\n", 8, true);
        moved.position.file.inode = alike.found.node.inode;
        assert_eq!(name(find(&moved, vec![alike])), "b.log", "the disk has another number now");
        let long = [b'x'; 2000];
        let alike = candidate(dir.path(), "c.log", &long, true, false);
        assert_eq!(name(find(&wanted(&long, 1500, true), vec![alike])), "c.log");
    }

    #[test]
    fn what_was_read_last_tells_files_apart_that_begin_alike() {
        let dir = tempfile::tempdir().unwrap();
        let head = vec![b'h'; 2000];
        let content = |last: &str| [&head[..], last.as_bytes()].concat();
        let ours = candidate(dir.path(), "a.log.2", &content("ours\nrest\n"), false, true);
        let other = candidate(dir.path(), "a.log.1", &content("else\nmore\n"), false, true);
        let tail = content("ours\n")[1005..2005].to_vec();
        let seen = Some(Seen { end: 2005, tail, since: SystemTime::UNIX_EPOCH });
        let wanted = Wanted { seen, ..wanted(&head, 2005, false) };
        assert_eq!(name(find(&wanted, vec![other, ours])), "a.log.2");
    }
}
