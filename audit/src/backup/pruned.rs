//! What a snapshot has of blocks that were given up: the base, and the leaf hashes in front of its end. Nothing that
//! is left could make them again, so they are compared with the base when they are taken and when they are restored.
//!
//! Whether the base is the one that was decided on, the blocks say that are left: one of them holds the
//! declaration that names its digest.

use super::{
    restore,
    snapshot::{BaseInfo, Snapshot, chunk_name},
    style,
    take::Adding,
};
use crate::output::{Failure, fail};
use indicatif::ProgressBar;
use ledger::store::{
    Beginning, FoundBase, Kept, TreeReader, check::is_signed, decode_base, read_base,
};
use record::{Hash, Origin};
use replica::CHUNK;
use std::path::Path;

/// The base of a store, if it has one.
///
/// # Errors
/// It is damaged, or the machine cannot read it.
pub fn base_of(store: &Path) -> Result<Option<Kept>, Failure> {
    match read_base(store).map_err(fail)? {
        FoundBase::Nothing => Ok(None),
        FoundBase::Base(kept) => Ok(Some(kept)),
        FoundBase::Damaged { path, problem } => Err(Failure(format!(
            "{}: {problem}\nWhat it kept of blocks that were given up is nowhere else in this store. Have the node \
             mend it from the others, or restore an earlier snapshot",
            path.display()
        ))),
    }
}

/// Copies a base, and the leaf hashes in front of its end. Whole chunks never change: those that `before` has, of the
/// same ledger, are not read again.
///
/// # Errors
/// A chunk cannot be read or is not what it was, or the repository cannot be written.
pub fn take(
    adding: &mut Adding<'_>,
    store: &Path,
    kept: &Kept,
    before: Option<&BaseInfo>,
) -> Result<BaseInfo, Failure> {
    let (base, digest) = (&kept.base, kept.digest.to_string());
    let mut chunks = known_chunks(before, kept);
    let progress = ProgressBar::new(base.chunk_count()).with_style(style("chunks of leaf hashes"));
    if (chunks.len() as u64) < base.chunk_count() {
        let tree = TreeReader::open_read_only(&store.join("tree")).map_err(fail)?;
        for chunk in chunks.len() as u64..base.chunk_count() {
            let leaves = tree.hashes(0, chunk * CHUNK, base.chunk_len(chunk)).ok();
            let Some(leaves) = leaves.filter(|leaves| base.has_chunk(chunk, leaves)) else {
                return Err(Failure(format!(
                    "{}: {} are not what they were. They are of entries that were given up, and cannot be made \
                     again: have the node mend them from the others, or take them from an earlier snapshot",
                    store.join("tree/level-0").display(),
                    chunk_name(chunk)
                )));
            };
            let bytes: Vec<u8> = leaves.iter().flat_map(|leaf| leaf.0).collect();
            chunks.push(adding.put(&bytes)?);
            progress.set_position(chunk);
        }
    }
    progress.finish_and_clear();
    let object = adding.put(&[&*kept.encoded, &kept.digest.0].concat())?;
    let (height, dropped) = (base.header.height.0, base.header.size.0);
    Ok(BaseInfo { height, dropped, digest, object, chunks })
}

/// The chunks that an earlier snapshot has, as far as they are those of this base.
fn known_chunks(before: Option<&BaseInfo>, kept: &Kept) -> Vec<super::snapshot::Object> {
    let Some(before) = before else { return Vec::new() };
    let known = match before.digest == kept.digest.to_string() {
        true => kept.base.chunk_count(),
        false => before.dropped.min(kept.base.header.size.0) / CHUNK,
    };
    before.chunks.iter().take(known as usize).cloned().collect()
}

/// The base of a snapshot, if it has one: whole, as the snapshot names it, and with every signature in it. Whether it
/// is the one that was decided on, its blocks must say.
///
/// # Errors
/// It is another one, or cannot be read.
pub fn base_in(plan: &restore::Plan<'_>, origin: &Origin) -> Result<Option<Kept>, Failure> {
    let snapshot = plan.snapshot;
    let Some(info) = &snapshot.base else { return Ok(None) };
    let named = |problem: &str| Failure(format!("snapshot {}: its base: {problem}", snapshot.id));
    let bytes = plan.repo.get(&info.object, plan.identities)?;
    let kept = decode_base(&bytes).map_err(|problem| named(&problem))?;
    let header = &kept.base.header;
    let said = (info.height, info.dropped, &*info.digest, info.chunks.len() as u64);
    let chunks = kept.base.chunk_count();
    if said != (header.height.0, header.size.0, &*kept.digest.to_string(), chunks) {
        return Err(named("it is not the one that the snapshot speaks of"));
    }
    for (index, entry) in &kept.base.kept {
        if !is_signed(origin, entry) {
            return Err(named(&format!("the signature of the kept entry {index} does not hold")));
        }
    }
    Ok(Some(kept))
}

/// Begins a restored store with its base.
///
/// # Errors
/// A chunk is not what the base names, or something cannot be read or written.
pub fn put(plan: &restore::Plan<'_>, kept: Kept, work: &Path) -> Result<(), Failure> {
    let snapshot = plan.snapshot;
    let Some(info) = &snapshot.base else { return Ok(()) };
    let progress =
        ProgressBar::new(info.chunks.len() as u64).with_style(style("chunks of leaf hashes"));
    let mut beginning = Beginning::new(work, kept).map_err(fail)?;
    for (chunk, object) in (0..).zip(&info.chunks) {
        let bytes = plan.repo.get(object, plan.identities)?;
        let (leaves, rest) = bytes.as_chunks();
        let leaves: Vec<Hash> = leaves.iter().copied().map(Hash).collect();
        let taken = match rest {
            [] => beginning.chunk(&leaves).map_err(|error| error.to_string()),
            _ => Err("it is no list of hashes".to_owned()),
        };
        taken.map_err(|problem| {
            let name = chunk_name(chunk);
            Failure(format!("snapshot {}: {name}, object {}: {problem}", snapshot.id, object.name))
        })?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    beginning.finish().map_err(fail)
}

/// A snapshot's blocks declare no base, or another one than it has.
pub fn undeclared(snapshot: &Snapshot, kept: &Kept) -> Failure {
    Failure(format!(
        "snapshot {}: its base belongs to no decision of this ledger: none of its blocks declares the base {} of the \
         entries up to block {}",
        snapshot.id, kept.digest, kept.base.header.height
    ))
}
