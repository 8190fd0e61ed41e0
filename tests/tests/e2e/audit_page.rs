//! docs/audit.md, carried out: what it tells auditors and witnesses to type works, and prints what
//! it says.

use logseal::site::LedgerOptions;
use logseal_tests::{
    cluster::{Cluster, NODES},
    page::{Done, adapted, carry_out, commands},
};
use std::{fs, process::Command};

const PAGE: &str = "audit.md";
const ALL: [usize; NODES] = [0, 1, 2, 3];

/// A folder with what the page takes an auditor called bob to have.
fn folder_of_bob(cluster: &mut Cluster) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let site = &mut cluster.site;
    site.issue("auditor", "bob").unwrap();
    for (from, to) in [
        (site.path("pki/ca.pem"), "ca.pem"),
        (site.cert("auditor", "bob"), "auditor-bob.pem"),
        (site.key("auditor", "bob"), "auditor-bob.key"),
        (site.path("policy"), "policy"),
        (site.path("auditor.toml"), "client.toml"),
    ] {
        fs::copy(from, dir.path().join(to)).unwrap();
    }
    dir
}

fn output_of<'a>(done: &'a [Done], words: &str) -> &'a str {
    let found = done.iter().find(|done| done.shown.text.contains(words));
    let found = found.unwrap_or_else(|| panic!("'{words}' is not on the page"));
    found.output.split_whitespace().next().unwrap_or_default()
}

#[test]
fn standard_tools_check_a_checkpoint_its_cosignatures_and_an_entry_as_the_page_says() {
    let mut cluster = Cluster::start(&LedgerOptions::default());
    cluster.log.write(20);
    cluster.wait_receipted(20);
    let checkpoint = cluster.wait_settled(&ALL);
    let dir = folder_of_bob(&mut cluster);
    let (site, size) = (&cluster.site, checkpoint.size);
    assert!(size.0 < 256, "{size} entries are one bundle");
    let node = format!("https://{}", site.https_address(0));
    let width = format!("/000.p/{size}");
    let here = [
        ("https://node1.log.example:7580", node.as_str()),
        ("ledger.city.example/access", checkpoint.origin.as_str()),
        ("/000.p/7", &width),
    ];
    let commands = adapted(commands(PAGE, "## With standard tools"), &here);
    assert!(commands.iter().all(|shown| !shown.root), "an auditor is nobody's root");
    let programs = site.programs.path("logseal").parent().unwrap().to_owned();
    let path = std::env::join_paths(
        std::iter::once(programs).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut shell = Command::new("env");
    shell.arg("TZ=UTC").current_dir(dir.path()).env("PATH", path.unwrap());
    let done = carry_out(&commands, &mut shell);
    // The page leaves it to its reader to compare these two.
    let hash = output_of(&done, "sha256sum");
    assert_eq!(hash.len(), 64);
    assert_eq!(output_of(&done, "head -c 32 tile"), hash);
    assert_eq!(fs::read_to_string(dir.path().join("text")).unwrap(), checkpoint.text());
}
