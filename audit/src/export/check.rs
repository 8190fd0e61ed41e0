//! `logseal verify` of an export: with no network, and with no more memory for a long one.
//!
//! Each entry is hashed, and its row, where the format has rows, made again and compared. Between the
//! two halves of the range proof the hashes must lead to the root of a checkpoint that satisfies the
//! policy: then no entry of the range was altered, added or left out. With filters, the entries that
//! were left out are known by their hashes; that none of them should be there only their agents' numbers
//! show.

use super::{
    Format, GivenUp, Manifest,
    files::{self, HashedRead},
    manifest::{
        AFTER, BEFORE, CHECKPOINT, DECLARATION, LEAVES, MANIFEST, POLICY, PROOF, parse_proof,
    },
    progress,
    row::Row,
    tally::{Tally, times},
};
use crate::{
    client::read_policy,
    declare::operator_signed,
    output::{Failure, Outcome},
};
use record::{
    Checkpoint, Hash,
    block::BlockEntry,
    declaration::{Declaration, Matter},
    entry::Entry,
    merkle::{EntryIndex, Frontier, RangeProof, leaf_hash},
    note::SignedNote,
    policy::{Policy, VerifiedCheckpoint},
    proof::TlogProof,
};
use serde_json::json;
use std::{
    fs,
    io::{BufReader, ErrorKind, Read},
    path::Path,
};

/// Where something is wrong, and what.
struct Broken {
    file: String,
    problem: String,
}

/// Not to be read, or wrong.
enum Stop {
    Failure(Failure),
    Broken(Broken),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Failure(failure)
    }
}

fn broken(file: &str, problem: impl ToString) -> Stop {
    Stop::Broken(Broken { file: file.to_owned(), problem: problem.to_string() })
}

/// True if the folder is an export.
pub fn is_export(dir: &Path) -> bool {
    dir.join(MANIFEST).is_file()
}

/// Checks an export; `policy` replaces the one in the folder.
///
/// # Errors
/// A file is not there, or cannot be read.
pub fn run(dir: &Path, policy: Option<&Path>) -> Result<Outcome, Failure> {
    let manifest = Manifest::load(dir)?;
    let own = policy.is_some();
    let path = dir.join(POLICY);
    let policy = policy.or_else(|| path.exists().then_some(&*path)).map(read_policy).transpose()?;
    let Some((_, policy)) = policy else {
        let problem = "there is no policy in the folder: use --policy";
        return Err(Failure(format!("{}: {problem}", dir.display())));
    };
    match check(dir, &manifest, &policy) {
        Ok(checkpoint) => Ok(holds(&manifest, &checkpoint, own)),
        Err(Stop::Failure(failure)) => Err(failure),
        Err(Stop::Broken(Broken { file, problem })) => Ok(Outcome {
            text: format!("BROKEN  {file}: {problem}\n"),
            json: json!({ "verified": false, "file": file, "problem": problem }),
            code: service::exit::BROKEN,
        }),
    }
}

fn check(dir: &Path, manifest: &Manifest, policy: &Policy) -> Result<VerifiedCheckpoint, Stop> {
    let note = SignedNote::parse(&read(dir, CHECKPOINT)?);
    let note = note.map_err(|error| broken(CHECKPOINT, error))?;
    let verified = policy.verify(&note).map_err(|error| broken(CHECKPOINT, error))?;
    let checkpoint = verified.checkpoint();
    let text = read(dir, PROOF)?;
    let (first, end, size, proof) = std::str::from_utf8(&text)
        .ok()
        .and_then(parse_proof)
        .ok_or_else(|| broken(PROOF, "it is no range proof"))?;
    let said = (manifest.first, manifest.end, manifest.size, manifest.root.clone());
    if (first, end, size, checkpoint.root.to_string()) != said
        || size != checkpoint.size.0
        || manifest.ledger != checkpoint.origin.to_string()
    {
        let problem = "it speaks of another range or checkpoint than the files beside it";
        return Err(broken(MANIFEST, problem));
    }
    check_bounds(dir, manifest, policy, checkpoint)?;
    let mut walk = Walk::new(dir, manifest, &proof)?;
    for info in &manifest.files {
        walk.file(dir, manifest, info)?;
    }
    let (tree, tally) = walk.finish()?;
    if tree.size().0 != end || proof.end(tree, checkpoint.size) != Some(checkpoint.root) {
        return Err(broken("entries", "they are not those that the checkpoint was signed for"));
    }
    if tally.finish() != (manifest.kinds.clone(), manifest.records.clone()) {
        return Err(broken(MANIFEST, "its counts are not those of the entries"));
    }
    Ok(verified)
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>, Stop> {
    /// The largest of the small files.
    const MAX: u64 = 4 << 20;
    let path = dir.join(name);
    let file = match fs::File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(broken(name, "is missing"));
        }
        opened => opened.map_err(Failure::file(&path))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX).read_to_end(&mut bytes).map_err(Failure::file(&path))?;
    Ok(bytes)
}

/// The blocks beside the range must be of other times.
fn check_bounds(
    dir: &Path,
    manifest: &Manifest,
    policy: &Policy,
    checkpoint: &Checkpoint,
) -> Result<(), Stop> {
    let (from, to) = times(manifest)?;
    let bound = |name| bound(dir, name, policy, checkpoint);
    let given_up = manifest.given_up.as_ref();
    if let Some(given_up) = given_up {
        check_given_up(dir, manifest, given_up, policy, checkpoint)?;
    }
    if let Some(from) = from.filter(|_| manifest.first > 0 && given_up.is_none()) {
        let (index, block) = bound(BEFORE)?;
        if index != manifest.first - 1 || block.time >= from {
            return Err(broken(BEFORE, "it does not show that the range begins where it must"));
        }
    }
    if let Some(to) = to.filter(|_| manifest.end < manifest.size) {
        let (_, block) = bound(AFTER)?;
        if block.first.0 != manifest.end || block.time < to {
            return Err(broken(AFTER, "it does not show that the range ends where it must"));
        }
    }
    Ok(())
}

/// Nothing is in front of the range any more, by a declaration if there is one here.
fn check_given_up(
    dir: &Path,
    manifest: &Manifest,
    given_up: &GivenUp,
    policy: &Policy,
    checkpoint: &Checkpoint,
) -> Result<(), Stop> {
    if given_up.entries == 0 || given_up.entries != manifest.first {
        return Err(broken(
            MANIFEST,
            "what it says was given up is not what is in front of the range",
        ));
    }
    let Some(declared) = given_up.declared else { return Ok(()) };
    let (index, bytes) = proven(dir, DECLARATION, policy, checkpoint)?;
    let entry = Entry::parse(&bytes).map_err(|error| broken(DECLARATION, error))?;
    let declaration = Declaration::from_entry(&entry);
    let declaration = declaration.ok_or_else(|| broken(DECLARATION, "it is no declaration"))?;
    let Declaration { matter, time, certificate, signature } = &declaration;
    let text = Declaration::statement(&checkpoint.origin, matter, *time);
    if !operator_signed(certificate, text.as_bytes(), signature) {
        return Err(broken(DECLARATION, "no operator's signature stands behind it"));
    }
    let gives_up = matches!(matter, Matter::Prune(prune) if prune.size().0 == given_up.entries);
    if !gives_up || index != declared {
        return Err(broken(DECLARATION, "it does not give up what is in front of the range"));
    }
    Ok(())
}

fn bound(
    dir: &Path,
    name: &str,
    policy: &Policy,
    checkpoint: &Checkpoint,
) -> Result<(u64, BlockEntry), Stop> {
    let (index, bytes) = proven(dir, name, policy, checkpoint)?;
    let entry = Entry::parse(&bytes).map_err(|error| broken(name, error))?;
    let block = BlockEntry::decode(&entry).ok_or_else(|| broken(name, "it is no block entry"))?;
    Ok((index, block))
}

/// An entry beside the others, and its index.
fn proven(
    dir: &Path,
    name: &str,
    policy: &Policy,
    checkpoint: &Checkpoint,
) -> Result<(u64, Vec<u8>), Stop> {
    let bytes = read(dir, name)?;
    let proof = TlogProof::parse(&read(dir, &format!("{name}.tlog-proof"))?);
    let proof = proof.map_err(|error| broken(name, error))?;
    let verified = proof.verify(&bytes, policy).map_err(|error| broken(name, error))?;
    if verified.checkpoint() != checkpoint {
        return Err(broken(name, "it is proven under another checkpoint"));
    }
    Ok((proof.index.0, bytes))
}

/// The leaf hashes of the whole range, where only some of its entries are there.
struct Leaves {
    file: BufReader<HashedRead>,
    left: u64,
}

impl Leaves {
    fn next(&mut self) -> Result<Option<Hash>, Stop> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut hash = Hash::default();
        self.file.read_exact(&mut hash.0).map_err(|_| broken(LEAVES, "it is too short"))?;
        Ok(Some(hash))
    }
}

/// How far the range was followed.
struct Walk {
    tree: Frontier,
    end: u64,
    tally: Tally,
    leaves: Option<Leaves>,
    progress: indicatif::ProgressBar,
}

impl Walk {
    fn new(dir: &Path, manifest: &Manifest, proof: &RangeProof) -> Result<Self, Stop> {
        let tree = proof.begin(EntryIndex(manifest.first));
        let left = manifest.end.checked_sub(manifest.first);
        let (Some(tree), Some(left)) = (tree, left) else {
            return Err(broken(PROOF, "it does not fit the range"));
        };
        let leaves = match manifest.is_filtered() {
            true => {
                Some(Leaves { file: BufReader::new(HashedRead::open(&dir.join(LEAVES))?), left })
            }
            false => None,
        };
        let tally = Tally::new(manifest)?;
        Ok(Walk { tree, end: manifest.end, tally, leaves, progress: progress(left) })
    }

    fn file(
        &mut self,
        dir: &Path,
        manifest: &Manifest,
        info: &super::manifest::FileInfo,
    ) -> Result<(), Stop> {
        let plain = Path::new(&info.name).file_name().is_some_and(|name| *name == *info.name);
        if !plain {
            return Err(broken(MANIFEST, "it names a file outside the folder"));
        }
        let (path, format) = (dir.join(&info.name), Format::of(&manifest.format)?);
        if !path.exists() {
            return Err(broken(&info.name, "is missing"));
        }
        let (mut entries, mut stopped) = (0, None);
        let read = files::read(&path, format, |found| {
            entries += 1;
            self.entry(&found).map_err(|stop| {
                stopped = Some(stop);
                String::new()
            })
        })?;
        let place = |problem: String| format!("{problem} (entry {entries} of the file)");
        match (read, stopped) {
            (_, Some(Stop::Broken(at))) if at.file.is_empty() => {
                Err(broken(&info.name, place(at.problem)))
            }
            (_, Some(stop)) => Err(stop),
            (Err(problem), None) => Err(broken(&info.name, place(problem))),
            (Ok(read), None) if read != (info.sha256.clone(), info.bytes) => {
                Err(broken(&info.name, "its bytes are not those that the manifest names"))
            }
            (Ok(_), None) if entries != info.entries => {
                Err(broken(&info.name, "it has more or fewer entries than the manifest says"))
            }
            (Ok(_), None) => Ok(()),
        }
    }

    fn entry(&mut self, found: &files::Found) -> Result<(), Stop> {
        let leaf = leaf_hash(&found.entry);
        while let Some(leaves) = &mut self.leaves {
            match leaves.next()? {
                None => {
                    return Err(broken("", "this entry is not in the range, or not at this place"));
                }
                Some(hash) if hash == leaf => break,
                Some(hash) => self.tree.push(hash),
            }
        }
        if self.tree.size().0 >= self.end {
            return Err(broken("", "this entry is behind the end of the range"));
        }
        let row = Row::of(self.tree.size().0, &found.entry);
        self.tree.push(leaf);
        if found.row.as_ref().is_some_and(|said| *said != row.to_json()) {
            return Err(broken("", "the row is not what its entry says"));
        }
        self.progress.inc(1);
        match self.tally.take(&row) {
            Ok(true) => Ok(()),
            Ok(false) => Err(broken("", "this entry is not among those that were asked for")),
            Err(problem) => Err(broken("", problem)),
        }
    }

    fn finish(mut self) -> Result<(Frontier, Tally), Stop> {
        while let Some(hash) = self.leaves.as_mut().map(Leaves::next).transpose()?.flatten() {
            self.tree.push(hash);
        }
        self.progress.finish_and_clear();
        Ok((self.tree, self.tally))
    }
}

/// True if only whoever made the export says that entries in front of it were given up.
fn unproven_begin(manifest: &Manifest) -> bool {
    manifest.given_up.as_ref().is_some_and(|given_up| given_up.declared.is_none())
}

fn holds(manifest: &Manifest, verified: &VerifiedCheckpoint, own_policy: bool) -> Outcome {
    let checkpoint = verified.checkpoint();
    let written: u64 = manifest.files.iter().map(|file| file.entries).sum();
    let all = manifest.end - manifest.first;
    let mut text = format!(
        "HOLDS   export of {}: {written} entries of {all}, {} to {} (not included)\n",
        checkpoint.origin, manifest.first, manifest.end,
    );
    if manifest.from.is_some() || manifest.to.is_some() {
        let from = manifest.from.as_deref().unwrap_or("the beginning");
        let to = manifest.to.as_deref().unwrap_or("the end");
        text += &match unproven_begin(manifest) {
            false => format!("times    every block from {from} on and before {to}\n"),
            true => format!("times    before {to}; NOT PROVEN: every block from {from} on\n"),
        };
    }
    text += &manifest.given_up.as_ref().map(GivenUp::told).unwrap_or_default();
    for (agent, numbers) in &manifest.records {
        let (first, last) = (numbers.first_n, numbers.last_n);
        text += &format!("agent    {agent}: {} records, {first} to {last}\n", numbers.count);
    }
    for witnessed in verified.witnessed() {
        text += &format!("cosigned {} by {}\n", witnessed.time, witnessed.witness);
    }
    text += match (manifest.is_filtered(), manifest.sources.is_empty()) {
        (false, _) if unproven_begin(manifest) => {
            "complete NOT PROVEN: nothing of the range is left out, but what was asked for may begin earlier\n"
        }
        (false, _) => "complete nothing of the range is left out\n",
        (true, true) => {
            "complete the named agents' records have no gaps between first and last; what else \
                         was left out is known by its hash only\n"
        }
        (true, false) => {
            "complete NOT PROVEN: which records of other sources were left out is known by \
                          their hashes only\n"
        }
    };
    if !own_policy {
        text += "policy   the one in the folder: compare it with the one you were given, or use --policy\n";
    }
    let json = json!({
        "verified": true,
        "ledger": checkpoint.origin.to_string(),
        "first": manifest.first,
        "end": manifest.end,
        "written": written,
        "complete": !manifest.is_filtered() && !unproven_begin(manifest),
        "given_up": manifest.given_up,
        "size": checkpoint.size.0,
        "root": checkpoint.root.to_string(),
        "policy": if own_policy { "given" } else { "folder" },
    });
    Outcome { text, json, code: service::exit::OK }
}
