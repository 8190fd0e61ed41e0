//! A ledger of one node, driven without a disk: what is decided, replayed and signed.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

use logseal_replica::{
    Block, ExecuteError, Executed, Identity, LedgerState, Output, Params, Pending, PoolError,
    Replica, execute::replay, verify_certificate,
};
use record::{
    AgentName, UnixMillis, UnixSeconds,
    batch::{BatchBuilder, Codec},
    crypto::SigningKey,
    enrolment::Enrolment,
    entry::{Enterprise, Header, LogElement},
    merkle::{EntryIndex, range_proof},
    note::{NoteSigner, SignatureType},
    policy::{Policy, write_policy},
    receipt::Receipt,
    seal::SealEntry,
};
use zeroize::Zeroizing;

struct Node {
    replica: Replica,
    policy: Policy,
    state: LedgerState,
    clock: u64,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn params() -> Params {
    Params { origin: "l.example/x".parse().unwrap(), enterprise: Enterprise::default() }
}

fn agent() -> AgentName {
    "gw01".parse().unwrap()
}

fn node() -> Node {
    let signer = |name: &str, kind, seed| {
        NoteSigner::new(name.parse().unwrap(), kind, &Zeroizing::new([seed; 32]))
    };
    let log = signer("l.example/x", SignatureType::Ed25519, 1);
    let cosigner = signer("l.example/x/node/n1", SignatureType::CosignatureV1, 2);
    let text = write_policy(&[log.vkey().clone()], &[("n1".into(), cosigner.vkey().clone())], 1);
    let identity = Identity { name: "n1".parse().unwrap(), log, cosigner };
    Node {
        replica: Replica::new(params(), identity, LedgerState::genesis(), key(3)),
        policy: Policy::parse(text.as_bytes()).unwrap(),
        state: LedgerState::genesis(),
        clock: 1_795_248_147_000,
    }
}

fn enrolment() -> Enrolment {
    Enrolment {
        agent: agent(),
        key: key(9).public(),
        time: UnixSeconds(1),
        certificate: vec![1],
        signature: vec![2],
    }
}

impl Node {
    /// Lets the replica decide; the block goes through its binary form and is executed again.
    fn decide(&mut self) -> (Executed, record::note::SignedNote) {
        self.clock += 10;
        let Some(Output::Append(executed)) = self.replica.poll(UnixMillis(self.clock)).unwrap()
        else {
            panic!("there is work")
        };
        let bytes = executed.block.encode_parts().concat();
        let block = Block::decode(&bytes).unwrap();
        assert_eq!(block, executed.block);
        let header = &block.header;
        let certified =
            |keys: &[_]| verify_certificate(keys, header.height, header.id(), &block.certificate);
        assert!(certified(&[key(3).public()]));
        assert!(!certified(&[key(4).public()]));
        let again = replay(&params(), &self.state, block.clone(), &mut Codec::default()).unwrap();
        assert_eq!(again.after, executed.after);
        again.apply(&mut self.state);
        let note = self.replica.handle_durable(&executed, UnixSeconds(self.clock / 1000));
        (*executed, note)
    }

    fn pending(&self, builder: &mut BatchBuilder, lines: &[&str]) -> (Pending, SealEntry) {
        for line in lines {
            let (agent, n) = (builder.agent().clone(), builder.next());
            let element = LogElement {
                enterprise: Enterprise::default(),
                agent: &agent,
                n,
                source: "kong",
                received: UnixMillis(0),
                peer: None,
                part: None,
            };
            let header = Header {
                priority: 110,
                time: None,
                host: b"h",
                app: b"a",
                procid: b"",
                msgid: b"",
            };
            builder.push(|out| element.wrap(out, &header, &[], line.as_bytes()));
        }
        let sealed = builder.seal(&key(9), UnixSeconds(self.clock / 1000), &mut Codec::default());
        let (encoded, seal) = (sealed.batch.encode(), sealed.batch.seal_entry());
        let log = self.replica.log_of(&agent()).unwrap();
        let verified =
            sealed.batch.open(&params().origin, log, &mut Codec::default(), &mut vec![]).unwrap();
        (Pending::new(verified, encoded), seal)
    }
}

fn builder() -> BatchBuilder {
    BatchBuilder::new(params().origin, agent(), Default::default())
}

#[test]
fn a_batch_gets_a_receipt_that_an_agent_can_check() {
    let mut node = node();
    node.replica.handle_enrolment(enrolment()).unwrap();
    node.decide();
    let mut builder = builder();
    let mut seals = vec![];
    for lines in [&["a", "b", "c"][..], &[], &["d"]] {
        let (pending, seal) = node.pending(&mut builder, lines);
        node.replica.handle_batch(pending).unwrap();
        seals.push(seal);
    }
    let (executed, checkpoint) = node.decide();
    assert_eq!(executed.placed.len(), 3);
    for (placed, seal) in executed.placed.iter().zip(&seals) {
        let end = EntryIndex(placed.first.0 + u64::from(placed.count) + 1);
        let size = executed.after.size();
        let Ok(proof) = range_proof(&executed.tree, placed.first, end, size);
        let receipt = Receipt { first: placed.first, proof, checkpoint: checkpoint.clone() };
        let at = (placed.first.0 - executed.tree.start().0) as usize;
        let leaves = &executed.tree.leaves()[at..at + placed.count as usize];
        let enterprise = Enterprise::default();
        receipt.verify(&node.policy, enterprise, leaves, seal).unwrap();
        let mut other = seal.clone();
        other.seal.time.0 += 1;
        assert!(receipt.verify(&node.policy, enterprise, leaves, &other).is_err());
    }
}

#[test]
fn a_gap_a_repetition_and_a_stranger_are_kept_out_of_the_pool() {
    let mut node = node();
    assert!(node.replica.poll(UnixMillis(1)).unwrap().is_none());
    node.replica.handle_enrolment(enrolment()).unwrap();
    assert_eq!(node.replica.handle_enrolment(enrolment()), Err(PoolError::Enrolled));
    node.decide();
    assert_eq!(node.replica.handle_enrolment(enrolment()), Err(PoolError::Enrolled));
    let mut builder = builder();
    let (first, _) = node.pending(&mut builder, &["a"]);
    node.replica.handle_batch(first.clone()).unwrap();
    assert_eq!(node.replica.handle_batch(first.clone()), Err(PoolError::NotNext { next: 1 }));
    assert_eq!(node.replica.waiting(&agent(), EntryIndex(0)).collect::<Vec<_>>(), [first.digest()]);
    node.decide();
    assert_eq!(node.replica.handle_batch(first), Err(PoolError::NotNext { next: 1 }));
}

#[test]
fn a_block_that_was_altered_does_not_replay() {
    let mut node = node();
    node.replica.handle_enrolment(enrolment()).unwrap();
    node.decide();
    let before = node.state.clone();
    let mut builder = builder();
    let (pending, _) = node.pending(&mut builder, &["a", "b"]);
    node.replica.handle_batch(pending).unwrap();
    let (executed, _) = node.decide();
    let run = |block| replay(&params(), &before, block, &mut Codec::default()).unwrap_err();

    let mut root = executed.block.clone();
    root.header.root.0[0] ^= 1;
    assert_eq!(run(root), ExecuteError::Root(2));
    let mut parent = executed.block.clone();
    parent.header.parent.0[0] ^= 1;
    assert_eq!(run(parent), ExecuteError::Parent(2));
    let mut batch = executed.block.clone();
    *batch.batches[0].encoded.last_mut().unwrap() ^= 1;
    assert!(matches!(run(batch), ExecuteError::Batch { start: 0, .. }));

    let bytes = executed.block.encode_parts().concat();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        let noticed = Block::decode(&bad).map_or(true, |block| {
            let header = &block.header;
            let keys = [key(3).public()];
            !verify_certificate(&keys, header.height, header.id(), &block.certificate)
                || replay(&params(), &before, block, &mut Codec::default()).is_err()
        });
        assert!(noticed, "byte {at}");
    }
}
