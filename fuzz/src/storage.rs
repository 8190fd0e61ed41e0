//! What programs read back from their disks and from each other: blocks, the journal, messages.

use crate::origin;
use ::agent::spool::{Decoded, decode};
use journal::{HeaderState, Scan, Seq, decode_offsets, scan};
use link::{
    frame::{from_bytes, to_bytes},
    message::{FromNode, ToNode},
    peer::{PeerAnswer, PeerHello},
};
use record::{
    Hash, UnixMillis,
    batch::{Codec, SealedBatch},
    declaration::{Declaration, Matter},
    entry::{Enterprise, Entry},
    equivocation::Equivocation,
    merkle::{EntryIndex, leaf_hash},
    seal::Seal,
};
use replica::{
    Base, Block, BlockHeader, LedgerState, Message, Params, entries::for_each_entry,
    execute::replay, vote_log_height,
};

/// A header is written back as it was read.
pub fn block_header(data: &[u8]) {
    if let Ok(header) = BlockHeader::decode(data) {
        assert_eq!(header.encode(), data);
        let _ = header.id();
    }
}

/// A block is written back as it was read. Then its header is made to name its bodies, which no
/// fuzzer could, and it is executed.
pub fn block(data: &[u8]) {
    let whole = Block::decode(data);
    let Ok(mut block) = Block::decode_unchecked(data) else {
        assert!(whole.is_err());
        return;
    };
    assert_eq!(block.encode_parts().concat(), data);
    let params = Params { origin: origin(), enterprise: Enterprise::default() };
    let mut codec = Codec::default();
    let everything = EntryIndex(0)..EntryIndex(u64::MAX);
    let _ = for_each_entry(&params, &block, everything, &mut codec, |entry| {
        leaf_hash(entry);
    });
    let digest = |body: &[u8]| SealedBatch::digest(body);
    block.header.enrolments = block.enrolments.iter().map(|body| digest(body)).collect();
    block.header.batches = block.batches.iter().map(|batch| digest(&batch.encoded)).collect();
    block.header.equivocations = block.equivocations.iter().map(|body| digest(body)).collect();
    block.header.height.0 = 1;
    block.header.parent = Hash([0; 32]);
    let again = Block::decode(&block.encode_parts().concat()).expect("it names its bodies now");
    assert_eq!(again, block);
    if let Ok(executed) = replay(&params, &LedgerState::genesis(), block, &mut codec) {
        assert_eq!(executed.block, again);
    }
}

/// Messages between nodes are written back as they were read.
pub fn message(data: &[u8]) {
    if let Ok(message) = Message::decode(&data.to_vec().into()) {
        assert_eq!(message.encode(), data);
    }
    let _ = vote_log_height(data);
}

/// Equivocations are written back as they were read, as bytes and as an entry.
pub fn equivocation(data: &[u8]) {
    let Ok(equivocation) = Equivocation::decode(data) else { return };
    assert_eq!(equivocation.encode(), data);
    let _ = equivocation.verify();
    let entry = equivocation.entry(UnixMillis(0), Enterprise::default());
    let parsed = Entry::parse(&entry).expect("it was made well-formed");
    assert_eq!(Equivocation::from_entry(&parsed), Some(equivocation));
}

/// Declarations are written back as they were read, as bytes and as an entry. What they say of old blocks can be asked
/// whatever it is.
pub fn declaration(data: &[u8]) {
    if let Ok(entry) = Entry::parse(data)
        && let Some(declaration) = Declaration::from_entry(&entry)
    {
        let again = declaration.entry(Enterprise::default());
        let parsed = Entry::parse(&again).expect("it was made well-formed");
        assert_eq!(Declaration::from_entry(&parsed), Some(declaration));
    }
    let Ok(declaration) = Declaration::decode(data) else { return };
    assert_eq!(declaration.encode(), data);
    let _ = Declaration::statement(&origin(), &declaration.matter, declaration.time);
    if let Matter::Prune(prune) = &declaration.matter {
        let _ = (prune.count(), prune.minimum_index(), prune.allowed_from(), prune.is_sound());
    }
    let entry = declaration.entry(Enterprise::default());
    let parsed = Entry::parse(&entry).expect("it was made well-formed");
    assert_eq!(Declaration::from_entry(&parsed), Some(declaration));
}

/// Bases are written back as they were read, and lead to a ledger. No chunk of leaf hashes makes them panic.
pub fn base(data: &[u8]) {
    let Ok(base) = Base::decode(data) else { return };
    assert_eq!(base.encode(), data);
    let state = base.state().expect("decoding made sure of it");
    assert_eq!((state.height, state.tree.size()), (base.header.height, base.header.size));
    let _ = base.enrolled().count();
    for chunk in [0, base.chunk_count().saturating_sub(1), base.chunk_count(), u64::MAX] {
        assert!(!base.has_chunk(chunk, &[]));
        let _ = base.has_chunk(chunk, &vec![Hash([0; 32]); base.chunk_len(chunk).min(512)]);
    }
}

/// Messages between programs are written back as they were read.
pub fn frame(data: &[u8]) {
    if let Ok(message) = from_bytes::<ToNode>(data) {
        assert_eq!(to_bytes(&message).expect("it was a message"), data);
    }
    if let Ok(hello) = from_bytes::<PeerHello>(data) {
        assert_eq!(to_bytes(&hello).expect("it was a message"), data);
    }
    if let Ok(answer) = from_bytes::<PeerAnswer>(data) {
        assert_eq!(to_bytes(&answer).expect("it was a message"), data);
    }
    if let Ok(message) = from_bytes::<FromNode>(data) {
        assert_eq!(to_bytes(&message).expect("it was a message"), data);
        if let FromNode::Receipt(receipt) = message
            && let Ok(receipt) = receipt.receipt()
        {
            let seal = Seal {
                size: record::TreeSize(0),
                root: Hash([0; 32]),
                time: crate::NOW,
                signature: record::crypto::Signature([0; 64]),
            };
            let leaf = leaf_hash(&seal.root.0);
            let _ = receipt.proof.root(receipt.first, &[leaf], record::TreeSize(9));
        }
    }
}

/// A spool's records. A state says the same when it is written again; its files may come in
/// another order.
pub fn spool(data: &[u8]) {
    match decode(data) {
        Ok(Decoded::State(state)) => {
            let again = state.encode();
            // Version 1 had no bookmarks, and no number of them.
            assert!(again.len() <= data.len() + if data[0] == 1 { 4 } else { 0 });
            assert!(matches!(decode(&again), Ok(Decoded::State(read)) if read == state));
        }
        Ok(Decoded::Batch(record)) => assert_eq!(record.batch.encode(), record.encoded),
        Ok(_) | Err(_) => {}
    }
}

/// What stands beside a segment, as it is and with a checksum that holds.
pub fn journal_offsets(data: &[u8]) {
    let summed = [data, &crc32c::crc32c(data).to_le_bytes()].concat();
    for bytes in [data, &summed] {
        let Some((records, end)) = decode_offsets(bytes) else { continue };
        assert!(records.is_sorted_by(|a, b| a < b), "records follow one another");
        assert!(records.last().is_none_or(|last| *last < end), "and end behind the last");
    }
}

/// Segments from anywhere; and a segment written as `docs/formats.md` describes it, with one byte
/// of it changed.
pub fn journal_scan(data: &[u8]) {
    let Some((&[a, b, size, flip], rest)) = data.split_first_chunk::<4>() else { return };
    plausible(&scan(rest, Seq(0)), rest);
    let base = 7;
    let (mut segment, mut offsets) = (segment_header(base), Vec::new());
    for (payload, seq) in rest.chunks(usize::from(size) + 1).zip(base..) {
        offsets.push(segment.len() as u32);
        put_record(&mut segment, base, seq, payload);
    }
    let records_end = segment.len();
    segment.resize(records_end + 64, 0);
    let whole = scan(&segment, Seq(base));
    plausible(&whole, &segment);
    assert_eq!((whole.header, &whole.records), (HeaderState::Valid, &offsets));
    assert_eq!((whole.end as usize, whole.tail_is_bad()), (records_end, false));
    if flip == 0 || offsets.is_empty() {
        return;
    }
    let at = 32 + usize::from(u16::from_be_bytes([a, b])) % (records_end - 32);
    segment[at] ^= flip;
    let damaged = scan(&segment, Seq(base));
    plausible(&damaged, &segment);
    let hit = offsets.iter().rposition(|offset| *offset as usize <= at).expect("one begins at 32");
    for (nth, offset) in offsets.iter().enumerate() {
        match damaged.records.get(nth) {
            Some(found) if nth != hit => assert_eq!(found, offset, "a whole record is read"),
            Some(found) => assert_eq!(*found, 0, "a damaged record is not"),
            None => assert_eq!((nth, hit), (offsets.len() - 1, nth), "only the last can be torn"),
        }
    }
}

fn plausible(found: &Scan, bytes: &[u8]) {
    assert!(found.end >= 32 && found.content_end as usize <= bytes.len());
    assert!(found.proven >= found.base && found.proven <= found.next().max(found.base));
    let mut last = 0;
    for offset in found.records.iter().filter(|offset| **offset != 0) {
        assert!(*offset > last && *offset % 8 == 0 && *offset + 24 <= found.end);
        last = *offset;
    }
    assert!(found.gaps.windows(2).all(|pair| pair[0].last <= pair[1].first));
    assert!(found.gaps.iter().all(|gap| gap.first <= gap.last && gap.offset < found.end));
}

fn segment_header(base: u64) -> Vec<u8> {
    let mut out = b"LSJOURN\n\x01\0\0\0\0\0\0\0".to_vec();
    out.extend_from_slice(&base.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn put_record(out: &mut Vec<u8>, base: u64, seq: u64, payload: &[u8]) {
    let length = (payload.len() as u32).to_le_bytes();
    let (place, durable) = ((out.len() as u64).to_le_bytes(), base.to_le_bytes());
    let (base, seq) = (base.to_le_bytes(), seq.to_le_bytes());
    let summed = [&base[..], &place, &length, &seq, &durable, payload].concat();
    out.extend_from_slice(&length);
    out.extend_from_slice(&crc32c::crc32c(&summed).to_le_bytes());
    out.extend_from_slice(&seq);
    out.extend_from_slice(&durable);
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(8), 0);
}
