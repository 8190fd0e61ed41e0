//! Several nodes: what is made for them fits, on one machine and for several.

use logseal::site::{AgentOptions, LedgerOptions, Site};
use logseal_tests::kong_source;
use service::members::FaultModel;
use std::{path::Path, process::Command};

/// Runs a program of the site to its end; what it printed, if it ended well.
fn run(site: &Site, program: &str, args: &[&str], config: &Path) -> String {
    let mut command = Command::new(site.programs.path(program));
    let output = command.args(args).arg("--config").arg(config).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn every_node_of_a_site_and_its_agent_are_configured_to_fit_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::make_with(dir.path(), 4, FaultModel::Byzantine).unwrap();
    site.configure_nodes(&LedgerOptions::default()).unwrap();
    let policy = std::fs::read_to_string(site.path("policy")).unwrap();
    for index in 0..4 {
        let config = site.node_dir(index).join("ledger.toml");
        let said = run(&site, "logseal-ledger", &["check"], &config);
        assert!(said.contains("cluster: 4 nodes, fault model byzantine: 1 may"), "{said}");
        assert!(!said.contains("warning"), "{said}");
        assert_eq!(run(&site, "logseal-ledger", &["policy"], &config), policy);
    }
    assert_eq!(site.members().unwrap().policy(), policy);
    site.configure_agent(&AgentOptions::new("gw01", kong_source(&site))).unwrap();
    run(&site, "logseal-agent", &["key"], &site.path("gw01.toml"));
    run(&site, "logseal-agent", &["check"], &site.path("gw01.toml"));
    let again = std::fs::read_to_string(site.path("members.toml")).unwrap();
    site.configure_nodes(&LedgerOptions { renew_s: 1, ..LedgerOptions::default() }).unwrap();
    assert_eq!(std::fs::read_to_string(site.path("members.toml")).unwrap(), again, "same keys");
}

#[test]
fn what_administrators_exchange_makes_the_members_file_that_their_nodes_accept() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::make(dir.path()).unwrap();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let config = site.path("ledger.toml");
    let table = run(&site, "logseal-ledger", &["keys", "--member"], &config);
    let members = format!("fault_model = \"crash\"\n{}", table.replace("HOST:", "node1.example:"));
    std::fs::write(site.path("members.toml"), members).unwrap();
    let before = run(&site, "logseal-ledger", &["policy"], &config);
    let text = std::fs::read_to_string(&config).unwrap();
    let cluster = format!("[cluster]\nmembers = {:?}\n[listen]\n", site.path("members.toml"));
    std::fs::write(&config, text.replace("[listen]\n", &cluster)).unwrap();
    let said = run(&site, "logseal-ledger", &["check"], &config);
    assert!(said.contains("cluster: 1 node, fault model crash: none may fail"), "{said}");
    assert_eq!(run(&site, "logseal-ledger", &["policy"], &config), before);
}

#[test]
fn a_node_that_is_down_is_passed_over_and_a_ledger_of_one_is_shown_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::make(dir.path()).unwrap();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let _node = site.start_ledger().unwrap();
    let said = run(&site, "logseal", &["status"], &site.path("auditor.toml"));
    assert!(said.starts_with("node node1  version "), "{said}");
    assert!(said.contains("takes batches") && said.contains("checkpoint holds"), "{said}");
    let [nobody] = logseal::site::free_ports().unwrap();
    let operator = site.path("operator.toml");
    let text = std::fs::read_to_string(&operator).unwrap();
    let two = text.replace("nodes = [", &format!("nodes = [\"127.0.0.1:{nobody}\", "));
    std::fs::write(&operator, two).unwrap();
    site.configure_agent(&AgentOptions::new("gw01", kong_source(&site))).unwrap();
    site.enrol("gw01").unwrap();
}
