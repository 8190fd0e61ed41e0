//! Mending: what was damaged is written again, as it was.

use super::{Store, StoreError, check::Mend, seq_of};
use journal::{Segment, Seq};
use record::block::Height;
use std::collections::{BTreeMap, BTreeSet};

/// The most bytes that are put back into one segment.
const PIECE: usize = 16 << 20;

impl Store {
    /// Mends the tree files, the index or the base. Answers whether something was written; blocks are for
    /// [`Store::put_back`], chunks of leaves for [`Store::put_leaves`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mend(&mut self, mend: &Mend) -> Result<bool, StoreError> {
        match mend {
            Mend::Blocks(_) | Mend::Chunk(_) => return Ok(false),
            Mend::Base => match self.base.get() {
                Some(kept) => self.keep_base(kept)?,
                None => return Ok(false),
            },
            Mend::Segment(first) => return self.clean(*first),
            Mend::Leaves { start, hashes } => self.tree.overwrite(0, *start, hashes)?,
            Mend::Upper { file, index, hash } => self.tree.overwrite(*file, *index, &[*hash])?,
            Mend::Index { header, places } => return Ok(self.index.note(header, places)? > 0),
        }
        Ok(true)
    }

    /// Puts blocks back that could not be read, as others have them. They must have been verified. Answers which of them
    /// are in their place now; the others' segments lack something that was not given.
    ///
    /// # Errors
    /// When they cannot be written, or when what is there can be read and is something else.
    pub fn put_back(
        &mut self,
        given: &BTreeMap<Height, Vec<u8>>,
    ) -> Result<BTreeSet<Height>, StoreError> {
        let reader = self.blocks.reader();
        let floor = self.base.get().map(|kept| kept.base.header.height.0).unwrap_or_default();
        let first = reader.first_seq();
        let mut placed =
            if first.0 > floor { self.put_back_front(given, first)? } else { BTreeSet::new() };
        for extent in reader.segments() {
            let heights = height_of(extent.first)..height_of(extent.last);
            if given.range(heights).next().is_none() {
                continue;
            }
            let segment = reader.load(extent)?;
            let give = |seq| given.get(&height_of(seq));
            if let Some((start, whole)) = completed(&segment, give) {
                let end = start.0 + whole.len() as u64;
                self.write_pieces(start, &whole)?;
                let put = given.range(height_of(start)..height_of(Seq(end)));
                placed.extend(put.map(|(height, _)| *height));
            }
        }
        Ok(placed)
    }

    /// Puts back what is missing in front of the first segment: a run from its first block on.
    fn put_back_front(
        &mut self,
        given: &BTreeMap<Height, Vec<u8>>,
        first: Seq,
    ) -> Result<BTreeSet<Height>, StoreError> {
        let mut run = Vec::new();
        let mut placed = BTreeSet::new();
        let missing = given.range(..height_of(first));
        for (height, block) in missing {
            if placed.last().is_some_and(|last: &Height| last.0 + 1 != height.0) {
                break;
            }
            placed.insert(*height);
            run.push(block.clone());
        }
        if let Some(height) = placed.first() {
            self.write_pieces(seq_of(*height), &run)?;
        }
        Ok(placed)
    }

    /// Writes a segment anew that has bytes it should not have, but all its blocks.
    ///
    /// # Errors
    /// When it cannot be written.
    fn clean(&mut self, first: Height) -> Result<bool, StoreError> {
        let reader = self.blocks.reader();
        let extents = reader.segments();
        let Some(extent) = extents.iter().find(|extent| extent.first == seq_of(first)) else {
            return Ok(false);
        };
        let segment = reader.load(*extent)?;
        let Some((start, whole)) = completed(&segment, |_| None) else { return Ok(false) };
        self.write_pieces(start, &whole)?;
        Ok(true)
    }

    /// Writes blocks that stand in a row, last piece first, so that a crash loses none that is there.
    fn write_pieces(&mut self, first: Seq, blocks: &[Vec<u8>]) -> Result<(), StoreError> {
        let (mut pieces, mut begun, mut bytes) = (Vec::new(), 0, 0);
        for (at, block) in blocks.iter().enumerate() {
            if at > begun && bytes + block.len() > PIECE {
                pieces.push(begun..at);
                (begun, bytes) = (at, 0);
            }
            bytes += block.len();
        }
        pieces.push(begun..blocks.len());
        for piece in pieces.into_iter().rev() {
            self.blocks.restore(Seq(first.0 + piece.start as u64), &blocks[piece])?;
        }
        Ok(())
    }
}

/// What has to be written so that a segment is whole, and from where on: nothing but what is missing if that is its
/// end, else all of it. `None` if nothing is missing, or if something is that is not given.
fn completed<'a>(
    segment: &Segment,
    given: impl Fn(Seq) -> Option<&'a Vec<u8>>,
) -> Option<(Seq, Vec<Vec<u8>>)> {
    if segment.damage().is_empty() {
        return None;
    }
    let records: Vec<(Seq, Option<&[u8]>)> = segment.records().collect();
    let whole_front = records.iter().take_while(|(_, bytes)| bytes.is_some()).count();
    let rest = &records[whole_front..];
    let ends_there = segment.damage().len() == 1 && rest.iter().all(|(_, bytes)| bytes.is_none());
    if let Some((start, _)) = rest.first().filter(|_| ends_there) {
        let found: Vec<Vec<u8>> = rest.iter().map_while(|(seq, _)| given(*seq).cloned()).collect();
        return (!found.is_empty()).then_some((*start, found));
    }
    let all = records.iter().map(|(seq, bytes)| match bytes {
        Some(bytes) => Some(bytes.to_vec()),
        None => given(*seq).cloned(),
    });
    Some((segment.extent().first, all.collect::<Option<Vec<_>>>()?))
}

fn height_of(seq: Seq) -> Height {
    Height(seq.0 + 1)
}
