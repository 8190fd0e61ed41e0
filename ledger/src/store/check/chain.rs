//! Items in order: what follows from what.

use super::{
    facts::{BatchFacts, BlockFacts, Item, words},
    fault::{Fault, FaultKind, Mend},
};
use crate::store::{
    Kept, TreeReader,
    index::Index,
    tree::{FILES, STRIDE},
};
use journal::{Damage, DamageKind};
use link::statement;
use record::{
    AgentName, Checkpoint, Hash, TreeSize, UnixMillis, UnixSeconds,
    block::Height,
    crypto::PublicKey,
    declaration::{Declaration, Matter},
    enrolment::Enrolment,
    merkle::Frontier,
};
use replica::{Members, Params, Placed, verify_certificate};
use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

/// How much is checked.
#[derive(Clone, Debug)]
pub enum Depth {
    /// Every hash: of entries, batches, blocks and tree nodes.
    Hashes,
    /// Every signature as well: seals, enrolments, proofs of misbehaviour, and, if the members are known, what
    /// decided each block.
    Signatures(Option<Members>),
}

/// What has been looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Blocks that could be read.
    pub blocks: u64,
    /// Entries of these.
    pub entries: u64,
    /// Records of these.
    pub records: u64,
    /// Bytes of these entries.
    pub entry_bytes: u64,
    /// Signatures that were verified.
    pub signatures: u64,
}

/// What is known of an agent's log.
pub(super) struct Log {
    pub(super) key: PublicKey,
    /// Its size, root and time at its newest seal; nothing while it is not known after lost blocks.
    pub(super) sealed: Option<(TreeSize, Hash, UnixSeconds)>,
}

/// Blocks that cannot be read, from the first on.
struct Lost {
    first: Height,
    kind: FaultKind,
    file: PathBuf,
    problem: String,
}

/// Looks at a store from its first block on.
pub struct Checker {
    pub(super) params: Params,
    pub(super) depth: Depth,
    pub(super) dir: PathBuf,
    blocks_dir: PathBuf,
    pub(super) tree_dir: PathBuf,
    index_dir: PathBuf,
    pub(super) tree: TreeReader,
    pub(super) index: Option<Index>,
    signed: Option<Checkpoint>,
    /// What is kept of blocks that were given up.
    pub(super) base: Option<Kept>,
    /// The newest block that was given up; 0 if none was.
    pub(super) floor: Height,
    /// Whether a block was seen that gives them up.
    declared: bool,
    /// The height of the block before.
    pub(super) height: Height,
    /// Its identifier; nothing while it is not known.
    pub(super) parent: Option<Hash>,
    pub(super) frontier: Frontier,
    /// Blocks that are missing in front of the next one, from where on each time, and why.
    lost: Vec<Lost>,
    /// Upper nodes completed so far, by level file.
    completed: [u64; FILES],
    pub(super) logs: BTreeMap<AgentName, Log>,
    pub(super) totals: Totals,
    pub(super) faults: Vec<Fault>,
}

impl Checker {
    /// Begins with the store in `dir`. Without an index its places are not looked at.
    pub fn new(
        dir: &Path,
        params: Params,
        depth: Depth,
        tree: TreeReader,
        index: Option<Index>,
        signed: Option<Checkpoint>,
    ) -> Self {
        Checker {
            params,
            depth,
            dir: dir.to_owned(),
            base: None,
            floor: Height(0),
            declared: false,
            blocks_dir: dir.join("blocks"),
            tree_dir: dir.join("tree"),
            index_dir: dir.join("index"),
            tree,
            index,
            signed,
            height: Height(0),
            parent: Some(Hash([0; 32])),
            frontier: Frontier::default(),
            lost: Vec::new(),
            completed: [0; FILES],
            logs: BTreeMap::new(),
            totals: Totals::default(),
            faults: Vec::new(),
        }
    }

    /// What was looked at so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The newest block that was looked at, and the entries up to it.
    pub fn tip(&self) -> (Height, TreeSize, Hash) {
        (self.height, self.frontier.size(), self.frontier.root())
    }

    /// How many entries were given up: of these only hashes were looked at.
    pub fn dropped(&self) -> TreeSize {
        self.base.as_ref().map(|kept| kept.base.header.size).unwrap_or_default()
    }

    /// Agents that were enrolled.
    pub fn agents(&self) -> usize {
        self.logs.len()
    }

    /// What was found since the last call.
    pub fn take_faults(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.faults)
    }

    /// Looks at what comes next. What is in front of the base is of no interest any more.
    pub fn take(&mut self, item: Item) {
        let floor = self.floor;
        if item.last() <= floor {
            return;
        }
        match item {
            Item::Block(facts) => self.block(&facts),
            Item::NoBlock { height, problem } => {
                let file = self.blocks_dir.clone();
                self.lose(height, FaultKind::Rewritten, file, format!("block {height}: {problem}"));
            }
            Item::Lost(damage) => {
                let kind = kind_of(&damage);
                let problem = format!("{} at byte {}", words(&damage), damage.offset);
                let first = Height(damage.first_seq.0.max(floor.0) + 1);
                self.lose(first, kind, damage.segment, problem);
                self.height = Height(damage.last_seq.0);
            }
            Item::Scratch { damage, first } => {
                let problem =
                    format!("{} at byte {}; no block is lost", words(&damage), damage.offset);
                let file = damage.segment;
                let mend = Some(Mend::Segment(first));
                self.push(FaultKind::Damaged, file, None, None, problem, mend);
            }
        }
    }

    /// Says that all has been looked at: the newest block was the last one.
    pub fn end(&mut self) {
        self.tell_lost(self.height, None);
        self.compare_state();
        if let Some(kept) = self.base.as_ref().filter(|_| !self.declared) {
            let entries = Some(0..kept.base.header.size.0);
            let blocks = Some((Height(1), kept.base.header.height));
            let problem =
                "they are gone, and no block here says that they were given up".to_owned();
            let file = self.blocks_dir.clone();
            self.push(FaultKind::Undeclared, file, blocks, entries, problem, None);
        }
        let Some(signed) = self.signed.clone() else { return };
        let size = self.frontier.size();
        if size < signed.size {
            let problem = format!(
                "the block log ends at entry {size}, but {} entries were signed for: its end was cut off",
                signed.size
            );
            let entries = Some(size.0..signed.size.0);
            let file = self.blocks_dir.clone();
            self.push(FaultKind::CutOff, file, None, entries, problem, None);
        }
    }

    /// The state in the index must be the one that the blocks lead to, if it is of the newest one.
    fn compare_state(&mut self) {
        let Some(index) = self.index.as_ref().filter(|_| self.height.0 > 0) else { return };
        let problem = match index.state() {
            None => "it names no state".to_owned(),
            Some(state) if state.height != self.height => return,
            Some(state) if state.tree.root() != self.frontier.root() => {
                format!("it has another root after block {}", state.height)
            }
            Some(state) => {
                let differs = self.logs.iter().find(|(agent, log)| {
                    let known = state.agents.get(*agent);
                    let known =
                        known.map(|k| (k.key, k.frontier.size(), k.frontier.root(), k.sealed));
                    log.sealed.is_some_and(|(size, root, time)| {
                        known != Some((log.key, size, root, time))
                    })
                });
                match differs {
                    Some((agent, _)) => format!("the log of agent '{agent}' is another one in it"),
                    None => return,
                }
            }
        };
        let file = self.index_dir.clone();
        self.push(FaultKind::Index, file, None, None, problem, None);
    }

    /// From this block on, up to the next that can be read, all is lost.
    fn lose(&mut self, first: Height, kind: FaultKind, file: PathBuf, problem: String) {
        self.lost.push(Lost { first, kind, file, problem });
        (self.height, self.parent) = (first, None);
    }

    fn block(&mut self, facts: &BlockFacts) {
        let header = &facts.header;
        self.end_lost(facts);
        let follows = header.height.0 == self.height.0 + 1
            && self.parent.is_none_or(|parent| parent == header.parent);
        let start = self.frontier.size();
        let mut after = self.frontier.clone();
        let mut upper = Vec::new();
        for leaf in &facts.leaves {
            after.push_with(*leaf, |id, hash| {
                if id.level % STRIDE == 0 {
                    upper.push((usize::from(id.level / STRIDE), hash));
                }
            });
        }
        let rooted = after.size() == header.size && after.root() == header.root;
        let mut problem = facts.problem.clone();
        if !follows {
            problem.get_or_insert("it does not follow the block before it".into());
        }
        if !rooted {
            problem.get_or_insert("its entries do not lead to the root that it names".into());
        }
        if problem.is_none() {
            problem = self.agents_problem(facts);
        }
        match &problem {
            None => {
                self.compare_leaves(start, &facts.leaves);
                self.compare_upper(&upper);
                self.compare_index(facts);
            }
            Some(problem) => self.rewritten(facts, start, problem),
        }
        self.totals.blocks += 1;
        self.totals.entries += facts.leaves.len() as u64;
        self.totals.entry_bytes += facts.entry_bytes;
        self.totals.records += facts.places.placed.iter().map(|p| u64::from(p.count)).sum::<u64>();
        self.frontier = if rooted { after } else { self.resume(header.size, header.root) };
        for (file, _) in upper.iter().filter(|_| rooted) {
            self.completed[*file] += 1;
        }
        if !rooted {
            self.recount();
        }
        (self.height, self.parent) = (header.height, Some(facts.id));
        self.compare_signed();
    }

    /// Says how far the lost blocks reached, and takes what the tree files have of them.
    fn end_lost(&mut self, facts: &BlockFacts) {
        if self.lost.is_empty() {
            return;
        }
        let last = Height(facts.header.height.0 - 1);
        let (start, end) = (self.frontier.size(), TreeSize(facts.header.first.0));
        self.tell_lost(last, (start < end).then_some(start.0..end.0));
        if start < end {
            self.frontier = self.tree.frontier(end).unwrap_or_else(|_| self.frontier.clone());
            self.recount();
        }
        self.height = last;
        self.logs.values_mut().for_each(|log| log.sealed = None);
    }

    /// Names what is lost up to `last`. Which of it had which of the entries cannot be told.
    fn tell_lost(&mut self, last: Height, entries: Option<Range<u64>>) {
        let lost = std::mem::take(&mut self.lost);
        let ends: Vec<u64> =
            lost.iter().skip(1).map(|next| next.first.0).chain([last.0 + 1]).collect();
        for (Lost { first, kind, file, problem }, end) in lost.into_iter().zip(ends) {
            let blocks = Some((first, Height(end.saturating_sub(1))));
            let mend = Some(Mend::Blocks(first.0..end));
            self.push(kind, file, blocks, entries.clone(), problem, mend);
        }
    }

    /// Where to go on behind a block that does not hold: where the tree files say it ends.
    fn resume(&self, size: TreeSize, root: Hash) -> Frontier {
        let kept = self.tree.frontier(size).ok();
        let kept = kept.filter(|kept| kept.root() == root);
        kept.or_else(|| self.tree.frontier(size).ok()).unwrap_or_else(|| self.frontier.clone())
    }

    pub(super) fn recount(&mut self) {
        let size = self.frontier.size().0;
        for (file, completed) in self.completed.iter_mut().enumerate() {
            *completed = size >> (usize::from(STRIDE) * file).min(63);
        }
    }

    fn rewritten(&mut self, facts: &BlockFacts, start: TreeSize, problem: &str) {
        let kept = self.tree.hashes(0, start.0, facts.leaves.len());
        let differs = kept
            .ok()
            .and_then(|kept| kept.iter().zip(&facts.leaves).position(|(kept, leaf)| kept != leaf));
        let first = start.0 + differs.unwrap_or_default() as u64;
        let height = facts.header.height;
        let problem = format!("block {height}: {problem}");
        let (file, entries) = (self.blocks_dir.clone(), Some(first..first + 1));
        self.push(FaultKind::Rewritten, file, Some((height, height)), entries, problem, None);
    }

    fn compare_leaves(&mut self, start: TreeSize, leaves: &[Hash]) {
        let file = self.tree_dir.join("level-0");
        let kept = match self.tree.hashes(0, start.0, leaves.len()) {
            Ok(kept) => kept,
            Err(error) => {
                let problem = format!("the leaf hashes cannot be read: {error}");
                let entries = Some(start.0..start.0 + leaves.len() as u64);
                let mend = Some(Mend::Leaves { start: start.0, hashes: leaves.to_vec() });
                return self.push(FaultKind::Tree, file, None, entries, problem, mend);
            }
        };
        let mut at = 0;
        while let Some(first) = (at..leaves.len()).find(|i| kept[*i] != leaves[*i]) {
            let last = (first..leaves.len()).find(|i| kept[*i] == leaves[*i]);
            let last = last.unwrap_or(leaves.len());
            let (from, to) = (start.0 + first as u64, start.0 + last as u64);
            let tile = from / 256;
            let problem = format!("tile 0/{tile} has another hash than the block log's entry");
            let hashes = leaves[first..last].to_vec();
            let mend = Some(Mend::Leaves { start: from, hashes });
            self.push(FaultKind::Tree, file.clone(), None, Some(from..to), problem, mend);
            at = last;
        }
    }

    fn compare_upper(&mut self, upper: &[(usize, Hash)]) {
        let mut next = self.completed;
        for (file, hash) in upper {
            let index = next[*file];
            next[*file] += 1;
            let kept = self.tree.hashes(*file, index, 1);
            if kept.is_ok_and(|kept| kept[0] == *hash) {
                continue;
            }
            let problem = format!(
                "tile {file}/{} has another hash at {} than the entries lead to",
                index / 256,
                index % 256
            );
            let path = self.tree_dir.join(format!("level-{file}"));
            let mend = Some(Mend::Upper { file: *file, index, hash: *hash });
            self.push(FaultKind::Tree, path, None, None, problem, mend);
        }
    }

    fn compare_index(&mut self, facts: &BlockFacts) {
        let Some(index) = &self.index else { return };
        let problem = match index.unknown(&facts.header, &facts.places) {
            Ok(0) => return,
            Ok(count) => format!("{count} places of block {} are not known", facts.header.height),
            Err(error) => error.to_string(),
        };
        let (header, places) = (Box::new(facts.header.clone()), facts.places.clone());
        let file = self.index_dir.clone();
        let blocks = Some((facts.header.height, facts.header.height));
        let mend = Some(Mend::Index { header, places });
        self.push(FaultKind::Index, file, blocks, None, problem, mend);
    }

    /// Follows the logs of the block's agents; answers with the first thing that is wrong.
    fn agents_problem(&mut self, facts: &BlockFacts) -> Option<String> {
        for enrolment in &facts.enrolments {
            if let Some(problem) = self.enrol(enrolment) {
                return Some(problem);
            }
        }
        for (placed, batch) in facts.places.placed.iter().zip(&facts.batches) {
            if let Some(problem) = self.batch(placed, batch) {
                return Some(format!(
                    "the batch of '{}' that begins with record {}: {problem}",
                    placed.agent, placed.start
                ));
            }
        }
        for declaration in &facts.declarations {
            if let Some(problem) = self.declaration(declaration, facts.header.time) {
                return Some(problem);
            }
        }
        if let Depth::Signatures(members) = &self.depth {
            for equivocation in &facts.equivocations {
                self.totals.signatures += 2;
                if let Err(error) = equivocation.verify() {
                    return Some(error.to_string());
                }
            }
            if let Some(members) = members {
                self.totals.signatures += facts.certificate.signatures.len() as u64;
                let height = facts.header.height;
                if !verify_certificate(members, height, facts.id, &facts.certificate) {
                    return Some("no quorum of the members decided it".into());
                }
            }
        }
        None
    }

    /// `time` is that of the block that holds it.
    fn declaration(&mut self, declaration: &Declaration, time: UnixMillis) -> Option<String> {
        if let Matter::Prune(prune) = &declaration.matter {
            if !prune.is_sound() || time < prune.allowed_from() {
                return Some("it gives entries up before their time".into());
            }
            let base = self.base.as_ref().filter(|kept| kept.digest == prune.base);
            let header = base.map(|kept| &kept.base.header);
            if header
                .is_some_and(|header| (header.id(), header.time) != (prune.block, prune.before))
            {
                return Some("it gives up other blocks than the base is of".into());
            }
            self.declared |= base.is_some();
        }
        if matches!(self.depth, Depth::Signatures(_)) {
            self.totals.signatures += 1;
            if !statement::declaration_holds(&self.params.origin, declaration) {
                return Some("the operator's signature on a declaration does not hold".into());
            }
        }
        None
    }

    fn enrol(&mut self, enrolment: &Enrolment) -> Option<String> {
        let Enrolment { agent, key, .. } = enrolment;
        if matches!(self.depth, Depth::Signatures(_)) {
            self.totals.signatures += 1;
            if !statement::enrolment_holds(&self.params.origin, enrolment) {
                return Some(format!(
                    "the operator's signature on the enrolment of '{agent}' does not hold"
                ));
            }
        }
        let empty = Frontier::default();
        let sealed = Some((empty.size(), empty.root(), UnixSeconds(0)));
        let known = self.logs.insert(agent.clone(), Log { key: *key, sealed });
        known.map(|_| format!("agent '{agent}' is enrolled twice"))
    }

    fn batch(&mut self, placed: &Placed, batch: &BatchFacts) -> Option<String> {
        let Some(log) = self.logs.get_mut(&placed.agent) else {
            // It may have been enrolled in what is lost.
            let known = self.floor == Height(0) || self.base.is_some();
            return (known && self.totals.blocks + self.floor.0 == self.height.0)
                .then(|| "its agent is not enrolled".into());
        };
        if let Some((size, root, time)) = log.sealed {
            if placed.start.0 != size.0 {
                return Some(format!("the next record of its agent is {size}"));
            }
            if batch.before.root() != root {
                return Some("the log kept with it is not the one that was sealed before".into());
            }
            if batch.seal.time < time {
                return Some("its seal is older than the one before".into());
            }
        }
        let signatures = matches!(self.depth, Depth::Signatures(_));
        if signatures {
            self.totals.signatures += 1;
            if !batch.seal.verifies(&log.key, &self.params.origin, &placed.agent) {
                return Some("its agent's signature does not hold".into());
            }
        }
        log.sealed = Some((batch.seal.size, batch.seal.root, batch.seal.time));
        None
    }

    fn compare_signed(&mut self) {
        let Some(signed) = &self.signed else { return };
        if signed.size != self.frontier.size() || signed.root == self.frontier.root() {
            return;
        }
        let problem = format!(
            "the entries up to {} have the root {}, but the signed checkpoint says {}: the history was rewritten",
            signed.size,
            self.frontier.root(),
            signed.root
        );
        let file = self.blocks_dir.clone();
        self.push(FaultKind::Rewritten, file, None, None, problem, None);
    }

    pub(super) fn push(
        &mut self,
        kind: FaultKind,
        file: PathBuf,
        blocks: Option<(Height, Height)>,
        entries: Option<Range<u64>>,
        problem: String,
        mend: Option<Mend>,
    ) {
        self.faults.push(Fault { kind, file, blocks, entries, problem, mend });
    }
}

fn kind_of(damage: &Damage) -> FaultKind {
    match damage.kind {
        DamageKind::Missing => FaultKind::Missing,
        _ => FaultKind::Damaged,
    }
}
