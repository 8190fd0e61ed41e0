//! Sources on the agent's own machine: local sockets, UDP, standard input.

use std::{
    io::{Read, Write},
    net::UdpSocket,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixDatagram, UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use logseal::site::{AgentOptions, LedgerOptions, Site, free_ports};
use logseal_tests::{LIMIT, Record, Running, new_site, records, wait_for};
use record::entry::Entry;

/// A parameter of a record's own element.
fn param(record: &Record, name: &str) -> String {
    let entry = Entry::parse(&record.entry).unwrap();
    entry.element().param(name).unwrap_or_default().into_owned()
}

/// HOSTNAME, APP-NAME and PROCID.
fn header(record: &Record) -> [String; 3] {
    let tokens = Entry::parse(&record.entry).unwrap().message().tokens();
    [tokens[1], tokens[2], tokens[3]].map(|token| String::from_utf8_lossy(token).into_owned())
}

pub fn unix_source(name: &str, path: &Path, kind: &str) -> String {
    format!("[[source.unix]]\nname = \"{name}\"\npath = {path:?}\nkind = \"{kind}\"\n")
}

fn logger(args: &[&str]) -> u32 {
    let mut logger = Command::new("logger").args(args).spawn().unwrap();
    assert!(logger.wait().unwrap().success());
    logger.id()
}

#[test]
fn what_programs_and_devices_write_says_who_they_are_as_far_as_that_is_known() {
    let [port] = free_ports().unwrap();
    let running = Running::start(|site| {
        let udp = format!("[[source.udp]]\nname = \"old\"\nlisten = \"127.0.0.1:{port}\"\n");
        unix_source("log", &site.path("log.sock"), "datagram")
            + &unix_source("conn", &site.path("conn.sock"), "stream")
            + &udp
    });
    let site = &running.site;
    // At its first start the agent asks the ledger before it receives anything.
    wait_for("the sockets", || site.path("conn.sock").exists().then_some(()));
    let socket = site.path("log.sock").display().to_string();
    let pid = logger(&["--socket", &socket, "--socket-errors=on", "-t", "app", "-i", "hello"]);
    let mut stream = UnixStream::connect(site.path("conn.sock")).unwrap();
    stream
        .write_all(b"<13>Nov 21 10:02:27 app[1]: one\0<13>Nov 21 10:02:27 app[1]: two\n")
        .unwrap();
    let device = UdpSocket::bind("127.0.0.1:0").unwrap();
    device.send_to(b"<134>Nov 21 10:02:27 switch7 ports: up", ("127.0.0.1", port)).unwrap();
    let records = running.wait_records(4);
    let of = |source: &str| {
        let mut found = records.iter().filter(|record| record.source == source);
        found.next().unwrap_or_else(|| panic!("nothing from {source}"))
    };
    let (uid, own) = (rustix::process::geteuid().as_raw(), std::process::id());
    let log = of("log");
    assert_eq!(
        (param(log, "peer"), param(log, "transport")),
        (format!("uid={uid},pid={pid}"), "unix".into())
    );
    assert_eq!(
        header(log)[1..],
        ["app".to_owned(), pid.to_string()],
        "{}",
        String::from_utf8_lossy(&log.entry)
    );
    assert!(log.line.ends_with(b"hello"));
    let conn = of("conn");
    assert_eq!(param(conn, "peer"), format!("uid={uid},pid={own}"));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(header(conn), [host, "app".into(), "1".into()]);
    assert_eq!(running.lines("conn").len(), 2);
    let old = of("old");
    assert_eq!(
        (param(old, "peer"), param(old, "transport")),
        (String::new(), "udp-unauthenticated".into())
    );
    assert_eq!(header(old)[..2], ["switch7", "ports"]);
    assert_eq!(old.line, b"<134>Nov 21 10:02:27 switch7 ports: up");
}

/// A node, and an agent that is configured and enrolled, and does not run.
pub fn ready(
    sources: impl FnOnce(&Site) -> String,
) -> (tempfile::TempDir, Site, logseal::site::Process) {
    let (dir, site) = new_site();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    site.configure_agent(&AgentOptions::new("gw01", sources(&site))).unwrap();
    let ledger = site.start_ledger().unwrap();
    site.enrol("gw01").unwrap();
    (dir, site, ledger)
}

fn agent_with_input(site: &Site, more: &[&str]) -> Child {
    Command::new(site.programs.path("logseal-agent"))
        .args(["run", "--config"])
        .arg(site.path("gw01.toml"))
        .args(more)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub fn stdin_source(_: &Site) -> String {
    "[[source.stdin]]\nname = \"in\"\n".to_owned()
}

pub fn lines_of(site: &Site) -> Vec<Vec<u8>> {
    logseal_tests::join_parts(records(site).1.into_iter())
}

#[test]
fn the_end_of_standard_input_is_the_end_of_the_agent_and_all_is_in_the_ledger() {
    let (_dir, site, _ledger) = ready(stdin_source);
    let mut agent = agent_with_input(&site, &[]);
    let mut input = agent.stdin.take().unwrap();
    let big: Vec<u8> = (0..300_000u32).map(|n| 11 + (n % 240) as u8).collect();
    let mut lines: Vec<Vec<u8>> = (0..5000).map(|n| format!("line {n}\r").into_bytes()).collect();
    lines.extend([b"\xff\0".to_vec(), big, b"the last one".to_vec()]);
    input.write_all(&lines.join(&b'\n')).unwrap();
    drop(input);
    let mut said = String::new();
    agent.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(agent.wait().unwrap().code(), Some(0), "{said}");
    assert!(lines_of(&site) == lines, "none lost, none twice, in order");
}

#[test]
fn an_input_that_ends_while_no_node_can_be_reached_is_kept() {
    let (_dir, site, mut ledger) = ready(stdin_source);
    let mut agent = agent_with_input(&site, &["--drain", "0"]);
    let mut input = agent.stdin.take().unwrap();
    input.write_all(b"one\n").unwrap();
    wait_for("the first line", || (!lines_of(&site).is_empty()).then_some(()));
    ledger.stop(LIMIT).unwrap();
    input.write_all(b"two").unwrap();
    drop(input);
    let mut said = String::new();
    agent.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(agent.wait().unwrap().code(), Some(0), "{said}");
    assert!(said.contains("the next start sends them"), "{said}");
    let _ledger = site.start_ledger().unwrap();
    let mut agent = agent_with_input(&site, &[]);
    drop(agent.stdin.take());
    assert_eq!(agent.wait().unwrap().code(), Some(0));
    assert_eq!(lines_of(&site), [&b"one"[..], b"two"]);
}

#[test]
fn a_socket_that_is_configured_otherwise_is_taken_over_while_the_agent_runs() {
    let socket = |kind: &'static str| {
        move |site: &Site| unix_source("log", &site.path("log.sock"), kind) + "mode = \"0600\"\n"
    };
    let (_dir, site, _ledger) = ready(socket("stream"));
    let agent = site.start_agent("gw01").unwrap();
    let path = site.path("log.sock");
    let mut old = wait_for("the socket", || UnixStream::connect(&path).ok());
    old.write_all(b"<13>one\n").unwrap();
    wait_for("the first line", || (lines_of(&site).len() == 1).then_some(()));
    let mode = || std::fs::metadata(&path).map(|found| found.permissions().mode() & 0o777).ok();
    assert_eq!(mode(), Some(0o600));
    for (kind, line) in [("stream", "two"), ("datagram", "three")] {
        let text = socket(kind)(&site).replace("0600", "0640");
        site.configure_agent(&AgentOptions::new("gw01", text)).unwrap();
        agent.signal(rustix::process::Signal::HUP).unwrap();
        wait_for(line, || match kind {
            "stream" => {
                mode().filter(|mode| *mode == 0o640)?;
                UnixStream::connect(&path).ok()?.write_all(line.as_bytes()).ok()
            }
            _ => {
                let sender = UnixDatagram::unbound().unwrap();
                sender.send_to(line.as_bytes(), &path).ok().map(drop)
            }
        });
    }
    old.write_all(b"<13>still there\n").unwrap();
    wait_for("all lines", || (lines_of(&site).len() == 4).then_some(()));
    assert!(lines_of(&site).contains(&b"<13>still there".to_vec()));
}
