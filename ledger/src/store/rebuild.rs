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
    enrolment::Enrolment,
    equivocation::Equivocation,
    merkle::{EntryIndex, Frontier, leaf_hash, root},
};
use replica::{
    Block, BlockHeader, BlockTree, LedgerState, Params,
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
    /// The newest batch with records.
    newest: Option<(Height, u32)>,
}

/// What is known of the ledger while blocks are read.
struct Pass {
    logs: BTreeMap<AgentName, Log>,
    /// The state after the blocks so far, without its tree and the agents.
    state: LedgerState,
}

/// Makes the index again. Answers with the state after the newest block, but for the tree, which
/// [`tree`] fills in.
pub(super) fn index(
    blocks: &Reader,
    params: &Params,
    index: &Index,
) -> Result<(LedgerState, Option<BlockHeader>), StoreError> {
    if blocks.first_seq() > Seq(0) {
        return Err(no_front(blocks));
    }
    let of = Height(blocks.durable().0);
    let mut progress = Progress::new("making the index again");
    let mut pass = Pass { logs: BTreeMap::new(), state: LedgerState::genesis() };
    let mut newest = None;
    for extent in blocks.segments() {
        for_each_block(blocks, extent, |block| {
            progress.at(block.header.height, of);
            let found = places(&block).map_err(|error| wrong(&block.header, error))?;
            index.note(&block.header, &found)?;
            pass.take(&block, &found)?;
            newest = Some(block.header);
            Ok(())
        })?;
    }
    Ok((pass.finish(blocks, params)?, newest))
}

impl Pass {
    fn take(&mut self, block: &Block, found: &Places) -> Result<(), StoreError> {
        let header = &block.header;
        if header.height.0 != self.state.height.0 + 1 || header.parent != self.state.parent {
            return Err(wrong(header, "it does not follow the block before it"));
        }
        for body in &block.enrolments {
            let enrolment = Enrolment::decode(body).map_err(|error| wrong(header, error))?;
            let log = Log { key: enrolment.key, sealed: UnixSeconds(0), newest: None };
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
        let state = &mut self.state;
        (state.height, state.parent, state.time) = (header.height, header.id(), header.time);
        Ok(())
    }

    /// Opens the newest batch of each agent, for where its log stands.
    fn finish(self, blocks: &Reader, params: &Params) -> Result<LedgerState, StoreError> {
        let mut state = self.state;
        let mut codec = Codec::default();
        for (agent, log) in self.logs {
            let mut now =
                LogState { key: log.key, frontier: Frontier::default(), sealed: log.sealed };
            if let Some((height, nth)) = log.newest {
                let block = read_block(blocks, height)?;
                let body = &block.batches[nth as usize];
                let before = LogState {
                    key: log.key,
                    frontier: body.before.clone(),
                    sealed: UnixSeconds(0),
                };
                let batch = SealedBatch::decode(&body.encoded);
                let batch = batch.map_err(|error| wrong(&block.header, error))?;
                let opened = batch.open(&params.origin, &before, &mut codec, &mut Vec::new());
                let opened = opened.map_err(|error| wrong(&block.header, error))?;
                now.frontier = opened.log_state().frontier;
            }
            state.agents.insert(agent, now);
        }
        Ok(state)
    }
}

/// Brings the tree files in line with the blocks up to `newest`, and answers with their frontier.
/// What was there up to `trusted` leaves is taken as it is if the roots agree.
pub(super) fn tree(
    blocks: &Reader,
    params: &Params,
    files: &mut TreeFiles,
    newest: &BlockHeader,
    trusted: TreeSize,
) -> Result<Frontier, StoreError> {
    let reader = files.reader();
    let (mut at, mut frontier) = last_good(blocks, &reader, newest.height, trusted)?;
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
    trusted: TreeSize,
) -> Result<(Height, Frontier), StoreError> {
    let (mut good, mut bad) = (Height(0), Height(newest.0 + 1));
    let mut frontier = Frontier::default();
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
    mut each: impl FnMut(Block) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let segment = blocks.load(extent)?;
    for (Seq(seq), bytes) in segment.records() {
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
