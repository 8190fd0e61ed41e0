//! Tiles: their paths, and their bytes out of the store.

use crate::{
    store::{ReadError, StoreReader},
    view::Head,
};
use record::merkle::EntryIndex;

/// Hashes or entries of a full tile.
const FULL: u64 = 256;

/// A tile or entry bundle, named by its path. A `width` of `None` means a full one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tile {
    /// `/tile/<L>/<N>[.p/<W>]`
    Hashes { level: u8, index: u64, width: Option<u64> },
    /// `/tile/entries/<N>[.p/<W>]`
    Entries { index: u64, width: Option<u64> },
}

#[derive(Debug)]
pub(super) enum TileError {
    /// The tree is not that large, or has no partial tile of that width any more.
    NotFound,
    /// All its entries are in front of the minimum index.
    Pruned,
    /// The store.
    Read(ReadError),
}

impl Tile {
    /// Parses what follows `/tile/`. Only the one canonical spelling of each tile is a path.
    pub(super) fn parse(path: &str) -> Option<Tile> {
        let (first, rest) = path.split_once('/')?;
        let (index, width) = match rest.split_once(".p/") {
            None => (rest, None),
            Some((index, width)) => (index, Some(decimal(width, 1..=255)?)),
        };
        let index = parse_index(index)?;
        if first == "entries" {
            return Some(Tile::Entries { index, width });
        }
        let level = decimal(first, 0..=63)? as u8;
        Some(Tile::Hashes { level, index, width })
    }

    /// The tile's bytes, for the tree of the newest checkpoint.
    pub(super) fn read(self, store: &StoreReader, head: &Head) -> Result<Vec<u8>, TileError> {
        let size = head.size.0;
        match self {
            Tile::Hashes { level, index, width } => {
                let file = usize::from(level);
                // The tallest tree of u64 leaves has hashes at tile levels 0 to 7.
                let nodes = if file < 8 { size >> (8 * file) } else { 0 };
                let (start, count) = bounds(index, width, nodes)?;
                let hashes = store.tree().tile(file, start, count).map_err(ReadError::Tree);
                let hashes = hashes.map_err(TileError::Read)?;
                Ok(hashes.iter().flat_map(|hash| hash.0).collect())
            }
            Tile::Entries { index, width } => {
                let (start, count) = bounds(index, width, size)?;
                // Whatever its width: a full bundle would end there.
                if start < store.minimum_index().0 {
                    return Err(TileError::Pruned);
                }
                bundle(store, start, start + count as u64)
            }
        }
    }
}

/// The end of a full bundle, from this entry on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest(u64);

impl Rest {
    /// Parses what follows `/entries-from/`: an index in decimal.
    pub(super) fn parse(path: &str) -> Option<Rest> {
        let index: u64 = path.parse().ok()?;
        (index.to_string() == path).then_some(Rest(index))
    }

    /// The entries, as in a bundle.
    pub(super) fn read(self, store: &StoreReader, head: &Head) -> Result<Vec<u8>, TileError> {
        let end = (self.0 / FULL + 1).checked_mul(FULL).filter(|end| *end <= head.size.0);
        let end = end.ok_or(TileError::NotFound)?;
        if self.0 < store.dropped().0 {
            return Err(TileError::Pruned);
        }
        bundle(store, self.0, end)
    }
}

fn bundle(store: &StoreReader, from: u64, to: u64) -> Result<Vec<u8>, TileError> {
    let entries = store.entries(EntryIndex(from), EntryIndex(to)).map_err(TileError::Read)?;
    let mut bundle = Vec::new();
    for entry in &entries {
        let len = u16::try_from(entry.len()).expect("an entry is bounded");
        bundle.extend_from_slice(&len.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// Where the tile begins and how wide it is, if the tree has `nodes` on this level.
fn bounds(index: u64, width: Option<u64>, nodes: u64) -> Result<(u64, usize), TileError> {
    let width = width.unwrap_or(FULL);
    let start = index.checked_mul(FULL).ok_or(TileError::NotFound)?;
    match start.checked_add(width) {
        Some(end) if end <= nodes => Ok((start, width as usize)),
        _ => Err(TileError::NotFound),
    }
}

/// `x001/x234/067`: groups of three digits, all but the last behind an `x`, none superfluous.
fn parse_index(text: &str) -> Option<u64> {
    let groups: Vec<&str> = text.split('/').collect();
    let (last, front) = groups.split_last()?;
    if front.len() > 6 || front.first() == Some(&"x000") {
        return None;
    }
    let mut index = 0u64;
    for group in front.iter().map(|group| group.strip_prefix('x')).chain([Some(*last)]) {
        let group = group.filter(|g| g.len() == 3 && g.bytes().all(|b| b.is_ascii_digit()))?;
        index = index.checked_mul(1000)?.checked_add(group.parse().ok()?)?;
    }
    Some(index)
}

fn decimal(text: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
    let value = if canonical && digits { text.parse().ok()? } else { return None };
    range.contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tile_paths_are_those_of_the_specification() {
        let hashes = |level, index, width| Some(Tile::Hashes { level, index, width });
        assert_eq!(Tile::parse("0/x001/x234/067"), hashes(0, 1_234_067, None));
        assert_eq!(Tile::parse("2/000.p/1"), hashes(2, 0, Some(1)));
        assert_eq!(Tile::parse("63/005"), hashes(63, 5, None));
        let entries = Some(Tile::Entries { index: 273, width: Some(112) });
        assert_eq!(Tile::parse("entries/273.p/112"), entries);
        for bad in [
            "",
            "0",
            "0/",
            "0/0",
            "0/0001",
            "64/000",
            "00/000",
            "0/x000/001",
            "0/001/002",
            "0/x01/002",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/01",
            "0/000.p/",
            "-1/000",
            "entries",
            "0/x001/x234/067/",
            "0/+01",
            "0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(Tile::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_tile_is_served_only_as_far_as_the_tree_goes() {
        assert_eq!(bounds(0, None, 256).unwrap(), (0, 256));
        assert_eq!(bounds(273, Some(112), 70_000).unwrap(), (69_888, 112));
        assert!(bounds(273, None, 70_000).is_err());
        assert!(bounds(273, Some(113), 70_000).is_err());
        assert!(bounds(u64::MAX, Some(1), 70_000).is_err());
    }
}
