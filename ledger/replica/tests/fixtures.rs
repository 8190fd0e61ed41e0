//! The block of the worked examples in `docs/formats.md`, made of the batch and the enrolment that
//! the crate `record` pins, and compared with the fixtures beside them.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

#[path = "../../../record/tests/support/fixture.rs"]
mod fixture;

use fixture::Fixtures;
use logseal_replica::{
    Base, BaseLog, BlankStart, Block, Executed, Identity, LedgerState, Member, Members, Now,
    Output, Params, Pending, Replica, Settings, Ticks, Timing, Vouch, entries::for_each_entry,
    execute::replay,
};
use record::{
    Hash, UnixMillis, UnixSeconds,
    batch::{Codec, LogState, SealedBatch},
    crypto::SigningKey,
    declaration::{Declaration, Drill, Matter, Prune},
    enrolment::Enrolment,
    entry::{Enterprise, Entry},
    merkle::{EntryIndex, leaf_hash},
    note::{NoteSigner, SignatureType, SignedNote},
};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

const FIRST_DECIDED: UnixMillis = UnixMillis(1_795_255_200_040);
const DECIDED: UnixMillis = UnixMillis(1_795_255_347_260);

fn fixtures() -> Fixtures {
    Fixtures::seen_from(env!("CARGO_MANIFEST_DIR"), "../../record")
}

fn params() -> Params {
    let origin = "ledger.city.example/access".parse().unwrap();
    Params { origin, enterprise: Enterprise::default() }
}

fn consensus_key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([3; 32]))
}

struct Trusting;

impl Vouch for Trusting {
    fn operator_signed(&self, _: &Enrolment) -> bool {
        true
    }
}

fn replica() -> Replica {
    let signer = |name: &str, kind, seed| {
        NoteSigner::new(name.parse().unwrap(), kind, &Zeroizing::new([seed; 32]))
    };
    let identity = Identity {
        name: "node1".parse().unwrap(),
        log: signer("ledger.city.example/access", SignatureType::Ed25519, 1),
        cosigner: signer("ledger.city.example/access/node/node1", SignatureType::CosignatureV1, 2),
    };
    let members = Members::single(Member {
        name: identity.name.clone(),
        consensus: consensus_key().public(),
        cosigner: identity.cosigner.vkey().clone(),
    });
    let settings = Settings {
        params: params(),
        members,
        identity,
        timing: Timing::default(),
        vouch: Box::new(Trusting),
        blank: BlankStart::Genesis,
    };
    let genesis = LedgerState::genesis();
    Replica::new(settings, genesis, &[], consensus_key(), at(UnixMillis(0))).unwrap()
}

fn at(wall: UnixMillis) -> Now {
    Now { ticks: Ticks(0), wall }
}

/// The ledger's two blocks, and the states in front of them.
struct Story {
    blocks: [Executed; 2],
    before: [LedgerState; 2],
    checkpoint: SignedNote,
}

fn story() -> Story {
    let (pinned, mut replica) = (fixtures(), replica());
    let genesis = replica.state().clone();
    let enrolment = Enrolment::decode(&pinned.read_hex("enrolment.hex")).unwrap();
    replica.handle_enrolment(at(FIRST_DECIDED), enrolment).unwrap().unwrap();
    let (first, _) = decide(&mut replica, FIRST_DECIDED);

    let (between, encoded) = (replica.state().clone(), pinned.read_hex("batch.hex"));
    let batch = SealedBatch::decode(&encoded).unwrap();
    let log = replica.log_of(&batch.agent).unwrap();
    let verified = batch.open(&params().origin, log, &mut Codec::default(), &mut vec![]).unwrap();
    let pending = Pending::new(verified, log.clone(), encoded.into());
    replica.handle_batch(at(DECIDED), pending).unwrap().unwrap();
    let (second, checkpoint) = decide(&mut replica, DECIDED);
    Story { blocks: [first, second], before: [genesis, between], checkpoint }
}

fn decide(replica: &mut Replica, now: UnixMillis) -> (Executed, SignedNote) {
    let (mut decided, mut published) = (None, None);
    while let Some(output) = replica.poll().unwrap() {
        match output {
            Output::Append(executed) => {
                replica.handle_durable(at(now), &executed).unwrap();
                decided = Some(*executed);
            }
            Output::Published(head) => published = Some(head.checkpoint),
            other => panic!("{other:?}"),
        }
    }
    (decided.unwrap(), published.unwrap())
}

#[test]
fn a_block_of_today_is_read_and_executed_in_ten_years() {
    let (pinned, story) = (fixtures(), story());
    let [_, second] = &story.blocks;
    pinned.pin_hex("block-header.hex", &second.block.header.encode());
    pinned.pin("block-id", format!("{}\n", second.block.header.id()).as_bytes());
    pinned.pin_hex("block.hex", &second.block.encode_parts().concat());
    let block = Block::decode(&pinned.read_hex("block.hex")).unwrap();
    let again = replay(&params(), &story.before[1], block, &mut Codec::default()).unwrap();
    assert_eq!(again.block, second.block);
}

/// The example as it would be given up a year later, whatever else is in the ledger by then.
fn base(story: &Story) -> Base {
    let [first, second] = &story.blocks;
    let mut state = story.before[1].clone();
    second.apply(&mut state);
    let mut kept = BTreeMap::new();
    let only = EntryIndex(0)..EntryIndex(1);
    for_each_entry(&params(), &first.block, only, &mut Codec::default(), |entry| {
        kept.insert(EntryIndex(0), entry.to_vec());
    })
    .unwrap();
    let log = |log: &LogState| BaseLog {
        frontier: log.frontier.clone(),
        sealed: log.sealed,
        newest: second.placed.clone(),
    };
    Base {
        header: second.block.header.clone(),
        frontier: second.after.clone(),
        chunks: vec![],
        agents: state.agents.iter().map(|(agent, state)| (agent.clone(), log(state))).collect(),
        kept,
    }
}

/// What operator *lin* declares at `time`.
fn declare(matter: Matter, time: UnixSeconds) -> Declaration {
    let key = SigningKey::from_seed(&Zeroizing::new([5; 32]));
    let text = Declaration::statement(&params().origin, &matter, time);
    let signature = key.sign(text.as_bytes()).0.to_vec();
    Declaration { matter, time, certificate: fixtures().read_hex("operator.hex"), signature }
}

#[test]
fn what_is_declared_and_what_stays_is_read_in_ten_years() {
    let (pinned, story) = (fixtures(), story());
    let base = base(&story);
    pinned.pin_hex("base.hex", &base.encode());
    let encoded = pinned.read_hex("base.hex");
    let digest = Base::digest_of(&encoded);
    pinned.pin("base-digest", format!("{digest}\n").as_bytes());
    assert_eq!(Base::decode(&encoded).unwrap(), base);

    let prune = Matter::Prune(Prune {
        from: EntryIndex(0),
        height: base.header.height,
        block: base.header.id(),
        before: base.header.time,
        days: 365,
        frontier: base.frontier.clone(),
        base: digest,
    });
    let drill = Matter::Drill(Drill {
        verified: true,
        snapshot: "7-2026-11-21T10-15-00Z".to_owned(),
        size: base.header.size,
        root: base.header.root,
        begun: UnixMillis(1_795_256_100_000),
        millis: 61_204,
        report: Hash([0xd1; 32]),
    });
    for (matter, time) in [(prune, 1_826_900_000), (drill, 1_795_256_200)] {
        let (time, name) = (UnixSeconds(time), matter.word());
        let declaration = declare(matter, time);
        let text = Declaration::statement(&params().origin, &declaration.matter, time);
        pinned.pin(&format!("{name}-statement"), text.as_bytes());
        pinned.pin_hex(&format!("{name}.hex"), &declaration.encode());
        let read = Declaration::decode(&pinned.read_hex(&format!("{name}.hex"))).unwrap();
        assert_eq!(read, declaration);
        let mut entry = declaration.entry(Enterprise::default());
        entry.push(b'\n');
        pinned.pin(&format!("entry-{name}"), &entry);
        let entry = Entry::parse(&entry[..entry.len() - 1]).unwrap();
        assert_eq!(Declaration::from_entry(&entry), Some(declaration));
    }
}

#[test]
fn the_example_ledger_has_the_entries_and_the_checkpoint_that_are_documented() {
    let (pinned, story) = (fixtures(), story());
    let mut leaves = String::new();
    let mut at = 0;
    for executed in &story.blocks {
        let all = EntryIndex(0)..EntryIndex(u64::MAX);
        let mut codec = Codec::default();
        for_each_entry(&params(), &executed.block, all, &mut codec, |entry| {
            leaves += &format!("{at} {}\n", leaf_hash(entry));
            at += 1;
        })
        .unwrap();
    }
    assert_eq!(leaves.as_bytes(), pinned.read("ledger-leaves"));
    assert_eq!(story.checkpoint.to_string().as_bytes(), pinned.read("checkpoint"));
}

#[test]
fn a_certificate_of_today_holds_in_ten_years() {
    let (pinned, story) = (fixtures(), story());
    let block = &story.blocks[1].block;
    let key = consensus_key().public();
    let mut vote = b"logseal/vote/v1\n\x02".to_vec();
    vote.extend_from_slice(&2u64.to_be_bytes());
    vote.extend_from_slice(&0i64.to_be_bytes());
    vote.push(1);
    vote.extend_from_slice(&block.header.id().0);
    vote.extend_from_slice(&key.0);
    pinned.pin_hex("vote.hex", &vote);
    let [(signer, signature)] = block.certificate.signatures[..] else { panic!("one validator") };
    assert_eq!((signer, block.certificate.round), (key, 0));
    assert!(key.verifies(&vote, &signature));
}
