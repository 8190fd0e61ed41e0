//! Giving up old entries: what goes, what stays, and who notices when it was not decided.

use crate::export::logseal;
use logseal::site::{LedgerOptions, Site};
use logseal_tests::{LIMIT, generate::Generator, new_site, wait_for};
use serde_json::Value;
use service::members::FaultModel;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

pub const DAY: Duration = Duration::from_secs(86_400);
/// Of what is older than a year.
const OLD: u64 = 20_000;
pub const RETENTION: &str = "[retention]\ndays = 365\n";
const SEGMENT_BYTES: u64 = 64 << 10;

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn options(extra: &str) -> LedgerOptions {
    LedgerOptions { extra: extra.to_owned(), ..LedgerOptions::default() }
}

/// Fills the stores of a site's nodes: some of it is two years old, some ten months, some of now.
fn fill(site: &Site) {
    let mut generator = Generator::aged(site, 100, Some(SEGMENT_BYTES), 730 * DAY);
    generator.add(OLD);
    generator.pass(430 * DAY);
    generator.add(5_000);
    generator.pass(299 * DAY);
    generator.add(1_000);
    generator.let_go();
}

fn store(site: &Site, node: usize) -> PathBuf {
    match site.node_count() {
        1 => site.path("store"),
        _ => site.node_dir(node).join("store"),
    }
}

/// The first block of the first segment.
pub fn first_block(store: &Path) -> u64 {
    let names = fs::read_dir(store.join("blocks")).unwrap().map(|entry| entry.unwrap().file_name());
    let numbers = names.filter_map(|name| name.to_str()?.strip_suffix(".seg")?.parse::<u64>().ok());
    numbers.min().unwrap() + 1
}

pub fn prune(site: &Site, more: &[&str]) -> (i32, Value) {
    let config = site.path("operator.toml");
    let own = ["prune", "--config", shown(&config), "--older-than", "365"];
    logseal(site, &[&own[..], more].concat())
}

pub fn verify(site: &Site, node: usize) -> (i32, Value) {
    let (store, policy) = (store(site, node), site.path("policy"));
    logseal(site, &["verify", "--store", shown(&store), "--deep", "--policy", shown(&policy)])
}

/// What a node answers over HTTPS: the status and the body.
pub fn get(site: &Site, node: usize, path: &str) -> (u16, Vec<u8>) {
    let url = format!("https://{}{path}", site.https_address(node));
    let output = Command::new("curl")
        .args(["-s", "-w", "%{stderr}%{http_code}", "--cacert"])
        .arg(site.path("pki/ca.pem"))
        .arg("--cert")
        .arg(site.cert("auditor", "auditor"))
        .arg("--key")
        .arg(site.key("auditor", "auditor"))
        .arg(&url)
        .output()
        .unwrap();
    (String::from_utf8_lossy(&output.stderr).parse().unwrap_or_default(), output.stdout)
}

/// The size of the checkpoint that a node serves; 0 if it serves none.
fn size(site: &Site, node: usize) -> u64 {
    let (_, body) = get(site, node, "/checkpoint");
    let text = String::from_utf8_lossy(&body);
    text.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or_default()
}

fn proof(site: &Site, n: u64) -> (i32, Value) {
    let (config, out) = (site.path("auditor.toml"), site.path(format!("proof-{n}")));
    let n = n.to_string();
    let args = ["proof", "--config", shown(&config), "--agent", "generated", "--n", &n];
    logseal(site, &[&args[..], &["--output", shown(&out)]].concat())
}

#[test]
fn old_entries_go_and_everything_else_still_holds() {
    let (_dir, site) = new_site();
    site.configure_ledger(&options(RETENTION)).unwrap();
    fill(&site);
    let mut node = site.start_ledger().unwrap();
    let store = store(&site, 0);
    let (code, before) = verify(&site, 0);
    assert_eq!(code, 0, "{before}");

    let (code, plan) = prune(&site, &[]);
    assert_eq!(code, 0, "{plan}");
    assert!(plan["declared"] == false && plan["from"] == 0, "{plan}");
    let dropped = plan["to"].as_u64().unwrap();
    assert!((OLD..OLD + 2_000).contains(&dropped), "old ones, with their seals and blocks: {plan}");
    assert_eq!(first_block(&store), 1, "nothing was done");

    let (code, done) = prune(&site, &["--yes"]);
    assert_eq!(code, 0, "{done}");
    assert!(done["declared"] == true && done["to"] == dropped, "{done}");
    wait_for("deleted segments", || (first_block(&store) > 1).then_some(()));
    let minimum = done["minimum_index"].as_u64().unwrap();
    eprintln!("{dropped} entries given up, blocks from {} on are left", first_block(&store));

    for start in 0..3 {
        assert_eq!(get(&site, 0, "/minimum-index"), (200, format!("{minimum}\n").into_bytes()));
        assert_eq!(get(&site, 0, "/tile/entries/000").0, 404);
        assert_eq!(get(&site, 0, "/tile/0/000").0, 200, "hashes stay");
        assert_eq!(get(&site, 0, &format!("/tile/entries/{:03}", minimum / 256)).0, 200);
        let (code, gone) = proof(&site, 17);
        assert_eq!(code, 2);
        assert!(gone["error"].as_str().unwrap().contains("given up"), "{gone}");
        let (code, kept) = proof(&site, OLD + 1234);
        assert_eq!(code, 0, "{kept}");
        fs::remove_dir_all(site.path(format!("proof-{}", OLD + 1234))).unwrap();
        let (code, whole) = verify(&site, 0);
        assert_eq!(code, 0, "{whole}");
        node.stop(LIMIT).unwrap();
        if start == 0 {
            // What is derived is made again, from the base on.
            fs::remove_dir_all(store.join("index")).unwrap();
        }
        node = site.start_ledger().unwrap();
    }
    let (code, nothing) = prune(&site, &["--yes"]);
    assert_eq!(code, 2);
    assert!(nothing["error"].as_str().unwrap().contains("nothing can be given up"), "{nothing}");
    node.stop(LIMIT).unwrap();

    // Without the declaration that gives them up, the same store is one that was tampered with.
    let naked = site.path("naked");
    fs::rename(&store, &naked).unwrap();
    fs::remove_file(naked.join("base")).unwrap();
    let (policy, args) = (site.path("policy"), ["verify", "--store", shown(&naked)]);
    let (code, told) = logseal(&site, &[&args[..], &["--policy", shown(&policy)]].concat());
    assert_eq!(code, 1);
    assert!(told["faults"].to_string().contains("missing"), "{told}");
}

#[test]
fn nothing_goes_before_its_time() {
    let (_dir, site) = new_site();
    site.configure_ledger(&options("")).unwrap();
    let mut generator = Generator::aged(&site, 100, Some(SEGMENT_BYTES), 364 * DAY);
    generator.add(3_000);
    generator.pass(363 * DAY);
    generator.add(1_000);
    generator.let_go();
    let mut node = site.start_ledger().unwrap();
    let (code, refused) = prune(&site, &["--yes"]);
    assert_eq!(code, 2);
    assert!(refused["error"].as_str().unwrap().contains("[retention]"), "{refused}");
    node.stop(LIMIT).unwrap();

    let refused = site.configure_ledger(&options("[retention]\ndays = 364\n")).unwrap_err();
    assert!(refused.to_string().contains("365 days at least"), "{refused}");

    site.configure_ledger(&options(RETENTION)).unwrap();
    let mut node = site.start_ledger().unwrap();
    let (code, refused) = prune(&site, &["--yes"]);
    assert_eq!(code, 2);
    assert!(refused["error"].as_str().unwrap().contains("no block is older"), "{refused}");
    node.stop(LIMIT).unwrap();
    assert_eq!(first_block(&site.path("store")), 1);
}

#[test]
fn a_cluster_agrees_and_a_lost_node_begins_behind_what_was_given_up() {
    let _turn = logseal_tests::cluster::turn();
    let dir = tempfile::tempdir().unwrap();
    let site = Site::make_with(dir.path(), 4, FaultModel::Byzantine).unwrap();
    site.configure_nodes(&options(RETENTION)).unwrap();
    fill(&site);
    // The last node keeps everything, whatever the others agree on.
    let config = site.node_dir(3).join("ledger.toml");
    let text = fs::read_to_string(&config).unwrap().replace("days = 365", "days = 3650");
    fs::write(&config, text).unwrap();
    let mut nodes = site.start_nodes().unwrap();
    let (code, done) = prune(&site, &["--yes"]);
    assert_eq!(code, 0, "{done}");
    for node in 0..3 {
        wait_for("deleted segments", || (first_block(&store(&site, node)) > 1).then_some(()));
    }
    assert_eq!(first_block(&store(&site, 3)), 1, "it keeps entries for longer");
    assert_eq!(get(&site, 3, "/tile/entries/000").0, 200);
    assert_eq!(get(&site, 0, "/tile/entries/000").0, 404);

    // A node that lost everything, with nobody there who has the old blocks.
    nodes[3].stop(LIMIT).unwrap();
    nodes[2].kill().unwrap();
    fs::remove_dir_all(store(&site, 2)).unwrap();
    nodes[2] = site.spawn_node(2, &["--rejoin"]).unwrap();
    nodes[2].wait_ready(LIMIT).unwrap();
    wait_for("the base", || store(&site, 2).join("base").exists().then_some(()));
    let whole = size(&site, 0);
    wait_for("all blocks", || (size(&site, 2) >= whole).then_some(()));
    wait_for("a flush", || store(&site, 2).join("checkpoint").exists().then_some(()));
    let (code, told) = verify(&site, 2);
    assert_eq!(code, 0, "{told}\n{}", nodes[2].log_tail());
    assert_eq!(get(&site, 2, "/tile/0/000"), get(&site, 0, "/tile/0/000"));
    // It votes again, and so the three decide.
    nodes[3] = site.start_node(3).unwrap();
    for node in &mut nodes {
        node.stop(LIMIT).unwrap();
    }
}
