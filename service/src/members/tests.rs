use super::*;
use record::{crypto::SEED_LEN, note::NoteSigner, policy::Policy};
use zeroize::Zeroizing;

fn origin() -> Origin {
    "ledger.example/access".parse().unwrap()
}

fn vkey(seed: u8, name: &KeyName, kind: SignatureType) -> VerifierKey {
    NoteSigner::new(name.clone(), kind, &Zeroizing::new([seed; SEED_LEN])).vkey().clone()
}

fn member(number: u8) -> Member {
    let name: NodeName = format!("node{number}").parse().unwrap();
    let (origin, first) = (origin(), number * 3);
    Member {
        peers: format!("10.0.0.{number}:7515"),
        agents: format!("10.0.0.{number}:7514"),
        https: format!("10.0.0.{number}:7580"),
        consensus: vkey(first, &consensus_key_name(&origin, &name), SignatureType::Ed25519),
        log: vkey(first + 1, origin.key_name(), SignatureType::Ed25519),
        cosigner: vkey(first + 2, &origin.node(&name), SignatureType::CosignatureV1),
        name,
    }
}

fn members(count: u8) -> Members {
    let nodes = (1..=count).rev().map(member).collect();
    Members::new(FaultModel::Byzantine, nodes, &origin()).unwrap()
}

fn load(text: &str) -> Result<Members, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("members.toml");
    std::fs::write(&path, text).unwrap();
    Members::load(&path, &origin())
}

#[test]
fn a_quorum_is_the_smallest_that_the_fault_model_allows() {
    for n in 1..=MAX_NODES {
        let (byzantine, crash) = (FaultModel::Byzantine.quorum(n), FaultModel::Crash.quorum(n));
        assert!(3 * byzantine > 2 * n && 3 * (byzantine - 1) <= 2 * n, "{n}");
        assert!(2 * crash > n && 2 * (crash - 1) <= n, "{n}");
        assert_eq!(FaultModel::Byzantine.tolerates(n), (n - 1) / 3);
        assert_eq!(FaultModel::Crash.tolerates(n), (n - 1) / 2);
    }
}

#[test]
fn what_the_nodes_bear_is_said_as_it_is() {
    let said = |model: FaultModel, n| model.explain(n);
    assert_eq!(said(FaultModel::Byzantine, 1), "1 node, fault model byzantine: none may fail");
    assert_eq!(said(FaultModel::Byzantine, 3), "3 nodes, fault model byzantine: none may fail");
    assert_eq!(said(FaultModel::Byzantine, 4), "4 nodes, fault model byzantine: 1 may fail or lie");
    let crash = "3 nodes, fault model crash: 1 may fail, none may lie";
    assert_eq!(said(FaultModel::Crash, 3), crash);
    let warned = |model: FaultModel, n| model.warnings(n).join("\n");
    assert!(warned(FaultModel::Byzantine, 3).contains("tolerates no failure"));
    assert!(warned(FaultModel::Crash, 3).contains("is not prevented"));
    assert_eq!(warned(FaultModel::Byzantine, 4) + &warned(FaultModel::Byzantine, 1), "");
}

#[test]
fn the_file_survives_and_its_policy_asks_for_the_quorum() {
    let four = members(4);
    assert_eq!(load(&four.to_toml()).unwrap(), four);
    assert_eq!(four.nodes()[0].name.as_str(), "node1");
    let text = four.policy();
    let policy = Policy::parse(text.as_bytes()).unwrap();
    assert_eq!((policy.logs().len(), policy.witnesses().len()), (4, 4));
    assert!(text.contains("group nodes 3 node1 node2 node3 node4\n"), "{text}");
    let one = members(1).policy();
    assert!(one.ends_with("quorum node1\n") && !one.contains("group"), "{one}");
}

#[test]
fn a_mistake_is_named_with_its_line() {
    let text = members(2).to_toml();
    let (one, two) = (member(1), member(2));
    for (from, to, expected) in [
        ("\"byzantine\"", "\"bft\"", "members.toml:4: fault_model: 'bft' is not a fault model"),
        ("\"node2\"", "\"node1\"", ":20: node[1].consensus: is the key of"),
        ("\"node2\"", "\"Node 2\"", ":16: node[1].name: 'Node 2' is not a name"),
        ("10.0.0.2:7515", "10.0.0.1:7515", "node[1].peers: '10.0.0.1:7515' is used twice"),
        ("10.0.0.2:7580", "10.0.0.2:7514", "node[1].https: '10.0.0.2:7514' is used twice"),
        ("10.0.0.2:7515", "https://x/", "node[1].peers: 'https://x/' is not HOST:PORT"),
        ("10.0.0.2:7515", "::1:7515", "node[1].peers: '::1:7515' is not HOST:PORT"),
        ("peers =", "peer =", "unknown field `peer`"),
        (&two.log.to_string(), &one.log.to_string(), ":21: node[1].log: is used twice"),
        (&two.log.to_string(), &two.cosigner.to_string(), "node[1].log: is the key of"),
    ] {
        let wrong = text.replacen(from, to, 1);
        assert_ne!(wrong, text, "{from}");
        let said = load(&wrong).unwrap_err().to_string();
        assert!(said.contains(expected), "{expected} in {said}");
    }
}

#[test]
fn lists_that_no_ledger_can_have_are_refused() {
    let said = load("fault_model = \"crash\"\n").unwrap_err().to_string();
    assert!(said.contains("node: 0 nodes: a ledger has 1 to 64"), "{said}");
    let mut taken = member(1);
    taken.name = "nodes".parse().unwrap();
    let said = Members::new(FaultModel::Crash, vec![taken], &origin()).unwrap_err().to_string();
    assert!(said.contains("means something else in a policy"), "{said}");
    let mut mixed = member(1);
    mixed.log = vkey(9, origin().key_name(), SignatureType::CosignatureV1);
    let said = Members::new(FaultModel::Crash, vec![mixed], &origin()).unwrap_err().to_string();
    assert!(said.contains("key of another kind"), "{said}");
    let foreign = Members::new(FaultModel::Crash, vec![member(1)], &"b.example".parse().unwrap());
    assert!(foreign.unwrap_err().to_string().contains("is the key of 'ledger.example/access"));
}
