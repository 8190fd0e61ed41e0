//! What was found in a store, for people and programs.

use super::{fault, index::Copy};
use crate::output::Outcome;
use journal::TornTail;
use ledger::store::{
    Index,
    check::{Checker, Fault, FaultKind},
};
use record::Checkpoint;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf};
use tempfile::TempDir;

/// So many faults are shown one by one; all are counted.
const SHOWN: usize = 1000;

/// Gathers what is found.
pub(super) struct Report {
    signed: Checkpoint,
    trusted: bool,
    index: &'static str,
    faults: Vec<Fault>,
    counts: BTreeMap<FaultKind, u64>,
    /// The copy of the index, while it is open.
    _copy: Option<TempDir>,
}

impl Report {
    pub(super) fn new(signed: &Checkpoint, trusted: bool, copy: &Copy) -> Self {
        let index = match copy {
            Copy::Made(_) => "checked",
            Copy::Absent => "absent",
            Copy::InUse => "in-use",
        };
        Report {
            signed: signed.clone(),
            trusted,
            index,
            faults: Vec::new(),
            counts: BTreeMap::new(),
            _copy: None,
        }
    }

    /// Opens the copy of the index. One that does not open is a fault.
    pub(super) fn open(&mut self, copy: Copy) -> Option<Index> {
        let Copy::Made(copy) = copy else { return None };
        match Index::open(copy.path()) {
            Ok(index) => {
                self._copy = Some(copy);
                Some(index)
            }
            Err(error) => {
                let path = PathBuf::from("index");
                self.take(vec![fault(&path, FaultKind::Index, error.to_string())]);
                None
            }
        }
    }

    pub(super) fn torn(&mut self, torn: &TornTail) {
        let problem = format!(
            "its last {} bytes, from byte {} on, are no whole block",
            torn.bytes, torn.offset
        );
        self.take(vec![fault(&torn.segment, FaultKind::TornTail, problem)]);
    }

    pub(super) fn take(&mut self, faults: Vec<Fault>) {
        for fault in faults {
            *self.counts.entry(fault.kind).or_default() += 1;
            if self.faults.len() < SHOWN {
                self.faults.push(fault);
            }
        }
    }

    pub(super) fn finish(self, checker: &Checker) -> Outcome {
        let (height, size, root) = checker.tip();
        let (totals, origin) = (checker.totals(), &self.signed.origin);
        let holds = !self.counts.keys().any(|kind| *kind != FaultKind::TornTail);
        let mut text = match holds {
            true => format!("HOLDS   {origin}: "),
            false => format!("{}looked at {origin}: ", listed(&self.faults, &self.counts)),
        };
        text += &format!(
            "{height} blocks, {size} entries, {} records of {} agents\nroot    {root}\nsigned  for {} entries\n",
            totals.records,
            checker.agents(),
            self.signed.size,
        );
        let dropped = checker.dropped().0;
        if dropped > 0 {
            text += &format!(
                "given up {dropped} of them: their hashes were looked at, and what else stays\n"
            );
        }
        if holds && !self.faults.is_empty() {
            text += &format!("note    {}; {}\n", self.faults[0], self.faults[0].kind.advice());
        }
        match self.index {
            "in-use" => text += "index   not looked at: the node is running\n",
            "absent" => text += "index   there is none; the node makes it when it starts\n",
            _ => {}
        }
        if totals.signatures > 0 {
            text += &format!("verified {} signatures\n", totals.signatures);
        }
        if !self.trusted {
            text +=
                "policy  none given: signatures of the checkpoint were not checked, use --policy\n";
        }
        let first = self.faults.iter().find(|fault| fault.kind != FaultKind::TornTail);
        let json = json!({
            "verified": holds,
            "entry": first.and_then(|fault| fault.entries.as_ref()).map(|range| range.start),
            "problem": first.map(ToString::to_string),
            "faults": self.faults.iter().map(shown).collect::<Vec<_>>(),
            "fault_counts": self.counts.iter().map(|(k, n)| (k.as_str().to_owned(), (*n).into())).collect::<serde_json::Map<_, _>>(),
            "origin": origin.to_string(),
            "blocks": height.0,
            "entries": size.0,
            "dropped": dropped,
            "records": totals.records,
            "entry_bytes": totals.entry_bytes,
            "signatures": totals.signatures,
            "agents": checker.agents(),
            "root": root.to_string(),
            "signed_entries": self.signed.size.0,
            "policy": self.trusted,
            "index": self.index,
        });
        let code = if holds { service::exit::OK } else { service::exit::BROKEN };
        Outcome { text, json, code }
    }
}

/// The report of a store of which nothing else can be looked at.
pub(super) fn broken(faults: &[Fault]) -> Outcome {
    let mut counts = BTreeMap::new();
    faults.iter().for_each(|fault| *counts.entry(fault.kind).or_default() += 1);
    let first = faults.first();
    let json = json!({
        "verified": false,
        "entry": Value::Null,
        "problem": first.map(ToString::to_string),
        "faults": faults.iter().map(shown).collect::<Vec<_>>(),
    });
    Outcome { text: listed(faults, &counts), json, code: service::exit::BROKEN }
}

fn listed(faults: &[Fault], counts: &BTreeMap<FaultKind, u64>) -> String {
    let mut text = String::new();
    for fault in faults {
        text += &format!("BROKEN  [{}] {fault}\n", fault.kind.as_str());
    }
    let hidden = counts.values().sum::<u64>() - faults.len() as u64;
    if hidden > 0 {
        text += &format!("        and {hidden} more\n");
    }
    for kind in counts.keys() {
        text += &format!("{}: {}\n", kind.as_str(), kind.advice());
    }
    text
}

fn shown(fault: &Fault) -> Value {
    json!({
        "kind": fault.kind.as_str(),
        "file": fault.file,
        "blocks": fault.blocks.map(|(first, last)| [first.0, last.0]),
        "entries": fault.entries.as_ref().map(|range| [range.start, range.end - 1]),
        "problem": fault.problem,
        "advice": fault.kind.advice(),
    })
}
