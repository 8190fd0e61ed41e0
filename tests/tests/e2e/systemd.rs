//! The agent's unit, as it is shipped, under a real systemd.

use logseal::site::{AgentOptions, LedgerOptions, Site, free_ports};
use logseal_tests::{new_site, records, systemd::Machine, wait_for};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::UdpSocket,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

const UNIT: &str = "logseal-agent.service";

/// Only this is not as shipped: nobody waits half a minute for the watchdog, and there is no
/// journal.
const DROP_IN: &str =
    "[Service]\nWatchdogSec=5s\nStandardError=append:/var/log/logseal-agent.log\n";

/// As an administrator installs it, by the shipped files. The configuration is a pipe: whoever
/// starts waits until it is written.
const INSTALL: &str = "
systemd-sysusers $PWD/logseal.sysusers
systemd-tmpfiles --create $PWD/logseal.tmpfiles
mkdir /run/units/logseal-agent.service.d
cp logseal-agent.service /run/units
cp test.conf /run/units/logseal-agent.service.d
cp -r policy pki /etc/logseal
cp gw01-seal.key /var/lib/logseal-agent/seal.key
chown logseal-agent: /var/lib/logseal-agent/seal.key /etc/logseal/pki/issued/agent-gw01.key
mkfifo -m 644 /etc/logseal/agent.toml
";

/// Copies what the agent gets, and nobody else's keys.
fn install(site: &Site, dir: &Path) -> String {
    let systemd = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    for name in [UNIT, "logseal.sysusers", "logseal.tmpfiles"] {
        fs::copy(systemd.join(name), dir.join(name)).unwrap();
    }
    fs::create_dir_all(dir.join("pki/issued")).unwrap();
    for name in [
        "policy",
        "gw01-seal.key",
        "pki/ca.pem",
        "pki/crl.pem",
        "pki/issued/agent-gw01.pem",
        "pki/issued/agent-gw01.key",
    ] {
        fs::copy(site.path(name), dir.join(name)).unwrap();
    }
    fs::copy(site.programs.path("logseal-agent"), dir.join("bin/logseal-agent")).unwrap();
    fs::write(dir.join("test.conf"), DROP_IN).unwrap();
    INSTALL.to_owned()
}

fn udp_source(name: &str, port: u16) -> String {
    format!("[[source.udp]]\nname = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\n")
}

/// The agent's configuration, with the paths of a machine on which it is installed.
fn configuration(site: &Site, sources: &str) -> String {
    site.configure_agent(&AgentOptions::new("gw01", sources)).unwrap();
    let text = fs::read_to_string(site.path("gw01.toml")).unwrap();
    let own = site.path("gw01-").display().to_string();
    let text = text.replace(&own, "/var/lib/logseal-agent/");
    text.replace(&site.dir.display().to_string(), "/etc/logseal")
}

/// Sends something to a source until the ledger has it.
fn expect_taken(site: &Site, port: u16, text: &str) {
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    wait_for(text, || {
        sender.send_to(format!("<13>{text}").as_bytes(), ("127.0.0.1", port)).unwrap();
        records(site).1.iter().any(|record| record.line.ends_with(text.as_bytes())).then_some(())
    });
}

#[test]
fn the_shipped_unit_says_when_it_is_ready_reloads_and_is_started_again_when_it_hangs() {
    let (_dir, site) = new_site();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let [first, second] = free_ports().unwrap();
    let one = configuration(&site, &udp_source("first", first));
    let _ledger = site.start_ledger().unwrap();
    site.enrol("gw01").unwrap();
    let machine = Machine::boot(|dir| install(&site, dir));
    let file = machine.path("/etc/logseal/agent.toml");

    machine.systemctl(&["start", "--no-block", UNIT]);
    let mut open = OpenOptions::new();
    open.write(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let mut pipe = wait_for("the agent to read its configuration", || open.open(&file).ok());
    assert_eq!(machine.show(UNIT, "ActiveState"), "activating", "it is not ready, so not active");
    pipe.write_all(one.as_bytes()).unwrap();
    drop(pipe);
    machine.wait(UNIT, "ActiveState", "active");
    expect_taken(&site, first, "by the shipped unit");

    let pid = machine.show(UNIT, "MainPID");
    let both = configuration(&site, &(udp_source("first", first) + &udp_source("second", second)));
    fs::write(machine.path("/etc/logseal/new.toml"), both).unwrap();
    fs::rename(machine.path("/etc/logseal/new.toml"), &file).unwrap();
    machine.systemctl(&["reload", UNIT]);
    expect_taken(&site, second, "by a source that a reload brought");
    assert_eq!(
        (machine.show(UNIT, "MainPID"), machine.show(UNIT, "NRestarts")),
        (pid.clone(), "0".into())
    );

    machine.systemctl(&["kill", "--signal", "STOP", UNIT]);
    machine.wait(UNIT, "NRestarts", "1");
    machine.wait(UNIT, "ActiveState", "active");
    assert_ne!(machine.show(UNIT, "MainPID"), pid, "it hung: another one has its place");
    expect_taken(&site, first, "by the one that came after it");

    machine.systemctl(&["stop", UNIT]);
    let end = ["ActiveState", "Result", "ExecMainStatus"].map(|name| machine.show(UNIT, name));
    assert_eq!(end, ["inactive", "success", "0"]);
}
