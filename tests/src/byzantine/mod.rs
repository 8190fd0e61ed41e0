//! A node that lies: it has a real node's certificate, keys and place among the members, and does
//! with them what no honest node does. It needs nothing of the product but its public formats.
//!
//! It never stops: it sends its peers garbage, oversize and torn frames, messages that mean
//! nothing, and cosignatures that contradict each other; it tells agents a plausible state of
//! their logs, takes their batches, and gives forged receipts for them.

mod agents;
mod messages;
mod peers;

use link::message::AgentState;
use logseal_ledger::{
    config::{Config, Keys},
    peers::Lane,
};
use record::{
    AgentName, Checkpoint, Hash, NodeName, TreeSize, UnixSeconds,
    batch::SealedBatch,
    cosignature::Cosignature,
    enrolment::Enrolment,
    note::{NoteSignature, SignedNote},
};
use replica::{
    Member, Members, Message,
    message::{BodyKind, Cosigned},
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::net::TcpListener;

/// How long anything may take with a peer.
const LIMIT: Duration = Duration::from_secs(5);
/// How many sizes it remembers cosignatures of.
const SIZES: usize = 64;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The lying node.
struct Liar {
    config: Config,
    keys: Keys,
    membership: Hash,
    seen: Mutex<Seen>,
}

/// What the honest nodes told it.
#[derive(Default)]
struct Seen {
    agents: BTreeMap<AgentName, AgentState>,
    cosigned: BTreeMap<TreeSize, BTreeMap<NodeName, Cosigned>>,
    receipts: u64,
}

/// Lies until it is killed. `config` is the configuration of the node it stands for.
///
/// # Errors
/// What keeps it from lying.
pub fn run(config: &Path) -> Result<(), Failure> {
    let config = Config::load(config)?;
    let keys = config.load_keys()?;
    let listed = config.members.as_ref().ok_or("only a node among others can lie to them")?;
    let member = |node: &service::members::Member| Member {
        name: node.name.clone(),
        consensus: node.consensus.public(),
        cosigner: node.cosigner.clone(),
    };
    let members = Members::new(listed.nodes().iter().map(member).collect(), listed.fault_model())?;
    let liar = Liar { membership: members.digest(), config, keys, seen: Mutex::default() };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(Arc::new(liar).lie())
}

impl Liar {
    async fn lie(self: Arc<Self>) -> Result<(), Failure> {
        let (server, client) = self.config.peers_tls()?;
        let (server, client) = (Arc::new(server), Arc::new(client));
        let peers = self.config.peers.ok_or("it has no address for its peers")?;
        let peers = TcpListener::bind(peers).await?;
        let agents = TcpListener::bind(self.config.agents).await?;
        let agent_tls = Arc::new(self.config.agent_tls()?);
        tokio::spawn(agents::listen(Arc::clone(&self), agents, agent_tls));
        let nodes = self.config.members.iter().flat_map(|members| members.nodes());
        for node in nodes.filter(|node| node.name != self.config.name) {
            tokio::spawn(peers::pester(Arc::clone(&self), node.clone(), Arc::clone(&client)));
        }
        service::signals::ready();
        peers::listen(self, peers, server).await
    }

    /// Learns what makes a lie plausible.
    fn learn(&self, from: &NodeName, message: Message) {
        let mut seen = self.seen();
        match message {
            Message::Body(BodyKind::Enrolment, bytes) => {
                let Ok(Enrolment { agent, key, .. }) = Enrolment::decode(&bytes) else { return };
                let root = record::merkle::empty_root().0;
                let state = AgentState { key: key.0, next: 0, root, sealed: 0 };
                seen.agents.entry(agent).or_insert(state);
            }
            Message::Body(BodyKind::Batch, bytes) => {
                if let Ok(batch) = SealedBatch::decode(&bytes) {
                    seen.note(&batch);
                }
            }
            Message::Cosigned(cosigned) => {
                let size = seen.cosigned.entry(cosigned.size).or_default();
                size.insert(from.clone(), cosigned);
                if seen.cosigned.len() > SIZES {
                    seen.cosigned.pop_first();
                }
            }
            _ => {}
        }
    }

    /// A checkpoint that three others cosigned, and that holds under the policy.
    fn true_checkpoint(&self) -> Option<(Checkpoint, SignedNote)> {
        let seen = self.seen();
        let all = |of: &&BTreeMap<NodeName, Cosigned>| of.len() >= 3;
        let cosigned = seen.cosigned.values().rev().find(all)?;
        let Cosigned { size, root, .. } = *cosigned.values().next()?;
        let checkpoint = Checkpoint::new(self.config.params.origin.clone(), size, root);
        let mut note = SignedNote::new(checkpoint.text());
        note.put(self.keys.log.sign(&checkpoint.text(), UnixSeconds(0)));
        for (name, c) in cosigned {
            let vkey = &self.config.members.as_ref()?.get(name)?.cosigner;
            let bytes = Cosignature { time: c.time, signature: c.signature }.to_bytes().to_vec();
            note.put(NoteSignature { name: vkey.name().clone(), id: vkey.id(), bytes });
        }
        Some((checkpoint, note))
    }

    /// Its own cosignature on a root, true or not.
    fn cosign(&self, cosigned: &Cosigned, root: Hash) -> Cosigned {
        let origin = self.config.params.origin.clone();
        let text = Checkpoint::new(origin, cosigned.size, root).text();
        let key = self.keys.cosigner.key();
        let signature = Cosignature::sign(key, &text, cosigned.time).signature;
        Cosigned { root, signature, ..*cosigned }
    }

    /// The newest cosignature of anybody.
    fn newest(&self) -> Option<Cosigned> {
        self.seen().cosigned.last_key_value()?.1.values().next().copied()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn note(&mut self, batch: &SealedBatch) {
        if let Some(state) = self.agents.get_mut(&batch.agent)
            && batch.seal.size.0 >= state.next
        {
            state.next = batch.seal.size.0;
            state.root = batch.seal.root.0;
            state.sealed = batch.seal.time.0;
        }
    }
}

/// Bytes by chance, the same in each run.
fn chance(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

fn lane(round: u64) -> Lane {
    Lane::ALL[(round % 2) as usize]
}
