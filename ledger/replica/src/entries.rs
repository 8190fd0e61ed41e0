//! The entries of a block, in their order: enrolments, each batch's records and its seal, the
//! block entry.

use crate::{block::Block, state::Params};
use record::{
    batch::{BatchError, Codec, SealedBatch},
    block::BlockEntry,
    enrolment::Enrolment,
    merkle::EntryIndex,
};
use std::ops::Range;

/// Calls `each` for the block's entries whose ledger index is in `wanted`. Batches without a
/// wanted entry are not unpacked.
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
        at += 1;
    }
    let mut bundle = Vec::new();
    for body in &block.batches {
        let batch = SealedBatch::decode(&body.encoded)?;
        let count = u64::from(batch.count);
        if at < wanted.end.0 && at + count > wanted.start.0 {
            for (range, index) in codec.unpack(&batch, &mut bundle)?.into_iter().zip(at..) {
                give(index, &bundle[range]);
            }
        }
        give(at + count, &batch.seal_entry().encode(params.enterprise));
        at += count + 1;
    }
    let header = &block.header;
    let last = BlockEntry {
        height: header.height,
        time: header.time,
        proposer: header.proposer.clone(),
        first: header.first,
    };
    give(at, &last.encode(params.enterprise));
    Ok(())
}
