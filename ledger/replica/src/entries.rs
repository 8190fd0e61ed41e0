//! The entries of a block, in their order: enrolments, each batch's records and its seal, equivocations,
//! declarations, the block entry.

use crate::{block::Block, execute::Placed, state::Params};
use record::{
    AgentName,
    batch::{BatchError, Codec, SealedBatch},
    block::BlockEntry,
    declaration::Declaration,
    enrolment::Enrolment,
    equivocation::Equivocation,
    merkle::EntryIndex,
};
use std::ops::Range;

/// Calls `each` for the block's entries whose ledger index is in `wanted`. Batches without a
/// wanted entry are not unpacked. The block may be an altered one: where its header says that it
/// begins need not be true.
///
/// # Errors
/// A batch or enrolment that does not decode; what came before it has been given.
pub fn for_each_entry(
    params: &Params,
    block: &Block,
    wanted: Range<EntryIndex>,
    codec: &mut Codec,
    mut each: impl FnMut(&[u8]),
) -> Result<(), BatchError> {
    let mut at = block.header.first.0;
    let mut give = |index: u64, entry: &[u8]| {
        if wanted.contains(&EntryIndex(index)) {
            each(entry);
        }
    };
    for body in &block.enrolments {
        let enrolment = Enrolment::decode(body).map_err(|_| BatchError::Records)?;
        give(at, &enrolment.entry(&params.origin, params.enterprise));
        at = at.saturating_add(1);
    }
    let mut bundle = Vec::new();
    for body in &block.batches {
        let batch = SealedBatch::decode(&body.encoded)?;
        let end = at.saturating_add(batch.count.into());
        if at < wanted.end.0 && end > wanted.start.0 {
            for (range, offset) in codec.unpack(&batch, &mut bundle)?.into_iter().zip(0..) {
                give(at.saturating_add(offset), &bundle[range]);
            }
        }
        give(end, &batch.seal_entry().encode(params.enterprise));
        at = end.saturating_add(1);
    }
    let header = &block.header;
    for body in &block.equivocations {
        let equivocation = Equivocation::decode(body).map_err(|_| BatchError::Records)?;
        give(at, &equivocation.entry(header.time, params.enterprise));
        at = at.saturating_add(1);
    }
    for body in &block.declarations {
        let declaration = Declaration::decode(body).map_err(|_| BatchError::Records)?;
        give(at, &declaration.entry(params.enterprise));
        at = at.saturating_add(1);
    }
    let last = BlockEntry {
        height: header.height,
        time: header.time,
        proposer: header.proposer.clone(),
        first: header.first,
    };
    give(at, &last.encode(params.enterprise));
    Ok(())
}

/// Where a block's bodies came to stand, as its header and they themselves say. Nothing is unpacked or verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Where its enrolments stand.
    pub enrolled: Vec<(AgentName, EntryIndex)>,
    /// Where its batches stand.
    pub placed: Vec<Placed>,
    /// Where the entries stand that stay when others are given up: enrolments, equivocations, declarations.
    pub kept: Vec<EntryIndex>,
}

/// Where the bodies of `block` stand.
///
/// # Errors
/// A batch or enrolment that does not decode.
pub fn places(block: &Block) -> Result<Places, BatchError> {
    let mut places = Places::default();
    let mut at = block.header.first.0;
    for body in &block.enrolments {
        let enrolment = Enrolment::decode(body).map_err(|_| BatchError::Records)?;
        places.enrolled.push((enrolment.agent, EntryIndex(at)));
        places.kept.push(EntryIndex(at));
        at = at.saturating_add(1);
    }
    for (body, digest) in block.batches.iter().zip(&block.header.batches) {
        let batch = SealedBatch::decode(&body.encoded)?;
        places.placed.push(Placed {
            agent: batch.agent,
            start: batch.start,
            count: batch.count,
            digest: *digest,
            sealed: batch.seal.time,
            first: EntryIndex(at),
        });
        at = at.saturating_add(u64::from(batch.count)).saturating_add(1);
    }
    for _ in block.equivocations.iter().chain(&block.declarations) {
        places.kept.push(EntryIndex(at));
        at = at.saturating_add(1);
    }
    Ok(places)
}
