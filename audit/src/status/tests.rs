use super::*;
use link::message::{
    AgentStatus, ClusterStatus, NodeState, NodeStatus, PeerStatus, RetentionStatus, StoreStatus,
    WitnessStatus, WitnessesStatus,
};
use record::{Checkpoint, Hash, Origin, TreeSize};
use std::slice::from_ref;

const NOW_MS: u64 = 1_800_000_000_000;
const NOW: u64 = NOW_MS / 1000;

fn name(number: usize) -> String {
    format!("node{number}")
}

fn peer(number: usize) -> PeerStatus {
    PeerStatus {
        name: name(number),
        address: format!("10.0.0.{number}:7515"),
        connected: true,
        version: "0.1.0".into(),
        height: 12,
        size: 40,
        offset_ms: Some(0),
        rtt_us: Some(300),
        signed: NOW - 1,
        slow: false,
        heard: Some(5),
    }
}

fn answer(number: usize, nodes: usize) -> Answer {
    let (origin, root): (Origin, _) = ("l.example/x".parse().unwrap(), Hash([7; 32]));
    let checkpoint = Checkpoint { origin, size: TreeSize(40), root, extensions: vec![] };
    let quorum = 2 * nodes / 3 + 1;
    Answer {
        name: name(number),
        origin: "l.example/x".into(),
        status: NodeStatus {
            node: name(number),
            version: "0.1.0".into(),
            height: 12,
            size: 40,
            checkpoint: format!("l.example/x\n40\nroot of {number}\n"),
            agents: vec![AgentStatus {
                name: "gw01".into(),
                records: 30,
                sealed: NOW - 2,
                connected: number == 1,
            }],
            disk_free: 10 << 30,
            accepting: true,
        },
        cluster: Some(ClusterStatus {
            fault_model: "byzantine".into(),
            quorum: quorum as u16,
            tolerates: (nodes - quorum) as u16,
            proposer: "node2".into(),
            state: NodeState::Voting,
            signed: NOW - 1,
            checkpoint_size: 40,
            checkpoint_time: NOW - 1,
            clock: NOW_MS,
            peers: (1..=nodes).filter(|other| *other != number).map(peer).collect(),
        }),
        witnesses: WitnessesStatus::default(),
        store: StoreStatus::default(),
        retention: RetentionStatus::default(),
        offset_ms: Some(0),
        checkpoint: Some(checkpoint),
        trusted: Some(Ok(vec![NOW - 1; quorum])),
    }
}

fn asked(nodes: usize) -> Vec<Asked> {
    let one = |number| Asked {
        address: format!("10.0.0.{number}:7514"),
        answer: Ok(answer(number, nodes)),
    };
    (1..=nodes).map(one).collect()
}

fn down(asked: &mut Asked) {
    asked.answer = Err(format!("{}: connection refused", asked.address));
}

fn edit(asked: &mut Asked, change: impl FnOnce(&mut Answer)) {
    change(asked.answer.as_mut().unwrap());
}

fn outcome(asked: &[Asked]) -> Outcome {
    show::outcome(&Overview::new(asked, NOW_MS, 120))
}

/// The last line, and the exit code.
fn verdict(asked: &[Asked]) -> (String, u8) {
    let outcome = outcome(asked);
    (outcome.text.lines().last().unwrap().to_owned(), outcome.code)
}

#[test]
fn four_nodes_that_vote_are_healthy() {
    let outcome = outcome(&asked(4));
    let expected = "\
ledger l.example/x: 4 nodes, fault model byzantine: 1 may fail or lie; 3 must agree
NODE   STATE   HEIGHT  ENTRIES  LAG  PEERS     CLOCK       FREE  COSIGNED  VERSION
node1  voting      12       40    0    3/3  +0.000 s  10240 MiB   1 s ago  0.1.0
node2  voting      12       40    0    3/3  +0.000 s  10240 MiB   1 s ago  0.1.0    proposes next
node3  voting      12       40    0    3/3  +0.000 s  10240 MiB   1 s ago  0.1.0
node4  voting      12       40    0    3/3  +0.000 s  10240 MiB   1 s ago  0.1.0
agent gw01  30 records, last seal 2027-01-15T07:59:58Z, connected
healthy: 4 of 4 nodes, quorum 3
";
    assert_eq!(outcome.text, expected);
    assert_eq!((outcome.code, &outcome.json["verdict"]), (0, &"healthy".into()));
    assert_eq!(outcome.json["nodes"][1]["name"], "node2");
    assert_eq!(outcome.json["tolerates"], 1);
}

#[test]
fn a_node_that_is_down_degrades_and_two_stop_a_ledger_of_four() {
    let mut four = asked(4);
    down(&mut four[2]);
    for index in [0, 1, 3] {
        let gone = |peer: &&mut PeerStatus| peer.name == "node3";
        edit(&mut four[index], |a| {
            a.cluster.as_mut().unwrap().peers.iter_mut().find(gone).unwrap().connected = false;
        });
    }
    let said = outcome(&four).text;
    assert!(said.contains("alarm  10.0.0.3:7514: connection refused\n"), "{said}");
    assert!(said.contains("node3  no answer; NOT connected to node1"), "{said}");
    let degraded = "degraded: 3 of 4 nodes, quorum 3; see the alarms".to_owned();
    assert_eq!(verdict(&four), (degraded, 0));
    edit(&mut four[0], |a| a.cluster.as_mut().unwrap().state = NodeState::Syncing { to: 99 });
    let none = "no quorum: 2 of 4 nodes, quorum 3; nothing new is committed".to_owned();
    assert_eq!(verdict(&four), (none, 1));
    assert!(outcome(&four).text.contains("alarm  node1: does not vote: syncing to 99\n"));
}

#[test]
fn two_roots_at_one_size_are_shouted_and_shown() {
    let mut four = asked(4);
    edit(&mut four[3], |a| a.checkpoint.as_mut().unwrap().root = Hash([8; 32]));
    let said = outcome(&four);
    assert_eq!((said.code, &said.json["verdict"]), (1, &"broken".into()));
    assert!(said.text.contains("FORK: node1 and node4 have two histories"), "{}", said.text);
    assert!(said.text.contains("  root of 1\n") && said.text.contains("  root of 4\n"));
    edit(&mut four[3], |a| a.checkpoint.as_mut().unwrap().size = TreeSize(41));
    assert_eq!(verdict(&four).1, 0, "another size says nothing");
}

#[test]
fn a_checkpoint_that_the_policy_refuses_is_broken_and_one_with_too_few_is_not() {
    let mut four = asked(4);
    let refuse = |asked: &mut Asked, too_few| {
        edit(asked, |a| a.trusted = Some(Err(Distrust { problem: "why".into(), too_few })));
    };
    refuse(&mut four[1], true);
    assert_eq!(verdict(&four).1, 0);
    assert!(outcome(&four).text.contains("alarm  node2: why\n"));
    (0..4).for_each(|index| refuse(&mut four[index], true));
    assert!(verdict(&four).0.starts_with("no quorum"));
    refuse(&mut four[1], false);
    assert!(outcome(&four).text.contains("node2: CHECKPOINT BROKEN: why\n"));
    assert_eq!(verdict(&four).1, 1);
}

#[test]
fn clocks_are_compared_with_each_other_and_not_with_ours_alone() {
    let mut four = asked(4);
    (0..4).for_each(|i| edit(&mut four[i], |a| a.offset_ms = Some(60_000)));
    edit(&mut four[2], |a| a.offset_ms = Some(57_500));
    let said = outcome(&four).text;
    assert!(said.contains("node3: its clock is 2.5 s behind the nodes'"), "{said}");
    assert!(said.contains("this machine's clock is 60.0 s behind the nodes'"), "{said}");
    assert!(!said.contains("node1: its clock"), "{said}");
}

#[test]
fn old_checkpoints_full_disks_and_lost_connections_are_alarmed_on() {
    let mut four = asked(4);
    edit(&mut four[0], |a| a.trusted = Some(Ok(vec![NOW, NOW, NOW - 121])));
    edit(&mut four[1], |a| a.status.disk_free = 300 << 20);
    edit(&mut four[2], |a| a.status.accepting = false);
    edit(&mut four[3], |a| {
        let peers = &mut a.cluster.as_mut().unwrap().peers;
        peers[0].connected = false;
        peers[1].slow = true;
    });
    let said = outcome(&four).text;
    for alarm in [
        "node1: its checkpoint is 121 s old",
        "node2: only 300 MiB are free",
        "node3: REFUSES batches",
        "node4: is not connected to node1",
        "node4: does not wait for the proposals of node2",
    ] {
        assert!(said.contains(&format!("alarm  {alarm}")), "{alarm} in {said}");
    }
    assert_eq!(verdict(&four).1, 0);
    (0..4).for_each(|i| edit(&mut four[i], |a| a.status.accepting = false));
    assert_eq!(verdict(&four).1, 1);
}

#[test]
fn a_fault_model_is_said_as_it_is() {
    let said = outcome(&asked(3)).text;
    assert!(said.contains("3 nodes, fault model byzantine: none may fail; 3 must agree"), "{said}");
}

#[test]
fn nodes_that_were_not_asked_are_shown_as_others_see_them() {
    let four = asked(4);
    let said = outcome(from_ref(&four[0])).text;
    assert!(said.contains("node4  not asked; connected to node1"), "{said}");
    assert_eq!(verdict(from_ref(&four[0])).0, "healthy: 4 of 4 nodes, quorum 3");
}

#[test]
fn several_addresses_on_one_host_without_an_answer_are_not_counted_twice() {
    let mut four = asked(4);
    for asked in &mut four {
        asked.address = asked.address.replace("10.0.0.", "127.0.0.1:7");
        if let Ok(answer) = &mut asked.answer {
            let peers = &mut answer.cluster.as_mut().unwrap().peers;
            peers.iter_mut().for_each(|peer| peer.address = "127.0.0.1:7515".into());
        }
    }
    down(&mut four[1]);
    down(&mut four[3]);
    assert_eq!(Overview::new(&four, NOW_MS, 120).rows.len(), 4);
}

#[test]
fn strangers_among_the_nodes_are_named() {
    let mut four = asked(4);
    edit(&mut four[1], |a| a.origin = "other.example/x".into());
    edit(&mut four[2], |a| a.cluster = None);
    let said = outcome(&four).text;
    assert!(said.contains("node2: is a node of another ledger, other.example/x"), "{said}");
    assert!(said.contains("node3: is a ledger of one"), "{said}");
    let mut none = asked(2);
    none.iter_mut().for_each(down);
    let said = outcome(&none);
    assert!(said.text.starts_with("no node answered\n"), "{}", said.text);
    assert_eq!(said.code, 1);
}

#[test]
fn what_outside_witnesses_say_is_shown_and_a_rollback_is_shouted() {
    let witness = |size, problem: &str, contradicts| WitnessStatus {
        name: "witness.example/w1".into(),
        size,
        time: NOW - 3,
        problem: problem.into(),
        contradicts,
    };
    let mut four = asked(4);
    for asked in &mut four {
        edit(asked, |a| a.witnesses.witnesses = vec![witness(40, "", false)]);
    }
    let said = outcome(&four);
    let line = "witness witness.example/w1  cosigned 40 entries, 2027-01-15T07:59:57Z\n";
    assert!(said.text.contains(line) && said.code == 0, "{}", said.text);
    assert_eq!(said.json["witnesses"][0]["size"], 40);
    edit(&mut four[1], |a| a.witnesses.witnesses = vec![witness(39, "no answer", false)]);
    let said = outcome(&four);
    let alarm = "alarm  node2: outside witness witness.example/w1: no answer\n";
    assert!(said.text.contains(alarm), "{}", said.text);
    assert_eq!((said.code, &said.json["verdict"]), (0, &"degraded".into()));
    edit(&mut four[2], |a| a.witnesses.witnesses = vec![witness(30, "it has seen 40", true)]);
    let said = outcome(&four);
    let shout = "node3: ROLLBACK OR FORK: outside witness witness.example/w1: it has seen 40\n";
    assert!(said.text.contains(shout) && said.code == 1, "{}", said.text);
    assert!(said.text.contains("CONTRADICTS"), "{}", said.text);
}

#[test]
fn what_was_found_in_a_store_and_mended_is_shown() {
    let mut four = asked(4);
    let whole = StoreStatus {
        scrubbed: NOW - 60,
        blocks: 12,
        mended: vec![("block".into(), 14), ("tree".into(), 2)],
        ..StoreStatus::default()
    };
    edit(&mut four[2], |a| a.store = whole.clone());
    let said = outcome(&four);
    let line = "store node3  whole, looked at 2027-01-15T07:59:00Z; mended since the start: 14 block, 2 tree\n";
    assert!(said.text.contains(line) && !said.text.contains("store node1"), "{}", said.text);
    assert_eq!((said.code, &said.json["verdict"]), (0, &"healthy".into()));
    assert_eq!(said.json["stores"]["node3"]["mended"]["block"], 14);
    let faults = vec![("damaged".into(), 1)];
    let damaged = StoreStatus { faults, first_fault: "x.seg: entry 7".into(), ..whole };
    edit(&mut four[2], |a| a.store = damaged);
    let said = outcome(&four);
    let alarm = "alarm  node3: its store is damaged (1 damaged): x.seg: entry 7\n";
    assert!(said.text.contains(alarm), "{}", said.text);
    assert_eq!((said.code, &said.json["verdict"]), (0, &"degraded".into()));
}
