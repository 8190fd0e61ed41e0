//! docs/audit.md, carried out: what it tells auditors and witnesses to type works, and prints what
//! it says.

use logseal::site::{LedgerOptions, free_ports};
use logseal_tests::{
    cluster::{Cluster, NODES},
    installed::{Installed, LEDGER},
    page::{Done, adapted, carry_out, commands, text},
    receiver::Receiver,
    wait_for,
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

/// Does what the page leaves to hands, as its comments say, and shows what a unit said without a
/// journal.
const HANDS: &str = r#"
editor() {
    sed -i -e "s|^listen = .*|listen = \"127.0.0.1:WITNESS\"|" \
        -e '0,/^\[\[log\]\]/s||[tls]\ncert = "tls.pem"\nkey = "tls.key"\n\n[[log]]|' "$1"
}
systemctl() {
    if [ "$1" != edit ]; then command systemctl "$@"; return; fi
    start=$(sed -n '/^ExecStart=/,/[^\\]$/p' "/run/units/$2.service")
    printf '[Service]\nExecStart=\n%s --webhook HOOK\n' "$start" > "/run/units/$2.service.d/override.conf"
    command systemctl daemon-reload
}
journalctl() { cat "/var/log/$2.log"; }
"#;

/// Waits until a unit has said this.
fn wait_said(installed: &Installed, unit: &str, words: &str) {
    wait_for(&format!("{unit} to say '{words}'"), || {
        installed.log(unit).contains(words).then_some(())
    });
}

#[test]
fn a_monitor_and_a_witness_are_set_up_as_the_page_says() {
    let hook = Receiver::start(None, &[]);
    let [port] = free_ports().unwrap();
    let hands = HANDS.replace("WITNESS", &port.to_string()).replace("HOOK", &hook.url());
    let installed = Installed::boot(&[("hands", &hands)]);
    let shell = |folder: &str| {
        let mut shell = installed.shell(folder);
        shell.arg("BASH_ENV=/etc/logseal/hands");
        shell
    };
    let root = |heading: &str| commands(PAGE, heading);
    installed.start("logseal-ledger");

    // The monitor, in the folder of the auditor.
    let done = carry_out(&root("## Run a monitor"), &mut shell("/var/ledger/auditor"));
    assert!(done.len() >= 6, "{done:?}");
    wait_said(&installed, "logseal-monitor", "following ledger.city.example/access at 1 nodes");
    assert_eq!(installed.machine.show("logseal-monitor", "ActiveState"), "active");

    // The witness, by somebody who was given the policy, with a certificate of his own authority.
    installed.run("/var", &["install", "-D", "-m", "0644", "ledger/policy", "given/policy"]);
    let heading = "## Run a witness";
    let made = carry_out(&root(heading)[..1], &mut shell("/var/given"));
    let vkey = made[0].output.lines().next().unwrap().to_owned();
    let certificate = "logseal certs init --dir pki --name 'Witness CA' && \
        logseal certs issue --dir pki node w1 --host 127.0.0.1 && \
        for end in pem key; do install -o logseal-witness -m 0600 pki/issued/node-w1.$end \
        /var/lib/logseal-witness/tls.$end; done && \
        install -m 0644 pki/ca.pem /etc/logseal/tls/witness-ca.pem";
    installed.run("/var/given", &["sh", "-c", certificate]);
    let done = carry_out(&root(heading)[1..], &mut shell("/var/given"));
    let shown = &done.last().unwrap().output;
    assert!(shown.starts_with(&vkey) && shown.contains("nothing cosigned yet"), "{shown}");

    // And the ledger, by those who run it.
    let heading = "### Let a ledger ask it";
    let table = text(PAGE, heading, "toml");
    let table = table.replace("witness.example:7590", &format!("127.0.0.1:{port}"));
    let table = table.replace("witness.example/w1+0a1b2c3d+BK…", &vkey);
    let path = installed.machine.path("/etc/logseal/ledger.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{config}\n{table}")).unwrap();
    installed.machine.systemctl(&["restart", "logseal-ledger"]);
    installed.enrol("gw01");
    wait_said(&installed, "logseal-monitor", "2 entries hold");
    let first = carry_out(&root(heading)[..1], &mut shell(LEDGER));
    assert_eq!(first[0].output, "", "it went into a file");
    wait_for("the witness to have cosigned", || {
        let status = ["logseal", "status", "--config", "operator/client.toml"];
        installed.run(LEDGER, &status).contains("  cosigned ").then_some(())
    });
    carry_out(&root(heading)[1..], &mut shell(LEDGER));

    // The monitor is given the audit policy, and goes on where it was.
    let give = ["install", "-m", "0644", "audit-policy", "/etc/logseal/policy"];
    installed.run(LEDGER, &give);
    installed.machine.systemctl(&["restart", "logseal-monitor"]);
    wait_said(&installed, "logseal-monitor", "at 1 nodes, from entry 2 on");
    installed.machine.systemctl(&["stop", "logseal-ledger"]);
    let log = installed.log("logseal-monitor");
    assert!(!log.contains("ALARM") && hook.taken().is_empty(), "{log}");
    for unit in ["logseal-monitor", "logseal-witness"] {
        installed.machine.systemctl(&["stop", unit]);
        assert_eq!(installed.machine.show(unit, "Result"), "success");
    }
}
