//! The messages between programs, with bytes from nowhere and with examples that were altered.

use logseal_link::{
    frame::{from_bytes, to_bytes},
    message::{
        AgentState, AgentStatus, BatchReceipt, ClusterStatus, FromNode, NodeState, NodeStatus,
        PeerStatus, RecordEvidence, Refusal, RefusalCode, StoreStatus, ToNode, Welcome,
    },
    peer::{Lane, PEER_PROTOCOL, PeerAnswer, PeerHello, PeerRefusal, PeerRefused, PeerWelcome},
};
use proptest::prelude::*;

fn requests() -> Vec<Vec<u8>> {
    let messages = [
        ToNode::Hello { protocol: 1, program: "logseal-agent 0.1.0".into() },
        ToNode::Submit { batch: vec![7; 40] },
        ToNode::Enrol { enrolment: vec![8; 40] },
        ToNode::Record { agent: "gw01".into(), n: 7 },
        ToNode::Status,
        ToNode::Ping,
        ToNode::Cluster,
        ToNode::Store,
        ToNode::Witnesses,
    ];
    messages.iter().map(|message| to_bytes(message).unwrap()).collect()
}

fn answers() -> Vec<Vec<u8>> {
    let agent = AgentState { key: [1; 32], next: 3, root: [2; 32], sealed: 9 };
    let messages = [
        FromNode::Welcome(Welcome {
            protocol: 1,
            node: "node1".into(),
            origin: "l.example/x".into(),
            enterprise: 32_473,
            agent: Some(agent),
        }),
        FromNode::Receipt(BatchReceipt {
            start: 0,
            size: 3,
            sealed: 9,
            first: 2,
            left: vec![[3; 32]],
            right: vec![[4; 32]; 2],
            checkpoint: "l.example/x\n7\n".into(),
        }),
        FromNode::Refused(Refusal {
            code: RefusalCode::NotNext,
            message: "the next record is 3".into(),
            next: Some(3),
        }),
        FromNode::Enrolled { index: 0, already: true },
        FromNode::Store(StoreStatus {
            scrubbed: 1_795_248_147,
            blocks: 12,
            faults: vec![("damaged".into(), 1)],
            first_fault: "a segment".into(),
            mended: vec![("block".into(), 3)],
        }),
        FromNode::Record(Box::new(RecordEvidence {
            entry: vec![5; 30],
            agent_proof: "a".into(),
            ledger_proof: "b".into(),
            agent_vkey: "c".into(),
            enrolment: vec![1],
            enrolment_proof: "d".into(),
        })),
        FromNode::Status(NodeStatus {
            node: "node1".into(),
            version: "0.1.0".into(),
            height: 2,
            size: 7,
            checkpoint: "l.example/x\n7\n".into(),
            agents: vec![AgentStatus {
                name: "gw01".into(),
                records: 3,
                sealed: 9,
                connected: true,
            }],
            disk_free: 1 << 30,
            accepting: true,
        }),
        FromNode::Pong,
        FromNode::Cluster(Box::new(cluster())),
    ];
    messages.iter().map(|message| to_bytes(message).unwrap()).collect()
}

fn greetings() -> Vec<Vec<u8>> {
    let lanes = Lane::ALL.map(|lane| PeerHello {
        protocol: PEER_PROTOCOL,
        origin: "l.example/x".into(),
        membership: [7; 32],
        lane,
        version: "0.1.0".into(),
    });
    lanes.iter().map(|hello| to_bytes(hello).unwrap()).collect()
}

fn peer_answers() -> Vec<Vec<u8>> {
    let refused = PeerRefused { code: PeerRefusal::Membership, message: "another file".into() };
    let answers = [
        PeerAnswer::Welcome(PeerWelcome { version: "0.1.0".into() }),
        PeerAnswer::Refused(refused),
    ];
    answers.iter().map(|answer| to_bytes(answer).unwrap()).collect()
}

fn cluster() -> ClusterStatus {
    ClusterStatus {
        fault_model: "byzantine".into(),
        quorum: 3,
        tolerates: 1,
        proposer: "node2".into(),
        state: NodeState::Syncing { to: 9 },
        signed: 8,
        checkpoint_size: 7,
        checkpoint_time: 8,
        clock: 8_500,
        peers: vec![PeerStatus {
            name: "node2".into(),
            address: "10.0.0.12:7515".into(),
            connected: true,
            version: "0.1.0".into(),
            height: 2,
            size: 7,
            offset_ms: Some(-3),
            rtt_us: Some(250),
            signed: 8,
            slow: false,
            heard: None,
        }],
    }
}

#[test]
fn programs_of_one_protocol_understand_each_other_although_messages_were_added() {
    let number = |bytes: Vec<u8>| u32::from_le_bytes(bytes[..4].try_into().unwrap());
    assert_eq!(number(to_bytes(&ToNode::Ping).unwrap()), 5);
    assert_eq!(number(to_bytes(&ToNode::Cluster).unwrap()), 6);
    assert_eq!(number(to_bytes(&FromNode::Pong).unwrap()), 6);
    assert_eq!(number(to_bytes(&FromNode::Cluster(Box::new(cluster()))).unwrap()), 7);
}

fn altered(examples: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let changed = (prop::sample::select(examples), prop::collection::vec(change, 0..4));
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..200),
        9 => changed.prop_map(|(mut example, changes)| {
            for (at, byte) in changes {
                let at = at.index(example.len());
                example[at] = byte;
            }
            example
        }),
    ]
}

proptest! {
    #[test]
    fn no_bytes_of_a_client_make_a_node_panic(bytes in altered(requests())) {
        if let Ok(message) = from_bytes::<ToNode>(&bytes) {
            prop_assert_eq!(to_bytes(&message).unwrap(), bytes);
        }
    }

    #[test]
    fn no_bytes_of_a_node_make_a_client_panic(bytes in altered(answers())) {
        if let Ok(message) = from_bytes::<FromNode>(&bytes) {
            prop_assert_eq!(to_bytes(&message).unwrap(), bytes);
            if let FromNode::Receipt(receipt) = message {
                let _ = receipt.receipt();
            }
        }
    }

    #[test]
    fn no_bytes_of_a_peer_make_a_node_panic(
        hello in altered(greetings()), answer in altered(peer_answers()),
    ) {
        if let Ok(message) = from_bytes::<PeerHello>(&hello) {
            prop_assert_eq!(to_bytes(&message).unwrap(), hello);
        }
        if let Ok(message) = from_bytes::<PeerAnswer>(&answer) {
            prop_assert_eq!(to_bytes(&message).unwrap(), answer);
        }
    }
}
