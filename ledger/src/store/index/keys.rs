//! Keys and values of the index.

use super::{BatchKey, BatchPlace};
use record::{
    AgentName, Hash, UnixMillis, UnixSeconds,
    batch::LogState,
    block::Height,
    bytes::Reader,
    crypto::PublicKey,
    declaration::Matter,
    equivocation::EquivocationKind,
    merkle::{EntryIndex, Frontier},
};
use replica::{BlockHeader, Conviction, LedgerState, Placed, Pruned, entries::Places};

const VERSION: u8 = 4;
pub(super) const STATE: &[u8] = b"s";
pub(super) const AGENT: u8 = b'a';
const BLOCK: u8 = b'b';
const BATCH: u8 = b'p';
const ENROLMENT: u8 = b'e';
pub(super) const CONVICTED: u8 = b'c';
const KEPT: u8 = b'k';

/// The keys and values that say where a block's bodies stand.
pub(super) fn positions(header: &BlockHeader, places: &Places) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut out = vec![(block_key(header.first), header.height.0.to_be_bytes().to_vec())];
    let height = header.height.0.to_be_bytes();
    let enrolled = places.enrolled.iter();
    out.extend(enrolled.map(|(name, at)| (enrolment_key(name), at.0.to_be_bytes().to_vec())));
    out.extend(places.kept.iter().map(|index| (kept_key(*index), height.to_vec())));
    for (nth, placed) in (0..).zip(&places.placed) {
        let key = batch_key(&BatchKey::of_placed(placed));
        out.push((key, encode_place(header.height, nth, placed)));
    }
    out
}

pub(super) fn encode_place(height: Height, nth: u32, placed: &Placed) -> Vec<u8> {
    let mut value = height.0.to_be_bytes().to_vec();
    value.extend_from_slice(&nth.to_be_bytes());
    value.extend_from_slice(&placed.first.0.to_be_bytes());
    value.extend_from_slice(&placed.digest.0);
    value
}

pub(super) fn agent_key(agent: &AgentName) -> Vec<u8> {
    [&[AGENT], agent.as_str().as_bytes()].concat()
}

pub(super) fn enrolment_key(agent: &AgentName) -> Vec<u8> {
    [&[ENROLMENT], agent.as_str().as_bytes()].concat()
}

pub(super) fn conviction_key((culprit, kind): &Conviction) -> Vec<u8> {
    [&[CONVICTED], culprit.as_str().as_bytes(), &[0], kind.as_str().as_bytes()].concat()
}

pub(super) fn decode_conviction(key: &[u8]) -> Option<Conviction> {
    let (culprit, kind) = std::str::from_utf8(&key[1..]).ok()?.split_once('\0')?;
    Some((culprit.parse().ok()?, EquivocationKind::from_word(kind)?))
}

pub(super) fn kept_key(index: EntryIndex) -> Vec<u8> {
    [&[KEPT], &index.0.to_be_bytes()[..]].concat()
}

pub(super) fn block_key(first: EntryIndex) -> Vec<u8> {
    [&[BLOCK], &first.0.to_be_bytes()[..]].concat()
}

/// `p`, name, 0, start, count, time. A real batch sorts behind the heartbeats at its start, so the
/// last key up to a record's number is the batch it is in.
pub(super) fn batch_key(key: &BatchKey) -> Vec<u8> {
    let mut out = vec![BATCH];
    out.extend_from_slice(key.agent.as_str().as_bytes());
    out.push(0);
    out.extend_from_slice(&key.start.0.to_be_bytes());
    out.extend_from_slice(&key.count.to_be_bytes());
    out.extend_from_slice(&key.sealed.0.to_be_bytes());
    out
}

pub(super) fn decode_batch_key(agent: &AgentName, key: &[u8]) -> Option<BatchKey> {
    let mut reader = Reader::new(key.get(2 + agent.as_str().len()..)?);
    let key = BatchKey {
        agent: agent.clone(),
        start: EntryIndex(reader.u64().ok()?),
        count: reader.u32().ok()?,
        sealed: UnixSeconds(reader.u64().ok()?),
    };
    reader.finish().ok().map(|()| key)
}

pub(super) fn decode_place(value: &[u8]) -> Option<BatchPlace> {
    let mut reader = Reader::new(value);
    let place = BatchPlace {
        height: Height(reader.u64().ok()?),
        nth: reader.u32().ok()?,
        first: EntryIndex(reader.u64().ok()?),
        digest: Hash(reader.array().ok()?),
    };
    reader.finish().ok().map(|()| place)
}

/// The state but for agents and convictions, which have keys of their own.
pub(super) struct Newest<'a> {
    pub(super) height: Height,
    pub(super) id: Hash,
    pub(super) time: UnixMillis,
    pub(super) tree: &'a Frontier,
    pub(super) declared: UnixSeconds,
    pub(super) pruned: Option<&'a Pruned>,
}

impl<'a> Newest<'a> {
    pub(super) fn of(state: &'a LedgerState) -> Self {
        Newest {
            height: state.height,
            id: state.parent,
            time: state.time,
            tree: &state.tree,
            declared: state.declared,
            pruned: state.pruned.as_ref(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.height.0.to_be_bytes());
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.time.0.to_be_bytes());
        self.tree.put(&mut out);
        out.extend_from_slice(&self.declared.0.to_be_bytes());
        if let Some(Pruned { prune, index }) = self.pruned {
            out.extend_from_slice(&index.0.to_be_bytes());
            Matter::Prune(prune.clone()).put(&mut out);
        }
        out
    }
}

pub(super) fn decode_state(bytes: &[u8]) -> Option<LedgerState> {
    let mut reader = Reader::new(bytes);
    if reader.u8().ok()? != VERSION {
        return None;
    }
    let mut state = LedgerState {
        height: Height(reader.u64().ok()?),
        parent: Hash(reader.array().ok()?),
        time: UnixMillis(reader.u64().ok()?),
        tree: Frontier::take(&mut reader).ok()?,
        declared: UnixSeconds(reader.u64().ok()?),
        ..LedgerState::genesis()
    };
    if reader.left() > 0 {
        let index = EntryIndex(reader.u64().ok()?);
        let Matter::Prune(prune) = Matter::take(&mut reader).ok()? else { return None };
        state.pruned = Some(Pruned { prune, index });
    }
    reader.finish().ok().map(|()| state)
}

pub(super) fn encode_log(log: &LogState) -> Vec<u8> {
    let mut out = log.key.0.to_vec();
    out.extend_from_slice(&log.sealed.0.to_be_bytes());
    log.frontier.put(&mut out);
    out
}

pub(super) fn decode_log(bytes: &[u8]) -> Option<LogState> {
    let mut reader = Reader::new(bytes);
    let (key, sealed) = (PublicKey(reader.array().ok()?), UnixSeconds(reader.u64().ok()?));
    let frontier = Frontier::take(&mut reader).ok()?;
    reader.finish().ok().map(|()| LogState { key, frontier, sealed })
}
