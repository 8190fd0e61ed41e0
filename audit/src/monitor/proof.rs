//! Whether a node's tree extends an earlier one, out of its hash tiles.

use super::node::Node;
use crate::tiles::{FULL, TilesError};
use link::tls::ReloadingClient;
use record::{
    Hash, TreeSize,
    merkle::{NodeId, NodeSource, consistency_proof, perfect_root, root, verify_consistency},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;

/// Levels that a tile spans.
const STRIDE: u8 = 8;
/// How long a node may take for the tiles of one proof: one that dawdles must not blind us to the
/// others.
const LIMIT: Duration = Duration::from_secs(60);
/// The most tiles that one proof needs: those on both trees' right edges, 8 levels of them.
const MAX_TILES: usize = 64;

/// How one tree stands to a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// It is its beginning.
    Extends,
    /// Another tree of that size is.
    Forked,
    /// The node's tiles do not lead to its own checkpoint.
    WrongTiles,
}

/// The tile of a level with this index.
type Place = (u8, u64);

/// Tiles of a tree of this size, as far as they were fetched.
struct TileSet {
    size: u64,
    tiles: BTreeMap<Place, Vec<Hash>>,
}

impl TileSet {
    /// How wide the tile is in a tree of this size; 0 if it is not there.
    fn width(&self, (level, index): Place) -> u64 {
        let nodes = self.size.checked_shr(u32::from(STRIDE * level)).unwrap_or(0);
        nodes.saturating_sub(index.saturating_mul(FULL)).min(FULL)
    }
}

impl NodeSource for TileSet {
    /// The tile that is missing.
    type Error = Place;

    fn node(&self, id: NodeId) -> Result<Hash, Place> {
        let (level, above) = (id.level / STRIDE, id.level % STRIDE);
        let (first, count) = (id.index << above, 1usize << above);
        let place = (level, first / FULL);
        let tile = self.tiles.get(&place).ok_or(place)?;
        let at = (first % FULL) as usize;
        let hashes = tile.get(at..at + count).ok_or(place)?.to_vec();
        Ok(perfect_root(hashes))
    }
}

/// How the tree of size and root `old` stands to `new`. The tiles are `node`'s, of a tree of `size`
/// entries, which is at least `new`'s.
///
/// # Errors
/// The node does not give the tiles in time.
pub(super) async fn relation(
    node: &mut Node,
    tls: &ReloadingClient,
    size: TreeSize,
    old: (TreeSize, Hash),
    new: (TreeSize, Hash),
) -> Result<Relation, TilesError> {
    match timeout(LIMIT, compare(node, tls, size, old, new)).await {
        Ok(relation) => relation,
        Err(_) => Err(TilesError::Away(format!("its hash tiles did not come within {LIMIT:?}"))),
    }
}

async fn compare(
    node: &mut Node,
    tls: &ReloadingClient,
    size: TreeSize,
    old: (TreeSize, Hash),
    new: (TreeSize, Hash),
) -> Result<Relation, TilesError> {
    if old.0.0 == 0 {
        return Ok(Relation::Extends);
    }
    let mut set = TileSet { size: size.0, tiles: BTreeMap::new() };
    let (proof, theirs) = loop {
        let made = consistency_proof(&set, old.0, new.0)
            .and_then(|proof| root(&set, old.0).map(|root| (proof, root)));
        match made {
            Ok(made) => break made,
            Err(place) => {
                let width = set.width(place);
                // The tile was fetched and was too short, or cannot be.
                if set.tiles.contains_key(&place) || width == 0 || set.tiles.len() >= MAX_TILES {
                    return Ok(Relation::WrongTiles);
                }
                let (level, index) = place;
                let tile =
                    node.with(tls, async |tiles| tiles.hashes(level, index, width).await).await?;
                set.tiles.insert(place, tile);
            }
        }
    };
    Ok(if verify_consistency(&proof, (old.0, theirs), new).is_err() {
        Relation::WrongTiles
    } else if theirs == old.1 {
        Relation::Extends
    } else {
        Relation::Forked
    })
}
