//! The spool's records as bytes; byte diagrams are in `docs/formats.md`.

use journal::Seq;
use pipeline::line::{FileId, FilePosition, Fingerprint, Keep};
use record::{
    AgentName, Hash, Origin, TreeSize, UnixMillis, UnixSeconds,
    batch::{BatchError, SealedBatch},
    bytes::{Malformed, Reader, put_counted8, put_counted32},
    crypto::PublicKey,
    merkle::{Frontier, FrontierError},
};

use super::positions::{NamedChange, Positions};

const VERSION: u8 = 2;
/// Before there were bookmarks; still read.
const VERSION_1: u8 = 1;
const KIND_BATCH: u8 = 1;
const KIND_STATE: u8 = 2;
const KIND_CHANGES: u8 = 3;

const REACHED: u8 = 1;
const RENAMED: u8 = 2;
const GONE: u8 = 3;
const MARKED: u8 = 4;
const UNMARKED: u8 = 5;

const KEEP_LAST: u8 = 1;
const KEEP_TAIL: u8 = 2;

/// Bytes are no record of a spool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Too short or too long.
    #[error("the record {0}")]
    Malformed(#[from] Malformed),
    /// Written by a newer program.
    #[error("version {0} of spool records is unknown: use the newer program")]
    Version(u8),
    /// A kind of record or change that does not exist.
    #[error("kind {0} is unknown")]
    Kind(u8),
    /// Not text, or no name or origin.
    #[error("a name in it is none")]
    Name,
    /// A frontier with too many or too few hashes.
    #[error(transparent)]
    Frontier(#[from] FrontierError),
    /// The batch in it.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A fingerprint over more bytes than there are.
    #[error("a fingerprint in it is longer than fingerprints are")]
    Fingerprint,
    /// A bookmark without a name, or kept in a way that does not exist.
    #[error("a bookmark in it is none")]
    Bookmark,
}

/// A sealed batch, with what becomes durable along with it.
#[derive(Clone, Debug)]
pub struct BatchRecord<'a> {
    /// When the line of its first record was received; `None` for a heartbeat.
    pub received: Option<UnixMillis>,
    /// When it was sealed, finer than the seal itself says.
    pub sealed: UnixMillis,
    /// The agent's log after it.
    pub after: Frontier,
    /// What to remember about sources, in order.
    pub changes: Vec<NamedChange<'a>>,
    /// The batch in the form in which it travels.
    pub encoded: &'a [u8],
    /// The same, parsed.
    pub batch: SealedBatch,
}

/// Everything a start needs to know, at one point of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRecord {
    /// Whose spool it is.
    pub agent: AgentName,
    /// For which ledger.
    pub ledger: Origin,
    /// The key that seals.
    pub key: PublicKey,
    /// The time of the newest seal; 0 before the first.
    pub sealed: UnixSeconds,
    /// All batches in records below this one have verified receipts.
    pub released: Seq,
    /// The agent's log.
    pub frontier: Frontier,
    /// How far sources were taken over.
    pub positions: Positions,
}

/// A record of a spool.
#[derive(Clone, Debug)]
pub enum Decoded<'a> {
    /// A batch.
    Batch(Box<BatchRecord<'a>>),
    /// A state.
    State(Box<StateRecord>),
    /// Changes without a batch.
    Changes(Vec<NamedChange<'a>>),
}

/// What stands in a batch record in front of the encoded batch.
pub(super) fn batch_head(
    received: Option<UnixMillis>,
    sealed: UnixMillis,
    after: &Frontier,
    changes: &[NamedChange<'_>],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 32 * after.hashes().len() + 96 * changes.len());
    out.extend_from_slice(&[VERSION, KIND_BATCH]);
    out.extend_from_slice(&received.map_or(0, |time| time.0).to_be_bytes());
    out.extend_from_slice(&sealed.0.to_be_bytes());
    put_frontier(&mut out, after);
    put_changes(&mut out, changes);
    out
}

/// A record of changes that no batch goes along with.
pub(super) fn changes_record(changes: &[NamedChange<'_>]) -> Vec<u8> {
    let mut out = vec![VERSION, KIND_CHANGES];
    put_changes(&mut out, changes);
    out
}

impl StateRecord {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + 96 * self.positions.len());
        out.extend_from_slice(&[VERSION, KIND_STATE]);
        put_counted8(&mut out, self.agent.as_str().as_bytes());
        put_counted8(&mut out, self.ledger.as_str().as_bytes());
        out.extend_from_slice(&self.key.0);
        out.extend_from_slice(&self.sealed.0.to_be_bytes());
        out.extend_from_slice(&self.released.0.to_be_bytes());
        put_frontier(&mut out, &self.frontier);
        put_count(&mut out, self.positions.len());
        for (source, position) in self.positions.iter() {
            put_counted8(&mut out, source.as_bytes());
            put_position(&mut out, &position);
        }
        put_count(&mut out, self.positions.bookmarks().count());
        for (source, key, value) in self.positions.bookmarks() {
            put_counted8(&mut out, source.as_bytes());
            put_counted8(&mut out, key);
            put_counted32(&mut out, value);
        }
        out
    }

    fn decode(version: u8, mut reader: Reader<'_>) -> Result<Self, FormatError> {
        let agent = text(reader.counted8()?)?.parse().map_err(|_| FormatError::Name)?;
        let ledger = text(reader.counted8()?)?.parse().map_err(|_| FormatError::Name)?;
        let key = PublicKey(reader.array()?);
        let (sealed, released) = (UnixSeconds(reader.u64()?), Seq(reader.u64()?));
        let frontier = take_frontier(&mut reader)?;
        let mut positions = Positions::default();
        for _ in 0..reader.u32()? {
            let source = text(reader.counted8()?)?;
            positions.apply(&NamedChange::Reached(source, take_position(&mut reader)?));
        }
        let bookmarks = if version == VERSION_1 { 0 } else { reader.u32()? };
        for _ in 0..bookmarks {
            let (source, key) = (text(reader.counted8()?)?, take_key(&mut reader)?);
            positions.apply(&NamedChange::Marked(source, key, Keep::Last, reader.counted32()?));
        }
        reader.finish()?;
        Ok(StateRecord { agent, ledger, key, sealed, released, frontier, positions })
    }
}

impl<'a> BatchRecord<'a> {
    fn decode(mut reader: Reader<'a>) -> Result<Self, FormatError> {
        let received = Some(UnixMillis(reader.u64()?)).filter(|time| time.0 != 0);
        let sealed = UnixMillis(reader.u64()?);
        let after = take_frontier(&mut reader)?;
        let changes = take_changes(&mut reader)?;
        let encoded = reader.take(reader.left())?;
        let batch = SealedBatch::decode(encoded)?;
        Ok(BatchRecord { received, sealed, after, changes, encoded, batch })
    }
}

/// Parses a record. It panics for no bytes, and allocates no more than they are long, times a small factor.
///
/// # Errors
/// When the bytes are not exactly one record of a known version.
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, FormatError> {
    let mut reader = Reader::new(bytes);
    let version = reader.u8()?;
    if !(VERSION_1..=VERSION).contains(&version) {
        return Err(FormatError::Version(version));
    }
    match reader.u8()? {
        KIND_BATCH => Ok(Decoded::Batch(Box::new(BatchRecord::decode(reader)?))),
        KIND_STATE => Ok(Decoded::State(Box::new(StateRecord::decode(version, reader)?))),
        KIND_CHANGES => {
            let changes = take_changes(&mut reader)?;
            reader.finish()?;
            Ok(Decoded::Changes(changes))
        }
        other => Err(FormatError::Kind(other)),
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count =
        u32::try_from(count).expect("files and bookmarks are bounded by the sources' limits");
    out.extend_from_slice(&count.to_be_bytes());
}

fn put_frontier(out: &mut Vec<u8>, frontier: &Frontier) {
    out.extend_from_slice(&frontier.size().0.to_be_bytes());
    for hash in frontier.hashes() {
        out.extend_from_slice(&hash.0);
    }
}

/// The size says how many hashes there are.
fn take_frontier(reader: &mut Reader<'_>) -> Result<Frontier, FormatError> {
    let size = TreeSize(reader.u64()?);
    let hashes: Result<Vec<Hash>, Malformed> =
        (0..size.0.count_ones()).map(|_| reader.array().map(Hash)).collect();
    Ok(Frontier::from_hashes(size, &hashes?)?)
}

fn put_changes(out: &mut Vec<u8>, changes: &[NamedChange<'_>]) {
    put_count(out, changes.len());
    changes.iter().for_each(|change| put_change(out, change));
}

fn take_changes<'a>(reader: &mut Reader<'a>) -> Result<Vec<NamedChange<'a>>, FormatError> {
    let mut changes = Vec::new();
    for _ in 0..reader.u32()? {
        changes.push(take_change(reader)?);
    }
    Ok(changes)
}

fn put_change(out: &mut Vec<u8>, change: &NamedChange<'_>) {
    let mut begin = |kind, source: &str| {
        out.push(kind);
        put_counted8(out, source.as_bytes());
    };
    match change {
        NamedChange::Reached(source, position) => {
            begin(REACHED, source);
            put_position(out, position);
        }
        NamedChange::Renamed(source, old, new) => {
            begin(RENAMED, source);
            put_file(out, old);
            put_file(out, new);
        }
        NamedChange::Gone(source, file) => {
            begin(GONE, source);
            put_file(out, file);
        }
        NamedChange::Marked(source, key, keep, value) => {
            begin(MARKED, source);
            put_counted8(out, key);
            match keep {
                Keep::Last => out.push(KEEP_LAST),
                Keep::Tail(most) => {
                    out.push(KEEP_TAIL);
                    out.extend_from_slice(&most.to_be_bytes());
                }
            }
            put_counted32(out, value);
        }
        NamedChange::Unmarked(source, key) => {
            begin(UNMARKED, source);
            put_counted8(out, key);
        }
    }
}

fn take_change<'a>(reader: &mut Reader<'a>) -> Result<NamedChange<'a>, FormatError> {
    let kind = reader.u8()?;
    let source = text(reader.counted8()?)?;
    match kind {
        REACHED => Ok(NamedChange::Reached(source, take_position(reader)?)),
        RENAMED => Ok(NamedChange::Renamed(source, take_file(reader)?, take_file(reader)?)),
        GONE => Ok(NamedChange::Gone(source, take_file(reader)?)),
        MARKED => {
            let (key, keep) = (take_key(reader)?, take_keep(reader)?);
            Ok(NamedChange::Marked(source, key, keep, reader.counted32()?))
        }
        UNMARKED => Ok(NamedChange::Unmarked(source, take_key(reader)?)),
        other => Err(FormatError::Kind(other)),
    }
}

fn take_key<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], FormatError> {
    let key = reader.counted8()?;
    if key.is_empty() { Err(FormatError::Bookmark) } else { Ok(key) }
}

fn take_keep(reader: &mut Reader<'_>) -> Result<Keep, FormatError> {
    match reader.u8()? {
        KEEP_LAST => Ok(Keep::Last),
        KEEP_TAIL => Ok(Keep::Tail(reader.u32()?)),
        _ => Err(FormatError::Bookmark),
    }
}

fn put_position(out: &mut Vec<u8>, position: &FilePosition) {
    put_file(out, &position.file);
    out.extend_from_slice(&position.offset.to_be_bytes());
}

fn take_position(reader: &mut Reader<'_>) -> Result<FilePosition, FormatError> {
    Ok(FilePosition { file: take_file(reader)?, offset: reader.u64()? })
}

fn put_file(out: &mut Vec<u8>, file: &FileId) {
    out.extend_from_slice(&file.device.to_be_bytes());
    out.extend_from_slice(&file.inode.to_be_bytes());
    out.extend_from_slice(&file.fingerprint.len.to_be_bytes());
    out.extend_from_slice(&file.fingerprint.hash);
}

fn take_file(reader: &mut Reader<'_>) -> Result<FileId, FormatError> {
    let (device, inode) = (reader.u64()?, reader.u64()?);
    let fingerprint = Fingerprint { len: reader.u16()?, hash: reader.array()? };
    if usize::from(fingerprint.len) > Fingerprint::MAX_LEN {
        return Err(FormatError::Fingerprint);
    }
    Ok(FileId { device, inode, fingerprint })
}

fn text(bytes: &[u8]) -> Result<&str, FormatError> {
    std::str::from_utf8(bytes).map_err(|_| FormatError::Name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use record::{
        batch::{BatchBuilder, Codec},
        crypto::SigningKey,
        merkle::leaf_hash,
    };
    use zeroize::Zeroizing;

    fn frontier(size: u8) -> Frontier {
        let mut frontier = Frontier::default();
        (0..size).for_each(|n| frontier.push(leaf_hash(&[n])));
        frontier
    }

    fn heartbeat(log: Frontier) -> SealedBatch {
        let (ledger, agent) = ("l.example/x".parse().unwrap(), "gw01".parse().unwrap());
        let key = SigningKey::from_seed(&Zeroizing::new([4; 32]));
        let mut builder = BatchBuilder::new(ledger, agent, log);
        builder.seal(&key, UnixSeconds(7), &mut Codec::default()).batch
    }

    prop_compose! {
        fn any_file()(device: u64, inode: u64, len in 0u16..=1024, hash: [u8; 16]) -> FileId {
            FileId { device, inode, fingerprint: Fingerprint { len, hash } }
        }
    }

    prop_compose! {
        fn any_state()(
            key: [u8; 32], sealed: u64, released: u64, size in 0u8..9,
            files in prop::collection::vec(("[a-z]{1,48}", any_file(), any::<u64>()), 0..5),
            bookmarks in prop::collection::vec(("[a-z]{1,9}", "[a-z]{1,255}", any::<Vec<u8>>()), 0..5),
        ) -> StateRecord {
            let mut positions = Positions::default();
            for (source, file, offset) in &files {
                let position = FilePosition { file: *file, offset: *offset };
                positions.apply(&NamedChange::Reached(source, position));
            }
            for (source, key, value) in &bookmarks {
                positions.apply(&NamedChange::Marked(source, key.as_bytes(), Keep::Last, value));
            }
            StateRecord {
                agent: "gw01".parse().unwrap(),
                ledger: "l.example/x".parse().unwrap(),
                key: PublicKey(key),
                sealed: UnixSeconds(sealed),
                released: Seq(released),
                frontier: frontier(size),
                positions,
            }
        }
    }

    proptest! {
        #[test]
        fn a_state_is_read_back_as_it_was_written(state in any_state()) {
            let bytes = state.encode();
            match decode(&bytes).unwrap() {
                Decoded::State(read) => prop_assert_eq!(*read, state),
                _ => prop_assert!(false),
            }
            for len in 0..bytes.len() {
                prop_assert!(decode(&bytes[..len]).is_err());
            }
        }

        #[test]
        fn a_batch_and_its_positions_are_read_back_as_they_were_written(
            old in any_file(), new in any_file(), offset: u64, size in 0u8..9, received: u64, value: Vec<u8>,
        ) {
            let changes = [
                NamedChange::Renamed("kong", old, new),
                NamedChange::Gone("x", old),
                NamedChange::Reached("kong", FilePosition { file: new, offset }),
                NamedChange::Unmarked("relp", b"web01/1"),
                NamedChange::Marked("relp", b"web01/2", Keep::Tail(64), &value),
                NamedChange::Marked("journal", b"cursor", Keep::Last, &value),
            ];
            let batch = heartbeat(frontier(size));
            let received = UnixMillis(received);
            let mut bytes = batch_head(Some(received), UnixMillis(9), &frontier(size), &changes);
            bytes.extend_from_slice(&batch.encode());
            match decode(&bytes).unwrap() {
                Decoded::Batch(read) => {
                    prop_assert_eq!(read.batch, batch);
                    prop_assert_eq!(read.changes, changes);
                    prop_assert_eq!(read.received, Some(received).filter(|t| t.0 != 0));
                    prop_assert_eq!((read.sealed, read.after), (UnixMillis(9), frontier(size)));
                }
                _ => prop_assert!(false),
            }
            match decode(&changes_record(&changes)).unwrap() {
                Decoded::Changes(read) => prop_assert_eq!(read, changes),
                _ => prop_assert!(false),
            }
        }

        #[test]
        fn no_bytes_make_a_start_panic(
            mut bytes: Vec<u8>, version in 1u8..=2, kind in 1u8..=3, framed: bool,
        ) {
            if framed {
                bytes.splice(0..0, [version, kind]);
            }
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_spool_from_before_there_were_bookmarks_is_read() {
        let mut state = StateRecord {
            agent: "gw01".parse().unwrap(),
            ledger: "l.example/x".parse().unwrap(),
            key: PublicKey([7; 32]),
            sealed: UnixSeconds(1),
            released: Seq(2),
            frontier: frontier(3),
            positions: Positions::default(),
        };
        let file = FileId { device: 1, inode: 2, fingerprint: Fingerprint::of(b"x") };
        state.positions.apply(&NamedChange::Reached("kong", FilePosition { file, offset: 9 }));
        let mut bytes = state.encode();
        bytes.truncate(bytes.len() - 4);
        assert!(decode(&bytes).is_err());
        bytes[0] = VERSION_1;
        assert!(matches!(decode(&bytes).unwrap(), Decoded::State(read) if *read == state));
    }
}
