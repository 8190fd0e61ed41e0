//! The base of a pruned ledger: what is kept of the blocks that were given up.
//!
//! It has all that executing the next block needs, the entries that are never given up (enrolments,
//! equivocations, declarations), and for each agent the batches that it may ask for again. The declaration
//! that gave the blocks up names its digest, so a quorum has compared it, and whoever gets it from
//! anywhere knows that it is the right one. Leaf hashes are not in it; it names the root of each chunk
//! of them, so that each chunk can be checked for itself.

use crate::{
    block::{BlockError, BlockHeader},
    execute::Placed,
    state::{LedgerState, Pruned},
};
use record::{
    AgentName, Hash, TreeSize, UnixSeconds,
    batch::LogState,
    bytes::{Malformed, Reader, put_counted8, put_counted32},
    crypto::sha256,
    declaration::{Declaration, Matter},
    enrolment::Enrolment,
    entry::Entry,
    equivocation::Equivocation,
    merkle::{EntryIndex, Frontier, perfect_root},
};
use std::collections::BTreeMap;

/// The level of the subtrees whose roots a base names.
pub const CHUNK_LEVEL: u8 = 16;
/// Leaves of such a subtree.
pub const CHUNK: u64 = 1 << CHUNK_LEVEL;
/// The most bytes of a base.
pub const MAX_BASE_BYTES: usize = 256 << 20;
/// The most batches of an agent that it may ask for again: so many may be under way.
pub const MAX_NEWEST: usize = 16;

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"logseal/base/v1\n";

/// What is kept of the blocks up to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The header of the last of them.
    pub header: BlockHeader,
    /// The ledger's frontier behind it.
    pub frontier: Frontier,
    /// The roots of all whole chunks of leaves in front of it.
    pub chunks: Vec<Hash>,
    /// Where each agent's log stands.
    pub agents: BTreeMap<AgentName, BaseLog>,
    /// The entries that stay, by their ledger index.
    pub kept: BTreeMap<EntryIndex, Vec<u8>>,
}

/// Where an agent's log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseLog {
    /// Its log.
    pub frontier: Frontier,
    /// The time of its newest seal.
    pub sealed: UnixSeconds,
    /// Its newest batches, at most [`MAX_NEWEST`], the oldest first.
    pub newest: Vec<Placed>,
}

/// Bytes are not a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// Too short or too long.
    #[error("the base {0}")]
    Malformed(#[from] Malformed),
    /// A version this program does not know.
    #[error("version {0} of bases is unknown")]
    Version(u8),
    /// Larger than a base may be.
    #[error("the base is larger than {MAX_BASE_BYTES} bytes")]
    TooLarge,
    /// The header.
    #[error("the base: {0}")]
    Header(#[from] BlockError),
    /// The frontier, the chunks or both are not those of the header's root.
    #[error("the base's hashes do not lead to the root that its header names")]
    Root,
    /// Agents that are out of order, twice, or not enrolled by a kept entry.
    #[error("the base's agents are not those that were enrolled")]
    Agents,
    /// Kept entries out of order, beyond the end, or such as are not kept.
    #[error("the base keeps entries that cannot be")]
    Kept,
}

impl Base {
    /// The binary form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_counted32(&mut out, &self.header.encode());
        self.frontier.put(&mut out);
        self.chunks.iter().for_each(|hash| out.extend_from_slice(&hash.0));
        put_count(&mut out, self.agents.len());
        for (agent, log) in &self.agents {
            put_counted8(&mut out, agent.as_str().as_bytes());
            out.extend_from_slice(&log.sealed.0.to_be_bytes());
            log.frontier.put(&mut out);
            out.push(log.newest.len() as u8);
            for placed in &log.newest {
                out.extend_from_slice(&placed.start.0.to_be_bytes());
                out.extend_from_slice(&placed.count.to_be_bytes());
                out.extend_from_slice(&placed.sealed.0.to_be_bytes());
                out.extend_from_slice(&placed.first.0.to_be_bytes());
                out.extend_from_slice(&placed.digest.0);
            }
        }
        put_count(&mut out, self.kept.len());
        for (index, entry) in &self.kept {
            out.extend_from_slice(&index.0.to_be_bytes());
            put_counted32(&mut out, entry);
        }
        out
    }

    /// The digest of the binary form, which the declaration names.
    pub fn digest_of(encoded: &[u8]) -> Hash {
        Hash(sha256(&[DOMAIN, encoded]))
    }

    /// Parses the binary form, and checks that all of it fits together. Whether it is the right one its digest says.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn decode(bytes: &[u8]) -> Result<Self, BaseError> {
        if bytes.len() > MAX_BASE_BYTES {
            return Err(BaseError::TooLarge);
        }
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(BaseError::Version(other)),
        }
        let header = BlockHeader::decode(reader.counted32()?)?;
        let frontier = Frontier::take(&mut reader)?;
        if frontier.size() != header.size || frontier.root() != header.root {
            return Err(BaseError::Root);
        }
        let chunks = take_chunks(&mut reader, &frontier)?;
        let base = Base {
            agents: take_agents(&mut reader)?,
            kept: take_kept(&mut reader, header.size)?,
            header,
            frontier,
            chunks,
        };
        reader.finish()?;
        base.state()?;
        Ok(base)
    }

    /// The ledger right behind the last block that was given up.
    ///
    /// # Errors
    /// When what is kept does not say it.
    pub fn state(&self) -> Result<LedgerState, BaseError> {
        let mut state = LedgerState {
            height: self.header.height,
            parent: self.header.id(),
            time: self.header.time,
            tree: self.frontier.clone(),
            ..LedgerState::genesis()
        };
        for (index, bytes) in &self.kept {
            match Kept::of(bytes).ok_or(BaseError::Kept)? {
                Kept::Enrolment(Enrolment { agent, key, .. }) => {
                    let log = self.agents.get(&agent).ok_or(BaseError::Agents)?;
                    let (frontier, sealed) = (log.frontier.clone(), log.sealed);
                    state.agents.insert(agent, LogState { key, frontier, sealed });
                }
                Kept::Equivocation(found) => {
                    state.convicted.insert((found.culprit, found.kind));
                }
                Kept::Declaration(Declaration { matter, time, .. }) => {
                    state.declared = state.declared.max(time);
                    if let Matter::Prune(prune) = matter {
                        state.pruned = Some(Pruned { prune, index: *index });
                    }
                }
            }
        }
        // Every log is an enrolled agent's.
        if state.agents.len() == self.agents.len() { Ok(state) } else { Err(BaseError::Agents) }
    }

    /// Where each agent's enrolment stands.
    pub fn enrolled(&self) -> impl Iterator<Item = (AgentName, EntryIndex)> + '_ {
        self.kept.iter().filter_map(|(index, bytes)| match Kept::of(bytes)? {
            Kept::Enrolment(enrolment) => Some((enrolment.agent, *index)),
            _ => None,
        })
    }

    /// How many leaves the chunk with this number has; 0 if there is none.
    pub fn chunk_len(&self, chunk: u64) -> usize {
        let begin = chunk.saturating_mul(CHUNK);
        self.header.size.0.saturating_sub(begin).min(CHUNK) as usize
    }

    /// How many chunks of leaves there are in front of its end; the last one may be shorter.
    pub fn chunk_count(&self) -> u64 {
        self.header.size.0.div_ceil(CHUNK)
    }

    /// Whether these are the leaves of that chunk.
    pub fn has_chunk(&self, chunk: u64, leaves: &[Hash]) -> bool {
        if leaves.is_empty() || leaves.len() != self.chunk_len(chunk) {
            return false;
        }
        if let Some(root) = usize::try_from(chunk).ok().and_then(|at| self.chunks.get(at)) {
            return perfect_root(leaves.to_vec()) == *root;
        }
        let mut whole = Frontier::of_subtrees(CHUNK_LEVEL, &self.chunks);
        leaves.iter().for_each(|leaf| whole.push(*leaf));
        whole.root() == self.frontier.root()
    }
}

/// An entry that is never given up.
enum Kept {
    Enrolment(Enrolment),
    Equivocation(Equivocation),
    Declaration(Declaration),
}

impl Kept {
    fn of(bytes: &[u8]) -> Option<Self> {
        let entry = Entry::parse(bytes).ok()?;
        let enrolment = Enrolment::from_entry(&entry).map(Kept::Enrolment);
        enrolment
            .or_else(|| Equivocation::from_entry(&entry).map(Kept::Equivocation))
            .or_else(|| Declaration::from_entry(&entry).map(Kept::Declaration))
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("a base is bounded");
    out.extend_from_slice(&count.to_be_bytes());
}

/// The roots of the whole chunks: as many as the tree's size asks for, and such as lead to its frontier.
fn take_chunks(reader: &mut Reader<'_>, frontier: &Frontier) -> Result<Vec<Hash>, BaseError> {
    let count = frontier.size().0 / CHUNK;
    if count.saturating_mul(32) > reader.left() as u64 {
        return Err(BaseError::Root);
    }
    let chunks =
        (0..count).map(|_| reader.array().map(Hash)).collect::<Result<Vec<_>, Malformed>>()?;
    let large = Frontier::of_subtrees(CHUNK_LEVEL, &chunks);
    let leads = large.hashes().zip(frontier.hashes()).all(|(made, named)| made == named);
    if leads { Ok(chunks) } else { Err(BaseError::Root) }
}

fn take_agents(reader: &mut Reader<'_>) -> Result<BTreeMap<AgentName, BaseLog>, BaseError> {
    let mut agents: BTreeMap<AgentName, BaseLog> = BTreeMap::new();
    for _ in 0..reader.u32()? {
        let name = std::str::from_utf8(reader.counted8()?).map_err(|_| BaseError::Agents)?;
        let agent: AgentName = name.parse().map_err(|_| BaseError::Agents)?;
        let (sealed, frontier) = (UnixSeconds(reader.u64()?), Frontier::take(reader)?);
        let count = usize::from(reader.u8()?);
        if count > MAX_NEWEST {
            return Err(BaseError::Agents);
        }
        let placed = |reader: &mut Reader<'_>| -> Result<Placed, Malformed> {
            Ok(Placed {
                agent: agent.clone(),
                start: EntryIndex(reader.u64()?),
                count: reader.u32()?,
                sealed: UnixSeconds(reader.u64()?),
                first: EntryIndex(reader.u64()?),
                digest: Hash(reader.array()?),
            })
        };
        let newest = (0..count).map(|_| placed(reader)).collect::<Result<_, _>>()?;
        if agents.last_key_value().is_some_and(|(last, _)| *last >= agent) {
            return Err(BaseError::Agents);
        }
        agents.insert(agent, BaseLog { frontier, sealed, newest });
    }
    Ok(agents)
}

fn take_kept(
    reader: &mut Reader<'_>,
    size: TreeSize,
) -> Result<BTreeMap<EntryIndex, Vec<u8>>, BaseError> {
    let mut kept: BTreeMap<EntryIndex, Vec<u8>> = BTreeMap::new();
    for _ in 0..reader.u32()? {
        let (index, entry) = (EntryIndex(reader.u64()?), reader.counted32()?);
        let follows = kept.last_key_value().is_none_or(|(last, _)| *last < index);
        if !follows || index.0 >= size.0 {
            return Err(BaseError::Kept);
        }
        kept.insert(index, entry.to_vec());
    }
    Ok(kept)
}
