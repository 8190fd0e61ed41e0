//! What lies in folders that anybody may have written: exports, and snapshots of backups.

use logseal::{
    backup::{Snapshot, object_path},
    export::{Format, Manifest, Row, parse_proof, read_plain, times, write_proof},
    times::Moment,
};
use record::{
    Hash, TreeSize,
    bytes::Reader,
    merkle::{
        EntryIndex, Frontier, NodeId, NodeSource, RangeProof, leaf_hash, perfect_root,
        range_proof as prove,
    },
};
use std::path::Component;

/// A proof of any shape is judged or refused; what it proves, it proves for these leaves alone. And
/// the proof of a run of a tree that the bytes stand for holds. As text it is written back as it was
/// read.
pub fn range_proof(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some((first, end, size, proof)) = parse_proof(text)
    {
        assert_eq!(write_proof(first, end, size, &proof), text);
        judge(&proof, first, &[Hash([1; 32])], size);
        judge(&proof, first, &[], size);
    }
    let mut reader = Reader::new(data);
    let (Ok(start), Ok(size), Ok(counts)) = (reader.u64(), reader.u64(), reader.array::<3>())
    else {
        return;
    };
    let mut hashes = |count: u8| -> Vec<Hash> {
        (0..count).map_while(|_| Some(Hash([reader.u8().ok()?; 32]))).collect()
    };
    let proof = RangeProof { left: hashes(counts[0]), right: hashes(counts[1]) };
    let leaves = hashes(counts[2]);
    judge(&proof, start, &leaves, size);
    run_of_a_tree(&data[..data.len().min(300)], start, size);
}

fn judge(proof: &RangeProof, start: u64, leaves: &[Hash], size: u64) {
    let root = |leaves: &[Hash]| proof.root(EntryIndex(start), leaves, TreeSize(size));
    let Some(found) = root(leaves) else { return };
    let end = start.checked_add(leaves.len() as u64).expect("a run that ends");
    assert!(end <= size, "a run lies within its tree");
    if let Some((last, others)) = leaves.split_last() {
        let mut altered = *last;
        altered.0[31] ^= 1;
        assert_ne!(root(&[others, &[altered]].concat()), Some(found));
        assert_ne!(root(others), Some(found));
    }
}

struct Leaves(Vec<Hash>);

impl NodeSource for Leaves {
    type Error = std::convert::Infallible;

    fn node(&self, id: NodeId) -> Result<Hash, Self::Error> {
        Ok(perfect_root(self.0[id.start() as usize..id.end() as usize].to_vec()))
    }
}

fn run_of_a_tree(entries: &[u8], start: u64, end: u64) {
    let tree = Leaves(entries.iter().map(|byte| leaf_hash(&[*byte])).collect());
    let size = tree.0.len() as u64;
    let (start, end) = (start % (size + 1), end % (size + 1));
    let (start, end) = (start.min(end), start.max(end));
    let mut whole = Frontier::default();
    tree.0.iter().for_each(|leaf| whole.push(*leaf));
    let Ok(proof) = prove(&tree, EntryIndex(start), EntryIndex(end), TreeSize(size));
    let run = &tree.0[start as usize..end as usize];
    assert_eq!(proof.root(EntryIndex(start), run, TreeSize(size)), Some(whole.root()));
}

/// A manifest says the same when it is written and read again; its times are times.
pub fn export_manifest(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = text.parse::<Moment>();
    }
    let Ok(manifest) = Manifest::parse(data) else { return };
    let _ = times(&manifest);
    let written = serde_json::to_vec(&manifest).expect("it was JSON");
    assert_eq!(Manifest::parse(&written), Ok(manifest));
}

/// Entries out of the files of an export. Frames are written back as they were read; a row is made of
/// each entry, and the entry comes back from it.
pub fn export_files(data: &[u8]) {
    let mut frames = Vec::new();
    let read = read_plain(&mut &data[..], Format::Syslog, |found| {
        frames.extend_from_slice(format!("{} ", found.entry.len()).as_bytes());
        frames.extend_from_slice(&found.entry);
        frames.push(b'\n');
        comes_back(&found.entry)
    });
    let read = read.expect("memory can be read");
    assert!(data.starts_with(&frames));
    assert!(read.is_err() || frames == data);
    let read = read_plain(&mut &data[..], Format::Jsonl, |found| comes_back(&found.entry));
    let _ = read.expect("memory can be read");
}

fn comes_back(entry: &[u8]) -> Result<(), String> {
    let row = Row::of(7, entry);
    assert_eq!(Row::entry_of(&row.to_json()).as_deref(), Some(entry));
    Ok(())
}

/// A snapshot says the same when it is written and read again, and nothing that it names is outside
/// of its repository.
pub fn snapshot(data: &[u8]) {
    let Ok(snapshot) = serde_json::from_slice::<Snapshot>(data) else { return };
    let written = serde_json::to_vec(&snapshot).expect("it was JSON");
    let again: Snapshot = serde_json::from_slice(&written).expect("it wrote that itself");
    assert_eq!(again, snapshot);
    for (_, object) in snapshot.objects() {
        let path = object_path(&object.name);
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        assert!(path.components().all(plain) && path.components().count() == 3, "{path:?}");
    }
    if let Some(chain) = snapshot.resume.read() {
        assert_eq!(chain.write(), snapshot.resume);
    }
}
