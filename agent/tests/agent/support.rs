//! A PKI, an agent's parts, and batches to send.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use certs::{LEAF_DAYS, Pki, Request, Timestamp, Validity};
use link::{
    Role,
    tls::{ClientSettings, ReloadingClient, TlsFiles},
};
use logseal_agent::{
    board::Board,
    config::NodeAddress,
    fatal::{Alarm, Alarms},
    leaves::LeafHashes,
    metrics::Metrics,
    spool::{
        Inbox, Item, Owner, SourceNames, Spool, SpoolError, SpoolOptions, Writer, WriterParts,
    },
    tickets::Tickets,
    uplink::{Feed, Timing, UplinkSettings},
};
use pipeline::{
    Outgoing, PositionChange,
    line::{FileId, FilePosition, Fingerprint, SourceId},
};
use record::{
    AgentName, Origin, UnixMillis, UnixSeconds,
    batch::{BatchBuilder, Codec},
    crypto::SigningKey,
    entry::{Enterprise, Header, LogElement},
    merkle::Frontier,
    policy::Policy,
    seal::agent_vkey,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// Longer than anything takes here, short enough for a test that hangs.
pub const LIMIT: Duration = Duration::from_secs(30);

pub fn origin() -> Origin {
    "ledger.example/x".parse().unwrap()
}

pub fn agent() -> AgentName {
    "gw01".parse().unwrap()
}

/// The agent's key.
pub fn key() -> SigningKey {
    SigningKey::from_seed(&seed())
}

pub fn seed() -> Zeroizing<[u8; 32]> {
    Zeroizing::new([4; 32])
}

pub fn owner() -> Owner {
    Owner { agent: agent(), ledger: origin(), key: key().public() }
}

pub fn file(inode: u64) -> FileId {
    FileId { device: 1, inode, fingerprint: Fingerprint::of(b"head") }
}

/// Small segments, so that releasing shows.
pub fn options() -> SpoolOptions {
    let mut options = SpoolOptions::default();
    options.journal.segment_bytes = 8 << 10;
    options.state_every_bytes = 2 << 10;
    options
}

pub fn open(dir: &Path) -> Result<Spool, SpoolError> {
    Spool::open(dir, options(), owner(), SourceNames::new(["kong", "syslog"]))
}

/// An established spool.
pub fn established(dir: &Path) -> Spool {
    let mut spool = open(dir).unwrap();
    spool.establish().unwrap();
    spool
}

/// Seals batches, one behind the other.
pub struct Sealer {
    batch: BatchBuilder,
    codec: Codec,
    time: u64,
}

impl Sealer {
    pub fn new(log: Frontier) -> Self {
        let batch = BatchBuilder::new(origin(), agent(), log);
        Sealer { batch, codec: Codec::default(), time: 1_795_248_147 }
    }

    /// A batch of `records`, and as its position the number of records so far.
    pub fn seal(&mut self, records: u64) -> Outgoing {
        self.seal_lines((0..records).map(|n| format!("line {n}")))
    }

    pub fn seal_lines(&mut self, lines: impl IntoIterator<Item = String>) -> Outgoing {
        let agent = agent();
        for line in lines {
            let element = LogElement {
                enterprise: Enterprise::default(),
                agent: &agent,
                n: self.batch.next(),
                source: "kong",
                received: UnixMillis(7),
                peer: None,
                transport: None,
                part: None,
            };
            let header = Header {
                priority: 110,
                time: None,
                host: b"gw01",
                app: b"kong",
                procid: b"",
                msgid: b"",
            };
            self.batch.push(|out| element.wrap(out, &header, &[], line.as_bytes()));
        }
        self.time += 1;
        let sealed = self.batch.seal(&key(), UnixSeconds(self.time), &mut self.codec);
        let offset = sealed.after.size().0;
        let reached = FilePosition { file: file(7), offset };
        Outgoing::new(sealed, vec![PositionChange::Reached(SourceId(0), reached)])
    }
}

pub fn item(outgoing: Outgoing) -> Item {
    let now = service::clock::now();
    Item { outgoing, received: Some(now), sealed: now }
}

/// Certificates of one CA.
pub struct Certificates {
    pki: Pki,
    _dir: tempfile::TempDir,
}

impl Certificates {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = timestamp();
        let validity = Validity::days(now, 3650).unwrap();
        let pki = Pki::init(&dir.path().join("pki"), "Test CA", validity, now).unwrap();
        Certificates { pki, _dir: dir }
    }

    /// The certificate of an identity, issued when it is first asked for.
    pub fn issue(&self, role: Role, name: &str) -> TlsFiles {
        let (ca, crl) = (self.pki.ca(), Some(self.pki.crl()));
        let stem = self.pki.dir().join("issued").join(format!("{role}-{name}"));
        let (cert, key) = (stem.with_extension("pem"), stem.with_extension("key"));
        if cert.exists() {
            return TlsFiles { ca, cert, key, crl };
        }
        let validity = Validity::days(timestamp(), LEAF_DAYS).unwrap();
        self.pki.issue(&Request::new(role.as_str(), name, validity).unwrap()).unwrap();
        TlsFiles { ca, cert, key, crl }
    }
}

fn timestamp() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// Times that let a test see what takes minutes in earnest.
pub fn timing() -> Timing {
    Timing {
        connect: Duration::from_secs(5),
        ping: Duration::from_millis(100),
        dead: Duration::from_millis(400),
        patience: Duration::from_secs(10),
        look: Duration::from_secs(60),
        pause_min: Duration::from_millis(5),
        pause_max: Duration::from_millis(20),
        pause_slow: Duration::from_millis(50),
        remind: Duration::from_secs(60),
    }
}

pub fn settings(
    certificates: &Certificates,
    policy: &str,
    nodes: Vec<NodeAddress>,
    dir: &Path,
) -> UplinkSettings {
    let files = certificates.issue(Role::Agent, agent().as_str());
    let tls = ReloadingClient::open(ClientSettings::new(files, &[Role::Agent])).unwrap();
    UplinkSettings {
        agent: agent(),
        vkey: agent_vkey(&origin(), &agent(), key().public()),
        origin: origin(),
        enterprise: Enterprise::default(),
        policy: Policy::parse(policy.as_bytes()).unwrap(),
        nodes,
        tls: Arc::new(tls),
        spool: dir.join("spool"),
        evidence: dir.join("evidence"),
        timing: timing(),
        metrics: Metrics::default(),
        board: Board::default(),
    }
}

/// The spool's thread, and what it is fed with.
pub struct Spooling {
    pub inbox: Arc<Inbox>,
    alarms: Alarms,
    thread: std::thread::JoinHandle<()>,
}

/// Starts the spool's thread.
pub fn spooling(spool: Spool, max_bytes: u64, metrics: &Metrics) -> (Spooling, Feed) {
    let inbox = Arc::new(Inbox::default());
    let (durable, durably) = watch::channel(spool.durable());
    let (alarm, alarms) = Alarm::pair();
    let feed = Feed {
        reader: spool.reader(),
        durable: durably,
        inbox: Arc::clone(&inbox),
        leaves: Arc::new(LeafHashes::default()),
        backlog: spool.backlog(),
    };
    let metrics = metrics.clone();
    let (shared, tickets) = (Arc::clone(&inbox), Tickets::default());
    let parts = WriterParts { spool, inbox: shared, durable, max_bytes, metrics, tickets, alarm };
    let thread = Writer::start(parts).unwrap();
    (Spooling { inbox, alarms, thread }, feed)
}

impl Spooling {
    pub fn put(&self, outgoing: Outgoing) {
        self.inbox.put(item(outgoing)).unwrap();
    }

    /// Stops the thread in order; nothing has alarmed anybody.
    pub fn stop(mut self) {
        self.inbox.stop();
        self.inbox.finish();
        self.thread.join().unwrap();
        assert!(self.alarms.try_recv().is_err());
    }
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        while !holds() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A copy of a directory as it is now, as a crash would leave it.
pub fn snapshot(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}
