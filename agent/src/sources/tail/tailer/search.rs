//! Searching the heir of a file among files that are being renamed.
//!
//! A rotation renames every file of a name, and gives the inode of the one that
//! it deletes to the next. So a file can have another name as soon as it was
//! listed, and an inode that belonged to one that is known. Here nothing is
//! taken for granted that was found by name: whoever finds another file than
//! the one that was listed lists again.

use std::{
    io::{self, ErrorKind},
    sync::atomic::Ordering::Relaxed,
};

use pipeline::line::FilePosition;
use tracing::warn;

use super::{
    super::{
        body::Body,
        file,
        heir::{self, Candidate, Heir, Search, Wanted},
        plan::{Found, Node},
    },
    Tailer,
};

/// How often the directories are listed anew, at most, because something was renamed. Each time
/// costs well below the time between two rotations.
const TRIES: usize = 32;

impl Tailer {
    /// The file in which what was in another goes on.
    pub(super) fn search(&mut self, wanted: &Wanted) -> Option<Heir> {
        self.settle();
        let (source, FilePosition { file, offset }) = (self.config.id, wanted.position);
        for _ in 0..TRIES {
            match heir::find(wanted, self.candidates()) {
                Search::Nothing => return None,
                Search::Heir(heir) => return Some(*heir),
                Search::Moved => {}
                Search::Unclear(paths) => {
                    warn!(
                        source = source.0, %file, offset, ?paths,
                        "each of these files could hold what was in a file that was truncated or \
                         is gone, and nothing tells which: none of them is read"
                    );
                    return None;
                }
            }
        }
        warn!(
            source = source.0, %file, offset, tries = TRIES,
            "files are renamed faster than they can be looked at: what was in a file that was \
             truncated or is gone was not found; rotate less often"
        );
        None
    }

    /// Positions whose inodes are other files' by now, or whose files were truncated, move to their
    /// heirs. Only after that it is known which files are new, and can be heirs of others.
    pub(super) fn settle(&mut self) {
        self.drop_replaced();
        if std::mem::replace(&mut self.searching, true) {
            return;
        }
        self.look_at_relatives();
        while let Some((position, fully_read)) = self.displaced.pop_front() {
            self.inherit_replaced(position, fully_read);
        }
        self.searching = false;
    }

    /// Takes all positions out whose files are not there any more under their inodes. Ends with a
    /// look at the directories at which there was none, so that nothing that was displaced before
    /// is in a file that is taken for another.
    fn drop_replaced(&mut self) {
        for _ in 0..TRIES {
            let displaced = self.displaced.len();
            let listed = self.scanner.list(&self.around.directories);
            let mut whole = true;
            for found in &listed {
                whole &= self.drop_if_replaced(found);
            }
            if whole && self.displaced.len() == displaced {
                return;
            }
        }
        self.signals.pass.store(true, Relaxed);
    }

    /// False if the file has another name by now.
    fn drop_if_replaced(&mut self, found: &Found) -> bool {
        if !self.tracker.may_have_changed(found) {
            return true;
        }
        match reopen(found) {
            Ok((found, head)) => {
                if !self.tracker.is_still(&found, &head) {
                    self.displaced.extend(self.tracker.drop_known(found.node));
                }
                true
            }
            // What cannot be read now is looked at by the next pass.
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }

    /// Files with rotated names that others were copied over are what they were no longer, and may
    /// be heirs now.
    fn look_at_relatives(&mut self) {
        let around = &self.around;
        let open = self.files.keys().copied();
        let relative = open.filter(|node| around.is_relative(self.tracker.path(*node)));
        for node in relative.collect::<Vec<_>>() {
            if let Err(error) = self.look(node) {
                self.unreadable(node, &error);
            }
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
    pub(super) fn consume_copies(&mut self, wanted: &Wanted, was: Option<&[u8]>) {
        for _ in 0..TRIES {
            let mut whole = true;
            for Candidate { found, relative } in self.candidates() {
                if relative && !found.packed && (1..=wanted.end()).contains(&found.size) {
                    whole &= self.consume_if_copy(&found, wanted, was);
                }
            }
            if whole {
                return;
            }
        }
    }

    /// False if the file has another name by now.
    fn consume_if_copy(&mut self, found: &Found, wanted: &Wanted, was: Option<&[u8]>) -> bool {
        let fingerprint = wanted.position.file.fingerprint;
        let (found, head) = match reopen(found) {
            Ok(opened) => opened,
            Err(error) => return error.kind() != ErrorKind::NotFound,
        };
        let begins_alike = match was {
            Some(was) => was.starts_with(&head),
            None => fingerprint.len > 0 && fingerprint.matches(&head),
        };
        if begins_alike && !found.packed && !head.is_empty() {
            self.consume(&found, &head);
        }
        true
    }
}

/// What the file is now, and begins with. [`ErrorKind::NotFound`] when it has another name by now.
fn reopen(found: &Found) -> io::Result<(Found, Vec<u8>)> {
    let (mut body, metadata) = Body::open(&found.path)?;
    if Node::of_metadata(&metadata) != found.node {
        return Err(ErrorKind::NotFound.into());
    }
    let head = body.head()?;
    let (size, modified, packed) = (metadata.len(), file::modified(&metadata), body.is_packed());
    Ok((Found { size, modified, packed, ..found.clone() }, head))
}
