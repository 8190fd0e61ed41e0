//! The decoders of blocks and headers, with bytes from nowhere and with an example that was
//! altered: none panics, and what is read is written back as it was.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

#[path = "../../../record/tests/support/fixture.rs"]
mod fixture;

use bytes::Bytes;
use fixture::Fixtures;
use logseal_replica::{
    Block, BlockHeader, LedgerState, Message, MessageError, Params,
    entries::for_each_entry,
    execute::replay,
    message::{BodyKind, Cosigned, MAX_DIGESTS, Status},
};
use proptest::prelude::*;
use record::{
    Hash, TreeSize, UnixMillis, UnixSeconds, batch::Codec, block::Height, crypto::Signature,
    entry::Enterprise, merkle::EntryIndex,
};

fn params() -> Params {
    let origin = "ledger.city.example/access".parse().unwrap();
    Params { origin, enterprise: Enterprise::default() }
}

/// Bytes from nowhere, or the example with some bytes replaced.
fn altered(name: &str) -> impl Strategy<Value = Vec<u8>> {
    let pinned = Fixtures::seen_from(env!("CARGO_MANIFEST_DIR"), "../../record");
    let example = pinned.read_hex(name);
    let place = (any::<prop::sample::Index>(), 0usize..3, prop::collection::vec(any::<u8>(), 0..3));
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..300),
        9 => prop::collection::vec(place, 0..3).prop_map(move |changes| {
            let mut bytes = example.clone();
            for (at, removed, inserted) in changes {
                let at = at.index(bytes.len() + 1);
                let end = (at + removed).min(bytes.len());
                bytes.splice(at..end, inserted);
            }
            bytes
        }),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_of_headers_panic(bytes in altered("block-header.hex")) {
        if let Ok(header) = BlockHeader::decode(&bytes) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }

    #[test]
    fn no_bytes_make_an_audit_of_blocks_panic(bytes in altered("block.hex")) {
        let mut codec = Codec::default();
        let whole = Block::decode(&bytes);
        if let Ok(block) = Block::decode_unchecked(&bytes) {
            prop_assert_eq!(block.encode_parts().concat(), bytes);
            let all = EntryIndex(0)..EntryIndex(u64::MAX);
            let _ = for_each_entry(&params(), &block, all, &mut codec, |_| {});
        } else {
            prop_assert!(whole.is_err());
        }
        if let Ok(block) = whole {
            let _ = replay(&params(), &LedgerState::genesis(), block, &mut codec);
        }
    }
}

#[test]
fn a_block_that_lies_about_its_first_entry_can_still_be_searched_for_what_was_altered() {
    let pinned = Fixtures::seen_from(env!("CARGO_MANIFEST_DIR"), "../../record");
    let mut block = Block::decode(&pinned.read_hex("block.hex")).unwrap();
    block.header.first = EntryIndex(u64::MAX - 1);
    let (mut entries, mut codec) = (0, Codec::default());
    let from_there = EntryIndex(0)..EntryIndex(u64::MAX);
    for_each_entry(&params(), &block, from_there, &mut codec, |_| entries += 1).unwrap();
    assert_eq!(entries, 1);
}

/// One of each kind, as bytes.
fn messages() -> Vec<Message> {
    let (height, hash) = (Height(7), Hash([5; 32]));
    let status = Status {
        height,
        size: TreeSize(9),
        abstains_until: Height(0),
        clock: UnixMillis(3),
        echo: UnixMillis(2),
        held: 1,
    };
    let signature = Signature([6; 64]);
    let cosigned =
        Cosigned { height, size: TreeSize(9), root: hash, time: UnixSeconds(4), signature };
    let bytes = || Bytes::from_static(b"body");
    vec![
        Message::Consensus(bytes()),
        Message::Proposal { signed: bytes(), header: bytes() },
        Message::Status(status),
        Message::Cosigned(cosigned),
        Message::Have(vec![hash; 3]),
        Message::Fetch(vec![hash]),
        Message::FetchBlocks(height),
        Message::Body(BodyKind::Batch, bytes()),
        Message::Body(BodyKind::Enrolment, bytes()),
        Message::Body(BodyKind::Equivocation, bytes()),
        Message::Block(bytes()),
        Message::Served,
    ]
}

#[test]
fn messages_between_nodes_are_numbered_for_ever() {
    for (message, kind) in messages().into_iter().zip(1u8..) {
        let encoded = Bytes::from(message.encode());
        assert_eq!(encoded[0], kind);
        assert_eq!(message.is_bulk(), kind >= 8);
        assert_eq!(Message::decode(&encoded).unwrap(), message);
    }
    let many = Message::Fetch(vec![Hash([0; 32]); MAX_DIGESTS + 1]).encode();
    assert_eq!(Message::decode(&many.into()), Err(MessageError::Digests(MAX_DIGESTS + 1)));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_of_messages_panic(
        which in 0usize..12,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = messages().swap_remove(which).encode();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(message) = Message::decode(&bytes.clone().into()) {
            prop_assert_eq!(message.encode(), bytes);
        }
    }
}
