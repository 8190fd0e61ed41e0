//! What a snapshot names.

use super::chain;
use replica::CHUNK;
use serde::{Deserialize, Serialize};

/// Some bytes in a repository.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// SHA-256 of the bytes as they are stored, hexadecimal: the file's name.
    pub name: String,
    /// Their length as they are stored.
    pub stored: u64,
    /// SHA-256 of the bytes as they are meant.
    pub sha256: String,
    /// Their length as they are meant.
    pub bytes: u64,
}

/// A segment of the block log.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct SegmentInfo {
    /// Its first record.
    pub first: u64,
    /// One past its last record that is in the object.
    pub last: u64,
    /// The bytes.
    pub object: Object,
    /// What was damaged in it when it was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// A file that lay beside the store.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// The bytes.
    pub object: Object,
}

/// What is kept of blocks that were given up.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct BaseInfo {
    /// The last block that was given up.
    pub height: u64,
    /// How many entries were given up.
    pub dropped: u64,
    /// The digest of the base, as a declaration in the blocks names it.
    pub digest: String,
    /// The file `base`.
    pub object: Object,
    /// The leaf hashes of the entries that were given up, in chunks of 65,536; the last one may be shorter.
    pub chunks: Vec<Object>,
}

/// A store as it was at one checkpoint.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The version of snapshots.
    pub version: u32,
    /// Its name: the height, and the time it was made.
    pub id: String,
    /// When it was made, RFC 3339.
    pub made: String,
    /// The program that made it.
    pub program: String,
    /// The ledger's origin.
    pub ledger: String,
    /// The enterprise number of the ledger's own entries.
    pub enterprise: u32,
    /// The newest block.
    pub height: u64,
    /// The ledger's size after it.
    pub size: u64,
    /// The ledger's root after it.
    pub root: String,
    /// The checkpoint of this size, a note.
    pub checkpoint: String,
    /// True if a policy was given, and the checkpoint satisfied it.
    pub policy_checked: bool,
    /// False if damage kept the blocks from being followed to the root.
    pub proven: bool,
    /// What is kept of blocks that were given up, if any were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseInfo>,
    /// Where the next backup goes on: the history up to the end of the last segment that was sealed.
    pub resume: chain::Written,
    /// The block log, in order.
    pub segments: Vec<SegmentInfo>,
    /// Files that lay beside the store.
    pub files: Vec<FileEntry>,
}

impl Snapshot {
    /// Everything that it names.
    pub fn objects(&self) -> impl Iterator<Item = (String, &Object)> {
        let segments = self.segments.iter().map(|s| (segment_name(s.first), &s.object));
        let files = self.files.iter().map(|file| (file.name.clone(), &file.object));
        let base = self.base.iter().map(|base| ("base".to_owned(), &base.object));
        let chunks = self.base.iter().flat_map(|base| &base.chunks);
        let chunks = (0..).zip(chunks).map(|(chunk, object)| (chunk_name(chunk), object));
        segments.chain(base).chain(chunks).chain(files)
    }

    /// How many entries were given up, from the first one on.
    pub fn dropped(&self) -> u64 {
        self.base.as_ref().map(|base| base.dropped).unwrap_or_default()
    }

    /// The first entry that is still published in a full bundle (C2SP tlog-tiles).
    pub fn minimum_index(&self) -> u64 {
        self.dropped().div_ceil(256) * 256
    }
}

/// What a chunk of leaf hashes is called in messages.
pub fn chunk_name(chunk: u64) -> String {
    format!("the leaf hashes from entry {} on", chunk.saturating_mul(CHUNK))
}

/// The name of a segment's file in a block log.
pub fn segment_name(first: u64) -> String {
    format!("{first:020}.seg")
}
