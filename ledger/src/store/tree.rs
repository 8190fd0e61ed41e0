//! The ledger tree in flat files, one for every eighth level, from which tiles are read.

use super::StoreError;
use record::{
    Hash, TreeSize,
    merkle::{Frontier, NodeId, NodeSource, decompose, perfect_root},
};
use replica::{Base, BlockTree, CHUNK, CHUNK_LEVEL};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Levels between two files: a tile is 2^8 hashes wide.
pub(super) const STRIDE: u8 = 8;
/// Files of the tallest tree.
pub(super) const FILES: usize = 8;
const HASH: u64 = 32;

/// The level files, open for writing.
pub struct TreeFiles {
    reader: TreeReader,
    /// Hashes in each file.
    lengths: [u64; FILES],
}

/// The level files, open for reading from any thread.
#[derive(Clone)]
pub struct TreeReader {
    files: Arc<Vec<(PathBuf, File)>>,
}

impl TreeFiles {
    /// Opens the files in `dir`, making what is missing.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(StoreError::io(dir))?;
        let mut files = Vec::with_capacity(FILES);
        let mut lengths = [0; FILES];
        for (level, length) in lengths.iter_mut().enumerate() {
            let path = dir.join(format!("level-{level}"));
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(&path).map_err(StoreError::io(&path))?;
            *length = file.metadata().map_err(StoreError::io(&path))?.len() / HASH;
            files.push((path, file));
        }
        Ok(TreeFiles { reader: TreeReader { files: Arc::new(files) }, lengths })
    }

    /// A handle to read with.
    pub fn reader(&self) -> TreeReader {
        self.reader.clone()
    }

    /// True if the files hold at least a tree of this size.
    pub fn covers(&self, size: TreeSize) -> bool {
        (0..FILES).all(|file| self.lengths[file] >= width(size, file))
    }

    /// Cuts the files to a tree of this size.
    pub fn truncate(&mut self, size: TreeSize) -> Result<(), StoreError> {
        for (at, (path, file)) in self.reader.files.iter().enumerate() {
            self.lengths[at] = width(size, at);
            file.set_len(self.lengths[at] * HASH).map_err(StoreError::io(path))?;
        }
        Ok(())
    }

    /// Appends what a block adds. Repeating it changes nothing.
    pub fn append(&mut self, added: &BlockTree) -> Result<(), StoreError> {
        let start = added.start();
        for (at, (path, file)) in self.reader.files.iter().enumerate() {
            let from = width(start, at);
            let bytes: Vec<u8> = if at == 0 {
                added.leaves().iter().flat_map(|hash| hash.0).collect()
            } else {
                added.completed(STRIDE * at as u8).flat_map(|hash| hash.0).collect()
            };
            if bytes.is_empty() {
                continue;
            }
            file.write_all_at(&bytes, from * HASH).map_err(StoreError::io(path))?;
            self.lengths[at] = from + bytes.len() as u64 / HASH;
        }
        Ok(())
    }

    /// Writes hashes that are there already, but are not what they should be.
    pub fn overwrite(
        &mut self,
        file: usize,
        index: u64,
        hashes: &[Hash],
    ) -> Result<(), StoreError> {
        let (path, open) = &self.reader.files[file];
        let end = self.lengths[file].max(index + hashes.len() as u64);
        let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
        open.write_all_at(&bytes, index * HASH).map_err(StoreError::io(path))?;
        self.lengths[file] = end;
        Ok(())
    }

    /// Writes a chunk of leaf hashes and the tree nodes above it, up to its root.
    pub fn put_chunk(&mut self, chunk: u64, leaves: &[Hash]) -> Result<(), StoreError> {
        self.overwrite(0, chunk * CHUNK, leaves)?;
        let mut level = leaves.to_vec();
        for file in 1..=usize::from(CHUNK_LEVEL / STRIDE) {
            let (tiles, _) = level.as_chunks::<{ 1 << STRIDE }>();
            level = tiles.iter().map(|tile| perfect_root(tile.to_vec())).collect();
            if !level.is_empty() {
                self.overwrite(file, (chunk * CHUNK) >> (usize::from(STRIDE) * file), &level)?;
            }
        }
        Ok(())
    }

    /// Makes all upper nodes of entries that were given up from their leaf hashes, as far as these are what the base
    /// says.
    pub fn remake_upper(&mut self, base: &Base) -> Result<(), StoreError> {
        for chunk in 0..base.chunk_count() {
            let leaves = self.reader.hashes(0, chunk * CHUNK, base.chunk_len(chunk));
            if let Some(leaves) = leaves.ok().filter(|leaves| base.has_chunk(chunk, leaves)) {
                self.put_chunk(chunk, &leaves)?;
            }
        }
        self.put_above(base.header.size)
    }

    /// Makes all upper nodes of a tree of this size from those below them, beginning with the roots of 65,536 leaves.
    pub fn complete_upper(&mut self, size: TreeSize) -> Result<(), StoreError> {
        self.put_above(size)?;
        self.truncate(size)
    }

    fn put_above(&mut self, size: TreeSize) -> Result<(), StoreError> {
        for file in usize::from(CHUNK_LEVEL / STRIDE) + 1..FILES {
            let wanted = width(size, file);
            for index in 0..wanted {
                let (path, _) = &self.reader.files[file - 1];
                let below = self.reader.hashes(file - 1, index << STRIDE, 1 << STRIDE);
                let below = match below {
                    // What is cut short is named when it is looked at.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    read => read.map_err(StoreError::io(path))?,
                };
                self.overwrite(file, index, &[perfect_root(below)])?;
            }
        }
        Ok(())
    }

    /// Brings all to the disk.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.reader
            .files
            .iter()
            .try_for_each(|(path, file)| file.sync_data().map_err(StoreError::sync(path)))
    }
}

impl TreeReader {
    /// Opens the files of a store that may be in use, without changing anything.
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        let open = |level| {
            let path = dir.join(format!("level-{level}"));
            let file = File::open(&path).map_err(StoreError::io(&path))?;
            Ok((path, file))
        };
        let files = (0..FILES).map(open).collect::<Result<_, StoreError>>()?;
        Ok(TreeReader { files: Arc::new(files) })
    }

    /// `count` hashes of the given file from `index` on.
    pub fn hashes(&self, file: usize, index: u64, count: usize) -> io::Result<Vec<Hash>> {
        let mut bytes = vec![0; count * HASH as usize];
        self.files[file].1.read_exact_at(&mut bytes, index * HASH)?;
        let (hashes, _) = bytes.as_chunks();
        Ok(hashes.iter().copied().map(Hash).collect())
    }
}

impl TreeReader {
    /// As [`TreeReader::hashes`]; a full tile is compared with its hash in the file above, since
    /// what is served as a tile is believed for ever.
    pub fn tile(&self, file: usize, index: u64, count: usize) -> io::Result<Vec<Hash>> {
        let hashes = self.hashes(file, index, count)?;
        if count == 1 << STRIDE && file + 1 < FILES {
            let above = self.hashes(file + 1, index >> STRIDE, 1)?;
            if above[0] != perfect_root(hashes.clone()) {
                let (below, above) = (&self.files[file].0, &self.files[file + 1].0);
                let problem = format!(
                    "{} and {} do not fit together at hash {index}: the scrub mends what can be made from the blocks; \
                     of entries that were given up, other nodes or a backup have the hashes",
                    below.display(),
                    above.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
        }
        Ok(hashes)
    }

    /// The frontier of the first `size` leaves.
    pub fn frontier(&self, size: TreeSize) -> io::Result<Frontier> {
        let hashes =
            decompose(0, size.0).map(|id| self.node(id)).collect::<io::Result<Vec<_>>>()?;
        Ok(Frontier::from_hashes(size, &hashes).expect("a frontier has the nodes of its size"))
    }
}

impl NodeSource for TreeReader {
    type Error = io::Error;

    fn node(&self, id: NodeId) -> io::Result<Hash> {
        let file = usize::from(id.level / STRIDE);
        let above = id.level % STRIDE;
        Ok(perfect_root(self.hashes(file, id.index << above, 1 << above)?))
    }
}

/// Hashes in a level file of a tree of this size.
fn width(size: TreeSize, file: usize) -> u64 {
    size.0 >> (STRIDE as usize * file).min(63)
}
