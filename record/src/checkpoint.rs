//! Checkpoints of a log: <https://c2sp.org/tlog-checkpoint>.

use crate::{
    merkle::{Hash, TreeSize},
    name::{AgentName, NodeName},
    note::KeyName,
};
use std::{fmt, str::FromStr};

/// The identity of a log, a schema-less URL such as `ledger.city.example/access`.
///
/// The specification merely recommends a URL without spaces and '+'; here it is required, since
/// the origin is also the name of the log's key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(KeyName);

/// The longest origin, in bytes.
pub const MAX_ORIGIN_LEN: usize = 200;

/// Text is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not an origin: use a URL without scheme, spaces and '+', such as \
     'ledger.city.example/access', of at most {MAX_ORIGIN_LEN} bytes"
)]
pub struct OriginError(String);

impl Origin {
    /// The origin as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The name of the key that signs for this log.
    pub fn key_name(&self) -> &KeyName {
        &self.0
    }

    /// The origin of an agent's own log under this ledger: `<origin>/agent/<name>`.
    pub fn agent(&self, agent: &AgentName) -> Origin {
        self.below("agent", agent.as_str())
    }

    /// The name of a node's cosigner key: `<origin>/node/<name>`.
    pub fn node(&self, node: &NodeName) -> KeyName {
        self.below("node", node.as_str()).0
    }

    fn below(&self, kind: &str, name: &str) -> Origin {
        let text = format!("{}/{kind}/{name}", self.as_str());
        Origin(text.parse().expect("an origin and a name make a key name"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let error = || OriginError(text.chars().take(80).collect());
        if text.len() > MAX_ORIGIN_LEN || text.contains("://") {
            return Err(error());
        }
        text.parse().map(Origin).map_err(|_| error())
    }
}

/// A log's tree head: what a note's text says, worth nothing without signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log.
    pub origin: Origin,
    /// Its number of entries.
    pub size: TreeSize,
    /// The root hash at that size.
    pub root: Hash,
    /// Opaque further lines; logseal writes none.
    pub extensions: Vec<String>,
}

/// A note's text is not a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Fewer than three lines, an empty line, or no newline at the end.
    #[error("a checkpoint has at least three non-empty lines: origin, size, root")]
    Lines,
    /// The first line.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The second line.
    #[error("the checkpoint's tree size is not a decimal number without leading zeroes")]
    Size,
    /// The third line.
    #[error("the checkpoint's root is not the base64 of 32 bytes")]
    Root,
}

impl Checkpoint {
    /// A checkpoint without extension lines.
    pub fn new(origin: Origin, size: TreeSize, root: Hash) -> Self {
        Checkpoint { origin, size, root, extensions: vec![] }
    }

    /// The note text, its last newline included.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, self.root);
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Parses a note's text.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let body = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?;
        let mut lines = body.split('\n');
        let mut line = || lines.next().filter(|l| !l.is_empty()).ok_or(CheckpointError::Lines);
        let (origin, size, root) = (line()?, line()?, line()?);
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Lines);
        }
        Ok(Checkpoint {
            origin: origin.parse()?,
            size: TreeSize(parse_decimal(size).ok_or(CheckpointError::Size)?),
            root: Hash::from_base64(root).ok_or(CheckpointError::Root)?,
            extensions,
        })
    }
}

/// ASCII decimal without leading zeroes, as all C2SP formats write numbers.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let canonical = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str =
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        let checkpoint = Checkpoint::parse(SPEC).unwrap();
        assert_eq!(checkpoint.size, TreeSize(20_852_163));
        assert_eq!(checkpoint.text(), SPEC);
        let extended = format!("{SPEC}more\n");
        assert_eq!(Checkpoint::parse(&extended).unwrap().extensions, ["more"]);
    }

    #[test]
    fn a_checkpoint_that_could_be_read_two_ways_is_refused() {
        for (from, to) in [
            ("20852163", "020852163"),
            ("20852163", "+20852163"),
            ("20852163", ""),
            ("20852163", "99999999999999999999"),
            ("q2I=\n", "q2I\n"),
            ("q2I=\n", "q2I=="),
            ("q2I=\n", "q2I="),
            ("q2I=\n", "q2I=\n\n"),
            ("example.com/behind-the-sofa", "a b"),
            ("example.com/behind-the-sofa", ""),
        ] {
            let text = SPEC.replace(from, to);
            assert!(Checkpoint::parse(&text).is_err(), "{text:?}");
        }
    }
}
