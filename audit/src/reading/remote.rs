//! A node's tiles as a source of hashes and entries.

use super::Each;
use crate::{
    client::Client,
    output::{Failure, fail},
    tiles::Tiles,
};
use record::{
    Checkpoint, Hash,
    merkle::{NodeId, NodeSource, node_hash},
    note::SignedNote,
    policy::Policy,
};
use std::{cell::RefCell, collections::BTreeMap, ops::Range};
use tokio::runtime::Handle;

/// Entries of a full bundle, hashes of a full tile.
const FULL: u64 = 256;
/// Levels of the tree between two levels of tiles.
const STRIDE: u8 = 8;
/// The most tiles that are kept, of 8 KiB each.
const MAX_CACHED: usize = 1024;

/// The level, index and width of a tile.
type TileKey = (u8, u64, u64);

/// A connection to a node, at one size of the ledger. To be used outside the runtime's own threads.
pub struct Remote {
    handle: Handle,
    tiles: RefCell<Tiles>,
    cache: RefCell<BTreeMap<TileKey, Vec<Hash>>>,
    size: u64,
    /// The first entry that the node still has.
    first: u64,
    /// The node's address.
    pub address: String,
}

impl Remote {
    /// Connects to the first of the client's nodes that serves a checkpoint which satisfies `policy`,
    /// and reads at its size.
    ///
    /// # Errors
    /// Why each of them could not be used.
    pub fn open(
        handle: &Handle,
        client: &Client,
        policy: &Policy,
    ) -> Result<(Self, SignedNote, Checkpoint), Failure> {
        let mut failures = Vec::new();
        for address in &client.nodes {
            let opened = Self::connect(handle, client, address).and_then(|mut remote| {
                let (note, checkpoint) = remote.advance(policy)?;
                Ok((remote, note, checkpoint))
            });
            match opened {
                Ok(opened) => return Ok(opened),
                Err(failure) => failures.push(format!("{address}: {failure}")),
            }
        }
        Err(Failure(failures.join("\n")))
    }

    /// Connects to one node. Nothing can be read before [`Remote::advance`].
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn connect(handle: &Handle, client: &Client, address: &str) -> Result<Self, Failure> {
        let tiles = handle.block_on(Tiles::connect(address, client.tls.files()))?;
        Ok(Remote {
            handle: handle.clone(),
            tiles: RefCell::new(tiles),
            cache: RefCell::default(),
            size: 0,
            first: 0,
            address: address.to_owned(),
        })
    }

    /// Takes the node's newest checkpoint, and reads at its size from now on.
    ///
    /// # Errors
    /// It has none, or one that does not satisfy the policy.
    pub fn advance(&mut self, policy: &Policy) -> Result<(SignedNote, Checkpoint), Failure> {
        let note = self.handle.block_on(self.tiles.borrow_mut().checkpoint()).map_err(fail)?;
        let verified = policy.verify(&note).map_err(fail)?;
        let checkpoint = verified.checkpoint().clone();
        let first = self.handle.block_on(self.tiles.borrow_mut().first_entry()).map_err(fail)?;
        (self.first, self.size) = (first.min(checkpoint.size.0), checkpoint.size.0);
        Ok((note, checkpoint))
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Entries, a bundle a request.
    pub(super) fn entries(&self, range: Range<u64>, each: &mut Each<'_>) -> Result<(), Failure> {
        if range.end > self.size {
            let problem = format!("the ledger has {} entries only", self.size);
            return Err(Failure(problem));
        }
        let mut next = range.start;
        while next < range.end {
            let mut tiles = self.tiles.borrow_mut();
            let entries =
                self.handle.block_on(tiles.entries_from(next, self.size)).map_err(fail)?;
            drop(tiles);
            for entry in &entries {
                if next >= range.end || each(next, entry)?.is_break() {
                    return Ok(());
                }
                next += 1;
            }
        }
        Ok(())
    }

    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, Failure> {
        let nodes = self.size >> (STRIDE * level);
        let width = nodes.saturating_sub(index * FULL).min(FULL);
        let key = (level, index, width);
        if let Some(known) = self.cache.borrow().get(&key) {
            return Ok(known.clone());
        }
        let mut tiles = self.tiles.borrow_mut();
        let hashes = self.handle.block_on(tiles.hashes(level, index, width)).map_err(fail)?;
        let mut cache = self.cache.borrow_mut();
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(key, hashes.clone());
        Ok(hashes)
    }
}

impl NodeSource for Remote {
    type Error = Failure;

    fn node(&self, id: NodeId) -> Result<Hash, Failure> {
        let (level, above) = (id.level / STRIDE, id.level % STRIDE);
        let (start, count) = (id.index << above, 1usize << above);
        let hashes = self.tile(level, start / FULL)?;
        let from = (start % FULL) as usize;
        let run = hashes.get(from..from + count).ok_or_else(|| {
            Failure(format!("tile {} of level {level} is too short", start / FULL))
        })?;
        Ok(fold(run.to_vec()))
    }
}

/// The root over a power of two of hashes, at least one.
fn fold(mut hashes: Vec<Hash>) -> Hash {
    while hashes.len() > 1 {
        hashes = hashes.chunks(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    hashes[0]
}
