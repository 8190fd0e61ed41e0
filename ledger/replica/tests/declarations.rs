//! Declarations: decided where nodes agree, given up where they do not, and never in the way of batches for long.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

extern crate logseal_replica as replica;

#[path = "support/cluster.rs"]
mod cluster;

use cluster::{Cluster, builder, params};
use logseal_replica::{
    Block, BlockError, BlockHeader, Certificate, Event, ExecuteError, Message, execute::replay,
    message::BodyKind,
};
use record::{
    FaultModel, Hash, TreeSize, UnixMillis,
    batch::{Codec, SealedBatch},
    block::Height,
    declaration::{Declaration, Drill, Matter, Prune},
    merkle::EntryIndex,
};

fn four() -> Cluster {
    Cluster::new(4, FaultModel::Byzantine)
}

fn drill() -> Matter {
    Matter::Drill(Drill {
        verified: true,
        snapshot: "snapshot".into(),
        size: TreeSize(0),
        root: Hash([0; 32]),
        begun: UnixMillis(0),
        millis: 1,
        report: Hash([0; 32]),
    })
}

fn digest_of(declaration: &Declaration) -> Hash {
    SealedBatch::digest(&declaration.encode())
}

/// Where a declaration stands in the ledger of each node: more than one place if it is there twice.
fn places(cluster: &Cluster, declaration: &Declaration) -> Vec<Vec<EntryIndex>> {
    let digest = digest_of(declaration);
    let of = |blocks: &Vec<logseal_replica::Executed>| {
        let declared = blocks.iter().flat_map(|executed| &executed.declared);
        declared.filter(|(other, _)| *other == digest).map(|(_, index)| *index).collect()
    };
    cluster.blocks.iter().map(of).collect()
}

#[test]
fn one_that_all_agree_to_is_decided_once_and_stands_at_one_place() {
    let mut cluster = four();
    cluster.enrol(0).unwrap();
    let declaration = cluster.signed(drill());
    cluster.declare(0, &declaration).unwrap();
    // The operator does not wait, and brings it to others.
    for other in [1, 0, 2] {
        let _ = cluster.declare(other, &declaration);
    }
    cluster.pass(3000);
    let places = places(&cluster, &declaration);
    assert_eq!(places[0].len(), 1);
    assert_eq!(places, vec![places[0].clone(); 4]);
    assert!(cluster.nodes.iter().all(|node| node.state().declared == declaration.time));
    assert_eq!(cluster.declined, []);
    cluster.assert_agreed();
}

#[test]
fn one_that_a_single_node_objects_to_is_decided_and_that_node_follows() {
    let mut cluster = four();
    cluster.enrol(0).unwrap();
    cluster.objecting.lock().unwrap().insert(3);
    let declaration = cluster.signed(drill());
    cluster.declare(1, &declaration).unwrap();
    cluster.pass(3000);
    let places = places(&cluster, &declaration);
    assert_eq!((places[0].len(), &places), (1, &vec![places[0].clone(); 4]));
    let disagreed = |(node, event): &(u8, Event)| {
        *node == 3 && matches!(event, Event::Disagreed { peer, .. } if peer.0 == 1)
    };
    assert!(cluster.events.iter().any(disagreed), "{:?}", cluster.events);
    cluster.assert_agreed();
}

#[test]
fn one_that_a_quorum_objects_to_is_declined_and_batches_go_on() {
    for objecting in [vec![1, 2], vec![1, 2, 3]] {
        let mut cluster = four();
        cluster.enrol(0).unwrap();
        cluster.objecting.lock().unwrap().extend(objecting.clone());
        let declaration = cluster.signed(drill());
        cluster.declare(0, &declaration).unwrap();
        let (mut builder, mut longest) = (builder(), 0);
        for _ in 0..30 {
            let (begun, before) = (cluster.now, cluster.heights()[3]);
            cluster.submit(2, &mut builder, &["a"]).0.unwrap();
            while cluster.heights()[3] == before {
                cluster.pass(10);
                assert!(cluster.now < begun + 10_000, "the ledger stands still");
            }
            longest = longest.max(cluster.now - begun);
        }
        println!("{objecting:?} object: the ledger stood still for {longest} ms at most");
        assert!(longest <= 500, "{objecting:?}: {longest} ms");
        let [(0, digest, why)] = &cluster.declined[..] else { panic!("{:?}", cluster.declined) };
        assert_eq!(*digest, digest_of(&declaration));
        assert!(why.contains("did not agree"), "{why}");
        assert_eq!(places(&cluster, &declaration), vec![vec![]; 4]);
        let slow = cluster.events.iter().filter(|(_, e)| matches!(e, Event::Slow { .. })).count();
        assert_eq!(slow, 0, "an operator's wish is no reason not to wait for a node");
        cluster.assert_agreed();
    }
}

#[test]
fn one_is_declined_also_if_there_is_nothing_else_to_decide() {
    let mut cluster = four();
    cluster.enrol(0).unwrap();
    cluster.objecting.lock().unwrap().extend([1, 2, 3]);
    let declaration = cluster.signed(drill());
    cluster.declare(0, &declaration).unwrap();
    // Its node has two tries, and in an idle ledger its turn comes every few seconds.
    cluster.pass(15_000);
    assert_eq!(cluster.declined.len(), 1);
    // Nobody objects any more: the same statement may be brought again.
    cluster.objecting.lock().unwrap().clear();
    cluster.declare(0, &declaration).unwrap();
    cluster.pass(6000);
    assert_eq!(places(&cluster, &declaration)[2].len(), 1);
}

#[test]
fn one_whose_node_is_gone_can_be_brought_to_another() {
    let mut cluster = four();
    cluster.enrol(0).unwrap();
    let declaration = cluster.signed(drill());
    // It reaches the others, but its node ends before it could propose it.
    let body = Message::Body(BodyKind::Declaration, declaration.encode().into());
    (1..4).for_each(|to| cluster.queue.push_back((0, to, body.clone())));
    cluster.settle();
    cluster.kill(0);
    cluster.pass(3000);
    assert_eq!(places(&cluster, &declaration)[1].len(), 0, "nobody proposes what others took");
    cluster.declare(2, &declaration).unwrap();
    assert!(cluster.declare(2, &declaration).is_err(), "once is enough");
    cluster.pass(3000);
    assert_eq!(places(&cluster, &declaration)[1].len(), 1);
}

#[test]
fn one_that_is_not_newer_or_that_no_operator_signed_is_refused() {
    let mut cluster = four();
    cluster.enrol(0).unwrap();
    let first = cluster.signed(drill());
    cluster.declare(0, &first).unwrap();
    cluster.pass(2000);
    let mut stale = first.clone();
    stale.certificate = vec![9];
    assert!(cluster.declare(1, &stale).unwrap_err().contains("not newer"));
    let body = |it: &Declaration| Message::Body(BodyKind::Declaration, it.encode().into());
    cluster.queue.push_back((0, 1, body(&stale)));
    cluster.settle();
    cluster.assert_agreed();
    let mut forged = cluster.signed(drill());
    forged.signature = vec![3];
    assert!(cluster.declare(1, &forged).unwrap_err().contains("no operator"));
    cluster.queue.push_back((0, 1, body(&forged)));
    cluster.settle();
    assert_eq!(cluster.faults().len(), 1);
    cluster.pass(2000);
    assert_eq!(places(&cluster, &stale), vec![vec![]; 4]);
    assert_eq!(places(&cluster, &forged), vec![vec![]; 4]);
}

/// A block that whoever proposes it has made by hand: it names what nodes would refuse before they look at the root.
fn by_hand(cluster: &Cluster, declarations: &[Declaration]) -> Block {
    let (state, size) = (cluster.nodes[0].state(), cluster.nodes[0].state().tree.size());
    let bodies: Vec<_> = declarations.iter().map(|it| it.encode().into()).collect();
    let header = BlockHeader {
        height: Height(state.height.0 + 1),
        parent: state.parent,
        time: cluster.time().wall,
        proposer: "n0".parse().unwrap(),
        first: EntryIndex(size.0),
        enrolments: vec![],
        batches: vec![],
        equivocations: vec![],
        declarations: declarations.iter().map(digest_of).collect(),
        size,
        root: Hash([0; 32]),
    };
    let certificate = Certificate { round: 0, signatures: vec![] };
    let (enrolments, batches, equivocations) = (vec![], vec![], vec![]);
    Block { header, certificate, enrolments, batches, equivocations, declarations: bodies }
}

#[test]
fn a_prune_that_must_not_be_is_neither_proposed_nor_executed() {
    let mut cluster = four();
    cluster.old();
    let right = cluster.prune(0, 4);
    let with = |change: &dyn Fn(&mut Prune)| {
        let mut wrong = right.clone();
        change(&mut wrong);
        wrong
    };
    let young = cluster.prune(0, cluster.heights()[0]);
    let end = cluster.base_of(0, 6);
    let wrong = [
        ("365 days", with(&|it| it.days = 364)),
        ("365 days", with(&|it| it.from = EntryIndex(it.size().0))),
        ("younger", with(&|it| it.days = 401)),
        ("younger", young),
        ("meanwhile", with(&|it| it.from.0 += 1)),
        ("newest", with(&|it| it.height = Height(99))),
        ("newest", with(&|it| it.frontier = cluster.blocks[0].last().unwrap().after.clone())),
    ];
    assert!(end.header.size.0 > 256, "the last one's minimum index is beyond the tree");
    for (why, prune) in wrong {
        let declaration = cluster.signed(Matter::Prune(prune));
        let refused = cluster.declare(0, &declaration).unwrap_err();
        assert!(refused.contains(why), "{why}: {refused}");
        let run = replay(
            &params(),
            cluster.nodes[0].state(),
            by_hand(&cluster, &[declaration]),
            &mut Codec::default(),
        );
        let refused = run.unwrap_err();
        assert!(matches!(&refused, ExecuteError::Prune(text) if text.contains(why)), "{refused}");
    }
    // Two in a block, and two of one moment.
    let one = cluster.signed(Matter::Prune(right));
    let mut other = one.clone();
    other.time.0 += 1;
    let run = |block| replay(&params(), cluster.nodes[0].state(), block, &mut Codec::default());
    let twice = run(by_hand(&cluster, &[one.clone(), other.clone()])).unwrap_err();
    assert!(matches!(twice, ExecuteError::Prune(_)), "{twice}");
    let backwards = run(by_hand(&cluster, &[other, one.clone()])).unwrap_err();
    assert_eq!(backwards, ExecuteError::Stale);
    // What is right gets as far as the root, which nobody made by hand.
    assert!(matches!(run(by_hand(&cluster, &[one])).unwrap_err(), ExecuteError::Root(_)));
}

#[test]
fn what_was_given_up_is_not_given_up_again() {
    let mut cluster = four();
    cluster.old();
    let old = cluster.prune(0, 3);
    cluster.give_up(4, &[0, 1, 2, 3]);
    assert_eq!(cluster.nodes[3].state().dropped_height(), Height(4));
    let declaration = cluster.signed(Matter::Prune(old));
    assert!(cluster.declare(1, &declaration).unwrap_err().contains("meanwhile"));
    cluster.assert_agreed();
}

#[test]
fn a_header_has_the_least_version_that_has_room_for_it() {
    let cluster = four();
    let bare = by_hand(&cluster, &[]).header;
    let hashes = |count: u8| (0..count).map(|n| Hash([n; 32])).collect::<Vec<_>>();
    for (version, equivocations, declarations) in [(1, 0, 0), (2, 2, 0), (3, 0, 1), (3, 1, 4)] {
        let (equivocations, declarations) = (hashes(equivocations), hashes(declarations));
        let header = BlockHeader { equivocations, declarations, ..bare.clone() };
        let bytes = header.encode();
        assert_eq!(bytes[0], version);
        assert_eq!(BlockHeader::decode(&bytes), Ok(header));
        for other in (0..=4).filter(|other| *other != version) {
            let mut renamed = bytes.clone();
            renamed[0] = other;
            assert!(BlockHeader::decode(&renamed).is_err(), "{version} as {other}");
        }
    }
    // Room for declarations, and none in it.
    let tail = bare.encode().len() - 40;
    let mut empty = bare.encode();
    empty[0] = 3;
    empty.splice(tail..tail, [0; 4]);
    assert_eq!(BlockHeader::decode(&empty), Err(BlockError::Version(3)));
    let five = BlockHeader { declarations: hashes(5), ..bare };
    assert_eq!(BlockHeader::decode(&five.encode()), Err(BlockError::Limits));
}
