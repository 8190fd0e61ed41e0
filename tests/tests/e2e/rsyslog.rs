//! A stock rsyslog with the drop-in as it is shipped.

use logseal::site::Site;
use logseal_tests::{Running, wait_for};
use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

/// A running rsyslogd; killed when dropped.
pub struct Rsyslog {
    child: Child,
    /// Where it takes messages over plain TCP, on loopback.
    pub port: u16,
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Rsyslog {
    /// Stops it as the system does, and waits for its end.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }
}

/// Starts rsyslogd with the shipped drop-in, its paths and port replaced by the site's.
pub fn start(site: &Site) -> Rsyslog {
    let drop_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/rsyslog-logseal.conf");
    let drop_in = fs::read_to_string(drop_in).unwrap();
    let replace = |text: String, from: &str, to: String| {
        assert!(text.contains(from), "the drop-in has {from}");
        text.replace(from, &to)
    };
    let file = |path: std::path::PathBuf| path.display().to_string();
    let mut text = drop_in;
    text = replace(text, "port=\"6514\"", format!("port=\"{}\"", site.syslog_port));
    text = replace(text, "/etc/logseal/tls/ca.pem", file(site.path("pki/ca.pem")));
    text = replace(text, "/etc/logseal/tls/rsyslog.pem", file(site.cert("syslog-client", "web01")));
    text = replace(text, "/etc/logseal/tls/rsyslog.key", file(site.key("syslog-client", "web01")));
    start_with(site, &text)
}

/// Starts rsyslogd, which takes messages over plain TCP, with this configuration of what it does
/// with them.
pub fn start_with(site: &Site, text: &str) -> Rsyslog {
    let [port] = logseal::site::free_ports().unwrap();
    let work = site.path("rsyslog");
    fs::create_dir_all(&work).unwrap();
    let conf = format!(
        "global(workDirectory={work:?} parser.escapeControlCharactersOnReceive=\"off\" parser.dropTrailingLFOnReception=\"off\")\n\
         module(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n{text}\n"
    );
    let rsyslog = run(site, &conf, port);
    wait_for("rsyslogd to listen", || TcpStream::connect(("127.0.0.1", port)).ok());
    rsyslog
}

/// Starts rsyslogd with this configuration.
pub fn run(site: &Site, conf: &str, port: u16) -> Rsyslog {
    let path = site.path("rsyslog.conf");
    fs::write(&path, conf).unwrap();
    let log = fs::File::create(site.path("rsyslog.log")).unwrap();
    let child = Command::new("/usr/sbin/rsyslogd")
        .arg("-n")
        .arg("-f")
        .arg(&path)
        .arg("-i")
        .arg(site.path("rsyslog.pid"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Rsyslog { child, port }
}

/// Hands messages to rsyslogd, each counted in octets.
pub fn send(stream: &mut TcpStream, messages: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    for message in messages {
        bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
        bytes.extend_from_slice(message);
    }
    stream.write_all(&bytes).unwrap();
}

#[test]
fn messages_of_a_stock_rsyslog_arrive_byte_for_byte() {
    let running = Running::start(Site::syslog_source);
    let rsyslog = start(&running.site);
    let long: String = "x".repeat(40_000);
    let messages: Vec<Vec<u8>> = (0..500)
        .map(|n| match n % 5 {
            0 => format!("<134>1 2026-11-21T08:00:00.{n:06}Z web01 app 77 ID{n} - plain text {n}"),
            1 => format!(
                "<134>1 2026-11-21T08:00:00.000001Z web01 app - - [a@1 n=\"{n}\"][b@2] 戶籍 {n}"
            ),
            2 => {
                format!("<13>1 2026-11-21T08:00:00+08:00 web01 app - - - tab\there, blanks   {n} ")
            }
            3 => format!("<165>1 2026-11-21T08:00:00Z web01 app - - - \u{feff}BOM {n}"),
            _ if n == 499 => format!("<134>1 2026-11-21T08:00:00Z web01 app - - - {long}{n}"),
            _ => format!(
                "<134>1 2026-11-21T08:00:00Z web01 app - - - {{\"json\":\"\\u{n:04}\",\"n\":{n}}}"
            ),
        })
        .map(String::into_bytes)
        .collect();
    let mut stream = TcpStream::connect(("127.0.0.1", rsyslog.port)).unwrap();
    send(&mut stream, &messages);
    drop(stream);
    let sent: std::collections::HashSet<&Vec<u8>> = messages.iter().collect();
    let found = wait_for("all messages", || {
        let lines = running.lines("syslog");
        let ours = lines.iter().filter(|line| sent.contains(line)).count();
        if ours < messages.len() && lines.len() > messages.len() + 20 {
            panic!("altered on the way: {:?}", lines.iter().find(|l| !sent.contains(l)));
        }
        (ours >= messages.len()).then_some(lines)
    });
    let ours: Vec<&Vec<u8>> = found.iter().filter(|line| sent.contains(line)).collect();
    assert_eq!(ours.len(), messages.len(), "each exactly once");
    assert!(ours.iter().zip(&messages).all(|(found, sent)| *found == sent), "in order");
}
