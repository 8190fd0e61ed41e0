//! Nodes that consist of their transport only, and peers that a test plays itself.

use certs::{LEAF_DAYS, Pki, Reason, Request, Timestamp, Validity, Which};
use link::{
    Role,
    frame::{FrameReader, FrameWriter},
    peer::{Lane, MAX_BULK, PEER_PROTOCOL, PeerAnswer, PeerHello, PeerWelcome},
    tls::{ClientSettings, ReloadingClient, ReloadingServer, ServerSettings, TlsFiles, TlsStream},
};
use logseal_ledger::{
    metrics::Metrics,
    peers::{Event, Incoming, Inlets, Outlets, Peer, Settings, Timings, start},
};
use prometheus_client::registry::Registry;
use record::{Hash, NodeName};
use service::signals::{Shutdown, Stopper};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

/// The bound of every wait.
pub const LIMIT: Duration = Duration::from_secs(30);
pub const MEMBERS: Hash = Hash([7; 32]);
pub const ORIGIN: &str = "ledger.city.example/access";

/// An authority in a temporary directory.
pub struct World {
    pki: Pki,
    issued: Mutex<HashMap<String, TlsFiles>>,
    _dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let validity = Validity::days(now(), 3650).unwrap();
        let pki = Pki::init(&dir.path().join("pki"), "city", validity, now()).unwrap();
        World { pki, issued: Mutex::default(), _dir: dir }
    }

    /// The certificate of this identity, issued when it is first asked for.
    pub fn files(&self, role: Role, name: &str) -> TlsFiles {
        let issue = || {
            let validity = Validity::days(now(), LEAF_DAYS).unwrap();
            let request = Request::new(role.as_str(), name, validity).unwrap();
            let issued = self.pki.issue(&request).unwrap();
            let (ca, crl) = (self.pki.ca(), Some(self.pki.crl()));
            TlsFiles { ca, cert: issued.certificate, key: issued.key, crl }
        };
        self.issued.lock().unwrap().entry(format!("{role} {name}")).or_insert_with(issue).clone()
    }

    pub fn client(&self, role: Role, name: &str) -> ReloadingClient {
        ReloadingClient::open(ClientSettings::new(self.files(role, name), &[])).unwrap()
    }

    pub fn revoke(&self, name: &str) {
        let which = Which::identity("node", name).unwrap();
        self.pki.revoke(&which, Reason::KeyCompromise, now()).unwrap();
    }
}

fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

pub fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

pub fn server(files: TlsFiles) -> ReloadingServer {
    let settings = ServerSettings::internal(files, &[Role::Node], &[Role::Node]);
    ReloadingServer::open(settings).unwrap()
}

/// Timings for tests that wait for silence or renewal.
pub fn fast() -> Timings {
    Timings {
        handshake: Duration::from_secs(1),
        beat: Duration::from_millis(50),
        silence: Duration::from_secs(1),
        bulk_silence: Duration::from_secs(2),
        ..Timings::default()
    }
}

/// A listener on a port of its own.
pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A node that is nothing but its transport.
pub struct Node {
    pub name: NodeName,
    pub outlets: Outlets,
    pub control: mpsc::Receiver<Incoming>,
    pub bulk: mpsc::Receiver<Incoming>,
    pub events: mpsc::Receiver<Event>,
    pub client: Arc<ReloadingClient>,
    registry: Registry,
    stopper: Stopper,
}

/// How a node is started.
pub struct Plan {
    pub settings: Settings,
    /// Room in its inlets, in frames.
    pub room: usize,
    files: TlsFiles,
}

impl Plan {
    pub fn new(world: &World, own: &str, peers: &[(&str, SocketAddr)]) -> Self {
        let peer = |(peer, address): &(&str, SocketAddr)| Peer {
            name: name(peer),
            address: address.to_string(),
        };
        let settings = Settings {
            own: name(own),
            origin: ORIGIN.parse().unwrap(),
            membership: MEMBERS,
            version: format!("0.0.0-{own}"),
            peers: peers.iter().map(peer).collect(),
            timings: Timings::default(),
        };
        Plan { settings, room: 1024, files: world.files(Role::Node, own) }
    }

    pub fn timings(mut self, timings: Timings) -> Self {
        self.settings.timings = timings;
        self
    }

    pub fn room(mut self, room: usize) -> Self {
        self.room = room;
        self
    }

    pub fn start(self, listener: TcpListener) -> Node {
        let (control_in, control) = mpsc::channel(self.room);
        let (bulk_in, bulk) = mpsc::channel(self.room);
        let (events_in, events) = mpsc::channel(16);
        let inlets = Inlets { control: control_in, bulk: bulk_in, events: events_in };
        let (stopper, shutdown) = Shutdown::pair();
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let client = ReloadingClient::open(ClientSettings::new(self.files.clone(), &[Role::Node]));
        let client = Arc::new(client.unwrap());
        let server = Arc::new(server(self.files));
        let name = self.settings.own.clone();
        let ours = Arc::clone(&client);
        let outlets = start(self.settings, ours, server, listener, inlets, metrics, &shutdown);
        Node { name, outlets, control, bulk, events, client, registry, stopper }
    }
}

impl Node {
    pub fn send(&self, to: &Node, lane: Lane, frame: impl Into<Vec<u8>>) -> bool {
        self.outlets.send(&to.name, lane, frame.into().into())
    }

    pub async fn event(&mut self) -> Event {
        soon("an event", self.events.recv()).await.unwrap()
    }

    pub async fn up(&mut self, expected: &str) {
        match self.event().await {
            Event::Up { peer, version } => {
                assert_eq!(peer.as_str(), expected);
                assert!(!version.is_empty());
            }
            other => panic!("{other:?} instead of {expected} up"),
        }
    }

    pub async fn down(&mut self, expected: &str) {
        assert_eq!(self.event().await, Event::Down { peer: name(expected) });
    }

    pub async fn control(&mut self) -> Incoming {
        soon("a control frame", self.control.recv()).await.unwrap()
    }

    pub async fn bulk(&mut self) -> Incoming {
        soon("a bulk frame", self.bulk.recv()).await.unwrap()
    }

    /// The value of a metric with these labels; 0 if it was never touched.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let found = text.lines().find(|line| {
            line.starts_with(&format!("logseal_ledger_{name}"))
                && labels.iter().all(|label| line.contains(label))
        });
        found.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or_default()
    }

    pub async fn metric_reaches(&self, metric: &str, labels: &[&str], value: f64) {
        until(metric, || self.metric(metric, labels) >= value).await;
    }

    pub fn stop(self) {
        self.stopper.stop();
    }
}

/// Two nodes that are connected.
pub async fn pair(world: &World, tune: impl Fn(Plan) -> Plan) -> (Node, Node) {
    let ((a, at_a), (b, at_b)) = (listen().await, listen().await);
    let mut a = tune(Plan::new(world, "node1", &[("node2", at_b)])).start(a);
    let mut b = tune(Plan::new(world, "node2", &[("node1", at_a)])).start(b);
    a.up("node2").await;
    b.up("node1").await;
    (a, b)
}

pub async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// One connection, played by a test.
pub struct Played {
    pub reader: FrameReader<ReadHalf<TlsStream<TcpStream>>>,
    pub writer: FrameWriter<WriteHalf<TlsStream<TcpStream>>>,
}

impl Played {
    pub fn new(stream: TlsStream<TcpStream>) -> Self {
        let (read, write) = tokio::io::split(stream);
        // A peer that lies keeps to no limit of its own.
        let writer = FrameWriter::new(write, 2 * MAX_BULK);
        Played { reader: FrameReader::new(read, MAX_BULK).with_beats(), writer }
    }

    /// Dials a node and says this; gives back its answer too.
    pub async fn dial(
        address: SocketAddr,
        client: &ReloadingClient,
        hello: &PeerHello,
    ) -> (Self, PeerAnswer) {
        let connecting = link::tls::connect(address, "127.0.0.1", client, Role::Node, LIMIT);
        let mut played = Played::new(connecting.await.unwrap().0);
        played.writer.send(hello).await.unwrap();
        played.writer.flush().await.unwrap();
        let answer = soon("an answer", played.reader.receive()).await.unwrap().unwrap();
        (played, answer)
    }

    /// As [`Played::dial`], and it is welcome.
    pub async fn welcome(address: SocketAddr, client: &ReloadingClient, lane: Lane) -> Self {
        let (played, answer) = Played::dial(address, client, &hello(lane)).await;
        assert!(matches!(answer, PeerAnswer::Welcome(_)), "{answer:?}");
        played
    }

    /// Accepts a connection and welcomes it.
    pub async fn accept(listener: &TcpListener, tls: &ReloadingServer) -> (Self, Lane) {
        let (stream, _) = soon("a connection", listener.accept()).await.unwrap();
        let mut played = Played::new(link::tls::accept(stream, tls, LIMIT).await.unwrap().0);
        let hello: PeerHello = played.reader.receive().await.unwrap().unwrap();
        let welcome = PeerAnswer::Welcome(PeerWelcome { version: "played".into() });
        played.writer.send(&welcome).await.unwrap();
        played.writer.flush().await.unwrap();
        (played, hello.lane)
    }

    pub async fn send(&mut self, frame: &[u8]) {
        self.writer.write(frame).await.unwrap();
        self.writer.flush().await.unwrap();
    }

    /// Waits until the other end has closed the connection.
    pub async fn closed(&mut self) {
        soon("the end", async {
            while let Ok(Some(frame)) = self.reader.next().await {
                assert!(frame.is_empty(), "only signs of life come here");
            }
        })
        .await;
    }
}

/// The greeting of a peer that is as it should be.
pub fn hello(lane: Lane) -> PeerHello {
    PeerHello {
        protocol: PEER_PROTOCOL,
        origin: ORIGIN.into(),
        membership: MEMBERS.0,
        lane,
        version: "played".into(),
    }
}
