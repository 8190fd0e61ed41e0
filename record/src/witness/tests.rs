use super::*;
use crate::{
    UnixSeconds,
    merkle::{consistency_proof, naive},
    note::{NoteSigner, SignatureType},
};
use proptest::prelude::*;
use zeroize::Zeroizing;

const ORIGIN: &str = "log with spaces";

fn signer(seed: u8) -> NoteSigner {
    let name = "log.example/a".parse().unwrap();
    NoteSigner::new(name, SignatureType::Ed25519, &Zeroizing::new([seed; 32]))
}

fn note(origin: &str, size: u64, root: Hash, by: &NoteSigner) -> SignedNote {
    let text = format!("{origin}\n{size}\n{root}\n");
    let mut note = SignedNote::new(text.clone());
    note.put(by.sign(&text, UnixSeconds(0)));
    note
}

fn request(old: u64, new: u64, leaves: &[Hash]) -> AddCheckpoint {
    let Ok(proof) = consistency_proof(&naive::Leaves(leaves), TreeSize(old), TreeSize(new));
    let root = naive::root(&leaves[..new as usize]);
    AddCheckpoint { old: TreeSize(old), proof, checkpoint: note(ORIGIN, new, root, &signer(1)) }
}

fn judged(request: &AddCheckpoint, latest: Option<&TreeHead>) -> Result<(), u16> {
    let head = TreeHead::of(&request.checkpoint).unwrap();
    let keys = [signer(1).vkey().clone(), signer(2).vkey().clone()];
    judge(request, &head, &keys, latest).map_err(|refusal| refusal.status())
}

fn head(size: u64, leaves: &[Hash]) -> TreeHead {
    let root = naive::root(&leaves[..size as usize]);
    TreeHead { origin: ORIGIN.into(), size: TreeSize(size), root }
}

#[test]
fn each_check_of_the_specification_has_its_status() {
    let leaves = naive::leaves(20);
    let seven = head(7, &leaves);
    assert_eq!(judged(&request(0, 7, &leaves), None), Ok(()));
    assert_eq!(judged(&request(7, 12, &leaves), Some(&seven)), Ok(()));
    assert_eq!(judged(&request(7, 7, &leaves), Some(&seven)), Ok(()), "a new time");
    assert_eq!(judged(&request(5, 12, &leaves), Some(&seven)), Err(409));
    assert_eq!(judged(&request(0, 12, &leaves), Some(&seven)), Err(409));
    assert_eq!(judged(&request(7, 12, &leaves), None), Err(409));
    let mut backwards = request(5, 5, &leaves);
    backwards.old = TreeSize(7);
    assert_eq!(judged(&backwards, Some(&seven)), Err(400));
    let mut stranger = request(0, 7, &leaves);
    stranger.checkpoint = note(ORIGIN, 7, seven.root, &signer(3));
    assert_eq!(judged(&stranger, None), Err(403));
    let mut forged = request(0, 7, &leaves);
    let mut signature = forged.checkpoint.signatures()[0].clone();
    signature.bytes[3] ^= 1;
    forged.checkpoint.put(signature);
    assert_eq!(judged(&forged, None), Err(403));
    let mut other = leaves.clone();
    other[2] = Hash([9; 32]);
    assert_eq!(judged(&request(7, 12, &other), Some(&seven)), Err(422));
    assert_eq!(judged(&request(7, 7, &other), Some(&seven)), Err(422));
    let mut proven = request(0, 7, &leaves);
    proven.proof.push(Hash([1; 32]));
    assert_eq!(judged(&proven, None), Err(422), "from nothing there is nothing to prove");
    let mut nothing = request(0, 0, &leaves);
    assert_eq!(judged(&nothing, None), Ok(()));
    nothing.checkpoint = note(ORIGIN, 0, Hash([0; 32]), &signer(1));
    assert_eq!(judged(&nothing, None), Err(422));
}

#[test]
fn a_request_that_could_be_read_two_ways_is_refused() {
    let text = request(3, 7, &naive::leaves(7)).to_string();
    let parsed = AddCheckpoint::parse(text.as_bytes()).unwrap();
    assert_eq!(parsed.to_string(), text);
    for (from, to) in [
        ("old 3", "old 03"),
        ("old 3", "old  3"),
        ("old 3", "Old 3"),
        ("old 3", "old +3"),
        ("old 3", "old 3\r"),
        ("old 3", "old 99999999999999999999"),
        ("old 3\n", ""),
        ("=\n\n", "=\n"),
        ("=\n\n", "\n\n"),
        ("=\n\n", "=\nAAAA\n\n"),
    ] {
        assert!(text.contains(from), "{from:?}");
        let bad = text.replacen(from, to, 1);
        assert!(AddCheckpoint::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    let line = format!("{}\n", Hash([1; 32]));
    let many = |n: usize| text.replacen("old 3\n", &format!("old 3\n{}", line.repeat(n)), 1);
    assert!(AddCheckpoint::parse(many(59).as_bytes()).is_ok());
    assert_eq!(AddCheckpoint::parse(many(60).as_bytes()), Err(AddCheckpointError::TooManyHashes));
}

#[test]
fn a_witness_answer_is_signature_lines_and_nothing_else() {
    let note = note(ORIGIN, 1, Hash([1; 32]), &signer(1));
    let line = format!("{}\n", note.signatures()[0]);
    let parse = |answer: &str| parse_cosignatures(note.text(), answer.as_bytes());
    assert_eq!(parse(&line).unwrap(), note.signatures());
    assert!(parse("").is_err());
    assert!(parse("no\n").is_err());
    assert!(parse(&format!("more text\n\n{line}")).is_err(), "the text must be what was sent");
    assert_eq!(parse_size(b"42\n"), Some(TreeSize(42)));
    for bad in [&b"42"[..], b"042\n", b"42\n\n", b"\n", b"-1\n"] {
        assert_eq!(parse_size(bad), None);
    }
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(origin_hash(""), empty);
}

proptest! {
    #[test]
    fn no_request_from_outside_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = AddCheckpoint::parse(&bytes);
        let _ = parse_cosignatures("a\n", &bytes);
    }
}
