//! What auditors read: keys, notes, checkpoints, policies, proofs, entries, batches, enrolments.

use crate::{NOW, agent, key, origin};
use record::{
    Checkpoint, UnixMillis, UnixSeconds,
    batch::{BatchBuilder, Codec, LogState, SealedBatch},
    enrolment::Enrolment,
    entry::{Built, Enterprise, Entry, Header, Kind, LogElement, Message, is_record_of, restore},
    merkle::{EntryIndex, Frontier},
    note::{NoteSigner, SignedNote, VerifierKey},
    policy::Policy,
    proof::TlogProof,
};

/// A signed note is written back as it was read.
pub fn note(data: &[u8]) {
    if let Ok(note) = SignedNote::parse(data) {
        assert_eq!(note.to_string().as_bytes(), data);
    }
}

/// A verifier key is written back as it was read; a private key never shows itself.
pub fn vkey(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(vkey) = text.parse::<VerifierKey>() {
        assert_eq!(vkey.to_string(), text);
    }
    if let Ok(signer) = NoteSigner::parse(text) {
        let secret = text.trim().rsplit('+').next().expect("split yields one part at least");
        assert!(!format!("{signer:?}").contains(secret));
    }
}

/// A checkpoint's text is written back as it was read.
pub fn checkpoint(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert_eq!(checkpoint.text(), text);
    }
}

/// A policy, and behind a NUL a note to judge under it.
pub fn policy(data: &[u8]) {
    let (policy, note) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b""[..]),
    };
    let Ok(policy) = Policy::parse(policy) else { return };
    if let Ok(note) = SignedNote::parse(note)
        && let Ok(verified) = policy.verify(&note)
    {
        assert_eq!(verified.checkpoint().text(), note.text());
        assert!(verified.witnessed().len() <= policy.witnesses().len());
    }
}

/// A proof is written back as it was read, and judged.
pub fn tlog_proof(data: &[u8]) {
    let Ok(proof) = TlogProof::parse(data) else { return };
    assert_eq!(proof.to_string().as_bytes(), data);
    let anybody = Policy::parse(b"quorum none\n").expect("a policy");
    let _ = proof.verify(b"entry", &anybody);
}

/// Entries and messages from anywhere; and the bytes as a line, which must come back from its record.
pub fn entry(data: &[u8]) {
    let (agent, n) = (agent(), 7);
    let claimed = is_record_of(data, &agent, n);
    if let Ok(entry) = Entry::parse(data) {
        let element = entry.element();
        let names = entry.kind() == Kind::Record
            && element.param("agent").as_deref() == Some(agent.as_str())
            && element.param("n").as_deref() == Some("7");
        assert!(names || !claimed, "what a node checks is what a reader finds");
        let _ = entry.access();
    }
    if let Ok(restored) = restore(data) {
        assert!(restored.line.len() <= data.len());
    }
    let element = LogElement {
        enterprise: Enterprise::default(),
        agent: &agent,
        n: EntryIndex(n),
        source: "s",
        received: UnixMillis(1),
        peer: Some("web01"),
        transport: None,
        part: None,
    };
    let header =
        Header { priority: 110, time: None, host: data, app: b"a", procid: data, msgid: b"" };
    let access = [("user.id", String::from_utf8_lossy(data))];
    let mut out = Vec::new();
    if element.wrap(&mut out, &header, &access, data) == Built::Whole {
        comes_back(&out, data);
    }
    if let Some(message) = Message::parse(data) {
        for access in [&access[..], &[]] {
            out.clear();
            if element.splice(&mut out, &message, access) == Built::Whole {
                comes_back(&out, data);
            }
        }
    }
}

fn comes_back(entry: &[u8], line: &[u8]) {
    assert!(is_record_of(entry, &agent(), 7), "a ledger would refuse it");
    let restored = restore(entry).expect("a record");
    assert_eq!((&restored.line[..], restored.part), (line, None));
}

/// A batch is written back as it was read, and judged; and the bytes as the records of a batch.
pub fn batch(data: &[u8]) {
    let state =
        LogState { key: key().public(), frontier: Frontier::default(), sealed: UnixSeconds(0) };
    let (mut codec, mut bundle) = (Codec::default(), Vec::new());
    if let Ok(batch) = SealedBatch::decode(data) {
        assert_eq!(batch.encode(), data);
        if let Ok(ranges) = codec.unpack(&batch, &mut bundle) {
            assert_eq!(ranges.len(), batch.count as usize);
            assert_eq!(ranges.iter().map(|r| r.len() + 2).sum::<usize>(), bundle.len());
        }
        let _ = batch.open(&origin(), &state, &mut codec, &mut bundle);
    }
    let mut builder = BatchBuilder::new(origin(), agent(), Frontier::default());
    for line in data.split(|byte| *byte == b'\n').take(64) {
        builder.push(|out| {
            out.extend_from_slice(line);
            Built::Whole
        });
    }
    let sealed = builder.seal(&key(), NOW, &mut codec).batch;
    let again = SealedBatch::decode(&sealed.encode()).expect("what was encoded decodes");
    assert_eq!(again, sealed);
    let ranges = codec.unpack(&again, &mut bundle).expect("what was packed unpacks");
    let lines = data.split(|byte| *byte == b'\n').filter(|line| line.len() <= 65_535);
    assert!(ranges.into_iter().map(|range| &bundle[range]).eq(lines.take(64)));
}

/// An enrolment is written back as it was read, in both of its forms.
pub fn enrolment(data: &[u8]) {
    if let Ok(enrolment) = Enrolment::decode(data) {
        assert_eq!(enrolment.encode(), data);
        let entry = enrolment.entry(&origin(), Enterprise::default());
        let entry = Entry::parse(&entry).expect("an entry");
        assert_eq!(Enrolment::from_entry(&entry), Some(enrolment));
    }
    if let Ok(entry) = Entry::parse(data) {
        let _ = Enrolment::from_entry(&entry);
        let _ = record::seal::SealEntry::decode(&entry);
        let _ = record::block::BlockEntry::decode(&entry);
    }
}
