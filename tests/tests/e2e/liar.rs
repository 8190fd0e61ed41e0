//! A node that lies, among three that do not.

use logseal::{
    demo::Meter,
    site::{Home, LedgerOptions, Site},
    status::Verdict,
};
use logseal_tests::{
    cluster::{Cluster, NODES, tell, turn},
    wait_for,
};
use record::{
    entry::{Entry, Kind},
    equivocation::Equivocation,
};
use std::{path::Path, time::Instant};

/// The node that lies, and those that do not.
const LIAR: usize = 3;
const HONEST: [usize; 3] = [0, 1, 2];
/// How often the agent is started, each time believing in the liar first.
const STARTS: usize = 12;
/// Lines that are written each time.
const LINES: usize = 2_000;
/// What honest nodes count of it.
const LIES: [&str; 4] = [
    "peer_violations_total{peer=\"node4\"}",
    "node_faults_total{node=\"node4\",kind=\"message\"}",
    "refused_total{reason=\"membership\"}",
    "equivocations_total{",
];
/// What an honest node may say about it all, in bytes a second.
const TALK: u64 = 8 << 10;

#[test]
fn a_node_that_lies_to_everybody_harms_nobody_and_leaves_evidence() {
    let liar = Path::new(env!("CARGO_BIN_EXE_byzantine-node"));
    let start = |site: &Site, index| match index {
        LIAR => site.spawn_node_of(liar, index, &[]).unwrap(),
        _ => site.spawn_node(index, &[]).unwrap(),
    };
    let homes = vec![Home::default(); NODES];
    let mut cluster = Cluster::start_at(turn(), homes, &LedgerOptions::default(), start);
    let begun = Instant::now();
    prefer_liar(&cluster.site);
    for lies in 1..=STARTS {
        cluster.agent.kill().unwrap();
        cluster.agent = cluster.site.start_agent("gw01").unwrap();
        cluster.log.write(LINES);
        wait_for("a forged receipt that is kept", || {
            (evidence(&cluster.site) >= lies).then_some(())
        });
        cluster.wait_settled(&HONEST);
    }
    cluster.assert_complete(&HONEST);
    assert!(cluster.nodes.iter_mut().all(|node| node.is_running()), "{}", cluster.describe());
    assert_blamed(&cluster, begun);
    // Who is convicted is remembered: the lies go on, and one proof is enough.
    cluster.kill(HONEST[0]);
    cluster.restart(HONEST[0]);
    cluster.wait_back(HONEST[0]);
    cluster.log.write(LINES);
    cluster.wait_settled(&HONEST);
    let proofs = cluster.entries_of(HONEST[0], Kind::Equivocation);
    let [proof] = proofs.as_slice() else { panic!("{} proofs of one thing", proofs.len()) };
    let proof = Equivocation::from_entry(&Entry::parse(proof).unwrap()).unwrap();
    assert_eq!(proof.culprit, cluster.site.node_name(LIAR));
    proof.verify().unwrap();
    let now = cluster.overview();
    assert_eq!(now.verdict, Verdict::Degraded, "{:?} {}", now.alarms, cluster.describe());
    tell(&format!(
        "a lying node: {} lines delivered in {:.1?} by way of the others, {} forged receipts kept",
        cluster.log.count(),
        begun.elapsed(),
        evidence(&cluster.site),
    ));
}

/// Makes the liar the first node that the agent tries.
fn prefer_liar(site: &Site) {
    let file = site.path("gw01.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let first = format!("nodes = [\"{}\", ", site.agents_address(LIAR));
    let rest = text.replace(&format!(", \"{}\"]", site.agents_address(LIAR)), "]");
    let reordered = rest.replace("nodes = [", &first);
    assert_ne!(reordered, text);
    std::fs::write(file, reordered).unwrap();
}

/// How many receipts that are no proof the agent kept.
fn evidence(site: &Site) -> usize {
    std::fs::read_dir(site.path("evidence")).map_or(0, Iterator::count)
}

/// Every honest node says and counts who is at fault, and says it in bounds; none panicked.
fn assert_blamed(cluster: &Cluster, begun: Instant) {
    for index in HONEST {
        let log = cluster.nodes[index].log_text();
        assert!(!log.contains("panicked"), "{log}");
        let blames = |line: &&str| line.contains("ERROR") && line.contains("node4");
        assert!(log.lines().any(|line| blames(&line)), "node {index} names it: {log}");
        for other in HONEST {
            let innocent = cluster.site.node_name(other);
            let wronged = log.lines().find(|line| {
                line.contains("ERROR")
                    && line.contains(innocent.as_str())
                    && !line.contains("node4")
            });
            assert!(wronged.is_none(), "{wronged:?}");
        }
        assert!(log.len() as u64 <= TALK * (begun.elapsed().as_secs() + 10), "{} bytes", log.len());
        let meter = Meter::new(cluster.site.node_ports(index).metrics);
        let counts = |metrics: &str, name: &str| metrics.lines().any(|line| line.contains(name));
        wait_for("every kind of lie to be counted", || {
            let metrics = meter.text().unwrap();
            LIES.iter().all(|name| counts(&metrics, name)).then_some(())
        });
    }
}
