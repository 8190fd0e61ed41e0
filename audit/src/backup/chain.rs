//! Following a block log block by block, with a few hashes for all memory: is it one history, and does it
//! lead to the root that was signed for?

use record::{
    Hash, TreeSize,
    batch::Codec,
    declaration::{Declaration, Matter},
    merkle::{EntryIndex, Frontier, leaf_hash},
};
use replica::{Base, Block, Params, entries::for_each_entry};
use serde::{Deserialize, Serialize};

/// Where a history was followed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The height of the newest block; 0 in front of the first.
    pub height: u64,
    /// Its identifier; zeroes in front of the first.
    pub tip: Hash,
    /// The ledger's tree after it.
    pub tree: Frontier,
    /// The digests of the bases that its blocks declare: what is kept of blocks that may be given up.
    pub declared: Vec<Hash>,
}

/// A [`Chain`] as it is written into a snapshot.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Written {
    height: u64,
    tip: String,
    size: u64,
    frontier: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    declared: Vec<String>,
}

impl Chain {
    /// Right behind the last block that was given up.
    pub fn behind(base: &Base) -> Self {
        let (header, tree) = (&base.header, base.frontier.clone());
        Chain { height: header.height.0, tip: header.id(), tree, declared: Vec::new() }
    }

    /// Takes the next block: it must follow, and its entries must lead to the root that it names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self, params: &Params, bytes: &[u8], codec: &mut Codec) -> Result<(), String> {
        let height = self.height + 1;
        let wrong = |problem: &dyn std::fmt::Display| format!("block {height}: {problem}");
        let block = Block::decode(bytes).map_err(|error| wrong(&error))?;
        let header = &block.header;
        let first = EntryIndex(self.tree.size().0);
        if header.height.0 != height || header.parent != self.tip || header.first != first {
            return Err(wrong(&"it does not follow the block in front of it"));
        }
        let tree = &mut self.tree;
        for_each_entry(params, &block, first..EntryIndex(header.size.0), codec, |entry| {
            tree.push(leaf_hash(entry));
        })
        .map_err(|error| wrong(&error))?;
        if tree.size() != header.size || tree.root() != header.root {
            return Err(wrong(&"its entries do not lead to the root that it names"));
        }
        for body in &block.declarations {
            let declaration = Declaration::decode(body).map_err(|error| wrong(&error))?;
            if let Matter::Prune(prune) = declaration.matter {
                self.declared.push(prune.base);
            }
        }
        (self.height, self.tip) = (height, header.id());
        Ok(())
    }

    /// For a snapshot.
    pub fn write(&self) -> Written {
        Written {
            height: self.height,
            tip: self.tip.to_string(),
            size: self.tree.size().0,
            frontier: self.tree.hashes().map(|hash| hash.to_string()).collect(),
            declared: self.declared.iter().map(Hash::to_string).collect(),
        }
    }
}

impl Written {
    /// What was written; `None` if it cannot be.
    pub fn read(&self) -> Option<Chain> {
        let read = |texts: &[String]| -> Option<Vec<Hash>> {
            texts.iter().map(|text| Hash::from_base64(text)).collect()
        };
        Some(Chain {
            height: self.height,
            tip: Hash::from_base64(&self.tip)?,
            tree: Frontier::from_hashes(TreeSize(self.size), &read(&self.frontier)?).ok()?,
            declared: read(&self.declared)?,
        })
    }
}
