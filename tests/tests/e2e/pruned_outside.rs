//! Who reads from outside meets a ledger that gave old entries up.

use crate::{
    export::logseal,
    prune::{DAY, RETENTION, options, prune},
};
use link::statement;
use logseal::{
    client::block_on,
    output::fail,
    site::{Process, Site},
    tiles::Tiles,
};
use logseal_ledger::config::Config;
use logseal_tests::{
    LIMIT, auditor,
    generate::Generator,
    lying_site::{Lie, LyingSite},
    new_site,
    outside::{monitor_once, said},
    page::{adapted, carry_out, commands},
    wait_for,
};
use pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use record::{
    declaration::{Declaration, Matter, Prune},
    entry::{Entry, Kind},
};
use replica::Base;
use serde_json::Value;
use service::members::FaultModel;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

const SEGMENT_BYTES: u64 = 64 << 10;

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A ledger of one that is two years old, and what has happened to it.
struct Old {
    site: Site,
    node: Process,
    _dir: tempfile::TempDir,
}

impl Old {
    /// Its first half year, read by somebody who is away then, and all that came since.
    fn start(meanwhile: impl Fn(&Site)) -> Self {
        let (dir, site) = new_site();
        site.configure_ledger(&options(RETENTION)).unwrap();
        let mut generator = Generator::aged(&site, 100, Some(SEGMENT_BYTES), 730 * DAY);
        generator.add(3_000);
        generator.let_go();
        let mut node = site.start_ledger().unwrap();
        meanwhile(&site);
        node.stop(LIMIT).unwrap();
        generator.go_on();
        generator.add(3_000);
        generator.pass(430 * DAY);
        generator.add(2_000);
        generator.pass(299 * DAY);
        generator.add(1_000);
        generator.let_go();
        let node = site.start_ledger().unwrap();
        Old { site, node, _dir: dir }
    }

    /// Gives up what is older than a year; answers with the first entry that is there.
    fn prune(&self) -> u64 {
        let (code, done) = prune(&self.site, &["--yes"]);
        assert_eq!(code, 0, "{done}");
        let first = done["to"].as_u64().unwrap();
        assert!(first > 6_000 && first % 256 != 0, "in the middle of a bundle: {done}");
        wait_for("the base", || ask(&self.site, 0, async |tiles| tiles.base().await).ok());
        first
    }

    fn monitor(&self, name: &str, more: &[&str]) -> Output {
        monitor(&self.site, name, more)
    }

    fn ask<T>(&self, question: impl AsyncFn(&mut Tiles) -> T) -> T {
        ask(&self.site, 0, question)
    }

    /// The entries from one on, up to the newest checkpoint.
    fn entries(&self, from: u64) -> Vec<Vec<u8>> {
        self.ask(async |tiles| {
            let note = tiles.checkpoint().await.unwrap();
            let size: u64 = note.text().lines().nth(1).unwrap().parse().unwrap();
            let (mut next, mut entries) = (from, Vec::new());
            while next < size {
                let more = tiles.entries_from(next, size).await.unwrap();
                next += more.len() as u64;
                entries.extend(more);
            }
            entries
        })
    }
}

/// Asks a node something over HTTPS.
fn ask<T>(site: &Site, node: usize, ask: impl AsyncFn(&mut Tiles) -> T) -> T {
    let address = site.https_address(node).to_string();
    block_on(async {
        let mut tiles = Tiles::connect(&address, auditor(site)).await.map_err(fail)?;
        Ok(ask(&mut tiles).await)
    })
    .unwrap()
}

fn monitor(site: &Site, name: &str, more: &[&str]) -> Output {
    let state = site.path(name).display().to_string();
    monitor_once(site, &site.path("policy"), &[&["--state", &state], more].concat())
}

/// What of it is of this kind.
fn events(output: &Output, event: &str) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == event).collect()
}

fn assert_calm(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    assert_eq!(events(output, "alarm"), Vec::<Value>::new());
}

#[test]
fn a_monitor_goes_on_through_a_prune_and_one_that_was_away_begins_behind_it() {
    let mut old = Old::start(|site| assert_calm(&monitor(site, "away", &[])));
    let before = old.monitor("followed", &[]);
    assert_calm(&before);
    let first = old.prune();

    let followed = old.monitor("followed", &[]);
    assert_calm(&followed);
    assert_eq!(events(&followed, "unread"), Vec::<Value>::new(), "it read all of it");

    let end = |output: &Output| {
        let mut end = events(output, "end").pop().unwrap();
        end["alarms"].take();
        end
    };
    let away = old.monitor("away", &[]);
    assert_calm(&away);
    let unread = &events(&away, "unread")[0];
    assert!(unread["from"].as_u64().unwrap() > 3_000, "{unread}");
    assert_eq!(unread["to"], first);
    assert_eq!(end(&away), end(&followed), "they know the same");

    let new = old.monitor("new", &[]);
    assert_calm(&new);
    let unread = &events(&new, "unread")[0];
    assert_eq!((&unread["from"], &unread["to"]), (&0.into(), &first.into()));
    assert_eq!(end(&new), end(&followed));
    // They stand on what they know now, and not on the base again.
    for name in ["away", "new"] {
        let again = old.monitor(name, &[]);
        assert_calm(&again);
        assert_eq!(events(&again, "unread"), Vec::<Value>::new());
        let state = |name: &str| fs::read(old.site.path(name).join("state")).unwrap();
        assert!(state(name).len() > 100);
    }
    old.node.stop(LIMIT).unwrap();
}

/// The same declaration with other days, signed by the site's operator.
fn declared_with(site: &Site, entry: &[u8], days: u32) -> Vec<u8> {
    let declaration = Declaration::from_entry(&Entry::parse(entry).unwrap()).unwrap();
    let Matter::Prune(prune) = declaration.matter else { panic!("it gives nothing up") };
    let matter = Matter::Prune(Prune { days, ..prune });
    let config = Config::load(&site.path("ledger.toml")).unwrap();
    let text = Declaration::statement(&config.params.origin, &matter, declaration.time);
    let certificate = CertificateDer::from_pem_file(site.cert("operator", "operator")).unwrap();
    let key = PrivateKeyDer::from_pem_file(site.key("operator", "operator")).unwrap();
    let signature = statement::sign(&key, text.as_bytes()).unwrap();
    let (time, certificate) = (declaration.time, certificate.to_vec());
    Declaration { matter, time, certificate, signature }.entry(config.params.enterprise)
}

/// A base with another history of its agent.
fn altered(base: &[u8]) -> Vec<u8> {
    let mut base = Base::decode(base).unwrap();
    let log = base.agents.values_mut().next().unwrap();
    log.frontier.push(record::Hash([9; 32]));
    base.encode()
}

#[test]
fn entries_that_vanished_without_a_right_declaration_are_an_alarm() {
    let mut old = Old::start(|_| {});
    let mut entries = old.entries(0);
    let before = entries.len();
    let first = usize::try_from(old.prune()).unwrap();
    wait_for("the declaration under a checkpoint", || {
        let behind = old.entries(before as u64);
        (behind.len() >= 2).then(|| entries.extend(behind))
    });
    let base = old.ask(async |tiles| tiles.base().await.unwrap()).to_vec();
    old.node.kill().unwrap();
    let liar = LyingSite::start(&old.site, 0, 0);
    let look = |name: &str, lie: Lie| {
        liar.lie(lie);
        monitor(&old.site, name, &["--patience", "1"])
    };
    let expect = |name: &str, word: &str, problem: &str, lie: Lie| {
        let output = look(name, lie);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", said(&output));
        let alarms = events(&output, "alarm");
        assert_eq!(alarms[0]["word"], word, "{name}: {}", said(&output));
        assert!(alarms[0]["problem"].as_str().unwrap().contains(problem), "{}", said(&output));
        assert_eq!(events(&output, "checkpoint"), Vec::<Value>::new(), "nothing holds");
        let evidence = Path::new(alarms[0]["evidence"].as_str().unwrap());
        assert!(evidence.join("checkpoint").exists());
    };
    let pruned = |entries: &[Vec<u8>], base: Option<&[u8]>| Lie::Pruned {
        entries: Arc::new(entries.to_vec()),
        first,
        admitted: true,
        base: base.map(<[u8]>::to_vec),
    };
    assert_calm(&look("honest", pruned(&entries, Some(&base))));

    let nobody = "no operator's declaration";
    expect("silent", "undeclared-prune", nobody, pruned(&entries[..before], Some(&base)));
    let other = altered(&base);
    expect("altered", "undeclared-prune", nobody, pruned(&entries, Some(&other)));
    expect("bare", "gap", "has no base", pruned(&entries, None));
    expect("junk", "bad-entry", "base", pruned(&entries, Some(b"junk")));
    let entries_of = Arc::new(entries.clone());
    let hole = Lie::Pruned { entries: entries_of, first, admitted: false, base: Some(base) };
    expect("hole", "gap", "does not serve entry 0", hole);

    // All is there, and the declaration comes too early.
    let at = entries
        .iter()
        .position(|entry| Entry::parse(entry).unwrap().kind() == Kind::Prune)
        .unwrap();
    let mut early = entries.clone();
    early[at] = declared_with(&old.site, &entries[at], 3_000);
    let output = look("early", Lie::Ledger(Arc::new(early)));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let alarms = events(&output, "alarm");
    assert_eq!((alarms.len(), &alarms[0]["word"]), (1, &"early-prune".into()), "{alarms:?}");
}

/// An export with these arguments besides where from and where to.
fn export(site: &Site, from: &[&str], name: &str, more: &[&str]) -> (i32, Value, PathBuf) {
    let dir = site.path(name);
    let args = [&["export"], from, more, &["-o", shown(&dir)]].concat();
    let (code, answer) = logseal(site, &args);
    (code, answer, dir)
}

#[test]
fn an_export_begins_with_the_first_entry_that_is_there_and_says_so() {
    let mut old = Old::start(|_| {});
    let first = old.prune();
    let site = &old.site;
    let https = site.https_address(0).to_string();
    let (config, store, policy) =
        (site.path("auditor.toml"), site.path("store"), site.path("policy"));
    let node = ["--config", shown(&config), "--node", &https];
    let stored = ["--store", shown(&store), "--policy", shown(&policy)];
    for (source, from) in [("node", &node), ("store", &stored)] {
        if source == "store" {
            // What it leaves has the newest checkpoint.
            old.node.stop(LIMIT).unwrap();
        }
        let name = |what: &str| format!("{source}-{what}");
        let (code, answer, _) = export(site, from, &name("gone"), &["--first", "10"]);
        let problem = answer["error"].as_str().unwrap().to_owned();
        assert!(code == 2 && problem.contains("entry 10 was given up"), "{problem}");
        assert!(problem.contains(&format!("--first {first}")), "{problem}");
        let (code, answer, _) = export(site, from, &name("old"), &["--last", "100"]);
        assert!(code == 2 && answer["error"].as_str().unwrap().contains("given up"), "{answer}");

        for (what, more) in [("all", &[][..]), ("since", &["--from", "2001-01-01"])] {
            let (code, answer, dir) = export(site, from, &name(what), more);
            assert_eq!(code, 0, "{answer}");
            let manifest = &answer["manifest"];
            assert_eq!(
                (&manifest["first"], &manifest["given_up"]["entries"]),
                (&first.into(), &first.into())
            );
            assert!(manifest["given_up"]["declared"].as_u64().unwrap() > first, "{answer}");
            let check = ["verify", shown(&dir), "--policy", shown(&policy)];
            let (code, holds) = logseal(site, &check);
            assert_eq!((code, &holds["given_up"]["entries"]), (0, &first.into()), "{holds}");
            let declaration = fs::read(dir.join("declaration")).unwrap();
            let mut other = declaration.clone();
            other[300] ^= 1;
            fs::write(dir.join("declaration"), other).unwrap();
            let (code, broken) = logseal(site, &check);
            assert_eq!((code, &broken["file"]), (1, &"declaration".into()), "{broken}");
        }
        // What is there is as it ever was.
        let begin = (first + 500).to_string();
        let (code, answer, _) = export(site, from, &name("rest"), &["--first", &begin]);
        assert_eq!((code, &answer["manifest"]["given_up"]), (0, &Value::Null), "{answer}");
    }
}

/// Writes `forward.toml` for a forwarder of all entries with this name.
fn forward_config(site: &Site, nodes: &[usize], name: &str) -> PathBuf {
    let nodes: Vec<_> = nodes.iter().map(|node| site.https_address(*node).to_string()).collect();
    let path = site.path(format!("{name}.toml"));
    let text = format!(
        "nodes = {nodes:?}\npolicy = {:?}\nstate = {:?}\npoll_ms = 20\nentries = \"all\"\n{}[file]\npath = {:?}\n",
        site.path("policy"),
        site.path(format!("{name}.state")),
        site.tls_table("auditor", "auditor"),
        site.path(format!("{name}.out")),
    );
    fs::write(&path, text).unwrap();
    path
}

fn forwarder(site: &Site, nodes: &[usize], name: &str, more: &[&str]) -> Process {
    let config = forward_config(site, nodes, name);
    let args = [&["forward", "--config", shown(&config)], more].concat();
    Process::start(&site.programs.path("logseal"), &args, &site.path(format!("{name}.log")))
        .unwrap()
}

fn lines(site: &Site, name: &str) -> Vec<Vec<u8>> {
    let bytes = fs::read(site.path(format!("{name}.out"))).unwrap_or_default();
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// Forwards until so many entries are there.
fn forward_until(site: &Site, nodes: &[usize], name: &str, more: &[&str], count: usize) -> String {
    let mut forwarder = forwarder(site, nodes, name, more);
    wait_for("entries", || (lines(site, name).len() >= count).then_some(()));
    assert!(forwarder.stop(LIMIT).unwrap().success(), "{}", forwarder.log_tail());
    forwarder.log_text()
}

#[test]
fn a_forwarder_begins_with_the_first_entry_that_is_there_and_passes_over_nothing_unasked() {
    let mut old = Old::start(|site| {
        forward_until(site, &[0], "away", &[], 3_000);
    });
    let first = old.prune();
    let site = &old.site;
    let had = lines(site, "away").len() as u64;
    assert!(had < first);
    let expected = old.entries(first);
    let expected: Vec<Vec<u8>> =
        expected.into_iter().map(|entry| [&entry[..], b"\n"].concat()).collect();

    let log = forward_until(site, &[0], "new", &[], expected.len());
    assert!(lines(site, "new")[..expected.len()] == expected[..], "all that is there, in order");
    assert!(log.contains(&format!("first={first}")), "{log}");

    let mut stopped = forwarder(site, &[0], "away", &[]);
    wait_for("its end", || (!stopped.is_running()).then_some(()));
    let log = stopped.log_text();
    let missed = format!("{} entries were given up before they were forwarded", first - had);
    assert!(log.contains(&missed) && log.contains("--skip-pruned"), "{log}");
    assert_eq!(lines(site, "away").len() as u64, had);

    forward_until(site, &[0], "away", &["--skip-pruned"], had as usize + expected.len());
    let away = lines(site, "away").split_off(had as usize);
    assert!(away[..expected.len()] == expected[..], "all that is there, in order");
    old.node.stop(LIMIT).unwrap();
}

#[test]
fn what_one_node_still_has_is_read_there() {
    let _turn = logseal_tests::cluster::turn();
    let dir = tempfile::tempdir().unwrap();
    let site = Site::make_with(dir.path(), 4, FaultModel::Byzantine).unwrap();
    site.configure_nodes(&options(RETENTION)).unwrap();
    let mut generator = Generator::aged(&site, 100, Some(SEGMENT_BYTES), 730 * DAY);
    generator.add(2_000);
    generator.pass(729 * DAY);
    generator.add(1_000);
    generator.let_go();
    let config = site.node_dir(2).join("ledger.toml");
    let text = fs::read_to_string(&config).unwrap().replace("days = 365", "days = 3650");
    fs::write(&config, text).unwrap();
    let mut nodes = site.start_nodes().unwrap();
    let (code, done) = prune(&site, &["--yes"]);
    assert_eq!(code, 0, "{done}");
    let first = done["to"].as_u64().unwrap();
    for node in [0, 1, 3] {
        wait_for("the base", || ask(&site, node, async |tiles| tiles.base().await).ok());
    }
    let output = monitor(&site, "new", &[]);
    assert_calm(&output);
    assert_eq!(events(&output, "unread"), Vec::<Value>::new(), "one node has all of it");
    forward_until(&site, &[0, 1, 2], "all", &[], 3_000);
    let log = fs::read_to_string(site.path("all.log")).unwrap();
    assert!(!log.contains("begins there"), "{log}");

    // With that one away, it is as with a ledger that has no such node.
    nodes[2].stop(LIMIT).unwrap();
    let output = monitor(&site, "later", &[]);
    assert_calm(&output);
    assert_eq!(events(&output, "unread")[0]["to"], first, "{}", said(&output));
    for node in [0, 1, 3] {
        nodes[node].stop(LIMIT).unwrap();
    }
}

#[test]
fn a_declaration_is_checked_by_hand_as_the_page_says() {
    let mut old = Old::start(|_| {});
    let first = old.prune();
    let entries = wait_for("the declaration", || {
        let entries = old.entries(first);
        let is_prune = |entry: &Vec<u8>| Entry::parse(entry).unwrap().kind() == Kind::Prune;
        entries.iter().any(is_prune).then_some(entries)
    });
    let at = entries.iter().position(|entry| Entry::parse(entry).unwrap().kind() == Kind::Prune);
    let (size, at) = (first + entries.len() as u64, first + at.unwrap() as u64);
    let width = size - at / 256 * 256;
    let bundle = if width < 256 { format!(".p/{width}") } else { String::new() };
    let bundle = format!("/{:03}{bundle}", at / 256);
    let node = format!("https://{}", old.site.https_address(0));
    let here = [
        ("https://node1.log.example:7580", node.as_str()),
        ("ledger.city.example/access", "demo.logseal.example/access"),
        ("/036.p/9", &bundle),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in [
        (old.site.path("pki/ca.pem"), "ca.pem"),
        (old.site.cert("auditor", "auditor"), "auditor-bob.pem"),
        (old.site.key("auditor", "auditor"), "auditor-bob.key"),
    ] {
        fs::copy(from, dir.path().join(to)).unwrap();
    }
    let commands = adapted(commands("audit.md", "## When old entries were given up"), &here);
    let done = carry_out(&commands, Command::new("env").current_dir(dir.path()));
    let digests: Vec<&str> = done.last().unwrap().output.lines().collect();
    assert_eq!(digests.len(), 2, "{digests:?}");
    assert_eq!(digests[0], digests[1]);
    let says = |words: &str| {
        let found = done.iter().find(|done| done.shown.text.contains(words)).unwrap();
        found.output.trim().to_owned()
    };
    assert_eq!(says("ask /first-entry"), first.to_string());
    assert_eq!(says("ask /minimum-index"), (first.div_ceil(256) * 256).to_string());
    old.node.stop(LIMIT).unwrap();
}
