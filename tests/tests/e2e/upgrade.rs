//! Another version of the program, node by node, while records come in.

use logseal::site::LedgerOptions;
use logseal_tests::{
    LIMIT,
    cluster::{Cluster, NODES, tell},
};
use std::{fs::File, io::Write};

#[test]
fn a_rolling_upgrade_stops_nobody_and_loses_nothing() {
    let mut cluster = Cluster::start(&LedgerOptions::default());
    // What stands behind an ELF file is not part of the program: another file, the same node.
    let other = cluster.site.path("logseal-ledger-next");
    std::fs::copy(cluster.site.programs.path("logseal-ledger"), &other).unwrap();
    let mut file = File::options().append(true).open(&other).unwrap();
    file.write_all(b"the next version").unwrap();
    drop(file);
    let load = cluster.load();
    for index in 0..NODES {
        cluster.wait_receipted(cluster.receipted() + 1000);
        let status = cluster.nodes[index].stop(LIMIT).unwrap();
        assert!(status.success(), "{status}: {}", cluster.nodes[index].log_tail());
        cluster.nodes[index] = cluster.site.spawn_node_of(&other, index, &[]).unwrap();
        cluster.wait_back(index);
    }
    let stall = load.end(&mut cluster);
    cluster.assert_complete(&[0, 1, 2, 3]);
    cluster.assert_calm();
    for node in &cluster.nodes {
        let running = std::fs::read_link(format!("/proc/{}/exe", node.pid())).unwrap();
        assert_eq!(running, other.canonicalize().unwrap());
    }
    tell(&format!(
        "rolling upgrade under load: {} records, longest stall of receipts {stall:.1?}; 0 lost, 0 twice",
        cluster.log.count()
    ));
}
