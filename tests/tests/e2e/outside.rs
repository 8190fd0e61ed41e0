//! A ledger that is looked at from outside: its history cannot be taken back unnoticed.

use logseal::{
    demo::Meter,
    site::{AgentOptions, Home, LedgerOptions, Site},
};
use logseal_tests::{
    Running,
    cluster::{Cluster, Dice, NODES, tell, turn},
    kong_source,
    lying_site::{Lie, LyingSite},
    new_site,
    outside::{Monitor, Witness, monitor_once, raw_checkpoint, said, write_audit_policy},
    wait_for,
};
use std::{
    cell::RefCell,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

const ALL: [usize; 4] = [0, 1, 2, 3];
const STOP: Duration = Duration::from_secs(20);

/// A cluster that is watched, by a witness that its nodes ask or by monitors alone.
struct Watched {
    cluster: Cluster,
    witness: Option<Witness>,
    policy: PathBuf,
    _dir: tempfile::TempDir,
}

fn watched() -> Watched {
    let dir = tempfile::tempdir().unwrap();
    let witness = Witness::make(&dir.path().join("witness"));
    let ledger =
        LedgerOptions { renew_s: 2, witnesses: vec![witness.plan()], ..Default::default() };
    let witness = RefCell::new(witness);
    let start = |site: &Site, index| {
        if index == 0 {
            witness.borrow().add_ledger(site);
            witness.borrow_mut().start();
        }
        site.spawn_node(index, &[]).unwrap()
    };
    let cluster = Cluster::start_at(turn(), vec![Home::default(); NODES], &ledger, start);
    let policy = write_audit_policy(&cluster.site);
    Watched { cluster, witness: Some(witness.into_inner()), policy, _dir: dir }
}

fn unwitnessed() -> Watched {
    let ledger = LedgerOptions { renew_s: 2, ..Default::default() };
    let cluster = Cluster::start(&ledger);
    let policy = cluster.site.path("policy");
    Watched { cluster, witness: None, policy, _dir: tempfile::tempdir().unwrap() }
}

impl Watched {
    fn status(&self) -> (Option<i32>, String) {
        let site = &self.cluster.site;
        let mut command = Command::new(site.programs.path("logseal"));
        let command = command.args(["status", "--config"]).arg(site.path("auditor.toml"));
        let output = command.output().unwrap();
        (output.status.code(), said(&output))
    }

    /// Waits until the monitor has read all records that were written.
    fn wait_read(&self, monitor: &Monitor) -> u64 {
        let records = self.cluster.log.count();
        let read = wait_for("the monitor to have read everything", || {
            let last = monitor.said().into_iter().rev().find(|s| s["event"] == "checkpoint")?;
            (last["records"].as_u64() == Some(records)).then(|| last["size"].as_u64().unwrap())
        });
        assert_eq!(monitor.alarms(), Vec::<String>::new());
        read
    }

    fn stop_all(&mut self) {
        self.cluster.agent.stop(STOP).unwrap();
        for node in &mut self.cluster.nodes {
            node.stop(STOP).unwrap();
        }
    }

    fn start_all(&mut self) {
        let site = &self.cluster.site;
        self.cluster.nodes = site.start_nodes().unwrap();
        self.cluster.agent = site.start_agent("gw01").unwrap();
    }

    /// All that a ledger and its agent remember: the nodes' stores, and the spool.
    fn memory(&self) -> Vec<PathBuf> {
        let stores = ALL.map(|index| self.cluster.site.node_dir(index).join("store"));
        stores.into_iter().chain([self.cluster.site.path("gw01-spool")]).collect()
    }
}

impl Watched {
    /// Puts everything back to where it was in the middle, and starts the nodes; gives back the
    /// entries that the monitor had seen before.
    fn roll_back(&mut self, monitor: &Monitor) -> u64 {
        self.cluster.log.write(300);
        self.cluster.wait_receipted(300);
        self.wait_read(monitor);
        self.stop_all();
        self.memory().iter().for_each(|path| copy(path, &beside(path)));
        self.start_all();
        self.cluster.log.write(500);
        self.cluster.wait_receipted(500);
        let before = self.wait_read(monitor);
        if self.witness.is_some() {
            let (code, text) = self.status();
            assert_eq!(code, Some(0), "{text}");
            assert!(text.contains("witness witness.example/w1  cosigned"), "{text}");
        }
        self.stop_all();
        self.memory().iter().for_each(|path| copy(&beside(path), path));
        self.cluster.nodes = self.cluster.site.start_nodes().unwrap();
        before
    }

    /// The ledger goes on from there as if nothing had happened.
    fn go_on(&mut self) {
        // The agent was rolled back with the nodes and reads its file again.
        self.cluster.agent = self.cluster.site.start_agent("gw01").unwrap();
        self.cluster.wait_receipted(500);
        self.cluster.log.write(1000);
        // Agents wait for nobody outside.
        self.cluster.wait_receipted(1500);
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "{}", from.display());
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("copy")
}

#[test]
fn a_ledger_that_was_rolled_back_as_a_whole_is_caught_by_its_witness_and_its_monitor() {
    let mut watched = watched();
    let monitor = Monitor::start(
        &watched.cluster.site,
        &watched.policy,
        &["--keep-going", "--patience", "30"],
    );
    let begun = Instant::now();
    let before = watched.roll_back(&monitor);
    watched.go_on();
    wait_for("every node to say that the witness contradicts it", || {
        let says = |node: &logseal::site::Process| {
            let log = node.log_text();
            log.contains("THIS LEDGER WAS ROLLED BACK OR FORKED")
                && log.contains("witness.example/w1")
        };
        watched.cluster.nodes.iter().all(says).then_some(())
    });
    let witness = watched.witness.as_ref().unwrap();
    assert!(witness.log_text().contains("does not extend the one cosigned before"));
    let metric = "logseal_ledger_witness_contradicts{witness=\"witness.example/w1\"} 1";
    for index in ALL {
        let meter = Meter::new(watched.cluster.site.node_ports(index).metrics);
        wait_for("the metric of it", || meter.text().unwrap().contains(metric).then_some(()));
    }
    let (code, text) = watched.status();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("ROLLBACK OR FORK: outside witness witness.example/w1"), "{text}");
    let alarms = wait_for("the monitor's alarm", || {
        let alarms = monitor.alarms();
        let told = alarms.iter().any(|word| word == "rollback" || word == "fork");
        told.then_some(alarms)
    });
    let alarm = monitor.said().into_iter().find(|said| said["event"] == "alarm").unwrap();
    let evidence = Path::new(alarm["evidence"].as_str().unwrap());
    for file in ["before", "now"] {
        let note = std::fs::read_to_string(evidence.join(file)).unwrap();
        assert!(note.starts_with("demo.logseal.example/access\n"), "{note}");
    }
    tell(&format!(
        "rolled back behind {before} entries, noticed within {:.1?}; the monitor: {alarms:?}",
        begun.elapsed()
    ));
}

#[test]
fn a_ledger_of_one_that_was_rolled_back_says_so_at_once() {
    let (dir, site) = new_site();
    let mut witness = Witness::make(&dir.path().join("witness"));
    let options =
        LedgerOptions { renew_s: 1, witnesses: vec![witness.plan()], ..Default::default() };
    site.configure_ledger(&options).unwrap();
    witness.add_ledger(&site);
    witness.start();
    let agent = |site: &Site| AgentOptions::new("gw01", kong_source(site));
    std::fs::write(site.path("kong.log"), "{}\n".repeat(100)).unwrap();
    let mut running = Running::on(dir, site, options, agent);
    running.wait_receipted(100);
    let store = running.site.path("store");
    // Without it, the copy has nothing to serve until it is cosigned, which it never is.
    wait_for("a witnessed checkpoint", || store.join("witnessed").exists().then_some(()));
    running.ledger.stop(STOP).unwrap();
    copy(&store, &beside(&store));
    running.ledger = running.site.start_ledger().unwrap();
    let more = std::fs::File::options().append(true).open(running.site.path("kong.log"));
    more.unwrap().write_all("{}\n".repeat(100).as_bytes()).unwrap();
    running.wait_receipted(200);
    let policy = write_audit_policy(&running.site);
    wait_for("the witness to have cosigned it all", || {
        let output = monitor_once(&running.site, &policy, &[]);
        (said(&output).contains("\"records\":200") && output.status.success()).then_some(())
    });
    running.agent.stop(STOP).unwrap();
    running.ledger.stop(STOP).unwrap();
    copy(&beside(&store), &store);
    running.ledger = running.site.start_ledger().unwrap();
    wait_for("the node to say so", || {
        let log = running.ledger.log_text();
        log.contains("THIS LEDGER WAS ROLLED BACK OR FORKED").then_some(())
    });
    let auditor = running.site.path("auditor.toml");
    let mut status = Command::new(running.site.programs.path("logseal"));
    let status = status.args(["status", "--config"]).arg(auditor).output().unwrap();
    assert_eq!(status.status.code(), Some(1), "{}", said(&status));
    assert!(said(&status).contains("ROLLBACK OR FORK"), "{}", said(&status));
    let output = monitor_once(&running.site, &policy, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("\"word\":\"rollback\""), "{}", said(&output));
}

#[test]
fn without_a_witness_the_monitor_alone_sees_the_rollback_and_then_the_fork() {
    let mut watched = unwitnessed();
    let monitor = Monitor::start(
        &watched.cluster.site,
        &watched.policy,
        &["--keep-going", "--patience", "30"],
    );
    watched.roll_back(&monitor);
    let told = |word: &str| monitor.alarms().iter().any(|alarm| alarm == word).then_some(());
    wait_for("the rollback", || told("rollback"));
    assert!(told("fork").is_none(), "what is there is the beginning of what was");
    watched.go_on();
    wait_for("the fork", || told("fork"));
    let alarms = monitor.alarms();
    let said = monitor.said().into_iter();
    let fork = said.into_iter().find(|said| said["word"] == "fork").unwrap();
    let evidence = Path::new(fork["evidence"].as_str().unwrap());
    let note = |name: &str| std::fs::read(evidence.join(name)).unwrap();
    assert_ne!(note("before"), note("now"));
    assert!(alarms.iter().all(|word| word == "rollback" || word == "fork"), "{alarms:?}");
}

#[test]
fn a_monitor_finds_nothing_wrong_with_an_honest_ledger_whoever_is_killed() {
    let mut watched = watched();
    let (site, policy) = (&watched.cluster.site, watched.policy.clone());
    let mut monitor = Monitor::start(site, &policy, &[]);
    let mut dice = Dice::new(11);
    let load = watched.cluster.load();
    let begun = Instant::now();
    let mut kills = 0;
    while begun.elapsed() < Duration::from_secs(30) {
        let index = dice.below(4) as usize;
        watched.cluster.kill(index);
        watched.cluster.restart(index);
        watched.cluster.wait_back(index);
        monitor.process.kill().unwrap();
        monitor = Monitor::start(&watched.cluster.site, &policy, &[]);
        dice.pause(Duration::from_millis(1500));
        let witness = watched.witness.as_mut().unwrap();
        witness.kill();
        witness.start();
        kills += 1;
        assert_eq!(monitor.alarms(), Vec::<String>::new());
    }
    load.end(&mut watched.cluster);
    watched.cluster.wait_settled(&ALL);
    let size = watched.wait_read(&monitor);
    assert!(monitor.process.is_running(), "{}", monitor.process.log_tail());
    monitor.process.stop(STOP).unwrap();
    let output = monitor_once(&watched.cluster.site, &policy, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // A record's evidence holds under the policy that asks for the witness.
    let (site, evidence) = (&watched.cluster.site, watched.cluster.site.path("evidence"));
    let (config, policy_text) = (site.path("auditor.toml"), policy.display().to_string());
    let (config, folder) = (config.display().to_string(), evidence.display().to_string());
    let proof = ["proof", "--config", &config, "--policy", &policy_text, "--agent", "gw01"];
    site.output("logseal", &[&proof[..], &["--n", "7", "-o", &folder]].concat()).unwrap();
    let verified = site.output("logseal", &["verify", &folder, "--policy", &policy_text]).unwrap();
    assert!(verified.contains("by witness.example/w1"), "{verified}");
    // And one that begins anew reads it all again, to the same end.
    let fresh = watched.cluster.site.path("fresh").display().to_string();
    let begun = Instant::now();
    let output = monitor_once(&watched.cluster.site, &policy, &["--state", &fresh]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let anew = begun.elapsed();
    watched.cluster.assert_calm();
    tell(&format!(
        "{kills} kills of a node, the monitor and the witness: {size} entries hold, read anew in {anew:.1?}"
    ));
}

#[test]
fn a_node_that_lies_to_auditors_is_named_with_what_it_did() {
    let mut cluster = Cluster::start(&LedgerOptions::default());
    cluster.log.write(600);
    cluster.wait_receipted(600);
    cluster.wait_settled(&ALL);
    let policy = cluster.site.path("policy");
    let honest = monitor_once(&cluster.site, &policy, &[]);
    assert_eq!(honest.status.code(), Some(0), "{}", said(&honest));
    let old = raw_checkpoint(&cluster.site, 0);
    cluster.kill(3);
    let liar = LyingSite::start(&cluster.site, 3, 0);
    let address = cluster.site.https_address(3).to_string();
    cluster.log.write(600);
    cluster.wait_receipted(1200);
    cluster.wait_settled(&[0, 1, 2]);
    let fresh = |name: &str| cluster.site.path(name).display().to_string();
    let only = ["--node", address.as_str()];
    let expect = |word: &str, more: &[&str]| {
        let output = monitor_once(&cluster.site, &policy, more);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{word}: {text}");
        let named = format!("\"word\":\"{word}\"");
        let line = text.lines().find(|line| line.contains("\"alarm\"")).unwrap_or_default();
        assert!(line.contains(&named) && line.contains(&address), "{word}: {text}");
    };
    liar.lie(Lie::Root);
    expect("bad-checkpoint", &[]);
    liar.lie(Lie::ForkedQuorum);
    expect("fork", &[]);
    // To somebody who asks nobody else.
    liar.lie(Lie::Entry("household".into(), "havsehold".into()));
    expect("bad-entry", &[&only[..], &["--state", &fresh("first")]].concat());
    liar.lie(Lie::None);
    let output = monitor_once(&cluster.site, &policy, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    liar.lie(Lie::Old(old));
    expect("rollback", &[]);
    let aged = ["--max-age", "1", "--state", &fresh("second")];
    std::thread::sleep(Duration::from_secs(2));
    let output = monitor_once(&cluster.site, &policy, &[&only[..], &aged].concat());
    assert!(said(&output).contains("\"word\":\"stale\""), "{}", said(&output));
    drop(liar);
    let output =
        monitor_once(&cluster.site, &policy, &[&only[..], &["--state", &fresh("third")]].concat());
    assert_eq!(output.status.code(), Some(2), "nobody could be asked: {}", said(&output));
    cluster.restart(3);
}
