//! Making tree and index again from the block log.
//!
//! The index needs no entry unpacked: where everything stands follows from headers and seals, so a
//! large ledger is read at the disk's speed. The tree needs every entry hashed, but only behind the
//! last block whose root the files still have.

use super::{Index, StoreError, TreeFiles, TreeReader, seq_of};
use journal::{Extent, Reader, Seq};
use record::{
    AgentName, Hash, TreeSize, UnixSeconds,
    batch::{Codec, LogState, SealedBatch},
    block::Height,
    crypto::PublicKey,
    declaration::{Declaration, Matter},
    enrolment::Enrolment,
    equivocation::Equivocation,
    merkle::{EntryIndex, Frontier, leaf_hash, root},
};
use replica::{
    Base, BaseError, Block, BlockHeader, BlockTree, LedgerState, Params, Pruned,
    entries::{Places, for_each_entry, places},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How often it is said how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Says how far a long work is, to the log and to the service manager, which otherwise loses patience.
pub(super) struct Progress {
    what: &'static str,
    begun: Instant,
    told: Instant,
}

impl Progress {
    pub(super) fn new(what: &'static str) -> Self {
        let now = Instant::now();
        Progress { what, begun: now, told: now }
    }

    pub(super) fn at(&mut self, done: Height, of: Height) {
        if self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Instant::now();
        let seconds = self.begun.elapsed().as_secs();
        let percent = 100 * done.0 / of.0.max(1);
        tracing::info!(block = %done, of = %of, percent, seconds, "{}", self.what);
        service::signals::starting(&format!("{}: {percent} %", self.what));
    }
}

/// What is known of an agent while blocks are read.
struct Log {
    key: PublicKey,
    sealed: UnixSeconds,
    /// The log as the base has it, without any batch that was read since.
    before: Frontier,
    /// The newest batch with records.
    newest: Option<(Height, u32)>,
}

/// What is known of the ledger while blocks are read.
struct Pass {
    logs: BTreeMap<AgentName, Log>,
    /// The state after the blocks so far, without its tree and the agents.
    state: LedgerState,
}

/// Makes the index again, from the base on if the store was pruned. Answers with the state after the newest block,
/// but for the tree, which [`tree`] fills in.
pub(super) fn index(
    blocks: &Reader,
    params: &Params,
    index: &Index,
    base: Option<&Base>,
) -> Result<(LedgerState, Option<Tip>), StoreError> {
    let floor = base.map(|base| base.header.height).unwrap_or_default();
    if blocks.first_seq().0 > floor.0 {
        return Err(no_front(blocks));
    }
    let of = Height(blocks.durable().0);
    let mut progress = Progress::new("making the index again");
    let mut pass = Pass::begin(base)?;
    if let Some(base) = base {
        index.note_base(base)?;
    }
    let mut newest = base.map(|base| Tip::of(&base.header));
    let wanted = |extent: &Extent| extent.last.0 > floor.0;
    for extent in blocks.segments().into_iter().filter(wanted) {
        for_each_block(blocks, extent, floor, |block| {
            progress.at(block.header.height, of);
            let found = places(&block).map_err(|error| wrong(&block.header, error))?;
            index.note(&block.header, &found)?;
            pass.take(&block, &found)?;
            newest = Some(Tip::of(&block.header));
            Ok(())
        })?;
    }
    Ok((pass.finish(blocks, params)?, newest))
}

impl Pass {
    fn begin(base: Option<&Base>) -> Result<Self, StoreError> {
        let Some(base) = base else {
            return Ok(Pass { logs: BTreeMap::new(), state: LedgerState::genesis() });
        };
        let height = base.header.height;
        let wrong = |error: BaseError| StoreError::Block { height, problem: error.to_string() };
        let state = base.state().map_err(wrong)?;
        let log = |(agent, log): (&AgentName, &LogState)| {
            let (key, sealed, before) = (log.key, log.sealed, log.frontier.clone());
            (agent.clone(), Log { key, sealed, before, newest: None })
        };
        Ok(Pass { logs: state.agents.iter().map(log).collect(), state })
    }

    fn take(&mut self, block: &Block, found: &Places) -> Result<(), StoreError> {
        let header = &block.header;
        if header.height.0 != self.state.height.0 + 1 || header.parent != self.state.parent {
            return Err(wrong(header, "it does not follow the block before it"));
        }
        for body in &block.enrolments {
            let enrolment = Enrolment::decode(body).map_err(|error| wrong(header, error))?;
            let (sealed, before) = (UnixSeconds(0), Frontier::default());
            let log = Log { key: enrolment.key, sealed, before, newest: None };
            self.logs.insert(enrolment.agent, log);
        }
        for (nth, placed) in (0..).zip(&found.placed) {
            let log = self.logs.get_mut(&placed.agent);
            let log =
                log.ok_or_else(|| wrong(header, "a batch of an agent that is not enrolled"))?;
            log.sealed = placed.sealed;
            if placed.count > 0 {
                log.newest = Some((header.height, nth));
            }
        }
        for body in &block.equivocations {
            let found = Equivocation::decode(body).map_err(|error| wrong(header, error))?;
            self.state.convicted.insert((found.culprit, found.kind));
        }
        for (at, body) in (found.kept.len() - block.declarations.len()..).zip(&block.declarations) {
            let found_at = found.kept[at];
            let declaration = Declaration::decode(body).map_err(|error| wrong(header, error))?;
            self.state.declared = declaration.time;
            if let Matter::Prune(prune) = declaration.matter {
                self.state.pruned = Some(Pruned { prune, index: found_at });
            }
        }
        let state = &mut self.state;
        (state.height, state.parent, state.time) = (header.height, header.id(), header.time);
        Ok(())
    }

    /// Opens the newest batch of each agent, for where its log stands.
    fn finish(self, blocks: &Reader, params: &Params) -> Result<LedgerState, StoreError> {
        let mut state = self.state;
        for (agent, log) in self.logs {
            let frontier = match log.newest {
                Some((height, nth)) => {
                    log_behind(&read_block(blocks, height)?, params, log.key, nth)?
                }
                None => log.before,
            };
            state.agents.insert(agent, LogState { key: log.key, frontier, sealed: log.sealed });
        }
        Ok(state)
    }
}

/// An agent's log behind the nth batch of a block, which is one of its own.
pub(super) fn log_behind(
    block: &Block,
    params: &Params,
    key: PublicKey,
    nth: u32,
) -> Result<Frontier, StoreError> {
    let body = block.batches.get(nth as usize);
    let body = body.ok_or_else(|| wrong(&block.header, "it has not the batch that it should"))?;
    let before = LogState { key, frontier: body.before.clone(), sealed: UnixSeconds(0) };
    let batch = SealedBatch::decode(&body.encoded).map_err(|error| wrong(&block.header, error))?;
    let opened = batch.open(&params.origin, &before, &mut Codec::default(), &mut Vec::new());
    Ok(opened.map_err(|error| wrong(&block.header, error))?.log_state().frontier)
}

/// A block, and the ledger's tree behind it.
#[derive(Clone, Debug)]
pub(super) struct Tip {
    pub(super) height: Height,
    pub(super) size: TreeSize,
    pub(super) root: Hash,
}

impl Tip {
    pub(super) fn of(header: &BlockHeader) -> Self {
        Tip { height: header.height, size: header.size, root: header.root }
    }
}

/// Where the block log of a pruned store begins, and the ledger's frontier there. In front of it the tree files
/// are all there is.
#[derive(Clone, Debug, Default)]
pub(super) struct Floor<'a> {
    pub(super) height: Height,
    pub(super) frontier: Frontier,
    /// What is kept of the blocks in front of it, if that is here.
    pub(super) base: Option<&'a Base>,
}

/// Brings the tree files in line with the blocks up to `newest`, and answers with their frontier.
/// What was there up to `trusted` leaves is taken as it is if the roots agree, and so is all in front of the floor.
pub(super) fn tree(
    blocks: &Reader,
    params: &Params,
    files: &mut TreeFiles,
    newest: &Tip,
    floor: &Floor<'_>,
    trusted: TreeSize,
) -> Result<Frontier, StoreError> {
    let reader = files.reader();
    let (mut at, mut frontier) = last_good(blocks, &reader, newest.height, floor, trusted)?;
    let mut progress = Progress::new("making the tree again");
    let mut codec = Codec::default();
    while at < newest.height {
        at = Height(at.0 + 1);
        progress.at(at, newest.height);
        let block = read_block(blocks, at)?;
        let leaves = leaves(params, &block, &mut codec)?;
        let added = BlockTree::of(frontier.clone(), &leaves);
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        if frontier.size() != block.header.size || frontier.root() != block.header.root {
            return Err(wrong(&block.header, "its entries do not lead to the root it names"));
        }
        files.append(&added)?;
    }
    files.truncate(newest.size)?;
    Ok(frontier)
}

/// The newest block, with at most `trusted` leaves up to it, whose root the tree files have.
fn last_good(
    blocks: &Reader,
    tree: &TreeReader,
    newest: Height,
    floor: &Floor<'_>,
    trusted: TreeSize,
) -> Result<(Height, Frontier), StoreError> {
    let (mut good, mut bad) = (floor.height, Height(newest.0 + 1));
    let mut frontier = floor.frontier.clone();
    while bad.0 - good.0 > 1 {
        let middle = Height(good.0 + (bad.0 - good.0) / 2);
        // Damage in front of what is hashed again is none of this search's business: the next block will do.
        let Some(header) = next_readable(blocks, middle, bad)? else {
            bad = middle;
            continue;
        };
        let found = (header.size <= trusted).then(|| tree.frontier(header.size));
        match found {
            Some(Ok(found)) if found.root() == header.root => {
                (good, frontier) = (header.height, found);
            }
            _ => bad = middle,
        }
    }
    Ok((good, frontier))
}

/// The header of the first block from `from` on, and before `end`, that can be read.
fn next_readable(
    blocks: &Reader,
    from: Height,
    end: Height,
) -> Result<Option<BlockHeader>, StoreError> {
    for height in (from.0..end.0).map(Height) {
        match read_block(blocks, height) {
            Ok(block) => return Ok(Some(block.header)),
            Err(StoreError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The leaf hashes of a block's entries.
pub(super) fn leaves(
    params: &Params,
    block: &Block,
    codec: &mut Codec,
) -> Result<Vec<Hash>, StoreError> {
    let range = block.header.first..EntryIndex(block.header.size.0);
    let mut leaves = Vec::new();
    for_each_entry(params, block, range, codec, |entry| leaves.push(leaf_hash(entry)))
        .map_err(|error| wrong(&block.header, error))?;
    Ok(leaves)
}

/// True if the tree files hold this size and have this root.
pub(super) fn has_root(tree: &TreeFiles, size: TreeSize, expected: Hash) -> bool {
    tree.covers(size) && root(&tree.reader(), size).is_ok_and(|found| found == expected)
}

pub(super) fn read_block(blocks: &Reader, height: Height) -> Result<Block, StoreError> {
    let bytes = blocks.read(seq_of(height)).map_err(|error| match error {
        journal::Error::Damaged(damage) => StoreError::Damaged { damage: damage.to_string() },
        journal::Error::Released { .. } => no_front(blocks),
        error => error.into(),
    })?;
    decode(height, &bytes)
}

/// Segments in front of the first one that is left are gone.
fn no_front(blocks: &Reader) -> StoreError {
    let (dir, first) = (blocks.dir().display(), blocks.first_seq());
    StoreError::Damaged {
        damage: format!("in {dir} the segments in front of {first:020}.seg are missing"),
    }
}

fn decode(height: Height, bytes: &[u8]) -> Result<Block, StoreError> {
    let problem =
        |error: replica::BlockError| StoreError::Block { height, problem: error.to_string() };
    Block::decode(bytes).map_err(problem)
}

fn for_each_block(
    blocks: &Reader,
    extent: Extent,
    floor: Height,
    mut each: impl FnMut(Block) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let segment = blocks.load(extent)?;
    for (Seq(seq), bytes) in segment.records().filter(|(seq, _)| seq.0 >= floor.0) {
        let Some(bytes) = bytes else {
            let damage = segment.damage().first().map(ToString::to_string).unwrap_or_default();
            return Err(StoreError::Damaged { damage });
        };
        each(decode(Height(seq + 1), bytes)?)?;
    }
    Ok(())
}

fn wrong(header: &BlockHeader, problem: impl ToString) -> StoreError {
    StoreError::Block { height: header.height, problem: problem.to_string() }
}
