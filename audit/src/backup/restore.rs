//! Making a store out of a snapshot, and executing it again from the first block that it has: what is restored
//! is what a quorum signed for, or it is not restored. What is in front of that block was given up, and what stays of
//! it is what the blocks behind it declare.

use super::{
    pruned,
    repo::Repo,
    snapshot::{SegmentInfo, Snapshot, segment_name},
};
use crate::{
    client::read_policy,
    export::{private_dir, sync_dir, write_file},
    output::{Failure, fail},
};
use age::x25519::Identity;
use indicatif::ProgressBar;
use journal::{Seq, open_read_only};
use ledger::store::Kept;
use link::statement;
use record::{
    Checkpoint, batch::Codec, declaration::Declaration, enrolment::Enrolment, entry::Enterprise,
    note::SignedNote,
};
use replica::{Block, LedgerState, Params, execute::replay};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Where files that lay beside the store are put, below the restored store.
pub const BESIDE: &str = "from-backup";

/// What is to be restored.
pub struct Plan<'a> {
    /// From where.
    pub repo: &'a Repo,
    /// What.
    pub snapshot: &'a Snapshot,
    /// What the checkpoint must satisfy.
    pub policy: Option<&'a Path>,
    /// What encrypted objects are opened with.
    pub identities: &'a [Identity],
    /// Also what was damaged when it was copied; nothing is proven then.
    pub allow_damaged: bool,
}

/// A store that was restored.
pub struct Restored {
    /// Blocks in it.
    pub blocks: u64,
    /// Records in it.
    pub records: u64,
    /// Bytes of its block log.
    pub bytes: u64,
    /// True if it was executed again and has the root of the checkpoint.
    pub proven: bool,
    /// True if several nodes decided its blocks.
    pub clustered: bool,
    /// How long the copying took.
    pub copied: Duration,
    /// How long the executing took.
    pub executed: Duration,
}

/// Restores into `to`, which must be missing or empty. A crash leaves `TO.restoring`, which the next
/// try removes.
///
/// # Errors
/// Something cannot be read or written, or is not what was signed for.
pub fn run(plan: &Plan<'_>, to: &Path) -> Result<Restored, Failure> {
    let work = begin(to)?;
    let made = make(plan, &work);
    if made.is_err() {
        // The first error is the one to report; what this leaves the next try removes.
        let _ = fs::remove_dir_all(&work);
    }
    let restored = made?;
    sync_dir(&work)?;
    fs::rename(&work, to).map_err(Failure::file(to))?;
    sync_dir(to.parent().unwrap_or(Path::new("")))?;
    Ok(restored)
}

/// As [`run`], into a folder that is used for nothing else, and without what a node would need.
///
/// # Errors
/// As [`run`].
pub fn make(plan: &Plan<'_>, work: &Path) -> Result<Restored, Failure> {
    let snapshot = plan.snapshot;
    if !snapshot.proven && !plan.allow_damaged {
        let damaged: Vec<String> = snapshot
            .segments
            .iter()
            .filter_map(|segment| {
                Some(format!("{}: {}", segment_name(segment.first), segment.damage.as_ref()?))
            })
            .collect();
        return Err(Failure(format!(
            "snapshot {} was taken of a damaged store, and proves nothing: choose another, or use \
             --allow-damaged\n{}",
            snapshot.id,
            damaged.join("\n")
        )));
    }
    let checkpoint = checkpoint(snapshot, plan.policy)?;
    let kept = pruned::base_in(plan, &checkpoint.origin)?;
    let floor = snapshot.base.as_ref().map(|base| base.height).unwrap_or_default();
    check_segments(&snapshot.segments, floor, snapshot.height)?;
    let begun = Instant::now();
    let bytes = copy(plan, work)?;
    if let Some(kept) = &kept {
        pruned::put(plan, kept.clone(), work)?;
    }
    let copied = begun.elapsed();
    let begun = Instant::now();
    let mut restored = match snapshot.proven {
        true => execute(snapshot, &checkpoint, kept.as_ref(), &work.join("blocks"))?,
        false => Restored::unproven(snapshot.height),
    };
    (restored.bytes, restored.copied, restored.executed) = (bytes, copied, begun.elapsed());
    write_file(&work.join("checkpoint"), snapshot.checkpoint.as_bytes())?;
    if restored.clustered {
        // What this node voted for since, it has forgotten: it must not vote until that cannot matter.
        private_dir(&work.join("votes"))?;
        ledger::rejoin::set(work).map_err(fail)?;
    }
    Ok(restored)
}

impl Restored {
    fn unproven(blocks: u64) -> Self {
        let (copied, executed) = (Duration::ZERO, Duration::ZERO);
        // Nobody knows who decided; not to vote is the safe way.
        let (proven, clustered) = (false, true);
        Restored { blocks, records: 0, bytes: 0, proven, clustered, copied, executed }
    }
}

/// The snapshot's checkpoint, which must be what the snapshot says of it.
fn checkpoint(snapshot: &Snapshot, policy: Option<&Path>) -> Result<Checkpoint, Failure> {
    let named =
        |problem: String| Failure(format!("snapshot {}: its checkpoint: {problem}", snapshot.id));
    let note = SignedNote::parse(snapshot.checkpoint.as_bytes());
    let note = note.map_err(|error| named(error.to_string()))?;
    if let Some(policy) = policy {
        let (_, policy) = read_policy(policy)?;
        policy.verify(&note).map_err(|error| named(error.to_string()))?;
    }
    let checkpoint = Checkpoint::parse(note.text()).map_err(|error| named(error.to_string()))?;
    let said = (&*snapshot.ledger, snapshot.size, &*snapshot.root);
    let (origin, root) = (checkpoint.origin.to_string(), checkpoint.root.to_string());
    if said != (&*origin, checkpoint.size.0, &*root) {
        return Err(named("it is not the one that the snapshot speaks of".into()));
    }
    Ok(checkpoint)
}

/// Segments follow each other without a gap from the first block on that was not given up.
fn check_segments(segments: &[SegmentInfo], floor: u64, height: u64) -> Result<(), Failure> {
    // What was given up may stand in front of it in the same segment.
    let mut next = segments.first().map_or(floor, |segment| segment.first.min(floor));
    for segment in segments {
        if segment.first != next || segment.last <= segment.first {
            return Err(Failure(format!(
                "the snapshot has no segment that begins with block {}",
                next + 1
            )));
        }
        next = segment.last;
    }
    if next == height {
        Ok(())
    } else {
        Err(Failure("the snapshot's segments end elsewhere".into()))
    }
}

fn begin(to: &Path) -> Result<PathBuf, Failure> {
    if to.exists() && to.read_dir().map_err(Failure::file(to))?.next().is_some() {
        let problem =
            "is not empty, and nothing is ever restored over something: choose another folder";
        return Err(Failure(format!("{} {problem}", to.display())));
    }
    let name = to.file_name().ok_or_else(|| Failure("name a folder to restore to".into()))?;
    let mut work = name.to_owned();
    work.push(".restoring");
    let work = to.with_file_name(work);
    if work.exists() {
        remove_unfinished(&work)?;
    }
    private_dir(&work)?;
    Ok(work)
}

/// Removes what a restore left that did not end: everything in it is in the repository.
fn remove_unfinished(work: &Path) -> Result<(), Failure> {
    for entry in work.read_dir().map_err(Failure::file(work))? {
        let name = entry.map_err(Failure::file(work))?.file_name();
        if !OURS.iter().any(|ours| name == **ours) {
            let problem = "is in the way, and not what a restore leaves: move it away";
            return Err(Failure(format!("{} {problem}", work.display())));
        }
    }
    fs::remove_dir_all(work).map_err(Failure::file(work))
}

/// What a restore that did not end may leave.
const OURS: [&str; 8] =
    ["blocks", "tree", "base", "base.new", "checkpoint", "votes", "rejoining", BESIDE];

/// Writes the block log and what lay beside; the bytes of the block log.
fn copy(plan: &Plan<'_>, work: &Path) -> Result<u64, Failure> {
    let blocks = work.join("blocks");
    private_dir(&blocks)?;
    let sizes = plan.snapshot.segments.iter().map(|segment| segment.object.bytes);
    let total = sizes.fold(0, u64::saturating_add);
    let progress = ProgressBar::new(total).with_style(super::style("bytes copied"));
    for segment in &plan.snapshot.segments {
        let bytes = plan.repo.get(&segment.object, plan.identities)?;
        write_file(&blocks.join(segment_name(segment.first)), &bytes)?;
        progress.inc(segment.object.bytes);
    }
    sync_dir(&blocks)?;
    if !plan.snapshot.files.is_empty() {
        private_dir(&work.join(BESIDE))?;
    }
    for file in &plan.snapshot.files {
        let plain = Path::new(&file.name).file_name().is_some_and(|name| *name == *file.name);
        if !plain {
            return Err(Failure(format!("the snapshot names a file '{}'", file.name)));
        }
        let bytes = plan.repo.get(&file.object, plan.identities)?;
        write_file(&work.join(BESIDE).join(&file.name), &bytes)?;
    }
    progress.finish_and_clear();
    Ok(total)
}

/// Executes every block again, verifying every seal and signature, and compares the end with the checkpoint.
fn execute(
    snapshot: &Snapshot,
    checkpoint: &Checkpoint,
    kept: Option<&Kept>,
    blocks: &Path,
) -> Result<Restored, Failure> {
    let enterprise = Enterprise(snapshot.enterprise);
    let params = Params { origin: checkpoint.origin.clone(), enterprise };
    let (reader, recovery) = open_read_only(blocks).map_err(fail)?;
    let mut state = match kept {
        Some(kept) => kept.base.state().map_err(fail)?,
        None => LedgerState::genesis(),
    };
    let floor = Seq(state.height.0);
    if let Some(damage) = recovery.damage.iter().find(|damage| damage.last_seq > floor) {
        return Err(Failure(damage.to_string()));
    }
    let left = snapshot.height.saturating_sub(floor.0);
    let progress = ProgressBar::new(left).with_style(super::style("blocks verified"));
    let (mut codec, mut is_declared) = (Codec::default(), kept.is_none());
    let mut restored = Restored { proven: true, clustered: false, ..Restored::unproven(0) };
    for item in reader.iter(floor) {
        let (seq, bytes) = item.map_err(fail)?;
        let wrong = |problem: String| Failure(format!("block {}: {problem}", seq.0 + 1));
        let block = Block::decode(&bytes).map_err(|error| wrong(error.to_string()))?;
        restored.clustered |= block.certificate.signatures.len() > 1;
        check_operators(&params, &block).map_err(wrong)?;
        let executed = replay(&params, &state, block, &mut codec);
        let executed = executed.map_err(|error| wrong(error.to_string()))?;
        restored.records +=
            executed.placed.iter().map(|placed| u64::from(placed.count)).sum::<u64>();
        let declared = executed.pruned.as_ref().map(|pruned| pruned.prune.base);
        is_declared |= declared.is_some() && declared == kept.map(|kept| kept.digest);
        executed.apply(&mut state);
        progress.inc(1);
    }
    progress.finish_and_clear();
    restored.blocks = state.height.0;
    if (state.tree.size(), state.tree.root()) != (checkpoint.size, checkpoint.root) {
        return Err(Failure(format!(
            "the blocks lead to {} entries with the root {}, but the checkpoint says {} and {}",
            state.tree.size(),
            state.tree.root(),
            checkpoint.size,
            checkpoint.root
        )));
    }
    match kept {
        Some(kept) if !is_declared => Err(pruned::undeclared(snapshot, kept)),
        _ => Ok(restored),
    }
}

/// Every enrolment and declaration must carry an operator's signature.
fn check_operators(params: &Params, block: &Block) -> Result<(), String> {
    let origin = &params.origin;
    let enrols =
        |body: &[u8]| Enrolment::decode(body).is_ok_and(|e| statement::enrolment_holds(origin, &e));
    let declares = |body: &[u8]| {
        Declaration::decode(body).is_ok_and(|d| statement::declaration_holds(origin, &d))
    };
    if !block.enrolments.iter().all(|body| enrols(body)) {
        return Err("the operator's signature on an enrolment does not hold".to_owned());
    }
    if !block.declarations.iter().all(|body| declares(body)) {
        return Err("the operator's signature on a declaration does not hold".to_owned());
    }
    Ok(())
}
