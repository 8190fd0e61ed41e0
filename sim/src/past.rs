//! What must never happen to what is given up: that it was not declared, or too young, or that nodes keep different
//! things of it.

use crate::{
    cast,
    check::{Decided, Verdict, violated},
    disk::Kept,
};
use record::{
    Hash,
    declaration::{Declaration, MIN_RETENTION_DAYS, Matter, Prune},
    merkle::Frontier,
};
use replica::{Executed, LedgerState};
use std::collections::BTreeMap;

const DAY_MS: u64 = 86_400_000;

/// What was given up, and what is kept of it.
#[derive(Default)]
pub struct Past {
    /// What was decided to be given up, by the last block of it.
    prunes: BTreeMap<u64, Prune>,
    /// The ledger behind each such block.
    states: BTreeMap<u64, String>,
    newest: u64,
}

impl Past {
    /// A block was decided; `chain` ends with it.
    pub(crate) fn declared(&mut self, executed: &Executed, chain: &[Decided]) -> Verdict {
        let header = &executed.block.header;
        let height = header.height.0;
        for bytes in &executed.block.declarations {
            let Ok(declaration) = Declaration::decode(bytes) else {
                return violated(format!("a declaration in block {height} cannot be read"));
            };
            if declaration.signature != cast::SIGNATURE {
                return violated(format!("FORGED: a declaration in block {height} by no operator"));
            }
            if declaration.time.0 <= self.newest {
                return violated(format!("STALE: the declaration in block {height}"));
            }
            self.newest = declaration.time.0;
            if let Matter::Prune(prune) = declaration.matter {
                let old = prune.before.0 + u64::from(MIN_RETENTION_DAYS) * DAY_MS;
                if header.time.0 < old {
                    return violated(format!("TOO YOUNG: block {height} gives up what must stay"));
                }
                self.prune(height, prune, chain)?;
            }
        }
        Ok(())
    }

    fn prune(&mut self, height: u64, prune: Prune, chain: &[Decided]) -> Verdict {
        let last = prune.height.0.checked_sub(1).and_then(|at| chain.get(at as usize));
        let begin = self.prunes.last_key_value().map_or(0, |(_, before)| before.size().0);
        let so = last.is_some_and(|last| {
            (last.id, last.time, last.size) == (prune.block, prune.before, prune.size().0)
                && last.root == prune.frontier.root()
        });
        if !so || prune.from.0 != begin || prune.height.0 >= height {
            return violated(format!("block {height} gives up what is not so: {prune:?}"));
        }
        self.prunes.insert(prune.height.0, prune);
        Ok(())
    }

    /// A node gives up what a base is kept of; `state` is the ledger there, as executing led to it.
    pub(crate) fn gave_up(&mut self, node: usize, kept: &Kept, state: &LedgerState) -> Verdict {
        let height = kept.base.header.height.0;
        let Some(prune) = self.prunes.get(&height) else {
            return violated(format!("UNDECLARED: n{node} gives up the blocks up to {height}"));
        };
        if prune.base != kept.digest {
            return violated(format!("TWO BASES: n{node} keeps another at block {height}"));
        }
        let text = format!("{state:?}");
        let made = kept.base.state().map(|state| format!("{state:?}"));
        if made.as_ref() != Ok(&text) {
            return violated(format!(
                "n{node} has a base that does not lead to its ledger: {made:?} {text}"
            ));
        }
        let same = *self.states.entry(height).or_insert_with(|| text.clone()) == text;
        if same { Ok(()) } else { violated(format!("TWO STATES: n{node} at block {height}")) }
    }

    /// A node begins again with a base.
    pub(crate) fn rebased(
        &self,
        node: usize,
        kept: &Kept,
        leaves: &[Hash],
        chain: &[Decided],
    ) -> Verdict {
        let height = kept.base.header.height.0;
        let decided = chain.get(height as usize - 1).map(|decided| decided.root);
        let mut tree = Frontier::default();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        if Some(tree.root()) != decided {
            return violated(format!("n{node} begins again with other leaf hashes"));
        }
        let digest = self.prunes.get(&height).map(|prune| prune.base);
        let state = kept.base.state().map(|state| format!("{state:?}"));
        let states = self.states.get(&height).is_none_or(|known| Ok(known) == state.as_ref());
        match digest == Some(kept.digest) && states {
            true => Ok(()),
            false => violated(format!("TWO STATES: n{node} begins again at block {height}")),
        }
    }
}
