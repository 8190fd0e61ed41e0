//! `logseal verify --store`: looks at everything a node's store holds and names all that is wrong.
//!
//! Segments are read and hashed side by side, each once; what follows from what is then looked at in
//! order. Nothing is changed: of the index, which cannot be opened without writing, a copy is looked at.

mod index;
mod report;

use crate::{
    client::read_policy,
    output::{Failure, Outcome, fail},
};
use indicatif::{ProgressBar, ProgressStyle};
use journal::{Extent, Look, Reader, open_read_only_as};
use ledger::store::{
    StoreError, TreeReader,
    check::{Checker, Depth, Fault, FaultKind, Item, items},
};
use record::{Checkpoint, batch::Codec, entry::Enterprise, note::SignedNote, policy::Policy};
use replica::Params;
use report::Report;
use service::members::Members;
use std::{
    io::ErrorKind,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::mpsc::sync_channel,
};

/// What to check, and how thoroughly.
#[derive(Clone, Debug)]
pub struct StoreCheck<'a> {
    /// The store.
    pub dir: &'a Path,
    /// Who must have signed the kept checkpoint.
    pub policy: Option<&'a Path>,
    /// Whether signatures are verified as well.
    pub deep: bool,
    /// The nodes whose votes decided the blocks.
    pub members: Option<&'a Path>,
    /// The enterprise number of the ledger's own entries.
    pub enterprise: u32,
    /// How many segments are looked at side by side; as many as there are cores if it is not said.
    pub threads: Option<NonZeroUsize>,
}

/// What the workers make of a segment.
type Looked = Result<(Vec<Item>, u64), journal::Error>;

/// Carries the check out.
///
/// # Errors
/// When the store cannot be read at all.
pub fn run(asked: &StoreCheck<'_>) -> Result<Outcome, Failure> {
    let dir = asked.dir;
    if !dir.join("blocks").is_dir() {
        return Err(Failure(format!(
            "{} is no node's store: it has no folder 'blocks'",
            dir.display()
        )));
    }
    let policy = asked.policy.map(read_policy).transpose()?.map(|(_, policy)| policy);
    let signed = match read_checkpoint(&dir.join("checkpoint"), policy.as_ref())? {
        Ok(signed) => signed,
        Err(fault) => return Ok(report::broken(&[*fault])),
    };
    let tree = match TreeReader::open_read_only(&dir.join("tree")) {
        Err(StoreError::Io { path, source }) if source.kind() == ErrorKind::NotFound => {
            return Ok(report::broken(&[missing(&path, FaultKind::Tree)]));
        }
        opened => opened.map_err(fail)?,
    };
    let (blocks, recovery) = open_read_only_as(dir.join("blocks"), Look::Last).map_err(fail)?;
    let copy = index::copy(dir)?;
    let params = Params { origin: signed.origin.clone(), enterprise: Enterprise(asked.enterprise) };
    let depth = depth(asked, &signed)?;
    let mut report = Report::new(&signed, policy.is_some(), &copy);
    let index = report.open(copy);
    if let Some(torn) = &recovery.torn {
        report.torn(torn);
    }
    let mut checker = Checker::new(dir, params.clone(), depth, tree, index, Some(signed));
    let chunks = checker.begin(&blocks, None).map_err(fail)?;
    for chunk in 0..chunks {
        checker.chunk(chunk);
        report.take(checker.take_faults());
    }
    let extents = blocks.segments();
    let progress = progress(&extents, dir);
    look_at_all(asked, &params, &blocks, &extents, |looked| {
        let (items, bytes) = looked.map_err(fail)?;
        items.into_iter().for_each(|item| checker.take(item));
        progress.inc(bytes);
        report.take(checker.take_faults());
        Ok(())
    })?;
    checker.end();
    progress.finish_and_clear();
    report.take(checker.take_faults());
    Ok(report.finish(&checker))
}

/// Looks at the segments side by side and gives what is found to `each`, in order.
fn look_at_all(
    asked: &StoreCheck<'_>,
    params: &Params,
    blocks: &Reader,
    extents: &[Extent],
    mut each: impl FnMut(Looked) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = asked.threads.unwrap_or_else(cores).get().min(extents.len().max(1));
    let deep = asked.deep;
    std::thread::scope(|scope| {
        // Each worker has every so many-eth segment, and is one ahead at most.
        let receivers: Vec<_> = (0..threads)
            .map(|worker| {
                let (sender, receiver) = sync_channel::<Looked>(1);
                scope.spawn(move || {
                    let mut codec = Codec::default();
                    for extent in extents.iter().skip(worker).step_by(threads) {
                        let looked = blocks.load(*extent).map(|segment| {
                            (items(params, &segment, deep, &mut codec), segment.bytes())
                        });
                        // Whoever does not listen any more has found a reason to stop.
                        if sender.send(looked).is_err() {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        for at in 0..extents.len() {
            let looked = receivers[at % threads].recv();
            each(looked.map_err(|_| Failure("a thread of this program failed".into()))?)?;
        }
        Ok(())
    })
}

fn depth(asked: &StoreCheck<'_>, signed: &Checkpoint) -> Result<Depth, Failure> {
    if !asked.deep {
        return Ok(Depth::Hashes);
    }
    let Some(path) = asked.members else { return Ok(Depth::Signatures(None)) };
    let members = Members::load(path, &signed.origin).map_err(fail)?;
    let members = ledger::run::members_of(&members).map_err(fail)?;
    Ok(Depth::Signatures(Some(members)))
}

/// The kept checkpoint, or what is wrong with it.
fn read_checkpoint(
    path: &Path,
    policy: Option<&Policy>,
) -> Result<Result<Checkpoint, Box<Fault>>, Failure> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Err(Box::new(missing(path, FaultKind::Checkpoint))));
        }
        read => read.map_err(Failure::file(path))?,
    };
    let read = SignedNote::parse(&bytes).map_err(|error| error.to_string());
    let read = read.and_then(|note| match policy {
        Some(policy) => {
            let verified = policy.verify(&note).map_err(|error| error.to_string())?;
            Ok(verified.checkpoint().clone())
        }
        None => Checkpoint::parse(note.text()).map_err(|error| error.to_string()),
    });
    let wrong = |problem| Box::new(fault(path, FaultKind::Checkpoint, problem));
    Ok(read.map_err(wrong))
}

fn missing(path: &Path, kind: FaultKind) -> Fault {
    fault(path, kind, "it is missing: it was deleted".into())
}

fn fault(path: &Path, kind: FaultKind, problem: String) -> Fault {
    let file: PathBuf = path.to_owned();
    Fault { kind, file, blocks: None, entries: None, problem, mend: None }
}

fn progress(extents: &[Extent], dir: &Path) -> ProgressBar {
    let length = |extent: &Extent| {
        let path = dir.join("blocks").join(format!("{:020}.seg", extent.first.0));
        path.metadata().map_or(0, |metadata| metadata.len())
    };
    let style =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(extents.iter().map(length).sum()).with_style(style)
}
