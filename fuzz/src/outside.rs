//! What witnesses and monitors read: requests, answers, the state of a monitor, and a ledger.

use crate::origin;
use record::{
    UnixSeconds,
    bytes::Reader,
    crypto::sha256,
    follow::{Follower, History, MAX_NODES, MAX_NOTES},
    note::{NoteSigner, SignatureType, SignedNote},
    witness::{AddCheckpoint, TreeHead, judge, parse_cosignatures, parse_size},
};
use zeroize::Zeroizing;

/// A request is written back as it was read, and judged; and the bytes as a witness's answer.
pub fn add_checkpoint(data: &[u8]) {
    let signer = NoteSigner::new(
        "l.example/x".parse().expect("a name"),
        SignatureType::Ed25519,
        &Zeroizing::new([1; 32]),
    );
    let text = "l.example/x\n3\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    if let Ok(lines) = parse_cosignatures(text, data) {
        assert!(!lines.is_empty());
    }
    if let Some(size) = parse_size(data) {
        assert_eq!(format!("{size}\n").as_bytes(), data);
    }
    let Ok(mut request) = AddCheckpoint::parse(data) else { return };
    assert_eq!(request.to_string().as_bytes(), data);
    let Some(head) = TreeHead::of(&request.checkpoint) else { return };
    let keys = [signer.vkey().clone()];
    let _ = judge(&request, &head, &keys, None);
    // As if the log had signed it: only then is the proof looked at.
    let mut note = SignedNote::new(request.checkpoint.text().to_owned());
    note.put(signer.sign(note.text(), UnixSeconds(0)));
    request.checkpoint = note;
    let latest = TreeHead { size: request.old, ..head.clone() };
    let judged = judge(&request, &head, &keys, Some(&latest));
    // Of two trees with one root, only the same can be the beginning of the other.
    assert!(judged.is_err() || request.old == head.size || request.old.0 == 0);
}

/// A state of this version is written back as it was read; and again with the checksum that it should have.
pub fn monitor_state(data: &[u8]) {
    let mended = [data, &sha256(&[data])].concat();
    for bytes in [data, &mended] {
        let Ok(state) = History::decode(bytes) else { continue };
        assert!(state.seen.len() <= MAX_NODES && state.notes.len() <= MAX_NOTES);
        let again = state.encode();
        // What an older program wrote is written as of today, and means the same.
        if bytes.first() == again.first() {
            assert_eq!(again, bytes);
        } else {
            assert_eq!(History::decode(&again).as_ref(), Ok(&state));
        }
    }
}

/// Entries, each behind its length as in a bundle, as a ledger.
pub fn follow(data: &[u8]) {
    let (mut follower, mut found) = (Follower::new(origin()), Vec::new());
    let mut reader = Reader::new(data);
    while let Ok(entry) = reader.u16().and_then(|len| reader.take(len.into())) {
        let before = found.len();
        follower.push(entry, &|_, text, _| text.len() % 2 == 0, &mut found);
        assert!(found.len() - before <= 4, "findings have a bound");
        let state = History { follower, seen: vec![], notes: vec![] };
        follower = History::decode(&state.encode()).expect("it wrote that itself").follower;
        assert_eq!(follower, state.follower);
        if found.len() > 1000 {
            return;
        }
    }
}
