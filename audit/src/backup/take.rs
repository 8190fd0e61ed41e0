//! Making a snapshot of a store while its node may be running.
//!
//! What is copied is the block log up to the newest checkpoint that lies beside it: not a block more, so
//! that every snapshot ends where a quorum has signed. Blocks are followed as they are copied; what an
//! earlier snapshot has, and was followed then, is not read again.
//!
//! A node may give up old blocks meanwhile. It writes the base before anything goes, so whatever goes wrong while
//! the store has the base that it had at the beginning is wrong; if the base is another one, it is copied again.

use super::{
    chain::Chain,
    pruned,
    repo::{Repo, SNAPSHOT_VERSION},
    snapshot::{BaseInfo, FileEntry, Object, SegmentInfo, Snapshot, segment_name},
};
use crate::{
    client::read_policy,
    output::{Failure, fail},
};
use indicatif::ProgressBar;
use journal::{Extent, Look, Reader, Segment, Seq, open_read_only_as};
use ledger::store::Kept;
use record::{Checkpoint, batch::Codec, note::SignedNote};
use replica::Params;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often a store that gives up blocks while it is copied is copied again.
const ATTEMPTS: usize = 8;
/// For how long a backup waits for a checkpoint of what the node has carried out already. It writes one every few seconds.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);

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
    let mut adding = Adding { repo, known: repo.known()?, objects: 0, bytes: 0 };
    let mut attempts = 0;
    loop {
        attempts += 1;
        // First the checkpoint, then the blocks: so there are at least as many as it stands for. And then the
        // base: so it stands for at least as many as had gone when the blocks were looked at.
        let (note, checkpoint) = checkpoint(&plan.store, plan.policy.as_deref())?;
        let (blocks, _) = open_read_only_as(plan.store.join("blocks"), Look::Last).map_err(fail)?;
        let base = pruned::base_of(&plan.store)?;
        let digest = base.as_ref().map(|base| base.digest);
        let copied = copy(Copy::new(plan, &mut adding, &checkpoint, base), &blocks, &note);
        match copied {
            Ok(Some(snapshot)) => {
                repo.add(&snapshot)?;
                let Adding { objects, bytes, .. } = adding;
                return Ok(Taken { snapshot, new_objects: objects, new_bytes: bytes });
            }
            Ok(None) if attempts < ATTEMPTS => wait_for_another(plan, &note)?,
            Ok(None) => return Err(too_old(plan)),
            Err(failure) => {
                let now = pruned::base_of(&plan.store)?.map(|base| base.digest);
                if now == digest || attempts == ATTEMPTS {
                    return Err(failure);
                }
            }
        }
    }
}

/// Waits for another checkpoint than this one.
fn wait_for_another(plan: &Plan, note: &SignedNote) -> Result<(), Failure> {
    let begun = Instant::now();
    while checkpoint(&plan.store, None)?.0.to_string() == note.to_string() {
        if begun.elapsed() > PATIENCE {
            return Err(too_old(plan));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn too_old(plan: &Plan) -> Failure {
    Failure(format!(
        "{}: blocks were given up, and no block up to the checkpoint declares that: the checkpoint is older. Start the \
         node, which writes a newer one after some seconds",
        plan.store.display()
    ))
}

/// Copies a store as it is now; nothing if the checkpoint is older than what gave up its old blocks.
fn copy(
    mut copy: Copy<'_, '_>,
    blocks: &Reader,
    note: &SignedNote,
) -> Result<Option<Snapshot>, Failure> {
    if copy.is_ahead() {
        return Ok(None);
    }
    let extents = blocks.segments();
    copy.begin(&extents)?;
    let progress = ProgressBar::new(blocks.durable().0).with_style(super::style("blocks"));
    for extent in extents {
        if copy.is_complete() {
            break;
        }
        copy.segment(blocks, extent)?;
        progress.set_position(extent.last.0);
    }
    progress.finish_and_clear();
    copy.check_end()?;
    if !copy.is_declared() {
        return Ok(None);
    }
    let base = copy.base()?;
    let files = copy.files()?;
    Ok(Some(copy.finish(note, base, files)))
}

/// What is added to a repository.
pub struct Adding<'a> {
    repo: &'a Repo,
    known: BTreeMap<String, Object>,
    objects: u64,
    bytes: u64,
}

impl Adding<'_> {
    /// Adds bytes, if the repository has not got them.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn put(&mut self, bytes: &[u8]) -> Result<Object, Failure> {
        let (object, new) = self.repo.put(&mut self.known, bytes)?;
        if new {
            self.objects += 1;
            self.bytes += object.stored;
        }
        Ok(object)
    }
}

struct Copy<'a, 'b> {
    plan: &'a Plan,
    adding: &'a mut Adding<'b>,
    checkpoint: &'a Checkpoint,
    params: Params,
    kept: Option<Kept>,
    /// The base of the snapshot that this one goes on from.
    before: Option<BaseInfo>,
    chain: Chain,
    resume: Chain,
    segments: Vec<SegmentInfo>,
    proven: bool,
    codec: Codec,
}

impl<'a, 'b> Copy<'a, 'b> {
    fn new(
        plan: &'a Plan,
        adding: &'a mut Adding<'b>,
        checkpoint: &'a Checkpoint,
        kept: Option<Kept>,
    ) -> Self {
        let enterprise = record::entry::Enterprise(plan.enterprise);
        let chain = kept.as_ref().map(|kept| Chain::behind(&kept.base)).unwrap_or_default();
        Copy {
            plan,
            adding,
            checkpoint,
            params: Params { origin: checkpoint.origin.clone(), enterprise },
            kept,
            before: None,
            resume: chain.clone(),
            chain,
            segments: Vec::new(),
            proven: true,
            codec: Codec::default(),
        }
    }

    /// True if the base reaches beyond the checkpoint.
    fn is_ahead(&self) -> bool {
        self.chain.tree.size() > self.checkpoint.size
    }

    /// True if the base is one that the blocks declare.
    fn is_declared(&self) -> bool {
        let declares = |kept: &Kept| self.chain.declared.contains(&kept.digest);
        !self.proven || self.kept.as_ref().is_none_or(declares)
    }

    /// Begins behind what the newest snapshot has of sealed segments, or else behind what was given up.
    fn begin(&mut self, extents: &[Extent]) -> Result<(), Failure> {
        let floor = self.chain.height;
        if let Some(first) = extents.first().filter(|extent| extent.first.0 > floor) {
            return Err(Failure(format!(
                "{}: the segments in front of {} are missing. Have the node mend them from the others",
                self.plan.store.join("blocks").display(),
                segment_name(first.first.0)
            )));
        }
        if self.plan.full {
            return Ok(());
        }
        let Some(newest) = self.adding.repo.newest()? else { return Ok(()) };
        if newest.size > self.checkpoint.size.0 {
            return Err(Failure(format!(
                "{}: the checkpoint is of {} entries, but snapshot {} has {}: this store is an older copy",
                self.plan.store.display(),
                self.checkpoint.size,
                newest.id,
                newest.size
            )));
        }
        // What an older program made does not say what its blocks declare, and blocks in front of a base were not followed.
        let known = newest.base.as_ref().is_none_or(|base| base.height <= floor);
        let fits = newest.proven && newest.version == SNAPSHOT_VERSION && known;
        let Some(resume) = newest.resume.read().filter(|_| fits) else { return Ok(()) };
        // A store that was repaired may have its segments cut elsewhere.
        if !extents.iter().any(|extent| extent.first.0 == resume.height) {
            return Ok(());
        }
        let used = |info: &SegmentInfo| info.last > floor && info.last <= resume.height;
        let segments: Vec<_> = newest.segments.into_iter().filter(used).collect();
        if segments.first().is_some_and(|segment| segment.first <= floor) {
            (self.segments, self.before) = (segments, newest.base);
            self.chain = resume.clone();
            self.resume = resume;
        }
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
        let object = self.adding.put(cut.unwrap_or_else(|| segment.raw()))?;
        self.segments.push(SegmentInfo { first: extent.first.0, last, object, damage });
        if extent.is_sealed && self.chain.height == extent.last.0 && self.proven {
            self.resume = self.chain.clone();
        }
        Ok(())
    }

    /// Follows the blocks of a segment up to the checkpoint.
    fn follow(&mut self, segment: &Segment) -> Result<(), String> {
        // Blocks that were given up may stand in front of those that are left.
        let floor = self.kept.as_ref().map(|kept| kept.base.header.height.0).unwrap_or_default();
        for (seq, bytes) in segment.records() {
            if self.is_complete() {
                return Ok(());
            }
            if seq.0 < floor && (bytes.is_some() || segment.extent().is_sealed) {
                continue;
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
            files.push(FileEntry { name: name.clone(), object: self.adding.put(&bytes)? });
        }
        Ok(files)
    }

    /// What is kept of blocks that were given up.
    fn base(&mut self) -> Result<Option<BaseInfo>, Failure> {
        let Some(kept) = &self.kept else { return Ok(None) };
        let before = self.before.as_ref();
        pruned::take(self.adding, &self.plan.store, kept, before).map(Some)
    }

    /// The blocks must lead to the checkpoint.
    fn check_end(&self) -> Result<(), Failure> {
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
        Ok(())
    }

    fn finish(self, note: &SignedNote, base: Option<BaseInfo>, files: Vec<FileEntry>) -> Snapshot {
        let now = service::clock::now();
        let digits: String = now.to_string().chars().filter(|c| c.is_ascii_digit()).collect();
        let height = self.segments.last().map_or(0, |segment| segment.last);
        // Sorted by height, whatever the clock did meanwhile.
        let id = format!("{height:012}-{digits}");
        Snapshot {
            version: SNAPSHOT_VERSION,
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
            base,
            resume: self.resume.write(),
            segments: self.segments,
            files,
        }
    }
}
