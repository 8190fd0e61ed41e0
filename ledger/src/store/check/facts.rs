//! What one block says, found without knowing any other.

use journal::{Damage, DamageKind, Reader, Segment, Seq};
use record::{
    Hash,
    batch::{Codec, SealedBatch},
    block::Height,
    declaration::Declaration,
    enrolment::Enrolment,
    equivocation::Equivocation,
    merkle::{EntryIndex, Frontier, leaf_hash},
    seal::Seal,
};
use replica::{
    Block, BlockHeader, Certificate, Params,
    entries::{Places, for_each_entry, places},
};

/// A batch of a block.
pub struct BatchFacts {
    /// Its agent's log before it, as it is kept.
    pub before: Frontier,
    /// Its seal.
    pub seal: Seal,
}

/// What one block says.
pub struct BlockFacts {
    /// Its header.
    pub header: BlockHeader,
    /// Its identifier.
    pub id: Hash,
    /// Who voted for it.
    pub certificate: Certificate,
    /// The leaf hashes of its entries, as far as they can be read.
    pub leaves: Vec<Hash>,
    /// Where its bodies stand.
    pub places: Places,
    /// Its enrolments.
    pub enrolments: Vec<Enrolment>,
    /// Its batches, as many as there are in `places`.
    pub batches: Vec<BatchFacts>,
    /// Its equivocations.
    pub equivocations: Vec<Equivocation>,
    /// Its declarations.
    pub declarations: Vec<Declaration>,
    /// Bytes of its entries.
    pub entry_bytes: u64,
    /// The first thing that is wrong with it in itself.
    pub problem: Option<String>,
}

/// What stands in a place of the block log.
pub enum Item {
    /// A block.
    Block(Box<BlockFacts>),
    /// A record that is whole, but no block.
    NoBlock {
        /// The block that should be there.
        height: Height,
        /// Why it is none.
        problem: String,
    },
    /// Blocks that cannot be read.
    Lost(Damage),
    /// Damage that cost no block.
    Scratch {
        /// The damage.
        damage: Damage,
        /// The first block of its segment.
        first: Height,
    },
}

/// What stands in a segment, in order. With `deep` each batch is also followed in its agent's log.
pub fn items(params: &Params, segment: &Segment, deep: bool, codec: &mut Codec) -> Vec<Item> {
    let harmless = segment.damage().iter().filter(|damage| damage.first_seq >= damage.last_seq);
    let first = Height(segment.extent().first.0 + 1);
    let mut items: Vec<Item> =
        harmless.cloned().map(|damage| Item::Scratch { damage, first }).collect();
    let mut told = Seq(0);
    for (seq, bytes) in segment.records() {
        match bytes {
            Some(bytes) => items.push(item(params, Height(seq.0 + 1), bytes, deep, codec)),
            None if seq < told => {}
            None => {
                let damage = lost(segment, seq);
                told = damage.last_seq;
                items.push(Item::Lost(damage));
            }
        }
    }
    items
}

impl Item {
    /// The last block that it is about.
    pub(super) fn last(&self) -> Height {
        match self {
            Item::Block(facts) => facts.header.height,
            Item::NoBlock { height, .. } => *height,
            Item::Lost(damage) => Height(damage.last_seq.0),
            Item::Scratch { .. } => Height(u64::MAX),
        }
    }
}

/// What is missing behind block `floor` and in front of the first segment that is left, if anything is.
pub(super) fn lost_front(blocks: &Reader, floor: Height) -> Option<Item> {
    let (first_seq, last_seq) = (Seq(floor.0), blocks.first_seq());
    (last_seq > first_seq).then(|| {
        let segment = blocks.dir().join(format!("{:020}.seg", first_seq.0));
        let kind = DamageKind::Missing;
        Item::Lost(Damage { segment, offset: 0, first_seq, last_seq, kind })
    })
}

fn lost(segment: &Segment, seq: Seq) -> Damage {
    let hit = |damage: &&Damage| damage.first_seq <= seq && seq < damage.last_seq;
    let known = segment.damage().iter().find(hit).cloned();
    let mut damage = known.expect("what cannot be read is reported as damage");
    damage.first_seq = seq;
    damage
}

fn item(params: &Params, height: Height, bytes: &[u8], deep: bool, codec: &mut Codec) -> Item {
    let problem = match Block::decode(bytes) {
        Ok(block) => return Item::Block(Box::new(facts(params, block, deep, codec, None))),
        Err(error) => error.to_string(),
    };
    // To say which entries were altered.
    match Block::decode_unchecked(bytes) {
        Ok(block) => Item::Block(Box::new(facts(params, block, deep, codec, Some(problem)))),
        Err(_) => Item::NoBlock { height, problem },
    }
}

fn facts(
    params: &Params,
    block: Block,
    deep: bool,
    codec: &mut Codec,
    problem: Option<String>,
) -> BlockFacts {
    let mut facts = BlockFacts {
        id: block.header.id(),
        certificate: block.certificate.clone(),
        leaves: Vec::new(),
        places: Places::default(),
        enrolments: Vec::new(),
        batches: Vec::new(),
        equivocations: Vec::new(),
        declarations: Vec::new(),
        entry_bytes: 0,
        problem,
        header: block.header.clone(),
    };
    if let Err(problem) = facts.read_bodies(&block) {
        facts.problem.get_or_insert(problem);
    }
    let range = block.header.first..EntryIndex(block.header.size.0.max(block.header.first.0));
    let BlockFacts { leaves, entry_bytes, .. } = &mut facts;
    let read = for_each_entry(params, &block, range, codec, |entry| {
        *entry_bytes += entry.len() as u64;
        leaves.push(leaf_hash(entry));
    });
    if let Err(error) = read {
        facts.problem.get_or_insert(error.to_string());
    }
    if deep {
        facts.follow_agents(&block, codec);
    }
    facts
}

impl BlockFacts {
    fn read_bodies(&mut self, block: &Block) -> Result<(), String> {
        self.places = places(block).map_err(|error| error.to_string())?;
        for body in &block.enrolments {
            self.enrolments.push(Enrolment::decode(body).map_err(|error| error.to_string())?);
        }
        for body in &block.batches {
            let seal = SealedBatch::decode(&body.encoded).map_err(|error| error.to_string())?.seal;
            self.batches.push(BatchFacts { before: body.before.clone(), seal });
        }
        for body in &block.equivocations {
            self.equivocations.push(Equivocation::decode(body).map_err(|e| e.to_string())?);
        }
        for body in &block.declarations {
            self.declarations.push(Declaration::decode(body).map_err(|e| e.to_string())?);
        }
        Ok(())
    }

    /// Grows each batch's agent's log by its records, which must lead to what was sealed.
    fn follow_agents(&mut self, block: &Block, codec: &mut Codec) {
        let mut scratch = Vec::new();
        for body in &block.batches {
            let Ok(batch) = SealedBatch::decode(&body.encoded) else { continue };
            if let Err(error) = batch.follow(&body.before, codec, &mut scratch) {
                let problem = format!(
                    "the batch of '{}' that begins with record {}: {error}",
                    batch.agent, batch.start
                );
                self.problem.get_or_insert(problem);
            }
        }
    }
}

/// The words for damage of the block log.
pub(super) fn words(damage: &Damage) -> &'static str {
    match damage.kind {
        DamageKind::Header => "the segment's header is damaged",
        DamageKind::Missing => "blocks are missing: the segment was cut short or deleted",
        _ => "damaged bytes",
    }
}
