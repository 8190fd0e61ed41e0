//! Forwarding: to a file exactly once whatever is killed, to a stock rsyslog byte for byte.

use crate::rsyslog;
use logseal::site::{LedgerOptions, Process, Site};
use logseal_tests::{
    LIMIT, Running,
    cluster::Cluster,
    generate::Generator,
    kong_source,
    lying_site::{Lie, LyingSite},
    new_site,
    outside::raw_checkpoint,
    records, wait_for,
};
use rustix::process::Signal;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// Writes `forward.toml` with this output.
fn configure(site: &Site, output: &str) -> PathBuf {
    configure_for(site, &[0], output)
}

/// The same, to ask these nodes.
fn configure_for(site: &Site, nodes: &[usize], output: &str) -> PathBuf {
    let path = site.path("forward.toml");
    let nodes: Vec<String> =
        nodes.iter().map(|node| site.https_address(*node).to_string()).collect();
    let text = format!(
        "nodes = {nodes:?}\npolicy = {:?}\nstate = {:?}\npoll_ms = 20\n{}{output}",
        site.path("policy"),
        site.path("forward.state"),
        site.tls_table("auditor", "auditor"),
    );
    fs::write(&path, text).unwrap();
    path
}

fn to_file(site: &Site) -> String {
    format!("[file]\npath = {:?}\n", site.path("out.log"))
}

fn start(site: &Site, config: &Path) -> Process {
    let args = ["forward", "--config", config.to_str().unwrap()];
    Process::start(&site.programs.path("logseal"), &args, &site.path("forward.log")).unwrap()
}

/// The entries of all records, each with a line feed behind it.
fn expected(site: &Site) -> Vec<u8> {
    let (_, records) = records(site);
    records.iter().flat_map(|record| [&record.entry[..], b"\n"].concat()).collect()
}

fn lines(path: &Path) -> usize {
    fs::read(path).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// A running node with so many records, and no agent.
fn serving(count: u64) -> (tempfile::TempDir, Site, Process) {
    let (dir, site) = new_site();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let mut generator = Generator::new(&site, 200);
    generator.add(count);
    generator.let_go();
    drop(generator);
    let ledger = site.start_ledger().unwrap();
    (dir, site, ledger)
}

#[test]
fn a_file_has_every_record_once_whenever_the_forwarder_is_killed() {
    let (_dir, site, _ledger) = serving(120_000);
    let config = configure(&site, &to_file(&site));
    let (out, mut rounds) = (site.path("out.log"), 0u64);
    while lines(&out) < 120_000 {
        let before = lines(&out);
        let mut forwarder = start(&site, &config);
        // Some are killed before they have done anything, others within a write or right behind one.
        if rounds % 7 != 0 {
            wait_for("progress", || (lines(&out) > before).then_some(()));
        }
        std::thread::sleep(Duration::from_micros(rounds * 1777 % 9000));
        forwarder.kill().unwrap();
        rounds += 1;
    }
    let mut forwarder = start(&site, &config);
    forwarder.wait_ready(LIMIT).unwrap();
    wait_for("the end", || {
        let state: serde_json::Value =
            serde_json::from_slice(&fs::read(site.path("forward.state")).unwrap()).unwrap();
        (state["next"] == state["size"]).then_some(())
    });
    assert!(forwarder.stop(LIMIT).unwrap().success(), "{}", forwarder.log_tail());
    assert!(fs::read(&out).unwrap() == expected(&site), "each record once, in order");
    assert!(rounds > 5, "{rounds} kills");
}

#[test]
fn a_file_is_rotated_without_losing_or_doubling_a_line() {
    let mut running = Running::start(kong_source);
    let config = configure(&running.site, &to_file(&running.site));
    let mut forwarder = start(&running.site, &config);
    forwarder.wait_ready(LIMIT).unwrap();
    let mut log = fs::File::create(running.site.path("kong.log")).unwrap();
    let out = running.site.path("out.log");
    let mut rotated = Vec::new();
    for round in 0..6usize {
        (0..300).for_each(|n| writeln!(log, "{{\"round\":{round},\"n\":{n}}}").unwrap());
        wait_for("lines in the output", || (lines(&out) > 0).then_some(()));
        let old = running.site.path(format!("out.log.{round}"));
        fs::rename(&out, &old).unwrap();
        rotated.push(old);
        if round % 2 == 0 {
            forwarder.signal(Signal::HUP).unwrap();
        } else {
            // Rotated while it was down: the rest goes into the new file.
            forwarder.kill().unwrap();
            forwarder = start(&running.site, &config);
        }
        wait_for("the new file", || out.exists().then_some(()));
    }
    running.wait_receipted(1800);
    rotated.push(out);
    let count = || rotated.iter().map(|path| lines(path)).sum::<usize>();
    wait_for("all lines", || (count() >= 1800).then_some(()));
    assert!(forwarder.stop(LIMIT).unwrap().success());
    let found: Vec<u8> = rotated.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    assert!(found == expected(&running.site), "each record once, in order");
    running.agent.stop(LIMIT).unwrap();
}

#[test]
fn a_stock_rsyslog_receives_every_record_over_mutual_tls() {
    let (_dir, site, _ledger) = serving(20_000);
    let [port] = logseal::site::free_ports().unwrap();
    let (work, received) = (site.path("rsyslog"), site.path("received"));
    fs::create_dir_all(&work).unwrap();
    let conf = format!(
        "global(workDirectory={work:?} maxMessageSize=\"128k\" defaultNetstreamDriver=\"ossl\"\n\
         defaultNetstreamDriverCAFile={:?} defaultNetstreamDriverCertFile={:?}\n\
         defaultNetstreamDriverKeyFile={:?} parser.escapeControlCharactersOnReceive=\"off\")\n\
         module(load=\"imtcp\" streamDriver.name=\"ossl\" streamDriver.mode=\"1\"\n\
         streamDriver.authMode=\"x509/name\" permittedPeer=[\"auditor\"])\n\
         template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"write\")\n\
         ruleset(name=\"write\") {{ action(type=\"omfile\" file={received:?} template=\"raw\") }}\n",
        site.path("pki/ca.pem"),
        site.cert("node", "node1"),
        site.key("node", "node1"),
    );
    let output = format!(
        "[syslog]\nserver = \"127.0.0.1:{port}\"\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
        site.path("pki/ca.pem"),
        site.cert("auditor", "auditor"),
        site.key("auditor", "auditor"),
    );
    let config = configure(&site, &output);
    // The forwarder is there first, and waits.
    let mut forwarder = start(&site, &config);
    forwarder.wait_ready(LIMIT).unwrap();
    let server = rsyslog::run(&site, &conf, port);
    wait_for("all records", || (lines(&received) >= 20_000).then_some(()));
    assert!(forwarder.stop(LIMIT).unwrap().success(), "{}", forwarder.log_tail());
    server.stop();
    assert!(fs::read(&received).unwrap() == expected(&site), "byte for byte, in order, once");
}

#[test]
fn a_ledger_that_does_not_extend_what_was_seen_is_not_forwarded() {
    let (_dir, site, mut ledger) = serving(2000);
    let config = configure(&site, &to_file(&site));
    let mut forwarder = start(&site, &config);
    forwarder.wait_ready(LIMIT).unwrap();
    wait_for("all records", || (lines(&site.path("out.log")) >= 2000).then_some(()));
    assert!(forwarder.stop(LIMIT).unwrap().success());
    let before = fs::read(site.path("out.log")).unwrap();
    // A state of another history: no checkpoint of this ledger extends it.
    let state = fs::read_to_string(site.path("forward.state")).unwrap();
    let mut state: serde_json::Value = serde_json::from_str(&state).unwrap();
    state["root"] = record::Hash([7; 32]).to_string().into();
    fs::write(site.path("forward.state"), state.to_string()).unwrap();
    let mut forwarder = start(&site, &config);
    wait_for("the refusal", || {
        forwarder
            .log_text()
            .contains("either this node lies or the ledger was forked")
            .then_some(())
    });
    forwarder.stop(LIMIT).unwrap();
    assert_eq!(fs::read(site.path("out.log")).unwrap(), before);
    ledger.stop(LIMIT).unwrap();
}

/// A ledger of four, of whose nodes the last one lies to whoever reads.
struct LiedTo {
    cluster: Cluster,
    liar: LyingSite,
}

impl LiedTo {
    /// A forwarder that asks these nodes, and what it has said so far.
    fn start(&self, nodes: &[usize]) -> (Process, String) {
        let site = &self.cluster.site;
        let config = configure_for(site, nodes, &to_file(site));
        let before = fs::read_to_string(site.path("forward.log")).unwrap_or_default();
        let mut forwarder = start(site, &config);
        forwarder.wait_ready(LIMIT).unwrap();
        (forwarder, before)
    }

    /// A forwarder that has nobody else to ask names the liar, hands nothing on and waits.
    fn refuses(&self, lie: Lie, problem: &str) {
        let out = self.cluster.site.path("out.log");
        let had = fs::read(&out).unwrap_or_default();
        self.liar.lie(lie);
        let (mut forwarder, before) = self.start(&[3]);
        let said = format!("node {}: ", self.cluster.site.https_address(3));
        let refused = wait_for(problem, || {
            let log = forwarder.log_text().split_off(before.len());
            let mut refusals = log.lines().filter(|line| line.contains(problem));
            // Twice: it goes on trying.
            refusals.nth(1).map(str::to_owned)
        });
        assert!(refused.contains(&said) && refused.contains("cannot go on"), "{refused}");
        assert!(forwarder.is_running(), "{}", forwarder.log_tail());
        assert!(fs::read(&out).unwrap_or_default() == had, "{problem}: handed on");
        assert!(forwarder.stop(LIMIT).unwrap().success(), "{}", forwarder.log_tail());
    }

    /// A forwarder that asks these nodes has all lines in the end.
    fn forwards(&self, nodes: &[usize]) {
        let out = self.cluster.site.path("out.log");
        let count = self.cluster.log.count() as usize;
        let (mut forwarder, _) = self.start(nodes);
        wait_for("all records", || (lines(&out) >= count).then_some(()));
        assert!(forwarder.stop(LIMIT).unwrap().success(), "{}", forwarder.log_tail());
        assert!(fs::read(&out).unwrap() == expected(&self.cluster.site), "each once, in order");
    }
}

#[test]
fn a_node_that_makes_entries_up_is_named_and_nothing_of_it_is_handed_on() {
    let mut cluster = Cluster::start(&LedgerOptions::default());
    cluster.log.write(700);
    cluster.wait_receipted(700);
    cluster.wait_settled(&[0, 1, 2, 3]);
    let old = raw_checkpoint(&cluster.site, 0);
    cluster.kill(3);
    let liar = LyingSite::start(&cluster.site, 3, 0);
    let mut lied_to = LiedTo { cluster, liar };
    let entry = Lie::Entry("household".into(), "havsehold".into());
    let not_those = "its entries are not those that the checkpoint was signed for";
    lied_to.refuses(entry.clone(), not_those);
    lied_to.refuses(Lie::Root, "too few cosignatures");
    // With somebody else to ask, it costs nothing but a moment.
    lied_to.forwards(&[3, 1]);
    lied_to.cluster.log.write(700);
    lied_to.cluster.wait_receipted(1400);
    lied_to.cluster.wait_settled(&[0, 1, 2]);
    lied_to.refuses(entry, not_those);
    lied_to.refuses(Lie::ForkedQuorum, "either this node lies or the ledger was forked");
    lied_to.forwards(&[2]);
    lied_to.refuses(Lie::Old(old.clone()), "entries, and others");
    lied_to.liar.lie(Lie::None);
    lied_to.forwards(&[3]);
    // To one that knows nothing yet it is no lie: it only hides what came since.
    for file in ["forward.state", "out.log"] {
        fs::remove_file(lied_to.cluster.site.path(file)).unwrap();
    }
    lied_to.liar.lie(Lie::Old(old));
    lied_to.forwards(&[3, 0]);
}
