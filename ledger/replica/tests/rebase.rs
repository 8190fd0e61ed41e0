//! A node that lacks what all others gave up begins again with what they keep of it, whoever lies to it meanwhile.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

extern crate logseal_replica as replica;

#[path = "support/cluster.rs"]
mod cluster;

use bytes::Bytes;
use cluster::{Came, Cluster, DAY, Twist};
use logseal_replica::{Base, BlankStart, Block, Message, NodeIndex, Standing};
use record::{FaultModel, Hash, batch::BatchBuilder};

/// Four nodes, of which three gave up the blocks up to 4, and the last one has lost its disk.
fn pruned() -> (Cluster, BatchBuilder) {
    let mut cluster = Cluster::new(4, FaultModel::Byzantine);
    let builder = cluster.old();
    cluster.kill(3);
    cluster.give_up(4, &[0, 1, 2]);
    cluster.events.clear();
    (cluster, builder)
}

fn rebased(cluster: &Cluster) -> Vec<u64> {
    let height = |(node, came): &(u8, Came)| match came {
        Came::Rebase(base) if *node == 3 => Some(base.header.height.0),
        _ => None,
    };
    cluster.came.iter().filter_map(height).collect()
}

/// It has what the others have, and votes.
fn assert_well(cluster: &mut Cluster, builder: &mut BatchBuilder) {
    assert_eq!(cluster.standing(3), Standing::Voting);
    let (ours, theirs) = (cluster.state(3), cluster.state(0));
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    assert_eq!(cluster.leaves[3], cluster.leaves[0]);
    cluster.kill(0);
    let before = cluster.heights()[3];
    cluster.submit(3, builder, &["more"]).0.unwrap();
    cluster.pass(3000);
    assert!(cluster.heights()[3] > before, "three of four go on only with it");
}

#[test]
fn a_node_without_a_disk_begins_again_with_the_base_and_goes_on() {
    let (mut cluster, mut builder) = pruned();
    cluster.restart(3, BlankStart::Rejoin);
    cluster.pass(6000);
    assert_eq!(rebased(&cluster), [4]);
    assert_eq!(cluster.faults(), []);
    assert_well(&mut cluster, &mut builder);
}

#[test]
fn a_node_that_is_far_behind_does_too_and_what_waits_in_it_is_looked_at_again() {
    let mut cluster = Cluster::new(4, FaultModel::Byzantine);
    cluster.enrol(0).unwrap();
    let mut builder = cluster::builder();
    cluster.fill(&mut builder, 60);
    cluster.kill(3);
    // What it took before it was cut off was decided without it.
    let (pending, _) = cluster.pending(3, &mut builder, &["waits"]);
    let (now, again) = (cluster.time(), pending.clone());
    cluster.nodes[3].handle_batch(now, pending).unwrap().unwrap();
    cluster.hand(0, again).unwrap();
    (0..2).for_each(|_| cluster.fill(&mut builder, 60));
    cluster.aged += 400 * DAY;
    (0..3).for_each(|_| cluster.fill(&mut builder, 60));
    cluster.give_up(4, &[0, 1, 2]);
    let now = cluster.time();
    cluster.dead.remove(&3);
    for other in 0..3 {
        cluster.nodes[3].handle_up(now, NodeIndex(other));
        cluster.nodes[usize::from(other)].handle_up(now, NodeIndex(3));
    }
    cluster.pass(4000);
    assert_eq!(rebased(&cluster), [4]);
    assert_eq!(
        cluster.nodes[3].waiting(&cluster::agent(), record::merkle::EntryIndex(60)).count(),
        0
    );
    assert_well(&mut cluster, &mut builder);
}

/// Lets time pass until node 3 has begun again, at most so long.
fn wait_for_rebase(cluster: &mut Cluster, ms: u64) {
    for _ in 0..ms / 250 {
        if rebased(cluster).is_empty() || cluster.standing(3) != Standing::Voting {
            cluster.pass(250);
        }
    }
    cluster.pass(250);
}

/// What node 1 makes of its messages to node 3. The others have no time for that before it has answered.
fn lies(mut lie: impl FnMut(Message) -> Vec<Message> + 'static) -> Option<Twist> {
    let mut answered = false;
    Some(Box::new(move |from, to, message| {
        let part = matches!(message, Message::BasePart { .. });
        match (from, to) {
            (1, 3) => {
                answered |= part;
                lie(message)
            }
            (_, 3) if part && !answered => vec![],
            _ => vec![message],
        }
    }))
}

fn flipped(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

/// Begins again although node 1 lies; answers of whom node 3 complained.
fn begins_despite(what: &str, twist: Option<Twist>) -> Vec<(u8, u8, String)> {
    let (mut cluster, mut builder) = pruned();
    cluster.twist = twist;
    cluster.restart(3, BlankStart::Rejoin);
    wait_for_rebase(&mut cluster, 25_000);
    assert_eq!(rebased(&cluster), [4], "{what}");
    let faults = cluster.faults();
    assert!(faults.iter().all(|(node, peer, _)| (*node, *peer) == (3, 1)), "{what}: {faults:?}");
    cluster.twist = None;
    cluster.pass(3000);
    assert_well(&mut cluster, &mut builder);
    faults
}

#[test]
fn whoever_lies_about_the_base_is_found_and_the_others_help() {
    type Lie = fn(u64, u64, Bytes) -> Vec<(u64, u64, Bytes)>;
    let lies_told: [(&str, bool, Lie); 8] = [
        ("a flipped bit", true, |total, offset, part| vec![(total, offset, flipped(&part, 9))]),
        ("little at a time", true, |total, offset, part| vec![(total, offset, part.slice(..1))]),
        ("nothing", true, |total, offset, _| vec![(total, offset, Bytes::new())]),
        ("far too long", true, |_, offset, part| vec![(u64::MAX, offset, part)]),
        ("longer than it says", true, |total, offset, part| vec![(total - 1, offset, part)]),
        ("of no length", true, |_, offset, part| vec![(0, offset, part)]),
        ("another place", false, |total, offset, part| vec![(total, offset + 7, part)]),
        ("silence", false, |_, _, _| vec![]),
    ];
    for (what, blamed, lie) in lies_told {
        let faults = begins_despite(
            what,
            lies(move |message| match message {
                Message::BasePart { total, offset, part } => lie(total, offset, part)
                    .into_iter()
                    .map(|(total, offset, part)| Message::BasePart { total, offset, part })
                    .collect(),
                other => vec![other],
            }),
        );
        assert_eq!(!faults.is_empty(), blamed, "{what}: {faults:?}");
    }
}

#[test]
fn whoever_lies_about_leaf_hashes_is_found_and_the_others_help() {
    type Lie = fn(Bytes) -> Option<Bytes>;
    let told: [(&str, Lie); 5] = [
        ("a flipped bit", |hashes| Some(flipped(&hashes, 40))),
        ("too few", |hashes| Some(hashes.slice(..64))),
        ("half a hash", |hashes| Some(hashes.slice(..hashes.len() - 16))),
        ("none", |_| Some(Bytes::new())),
        ("silence", |_| None),
    ];
    for (what, lie) in told {
        begins_despite(
            what,
            lies(move |message| match message {
                Message::Leaves { chunk, hashes } => lie(hashes)
                    .map(|hashes| Message::Leaves { chunk, hashes })
                    .into_iter()
                    .collect(),
                other => vec![other],
            }),
        );
    }
}

#[test]
fn a_block_that_gave_nothing_up_or_was_not_decided_starts_nothing() {
    let (mut cluster, _) = pruned();
    cluster.restart(3, BlankStart::Genesis);
    let genuine = Block::decode(&cluster.gone[0].clone().unwrap().by).unwrap();
    let mut uncertified = genuine.clone();
    uncertified.certificate.signatures.truncate(2);
    let nothing = cluster.blocks[0].iter().find(|it| it.pruned.is_none()).unwrap().block.clone();
    let encoded = |block: &Block| Bytes::from(block.encode_parts().concat());
    let lies = [encoded(&uncertified), encoded(&nothing), encoded(&genuine).slice(..99)];
    cluster.events.clear();
    for lie in lies {
        let now = cluster.time();
        let told = Message::Pruned(lie);
        cluster.nodes[3].handle_message(now, NodeIndex(1), told).unwrap();
        let fetches = |queue: &Cluster| {
            queue
                .queue
                .iter()
                .any(|(from, _, it)| *from == 3 && matches!(it, Message::FetchBase(..)))
        };
        assert!(!fetches(&cluster));
    }
    cluster.settle();
    let of_one = cluster.faults().iter().filter(|(node, peer, _)| (*node, *peer) == (3, 1)).count();
    assert_eq!(of_one, 3);
}

/// The base comes in several parts: large certificates make it so long.
#[test]
fn parts_of_several_nodes_are_put_together_and_nobody_is_blamed_for_anothers() {
    for (lie, rebases) in [(false, 1), (true, 1)] {
        let mut cluster = Cluster::new(4, FaultModel::Byzantine);
        let mut builder = cluster.many_agents(560);
        cluster.kill(3);
        cluster.give_up(4, &[0, 1, 2]);
        assert!(cluster.gone[0].clone().unwrap().encoded.len() > 4 << 20);
        cluster.events.clear();
        let mut first = true;
        // Whoever is asked first sends one part, right or wrong, and then nothing more.
        cluster.twist = Some(Box::new(move |from, to, message| match message {
            Message::BasePart { total, offset: 0, part } if to == 3 && from == 1 => {
                let part = if lie { flipped(&part, 1000) } else { part };
                vec![Message::BasePart { total, offset: 0, part }]
            }
            Message::BasePart { .. } if to == 3 && from == 1 => vec![],
            // The others have no time in the beginning.
            Message::BasePart { .. } if to == 3 && std::mem::take(&mut first) => vec![],
            other => vec![other],
        }));
        cluster.restart(3, BlankStart::Rejoin);
        wait_for_rebase(&mut cluster, 30_000);
        assert_eq!(rebased(&cluster).len(), rebases, "{lie}");
        let faults = cluster.faults();
        assert!(faults.iter().all(|(_, peer, _)| *peer == 1), "{lie}: {faults:?}");
        cluster.twist = None;
        cluster.fill(&mut builder, 1);
        assert_eq!(cluster.state(3).parent, cluster.state(0).parent);
    }
}

#[test]
fn the_others_give_up_more_while_a_node_fetches() {
    // Between the declaration that it is told of and the base; and between the base and its leaf hashes.
    for wait_for_base in [false, true] {
        let (mut cluster, mut builder) = pruned();
        cluster.twist = Some(Box::new(move |_, to, message| match &message {
            Message::BasePart { .. } if to == 3 && !wait_for_base => vec![],
            Message::Leaves { .. } if to == 3 => vec![],
            _ => vec![message],
        }));
        cluster.restart(3, BlankStart::Rejoin);
        cluster.pass(1000);
        assert_eq!(rebased(&cluster), []);
        cluster.aged += 400 * DAY;
        (0..5).for_each(|_| cluster.fill(&mut builder, 60));
        cluster.give_up(7, &[0, 1, 2]);
        cluster.twist = None;
        cluster.pass(20_000);
        let expected = if wait_for_base { vec![4] } else { vec![7] };
        let began = rebased(&cluster);
        assert!(began == expected || began == [4, 7] || began == [7], "{began:?}");
        assert_eq!(cluster.faults(), [], "who gave up more is not accused");
        assert_well(&mut cluster, &mut builder);
    }
}

#[test]
fn an_earlier_declaration_said_again_stops_nothing() {
    let (mut cluster, mut builder) = pruned();
    let old = cluster.gone[1].clone().unwrap().by;
    cluster.aged += 400 * DAY;
    (0..5).for_each(|_| cluster.fill(&mut builder, 60));
    cluster.give_up(7, &[0, 1, 2]);
    // Before each thing that it says.
    cluster.twist = lies(move |message| vec![Message::Pruned(old.clone()), message]);
    cluster.restart(3, BlankStart::Rejoin);
    cluster.pass(12_000);
    cluster.twist = None;
    cluster.pass(3000);
    assert_eq!(rebased(&cluster).last(), Some(&7), "{:?}", rebased(&cluster));
    assert_well(&mut cluster, &mut builder);
}

/// One of the others kept everything. Who is told by somebody that blocks are gone, and then gets no base of him, must
/// get them there.
#[test]
fn a_base_that_does_not_come_does_not_keep_a_node_from_blocks() {
    let mut cluster = Cluster::new(4, FaultModel::Byzantine);
    let mut builder = cluster.old();
    cluster.kill(3);
    cluster.give_up(4, &[1]);
    let by = cluster.gone[1].clone().unwrap().by;
    cluster.twist = Some(Box::new(move |from, to, message| match (from, to, &message) {
        (1, 3, Message::BasePart { .. }) => vec![],
        (1, 3, _) => vec![message, Message::Pruned(by.clone())],
        _ => vec![message],
    }));
    cluster.restart(3, BlankStart::Rejoin);
    cluster.pass(30_000);
    cluster.twist = None;
    cluster.pass(3000);
    assert_eq!(rebased(&cluster), []);
    assert_well(&mut cluster, &mut builder);
}

/// Blocks that come late lead beyond the base that is being fetched: the ledger must not go back to it.
#[test]
fn a_ledger_never_goes_back_to_a_base() {
    let mut cluster = Cluster::new(4, FaultModel::Byzantine);
    let mut builder = cluster.old();
    let blocks: Vec<Bytes> =
        cluster.blocks[0].iter().map(|it| it.block.encode_parts().concat().into()).collect();
    cluster.kill(3);
    cluster.give_up(4, &[0, 1, 2]);
    cluster.twist = Some(Box::new(move |_, to, message| match &message {
        Message::Leaves { .. } if to == 3 => vec![],
        _ => vec![message],
    }));
    cluster.restart(3, BlankStart::Rejoin);
    cluster.pass(1000);
    for block in blocks {
        cluster.queue.push_back((0, 3, Message::Block(block)));
        cluster.settle();
    }
    assert!(cluster.heights()[3] >= 5);
    cluster.twist = None;
    cluster.pass(10_000);
    assert_eq!(rebased(&cluster), []);
    assert_well(&mut cluster, &mut builder);
}

#[test]
fn a_base_and_leaf_hashes_that_a_disk_lost_come_back_as_they_were() {
    let (mut cluster, _) = pruned();
    let kept = cluster.gone[2].clone().unwrap();
    let digest = Base::digest_of(&kept.encoded);
    cluster.nodes[2].want_base(Hash([9; 32]));
    cluster.pass(3000);
    assert_eq!(cluster.came, [], "nobody has that");
    cluster.nodes[2].want_base(digest);
    cluster.pass(6000);
    let base = (2, Came::Base(kept.base.clone(), kept.encoded.clone(), false));
    assert_eq!(cluster.came, [base]);
    cluster.came.clear();
    cluster.nodes[2].want_chunks(&kept.base, [0, 1, 99]);
    cluster.pass(6000);
    let size = kept.base.header.size.0 as usize;
    assert_eq!(cluster.came, [(2, Came::Leaves(0, cluster.leaves[2][..size].to_vec()))]);
    assert_eq!(cluster.faults(), []);
}
