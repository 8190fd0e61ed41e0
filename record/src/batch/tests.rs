use super::*;
use crate::{
    crypto::SigningKey,
    entry::{Built, Enterprise, Header, LogElement, MAX_ENTRY_LEN},
    time::UnixMillis,
};
use proptest::prelude::*;
use zeroize::Zeroizing;

const NOW: UnixSeconds = UnixSeconds(1_795_248_147);

fn key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([8; 32]))
}

fn origin() -> Origin {
    "l.example/x".parse().unwrap()
}

fn agent() -> AgentName {
    "gw01".parse().unwrap()
}

fn record(n: u64, line: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    write_record(&mut out, n, line);
    out
}

fn write_record(out: &mut Vec<u8>, n: u64, line: &[u8]) -> Built {
    let agent = agent();
    let element = LogElement {
        enterprise: Enterprise::default(),
        agent: &agent,
        n: EntryIndex(n),
        source: "s",
        received: UnixMillis(0),
        peer: None,
        transport: None,
        part: None,
    };
    let header =
        Header { priority: 110, time: None, host: b"h", app: b"a", procid: b"", msgid: b"" };
    element.wrap(out, &header, &[], line)
}

fn sealed(state: &LogState, entries: &[Vec<u8>]) -> SealedBatch {
    let mut builder = BatchBuilder::new(origin(), agent(), state.frontier.clone());
    for entry in entries {
        builder.push(|out| {
            out.extend_from_slice(entry);
            Built::Whole
        });
    }
    builder.seal(&key(), NOW, &mut Codec::default()).batch
}

fn empty() -> LogState {
    LogState { key: key().public(), frontier: Frontier::default(), sealed: UnixSeconds(0) }
}

fn open(batch: SealedBatch, state: &LogState) -> Result<VerifiedBatch, BatchError> {
    batch.open(&origin(), state, &mut Codec::default(), &mut vec![])
}

fn three() -> SealedBatch {
    sealed(&empty(), &[record(0, b"a"), record(1, b"b"), record(2, b"c")])
}

#[test]
fn batches_follow_each_other_and_a_heartbeat_proves_silence() {
    let first = open(SealedBatch::decode(&three().encode()).unwrap(), &empty()).unwrap();
    let state = LogState { frontier: first.after().clone(), sealed: NOW, ..empty() };
    let heartbeat = sealed(&state, &[]);
    let repeated = open(heartbeat.clone(), &state).unwrap_err();
    assert_eq!(repeated, BatchError::Repeated(NOW), "no newer than the seal before it");
    let state = LogState { sealed: UnixSeconds(NOW.0 - 1), ..state };
    let again = open(SealedBatch::decode(&heartbeat.encode()).unwrap(), &state).unwrap();
    assert_eq!(again.after(), first.after());
    let next = sealed(&state, &[record(3, b"d")]);
    assert_eq!(open(next, &state).unwrap().after().size(), TreeSize(4));
}

#[test]
fn a_record_that_is_too_long_leaves_no_trace_in_the_batch() {
    let mut builder = BatchBuilder::new(origin(), agent(), Frontier::default());
    let too_long = builder.push(|out| write_record(out, 0, &[b'x'; MAX_ENTRY_LEN]));
    assert!(matches!(too_long, Built::TooLong(1..)));
    builder.push(|out| write_record(out, 0, b"a"));
    let sealed = builder.seal(&key(), NOW, &mut Codec::default());
    let verified = open(sealed.batch, &empty()).unwrap();
    assert_eq!((verified.leaves(), verified.after()), (&sealed.leaves[..], &sealed.after));
}

#[test]
fn a_batch_that_is_not_the_next_is_refused() {
    let first = open(three(), &empty()).unwrap();
    let state = LogState { frontier: first.after().clone(), sealed: NOW, ..empty() };
    let error = open(three(), &state).unwrap_err();
    assert_eq!(error, BatchError::Start { expected: 3, found: 0 });
}

#[test]
fn a_seal_with_a_wrong_root_size_key_or_time_is_refused() {
    let mut root = three();
    root.seal.root.0[0] ^= 1;
    assert_eq!(open(root, &empty()).unwrap_err(), BatchError::Root);

    let mut size = three();
    size.seal.size.0 += 1;
    assert_eq!(open(size, &empty()).unwrap_err(), BatchError::Size { sealed: 4, end: 3 });

    let other = SigningKey::from_seed(&Zeroizing::new([9; 32]));
    let mut forged = three();
    let tree = (forged.seal.size, forged.seal.root);
    forged.seal = Seal::sign(&other, &origin(), &agent(), tree, NOW);
    assert_eq!(open(forged, &empty()).unwrap_err(), BatchError::Signature);

    let late = LogState { sealed: UnixSeconds(NOW.0 + 1), ..empty() };
    assert!(matches!(open(three(), &late).unwrap_err(), BatchError::Time { .. }));
}

#[test]
fn an_agent_cannot_speak_for_another_nor_skip_a_number() {
    let wrong_number = sealed(&empty(), &[record(1, b"a")]);
    assert_eq!(open(wrong_number, &empty()).unwrap_err(), BatchError::Record(0));
    let mut renamed = record(0, b"a");
    let at = renamed.windows(4).position(|w| w == b"gw01").unwrap();
    renamed[at + 3] = b'2';
    let foreign = sealed(&empty(), &[renamed]);
    assert_eq!(open(foreign, &empty()).unwrap_err(), BatchError::Record(0));
}

#[test]
fn a_bomb_that_unpacks_to_more_than_it_says_is_refused() {
    let mut bomb = three();
    bomb.compressed = Codec::default().pack(&vec![0; 3 << 20]);
    assert_eq!(open(bomb.clone(), &empty()).unwrap_err(), BatchError::Records);
    bomb.raw_len = MAX_BATCH_BYTES + 1;
    assert!(matches!(SealedBatch::decode(&bomb.encode()), Err(BatchError::Limits { .. })));
}

#[test]
fn any_flipped_bit_is_noticed() {
    let good = three().encode();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // A frame may have bits that change nothing in what it unpacks to; the digest has not.
        let same_records = SealedBatch::decode(&bad).is_ok_and(|batch| {
            batch.compressed != three().compressed && open(batch, &empty()).is_ok()
        });
        let refused = SealedBatch::decode(&bad).map_or(true, |b| open(b, &empty()).is_err());
        assert!(refused || same_records, "bit {bit}");
        assert_ne!(SealedBatch::digest(&bad), SealedBatch::digest(&good));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(batch) = SealedBatch::decode(&bytes) {
            let _ = open(batch, &empty());
        }
        let mut framed = three().encode();
        let at = framed.len().min(bytes.len());
        framed[..at].copy_from_slice(&bytes[..at]);
        if let Ok(batch) = SealedBatch::decode(&framed) {
            let _ = open(batch, &empty());
        }
    }
}
