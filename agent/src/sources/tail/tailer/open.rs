//! Opening files: which of them are new, which are known, and which must not be
//! read because they are copies of others.

use std::{
    io,
    sync::atomic::Ordering::Relaxed,
    time::{Instant, SystemTime},
};

use pipeline::line::{FilePosition, SourceEvent};
use tracing::{debug, info};

use super::{
    super::{
        body::Body,
        config::Start,
        file::{self, TailedFile},
        heir::{self, Candidate, Heir, Wanted},
        plan::{Found, Node, Opening, Parked, Place},
    },
    Tailer,
};

/// A file that looks like a copy of one that is still there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Of which it is a copy.
    original: Node,
    /// Since when it has not changed.
    since: Instant,
    size: u64,
    modified: SystemTime,
}

impl Tailer {
    pub(super) fn open(&mut self, opening: &Opening) {
        // Another one's opening may have led to it.
        if self.files.contains_key(&opening.node) {
            return;
        }
        if let Err(error) = self.try_open(opening) {
            match error.kind() {
                // The name is gone or another file's already; the next pass sees which.
                io::ErrorKind::NotFound => self.signals.pass.store(true, Relaxed),
                _ => self.complain(&opening.path, &error),
            }
        }
    }

    fn try_open(&mut self, opening: &Opening) -> io::Result<()> {
        let (mut body, metadata) = Body::open(&opening.path)?;
        if Node::of_metadata(&metadata) != opening.node || !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let known = self.tracker.is_known(opening.node);
        if body.is_packed() && !known {
            self.pass_over(opening);
            return Ok(());
        }
        let head = body.head()?;
        let found = Found {
            path: opening.path.clone(),
            node: opening.node,
            size: metadata.len(),
            modified: file::modified(&metadata),
            matched: !opening.rotated,
            packed: body.is_packed(),
        };
        if !known && self.is_no_log_of_its_own(&found, &mut body, &head)? {
            return Ok(());
        }
        let place = self.place(&found, &mut body, &head)?;
        for (gone, fully_read) in place.gone {
            self.inherit_replaced(gone, fully_read);
        }
        match place.resume {
            Some(known) => self.resume(opening, Heir { found, body, head }, known),
            None if opening.rotated => Ok(()),
            None => self.begin(opening, Heir { found, body, head }),
        }
    }

    /// Finds out what is known of the file. A compressed one is unpacked up to the position.
    fn place(&mut self, found: &Found, body: &mut Body, head: &[u8]) -> io::Result<Place> {
        let size = if found.packed { u64::MAX } else { found.size };
        let mut place = self.tracker.place(found.node, size, head);
        if found.packed
            && let Some(known) = place.resume
            && !body.ends_at(known.offset)?
            && !body.reaches(known.offset)?
        {
            place.resume = None;
            place.gone.push((known, false));
        }
        Ok(place)
    }

    /// Goes on with a file that is known.
    fn resume(&mut self, opening: &Opening, heir: Heir, known: FilePosition) -> io::Result<()> {
        let (source, Heir { found, body, head }) = (self.config.id, heir);
        let new = file::identity(found.node, &head);
        if new != known.file {
            self.outbox.push_back(SourceEvent::Refingerprint { source, old: known.file, new });
        }
        let position = FilePosition { file: new, ..known };
        // Should more come to a file that was rotated away, it is opened again.
        if opening.rotated && body.ends_at(known.offset)? {
            self.tracker.adopt(position, Some(Parked::of(&found)));
            return Ok(());
        }
        self.read_from(opening, Heir { found, body, head }, known.offset)
    }

    /// Reads a file from its beginning, or where the configuration says.
    pub(super) fn begin(&mut self, opening: &Opening, heir: Heir) -> io::Result<()> {
        let Heir { found, mut body, head } = heir;
        let base = match opening.start {
            Start::Beginning => 0,
            Start::End => file::end_of_lines(&mut body, found.size, self.config.max_line)?,
        };
        let position = FilePosition { file: file::identity(found.node, &head), offset: base };
        self.read_from(opening, Heir { found, body, head }, base)?;
        // No chunk of it leaves before this.
        self.outbox.push_back(SourceEvent::FileFound { source: self.config.id, position });
        Ok(())
    }

    /// The file is open, and read from this offset.
    pub(super) fn read_from(&mut self, opening: &Opening, heir: Heir, base: u64) -> io::Result<()> {
        let (source, Heir { found, body, head }) = (self.config.id, heir);
        let file = TailedFile::new(body, found.node, head, base, source, self.config.max_line)?;
        let path = opening.path.display();
        debug!(source = source.0, %path, file = %file.id(), base, "reading");
        self.tracker.open(opening, Instant::now());
        self.files.insert(found.node, file);
        Ok(())
    }

    /// A compressed file that nothing leads to: what is in it was read, or was there before.
    fn pass_over(&mut self, opening: &Opening) {
        if self.passed_over.insert(opening.node) {
            info!(
                source = self.config.id.0, path = %opening.path.display(),
                "is compressed and holds nothing that is known to be unread: it is not read"
            );
        }
    }

    /// True if the file must not be read from its beginning, at least not yet: it may be what
    /// became of a file that is missing, or it is a copy of one that is there.
    pub(super) fn is_no_log_of_its_own(
        &mut self,
        found: &Found,
        body: &mut Body,
        head: &[u8],
    ) -> io::Result<bool> {
        let candidate =
            Candidate { found: found.clone(), relative: self.around.is_relative(&found.path) };
        let inherits = |position: &FilePosition| {
            let wanted = Wanted { position: *position, seen: None, vanished: true };
            position.file.fingerprint.matches(head) && heir::may_inherit(&wanted, &candidate)
        };
        if self.tracker.missing().any(inherits) {
            self.signals.pass.store(true, Relaxed);
            return Ok(true);
        }
        if body.is_packed() {
            return Ok(false);
        }
        if let Some(original) = self.still_held(found) {
            self.hold(found, head, original);
            return Ok(true);
        }
        for base in self.around.bases_of(&found.path) {
            if let Some(node) = self.tracker.node_at(&base) {
                // It may have been truncated since, and this be its copy.
                self.look(node)?;
                if self.tracker.has(found.node) {
                    return Ok(true);
                }
            }
            let Ok((mut original, metadata)) = Body::open(&base) else { continue };
            let node = Node::of_metadata(&metadata);
            let possible = metadata.is_file() && node != found.node && !original.is_packed();
            if possible
                && found.size <= metadata.len()
                && heir::same_up_to(body, &mut original, found.size)?
            {
                self.hold(found, head, node);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The file is a copy of another, as far as it goes: it may become the rest of it when that is
    /// truncated. If it stays as it is, everything in it is read in the other.
    fn hold(&mut self, found: &Found, head: &[u8], original: Node) {
        let now = Instant::now();
        let Found { size, modified, .. } = *found;
        let fresh = Held { original, since: now, size, modified };
        let held = self.held.entry(found.node).or_insert(fresh);
        if (held.size, held.modified) != (found.size, found.modified) {
            *held = fresh;
        }
        let quiet = now.saturating_duration_since(held.since) >= self.config.grace
            || self.tracker.is_away(original);
        let read = self.files.get(&original).map_or(0, |file| file.position().offset);
        if quiet && found.size > 0 && read >= found.size {
            self.consume(found, head);
        }
    }

    /// The open file that was rotated away since this file, which has not changed, was found to be
    /// a copy of it.
    fn still_held(&self, found: &Found) -> Option<Node> {
        let held = self.held.get(&found.node)?;
        let unchanged = (held.size, held.modified) == (found.size, found.modified);
        (unchanged && self.tracker.is_away(held.original)).then_some(held.original)
    }

    /// Everything in the file was read somewhere else.
    pub(super) fn consume(&mut self, found: &Found, head: &[u8]) {
        let (source, path) = (self.config.id, found.path.display());
        info!(source = source.0, %path, "is a copy of what was read already");
        let file = file::identity(found.node, head);
        let position = FilePosition { file, offset: found.size };
        self.outbox.push_back(SourceEvent::FileFound { source, position });
        self.tracker.adopt(position, Some(Parked::of(found)));
        self.held.remove(&found.node);
    }

    /// Forgets what is remembered of files that are there no longer, or are open by now.
    pub(super) fn forget_unopened(&mut self, found: &[Found]) {
        let there = |node: &Node| found.iter().any(|found| found.node == *node);
        let tracker = &self.tracker;
        self.held.retain(|node, _| there(node) && !tracker.has(*node));
        self.passed_over.retain(there);
    }
}
