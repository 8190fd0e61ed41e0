//! Every decoder of text and bytes, with bytes from nowhere and with examples that were altered:
//! none panics, and what is read is written back as it was.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

#[path = "support/fixture.rs"]
mod fixture;

use fixture::Fixtures;
use logseal_record::{
    Checkpoint,
    batch::SealedBatch,
    block::BlockEntry,
    enrolment::Enrolment,
    entry::{Entry, restore},
    note::{NoteSigner, SignedNote, VerifierKey},
    policy::Policy,
    proof::TlogProof,
    seal::SealEntry,
};
use proptest::prelude::*;

/// Bytes from nowhere, or an example of which some bytes were replaced by others.
fn altered(examples: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..12);
    let text = "[ -~\n\u{2014}é]{0,8}".prop_map(String::into_bytes);
    let place = (any::<prop::sample::Index>(), 0usize..12, prop_oneof![bytes(), text]);
    let changed = (prop::sample::select(examples), prop::collection::vec(place, 0..4));
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..300),
        9 => changed.prop_map(|(mut example, changes)| {
            for (at, removed, inserted) in changes {
                let at = at.index(example.len() + 1);
                let end = (at + removed).min(example.len());
                example.splice(at..end, inserted);
            }
            example
        }),
    ]
}

fn texts(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| fixtures().read(name)).collect()
}

fn binaries(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| fixtures().read_hex(name)).collect()
}

fn fixtures() -> Fixtures {
    Fixtures::seen_from(env!("CARGO_MANIFEST_DIR"), ".")
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_of_notes_panic(bytes in altered(texts(&["checkpoint", "seal"]))) {
        if let Ok(note) = SignedNote::parse(&bytes) {
            prop_assert_eq!(note.to_string().into_bytes(), bytes);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_of_checkpoints_panic(bytes in altered(texts(&["checkpoint"]))) {
        let text = String::from_utf8_lossy(&bytes);
        let text = text.split_inclusive('\n').take(4).collect::<String>();
        if let Ok(checkpoint) = Checkpoint::parse(&text) {
            prop_assert_eq!(checkpoint.text(), text);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_of_keys_panic(bytes in altered(texts(&["vkey", "private-key"]))) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = NoteSigner::parse(&text);
        if let Ok(vkey) = text.trim_end().parse::<VerifierKey>() {
            prop_assert_eq!(vkey.to_string(), text.trim_end());
        }
    }

    #[test]
    fn no_bytes_make_the_reader_of_policies_panic(
        bytes in altered(texts(&["evidence/policy", "evidence/agent-policy"])),
    ) {
        let note = SignedNote::parse(&fixtures().read("checkpoint")).unwrap();
        if let Ok(policy) = Policy::parse(&bytes) {
            let _ = policy.verify(&note);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_of_proofs_panic(
        bytes in altered(texts(&["evidence/agent.tlog-proof", "evidence/ledger.tlog-proof"])),
    ) {
        if let Ok(proof) = TlogProof::parse(&bytes) {
            prop_assert_eq!(proof.to_string().into_bytes(), bytes);
            let anybody = Policy::parse(b"quorum none\n").unwrap();
            let _ = proof.verify(b"entry", &anybody);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_of_entries_panic(
        bytes in altered(texts(&[
            "entry-kong", "entry-rfc5424", "entry-rfc3164", "entry-seal", "entry-enrol", "entry-block",
        ])),
    ) {
        let _ = restore(&bytes);
        if let Ok(entry) = Entry::parse(&bytes) {
            let _ = (entry.access(), entry.element().params().count());
            let _ = (SealEntry::decode(&entry), BlockEntry::decode(&entry));
            let _ = Enrolment::from_entry(&entry);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_of_enrolments_panic(bytes in altered(binaries(&["enrolment.hex"]))) {
        if let Ok(enrolment) = Enrolment::decode(&bytes) {
            prop_assert_eq!(enrolment.encode(), bytes);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_of_batches_panic(
        bytes in altered(binaries(&["batch.hex", "heartbeat.hex"])),
    ) {
        if let Ok(batch) = SealedBatch::decode(&bytes) {
            prop_assert_eq!(batch.encode(), bytes);
        }
    }
}
