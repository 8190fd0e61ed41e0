//! Shadow mode beside a real rsyslog, whose UDP messages pass a relay that does what networks and
//! relays do: the reports must name exactly that.

use crate::rsyslog::{self, Rsyslog};
use logseal::site::{AgentOptions, LedgerOptions, Site, corpus::Corpus, free_ports};
use logseal_tests::{LIMIT, Running, kong_source, wait_for};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::Write,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

const LINES: usize = 3000;

/// A configuration for rsyslog as a site had it: follows the gateway's file, sends it by UDP.
fn old_way(site: &Site, port: u16) -> Rsyslog {
    let work = site.path("rsyslog");
    fs::create_dir_all(&work).unwrap();
    let log = site.path("kong.log");
    let conf = format!(
        "global(workDirectory={work:?})\nmodule(load=\"imfile\")\n\
         input(type=\"imfile\" File={log:?} Tag=\"kong:\" Facility=\"local0\")\n\
         action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{port}\" protocol=\"udp\")\n"
    );
    rsyslog::run(site, &conf, port)
}

/// What the relay did to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Lost,
    Twice,
    Cut,
    Changed,
    Recoded,
}

fn fault(index: usize) -> Option<Fault> {
    match index % 500 {
        7 | 8 | 200..220 => Some(Fault::Lost),
        50 => Some(Fault::Twice),
        100 => Some(Fault::Cut),
        150 => Some(Fault::Changed),
        300 => Some(Fault::Recoded),
        _ => None,
    }
}

/// Passes on what rsyslog sends, with faults.
struct Relay {
    ending: Arc<AtomicBool>,
    /// How many lines came.
    passed: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Relay {
    fn start(socket: UdpSocket, to: u16, lines: &[String]) -> Self {
        let index: HashMap<String, usize> = lines.iter().cloned().zip(0..).collect();
        let ending = Arc::new(AtomicBool::new(false));
        let passed = Arc::<AtomicUsize>::default();
        let (asked, counted) = (Arc::clone(&ending), Arc::clone(&passed));
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let thread = std::thread::spawn(move || {
            let mut datagram = vec![0; 65_536];
            while !asked.load(Relaxed) {
                let Ok(len) = socket.recv(&mut datagram) else { continue };
                let message = String::from_utf8(datagram[..len].to_vec()).unwrap();
                let line = &message[message.find('{').unwrap_or(0)..];
                // rsyslog's own messages, about its start.
                let Some(index) = index.get(line) else { continue };
                for message in spoil(fault(*index), &message) {
                    socket.send_to(&message, ("127.0.0.1", to)).unwrap();
                }
                counted.fetch_add(1, Relaxed);
            }
        });
        Relay { ending, passed, thread }
    }

    fn stop(self) -> usize {
        self.ending.store(true, Relaxed);
        self.thread.join().unwrap();
        self.passed.load(Relaxed)
    }
}

fn spoil(fault: Option<Fault>, message: &str) -> Vec<Vec<u8>> {
    let bytes = |text: &str| text.as_bytes().to_vec();
    match fault {
        None => vec![bytes(message)],
        Some(Fault::Lost) => vec![],
        Some(Fault::Twice) => vec![bytes(message), bytes(message)],
        Some(Fault::Cut) => vec![message.as_bytes()[..200].to_vec()],
        Some(Fault::Changed) => vec![bytes(&message.replace("\"status\":", "\"stAtus\":"))],
        Some(Fault::Recoded) => {
            vec![message.chars().map(|c| if c.is_ascii() { c as u8 } else { b'?' }).collect()]
        }
    }
}

/// What all reports say together.
fn reports(site: &Site) -> Option<serde_json::Value> {
    let config = site.path("gw01.toml").display().to_string();
    let text = site.output("logseal-agent", &["shadow", "--json", "--config", &config]).ok()?;
    serde_json::from_str(&text).ok()
}

/// The records that the reports name for one kind of fault.
fn named(reports: &serde_json::Value, kind: &str) -> BTreeSet<u64> {
    let all = reports["reports"].as_array().unwrap();
    let examples = all.iter().flat_map(|report| report["examples"][kind].as_array().unwrap());
    examples.filter_map(|example| example["record"].as_u64()).collect()
}

fn metric(running: &Running, name: &str) -> u64 {
    let (text, name) = (running.meter().text().unwrap(), format!("logseal_agent_{name} "));
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
}

/// The agent compares in earnest once it accuses somebody of what was made up.
fn wait_until_it_compares(running: &Running, port: u16) {
    let forger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut probe = 0;
    wait_for("the agent to compare", || {
        probe += 1;
        let message = format!("<134>Nov 21 08:00:00 gw01 kong: probe {probe} is nobody's line");
        forger.send_to(message.as_bytes(), ("127.0.0.1", port)).unwrap();
        (metric(running, "shadow_only_there_total") > 0).then_some(())
    });
}

/// Lines that say they are of an hour to come: nobody is blamed for those of long ago, and a busy
/// machine takes its time.
fn corpus(seed: u64) -> Corpus {
    Corpus::new(seed, service::clock::now().0 + 3_600_000)
}

fn options(site: &Site, more: &str) -> AgentOptions {
    let dir = site.path("shadow");
    let mut options = AgentOptions::new("gw01", kong_source(site));
    options.extra =
        format!("[shadow]\ndir = {dir:?}\nsettle_s = 2\nperiod_s = 5\nexamples = 1000\n{more}\n");
    options
}

#[test]
fn the_report_names_exactly_what_the_old_way_did() {
    let [port] = free_ports().unwrap();
    let more = format!("udp = \"127.0.0.1:{port}\"\nsources = [\"kong\"]");
    let running = Running::with(LedgerOptions::default(), |site| options(site, &more));
    let mut corpus = corpus(5);
    let lines: Vec<String> = (0..LINES).map(|_| corpus.line("s")).collect();
    let mut log = fs::File::create(running.site.path("kong.log")).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let rsyslog = old_way(&running.site, socket.local_addr().unwrap().port());
    let relay = Relay::start(socket, port, &lines);
    wait_until_it_compares(&running, port);
    // No faster than they come, so that no buffer drops what was not meant to be.
    for (part, written) in lines.chunks(50).zip((50..).step_by(50)) {
        log.write_all((part.join("\n") + "\n").as_bytes()).unwrap();
        wait_for("the old way", || (relay.passed.load(Relaxed) >= written).then_some(()));
    }
    running.wait_receipted(LINES as u64);
    let mut wanted: BTreeMap<Fault, BTreeSet<u64>> = BTreeMap::new();
    for index in 0..LINES {
        if let Some(fault) = fault(index) {
            wanted.entry(fault).or_default().insert(index as u64);
        }
    }
    let count = |fault| wanted[&fault].len() as u64;
    let altered = count(Fault::Cut) + count(Fault::Changed) + count(Fault::Recoded);
    let delivered = LINES as u64 - altered - count(Fault::Lost);
    // A report says so when nothing about it can change any more.
    let all_are_final = |told: &serde_json::Value| {
        let reports = told["reports"].as_array().unwrap();
        let open = reports.iter().filter(|report| report["state"] != "final").count();
        let sealed = &told["sum"]["sealed"];
        open <= 1 && sealed["lines"] == LINES as u64 && told["sum"]["undecided"]["sealed"] == 0
    };
    let told = wait_for("final reports", || reports(&running.site).filter(all_are_final));
    assert_eq!(relay.stop(), LINES, "rsyslog sent every line once");
    drop(rsyslog);
    let sum = &told["sum"];
    assert_eq!(sum["sealed"]["lines"], LINES as u64, "{told:#}");
    assert_eq!(sum["sealed"]["in_ledger"], LINES as u64);
    assert_eq!(sum["delivered"], delivered, "{sum:#}");
    assert_eq!(named(&told, "lost"), wanted[&Fault::Lost]);
    let changed = [Fault::Cut, Fault::Changed, Fault::Recoded];
    let changed: BTreeSet<u64> = changed.iter().flat_map(|fault| wanted[fault].clone()).collect();
    assert_eq!(named(&told, "altered"), changed);
    assert_eq!(sum["altered"]["truncated"], count(Fault::Cut));
    assert_eq!(sum["altered"]["encoded"], count(Fault::Recoded));
    assert_eq!(sum["altered"]["other"], count(Fault::Changed));
    assert_eq!(sum["duplicated"], count(Fault::Twice));
    let foreign: Vec<&serde_json::Value> = told["reports"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|report| report["examples"]["only_there"].as_array().unwrap())
        .collect();
    let probes = |example: &&&serde_json::Value| example["old_feed"].to_string().contains("probe");
    assert_eq!(foreign.iter().filter(probes).count(), foreign.len(), "{foreign:?}");
    assert!(told["old_way"].as_str().unwrap().contains(&format!("lost {} of", count(Fault::Lost))));
    check_what_people_read(&running.site);
}

/// The table, the exit code for scripts, and the pages.
fn check_what_people_read(site: &Site) {
    let config = site.path("gw01.toml").display().to_string();
    let table = site.output("logseal-agent", &["shadow", "--config", &config]).unwrap();
    assert!(table.contains("NOT COMPARED") && table.contains("Do not switch yet"), "{table}");
    let args = ["shadow", "--check", "--since", "24h", "--config", &config];
    assert!(site.output("logseal-agent", &args).is_err(), "the old way is not clean");
    let pages = fs::read_dir(site.path("shadow")).unwrap().map(|entry| entry.unwrap().path());
    let pages: Vec<String> = pages
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert!(pages.iter().any(|page| page.contains("LOST") && page.contains("record 207")));
}

#[test]
fn the_old_servers_file_is_compared_across_a_restart_of_the_agent() {
    let more = |site: &Site| format!("file = {:?}\nhosts = [\"gw01\"]", site.path("old.log"));
    let mut running = Running::with(LedgerOptions::default(), |site| {
        fs::write(site.path("old.log"), "2026-11-21T08:00:00Z gw01 kong: long ago\n").unwrap();
        options(site, &more(site))
    });
    let mut corpus = corpus(6);
    let mut log = fs::File::create(running.site.path("kong.log")).unwrap();
    let old = fs::OpenOptions::new().append(true).open(running.site.path("old.log"));
    let mut old = old.unwrap();
    let mut write = |count: usize| {
        for index in 0..count {
            let line = corpus.line("f");
            writeln!(log, "{line}").unwrap();
            writeln!(old, "2026-11-21T08:00:00.123456+00:00 gw02 kong: other {index}").unwrap();
            writeln!(old, "2026-11-21T08:00:00.123456+00:00 gw01 kong: {line}").unwrap();
        }
    };
    let figure = |running: &Running, name: &str| metric(running, name);
    wait_for("lines to be compared", || {
        write(1);
        (figure(&running, "shadow_delivered_total") > 0).then_some(())
    });
    write(100);
    let delivered = |running: &Running| figure(running, "shadow_delivered_total");
    wait_for("the lines to be paired", || (delivered(&running) >= 100).then_some(()));
    running.agent.stop(LIMIT).unwrap();
    write(50);
    running.agent = running.site.start_agent("gw01").unwrap();
    running.wait_receipted(50);
    let before = delivered(&running);
    wait_for("lines to be compared again", || {
        write(1);
        (delivered(&running) > before + 5).then_some(())
    });
    let told = wait_for("what was written meanwhile to be settled", || {
        let told = reports(&running.site)?;
        let interrupted = told["sum"]["interrupted"].as_array()?.len();
        let not_compared = told["sum"]["not_compared"]["sealed"].as_u64()?;
        (interrupted > 0 && not_compared >= 50).then_some(told)
    });
    let sum = &told["sum"];
    for fault in ["lost", "only_there", "duplicated"] {
        assert_eq!(sum[fault], 0, "{fault}: {told:#}");
    }
    assert!(sum["old_feed"]["other_hosts"].as_u64().unwrap() > 100);
}
