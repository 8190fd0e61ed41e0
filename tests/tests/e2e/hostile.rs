//! Hostile clients of the TLS syslog port: strangers who say nothing or little, and senders with
//! a right certificate who abuse it. A file and an honest sender of the same agent go on getting
//! receipts, nothing of theirs is lost, and the agent's memory stays below what docs/operate.md
//! promises.

use logseal::site::{AgentOptions, LedgerOptions, Site, SyslogSender};
use logseal_tests::{LIMIT, Running, kong_source, new_site, wait_for};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// How many senders the agent lets in.
const MAX_CONNECTIONS: u64 = 64;

/// What long messages may take of it, in MiB.
const MAX_BUFFERED_MIB: u64 = 16;

/// What the agent may take beyond what it took before, in KiB, as docs/operate.md sums it up:
/// the budget, 320 KiB a sender, 64 KiB a handshake. The pipeline beside it holds some chunks and
/// a batch of long messages, which no sender can multiply.
const MAX_KIB: u64 = (MAX_BUFFERED_MIB << 10) + MAX_CONNECTIONS * 320 + 256 * 64 + (48 << 10);

/// The metric of lines that were taken over.
const LINES: &str = "logseal_agent_source_lines_total";

/// What is honest, and must not suffer.
struct Honest {
    running: Running,
    file: File,
    sender: SyslogSender,
    sent: u64,
    base_kib: u64,
    slowest: Duration,
}

impl Honest {
    fn start() -> Self {
        let (dir, mut site) = new_site();
        site.issue("syslog-client", "mallory").unwrap();
        let sources = |site: &Site| {
            format!(
                "{}max_connections = {MAX_CONNECTIONS}\nmax_buffered_mib = {MAX_BUFFERED_MIB}\n{}",
                site.syslog_source(),
                kong_source(site),
            )
        };
        let running = Running::on(dir, site, LedgerOptions::default(), |site| {
            AgentOptions::new("gw01", sources(site))
        });
        let file = File::create(running.site.path("kong.log")).unwrap();
        let sender = SyslogSender::connect(&running.site, "web01").unwrap();
        let none = Duration::ZERO;
        let mut honest = Honest { running, file, sender, sent: 0, base_kib: 0, slowest: none };
        for _ in 0..20 {
            honest.go_on();
        }
        honest.base_kib = honest.most_kib();
        honest
    }

    /// A line in the file and a message of the sender get their receipts.
    fn go_on(&mut self) {
        let start = Instant::now();
        self.sent += 1;
        writeln!(self.file, "line {}", self.sent).unwrap();
        self.sender.send(format!("<13>1 - - - - - - message {}", self.sent).as_bytes()).unwrap();
        let lines = wait_for("what is honest to be taken over", || {
            let text = self.running.meter().text().unwrap();
            let lines = ["kong", "syslog"].map(|source| count(&text, LINES, source));
            lines.iter().all(|lines| *lines >= self.sent).then_some(lines)
        });
        // Every line becomes a record at least.
        self.running.meter().wait_receipted(lines.iter().sum(), LIMIT).unwrap();
        self.slowest = self.slowest.max(start.elapsed());
    }

    /// The most memory that the agent ever had, in KiB.
    fn most_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.running.agent.pid());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Everything honest is in the ledger, in order, and memory stayed below its bound.
    fn check(&self, what: &str) {
        let numbered = |prefix: &str| -> Vec<Vec<u8>> {
            (1..=self.sent).map(|n| format!("{prefix}{n}").into_bytes()).collect()
        };
        let prefix = "<13>1 - - - - - - message ";
        let honest = |source, prefix: &str| {
            let mut lines = self.running.lines(source);
            lines.retain(|line| line.starts_with(prefix.as_bytes()));
            lines
        };
        wait_for("all that is honest", || {
            let all = honest("syslog", prefix).len() + honest("kong", "").len();
            (all as u64 >= 2 * self.sent).then_some(())
        });
        assert!(honest("kong", "") == numbered("line "), "{what}: lines of the file");
        assert!(honest("syslog", prefix) == numbered(prefix), "{what}: messages");
        let grown = self.most_kib() - self.base_kib;
        let (base, slowest) = (self.base_kib, self.slowest);
        println!(
            "{what}: the agent grew by {grown} KiB at most, from {base}; {MAX_KIB} are allowed; \
             {} honest pairs, the slowest took {slowest:?}",
            self.sent
        );
        assert!(grown <= MAX_KIB, "{what}: {grown} KiB more than before");
    }

    fn mallory(&self) -> SyslogSender {
        SyslogSender::connect(&self.running.site, "mallory").unwrap()
    }

    fn stranger(&self) -> TcpStream {
        self.running.site.reach_syslog().unwrap()
    }
}

/// A counter of one source.
fn count(metrics: &str, name: &str, source: &str) -> u64 {
    let label = format!("source=\"{source}\"");
    let line = metrics.lines().find(|line| line.starts_with(name) && line.contains(&label));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or(0)
}

/// As many connections as this process may have, up to 10,000.
fn allowed_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
    let allowed = limit.maximum.map_or(usize::MAX, |most| most as usize - 1000);
    allowed.min(10_000)
}

#[test]
fn ten_thousand_who_say_nothing_keep_nobody_out() {
    let mut honest = Honest::start();
    let wanted = allowed_connections();
    let mut silent: Vec<TcpStream> = Vec::new();
    while silent.len() < wanted {
        silent.extend((0..500).map(|_| honest.stranger()));
        honest.go_on();
        // One who comes while they hold all handshakes gets in.
        let mut late = SyslogSender::connect(&honest.running.site, "web01").unwrap();
        honest.sent += 1;
        late.send(format!("<13>1 - - - - - - message {}", honest.sent).as_bytes()).unwrap();
        late.close().unwrap();
        writeln!(honest.file, "line {}", honest.sent).unwrap();
        wait_for("the late one's message", || {
            let text = honest.running.meter().text().unwrap();
            let lines = count(&text, LINES, "syslog");
            (lines >= honest.sent).then_some(())
        });
    }
    honest.go_on();
    let text = honest.running.meter().text().unwrap();
    let refused = count(&text, "logseal_agent_source_refused_connections_total", "syslog");
    assert!(refused as usize >= wanted - 1000, "{refused} of {wanted}");
    honest.check(&format!("{} silent connections", silent.len()));
}

#[test]
fn handshakes_byte_by_byte_end_and_disturb_nobody() {
    let mut honest = Honest::start();
    // The head of a ClientHello of 512 bytes, whose end never comes.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 200]].concat();
    let mut slow: Vec<TcpStream> = (0..300).map(|_| honest.stranger()).collect();
    for (number, byte) in hello.iter().enumerate() {
        // Some are cut off while they write.
        slow.iter_mut().for_each(|stream| drop(stream.write(&[*byte])));
        if number % 20 == 0 {
            honest.go_on();
        }
    }
    for stream in &mut slow {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let ended = stream.read(&mut [0; 64]).map_err(|error| error.kind());
        let still_open = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
        assert!(!ended.is_err_and(|kind| still_open.contains(&kind)), "it is waited for for ever");
    }
    honest.go_on();
    honest.check("slow handshakes");
}

#[test]
fn senders_that_abuse_their_certificate_disturb_nobody() {
    let mut honest = Honest::start();
    let mut idle: Vec<SyslogSender> = (0..4).map(|_| honest.mallory()).collect();
    let mut huge = honest.mallory();
    let _ = huge.send_raw(b"999999999 <13>1 - - - - - - huge");
    let mut endless = honest.mallory();
    let noise = vec![b'x'; 64 << 10];
    assert!((0..200).any(|_| endless.send_raw(&noise).is_err()), "it is read for ever");
    honest.go_on();
    // Half of a message each: more of them than there is room for.
    let half = [b"1048576 ", &vec![b'h'; 512 << 10][..]].concat();
    let halves: Vec<_> = (0..40)
        .map(|_| {
            let (mut sender, half) = (honest.mallory(), half.clone());
            std::thread::spawn(move || {
                // Whoever finds no room waits in this, and is cut off in the end.
                let _ = sender.send_raw(&half);
                sender
            })
        })
        .collect();
    let mut trickle = honest.mallory();
    trickle.send_raw(b"1000 ").unwrap();
    let cut_off = "did not finish a long message in time";
    wait_for("those who occupy the budget to be cut off", || {
        honest.go_on();
        trickle.send_raw(b"t").unwrap();
        std::thread::park_timeout(Duration::from_millis(200));
        honest.running.agent.log_text().contains(cut_off).then_some(())
    });
    // A long message of an honest sender finds room as others are cut off.
    let mut long = SyslogSender::connect(&honest.running.site, "web01").unwrap();
    let message = [b"<13>1 - - - - - - long ", &vec![b'l'; 900 << 10][..]].concat();
    long.send(&message).unwrap();
    wait_for("the long message", || {
        honest.go_on();
        honest.running.lines("syslog").contains(&message).then_some(())
    });
    idle.iter_mut().for_each(|sender| sender.send(b"<13>1 - - - - - - late").unwrap());
    honest.check("abused certificates");
    drop((idle, trickle));
    honest.running.agent.kill().unwrap();
    halves.into_iter().for_each(|half| drop(half.join()));
}
