//! What an export says about itself, and the files of its proof. None of it is believed: everything is
//! found again, or compared, by [`check`](super::check).

use crate::output::Failure;
use record::{Hash, merkle::RangeProof};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Write as _, path::Path};

/// The manifest.
pub const MANIFEST: &str = "manifest.json";
/// The checkpoint that all is proven under, a note.
pub const CHECKPOINT: &str = "checkpoint";
/// The policy that it satisfied.
pub const POLICY: &str = "policy";
/// The proof of the range.
pub const PROOF: &str = "range-proof";
/// With filters: the leaf hashes of the whole range, 32 bytes each.
pub const LEAVES: &str = "leaves";
/// The block entry in front of the range, with its proof.
pub const BEFORE: &str = "before";
/// The entry of the block behind the range, with its proof.
pub const AFTER: &str = "after";

/// The declaration by which older entries were given up, with its proof.
pub const DECLARATION: &str = "declaration";

/// The version of exports that this program writes, and the only one it reads.
pub const VERSION: u32 = 1;
/// The largest manifest: some thousand files and agents.
const MAX_MANIFEST: u64 = 16 << 20;
const HEAD: &str = "logseal range proof v1";

/// `manifest.json`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`]
    pub version: u32,
    /// The program that wrote it.
    pub program: String,
    /// When it was written, RFC 3339.
    pub made: String,
    /// The ledger's origin.
    pub ledger: String,
    /// The ledger's size and root in the checkpoint.
    pub size: u64,
    /// See `size`.
    pub root: String,
    /// `syslog`, `jsonl` or `parquet`.
    pub format: String,
    /// The ledger index of the first entry of the range.
    pub first: u64,
    /// One past that of the last.
    pub end: u64,
    /// The block times that were asked for, RFC 3339: from this one on,
    pub from: Option<String>,
    /// and before this one.
    pub to: Option<String>,
    /// What was asked for and is not in the ledger any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<GivenUp>,
    /// Only these agents' entries were written, if any is named.
    pub agents: Vec<String>,
    /// Only records of these sources were written, if any is named.
    pub sources: Vec<String>,
    /// Entries written, by kind.
    pub kinds: BTreeMap<String, u64>,
    /// Records written, by agent.
    pub records: BTreeMap<String, Numbers>,
    /// The files with the entries, in order.
    pub files: Vec<FileInfo>,
}

/// Entries in front of the range that were given up before it was exported.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct GivenUp {
    /// How many, from the ledger's first one on.
    pub entries: u64,
    /// The entry that declares it, if it was among those that were read.
    pub declared: Option<u64>,
}

/// The records of one agent in an export.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// How many.
    pub count: u64,
    /// The number of the first in the agent's log.
    pub first_n: u64,
    /// The number of the last.
    pub last_n: u64,
}

/// A file with entries.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct FileInfo {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// The entries in it.
    pub entries: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl GivenUp {
    /// The line about it, for people.
    pub fn told(&self) -> String {
        let by = match self.declared {
            Some(index) => format!("as entry {index} declares"),
            None => "NOT PROVEN: what declares it is not in this export".to_owned(),
        };
        format!("given up all entries in front of {} were given up, {by}\n", self.entries)
    }
}

impl Manifest {
    /// Reads the manifest of an export.
    ///
    /// # Errors
    /// There is none, or it is none that this program knows.
    pub fn load(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(MANIFEST);
        let length = std::fs::metadata(&path).map_err(Failure::file(&path))?.len();
        if length > MAX_MANIFEST {
            return Err(Failure(format!("{}: larger than a manifest can be", path.display())));
        }
        let bytes = std::fs::read(&path).map_err(Failure::file(&path))?;
        Self::parse(&bytes).map_err(|problem| Failure(format!("{}: {problem}", path.display())))
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// It is none that this program knows.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!("version {version} of exports is unknown: use a newer program"));
        }
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// True if not all entries of the range were written.
    pub fn is_filtered(&self) -> bool {
        !self.agents.is_empty() || !self.sources.is_empty()
    }
}

/// The text of `range-proof`.
pub fn write_proof(first: u64, end: u64, size: u64, proof: &RangeProof) -> String {
    let mut text = format!("{HEAD}\nfirst {first}\nend {end}\nsize {size}\n");
    for (name, hashes) in [("left", &proof.left), ("right", &proof.right)] {
        let _ = writeln!(text, "{name} {}", hashes.len());
        hashes.iter().for_each(|hash| text += &format!("{hash}\n"));
    }
    text
}

/// Reads what [`write_proof`] wrote: first, end, size and the proof. `None` if it is something else.
pub fn parse_proof(text: &str) -> Option<(u64, u64, u64, RangeProof)> {
    let mut lines = text.lines();
    if !text.ends_with('\n') || lines.next()? != HEAD {
        return None;
    }
    let number = |lines: &mut std::str::Lines<'_>, name: &str| -> Option<u64> {
        lines.next()?.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()
    };
    let (first, end, size) =
        (number(&mut lines, "first")?, number(&mut lines, "end")?, number(&mut lines, "size")?);
    let mut hashes = |name| -> Option<Vec<Hash>> {
        let count = number(&mut lines, name).filter(|count| *count <= 128)?;
        (0..count).map(|_| Hash::from_base64(lines.next()?)).collect()
    };
    let proof = RangeProof { left: hashes("left")?, right: hashes("right")? };
    // One text for one proof: no signs, no zeroes in front, no other ends of lines.
    (write_proof(first, end, size, &proof) == text).then_some((first, end, size, proof))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_proof_survives_its_text_form() {
        let proof = RangeProof { left: vec![Hash([1; 32]), Hash([2; 32])], right: vec![] };
        let text = write_proof(3, 700, 700, &proof);
        assert_eq!(parse_proof(&text), Some((3, 700, 700, proof)));
        for bad in ["", "x", &text[..text.len() - 1], &format!("{text}x\n")] {
            assert_eq!(parse_proof(bad), None);
        }
        assert_eq!(parse_proof(&text.replace("left 2", "left 200")), None);
        for (from, to) in [("first 3", "first +3"), ("end 700", "end 0700"), ("\n", "\r\n")] {
            assert_eq!(parse_proof(&text.replacen(from, to, 1)), None, "{to:?}");
        }
    }
}
