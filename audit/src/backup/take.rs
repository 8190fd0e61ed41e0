//! Making a snapshot of a store while its node may be running.
//!
//! What is copied is the block log up to the newest checkpoint that lies beside it: not a block more, so
//! that every snapshot ends where a quorum has signed. Blocks are followed as they are copied; what an
//! earlier snapshot has, and was followed then, is not read again.

use super::{
    chain::Chain,
    repo::{Repo, VERSION},
    snapshot::{FileEntry, Object, SegmentInfo, Snapshot, segment_name},
};
use crate::{
    client::read_policy,
    output::{Failure, fail},
};
use indicatif::ProgressBar;
use journal::{Extent, Look, Reader, Segment, Seq, open_read_only_as};
use record::{Checkpoint, batch::Codec, note::SignedNote};
use replica::Params;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What is to be copied.
pub struct Plan {
    /// The node's store.
    pub store: PathBuf,
    /// What the checkpoint must satisfy.
    pub policy: Option<PathBuf>,
    /// The enterprise number of the ledger's own entries.
    pub enterprise: u32,
    /// Files that are copied beside the store: their names, and where they are.
    pub files: Vec<(String, PathBuf)>,
    /// Read everything again, also what earlier snapshots have.
    pub full: bool,
    /// Copy damaged segments as they are.
    pub allow_damaged: bool,
}

/// What a backup did.
pub struct Taken {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Objects that were added.
    pub new_objects: u64,
    /// Their bytes as they are stored.
    pub new_bytes: u64,
}

/// The checkpoint that lies in a store.
///
/// # Errors
/// There is none, or it does not satisfy the policy.
pub fn checkpoint(
    store: &Path,
    policy: Option<&Path>,
) -> Result<(SignedNote, Checkpoint), Failure> {
    let path = store.join("checkpoint");
    let bytes = fs::read(&path).map_err(|error| {
        let hint = "a node writes it some seconds after its first block";
        Failure(format!("{}: {error}; {hint}", path.display()))
    })?;
    let named = |problem: String| Failure(format!("{}: {problem}", path.display()));
    let note = SignedNote::parse(&bytes).map_err(|error| named(error.to_string()))?;
    if let Some(policy) = policy {
        let (_, policy) = read_policy(policy)?;
        policy.verify(&note).map_err(|error| named(error.to_string()))?;
    }
    let checkpoint = Checkpoint::parse(note.text()).map_err(|error| named(error.to_string()))?;
    Ok((note, checkpoint))
}

/// Copies a store into a repository.
///
/// # Errors
/// Something cannot be read or written, or is not what it must be. The repository is as it was, but for
/// objects that no snapshot names.
pub fn run(plan: &Plan, repo: &Repo) -> Result<Taken, Failure> {
    // First the checkpoint, then the blocks: so there are at least as many as it stands for.
    let (note, checkpoint) = checkpoint(&plan.store, plan.policy.as_deref())?;
    let (blocks, _) = open_read_only_as(plan.store.join("blocks"), Look::Last).map_err(fail)?;
    let mut copy = Copy::new(plan, repo, &checkpoint)?;
    let extents = blocks.segments();
    copy.go_on(&extents)?;
    let progress = ProgressBar::new(blocks.durable().0).with_style(super::style("blocks"));
    for extent in extents {
        if copy.is_complete() {
            break;
        }
        copy.segment(&blocks, extent)?;
        progress.set_position(extent.last.0);
    }
    progress.finish_and_clear();
    let files = copy.files()?;
    copy.finish(&note, files)
}

struct Copy<'a> {
    plan: &'a Plan,
    repo: &'a Repo,
    checkpoint: &'a Checkpoint,
    params: Params,
    known: BTreeMap<String, Object>,
    chain: Chain,
    resume: Chain,
    segments: Vec<SegmentInfo>,
    proven: bool,
    new_objects: u64,
    new_bytes: u64,
    codec: Codec,
}

impl<'a> Copy<'a> {
    fn new(plan: &'a Plan, repo: &'a Repo, checkpoint: &'a Checkpoint) -> Result<Self, Failure> {
        let enterprise = record::entry::Enterprise(plan.enterprise);
        Ok(Copy {
            plan,
            repo,
            checkpoint,
            params: Params { origin: checkpoint.origin.clone(), enterprise },
            known: repo.known()?,
            chain: Chain::default(),
            resume: Chain::default(),
            segments: Vec::new(),
            proven: true,
            new_objects: 0,
            new_bytes: 0,
            codec: Codec::default(),
        })
    }

    /// Begins behind what the newest snapshot has of sealed segments.
    fn go_on(&mut self, extents: &[Extent]) -> Result<(), Failure> {
        if self.plan.full {
            return Ok(());
        }
        let Some(newest) = self.repo.newest()? else { return Ok(()) };
        if newest.size > self.checkpoint.size.0 {
            return Err(Failure(format!(
                "{}: the checkpoint is of {} entries, but snapshot {} has {}: this store is an older copy",
                self.plan.store.display(),
                self.checkpoint.size,
                newest.id,
                newest.size
            )));
        }
        let Some(resume) = newest.resume.read().filter(|_| newest.proven) else { return Ok(()) };
        // A store that was repaired may have its segments cut elsewhere.
        if !extents.iter().any(|extent| extent.first.0 == resume.height) {
            return Ok(());
        }
        let behind = |info: &SegmentInfo| info.last <= resume.height;
        self.segments = newest.segments.into_iter().take_while(behind).collect();
        self.chain = resume.clone();
        self.resume = resume;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.proven && self.chain.tree.size() == self.checkpoint.size && self.chain.height > 0
    }

    fn segment(&mut self, blocks: &Reader, extent: Extent) -> Result<(), Failure> {
        if extent.last.0 <= self.chain.height || extent.first == extent.last {
            return Ok(());
        }
        let segment = blocks.load(extent).map_err(fail)?;
        let name = segment_name(extent.first.0);
        let (last, damage) = match self.follow(&segment) {
            Ok(()) if self.proven => (self.chain.height, None),
            Ok(()) => (extent.last.0, None),
            Err(problem) if self.plan.allow_damaged => {
                self.proven = false;
                (extent.last.0, Some(problem))
            }
            Err(problem) => {
                let path = self.plan.store.join("blocks").join(name);
                return Err(Failure(format!(
                    "{}: {problem}\nIt is not copied. Have the node mend it from the others, or take it as \
                     it is with --allow-damaged",
                    path.display()
                )));
            }
        };
        let cut = segment.up_to(Seq(last)).filter(|_| damage.is_none());
        let (object, new) = self.repo.put(&mut self.known, cut.unwrap_or_else(|| segment.raw()))?;
        if new {
            self.new_objects += 1;
            self.new_bytes += object.stored;
        }
        self.segments.push(SegmentInfo { first: extent.first.0, last, object, damage });
        if extent.is_sealed && self.chain.height == extent.last.0 && self.proven {
            self.resume = self.chain.clone();
        }
        Ok(())
    }

    /// Follows the blocks of a segment up to the checkpoint.
    fn follow(&mut self, segment: &Segment) -> Result<(), String> {
        for (seq, bytes) in segment.records() {
            if self.is_complete() {
                return Ok(());
            }
            let Some(bytes) = bytes else {
                let found = segment.damage().first().map(ToString::to_string);
                return Err(found.unwrap_or_else(|| format!("record {seq} cannot be read")));
            };
            if !self.proven {
                continue;
            }
            self.chain.take(&self.params, bytes, &mut self.codec)?;
            if self.chain.tree.size() > self.checkpoint.size {
                return Err("no block ends where the checkpoint does".to_owned());
            }
        }
        Ok(())
    }

    fn files(&mut self) -> Result<Vec<FileEntry>, Failure> {
        let mut files = Vec::new();
        for (name, path) in &self.plan.files {
            let bytes = fs::read(path).map_err(Failure::file(path))?;
            let (object, new) = self.repo.put(&mut self.known, &bytes)?;
            self.new_objects += u64::from(new);
            self.new_bytes += if new { object.stored } else { 0 };
            files.push(FileEntry { name: name.clone(), object });
        }
        Ok(files)
    }

    fn finish(self, note: &SignedNote, files: Vec<FileEntry>) -> Result<Taken, Failure> {
        let (size, root) = (self.chain.tree.size(), self.chain.tree.root());
        if self.proven && (size, root) != (self.checkpoint.size, self.checkpoint.root) {
            return Err(Failure(format!(
                "{}: the blocks lead to {size} entries with the root {root}, but the checkpoint says {} and {}: \
                 the block log was cut off or replaced",
                self.plan.store.display(),
                self.checkpoint.size,
                self.checkpoint.root
            )));
        }
        let now = service::clock::now();
        let digits: String = now.to_string().chars().filter(|c| c.is_ascii_digit()).collect();
        let height = self.segments.last().map_or(0, |segment| segment.last);
        // Sorted by height, whatever the clock did meanwhile.
        let id = format!("{height:012}-{digits}");
        let snapshot = Snapshot {
            version: VERSION,
            id,
            made: now.to_string(),
            program: format!("logseal {}", env!("CARGO_PKG_VERSION")),
            ledger: self.checkpoint.origin.to_string(),
            enterprise: self.plan.enterprise,
            height,
            size: self.checkpoint.size.0,
            root: self.checkpoint.root.to_string(),
            checkpoint: note.to_string(),
            policy_checked: self.plan.policy.is_some(),
            proven: self.proven,
            resume: self.resume.write(),
            segments: self.segments,
            files,
        };
        self.repo.add(&snapshot)?;
        Ok(Taken { snapshot, new_objects: self.new_objects, new_bytes: self.new_bytes })
    }
}
