//! Block entries: the last entry of every block, so that block times are in the tree too.

use crate::{
    checkpoint::parse_decimal,
    entry::{Enterprise, Entry, Header, Kind, push_element},
    merkle::EntryIndex,
    name::NodeName,
    seal::LEDGER_PRIORITY,
    time::UnixMillis,
};
use std::fmt;

/// The number of a block, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Height(pub u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the ledger records about a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// The block's number.
    pub height: Height,
    /// The proposer's time, checked by every node that voted.
    pub time: UnixMillis,
    /// Who proposed the block.
    pub proposer: NodeName,
    /// The ledger index of the block's first entry.
    pub first: EntryIndex,
}

impl BlockEntry {
    /// The entry's bytes, the same on every node.
    pub fn encode(&self, enterprise: Enterprise) -> Vec<u8> {
        let mut out = Vec::with_capacity(200);
        let header = Header {
            priority: LEDGER_PRIORITY,
            time: Some(self.time),
            host: self.proposer.as_str().as_bytes(),
            app: b"logseal",
            procid: b"",
            msgid: b"block",
        };
        header.write(&mut out);
        push_element(
            &mut out,
            "block",
            enterprise,
            &[
                ("height", &self.height.to_string()),
                ("time", &self.time.0.to_string()),
                ("proposer", self.proposer.as_str()),
                ("first", &self.first.to_string()),
            ],
        );
        out
    }

    /// Reads a block entry; `None` if the entry is no well-formed one.
    pub fn decode(entry: &Entry<'_>) -> Option<Self> {
        if entry.kind() != Kind::Block {
            return None;
        }
        let param = |name| entry.element().param(name);
        let number = |name| parse_decimal(&param(name)?);
        Some(BlockEntry {
            height: Height(number("height")?),
            time: UnixMillis(number("time")?),
            proposer: param("proposer")?.parse().ok()?,
            first: EntryIndex(number("first")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_entry_survives_its_text_form() {
        let block = BlockEntry {
            height: Height(12),
            time: UnixMillis(1_795_248_147_125),
            proposer: "node1".parse().unwrap(),
            first: EntryIndex(40),
        };
        let bytes = block.encode(Enterprise::default());
        insta::assert_snapshot!(String::from_utf8(bytes.clone()).unwrap());
        assert_eq!(BlockEntry::decode(&Entry::parse(&bytes).unwrap()).unwrap(), block);
    }
}
