//! RELP with a stock rsyslog: the drop-in as it is shipped, plain on loopback, and its restart.

use crate::rsyslog::{self, Rsyslog};
use logseal::site::Site;
use logseal_tests::{Running, wait_for};
use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// A port for an agent that is killed and started again: none that the system gives to clients
/// meanwhile.
pub fn lasting_port() -> u16 {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let first = u64::from(std::process::id()).wrapping_mul(7919) % 20_000;
    (0..20_000)
        .map(|_| TURN.fetch_add(1, Ordering::Relaxed))
        .map(|n| 10_000 + ((first + n * 37) % 20_000) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("some port is free")
}

/// A `[[source.relp]]` table without TLS.
pub fn plain_source(port: u16) -> String {
    format!("[[source.relp]]\nname = \"relp\"\nlisten = \"127.0.0.1:{port}\"\nplain = true\n")
}

/// The same with TLS.
pub fn tls_source(port: u16) -> String {
    format!("[[source.relp]]\nname = \"relp\"\nlisten = \"127.0.0.1:{port}\"\n")
}

/// What makes rsyslogd send by RELP without TLS: all as it comes, but for patience, order, and
/// bytes as they are.
pub fn plain_action(port: u16) -> String {
    format!(
        "module(load=\"omrelp\")\nglobal(maxMessageSize=\"64k\")\nmain_queue(queue.workerThreads=\"1\")\n{}",
        action(port)
    )
}

/// One more action of that kind.
pub fn action(port: u16) -> String {
    format!(
        "action(type=\"omrelp\" target=\"127.0.0.1\" port=\"{port}\" \
         template=\"RSYSLOG_SyslogProtocol23Format\" \
         queue.type=\"LinkedList\" queue.size=\"200000\" queue.workerThreads=\"1\" \
         queue.timeoutEnqueue=\"60000\" queue.discardSeverity=\"8\" \
         action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\")\n"
    )
}

/// The shipped drop-in, its paths and port replaced by the site's.
fn drop_in(site: &Site, port: u16) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/rsyslog-logseal-relp.conf");
    let mut text = fs::read_to_string(path).unwrap();
    let file = |path: std::path::PathBuf| path.display().to_string();
    for (from, to) in [
        ("port=\"2514\"", format!("port=\"{port}\"")),
        ("/etc/logseal/tls/ca.pem", file(site.path("pki/ca.pem"))),
        ("/etc/logseal/tls/rsyslog.pem", file(site.cert("syslog-client", "web01"))),
        ("/etc/logseal/tls/rsyslog.key", file(site.key("syslog-client", "web01"))),
    ] {
        assert!(text.contains(from), "the drop-in has {from}");
        text = text.replace(from, &to);
    }
    text
}

/// Starts node and agent, and waits until the agent listens: rsyslog 8.2302 puts the first message
/// of all into its queue a second time if its very first connection is refused.
pub fn listening(sources: impl FnOnce(&Site) -> String, port: u16) -> Running {
    let running = Running::start(sources);
    wait_for("the agent to listen", || TcpStream::connect(("127.0.0.1", port)).ok());
    running
}

/// Messages that are each unlike all others.
pub fn messages(from: usize, to: usize) -> Vec<Vec<u8>> {
    let message =
        |n| format!("<134>1 2026-11-21T08:00:00.000001Z web01 app - - - load {n:08}").into_bytes();
    (from..to).map(message).collect()
}

/// Waits until the last of `sent` has arrived, and demands that all did, once and in order.
pub fn expect_all(running: &Running, sent: &[Vec<u8>]) {
    expect_all_of("relp", running, sent);
}

/// The same of another source than `relp`.
pub fn expect_all_of(source: &str, running: &Running, sent: &[Vec<u8>]) {
    let last = sent.last().unwrap();
    let lines = wait_for("the last message", || {
        let lines = running.lines(source);
        lines.contains(last).then_some(lines)
    });
    let known: std::collections::HashSet<&Vec<u8>> = sent.iter().collect();
    let found: Vec<&Vec<u8>> = lines.iter().filter(|line| known.contains(line)).collect();
    let mut once = found.clone();
    once.sort_unstable();
    once.dedup();
    let log = running.agent.log_tail();
    assert_eq!((sent.len() - once.len(), found.len() - once.len()), (0, 0), "lost, twice\n{log}");
    assert!(found.iter().zip(sent).all(|(found, sent)| *found == sent), "in order");
}

fn various() -> Vec<Vec<u8>> {
    let long: String = "x".repeat(60_000);
    let message = |n: usize| match n % 5 {
        0 => format!("<134>1 2026-11-21T08:00:00.{n:06}Z web01 app 77 ID{n} - plain text {n}"),
        1 => format!(
            "<134>1 2026-11-21T08:00:00.000001Z web01 app - - [a@1 n=\"{n}\"][b@2] 戶籍 {n}"
        ),
        2 => format!("<13>1 2026-11-21T08:00:00+08:00 web01 app - - - tab\there, blanks   {n} "),
        3 => format!("<165>1 2026-11-21T08:00:00Z web01 app - - - \u{feff}BOM {n}\nsecond line"),
        _ if n == 499 => format!("<134>1 2026-11-21T08:00:00Z web01 app - - - {long}{n}"),
        _ => format!("<134>1 2026-11-21T08:00:00Z web01 app - - - {{\"n\":{n}}}"),
    };
    (0..500).map(|n| message(n).into_bytes()).collect()
}

fn sends(running: &Running, rsyslog: &Rsyslog, messages: &[Vec<u8>]) {
    let mut stream = TcpStream::connect(("127.0.0.1", rsyslog.port)).unwrap();
    rsyslog::send(&mut stream, messages);
    drop(stream);
    expect_all(running, messages);
}

#[test]
fn the_shipped_drop_in_delivers_byte_for_byte_over_tls() {
    let port = lasting_port();
    let running = listening(|_| tls_source(port), port);
    let rsyslog = rsyslog::start_with(&running.site, &drop_in(&running.site, port));
    sends(&running, &rsyslog, &various());
    let records = running.records();
    assert!(records.iter().filter(|r| r.source == "relp").all(|r| r.peer.contains("web01")));
}

#[test]
fn the_openssl_driver_delivers_as_well() {
    let port = lasting_port();
    let running = listening(|_| tls_source(port), port);
    let text = drop_in(&running.site, port)
        .replace("module(load=\"omrelp\")", "module(load=\"omrelp\" tls.tlslib=\"openssl\")");
    let rsyslog = rsyslog::start_with(&running.site, &text);
    sends(&running, &rsyslog, &messages(0, 500));
}

#[test]
fn without_tls_records_say_so() {
    let port = lasting_port();
    let running = listening(|_| plain_source(port), port);
    let rsyslog = rsyslog::start_with(&running.site, &plain_action(port));
    sends(&running, &rsyslog, &various());
    let records = running.records();
    let entry = |r: &logseal_tests::Record| String::from_utf8_lossy(&r.entry).into_owned();
    let ours = records.iter().filter(|r| r.source == "relp");
    assert!(ours.clone().all(|r| entry(r).contains("transport=\"relp-loopback\"")));
    assert!(ours.clone().all(|r| r.peer.is_empty()));
}

#[test]
fn a_restart_of_rsyslog_loses_and_repeats_nothing() {
    let port = lasting_port();
    let running = listening(|_| tls_source(port), port);
    let text = drop_in(&running.site, port);
    let mut sent = Vec::new();
    for round in 0..3 {
        let rsyslog = rsyslog::start_with(&running.site, &text);
        let mut stream = TcpStream::connect(("127.0.0.1", rsyslog.port)).unwrap();
        let more = messages(round * 2000, (round + 1) * 2000);
        rsyslog::send(&mut stream, &more);
        drop(stream);
        sent.extend(more);
        // What lies in its socket is not rsyslogd's yet: so it has taken all.
        let last = sent.last().unwrap();
        wait_for("the last message", || running.lines("relp").contains(last).then_some(()));
        rsyslog.stop();
    }
    expect_all(&running, &sent);
}

/// Prints how fast it is; how fast it must be is for a quiet machine and optimised programs.
#[test]
fn a_stock_sender_with_its_default_window_is_fast() {
    const COUNT: usize = 100_000;
    let port = lasting_port();
    let running = listening(|_| plain_source(port), port);
    let action = plain_action(port).replace("queue.size=\"200000\"", "queue.size=\"400000\"");
    let rsyslog = rsyslog::start_with(&running.site, &action);
    let sent = messages(0, COUNT);
    let mut stream = TcpStream::connect(("127.0.0.1", rsyslog.port)).unwrap();
    let (start, cpu) = (Instant::now(), running.agent.cpu_time().unwrap());
    rsyslog::send(&mut stream, &sent);
    running.wait_receipted(COUNT as u64);
    let (took, cpu) = (start.elapsed(), running.agent.cpu_time().unwrap().saturating_sub(cpu));
    let (rate, micros) =
        (COUNT as f64 / took.as_secs_f64(), cpu.as_secs_f64() * 1e6 / COUNT as f64);
    let text =
        format!("RELP, default window: {rate:.0} messages/s, agent {micros:.1} µs a message\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    expect_all(&running, &sent);
}
