//! Opening a store: what is derived is brought in line with the block log.

use super::{Index, Store, StoreError, StoreReader, TreeFiles, seq_of};
use journal::Journal;
use record::{Checkpoint, batch::Codec, block::Height, merkle, note::SignedNote};
use replica::{Block, LedgerState, Params, execute::replay};
use std::{path::Path, sync::Arc};

/// Trees up to this size are hashed again as a whole at every start, which takes about a second.
/// Of a larger one the right edge is checked, and each tile when it is read.
const CHECKED_WHOLE: u64 = 1 << 22;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The ledger's parameters.
    pub params: Params,
    /// Bytes that must be free, or the index is not opened: sled does not survive a full disk.
    pub min_free: u64,
}

/// A store and the state after its newest block.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// The state.
    pub state: LedgerState,
    /// Blocks that were executed again.
    pub replayed: u64,
    /// The newest checkpoint that a quorum was known to stand behind at the last flush.
    pub published: Option<SignedNote>,
}

pub(super) fn open(dir: &Path, options: &Options) -> Result<Opened, StoreError> {
    make_private(dir)?;
    let free = service::disk::free_bytes(dir).map_err(StoreError::io(dir))?;
    if free < options.min_free {
        return Err(StoreError::NoSpace { dir: dir.to_owned(), free, needed: options.min_free });
    }
    let (blocks, recovery) = Journal::open(dir.join("blocks"), journal::Options::default())?;
    if let Some(damage) = recovery.damage.first() {
        return Err(StoreError::Damaged { damage: damage.to_string() });
    }
    if let Some(torn) = &recovery.torn {
        tracing::info!(?torn, "cut off the incomplete end of the block log");
    }
    let (tree, index, state) = open_derived(dir, &blocks)?;
    let reader = Arc::new(StoreReader::new(
        options.params.clone(),
        blocks.reader(),
        tree.reader(),
        index.clone(),
    ));
    let mut store = Store { dir: dir.to_owned(), blocks, tree, index, reader };
    let (state, replayed) = catch_up(&mut store, &options.params, state)?;
    let published = check_signed(dir, &options.params, &state)?;
    Ok(Opened { store, state, replayed, published })
}

/// Refuses a history that is not the one the newest kept checkpoint was signed for, or ends before
/// it: going on would sign two roots at one size.
fn check_signed(
    dir: &Path,
    params: &Params,
    state: &LedgerState,
) -> Result<Option<SignedNote>, StoreError> {
    let path = dir.join("checkpoint");
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(StoreError::io(&path))?,
    };
    let note = SignedNote::parse(&bytes).ok();
    let signed = note.as_ref().and_then(|note| Checkpoint::parse(note.text()).ok());
    let Some(signed) = signed.filter(|signed| signed.origin == params.origin) else {
        tracing::warn!(path = %path.display(), "no checkpoint of this ledger; it is written again");
        return Ok(None);
    };
    let (size, root) = (state.tree.size(), state.tree.root());
    if size < signed.size || (size == signed.size && root != signed.root) {
        return Err(StoreError::CutOff {
            kept: format!("entry {size}"),
            signed: format!("{} entries", signed.size),
        });
    }
    Ok(note)
}

fn make_private(dir: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::io(dir))
}

/// Tree and index as they are if they agree with the block log, else empty ones.
fn open_derived(
    dir: &Path,
    blocks: &Journal,
) -> Result<(TreeFiles, Index, LedgerState), StoreError> {
    let (tree_dir, index_dir) = (dir.join("tree"), dir.join("index"));
    let mut tree = TreeFiles::open(&tree_dir)?;
    match Index::open(&index_dir) {
        Ok(index) => match index.state() {
            // A block is indexed only once it is durable.
            Some(state) if state.height.0 > blocks.next_seq().0 => {
                return Err(StoreError::CutOff {
                    kept: format!("block {}", blocks.next_seq().0),
                    signed: format!("block {}", state.height),
                });
            }
            Some(state) if agrees(&state, blocks, &tree) => {
                tree.truncate(state.tree.size())?;
                return Ok((tree, index, state));
            }
            None if blocks.next_seq() == journal::Seq(0) => {}
            _ => tracing::warn!("tree or index do not agree with the block log: making them again"),
        },
        Err(error) => tracing::warn!(%error, "the index cannot be read: making it again"),
    }
    if index_dir.exists() {
        std::fs::remove_dir_all(&index_dir).map_err(StoreError::io(&index_dir))?;
    }
    let genesis = LedgerState::genesis();
    tree.truncate(genesis.tree.size())?;
    Ok((tree, Index::open(&index_dir)?, genesis))
}

/// True if the index is of this block log and the tree has its root.
fn agrees(state: &LedgerState, blocks: &Journal, tree: &TreeFiles) -> bool {
    if state.height.0 == 0 {
        return false;
    }
    let newest = blocks.reader().read(seq_of(state.height)).ok();
    let same = newest
        .and_then(|bytes| Block::decode(&bytes).ok())
        .is_some_and(|block| block.header.id() == state.parent);
    let size = state.tree.size();
    let rooted = |tree: &TreeFiles| {
        let reader = tree.reader();
        let root = merkle::root(&reader, size).is_ok_and(|root| root == state.tree.root());
        root && (size.0 > CHECKED_WHOLE || reader.is_whole(size).unwrap_or(false))
    };
    same && tree.covers(size) && rooted(tree)
}

fn catch_up(
    store: &mut Store,
    params: &Params,
    mut state: LedgerState,
) -> Result<(LedgerState, u64), StoreError> {
    let (mut codec, from) = (Codec::default(), state.height.0);
    let behind = store.blocks.next_seq().0 - from;
    let reader = store.blocks.reader();
    for height in (from + 1..=store.blocks.next_seq().0).map(Height) {
        if behind > 1000 && height.0 % 1000 == 0 {
            tracing::info!(%height, of = from + behind, "executing blocks again");
        }
        let bytes = reader.read(seq_of(height))?;
        let wrong = |problem: String| StoreError::Block { height, problem };
        let block = Block::decode(&bytes).map_err(|error| wrong(error.to_string()))?;
        let executed =
            replay(params, &state, block, &mut codec).map_err(|error| wrong(error.to_string()))?;
        store.record(&executed)?;
        executed.apply(&mut state);
    }
    Ok((state, behind))
}
