//! What a monitor says of a ledger whose nodes all lie together, and whom it tells.

use logseal::{
    client::{block_on, read_policy},
    site::Site,
    tiles::Tiles,
};
use logseal_ledger::config::Config;
use logseal_tests::{
    Running, auditor, kong_source,
    lying_site::{Lie, LyingSite},
    outside::{monitor_once, said},
    receiver::{Receiver, Reply},
};
use record::{
    AgentName, TreeSize,
    entry::{Entry, Kind},
    note::SignatureType,
    seal::{Seal, SealEntry},
};
use serde_json::Value;
use std::{fs, path::Path, process::Output, sync::Arc, time::Duration};

/// An agent's lines, all of one batch.
const LINES: usize = 100;

/// A ledger of one whose node has gone; in its place is one that makes everything up.
struct MadeUp {
    running: Running,
    liar: LyingSite,
    /// The entries of the ledger as it really was, up to the end of the block with the records.
    entries: Vec<Vec<u8>>,
}

fn made_up() -> MadeUp {
    let mut running = Running::start(|site| {
        fs::write(site.path("kong.log"), "{}\n".repeat(LINES)).unwrap();
        kong_source(site)
    });
    running.wait_receipted(LINES as u64);
    let mut entries = read_all(&running.site);
    let last = entries.iter().rposition(|entry| kind(entry) == Kind::Record).unwrap();
    let end = entries[last..].iter().position(|entry| kind(entry) == Kind::Block).unwrap();
    entries.truncate(last + end + 1);
    running.agent.stop(Duration::from_secs(20)).unwrap();
    running.ledger.kill().unwrap();
    let liar = LyingSite::start(&running.site, 0, 0);
    MadeUp { running, liar, entries }
}

fn read_all(site: &Site) -> Vec<Vec<u8>> {
    let (_, policy) = read_policy(&site.path("policy")).unwrap();
    let mut entries = Vec::new();
    let address = site.https_address(0).to_string();
    let read = block_on(async {
        let mut tiles = Tiles::connect(&address, auditor(site)).await?;
        tiles.read_all(&policy, |entry| entries.push(entry.to_vec())).await
    });
    read.unwrap();
    entries
}

fn kind(entry: &[u8]) -> Kind {
    Entry::parse(entry).unwrap().kind()
}

impl MadeUp {
    /// What a monitor that has seen nothing before says of these entries.
    fn look_at(&self, name: &str, entries: &[Vec<u8>], more: &[&str]) -> Output {
        self.liar.lie(Lie::Ledger(Arc::new(entries.to_vec())));
        let site = &self.running.site;
        let state = site.path(name).display().to_string();
        monitor_once(site, &site.path("policy"), &[&["--state", &state], more].concat())
    }

    /// There is exactly this alarm, once, with what proves it.
    fn expect(&self, name: &str, entries: &[Vec<u8>], word: &str, problem: &str) {
        let output = self.look_at(name, entries, &[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        let alarms = alarms(&output);
        assert_eq!(alarms.len(), 1, "{name}: {text}");
        assert_eq!(alarms[0]["word"], word, "{name}: {text}");
        assert!(alarms[0]["problem"].as_str().unwrap().contains(problem), "{name}: {text}");
        let node = self.running.site.https_address(0).to_string();
        assert_eq!(alarms[0]["node"], *node);
        let evidence = Path::new(alarms[0]["evidence"].as_str().unwrap());
        let checkpoint = fs::read_to_string(evidence.join("checkpoint")).unwrap();
        assert!(checkpoint.starts_with("demo.logseal.example/access\n"), "{checkpoint}");
        assert!(entries.contains(&fs::read(evidence.join("entry")).unwrap()));
    }

    fn records(&self) -> impl DoubleEndedIterator<Item = usize> {
        (0..self.entries.len()).filter(|at| kind(&self.entries[*at]) == Kind::Record)
    }

    /// The seal behind the records, changed.
    fn with_seal(&self, change: impl FnOnce(&mut SealEntry)) -> Vec<Vec<u8>> {
        let mut entries = self.entries.clone();
        let at = entries.iter().rposition(|entry| kind(entry) == Kind::Seal).unwrap();
        let mut seal = SealEntry::decode(&Entry::parse(&entries[at]).unwrap()).unwrap();
        change(&mut seal);
        let config = Config::load(&self.running.site.path("ledger.toml")).unwrap();
        entries[at] = seal.encode(config.params.enterprise);
        entries
    }
}

fn alarms(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == "alarm").collect()
}

/// Signs as the agent, with `name`'s key.
fn sealed(site: &Site, name: &str, entry: &mut SealEntry) {
    let config = Config::load(&site.path("ledger.toml")).unwrap();
    let origin = &config.params.origin;
    let agent: AgentName = "gw01".parse().unwrap();
    let path = site.path(name);
    let (own, kind) = (origin.agent(&agent), SignatureType::CosignatureV1);
    let key = match path.exists() {
        true => service::keys::load(&path, own.key_name(), kind).unwrap(),
        false => service::keys::create(&path, own.key_name(), kind).unwrap(),
    };
    let Seal { size, root, time, .. } = entry.seal;
    entry.seal = Seal::sign(key.key(), origin, &agent, (size, root), time);
}

#[test]
fn a_gap_in_an_agents_log_and_a_seal_that_does_not_hold_are_alarms_even_if_all_nodes_signed_them() {
    let made_up = made_up();
    let site = &made_up.running.site;
    let honest = made_up.look_at("honest", &made_up.entries, &[]);
    assert_eq!(honest.status.code(), Some(0), "made up, but right: {}", said(&honest));

    let mut lacking = made_up.entries.clone();
    lacking.remove(made_up.records().nth(50).unwrap());
    let gap = "record 51 of agent gw01 stands where 50 should";
    made_up.expect("lacking", &lacking, "gap", gap);

    let forged = made_up.with_seal(|seal| sealed(site, "another.key", seal));
    let other = "the seal of agent gw01 does not hold under the key that was enrolled";
    made_up.expect("forged", &forged, "bad-seal", other);
    // The agent's own signature, over more than there is: the seal skips records.
    let skipping = made_up.with_seal(|seal| {
        seal.seal.size = TreeSize(seal.seal.size.0 + 5);
        sealed(site, "gw01-seal.key", seal);
    });
    let skips = "the seal of agent gw01 is not for the records in front of it";
    made_up.expect("skipping", &skipping, "bad-seal", skips);
    // Over another record than the one that is there.
    let mut altered = made_up.entries.clone();
    let at = made_up.records().next_back().unwrap();
    let end = altered[at].len() - 1;
    altered[at][end] = b']';
    made_up.expect("altered", &altered, "bad-seal", "is for other records");
    let mut bare = made_up.entries.clone();
    bare.remove(bare.iter().rposition(|entry| kind(entry) == Kind::Seal).unwrap());
    made_up.expect("bare", &bare, "bad-seal", "the records of agent gw01 from 0 on have no seal");
}

#[test]
fn an_alarm_is_posted_as_it_was_said_until_somebody_takes_it() {
    let made_up = made_up();
    let site = &made_up.running.site;
    let mut lacking = made_up.entries.clone();
    lacking.remove(made_up.records().nth(7).unwrap());

    // Refused, then lost, then taken.
    let refuses = [Reply::Status("503 Service Unavailable"), Reply::HangUp];
    let receiver = Receiver::start(None, &refuses);
    let output = made_up.look_at("posted", &lacking, &["--webhook", &receiver.url()]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let taken = receiver.taken();
    assert_eq!(taken.len(), 3, "{taken:?}");
    assert!(taken.windows(2).all(|two| two[0] == two[1]), "the same each time: {taken:?}");
    let post = &taken[0];
    assert_eq!((post.method.as_str(), post.path.as_str()), ("POST", "/hook"));
    assert_eq!(post.field("content-type"), Some("application/json"));
    assert_eq!(post.field("host"), Some(receiver.authority().as_str()));
    let told: Value = serde_json::from_slice(&post.body).unwrap();
    assert_eq!(vec![told], alarms(&output), "what it said itself");
    assert!(!said(&output).contains("could not be told"), "{}", said(&output));

    // Refused for good: it is said, and the exit code is that of the alarm.
    let refuses = vec![Reply::Status("500 Internal Server Error"); 9];
    let receiver = Receiver::start(None, &refuses);
    let output = made_up.look_at("refused", &lacking, &["--webhook", &receiver.url()]);
    assert_eq!((output.status.code(), receiver.taken().len()), (Some(1), 3), "{}", said(&output));
    let url = receiver.url();
    let problem = format!("the webhook could not be told: {url}: it answers 500");
    assert!(said(&output).contains(&problem), "{}", said(&output));
    drop(receiver);
    let output = made_up.look_at("away", &lacking, &["--webhook", &url]);
    assert_eq!((output.status.code(), alarms(&output).len()), (Some(1), 1), "{}", said(&output));
    let problem = format!("the webhook could not be told: {url}: ");
    assert!(said(&output).contains(&problem), "{}", said(&output));

    // Over TLS, to the receiver with the right certificate and to nobody else.
    let certificate = (site.cert("node", "node1"), site.key("node", "node1"));
    let receiver = Receiver::start(Some(certificate), &[]);
    let url = receiver.url();
    let ca = site.path("pki/ca.pem").display().to_string();
    let output = made_up.look_at("tls", &lacking, &["--webhook", &url, "--webhook-ca", &ca]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let told: Value = serde_json::from_slice(&receiver.taken()[0].body).unwrap();
    assert_eq!(vec![told], alarms(&output));
    let other = Site::make(&site.path("other")).unwrap();
    let ca = other.path("pki/ca.pem").display().to_string();
    let output = made_up.look_at("stranger", &lacking, &["--webhook", &url, "--webhook-ca", &ca]);
    assert_eq!((output.status.code(), receiver.taken().len()), (Some(1), 1), "{}", said(&output));
    assert!(said(&output).contains("the webhook could not be told"), "{}", said(&output));
    assert!(said(&output).contains("from another CA"), "{}", said(&output));
}
