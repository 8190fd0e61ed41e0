//! Receiving from programs over real sockets.

use std::{
    io::{ErrorKind, Write},
    os::fd::AsRawFd,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixDatagram, UnixStream},
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use pipeline::line::{ChunkOrigin, SourceEvent, SourceId};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{
    sources::{Phase, SourceStats},
    tickets::Tickets,
};

/// What takes longer than this will not happen.
const BOUND: Duration = Duration::from_secs(30);

struct Bench {
    dir: tempfile::TempDir,
    rx: mpsc::Receiver<SourceEvent>,
    stop: watch::Sender<Phase>,
    stats: Arc<SourceStats>,
    serving: JoinHandle<()>,
}

fn config(dir: &Path, kind: Kind) -> UnixConfig {
    let path = dir.join("log.sock");
    UnixConfig { path, kind, mode: 0o620, max_message: 64 << 10, max_connections: 2 }
}

impl Bench {
    fn new(kind: Kind, capacity: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), kind);
        let (events, rx) = mpsc::channel(capacity);
        let (stop, shutdown) = watch::channel(Phase::Run);
        let stats = Arc::new(SourceStats::default());
        let tickets = Tickets::default();
        let outlet =
            Outlet { id: SourceId(3), events, shutdown, stats: Arc::clone(&stats), tickets };
        let serving = tokio::spawn(serve(bind(&config).unwrap(), config, outlet));
        Bench { dir, rx, stop, stats, serving }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("log.sock")
    }

    async fn lines(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let event = timeout(BOUND, self.rx.recv()).await.unwrap().unwrap();
            let SourceEvent::Chunk(chunk) = event else { panic!("{event:?}") };
            let own =
                format!("uid={},pid={}", rustix::process::geteuid().as_raw(), std::process::id());
            let origin =
                ChunkOrigin::Sender { peer: Some(own.as_str().into()), transport: Some("unix") };
            assert_eq!((chunk.source, &chunk.origin), (SourceId(3), &origin));
            lines.extend(chunk.iter().map(<[u8]>::to_vec));
        }
        assert_eq!(lines.len(), count);
        lines
    }

    async fn stopped(self) -> mpsc::Receiver<SourceEvent> {
        self.stop.send_replace(Phase::Stop);
        timeout(BOUND, self.serving).await.unwrap().unwrap();
        assert!(!self.dir.path().join("log.sock").exists(), "nobody is there any more");
        self.rx
    }
}

#[tokio::test]
async fn a_datagram_is_a_message_and_names_its_program() {
    let mut bench = Bench::new(Kind::Datagram, 64);
    let mode = std::fs::metadata(bench.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o620);
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(bench.path()).unwrap();
    let long: Vec<u8> = (0..150_000u32).map(|n| 1 + (n % 251) as u8).collect();
    for message in [&b"<13>Nov 21 10:02:27 app[1]: x\0"[..], b"\xff\xfe\x00two\nlines", &long] {
        sender.send(message).unwrap();
    }
    let lines = bench.lines(5).await;
    assert_eq!(lines[..2], [&b"<13>Nov 21 10:02:27 app[1]: x"[..], b"\xff\xfe\x00two\nlines"]);
    assert_eq!(lines[2..].concat(), long, "cut and whole");
    assert_eq!(bench.stats.cut_lines.load(std::sync::atomic::Ordering::Relaxed), 2);
    sender.send(b"before the stop").unwrap();
    let mut rx = bench.stopped().await;
    let Some(SourceEvent::Chunk(chunk)) = rx.recv().await else { panic!("it was there") };
    assert_eq!(chunk.iter().collect::<Vec<_>>(), [b"before the stop"]);
    assert!(sender.send(b"after it").is_err());
}

#[tokio::test]
async fn who_passes_descriptors_along_is_named_all_the_same_and_they_are_closed() {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let mut bench = Bench::new(Kind::Datagram, 64);
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(bench.path()).unwrap();
    let passed = std::fs::File::open("/dev/null").unwrap();
    let descriptors = vec![passed.as_raw_fd(); 100];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let message = [std::io::IoSlice::new(b"<13>x")];
    for _ in 0..20 {
        let flags = MsgFlags::empty();
        sendmsg::<()>(sender.as_raw_fd(), &message, &rights, flags, None).unwrap();
        assert_eq!(bench.lines(1).await, [b"<13>x"]);
    }
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let names = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    assert!(names.filter(|name| name == Path::new("/dev/null")).count() < 100);
}

#[tokio::test]
async fn programs_wait_while_nobody_takes_their_datagrams() {
    let mut bench = Bench::new(Kind::Datagram, 1);
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(bench.path()).unwrap();
    sender.set_nonblocking(true).unwrap();
    let (message, mut sent, mut blocked) = (vec![b'x'; 60_000], 0, 0);
    while blocked < 1000 {
        match sender.send(&message) {
            Ok(_) => sent += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => blocked += 1,
            Err(error) => panic!("{error}"),
        }
        tokio::task::yield_now().await;
        assert!(sent < 10_000, "nothing holds it back");
    }
    assert_eq!(bench.lines(sent).await, vec![message; sent], "and none is lost");
}

#[tokio::test]
async fn a_stream_is_framed_in_every_usual_way() {
    let mut bench = Bench::new(Kind::Stream, 64);
    let mut sender = UnixStream::connect(bench.path()).unwrap();
    sender.write_all(b"<13>a\0<13>b\n6 <13>\0c<13>d\n\n<13>cut").unwrap();
    assert_eq!(
        bench.lines(4).await,
        [&b"<13>a"[..], b"<13>b", b"<13>\0c", b"<13>d"].map(<[u8]>::to_vec)
    );
    drop(sender);
    assert_eq!(bench.lines(1).await, [b"<13>cut"]);
    let mut endless = UnixStream::connect(bench.path()).unwrap();
    let noise = vec![b'x'; 70 << 10];
    endless.write_all(&noise).unwrap();
    assert_eq!(bench.lines(2).await.concat(), noise, "what came of it is kept");
    let mut waiting = UnixStream::connect(bench.path()).unwrap();
    waiting.write_all(b"<13>before the stop\n").unwrap();
    bench.stop.send_replace(Phase::Stop);
    let mut rx = bench.stopped().await;
    let Some(SourceEvent::Chunk(chunk)) = rx.recv().await else { panic!("it was there") };
    assert_eq!(chunk.iter().collect::<Vec<_>>(), [b"<13>before the stop"]);
}

#[tokio::test]
async fn a_socket_is_taken_over_from_the_dead_only() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), Kind::Datagram);
    let said = |config: &UnixConfig| {
        let error = bind(config).unwrap_err();
        (error.in_use, error.to_string())
    };
    let alive = bind(&config).unwrap();
    for kind in [Kind::Datagram, Kind::Stream] {
        let (in_use, said) = said(&UnixConfig { kind, ..config.clone() });
        assert!(in_use && said.contains("another program receives there"), "{said}");
    }
    // What a kill leaves: the file of a socket that nobody has.
    drop(alive);
    drop(std::os::unix::net::UnixListener::bind(&config.path).unwrap());
    let next = bind(&config).unwrap();
    std::fs::remove_file(&config.path).unwrap();
    std::fs::write(&config.path, "mine").unwrap();
    drop(next);
    assert!(config.path.exists(), "what is not ours is not removed");
    assert!(said(&config).1.contains("something else than a socket"));
    let away = UnixConfig { path: dir.path().join("no/log.sock"), ..config };
    assert!(said(&away).1.contains("does not exist"), "{}", said(&away).1);
}
