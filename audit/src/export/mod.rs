//! `logseal export`: takes a run of entries out of a ledger, with all that is needed to check, offline,
//! that it is exactly what the nodes cosigned, and that nothing is left out of it.
//!
//! What is guaranteed: a folder with a manifest is complete, since it gets its name last; every entry in
//! it was hashed, and with the range proof leads to the root of a checkpoint that satisfies the policy.

pub mod check;
mod files;
mod manifest;
#[cfg(feature = "parquet")]
mod parquet;
mod row;
mod tally;

pub use files::{
    Format, Found, Hashed, HashedRead, hex, private_dir, read_plain, sync_dir, write_file,
};
pub use manifest::{GivenUp, MANIFEST, Manifest, parse_proof, write_proof};
pub use row::Row;
pub use tally::times;

use crate::{
    client::ClientArgs,
    output::{Failure, Outcome, fail},
    reading::{Ledger, Remote, Stored},
    times::Moment,
};
use clap::Args;
use files::Rolled;
use indicatif::{ProgressBar, ProgressStyle};
use manifest::{AFTER, BEFORE, CHECKPOINT, DECLARATION, LEAVES, POLICY, PROOF, VERSION};
use record::{
    Checkpoint, TreeSize,
    merkle::{EntryIndex, inclusion_proof, range_proof},
    note::SignedNote,
    proof::TlogProof,
};
use serde_json::json;
use std::{
    io::Write,
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
};
use tally::Tally;

/// Export entries with the proof that they are the ledger's, and all of them.
///
/// 'logseal verify DIR' checks the folder, offline. Over HTTPS this needs a certificate with the role
/// auditor, operator or privacy-officer, and --node names HTTPS ports.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Read a node's store on this machine instead of asking a node
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The enterprise number of the ledger's own entries, where it is not the default
    #[arg(long, default_value_t = 32_473, requires = "store")]
    enterprise: u32,
    /// Blocks from this time on: RFC 3339, or a date in UTC. A block holds what came in within
    /// fractions of a second before its time
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Blocks before this time; the time itself, or the first moment of the date, is left out
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
    /// The first entry, by its index in the ledger, instead of --from
    #[arg(long, conflicts_with = "from")]
    first: Option<u64>,
    /// The last entry, instead of --to
    #[arg(long, conflicts_with = "to")]
    last: Option<u64>,
    /// Only entries of this agent; can be repeated
    #[arg(long = "agent", value_name = "NAME")]
    agents: Vec<String>,
    /// Only records of this source; can be repeated
    #[arg(long = "source", value_name = "NAME")]
    sources: Vec<String>,
    /// How entries are written
    #[arg(long, value_enum, default_value_t = Format::Syslog)]
    format: Format,
    /// Begin a new file after so many MiB
    #[arg(long, default_value_t = 1024, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    roll: u64,
    /// The folder to write; it must not exist yet
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// Carries the command out.
pub fn run(args: ExportArgs) -> Result<Outcome, Failure> {
    let partial = begin(&args.output)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(fail)?;
    let (ledger, note, checkpoint, policy) = open(&args, runtime.handle())?;
    let export = Export { args: &args, ledger, note, checkpoint, dir: partial.clone() };
    let manifest = export.write(policy)?;
    sync_dir(&partial)?;
    std::fs::rename(&partial, &args.output).map_err(Failure::file(&args.output))?;
    sync_dir(args.output.parent().unwrap_or(Path::new("")))?;
    Ok(done(&args.output, &manifest))
}

/// Where the ledger is read, its checkpoint, and the bytes of the policy that satisfied.
type Opened = (Ledger, SignedNote, Checkpoint, Option<Vec<u8>>);

fn open(args: &ExportArgs, handle: &tokio::runtime::Handle) -> Result<Opened, Failure> {
    if let Some(store) = &args.store {
        let policy = args.client.policy_file();
        let (stored, note, checkpoint) = Stored::open(store, policy, args.enterprise)?;
        let policy = policy.map(|path| std::fs::read(path).map_err(Failure::file(path)));
        return Ok((Ledger::Store(stored), note, checkpoint, policy.transpose()?));
    }
    let client = args.client.clone().resolve_https()?;
    let (bytes, policy) = client.policy()?;
    let (remote, note, checkpoint) = Remote::open(handle, &client, &policy)?;
    Ok((Ledger::Node(remote), note, checkpoint, Some(bytes)))
}

/// Makes the folder `DIR.partial`, and removes what an export that was ended left there.
fn begin(output: &Path) -> Result<PathBuf, Failure> {
    if output.exists() {
        let problem = "exists, and an export is never overwritten: choose another folder";
        return Err(Failure(format!("{} {problem}", output.display())));
    }
    let name = output.file_name().ok_or_else(|| Failure("name a folder to write".into()))?;
    let mut partial = name.to_owned();
    partial.push(".partial");
    let partial = output.with_file_name(partial);
    if partial.exists() {
        for entry in partial.read_dir().map_err(Failure::file(&partial))? {
            let entry = entry.map_err(Failure::file(&partial))?;
            if is_ours(&entry.file_name().to_string_lossy()) {
                std::fs::remove_file(entry.path()).map_err(Failure::file(&entry.path()))?;
            }
        }
        std::fs::remove_dir(&partial).map_err(Failure::file(&partial))?;
    }
    private_dir(&partial)?;
    Ok(partial)
}

/// True for the name of a file that an export writes.
fn is_ours(name: &str) -> bool {
    let fixed = [MANIFEST, CHECKPOINT, POLICY, PROOF, LEAVES, BEFORE, AFTER, DECLARATION];
    let base = name.strip_suffix(".tlog-proof").unwrap_or(name);
    fixed.contains(&base) || name.starts_with("entries-")
}

struct Export<'a> {
    args: &'a ExportArgs,
    ledger: Ledger,
    note: SignedNote,
    checkpoint: Checkpoint,
    dir: PathBuf,
}

impl Export<'_> {
    fn write(&self, policy: Option<Vec<u8>>) -> Result<Manifest, Failure> {
        let range = self.range()?;
        let (first, end) = (EntryIndex(range.start), EntryIndex(range.end));
        let proof = range_proof(&self.ledger, first, end, self.checkpoint.size)?;
        let text = write_proof(first.0, end.0, self.checkpoint.size.0, &proof);
        self.file(PROOF, text.as_bytes())?;
        self.file(CHECKPOINT, self.note.to_string().as_bytes())?;
        policy.map(|policy| self.file(POLICY, &policy)).transpose()?;
        self.bounds(&range)?;
        let mut tree = proof.begin(first).ok_or_else(|| self.not_theirs())?;
        let mut manifest = self.manifest(&range);
        let mut tally = Tally::new(&manifest)?;
        let (mut files, mut leaves) = self.sinks(&manifest)?;
        let progress = progress(range.end - range.start);
        let mut declaration = None;
        self.ledger.entries(range, &mut |index, bytes| {
            let row = Row::of(index, bytes);
            tree.push(row.leaf);
            if let Some((file, path)) = &mut leaves {
                file.write_all(&row.leaf.0).map_err(Failure::file(path))?;
            }
            if is_declaration_of(&row, first.0) {
                declaration = Some((index, bytes.to_vec()));
            }
            if tally.take(&row).map_err(Failure)? {
                files.put(&row)?;
            }
            progress.inc(1);
            Ok(ControlFlow::Continue(()))
        })?;
        progress.finish_and_clear();
        if tree.size() != TreeSize(end.0)
            || proof.end(tree, self.checkpoint.size) != Some(self.checkpoint.root)
        {
            return Err(self.not_theirs());
        }
        if let Some((file, path)) = leaves {
            file.finish().map_err(Failure::file(&path))?;
        }
        if let (Some(given_up), Some((index, entry))) = (&mut manifest.given_up, declaration) {
            given_up.declared = Some(index);
            self.proven(DECLARATION, index, &entry)?;
        }
        manifest.files = files.finish()?;
        (manifest.kinds, manifest.records) = tally.finish();
        let text = serde_json::to_string_pretty(&manifest).map_err(fail)? + "\n";
        self.file(MANIFEST, text.as_bytes())?;
        Ok(manifest)
    }

    fn not_theirs(&self) -> Failure {
        let from = match &self.ledger {
            Ledger::Node(remote) => format!("node {}", remote.address),
            Ledger::Store(_) => "the store".to_owned(),
        };
        Failure(format!(
            "{from} gives entries that are not those the checkpoint was signed for; ask another node, \
             and look into this one"
        ))
    }

    /// The entries that were asked for.
    fn range(&self) -> Result<Range<u64>, Failure> {
        let (args, size) = (self.args, self.ledger.size());
        let since = |moment: Option<Moment>| {
            moment.map(|moment| self.ledger.first_since(moment.0)).transpose()
        };
        let there = self.ledger.first();
        if let Some(first) = args.first.filter(|first| *first < there) {
            return Err(Failure(format!(
                "entry {first} was given up, as an operator declared and the nodes agreed; the first entry that is there \
                 is {there}: ask for '--first {there}'"
            )));
        }
        let first = args.first.or(since(args.from)?).unwrap_or(there);
        let last = args.last.map(|last| last.saturating_add(1));
        let end = last.or(since(args.to)?).unwrap_or(size);
        if there > 0 && end <= there {
            return Err(Failure(format!(
                "all that was asked for was given up, as an operator declared and the nodes agreed; the first entry that is \
                 there is {there}"
            )));
        }
        if first > end || end > size {
            return Err(Failure(format!(
                "entries {first} to {end} (not included) are not a run of this ledger, which has {size}"
            )));
        }
        Ok(first..end)
    }

    /// What would be in front of the range, and was given up.
    fn given_up(&self, range: &Range<u64>) -> Option<GivenUp> {
        let entries = self.ledger.first();
        let reaches = entries > 0 && range.start == entries && self.args.first.is_none();
        reaches.then_some(GivenUp { entries, declared: None })
    }

    /// The block entries in front of the range and behind it, which show that no block of the times that
    /// were asked for lies outside.
    fn bounds(&self, range: &Range<u64>) -> Result<(), Failure> {
        if self.args.from.is_some() && range.start > self.ledger.first() {
            self.bound(BEFORE, range.start - 1)?;
        }
        if self.args.to.is_some() && range.end < self.ledger.size() {
            let (index, ..) = self.ledger.block_of(range.end)?;
            self.bound(AFTER, index)?;
        }
        Ok(())
    }

    fn bound(&self, name: &str, index: u64) -> Result<(), Failure> {
        let (at, entry, _) = self.ledger.block_of(index)?;
        self.proven(name, at, &entry)
    }

    /// Writes an entry with the proof that it is the ledger's.
    fn proven(&self, name: &str, index: u64, entry: &[u8]) -> Result<(), Failure> {
        let index = EntryIndex(index);
        let inclusion = inclusion_proof(&self.ledger, index, self.checkpoint.size)?;
        let proof = TlogProof { extra: None, index, inclusion, checkpoint: self.note.clone() };
        self.file(name, entry)?;
        self.file(&format!("{name}.tlog-proof"), proof.to_string().as_bytes())
    }

    fn manifest(&self, range: &Range<u64>) -> Manifest {
        let args = self.args;
        let shown = |moment: Option<Moment>| moment.map(|moment| moment.0.to_string());
        Manifest {
            version: VERSION,
            program: format!("logseal {}", env!("CARGO_PKG_VERSION")),
            made: service::clock::now().to_string(),
            ledger: self.checkpoint.origin.to_string(),
            size: self.checkpoint.size.0,
            root: self.checkpoint.root.to_string(),
            format: args.format.name().to_owned(),
            first: range.start,
            end: range.end,
            from: shown(args.from),
            to: shown(args.to),
            given_up: self.given_up(range),
            agents: args.agents.clone(),
            sources: args.sources.clone(),
            kinds: Default::default(),
            records: Default::default(),
            files: Vec::new(),
        }
    }

    /// Where entries go and, with filters, where the leaf hashes of all go.
    fn sinks(&self, manifest: &Manifest) -> Result<(Rolled, Option<(Hashed, PathBuf)>), Failure> {
        let files = Rolled::new(&self.dir, self.args.format, self.args.roll << 20);
        let path = self.dir.join(LEAVES);
        let leaves = manifest.is_filtered().then(|| Hashed::create(&path)).transpose()?;
        Ok((files, leaves.map(|leaves| (leaves, path))))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        write_file(&self.dir.join(name), bytes)
    }
}

/// True for the declaration that gave up all in front of entry `first`.
fn is_declaration_of(row: &Row, first: u64) -> bool {
    row.kind == "prune" && row.param("to").and_then(|to| to.parse().ok()) == Some(first)
}

pub(crate) fn progress(entries: u64) -> ProgressBar {
    let template = "{bar:40} {pos}/{len} entries, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(entries).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn done(dir: &Path, manifest: &Manifest) -> Outcome {
    let entries: u64 = manifest.files.iter().map(|file| file.entries).sum();
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let shown = dir.display();
    let given_up = manifest.given_up.as_ref().map(GivenUp::told).unwrap_or_default();
    let text = format!(
        "{shown}: {entries} entries of {} in {} files, {bytes} bytes\n\
         range    {} to {} (not included) of {}, under the checkpoint of {} entries\n{given_up}\
         check it anywhere with 'logseal verify {shown}'\n",
        manifest.end - manifest.first,
        manifest.files.len(),
        manifest.first,
        manifest.end,
        manifest.ledger,
        manifest.size,
    );
    let json = json!({ "directory": shown.to_string(), "manifest": manifest });
    Outcome { text, json, code: service::exit::OK }
}
