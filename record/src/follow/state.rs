//! What whoever follows a ledger must remember, as bytes: see `docs/formats.md`, *Monitor state*.

use super::{AgentLog, Follower, Open, Phase};
use crate::{
    AgentName, Hash, Origin, TreeSize, UnixMillis, UnixSeconds,
    bytes::{Malformed, Reader, put_counted8, put_counted32},
    crypto::{PublicKey, sha256},
    merkle::{Frontier, FrontierError},
    note::{NoteError, SignedNote},
};
use std::collections::BTreeMap;

/// The most agents that are followed.
pub const MAX_AGENTS: usize = 1 << 16;
/// The most nodes that are remembered.
pub const MAX_NODES: usize = 64;
/// The most past checkpoints that are kept.
pub const MAX_NOTES: usize = 64;
/// The most bytes of a checkpoint that is kept.
const MAX_NOTE: usize = 64 << 10;
/// The longest address of a node.
const MAX_ADDRESS: usize = 255;

/// The version before entries could be given up.
const VERSION_UNPRUNED: u8 = 1;
const VERSION: u8 = 2;

/// The newest checkpoint that a node has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where the node is asked, at most 255 bytes.
    pub node: String,
    /// What it answered.
    pub note: SignedNote,
}

/// A ledger as far as it was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// What was read of it.
    pub follower: Follower,
    /// What each node has shown.
    pub seen: Vec<Seen>,
    /// Past checkpoints that hold, the oldest first.
    pub notes: Vec<SignedNote>,
}

/// Bytes are not the state of a monitor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Too short or too long.
    #[error("the state {0}")]
    Malformed(#[from] Malformed),
    /// Their checksum is another.
    #[error("the state was altered or damaged: its checksum is another")]
    Checksum,
    /// A version that this program does not know.
    #[error("version {0} of the state is unknown")]
    Version(u8),
    /// A number or name that cannot be.
    #[error("the state's {0} cannot be")]
    Value(&'static str),
    /// A frontier.
    #[error("the state: {0}")]
    Frontier(#[from] FrontierError),
    /// A checkpoint.
    #[error("the state: {0}")]
    Note(#[from] NoteError),
}

impl History {
    /// Before anything was read.
    pub fn new(origin: Origin) -> Self {
        History { follower: Follower::new(origin), seen: vec![], notes: vec![] }
    }

    /// Remembers what a node has shown. A node beyond [`MAX_NODES`], one with a longer address, and
    /// a checkpoint of more than 64 KiB are not remembered.
    pub fn note_seen(&mut self, node: &str, note: &SignedNote) {
        let fits = self.seen.len() < MAX_NODES && node.len() <= MAX_ADDRESS;
        match self.seen.iter_mut().find(|seen| seen.node == node) {
            _ if note.to_string().len() > MAX_NOTE => {}
            Some(seen) => seen.note = note.clone(),
            None if fits => self.seen.push(Seen { node: node.to_owned(), note: note.clone() }),
            None => {}
        }
    }

    /// Keeps a checkpoint that holds, and of the older ones ever fewer.
    pub fn keep(&mut self, note: &SignedNote) {
        if note.to_string().len() > MAX_NOTE {
            return;
        }
        self.notes.push(note.clone());
        if self.notes.len() > MAX_NOTES {
            let mut at = 0;
            self.notes.retain(|_| {
                at += 1;
                at > MAX_NOTES / 2 || at % 2 == 1
            });
        }
    }

    /// The bytes, their checksum included.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.follower.encode(&mut out);
        out.push(u8::try_from(self.seen.len()).expect("bounded by note_seen"));
        for Seen { node, note } in &self.seen {
            put_counted8(&mut out, node.as_bytes());
            put_counted32(&mut out, note.to_string().as_bytes());
        }
        out.push(u8::try_from(self.notes.len()).expect("bounded by keep"));
        for note in &self.notes {
            put_counted32(&mut out, note.to_string().as_bytes());
        }
        let sum = sha256(&[&out]);
        out.extend_from_slice(&sum);
        out
    }

    /// Reads them back.
    ///
    /// # Errors
    /// The first thing wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let at = bytes.len().checked_sub(32).ok_or(StateError::Checksum)?;
        let (body, sum) = bytes.split_at(at);
        if sha256(&[body]) != sum {
            return Err(StateError::Checksum);
        }
        let mut reader = Reader::new(body);
        let version = reader.u8()?;
        if !matches!(version, VERSION_UNPRUNED | VERSION) {
            return Err(StateError::Version(version));
        }
        let mut follower = Follower::decode(&mut reader)?;
        if version != VERSION_UNPRUNED {
            (follower.dropped, follower.due) = (TreeSize(reader.u64()?), UnixMillis(reader.u64()?));
        }
        let mut seen: Vec<Seen> = Vec::new();
        for _ in 0..bounded(reader.u8()?, MAX_NODES, "number of nodes")? {
            let node = text(reader.counted8()?, "node")?;
            if seen.iter().any(|seen| seen.node == node) {
                return Err(StateError::Value("node"));
            }
            seen.push(Seen { node, note: note(&mut reader)? });
        }
        let count = bounded(reader.u8()?, MAX_NOTES, "number of checkpoints")?;
        let notes = (0..count).map(|_| note(&mut reader)).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(History { follower, seen, notes })
    }
}

impl Follower {
    fn encode(&self, out: &mut Vec<u8>) {
        put_counted8(out, self.origin.as_str().as_bytes());
        self.tree.put(out);
        for number in [self.height, self.time.0, self.first] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.push(self.phase.byte());
        out.push(self.open.is_some().into());
        if let Some(Open { agent, start }) = &self.open {
            put_counted8(out, agent.as_str().as_bytes());
            out.extend_from_slice(&start.to_be_bytes());
        }
        let count = u32::try_from(self.agents.len()).expect("bounded by MAX_AGENTS");
        out.extend_from_slice(&count.to_be_bytes());
        for (agent, log) in &self.agents {
            put_counted8(out, agent.as_str().as_bytes());
            out.extend_from_slice(&log.key.0);
            out.extend_from_slice(&log.sealed.0.to_be_bytes());
            out.extend_from_slice(&log.next.to_be_bytes());
            out.push(log.frontier.is_some().into());
            if let Some(frontier) = &log.frontier {
                put_hashes(out, frontier);
            }
        }
        out.extend_from_slice(&self.dropped.0.to_be_bytes());
        out.extend_from_slice(&self.due.0.to_be_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, StateError> {
        let origin = text(reader.counted8()?, "origin")?;
        let origin = origin.parse().map_err(|_| StateError::Value("origin"))?;
        let tree = Frontier::take(reader)?;
        let (height, time, first) = (reader.u64()?, UnixMillis(reader.u64()?), reader.u64()?);
        let phase = Phase::from_byte(reader.u8()?).ok_or(StateError::Value("place in a block"))?;
        let open = match flag(reader)? {
            true => Some(Open { agent: name(reader)?, start: reader.u64()? }),
            false => None,
        };
        let mut agents = BTreeMap::new();
        for _ in 0..bounded(reader.u32()?, MAX_AGENTS, "number of agents")? {
            let agent = name(reader)?;
            if agents.last_key_value().is_some_and(|(last, _)| *last >= agent) {
                return Err(StateError::Value("order of agents"));
            }
            let (key, sealed) = (PublicKey(reader.array()?), UnixSeconds(reader.u64()?));
            let next = reader.u64()?;
            let frontier = flag(reader)?.then(|| hashes(reader, next)).transpose()?;
            agents.insert(agent, AgentLog { key, next, frontier, sealed });
        }
        let (dropped, due) = (TreeSize(0), UnixMillis(0));
        Ok(Follower { origin, tree, height, time, first, phase, open, agents, dropped, due })
    }
}

impl Phase {
    fn byte(self) -> u8 {
        match self {
            Phase::Enrolments => 0,
            Phase::Batches => 1,
            Phase::Equivocations => 2,
            Phase::Declarations => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        let all = [Phase::Enrolments, Phase::Batches, Phase::Equivocations, Phase::Declarations];
        all.get(usize::from(byte)).copied()
    }
}

fn put_hashes(out: &mut Vec<u8>, frontier: &Frontier) {
    frontier.hashes().for_each(|hash| out.extend_from_slice(&hash.0));
}

/// The frontier of a tree of this size: one hash for each bit of it, at most 64.
fn hashes(reader: &mut Reader<'_>, size: u64) -> Result<Frontier, StateError> {
    let hashes = (0..size.count_ones()).map(|_| reader.array().map(Hash));
    let hashes: Vec<Hash> = hashes.collect::<Result<_, _>>()?;
    Ok(Frontier::from_hashes(TreeSize(size), &hashes)?)
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, StateError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(StateError::Value("flag")),
    }
}

fn name(reader: &mut Reader<'_>) -> Result<AgentName, StateError> {
    text(reader.counted8()?, "agent")?.parse().map_err(|_| StateError::Value("agent"))
}

fn text(bytes: &[u8], what: &'static str) -> Result<String, StateError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| StateError::Value(what))
}

fn note(reader: &mut Reader<'_>) -> Result<SignedNote, StateError> {
    let bytes = reader.counted32()?;
    if bytes.len() > MAX_NOTE {
        return Err(StateError::Value("checkpoint"));
    }
    Ok(SignedNote::parse(bytes)?)
}

fn bounded(count: impl Into<u64>, max: usize, what: &'static str) -> Result<usize, StateError> {
    let count = usize::try_from(count.into()).unwrap_or(usize::MAX);
    if count > max { Err(StateError::Value(what)) } else { Ok(count) }
}
