//! Messages in the right form that mean nothing, or what must not be.

use super::{Liar, chance};
use bytes::Bytes;
use record::{Hash, TreeSize, UnixMillis, UnixSeconds, block::Height, crypto::Signature};
use replica::{
    Message,
    message::{BodyKind, Cosigned, Status},
};

impl Liar {
    /// Messages of every kind, and bytes that are none.
    pub(super) fn nonsense(&self, seed: u64) -> Vec<Vec<u8>> {
        let bytes = |n: u64, len| Bytes::from(chance(seed.wrapping_add(n), len));
        let hashes = |n| -> Vec<Hash> {
            let bytes = chance(seed.wrapping_add(n), 32 * 1000);
            bytes.as_chunks().0.iter().map(|bytes| Hash(*bytes)).collect()
        };
        let status = |height: u64, clock: u64| {
            Message::Status(Status {
                height: Height(height),
                size: TreeSize(height),
                abstains_until: Height(height),
                clock: UnixMillis(clock),
                echo: UnixMillis(clock),
                held: clock,
            })
        };
        let cosigned = |size: u64| {
            Message::Cosigned(Cosigned {
                height: Height(size),
                size: TreeSize(size),
                root: Hash([6; 32]),
                time: UnixSeconds(size),
                signature: Signature([6; 64]),
            })
        };
        let mut messages = vec![
            Message::Consensus(bytes(1, 300)),
            Message::Consensus(Bytes::new()),
            Message::Proposal { signed: bytes(2, 200), header: bytes(3, 400) },
            status(u64::MAX, u64::MAX),
            status(u64::MAX / 2, 0),
            status(1 << 40, 1),
            cosigned(u64::MAX),
            cosigned(1),
            Message::Have(hashes(4)),
            Message::Fetch(hashes(5)),
            Message::FetchBlocks(Height(0)),
            Message::FetchBlocks(Height(1)),
            Message::FetchBlocks(Height(u64::MAX)),
            Message::Body(BodyKind::Batch, bytes(6, 5000)),
            Message::Body(BodyKind::Enrolment, bytes(7, 500)),
            Message::Body(BodyKind::Equivocation, bytes(8, 500)),
            Message::Block(bytes(9, 5000)),
            Message::Served,
        ];
        messages.extend(self.contradiction());
        let encoded = messages.iter().map(Message::encode);
        encoded.chain((1..40).map(|n| chance(seed.wrapping_add(100 + n), n as usize * 7))).collect()
    }

    /// Two cosignatures of this node on two roots at one size, and far more entries than there are.
    fn contradiction(&self) -> Vec<Message> {
        let Some(newest) = self.newest() else { return Vec::new() };
        let far = Cosigned {
            height: Height(newest.height.0 + 1_000_000),
            size: TreeSize(newest.size.0 + 1_000_000),
            ..newest
        };
        let both = [newest.root, Hash([6; 32])].map(|root| self.cosign(&newest, root));
        let all = [both[0], both[1], self.cosign(&far, newest.root)];
        all.map(Message::Cosigned).to_vec()
    }
}
