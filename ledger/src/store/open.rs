//! Opening a store: what is derived is brought in line with the block log.

use super::{
    CONDEMNED, FoundBase, Index, Kept, Store, StoreError, StoreReader, TreeFiles,
    rebuild::{self, Floor, Progress, Tip, has_root, read_block},
};
use journal::{Journal, Look, Seq};
use record::{
    Checkpoint, TreeSize,
    batch::Codec,
    block::Height,
    merkle::Frontier,
    note::{SignedNote, VerifierKey},
};
use replica::{Base, Block, LedgerState, Params, execute::replay};
use std::{path::Path, sync::Arc};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The ledger's parameters.
    pub params: Params,
    /// Bytes that must be free, or the index is not opened: sled does not survive a full disk.
    pub min_free: u64,
    /// Bytes of a segment of the block log.
    pub segment_bytes: u64,
    /// The key with which this node signed the kept checkpoint; one that it did not sign is none.
    pub signer: VerifierKey,
    /// For how many days entries are kept, whatever is decided; `None` if for ever.
    pub retention: Option<u32>,
    /// True if its end may be missing: the node rejoins, and fetches it before it signs anything again.
    pub may_be_behind: bool,
}

impl Options {
    /// As nodes are usually configured, on however full a disk; everything is kept.
    pub fn new(params: Params, signer: VerifierKey) -> Self {
        Options {
            params,
            min_free: 0,
            segment_bytes: 16 << 20,
            signer,
            retention: None,
            may_be_behind: false,
        }
    }
}

/// A store and the state after its newest block.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// The state.
    pub state: LedgerState,
    /// Blocks that were executed again.
    pub replayed: u64,
    /// True if the index was made again.
    pub remade_index: bool,
    /// True if what is kept of pruned blocks is damaged or gone: other nodes have it.
    pub lost_base: bool,
    /// The newest checkpoint that a quorum was known to stand behind at the last flush.
    pub published: Option<SignedNote>,
}

pub(super) fn open(dir: &Path, options: &Options) -> Result<Opened, StoreError> {
    make_private(dir)?;
    let free = service::disk::free_bytes(dir).map_err(StoreError::io(dir))?;
    if free < options.min_free {
        return Err(StoreError::NoSpace { dir: dir.to_owned(), free, needed: options.min_free });
    }
    let journal_options = journal::Options {
        segment_bytes: options.segment_bytes,
        look: Look::Last,
        ..journal::Options::default()
    };
    let (mut blocks, recovery) = Journal::open(dir.join("blocks"), journal_options)?;
    if let Some(torn) = &recovery.torn {
        tracing::info!(?torn, "cut off the incomplete end of the block log");
    }
    let signed = read_signed(dir, options)?;
    let base = open_base(dir, &mut blocks)?;
    let Derived { tree, index, state, remade_index } =
        open_derived(dir, options, &blocks, signed.as_ref(), base.as_ref())?;
    let shared = super::base::Shared::default();
    shared.set(base);
    let reader = Arc::new(StoreReader::new(
        options.params.clone(),
        blocks.reader(),
        tree.reader(),
        index.clone(),
        shared.clone(),
    ));
    let (dir, params, retention) = (dir.to_owned(), options.params.clone(), options.retention);
    let mut store =
        Store { dir, blocks, tree, index, params, retention, base: shared, compared: None, reader };
    store.note_dropped(&state);
    let (state, replayed) = catch_up(&mut store, state)?;
    let lost_base = store.lacks_base(&state);
    if lost_base {
        tracing::error!(
            "what is kept of pruned blocks is damaged or gone: it must come from other nodes or a backup"
        );
    } else if let Err(error) = store.prune(&state) {
        if !error.is_of_content() {
            return Err(error);
        }
        tracing::error!(%error, "what was decided to be given up cannot be given up yet");
    }
    let published = match signed {
        Some((signed, _)) if options.may_be_behind && state.tree.size() < signed.size => None,
        Some((signed, note)) => {
            check_signed(&signed, &state)?;
            Some(note)
        }
        None => None,
    };
    Ok(Opened { store, state, replayed, remade_index, lost_base, published })
}

/// The base, if there is one. What a crash kept it from removing goes now.
fn open_base(dir: &Path, blocks: &mut Journal) -> Result<Option<Kept>, StoreError> {
    match super::base::read(dir)? {
        FoundBase::Nothing => Ok(None),
        FoundBase::Damaged { path, problem } => {
            tracing::error!(path = %path.display(), problem, "damaged: what is kept of pruned blocks");
            Ok(None)
        }
        FoundBase::Base(kept) => {
            let end = Seq(kept.base.header.height.0);
            if blocks.next_seq() < end {
                blocks.skip_to(end)?;
            } else if end > Seq(0) && blocks.reader().read(Seq(end.0 - 1)).is_err() {
                // Only an interrupted skip leaves such a gap. What can be read may be kept for longer.
                blocks.release(end)?;
            }
            Ok(Some(kept))
        }
    }
}

/// The newest checkpoint that was kept, with its note. Up to its size the tree files are on the disk.
type Signed = (Checkpoint, SignedNote);

fn read_signed(dir: &Path, options: &Options) -> Result<Option<Signed>, StoreError> {
    let path = dir.join("checkpoint");
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(StoreError::io(&path))?,
    };
    let note = SignedNote::parse(&bytes).ok();
    let signed = note.and_then(|note| Some((Checkpoint::parse(note.text()).ok()?, note)));
    let signed = signed.filter(|(signed, note)| {
        signed.origin == options.params.origin && note.verify([&options.signer]).is_ok()
    });
    if signed.is_none() {
        tracing::error!(path = %path.display(), "damaged: this is no checkpoint that this node signed; it is written again");
    }
    Ok(signed)
}

/// Refuses a history that is not the one the newest kept checkpoint was signed for, or ends before
/// it: going on would sign two roots at one size.
fn check_signed(signed: &Checkpoint, state: &LedgerState) -> Result<(), StoreError> {
    let (size, root) = (state.tree.size(), state.tree.root());
    if size < signed.size || (size == signed.size && root != signed.root) {
        return Err(StoreError::CutOff {
            kept: format!("entry {size}"),
            signed: format!("{} entries", signed.size),
        });
    }
    Ok(())
}

fn make_private(dir: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::io(dir))
}

/// What is made of the block log.
struct Derived {
    tree: TreeFiles,
    index: Index,
    state: LedgerState,
    remade_index: bool,
}

/// Tree and index as they are if they agree with the block log, else made again.
fn open_derived(
    dir: &Path,
    options: &Options,
    blocks: &Journal,
    signed: Option<&Signed>,
    base: Option<&Kept>,
) -> Result<Derived, StoreError> {
    let (tree_dir, index_dir) = (dir.join("tree"), dir.join("index"));
    let params = &options.params;
    let condemned = dir.join(CONDEMNED);
    if condemned.exists() {
        tracing::warn!("the index could not be read while the node was running: making it again");
        remove_index(&index_dir)?;
        std::fs::remove_file(&condemned).map_err(StoreError::io(&condemned))?;
    }
    let mut tree = TreeFiles::open(&tree_dir)?;
    let base = base.map(|kept| &*kept.base);
    let on_disk = signed.map_or(TreeSize(0), |(signed, _)| signed.size);
    match Index::open(&index_dir) {
        Ok(index) => match index.state() {
            // A block is indexed only once it is durable.
            Some(state) if state.height.0 > blocks.next_seq().0 && !options.may_be_behind => {
                return Err(StoreError::CutOff {
                    kept: format!("block {}", blocks.next_seq().0),
                    signed: format!("block {}", state.height),
                });
            }
            Some(state) if is_known(&state, blocks, base) => {
                let (height, size, root) = (state.height, state.tree.size(), state.tree.root());
                let newest = Tip { height, size, root };
                let floor = floor(&state, blocks, base);
                // Whatever of the tree is not known to be on the disk is hashed again.
                let trusted = if has_root(&tree, size, root) { on_disk } else { TreeSize(0) };
                let frontier = agreed_tree(params, blocks, &mut tree, &newest, &floor, trusted)?;
                let state = LedgerState { tree: frontier, ..state };
                return Ok(Derived { tree, index, state, remade_index: false });
            }
            None if blocks.next_seq() == Seq(0) => {
                tree.truncate(TreeSize(0))?;
                let state = LedgerState::genesis();
                return Ok(Derived { tree, index, state, remade_index: false });
            }
            _ => tracing::warn!("the index does not agree with the block log: making it again"),
        },
        // That says nothing about the index, and making it again would take more space, and long.
        Err(error @ StoreError::IndexFull { .. }) => return Err(error),
        Err(error) => tracing::warn!(%error, "the index cannot be read: making it again"),
    }
    remove_index(&index_dir)?;
    let index = Index::open(&index_dir)?;
    let (mut state, newest) = rebuild::index(&blocks.reader(), params, &index, base)?;
    if let Some(newest) = newest {
        let floor = floor(&state, blocks, base);
        state.tree = agreed_tree(params, blocks, &mut tree, &newest, &floor, on_disk)?;
    }
    index.set_state(&state)?;
    Ok(Derived { tree, index, state, remade_index: true })
}

fn remove_index(dir: &Path) -> Result<(), StoreError> {
    if dir.exists() { std::fs::remove_dir_all(dir).map_err(StoreError::io(dir)) } else { Ok(()) }
}

/// The tree files, in line with the newest block. What is not known to be on the disk is hashed again; so is
/// everything if the files do not have the newest root after that.
fn agreed_tree(
    params: &Params,
    blocks: &Journal,
    tree: &mut TreeFiles,
    newest: &Tip,
    floor: &Floor<'_>,
    on_disk: TreeSize,
) -> Result<Frontier, StoreError> {
    let reader = blocks.reader();
    let frontier = rebuild::tree(&reader, params, tree, newest, floor, on_disk)?;
    if has_root(tree, newest.size, newest.root) {
        return Ok(frontier);
    }
    tracing::warn!("the tree files do not lead to the newest root: making them again");
    if let Some(base) = floor.base {
        tree.remake_upper(base)?;
    }
    let frontier = rebuild::tree(&reader, params, tree, newest, floor, TreeSize(0))?;
    if has_root(tree, newest.size, newest.root) {
        return Ok(frontier);
    }
    Err(StoreError::Damaged {
        damage: format!(
            "the tree files hold other hashes than entries in front of {} had, which were given up, so that the hashes \
             cannot be made again",
            floor.frontier.size()
        ),
    })
}

/// Where the block log begins that the tree can be made from. If segments are missing in front, whoever needs
/// them says so.
fn floor<'a>(state: &LedgerState, blocks: &Journal, base: Option<&'a Base>) -> Floor<'a> {
    let first = blocks.first_seq().0;
    let declared = state.pruned.as_ref().map(|pruned| &pruned.prune);
    match (base, declared) {
        (Some(base), _) if first <= base.header.height.0 => {
            let (height, frontier) = (base.header.height, base.frontier.clone());
            Floor { height, frontier, base: Some(base) }
        }
        // The base was lost.
        (_, Some(prune)) if first > 0 => {
            Floor { height: prune.height, frontier: prune.frontier.clone(), base: None }
        }
        _ => Floor::default(),
    }
}

/// True if the state is the one after a block of this block log, or right behind those that were given up.
fn is_known(state: &LedgerState, blocks: &Journal, base: Option<&Base>) -> bool {
    let Some(height) = state.height.0.checked_sub(1) else { return false };
    let behind =
        |base: &Base| base.header.height == state.height && base.header.id() == state.parent;
    let newest = || blocks.reader().read(Seq(height)).ok();
    let is_newest = || {
        newest()
            .and_then(|bytes| Block::decode(&bytes).ok())
            .is_some_and(|block| block.header.id() == state.parent)
    };
    base.is_some_and(behind) || is_newest()
}

fn catch_up(store: &mut Store, mut state: LedgerState) -> Result<(LedgerState, u64), StoreError> {
    let (mut codec, from) = (Codec::default(), state.height.0);
    let behind = store.blocks.next_seq().0 - from;
    let reader = store.blocks.reader();
    let mut progress = Progress::new("executing blocks again");
    for height in (from + 1..=store.blocks.next_seq().0).map(Height) {
        progress.at(height, Height(from + behind));
        let block = read_block(&reader, height)?;
        let wrong = |problem: String| StoreError::Block { height, problem };
        let executed =
            replay(&store.params, &state, block, &mut codec).map_err(|e| wrong(e.to_string()))?;
        store.record(&executed, &state)?;
        executed.apply(&mut state);
    }
    Ok((state, behind))
}
