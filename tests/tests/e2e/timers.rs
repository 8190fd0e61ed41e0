//! The units of those who look at a ledger and keep copies of it, as they are shipped, under a real
//! systemd: what is started ends well, and what a timer is for happens when it is due.

use logseal_tests::{installed::Installed, wait_for};
use std::fs;

/// A backup and a drill are due when their timers are started: the last ones were long ago.
const DUE: &str = "
mkdir -p /var/lib/systemd/timers
for timer in backup drill; do
    touch -d '30 days ago' /var/lib/systemd/timers/stamp-logseal-$timer.timer
    mkdir /run/units/logseal-$timer.timer.d
    printf '[Timer]\\nRandomizedDelaySec=0\\n' > /run/units/logseal-$timer.timer.d/now.conf
done
";

/// Starts a unit that does its work and ends.
fn run_once(installed: &Installed, unit: &str) {
    let (worked, said) = installed.machine.try_systemctl(&["start", unit]);
    let log = installed.log(unit.trim_end_matches(".service"));
    assert!(worked, "{unit}: {said}\n{log}");
    assert_ended_well(installed, unit);
}

fn assert_ended_well(installed: &Installed, unit: &str) {
    let end = ["ActiveState", "Result", "ExecMainStatus"];
    let end = end.map(|property| installed.machine.show(unit, property));
    let log = installed.log(unit.trim_end_matches(".service"));
    assert_eq!(end, ["inactive", "success", "0"], "{unit}: {log}");
}

/// The snapshots of the repository that the unit writes to.
fn snapshots(installed: &Installed) -> usize {
    let list = ["logseal", "backup", "list", "/var/lib/logseal-backup/repository"];
    let said = installed.run("/", &list);
    said.lines().filter(|line| line.contains("entries") || line.contains("block")).count()
}

#[test]
fn backups_are_taken_and_drilled_when_they_are_due() {
    let installed = Installed::boot(&[]);
    installed.start("logseal-ledger");
    installed.enrol("gw01");
    let checkpoint = installed.machine.path("/var/lib/logseal-ledger/store/checkpoint");
    wait_for("the node's first checkpoint", || checkpoint.exists().then_some(()));
    run_once(&installed, "logseal-backup.service");
    assert_eq!(snapshots(&installed), 1, "{}", installed.log("logseal-backup"));
    run_once(&installed, "logseal-drill.service");
    let drilled = installed.log("logseal-drill");
    assert!(drilled.contains("HOLDS   the drill succeeded"), "{drilled}");

    // By their timers, which make up for what fell into a time when the machine was off.
    installed.enrol("gw02");
    installed.run("/", &["sh", "-c", DUE]);
    installed.machine.systemctl(&["daemon-reload"]);
    installed.start("logseal-backup.timer");
    wait_for("a second snapshot", || (snapshots(&installed) == 2).then_some(()));
    installed.machine.wait("logseal-backup.service", "ActiveState", "inactive");
    assert_ended_well(&installed, "logseal-backup.service");
    let before = installed.log("logseal-drill").len();
    installed.start("logseal-drill.timer");
    wait_for("a second drill", || (installed.log("logseal-drill").len() > before).then_some(()));
    installed.machine.wait("logseal-drill.service", "ActiveState", "inactive");
    assert_ended_well(&installed, "logseal-drill.service");
    for timer in ["logseal-backup.timer", "logseal-drill.timer"] {
        assert_eq!(installed.machine.show(timer, "ActiveState"), "active");
        assert_ne!(installed.machine.show(timer, "NextElapseUSecRealtime"), "", "{timer}");
    }
    // The node was not disturbed, and nothing of it was copied that must not be.
    assert_eq!(installed.machine.show("logseal-ledger", "NRestarts"), "0");
    let keys = ["grep", "-rl", "PRIVATE+KEY", "/var/lib/logseal-backup"];
    let found = installed.shell("/").args(keys).output().unwrap();
    assert_eq!(found.status.code(), Some(1), "{}", String::from_utf8_lossy(&found.stdout));
}

/// docs' example of a forwarder, with this machine's node.
const FORWARD: &str = include_str!("../../../audit/forward.toml");

#[test]
fn the_shipped_forwarder_hands_entries_on_and_is_started_again_when_it_is_killed() {
    let config = FORWARD.replace("#entries = \"records\"", "entries = \"all\"");
    let installed = Installed::boot(&[("forward.toml", &config)]);
    let node = format!("s/node1.log.example:7580/127.0.0.1:{}/", installed.ports.https);
    installed.run("/etc/logseal", &["sed", "-i", &node, "forward.toml"]);
    let certificate = "logseal certs issue --dir pki auditor siem && \
        install -m 0644 pki/issued/auditor-siem.pem /etc/logseal/tls/ && \
        install -o logseal-forward -m 0600 pki/issued/auditor-siem.key /etc/logseal/tls/";
    installed.run("/var/ledger", &["sh", "-c", certificate]);
    installed.run("/", &["logseal", "forward", "--check", "--config", "/etc/logseal/forward.toml"]);
    installed.start("logseal-ledger");
    installed.enrol("gw01");
    installed.start("logseal-forward");
    let out = installed.machine.path("/var/log/logseal-forward/ledger.log");
    let lines = || fs::read_to_string(&out).map_or(0, |text| text.lines().count());
    wait_for("the enrolment and its block", || (lines() == 2).then_some(()));

    let pid = installed.machine.show("logseal-forward", "MainPID");
    installed.machine.systemctl(&["kill", "--signal", "KILL", "logseal-forward"]);
    installed.machine.wait("logseal-forward", "NRestarts", "1");
    installed.machine.wait("logseal-forward", "ActiveState", "active");
    assert_ne!(installed.machine.show("logseal-forward", "MainPID"), pid);
    installed.enrol("gw02");
    wait_for("the second enrolment and its block", || (lines() == 4).then_some(()));
    // Rotated, as docs/operate.md has it.
    let old = installed.machine.path("/var/log/logseal-forward/ledger.log.1");
    fs::rename(&out, &old).unwrap();
    installed.machine.systemctl(&["reload", "logseal-forward"]);
    installed.enrol("gw03");
    wait_for("the third in the new file", || (lines() == 2).then_some(()));
    installed.machine.systemctl(&["stop", "logseal-forward"]);
    assert_ended_well(&installed, "logseal-forward");
}
