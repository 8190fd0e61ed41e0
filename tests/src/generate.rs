//! Makes a large or an old ledger quickly: the real pipeline, replicas and stores, without the processes.

use bytes::Bytes;
use link::statement;
use logseal::site::{Site, corpus::Corpus};
use logseal_ledger::{
    config::Config,
    node::VoteLog,
    run::members_of,
    store::{Options, Store},
};
use pipeline::{
    LogPosition, Now as Clocks, Pipeline, RecordSettings, Sealing, SourceSettings, Syntax,
    extract::{Extractor, Format, UserTable},
    line::{Chunk, ChunkOrigin, LineSpan, SourceEvent, SourceId},
};
use pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use record::{
    AgentName, Origin, UnixMillis, UnixSeconds,
    batch::{Codec, SealedBatch},
    crypto::SigningKey,
    enrolment::Enrolment,
    merkle::Frontier,
    note::SignedNote,
};
use replica::{
    BlankStart, Identity, Member, Members, Message, NodeIndex, Now, Output, Pending, Replica,
    Settings, Ticks, Timing, Vouch,
};
use std::{collections::VecDeque, path::Path, time::Duration};
use zeroize::Zeroizing;

/// The agent whose records are made.
pub const AGENT: &str = "generated";

/// Lines in a chunk.
const CHUNK_LINES: u64 = 500;

/// Writes the stores of a site's nodes, which must not be running.
pub struct Generator {
    nodes: Vec<Part>,
    /// What nodes said to each other: from, to.
    said: VecDeque<(u8, u8, Message)>,
    origin: Origin,
    pipeline: Pipeline,
    corpus: Corpus,
    codec: Codec,
    started_ms: u64,
    now_ms: u64,
    /// Records so far.
    pub records: u64,
    /// Bytes of their lines, with line feeds.
    pub line_bytes: u64,
}

/// A node without its process.
struct Part {
    replica: Replica,
    /// Nothing while the node has it.
    store: Option<Store>,
    published: Option<SignedNote>,
    config: Config,
}

impl Part {
    fn open(site: &Site, node: usize, segment_bytes: Option<u64>, started_ms: u64) -> Self {
        let config = Config::load(&site.node_dir(node).join("ledger.toml")).unwrap();
        let keys = config.load_keys().unwrap();
        let usual = options(&config);
        let segment_bytes = segment_bytes.unwrap_or(usual.segment_bytes);
        let opened = Store::open(&config.store, &Options { segment_bytes, ..usual }).unwrap();
        let member = Member {
            name: config.name.clone(),
            consensus: keys.consensus.vkey().public(),
            cosigner: keys.cosigner.vkey().clone(),
        };
        let members = config.members.as_ref().map(|members| members_of(members).unwrap());
        let name = config.name.clone();
        let settings = Settings {
            params: config.params.clone(),
            members: members.unwrap_or_else(|| Members::single(member)),
            identity: Identity { name, log: keys.log, cosigner: keys.cosigner },
            timing: Timing::default(),
            vouch: Box::new(Trusting),
            blank: BlankStart::Genesis,
        };
        let now = Now { ticks: Ticks(0), wall: UnixMillis(started_ms) };
        let consensus = keys.consensus.into_key();
        let replica = Replica::new(settings, opened.state, &[], consensus, now).unwrap();
        Part { replica, store: Some(opened.store), published: opened.published, config }
    }
}

/// The site's operator signed it: this program just did so.
struct Trusting;

impl Vouch for Trusting {
    fn operator_signed(&self, _: &Enrolment) -> bool {
        true
    }
}

impl Generator {
    /// Begins the ledger of `site`, whose node was configured, with batches of `batch` records.
    pub fn new(site: &Site, batch: usize) -> Self {
        Self::with(site, batch, None)
    }

    /// As [`Generator::new`], with segments of another size than is configured.
    pub fn with(site: &Site, batch: usize, segment_bytes: Option<u64>) -> Self {
        Self::aged(site, batch, segment_bytes, Duration::ZERO)
    }

    /// As [`Generator::with`], for all nodes of the site, and as if it had begun so long ago.
    pub fn aged(site: &Site, batch: usize, segment_bytes: Option<u64>, age: Duration) -> Self {
        let started_ms = service::clock::now().0 - age.as_millis() as u64;
        let nodes: Vec<Part> = (0..site.node_count())
            .map(|node| Part::open(site, node, segment_bytes, started_ms))
            .collect();
        let agent: AgentName = AGENT.parse().unwrap();
        let key = || SigningKey::from_seed(&Zeroizing::new([7; 32]));
        let origin = nodes[0].config.params.origin.clone();
        let mut generator = Generator {
            nodes,
            said: VecDeque::new(),
            pipeline: pipeline(&agent, batch, &origin, key(), started_ms),
            origin,
            corpus: Corpus::new(1, started_ms),
            codec: Codec::default(),
            started_ms,
            now_ms: started_ms,
            records: 0,
            line_bytes: 0,
        };
        generator.connect();
        generator.enrol(site, agent, key());
        generator
    }

    fn connect(&mut self) {
        let (now, count) = (self.now(), self.nodes.len() as u8);
        for node in 0..count {
            for other in (0..count).filter(|other| *other != node) {
                self.nodes[usize::from(node)].replica.handle_up(now, NodeIndex(other));
            }
        }
        self.settle();
    }

    /// Lets so much time pass without records.
    pub fn pass(&mut self, time: Duration) {
        self.now_ms += time.as_millis() as u64;
    }

    fn enrol(&mut self, site: &Site, agent: AgentName, key: SigningKey) {
        let origin = &self.origin;
        let time = UnixSeconds(self.started_ms / 1000);
        let certificate = CertificateDer::from_pem_file(site.cert("operator", "operator")).unwrap();
        let signer = PrivateKeyDer::from_pem_file(site.key("operator", "operator")).unwrap();
        let text = Enrolment::statement(origin, &agent, key.public(), time);
        let signature = statement::sign(&signer, text.as_bytes()).unwrap();
        let certificate = certificate.to_vec();
        let enrolment = Enrolment { agent, key: key.public(), time, certificate, signature };
        let now = self.now();
        self.nodes[0].replica.handle_enrolment(now, enrolment).unwrap().unwrap();
        self.settle();
    }

    /// Adds so many records.
    pub fn add(&mut self, records: u64) {
        let end = self.records + records;
        while self.records < end {
            let chunk = self.chunk((end - self.records).min(CHUNK_LINES));
            self.now_ms += 1;
            let clocks = self.clocks();
            self.pipeline.handle_event(SourceEvent::Chunk(chunk), clocks);
            self.take_batches();
        }
        let clocks = self.clocks();
        self.pipeline.handle_stop(clocks);
        self.take_batches();
    }

    /// Brings everything to the disk, as nodes that end do, and lets go of the stores.
    pub fn let_go(&mut self) {
        let clustered = self.nodes.len() > 1;
        for node in &mut self.nodes {
            let checkpoint = node.published.as_ref().expect("something was published");
            let mut store = node.store.take().expect("it has the store");
            store.flush(checkpoint).unwrap();
            if clustered {
                let height = node.replica.state().height;
                drop(VoteLog::open(&node.config.store.join("votes"), height).unwrap());
            }
        }
    }

    /// Takes the stores again, to which nothing was added meanwhile.
    pub fn go_on(&mut self) {
        for node in &mut self.nodes {
            let opened = Store::open(&node.config.store, &options(&node.config)).unwrap();
            node.store = Some(opened.store);
        }
    }

    fn chunk(&mut self, lines: u64) -> Chunk {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for _ in 0..lines {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(self.corpus.line("gen").as_bytes());
            let end = bytes.len() as u32;
            bytes.push(b'\n');
            spans.push(LineSpan { start, end, next: end + 1 });
        }
        self.records += lines;
        self.line_bytes += bytes.len() as u64;
        Chunk {
            source: SourceId(0),
            bytes,
            lines: spans,
            origin: ChunkOrigin::Sender { peer: None, transport: None },
            received: UnixMillis(self.now_ms),
            bookmark: None,
            ticket: None,
        }
    }

    fn take_batches(&mut self) {
        while let Some(outgoing) = self.pipeline.poll_sealed() {
            let encoded = Bytes::from(outgoing.sealed.batch.encode());
            let batch = SealedBatch::decode(&encoded).unwrap();
            let log = self.nodes[0].replica.log_of(&batch.agent).unwrap().clone();
            let verified =
                batch.open(&self.origin, &log, &mut self.codec, &mut Vec::new()).unwrap();
            let now = self.now();
            let pending = Pending::new(verified, log, encoded);
            self.nodes[0].replica.handle_batch(now, pending).unwrap().unwrap();
            self.settle();
        }
    }

    /// Carries everything out that follows from what was handled.
    fn settle(&mut self) {
        loop {
            (0..self.nodes.len()).for_each(|node| self.carry_out(node));
            let Some((from, to, message)) = self.said.pop_front() else { return };
            let now = self.now();
            let replica = &mut self.nodes[usize::from(to)].replica;
            replica.handle_message(now, NodeIndex(from), message).unwrap();
        }
    }

    fn carry_out(&mut self, at: usize) {
        let (now, count) = (self.now(), self.nodes.len() as u8);
        let node = &mut self.nodes[at];
        while let Some(output) = node.replica.poll().unwrap() {
            match output {
                Output::Append(executed) => {
                    let store = node.store.as_mut().expect("it has the store");
                    store.append(&executed).unwrap();
                    store.record(&executed, node.replica.state()).unwrap();
                    node.replica.handle_durable(now, &executed).unwrap();
                }
                Output::Published(head) => node.published = Some(head.checkpoint),
                Output::Send { to, message } => {
                    let own = at as u8;
                    let named = |other: &u8| *other != own && to.is_none_or(|to| to.0 == *other);
                    let to = (0..count).filter(named);
                    self.said.extend(to.map(|to| (own, to, message.clone())));
                }
                _ => {}
            }
        }
    }

    fn now(&self) -> Now {
        let ticks = Ticks(self.now_ms - self.started_ms);
        Now { ticks, wall: UnixMillis(self.now_ms) }
    }

    fn clocks(&self) -> Clocks {
        let monotonic_ms = self.now_ms - self.started_ms;
        Clocks { monotonic_ms, wall: UnixMillis(self.now_ms) }
    }
}

/// How the node of this configuration opens its store, on however full a disk.
pub fn options(config: &Config) -> Options {
    let signer = config.load_keys().unwrap().log.vkey().clone();
    let segment_bytes = config.segment_bytes;
    Options { segment_bytes, ..Options::new(config.params.clone(), signer) }
}

fn pipeline(
    agent: &AgentName,
    batch: usize,
    origin: &Origin,
    key: SigningKey,
    started_ms: u64,
) -> Pipeline {
    let source = SourceSettings {
        name: "kong".to_owned(),
        format: Extractor::new(Format::Kong, &UserTable::default()).unwrap(),
        syntax: Syntax::Plain,
    };
    let settings = RecordSettings {
        agent: agent.clone(),
        enterprise: record::entry::Enterprise::default(),
        host: "gw01.city.example".to_owned(),
        sources: vec![source],
    };
    let sealing = Sealing {
        linger_ms: 50,
        max_records: batch,
        max_bytes: 2 << 20,
        answer_ms: 1,
        heartbeat_ms: 60_000,
    };
    let log = LogPosition { frontier: Frontier::default(), sealed: UnixSeconds(0) };
    let now = Clocks { monotonic_ms: 0, wall: UnixMillis(started_ms) };
    Pipeline::new(settings, sealing, origin.clone(), key, log, now)
}

/// Bytes of all files below a folder, as they lie on the disk.
pub fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let of = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => disk_bytes(&entry.path()),
        false => entry.metadata().map_or(0, |metadata| metadata.blocks() * 512),
    };
    entries.map(of).sum()
}
