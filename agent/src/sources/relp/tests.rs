//! Clients on loopback, good ones and bad ones; the test decides when something is durable.

use pipeline::line::{Bookmark, Chunk, ChunkOrigin, SourceEvent, SourceId};
use tokio::{io::AsyncReadExt, sync::watch, task::JoinHandle};

use super::*;
use crate::{
    sources::{Phase, SourceStats, listener::bind},
    tickets::Tickets,
};

/// What takes longer than this will not happen.
const BOUND: Duration = Duration::from_secs(30);

const OPEN: &[u8] = b"1 open 30 relp_version=0\ncommands=syslog\n";

struct Bench {
    address: SocketAddr,
    rx: mpsc::Receiver<SourceEvent>,
    tickets: Tickets,
    stats: Arc<SourceStats>,
    stop: watch::Sender<Phase>,
    serving: JoinHandle<Known>,
}

impl Bench {
    fn new(known: Known, change: fn(&mut RelpConfig)) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = RelpConfig::new(address);
        config.undecided = Duration::from_millis(50);
        change(&mut config);
        let (events, rx) = mpsc::channel(8);
        let (stop, shutdown) = watch::channel(Phase::Run);
        let (stats, tickets) = (Arc::<SourceStats>::default(), Tickets::default());
        let id = SourceId(0);
        let outlet =
            Outlet { id, events, shutdown, stats: Arc::clone(&stats), tickets: tickets.clone() };
        let serving = tokio::spawn(serve(listener, None, config, known, outlet));
        Bench { address, rx, tickets, stats, stop, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A client whose session is open.
    async fn client(&self) -> TcpStream {
        let mut client = self.connect().await;
        client.write_all(OPEN).await.unwrap();
        let opened = answer(&mut client, b"commands=syslog\n").await;
        assert!(opened.starts_with("1 rsp "), "{opened}");
        client
    }

    async fn chunk(&mut self) -> Chunk {
        let event = timeout(BOUND, self.rx.recv()).await.unwrap().unwrap();
        let SourceEvent::Chunk(chunk) = event else { panic!("{event:?}") };
        chunk
    }

    /// The next lines, of which nothing is durable yet.
    async fn lines(&mut self, count: usize) -> (Vec<String>, Vec<Chunk>) {
        let (mut lines, mut chunks) = (Vec::new(), Vec::new());
        while lines.len() < count {
            let chunk = self.chunk().await;
            lines.extend(chunk.iter().map(|line| String::from_utf8_lossy(line).into_owned()));
            chunks.push(chunk);
        }
        (lines, chunks)
    }

    /// Takes the next lines, and makes them durable.
    async fn take(&mut self, count: usize) -> Vec<String> {
        let (lines, chunks) = self.lines(count).await;
        self.settle(&chunks);
        lines
    }

    fn settle(&self, chunks: &[Chunk]) {
        chunks.iter().for_each(|chunk| self.tickets.settle(&[chunk.ticket.unwrap()]));
    }

    async fn until(&self, what: &str, condition: impl Fn(&SourceStats) -> bool) {
        let start = std::time::Instant::now();
        while !condition(&self.stats) {
            assert!(start.elapsed() < BOUND, "{what}: {:?}", self.stats);
            tokio::task::yield_now().await;
        }
    }

    async fn stop(self) -> Known {
        self.stop.send_replace(Phase::Stop);
        timeout(BOUND, self.serving).await.unwrap().unwrap()
    }
}

fn load(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(std::sync::atomic::Ordering::Relaxed)
}

/// Messages as omrelp frames them: the line feed is counted.
fn frames(first: u32, messages: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for (txnr, message) in (first..).zip(messages) {
        out.extend(format!("{txnr} syslog {} {message}\n\n", message.len() + 1).bytes());
    }
    out
}

/// Reads up to and with these bytes.
async fn answer(client: &mut TcpStream, end: &[u8]) -> String {
    let mut got = Vec::new();
    while !got.ends_with(end) {
        let mut byte = [0];
        let read = timeout(BOUND, client.read(&mut byte)).await;
        let shown = String::from_utf8_lossy(&got).into_owned();
        assert_eq!(read.unwrap_or_else(|_| panic!("only {shown:?}")).unwrap(), 1, "{shown:?}");
        got.push(byte[0]);
    }
    String::from_utf8(got).unwrap()
}

async fn is_closed(client: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let _ = timeout(BOUND, client.read_to_end(&mut rest)).await.expect("it is closed");
    String::from_utf8_lossy(&rest).into_owned()
}

/// Nothing comes of this client now: whatever it was sent lies in its socket at once.
fn silent(client: &TcpStream) {
    let mut byte = [0];
    assert_eq!(client.try_read(&mut byte).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_message_is_answered_when_it_is_durable_and_in_order() {
    let mut bench = Bench::new(Known::default(), |_| {});
    let mut client = bench.client().await;
    client.write_all(&frames(2, &["a", "b\tc "])).await.unwrap();
    let (lines, first) = bench.lines(2).await;
    assert_eq!(lines, ["a", "b\tc "]);
    client.write_all(&frames(4, &["", "e\n"])).await.unwrap();
    let (lines, second) = bench.lines(2).await;
    assert_eq!(lines, ["", "e\n"], "only the line feed that is counted in goes");
    let origin = ChunkOrigin::Sender { peer: None, transport: Some("relp-loopback") };
    assert_eq!(second[0].origin, origin);
    bench.settle(&second);
    silent(&client);
    bench.settle(&first);
    let answers = answer(&mut client, b"5 rsp 6 200 OK\n").await;
    assert_eq!(answers, "2 rsp 6 200 OK\n3 rsp 6 200 OK\n4 rsp 6 200 OK\n5 rsp 6 200 OK\n");
    client.write_all(b"6 close 0\n").await.unwrap();
    assert_eq!(is_closed(&mut client).await, "6 rsp 0\n0 serverclose 0\n");
    let unmark = timeout(BOUND, bench.rx.recv()).await.unwrap().unwrap();
    let Bookmark { key, .. } = first[0].bookmark.clone().unwrap();
    assert_eq!(unmark, SourceEvent::Unmark { source: SourceId(0), key });
    assert!(bench.stop().await.bookmarks.is_empty());
}

#[tokio::test]
async fn what_is_sent_again_is_stored_once_also_by_the_next_run() {
    let mut bench = Bench::new(Known::default(), |_| {});
    let mut client = bench.client().await;
    client.write_all(&frames(2, &["a", "b", "c"])).await.unwrap();
    bench.take(3).await;
    answer(&mut client, b"4 rsp 6 200 OK\n").await;
    drop(client);
    bench.until("it is gone", |stats| load(&stats.open_connections) == 0).await;
    let mut client = bench.client().await;
    client.write_all(&frames(2, &["b", "c", "d"])).await.unwrap();
    assert_eq!(bench.take(1).await, ["d"]);
    answer(&mut client, b"4 rsp 6 200 OK\n").await;
    assert_eq!(load(&bench.stats.resent_messages), 2);
    let known = bench.stop().await;
    assert_eq!(known.bookmarks.len(), 1);
    assert!(is_closed(&mut client).await.ends_with("0 serverclose 0\n"));

    let mut bench = Bench::new(known, |_| {});
    let mut client = bench.client().await;
    client.write_all(&frames(2, &["c", "d", "e"])).await.unwrap();
    assert_eq!(bench.take(1).await, ["e"]);
    answer(&mut client, b"4 rsp 6 200 OK\n").await;
    bench.stop().await;
}

#[tokio::test]
async fn a_copy_is_answered_only_when_its_original_is_durable() {
    let mut bench = Bench::new(Known::default(), |_| {});
    let mut client = bench.client().await;
    client.write_all(&frames(2, &["a", "b"])).await.unwrap();
    let (_, chunks) = bench.lines(2).await;
    // The first connection is dead, and nobody has told us.
    let mut again = bench.client().await;
    again.write_all(&frames(2, &["a", "b"])).await.unwrap();
    bench.until("they are copies", |stats| load(&stats.resent_messages) == 2).await;
    silent(&again);
    bench.settle(&chunks);
    answer(&mut again, b"3 rsp 6 200 OK\n").await;
    is_closed(&mut client).await;
    again.write_all(&frames(4, &["c"])).await.unwrap();
    assert_eq!(bench.take(1).await, ["c"]);
    bench.stop().await;
}

#[tokio::test]
async fn a_run_that_stops_is_stored_after_a_moment() {
    let mut bench = Bench::new(Known::default(), |_| {});
    let mut client = bench.client().await;
    client.write_all(&frames(2, &["a", "b", "c"])).await.unwrap();
    bench.take(3).await;
    drop(client);
    bench.until("it is gone", |stats| load(&stats.open_connections) == 0).await;
    let mut client = bench.client().await;
    client.write_all(&frames(2, &["a", "b"])).await.unwrap();
    assert_eq!(bench.take(2).await, ["a", "b"]);
    answer(&mut client, b"3 rsp 6 200 OK\n").await;
    assert_eq!(load(&bench.stats.doubtful_messages), 2);
    bench.stop().await;
}

#[tokio::test]
async fn who_breaks_the_rules_is_told_and_closed_after_what_was_good_is_answered() {
    let mut bench = Bench::new(Known::default(), |config| config.max_message = 64 << 10);
    for (bad, told) in [
        (&b"5 syslog 2 x\n\n"[..], "5 rsp 76 500 the client's frame has the number 5"),
        (b"3 starttls 0\n", "3 rsp 60 500 the client uses a command"),
        (b"3 syslog 70000 ", "3 rsp 157 500 the client announces 70000 bytes"),
        (b"hello\n", "0 serverclose"),
        (b"3 syslog 1 xy", "3 rsp 82 500 the client counted"),
    ] {
        let mut client = bench.client().await;
        // One that were equal would be a copy of what the session before sent.
        client.write_all(&[&frames(2, &[told])[..], bad].concat()).await.unwrap();
        assert_eq!(bench.take(1).await, [told]);
        let text = is_closed(&mut client).await;
        let rest = text.strip_prefix("2 rsp 6 200 OK\n").unwrap_or_else(|| panic!("{text}"));
        let words = |text: &str| text.split(' ').skip(3).collect::<Vec<_>>().join(" ");
        let wanted = words(told);
        assert!(words(rest).starts_with(&wanted), "{told}: {rest}");
        assert!(rest.ends_with("0 serverclose 0\n"), "{rest}");
    }
    assert_eq!(load(&bench.stats.frame_errors), 5);
    for first in [&b"1 syslog 1 x\n"[..], b"1 open 9 command=x\n"] {
        let mut client = bench.connect().await;
        client.write_all(first).await.unwrap();
        assert!(is_closed(&mut client).await.starts_with("1 rsp "));
    }
}

#[tokio::test]
async fn the_silent_and_the_slow_are_closed_and_those_who_idle_are_not() {
    let mut bench =
        Bench::new(Known::default(), |config| config.patience = Duration::from_millis(300));
    let mut idle = bench.client().await;
    let mut silent = bench.connect().await;
    let mut slow = bench.client().await;
    slow.write_all(b"2 syslog 100 half").await.unwrap();
    assert!(is_closed(&mut silent).await.contains("serverclose"));
    assert!(is_closed(&mut slow).await.contains("serverclose"));
    bench.until("both are counted", |stats| load(&stats.frame_errors) == 2).await;
    idle.write_all(&frames(2, &["still here"])).await.unwrap();
    assert_eq!(bench.take(1).await, ["still here"]);
}

#[tokio::test]
async fn large_messages_share_a_budget_and_small_ones_do_not_wait_for_it() {
    let mut bench = Bench::new(Known::default(), |config| {
        config.max_buffered = 4 << 20;
        config.max_connections = 8;
    });
    let big = "x".repeat(MAX_LINE);
    let (head, tail) = big.split_at(1 << 20);
    let announce = format!("2 syslog {} {head}", big.len() + 1);
    let mut first = bench.client().await;
    first.write_all(announce.as_bytes()).await.unwrap();
    let mut second = bench.client().await;
    let (mut reading, mut writing) = second.split();
    // More than what sockets hold: this one is not received before the first is done.
    let send = async { writing.write_all(&frames(2, &[&big])).await.unwrap() };
    let others = async {
        let mut small = bench.client().await;
        small.write_all(&frames(2, &["small"])).await.unwrap();
        assert_eq!(bench.take(1).await, ["small"]);
        first.write_all(format!("{tail}\n\n").as_bytes()).await.unwrap();
        assert_eq!(bench.take(1).await, [big.as_str()]);
        assert_eq!(bench.take(1).await, [big.as_str()]);
    };
    tokio::join!(send, others);
    let mut byte = [0];
    assert_eq!(timeout(BOUND, reading.read(&mut byte)).await.unwrap().unwrap(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn no_more_than_allowed_come_in_and_a_place_that_is_left_is_free() {
    let bench = Bench::new(Known::default(), |config| config.max_connections = 2);
    let (one, _two) = (bench.client().await, bench.client().await);
    let mut third = bench.connect().await;
    assert_eq!(is_closed(&mut third).await, "");
    assert_eq!(load(&bench.stats.refused_connections), 1);
    drop(one);
    bench.until("one is gone", |stats| load(&stats.open_connections) == 1).await;
    let _third = bench.client().await;
}

#[tokio::test]
async fn a_client_waits_while_too_much_has_no_answer() {
    let mut bench = Bench::new(Known::default(), |_| {});
    let mut client = bench.client().await;
    let texts: Vec<String> = (0..40_000).map(|n| format!("message {n:06}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (mut reading, mut writing) = client.split();
    let bytes = frames(2, &texts);
    let send = async { writing.write_all(&bytes).await.unwrap() };
    let count = async {
        let (mut lines, mut waiting, mut most) = (0, 0, 0);
        let mut chunks = Vec::new();
        while lines < texts.len() {
            // Nothing is settled as long as something comes.
            match timeout(Duration::from_millis(50), bench.chunk()).await {
                Ok(chunk) => {
                    lines += chunk.lines.len();
                    waiting += chunk.lines.len();
                    most = most.max(waiting);
                    chunks.push(chunk);
                }
                Err(_) => {
                    bench.settle(&std::mem::take(&mut chunks));
                    waiting = 0;
                }
            }
        }
        bench.settle(&chunks);
        most
    };
    let read = async {
        let (mut buffer, mut got) = (vec![0; 1 << 16], Vec::new());
        let end = format!("{} rsp 6 200 OK\n", texts.len() + 1);
        while !got.ends_with(end.as_bytes()) {
            let read = timeout(BOUND, reading.read(&mut buffer)).await.unwrap().unwrap();
            got.extend_from_slice(&buffer[..read]);
        }
        got.iter().filter(|byte| **byte == b'\n').count()
    };
    let ((), most, answers) = tokio::join!(send, count, read);
    assert_eq!(answers, texts.len());
    assert!((MAX_WAITING..MAX_WAITING + 8192).contains(&most), "{most}");
}
