//! `logseal verify --store`: executes a whole store again and names the first entry that is wrong.

use crate::{
    client::read_policy,
    output::{Failure, Outcome, fail},
};
use indicatif::{ProgressBar, ProgressStyle};
use journal::{Seq, open_read_only};
use ledger::store::{StoreError, TreeReader};
use link::statement;
use record::{
    Checkpoint, Hash,
    batch::Codec,
    block::Height,
    enrolment::Enrolment,
    entry::{Enterprise, Entry},
    merkle::{EntryIndex, leaf_hash, root},
    note::SignedNote,
    policy::Policy,
};
use replica::{Block, Executed, LedgerState, Params, entries::for_each_entry, execute::replay};
use serde_json::json;
use std::{io::ErrorKind, path::Path};

/// What is wrong, and where.
struct Wrong {
    /// The first ledger entry that is not what it should be, where one can be named.
    entry: Option<u64>,
    problem: String,
}

struct Audit<'a> {
    params: Params,
    tree: &'a TreeReader,
    checkpoint: &'a Checkpoint,
    state: LedgerState,
    codec: Codec,
    records: u64,
}

/// Checks the store in `dir`.
pub fn run(dir: &Path, policy: Option<&Path>, enterprise: u32) -> Result<Outcome, Failure> {
    if !dir.join("blocks").is_dir() {
        return Err(Failure(format!(
            "{} is no node's store: it has no folder 'blocks'",
            dir.display()
        )));
    }
    let path = dir.join("checkpoint");
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(missing(&path)),
        read => read.map_err(Failure::file(&path))?,
    };
    let policy = policy.map(read_policy).transpose()?.map(|(_, policy)| policy);
    let (blocks, recovery) = open_read_only(dir.join("blocks")).map_err(fail)?;
    let tree = match TreeReader::open_read_only(&dir.join("tree")) {
        Err(StoreError::Io { path, source }) if source.kind() == ErrorKind::NotFound => {
            return Ok(missing(&path));
        }
        opened => opened.map_err(fail)?,
    };
    let checkpoint = match read_checkpoint(&bytes, policy.as_ref()) {
        Ok(checkpoint) => checkpoint,
        Err(problem) => {
            let problem = format!("{}: {problem}", path.display());
            return Ok(broken(&Wrong { entry: None, problem }));
        }
    };
    let mut audit = Audit {
        params: Params { origin: checkpoint.origin.clone(), enterprise: Enterprise(enterprise) },
        tree: &tree,
        checkpoint: &checkpoint,
        state: LedgerState::genesis(),
        codec: Codec::default(),
        records: 0,
    };
    let progress = progress(recovery.next_seq.0);
    let mut verdict = Ok(());
    for item in blocks.iter(Seq(0)) {
        verdict = match item {
            Ok((_, bytes)) => audit.block(&bytes),
            Err(error) => Err(Wrong {
                entry: Some(audit.state.tree.size().0),
                problem: format!("the block log: {error}"),
            }),
        };
        if verdict.is_err() {
            break;
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    let verdict = verdict.and_then(|()| audit.end()).and_then(|()| match recovery.damage.first() {
        None => Ok(()),
        Some(damage) => Err(Wrong {
            entry: None,
            problem: format!("the block log: {damage}; its blocks are intact"),
        }),
    });
    match verdict {
        Err(wrong) => Ok(broken(&wrong)),
        Ok(()) => Ok(holds(&audit, policy.is_some())),
    }
}

impl Audit<'_> {
    fn block(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        let height = Height(self.state.height.0 + 1);
        let wrong = |entry, problem: String| Wrong { entry, problem };
        let next = self.state.tree.size().0;
        let block = Block::decode_unchecked(bytes)
            .map_err(|error| wrong(Some(next), format!("block {height}: {error}")))?;
        self.check_enrolments(&block)?;
        let result = Block::decode(bytes).map_err(|error| error.to_string()).and_then(|block| {
            replay(&self.params, &self.state, block, &mut self.codec)
                .map_err(|error| error.to_string())
        });
        let executed: Executed = match result {
            Ok(executed) => executed,
            Err(problem) => return Err(self.locate(&block, format!("block {height}: {problem}"))),
        };
        self.compare_leaves(&executed)?;
        self.records += executed.placed.iter().map(|placed| u64::from(placed.count)).sum::<u64>();
        executed.apply(&mut self.state);
        let (size, root) = (self.state.tree.size(), self.state.tree.root());
        if size == self.checkpoint.size && root != self.checkpoint.root {
            let problem = format!(
                "the entries up to {size} have the root {root}, but the signed checkpoint says {}: \
                 the history was rewritten",
                self.checkpoint.root
            );
            return Err(wrong(None, problem));
        }
        Ok(())
    }

    /// Every enrolment must carry an operator's signature.
    fn check_enrolments(&self, block: &Block) -> Result<(), Wrong> {
        for (body, index) in block.enrolments.iter().zip(self.state.tree.size().0..) {
            let holds = Enrolment::decode(body).is_ok_and(|e| {
                let text = Enrolment::statement(&self.params.origin, &e.agent, e.key, e.time);
                statement::verifies(&e.certificate, text.as_bytes(), &e.signature)
            });
            if !holds {
                let problem = "the operator's signature on an enrolment does not hold".to_owned();
                return Err(Wrong { entry: Some(index), problem });
            }
        }
        Ok(())
    }

    /// Compares what the block adds with the tree files.
    fn compare_leaves(&self, executed: &Executed) -> Result<(), Wrong> {
        let (start, leaves) = (executed.tree.start().0, executed.tree.leaves());
        let missing = |error: std::io::Error| Wrong {
            entry: Some(start),
            problem: format!("the tree files end before this entry: {error}"),
        };
        let kept = self.tree.hashes(0, start, leaves.len()).map_err(missing)?;
        match kept.iter().zip(leaves).position(|(kept, leaf)| kept != leaf) {
            None => Ok(()),
            Some(at) => Err(Wrong {
                entry: Some(start + at as u64),
                problem: "the tree files have another hash than the block log's entry".into(),
            }),
        }
    }

    /// Finds the first entry of a block that differs from what the tree files remember.
    fn locate(&mut self, block: &Block, problem: String) -> Wrong {
        let start = self.state.tree.size().0;
        let (mut at, mut found) = (start, None);
        let everything = EntryIndex(start)..EntryIndex(u64::MAX);
        let tree = self.tree;
        let read = for_each_entry(&self.params, block, everything, &mut self.codec, |entry| {
            let kept: Option<Hash> = tree.hashes(0, at, 1).ok().map(|hashes| hashes[0]);
            if found.is_none() && kept != Some(leaf_hash(entry)) {
                found = Some((at, describe(entry)));
            }
            at += 1;
        });
        match (found, read) {
            (Some((index, what)), _) => {
                Wrong { entry: Some(index), problem: format!("{problem}; {what} was altered") }
            }
            (None, Err(_)) => Wrong { entry: Some(at), problem },
            (None, Ok(())) => Wrong { entry: Some(start), problem },
        }
    }

    fn end(&self) -> Result<(), Wrong> {
        let size = self.state.tree.size();
        if size < self.checkpoint.size {
            let problem = format!(
                "the block log ends at entry {size}, but {} entries were signed for: \
                 its end was cut off",
                self.checkpoint.size
            );
            return Err(Wrong { entry: Some(size.0), problem });
        }
        match root(self.tree, size) {
            Ok(root) if root == self.state.tree.root() => Ok(()),
            Ok(_) => Err(Wrong {
                entry: None,
                problem: "the upper tree files do not fit the leaf hashes; they can be made again \
                          by deleting the folders 'tree' and 'index' while the node is stopped"
                    .into(),
            }),
            Err(error) => Err(Wrong {
                entry: None,
                problem: format!("the tree files cannot be read: {error}"),
            }),
        }
    }
}

fn missing(path: &Path) -> Outcome {
    let problem = format!("{} is missing: it was deleted", path.display());
    broken(&Wrong { entry: None, problem })
}

fn describe(entry: &[u8]) -> String {
    let Ok(parsed) = Entry::parse(entry) else { return "an entry".into() };
    let param = |name| parsed.element().param(name).unwrap_or_default().into_owned();
    match (param("agent"), param("n")) {
        (agent, n) if !n.is_empty() => format!("record {n} of agent {agent}"),
        (agent, _) if !agent.is_empty() => format!("a seal or enrolment of agent {agent}"),
        _ => "the block's own entry".into(),
    }
}

fn read_checkpoint(bytes: &[u8], policy: Option<&Policy>) -> Result<Checkpoint, String> {
    let note = SignedNote::parse(bytes).map_err(|error| error.to_string())?;
    match policy {
        Some(policy) => {
            let verified = policy.verify(&note).map_err(|error| error.to_string())?;
            Ok(verified.checkpoint().clone())
        }
        None => Checkpoint::parse(note.text()).map_err(|error| error.to_string()),
    }
}

fn progress(blocks: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} blocks, {eta} left");
    ProgressBar::new(blocks).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn broken(wrong: &Wrong) -> Outcome {
    let place = wrong.entry.map(|entry| format!("entry {entry}: ")).unwrap_or_default();
    Outcome {
        text: format!("BROKEN  {place}{}\n", wrong.problem),
        json: json!({ "verified": false, "entry": wrong.entry, "problem": wrong.problem }),
        code: service::exit::BROKEN,
    }
}

fn holds(audit: &Audit<'_>, trusted: bool) -> Outcome {
    let (state, origin) = (&audit.state, &audit.params.origin);
    let mut text = format!(
        "HOLDS   {origin}: {} blocks, {} entries, {} records of {} agents\n\
         root    {}\nsigned  for {} entries\n",
        state.height,
        state.tree.size(),
        audit.records,
        state.agents.len(),
        state.tree.root(),
        audit.checkpoint.size,
    );
    if !trusted {
        text += "policy  none given: signatures of the checkpoint were not checked, use --policy\n";
    }
    let json = json!({
        "verified": true,
        "origin": origin.to_string(),
        "blocks": state.height.0,
        "entries": state.tree.size().0,
        "records": audit.records,
        "agents": state.agents.len(),
        "root": state.tree.root().to_string(),
        "signed_entries": audit.checkpoint.size.0,
        "policy": trusted,
    });
    Outcome { text, json, code: service::exit::OK }
}
