//! A ledger of one process: it checks every batch as a real node would, keeps a tree, and signs.
//! What a test wants of it beyond that is in its [`Mood`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use link::{
    Role,
    frame::{FrameReader, FrameWriter},
    message::{
        AgentState, BatchReceipt, FromNode, MAX_FRAME, PROTOCOL, Refusal, RefusalCode, ToNode,
        Welcome,
    },
    tls::{ReloadingServer, ServerSettings, accept},
};
use logseal_agent::config::NodeAddress;
use record::{
    Checkpoint, Hash, TreeSize, UnixSeconds,
    batch::{Codec, LogState, SealedBatch},
    crypto::PublicKey,
    entry::{Enterprise, restore},
    merkle::{EntryIndex, Frontier, NodeId, NodeSource, leaf_hash, node_hash, range_proof, root},
    note::{NoteSigner, SignatureType, SignedNote},
    policy::write_policy,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use zeroize::Zeroizing;

use crate::support::*;

/// How long a distant node takes to say welcome: far beyond the noise of a busy machine.
const DISTANCE: Duration = Duration::from_millis(700);

/// How a node behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    #[default]
    Honest,
    /// Commits, and never answers a batch.
    NoReceipts,
    /// Answers nothing after the welcome, not even a ping.
    Silent,
    /// Gives receipts under a root that its tree does not have.
    ForgedRoot,
    /// Gives receipts without cosignatures.
    NoQuorum,
    /// Has no room for any batch when it comes for the first time.
    Busy,
    /// Closes the connection after each receipt.
    Hasty,
    /// Refuses every batch as invalid.
    Rejecting,
    /// Says that another connection is there.
    AlreadyConnected,
    /// Calls itself by another name.
    Impostor,
    /// Claims so many records that nobody has.
    Boasting,
    /// Is far away: its welcome takes a while.
    Distant,
}

/// A ledger, shared by all its nodes.
#[derive(Clone)]
pub struct Ledger {
    pub log: Arc<NoteSigner>,
    witness: Arc<NoteSigner>,
    pub state: Arc<Mutex<State>>,
}

/// What the ledger holds.
#[derive(Default)]
pub struct State {
    pub key: Option<PublicKey>,
    frontier: Frontier,
    sealed: UnixSeconds,
    leaves: Vec<Hash>,
    /// Every batch taken, by its end and the time of its seal, and where it stands.
    placed: BTreeMap<(u64, u64), (SealedBatch, u64)>,
    /// The lines of all records, in order.
    pub lines: Vec<String>,
    /// The encodings of all batches that were offered.
    pub offered: Vec<Vec<u8>>,
    /// How often a connection said hello.
    pub greetings: usize,
    /// The first records of batches for which there was no room once.
    pub refused: BTreeSet<u64>,
    codec: Codec,
}

struct Leaves<'a>(&'a [Hash]);

impl NodeSource for Leaves<'_> {
    type Error = std::convert::Infallible;

    fn node(&self, id: NodeId) -> Result<Hash, Self::Error> {
        if id.level == 0 {
            return Ok(self.0[id.index as usize]);
        }
        let (left, right) = id.children();
        Ok(node_hash(&self.node(left)?, &self.node(right)?))
    }
}

/// A node that listens.
pub struct Node {
    pub address: NodeAddress,
    serving: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Ledger {
    /// An empty ledger that knows the tests' agent.
    pub fn new() -> Self {
        let signer = |name: &str, kind, seed| {
            Arc::new(NoteSigner::new(name.parse().unwrap(), kind, &Zeroizing::new([seed; 32])))
        };
        let log = signer(origin().as_str(), SignatureType::Ed25519, 1);
        let witness = signer("ledger.example/x/node/n1", SignatureType::CosignatureV1, 2);
        let state = State { key: Some(key().public()), ..State::default() };
        Ledger { log, witness, state: Arc::new(Mutex::new(state)) }
    }

    pub fn policy(&self) -> String {
        let witness = ("n1".to_owned(), self.witness.vkey().clone());
        write_policy(&[self.log.vkey().clone()], &[witness], 1)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Records of the agent in the ledger.
    pub fn records(&self) -> u64 {
        self.state().frontier.size().0
    }

    /// Takes a batch by another way than a connection.
    pub fn commit(&self, batch: SealedBatch) {
        self.state().commit(batch).unwrap();
    }

    /// Starts node `n1` in one mood after the other, a connection each; the last one stays.
    pub async fn node(&self, certificates: &Certificates, moods: &[Mood]) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.listen(certificates, listener, moods)
    }

    /// Starts an honest node at a known address.
    pub async fn node_at(&self, certificates: &Certificates, address: &str) -> Node {
        let listener = TcpListener::bind(address).await.unwrap();
        self.listen(certificates, listener, &[])
    }

    fn listen(&self, certificates: &Certificates, listener: TcpListener, moods: &[Mood]) -> Node {
        let files = certificates.issue(Role::Node, "n1");
        let settings = ServerSettings::internal(files, &[Role::Node], &[Role::Agent]);
        let server = Arc::new(ReloadingServer::open(settings).unwrap());
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let (ledger, moods) = (self.clone(), moods.to_vec());
        let serving = tokio::spawn(async move {
            // Connections end with their node.
            let mut connections = JoinSet::new();
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let mood = *moods.get(connection).or(moods.last()).unwrap_or(&Mood::Honest);
                let (ledger, server) = (ledger.clone(), Arc::clone(&server));
                connections.spawn(async move { ledger.serve(stream, &server, mood).await });
            }
        });
        Node { address, serving }
    }

    /// Serves one connection to its end.
    async fn serve(self, stream: TcpStream, server: &ReloadingServer, mood: Mood) {
        let Ok((stream, identity)) = accept(stream, server, LIMIT).await else { return };
        assert_eq!(identity.agent(), Some(agent()));
        let (read, write) = tokio::io::split(stream);
        let mut reader = FrameReader::new(read, MAX_FRAME);
        let mut writer = FrameWriter::new(write, MAX_FRAME);
        while let Ok(Some(message)) = reader.receive::<ToNode>().await {
            if mood == Mood::Distant && matches!(message, ToNode::Hello { .. }) {
                tokio::time::sleep(DISTANCE).await;
            }
            let answer = match message {
                ToNode::Hello { protocol: PROTOCOL, .. } => Some(self.welcome(mood)),
                ToNode::Submit { batch } => self.submit(batch, mood),
                ToNode::Ping => (mood != Mood::Silent).then_some(FromNode::Pong),
                other => panic!("an agent sent {other:?}"),
            };
            let Some(answer) = answer else { continue };
            let last = mood == Mood::Hasty && matches!(answer, FromNode::Receipt(_));
            if writer.send(&answer).await.is_err() || writer.flush().await.is_err() || last {
                return;
            }
        }
    }

    fn welcome(&self, mood: Mood) -> FromNode {
        let mut state = self.state();
        state.greetings += 1;
        if mood == Mood::AlreadyConnected {
            return refused(RefusalCode::AlreadyConnected, "it is connected");
        }
        let agent = state.key.map(|key| AgentState {
            key: key.0,
            next: state.frontier.size().0 + if mood == Mood::Boasting { 1000 } else { 0 },
            root: state.frontier.root().0,
            sealed: state.sealed.0,
        });
        FromNode::Welcome(Welcome {
            protocol: PROTOCOL,
            node: if mood == Mood::Impostor { "n2".into() } else { "n1".into() },
            origin: origin().to_string(),
            enterprise: Enterprise::default().0,
            agent,
        })
    }

    fn submit(&self, encoded: Vec<u8>, mood: Mood) -> Option<FromNode> {
        let mut state = self.state();
        state.offered.push(encoded.clone());
        let batch = SealedBatch::decode(&encoded).unwrap();
        match mood {
            Mood::Silent => return None,
            Mood::Rejecting => {
                return Some(refused(RefusalCode::Invalid, "it is not to our liking"));
            }
            Mood::Busy if state.refused.insert(batch.start.0) => {
                return Some(refused(RefusalCode::Busy, "the disk is full"));
            }
            _ => {}
        }
        if let Err(answer) = state.commit(batch.clone()) {
            return Some(*answer);
        }
        if mood == Mood::NoReceipts {
            return None;
        }
        Some(FromNode::Receipt(self.receipt(&state, &batch, mood)))
    }

    fn receipt(&self, state: &State, batch: &SealedBatch, mood: Mood) -> BatchReceipt {
        let size = TreeSize(state.leaves.len() as u64);
        let (placed, first) = &state.placed[&(batch.seal.size.0, batch.seal.time.0)];
        assert_eq!(placed, batch, "the same bytes, whenever they come");
        let end = EntryIndex(first + u64::from(batch.count) + 1);
        let source = Leaves(&state.leaves);
        let Ok(proof) = range_proof(&source, EntryIndex(*first), end, size);
        let Ok(root) = root(&source, size);
        let root = if mood == Mood::ForgedRoot { Hash([6; 32]) } else { root };
        let mut note = SignedNote::new(Checkpoint::new(origin(), size, root).text());
        let (text, now) = (note.text().to_owned(), UnixSeconds(1_795_248_200));
        note.put(self.log.sign(&text, now));
        if mood != Mood::NoQuorum {
            note.put(self.witness.sign(&text, now));
        }
        BatchReceipt {
            start: batch.start.0,
            size: batch.seal.size.0,
            sealed: batch.seal.time.0,
            first: *first,
            left: proof.left.iter().map(|hash| hash.0).collect(),
            right: proof.right.iter().map(|hash| hash.0).collect(),
            checkpoint: note.to_string(),
        }
    }
}

impl State {
    /// Takes a batch, unless it is there.
    fn commit(&mut self, batch: SealedBatch) -> Result<(), Box<FromNode>> {
        let place = (batch.seal.size.0, batch.seal.time.0);
        if let Some((placed, _)) = self.placed.get(&place) {
            let same = *placed == batch;
            return if same {
                Ok(())
            } else {
                Err(refused(RefusalCode::Conflict, "it differs").into())
            };
        }
        let key = self.key.ok_or(refused(RefusalCode::NotEnrolled, "not enrolled"))?;
        if batch.start.0 != self.frontier.size().0 {
            return Err(refused(RefusalCode::NotNext, "another is next").into());
        }
        let log = LogState { key, frontier: self.frontier.clone(), sealed: self.sealed };
        let mut scratch = Vec::new();
        let verified = batch.clone().open(&origin(), &log, &mut self.codec, &mut scratch);
        let verified = verified.map_err(|e| refused(RefusalCode::Invalid, &e.to_string()))?;
        let first = self.leaves.len() as u64;
        let mut rest = &scratch[..];
        while let Some((length, tail)) = rest.split_first_chunk() {
            let (entry, tail) = tail.split_at(usize::from(u16::from_be_bytes(*length)));
            let line = restore(entry).unwrap().line;
            self.lines.push(String::from_utf8_lossy(&line).into_owned());
            rest = tail;
        }
        self.leaves.extend_from_slice(verified.leaves());
        self.leaves.push(leaf_hash(&batch.seal_entry().encode(Enterprise::default())));
        self.frontier = verified.after().clone();
        self.sealed = batch.seal.time;
        self.placed.insert(place, (batch, first));
        Ok(())
    }
}

fn refused(code: RefusalCode, message: &str) -> FromNode {
    FromNode::Refused(Refusal { code, message: message.to_owned(), next: None })
}
