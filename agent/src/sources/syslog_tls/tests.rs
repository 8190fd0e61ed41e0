//! Receiving from senders over real TLS connections, good ones and bad ones.

use std::{fmt::Write as _, io::Write, path::PathBuf, sync::Mutex};

use certs::{LEAF_DAYS, Pki, Request, Timestamp, Validity};
use link::tls::{ClientSettings, ReloadingClient, TlsStream, connect};
use pipeline::line::SourceId;
use tokio::{
    io::duplex,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::subscriber::DefaultGuard;

use super::*;
use crate::sources::{
    Phase, SourceStats,
    entrance::HANDSHAKES,
    listener::{STOP, bind},
};
use crate::tickets::Tickets;

/// What takes longer than this will not happen.
const BOUND: Duration = Duration::from_secs(30);

/// A listener with its own authority.
struct Bench {
    _dir: tempfile::TempDir,
    pki: Pki,
    address: SocketAddr,
    rx: mpsc::Receiver<SourceEvent>,
    stop: watch::Sender<Phase>,
    stats: Arc<SourceStats>,
    serving: JoinHandle<()>,
    log: Log,
    _guard: DefaultGuard,
}

/// What the program logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

fn log_here() -> (Log, DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    (log, tracing::subscriber::set_default(subscriber.finish()))
}

fn config(listen: SocketAddr) -> SyslogTlsConfig {
    SyslogTlsConfig { max_message: MIN_LIMIT, ..SyslogTlsConfig::new(listen) }
}

fn issue(pki: &Pki, role: Role, name: &str) -> TlsFiles {
    let now = Timestamp::from(std::time::SystemTime::now());
    let validity = Validity::days(now, LEAF_DAYS).unwrap();
    let issued = pki.issue(&Request::new(role.as_str(), name, validity).unwrap()).unwrap();
    let (cert, key): (PathBuf, PathBuf) = (issued.certificate, issued.key);
    TlsFiles { ca: pki.ca(), cert, key, crl: Some(pki.crl()) }
}

fn outlet(
    events: mpsc::Sender<SourceEvent>,
    shutdown: Shutdown,
    stats: Arc<SourceStats>,
) -> Outlet {
    Outlet { id: SourceId(5), events, shutdown, stats, tickets: Tickets::default() }
}

impl Bench {
    fn new(capacity: usize, change: fn(&mut SyslogTlsConfig)) -> Self {
        let (log, guard) = log_here();
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from(std::time::SystemTime::now());
        let days = Validity::days(now, 3650).unwrap();
        let pki = Pki::init(&dir.path().join("pki"), "Test CA", days, now).unwrap();
        let server = ReloadingServer::open(tls_settings(issue(&pki, Role::Agent, "gw01"))).unwrap();
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = config(address);
        change(&mut config);
        let (tx, rx) = mpsc::channel(capacity);
        let (stop, shutdown) = watch::channel(Phase::Run);
        let stats = Arc::new(SourceStats::default());
        let outlet = outlet(tx, shutdown, Arc::clone(&stats));
        let serve = serve(listener, Arc::new(server), config, outlet);
        let serving = tokio::spawn(serve);
        Bench { _dir: dir, pki, address, rx, stop, stats, serving, log, _guard: guard }
    }

    async fn client(&self, role: Role, name: &str) -> TlsStream<TcpStream> {
        let files = issue(&self.pki, role, name);
        let client = ReloadingClient::open(ClientSettings::new(files, &[])).unwrap();
        let connected = connect(self.address, "localhost", &client, Role::Agent, BOUND).await;
        connected.unwrap().0
    }

    async fn sender(&self, name: &str) -> TlsStream<TcpStream> {
        self.client(Role::SyslogClient, name).await
    }

    /// The next lines, and who sent them.
    async fn lines(&mut self, count: usize) -> Vec<(String, Vec<u8>)> {
        receive_lines(&mut self.rx, count).await
    }

    async fn until(&self, what: &str, condition: impl Fn(&SourceStats) -> bool) {
        let start = Instant::now();
        while !condition(&self.stats) {
            assert!(start.elapsed() < BOUND, "{what}: {}", self.log.text());
            tokio::task::yield_now().await;
        }
    }
}

async fn receive_lines(
    rx: &mut mpsc::Receiver<SourceEvent>,
    count: usize,
) -> Vec<(String, Vec<u8>)> {
    let mut lines = Vec::new();
    while lines.len() < count {
        let event = timeout(BOUND, rx.recv()).await.unwrap_or_else(|_| panic!("only {lines:?}"));
        let SourceEvent::Chunk(chunk) = event.expect("the source runs") else { panic!() };
        assert_eq!(chunk.source, SourceId(5));
        let ChunkOrigin::Sender { peer: Some(peer), transport: None } = &chunk.origin else {
            panic!("{chunk:?}")
        };
        lines.extend(chunk.iter().map(|line| (peer.to_string(), line.to_vec())));
    }
    lines
}

fn from(peer: &str, lines: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
    lines.iter().map(|line| (peer.to_owned(), line.to_vec())).collect()
}

fn load(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test]
async fn messages_arrive_at_once_with_the_name_of_their_sender() {
    let mut bench = Bench::new(4, |_| {});
    let mut one = bench.sender("web-1").await;
    let mut two = bench.sender("web-2").await;
    one.write_all(b"<13>1 a\n7 <13>1 b").await.unwrap();
    assert_eq!(bench.lines(2).await, from("web-1", &[b"<13>1 a", b"<13>1 b"]));
    two.write_all(b"6 <1>ab\n\n\n<2>c").await.unwrap();
    assert_eq!(bench.lines(1).await, from("web-2", &[b"<1>ab"]));
    two.write_all(b"d\r\n").await.unwrap();
    assert_eq!(bench.lines(1).await, from("web-2", &[b"<2>cd\r"]));
    assert_eq!(load(&bench.stats.open_connections), 2);
    assert_eq!((load(&bench.stats.lines), load(&bench.stats.accepted_connections)), (4, 2));
    drop((one, two));
    bench.until("both are gone", |stats| load(&stats.open_connections) == 0).await;
    assert_eq!(load(&bench.stats.partial_messages), 0);
}

#[tokio::test]
async fn who_is_no_syslog_client_is_refused_and_named_and_disturbs_nobody() {
    let mut bench = Bench::new(4, |_| {});
    let mut good = bench.sender("web-1").await;
    let mut plain = TcpStream::connect(bench.address).await.unwrap();
    plain.write_all(b"<13>1 this is not TLS, and it is long enough to tell\n").await.unwrap();
    bench.until("plain text is refused", |stats| load(&stats.refused_connections) == 1).await;
    let mut auditor = bench.client(Role::Auditor, "eve").await;
    let _ = auditor.write_all(b"<13>1 forged\n").await;
    bench.until("the role is refused", |stats| load(&stats.refused_connections) == 2).await;

    good.write_all(b"<13>1 genuine\n").await.unwrap();
    assert_eq!(bench.lines(1).await, from("web-1", &[b"<13>1 genuine"]));
    let log = bench.log.text();
    let address = plain.local_addr().unwrap().to_string();
    assert!(log.contains(&address) && log.contains("the peer sent plain text"), "{log}");
    assert_eq!(log.matches("connection was refused").count(), 2, "one for each kind: {log}");
    assert_eq!(load(&bench.stats.open_connections), 1);
}

#[tokio::test]
async fn a_sender_that_breaks_the_framing_is_named_and_what_it_sent_is_kept() {
    let mut bench = Bench::new(4, |_| {});
    let mut good = bench.sender("web-1").await;
    let mut bad = bench.sender("web-2").await;
    bad.write_all(b"<1>a\n99999999 <1>b").await.unwrap();
    assert_eq!(bench.lines(2).await, from("web-2", &[b"<1>a", b"99999999 <1>b"]));
    assert_eq!(timeout(BOUND, bad.read(&mut [0; 8])).await.unwrap().unwrap(), 0, "closed");
    let mut endless = bench.sender("web-3").await;
    endless.write_all(&vec![b'x'; MIN_LIMIT + 10]).await.unwrap();
    let lines = bench.lines(2).await;
    assert_eq!(lines.iter().map(|line| line.1.len()).collect::<Vec<_>>(), [MIN_LIMIT, 10]);
    bench.until("both are counted", |stats| load(&stats.frame_errors) == 2).await;
    good.write_all(b"<1>c\n").await.unwrap();
    assert_eq!(bench.lines(1).await, from("web-1", &[b"<1>c"]));
    let log = bench.log.text();
    assert!(log.contains("peer=web-2") && log.contains("99999999 bytes"), "{log}");
    assert!(log.contains("peer=web-3") && log.contains("does not end"), "{log}");
}

#[tokio::test]
async fn a_message_that_a_broken_connection_cut_short_is_recorded() {
    let mut bench = Bench::new(4, |_| {});
    for (sent, expected, hint) in [
        (&b"<1>a\n20 <1>partial"[..], &[&b"<1>a"[..], b"<1>partial"][..], "missing=10"),
        (b"<1>b\n<1>open", &[b"<1>b", b"<1>open"], "received=7"),
    ] {
        let mut sender = bench.sender(&format!("web-{}", expected[0][3] as char)).await;
        sender.write_all(sent).await.unwrap();
        sender.flush().await.unwrap();
        let mut lines = bench.lines(1).await;
        // Without a close_notify.
        drop(sender);
        lines.extend(bench.lines(1).await);
        assert_eq!(lines.into_iter().map(|line| line.1).collect::<Vec<_>>(), expected);
        bench.until(hint, |_| bench.log.text().contains(hint)).await;
    }
    assert_eq!(load(&bench.stats.partial_messages), 2);
}

#[tokio::test]
async fn a_slow_pipeline_makes_the_sender_wait_and_loses_nothing() {
    const LINES: usize = 200_000;
    let mut bench = Bench::new(1, |_| {});
    let mut sender = bench.sender("web-1").await;
    let text = (0..LINES).fold(String::new(), |mut text, line| {
        let message = format!("<13>1 - host app - - - message {line}");
        let counted = line % 2 == 0;
        let header = if counted { format!("{} ", message.len()) } else { String::new() };
        writeln!(text, "{header}{message}").unwrap();
        text
    });
    // A counted message's line feed that was not counted in is an empty frame.
    let mut writing = tokio::spawn(async move {
        sender.write_all(text.as_bytes()).await.unwrap();
        sender.shutdown().await.unwrap();
    });
    bench.until("the channel is full", |_| bench.rx.len() == 1).await;
    assert!(timeout(Duration::from_millis(200), &mut writing).await.is_err(), "it must wait");
    let lines = bench.lines(LINES).await;
    writing.await.unwrap();
    let expected = |line| format!("<13>1 - host app - - - message {line}");
    assert!(lines.into_iter().map(|line| line.1).eq((0..LINES).map(|n| expected(n).into_bytes())));
}

#[tokio::test]
async fn more_senders_than_allowed_wait_outside_until_one_has_left() {
    let mut bench = Bench::new(4, |config| config.max_connections = 1);
    let first = bench.sender("web-1").await;
    bench.until("the first is in", |stats| load(&stats.open_connections) == 1).await;
    let mut second = TcpStream::connect(bench.address).await.unwrap();
    assert_eq!(second.read(&mut [0; 8]).await.unwrap_or(0), 0, "closed at once");
    assert!(bench.log.text().contains("1 senders are connected already"));
    drop(first);
    bench.until("the first is out", |stats| load(&stats.open_connections) == 0).await;
    let mut third = bench.sender("web-3").await;
    third.write_all(b"<1>c\n").await.unwrap();
    assert_eq!(bench.lines(1).await, from("web-3", &[b"<1>c"]));
}

#[tokio::test]
async fn a_stop_hands_over_what_has_arrived() {
    let mut bench = Bench::new(1, |_| {});
    let mut sender = bench.sender("web-1").await;
    // More than a chunk: one is in the channel, one waits, and the rest is in the socket.
    let line = |number| format!("<1>{number} {}", "x".repeat(600));
    let text: String = (0..1000).map(|number| line(number) + "\n").collect();
    sender.write_all(text.as_bytes()).await.unwrap();
    sender.flush().await.unwrap();
    bench.until("the channel is full", |_| bench.rx.len() == 1).await;
    bench.stop.send(Phase::Stop).unwrap();
    let lines = bench.lines(1000).await;
    assert!(lines.into_iter().map(|line| line.1).eq((0..1000).map(|n| line(n).into_bytes())));
    timeout(BOUND, bench.serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(bench.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_stop_does_not_hang_although_nobody_takes_the_messages() {
    let bench = Bench::new(1, |_| {});
    let mut sender = bench.sender("web-1").await;
    let writing = tokio::spawn(async move { while sender.write_all(b"<1>a\n").await.is_ok() {} });
    bench.until("the channel is full", |_| bench.rx.len() == 1).await;
    bench.stop.send(Phase::Stop).unwrap();
    timeout(STOP + Duration::from_secs(5), bench.serving).await.unwrap().unwrap();
    writing.abort();
}

#[tokio::test]
async fn an_arrival_is_decoded_the_same_however_the_network_cuts_it() {
    let (_log, _guard) = log_here();
    for size in [1, 2, 3, 7, 4096] {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from(std::time::SystemTime::now());
        let days = Validity::days(now, 3650).unwrap();
        let pki = Pki::init(&dir.path().join("pki"), "Test CA", days, now).unwrap();
        let files = issue(&pki, Role::Agent, "gw01");
        let server = Arc::new(ReloadingServer::open(tls_settings(files)).unwrap());
        let ((tx, mut rx), (_stop, shutdown)) = (mpsc::channel(64), watch::channel(Phase::Run));
        let outlet = outlet(tx, shutdown, Arc::default());
        let gate = Arc::new(Gate::new(outlet.id, Arc::clone(&outlet.stats)));
        let address = "127.0.0.1:1".parse().unwrap();
        let (config, budget) = (config(address), Semaphore::new(8 << 10));
        let door = Door { server, config, budget, outlet, gate };
        let (mut near, far) = duplex(size);
        let write = async move {
            near.write_all(b"<1>a\n5 <1>bc<1>d\n10 <1>e").await.unwrap();
        };
        let receive = door.receive(far, "web-1".into(), address);
        let ((), (), lines) = tokio::join!(write, receive, receive_lines(&mut rx, 4));
        assert_eq!(lines, from("web-1", &[b"<1>a", b"<1>bc", b"<1>d", b"<1>e"]));
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_before_anything_has_started() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let error = bind(address).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
    assert!(error.contains("in use by another program"), "{error}");
    let error = bind("192.0.2.1:6514".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("this machine has no such address"), "{error}");
}

#[test]
fn a_limit_that_would_lose_messages_is_refused() {
    let good = config("127.0.0.1:0".parse().unwrap());
    assert_eq!(good.check(), Ok(()));
    let small = SyslogTlsConfig { max_message: 1000, ..good.clone() };
    assert_eq!(small.check(), Err(SyslogTlsConfigError::MaxMessage(1000)));
    let closed = SyslogTlsConfig { max_connections: 0, ..good };
    assert!(closed.check().unwrap_err().to_string().contains("use at least 1"));
}

#[tokio::test]
async fn a_listener_that_retires_frees_its_address_and_loses_nothing_of_those_it_has() {
    let mut bench = Bench::new(64, |_| {});
    let mut sender = bench.sender("web-1").await;
    sender.write_all(b"<1>before\n").await.unwrap();
    assert_eq!(bench.lines(1).await, from("web-1", &[b"<1>before"]));
    bench.stop.send(Phase::Retire).unwrap();
    let address = bench.address;
    let next = timeout(BOUND, async {
        loop {
            match bind(address) {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    drop(next.await.expect("the address is free"));
    sender.write_all(b"<1>after\n").await.unwrap();
    assert_eq!(bench.lines(1).await, from("web-1", &[b"<1>after"]));
    sender.shutdown().await.unwrap();
    drop(sender);
    timeout(BOUND, bench.serving).await.expect("it ends with its last sender").unwrap();
}

#[tokio::test]
async fn strangers_who_say_nothing_keep_nobody_out() {
    let mut bench = Bench::new(4, |config| config.max_connections = 2);
    let mut silent = Vec::new();
    for _ in 0..2 * HANDSHAKES {
        silent.push(TcpStream::connect(bench.address).await.unwrap());
    }
    bench.until("the longest were cut off", |stats| load(&stats.refused_connections) >= 200).await;
    let mut sender = bench.sender("web-1").await;
    sender.write_all(b"<1>a\n").await.unwrap();
    assert_eq!(bench.lines(1).await, from("web-1", &[b"<1>a"]));
    assert_eq!(timeout(BOUND, silent[0].read(&mut [0; 8])).await.unwrap().unwrap_or(0), 0);
    let log = bench.log.text();
    assert!(log.contains("256 others came in while its handshake was under way"), "{log}");
}

#[tokio::test]
async fn who_occupies_the_budget_is_cut_off_and_the_next_goes_on() {
    let mut bench = Bench::new(4, |config| {
        config.max_message = MAX_LIMIT;
        config.max_buffered = MIN_BUFFERED;
        config.patience = Duration::from_millis(300);
    });
    let half = [b"3000000 ", &vec![b'h'; 1 << 20][..]].concat();
    let mut hostile = Vec::new();
    for number in 0..3 {
        let (mut sender, half) = (bench.sender(&format!("mallory-{number}")).await, half.clone());
        hostile.push(tokio::spawn(async move {
            let _ = sender.write_all(&half).await;
            sender
        }));
    }
    let mut honest = bench.sender("web-1").await;
    honest.write_all(b"<1>short\n").await.unwrap();
    assert_eq!(bench.lines(1).await, from("web-1", &[b"<1>short"]));
    let long = vec![b'l'; 2 << 20];
    let message = [b"2097152 ", &long[..]].concat();
    let writing = tokio::spawn(async move {
        honest.write_all(&message).await.unwrap();
        honest
    });
    let mut lines = bench.lines(4).await;
    lines.retain(|(peer, _)| peer == "web-1");
    assert!(lines == from("web-1", &[&long]), "whatever came of the others is kept as well");
    bench.until("all three are counted", |stats| load(&stats.partial_messages) == 3).await;
    let log = bench.log.text();
    assert!(log.contains("did not finish a long message in time"), "{log}");
    drop((writing.await.unwrap(), hostile));
}
