use super::*;
use clap::Parser;
use ledger::config::Config;
use record::policy::Policy;
use std::os::unix::fs::MetadataExt;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    cluster: ClusterArgs,
}

fn cluster(dir: &Path, more: &str) -> Result<Outcome, Failure> {
    let dir = dir.display().to_string();
    let args = ["x", "init", "--origin", "ledger.example/access", "--dir", &dir];
    let cli = Cli::try_parse_from(args.into_iter().chain(more.split_whitespace()));
    run(cli.map_err(|error| Failure(error.to_string()))?.cluster)
}

fn mode(path: impl AsRef<Path>) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

fn check(path: &Path) -> Result<ledger::run::Checked, ledger::run::RunError> {
    ledger::run::check(&Config::load(path)?)
}

#[test]
fn every_node_gets_a_folder_that_passes_its_check_where_it_belongs() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, data) = (temp.path().join("new"), temp.path().join("data"));
    let target = dir.join("node3");
    let options = format!(
        "--nodes 4 --address 10.0.0.11 10.0.0.12 10.0.0.13 10.0.0.14 --agent gw01 \
         --config-dir {} --data-dir {}",
        target.display(),
        data.display()
    );
    let outcome = cluster(&dir, &options).unwrap();
    assert!(outcome.text.contains("1 may fail or lie; 3 must agree"), "{}", outcome.text);
    assert_eq!((&outcome.json["quorum"], &outcome.json["tolerates"]), (&json!(3), &json!(1)));
    assert_eq!(outcome.json["nodes"][2]["peers"], "10.0.0.13:7515");
    let checked = check(&target.join("ledger.toml")).unwrap();
    let four = "4 nodes, fault model byzantine: 1 may fail or lie";
    assert_eq!((checked.node.as_str(), checked.cluster.as_deref()), ("node3", Some(four)));
    assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
    let policy = std::fs::read(dir.join("policy")).unwrap();
    assert_eq!(Policy::parse(&policy).unwrap().witnesses().len(), 4);
    for folder in ["node1", "node4", "operator", "auditor", "agent-gw01"] {
        assert_eq!(std::fs::read(dir.join(folder).join("policy")).unwrap(), policy);
    }
    let readme = std::fs::read_to_string(dir.join("README.txt")).unwrap();
    let copy = format!("scp -rp node4/* root@10.0.0.14:{}/", target.display());
    assert!(readme.contains(&copy), "{readme}");
}

#[test]
fn private_keys_are_their_owners_alone() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("new");
    cluster(&dir, "--nodes 1 --agent gw01").unwrap();
    assert_eq!((mode(&dir), mode(dir.join("pki")), mode(dir.join("node1"))), (0o700, 0o700, 0o755));
    assert_eq!((mode(dir.join("node1/keys")), mode(dir.join("node1/tls"))), (0o700, 0o755));
    for key in [
        "node1/keys/log.key",
        "node1/keys/cosigner.key",
        "node1/keys/consensus.key",
        "node1/tls/node.key",
        "operator/tls/operator.key",
        "auditor/tls/auditor.key",
        "agent-gw01/tls/agent.key",
    ] {
        assert_eq!(mode(dir.join(key)), 0o600, "{key}");
    }
    assert_eq!(mode(dir.join("node1/ledger.toml")), 0o644);
}

#[test]
fn what_is_there_is_never_written_over() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("mine"), "").unwrap();
    let said = cluster(temp.path(), "").unwrap_err().to_string();
    assert!(said.contains("holds something already"), "{said}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn a_cluster_that_bears_nothing_says_so_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let three = cluster(&temp.path().join("a"), "--nodes 3").unwrap().text;
    assert!(three.starts_with("WARNING 3 nodes, fault model byzantine: none may fail"), "{three}");
    let crash = cluster(&temp.path().join("b"), "--nodes 3 --fault-model crash").unwrap().text;
    assert!(crash.contains("1 may fail, none may lie; 2 must agree"), "{crash}");
    assert!(crash.starts_with("WARNING") && crash.contains("is not prevented"), "{crash}");
}

#[test]
fn a_plan_that_cannot_be_meant_makes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("new");
    for (options, expected) in [
        ("--nodes 4 --name a b", "--name is given 2 times, for 4 nodes"),
        ("--address 10.0.0.1 10.0.0.1", "two nodes have one address"),
        ("--nodes 65", "65 is not in 1..=64"),
        ("--name pki", "'pki' is no name for a node"),
        ("--name nodes", "'nodes' is no name for a node"),
        ("--name a a", "two nodes are named 'a'"),
        ("--fault-model bft", "is not a fault model"),
    ] {
        let said = cluster(&dir, options).unwrap_err().to_string();
        assert!(said.contains(expected), "{expected} in {said}");
        assert!(!dir.exists(), "{options}");
    }
}

#[test]
fn a_node_starts_only_with_the_keys_and_the_name_that_the_others_know() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("new");
    let node = dir.join("node1");
    let places = format!(" --config-dir {0} --data-dir {0}/data", node.display());
    cluster(&dir, &("--nodes 3 --fault-model crash".to_owned() + &places)).unwrap();
    let path = node.join("ledger.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let broken = |from: &str, to: &str| {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        std::fs::write(&path, text).unwrap();
        check(&path).unwrap_err().to_string()
    };
    let said = broken("name = \"node1\"", "name = \"node9\"");
    assert!(said.contains("cluster.members: ") && said.contains("names node1, node2, node3"));
    let said = broken("node1/keys\"", "node2/keys\"");
    assert!(said.contains("is the key of 'ledger.example/access/node/node2'"), "{said}");
    let said = broken("[cluster]\n", "[cluster]\npeer = 1\n");
    assert!(said.contains("unknown field `peer`"), "{said}");
    let said = broken(
        &format!("[cluster]\nmembers = {}\n", quoted(node.join("members.toml").display())),
        "",
    );
    assert!(said.contains("listen.peers: a ledger of one node has no peers"), "{said}");
    std::fs::write(&path, good.replace("0.0.0.0:7515", "0.0.0.0:7516")).unwrap();
    let warnings = check(&path).unwrap().warnings.join("\n");
    assert!(warnings.contains("listen.peers is 0.0.0.0:7516, but others"), "{warnings}");
    assert!(warnings.contains("is not prevented"), "{warnings}");
    std::fs::write(&path, &good).unwrap();
    std::fs::remove_file(node.join("keys/log.key")).unwrap();
    let said = Config::load(&path).unwrap().make_keys().unwrap_err().to_string();
    assert!(said.contains("restore it from where it was made"), "{said}");
    ledger::keys::Keys::make(
        &node.join("keys"),
        &"ledger.example/access".parse().unwrap(),
        &"node1".parse().unwrap(),
    )
    .unwrap();
    let said = check(&path).unwrap_err().to_string();
    assert!(said.contains("log.key is not the key that"), "{said}");
}

#[test]
fn outside_witnesses_are_in_every_nodes_configuration_and_in_the_auditors_policy() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, key) = (temp.path().join("new"), temp.path().join("w.key"));
    let name = "witness.example/w1".parse().unwrap();
    let kind = record::note::SignatureType::CosignatureV1;
    let vkey = service::keys::create(&key, &name, kind).unwrap().vkey().to_string();
    let options = format!("--nodes 4 --witness http://127.0.0.1:7590 {vkey}");
    let target = format!("{options} --config-dir {}", dir.join("node2").display());
    let outcome = cluster(&dir, &target).unwrap();
    assert!(outcome.text.contains("audit-policy"), "{}", outcome.text);
    let config = Config::load(&dir.join("node2/ledger.toml")).unwrap();
    assert_eq!(config.witnesses.needed, 1);
    let readme = std::fs::read_to_string(dir.join("README.txt")).unwrap();
    assert!(readme.contains("  witness.example/w1  http://127.0.0.1:7590\n"), "{readme}");
    let audit = std::fs::read_to_string(dir.join("audit-policy")).unwrap();
    assert_eq!(config.audit_policy(&config.load_keys().unwrap()).unwrap(), audit);
    assert_eq!(std::fs::read_to_string(dir.join("auditor/audit-policy")).unwrap(), audit);
    assert_eq!(Policy::parse(audit.as_bytes()).unwrap().witnesses().len(), 5);
    let client = std::fs::read_to_string(dir.join("auditor/client.toml")).unwrap();
    assert!(client.contains("policy = \"audit-policy\"") && client.contains(":7580"), "{client}");
    let agents = std::fs::read_to_string(dir.join("policy")).unwrap();
    assert_eq!(Policy::parse(agents.as_bytes()).unwrap().witnesses().len(), 4);
    for bad in [
        "--witness http://w.example K".to_owned(),
        "--witness https://w.example K".to_owned(),
        format!("{options} --witness https://w.example {vkey}"),
    ] {
        assert!(cluster(&temp.path().join("bad"), &bad).is_err(), "{bad}");
    }
}
