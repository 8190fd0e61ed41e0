//! Blocks: what the cluster decides on, and how they are kept.
//!
//! A header names everything by digest and is what votes are cast on; the
//! bodies travel and are kept beside it. `docs/formats.md` has the diagrams.

use bytes::Bytes;
use record::{
    Hash, NodeName, TreeSize, UnixMillis,
    batch::SealedBatch,
    block::Height,
    bytes::{Malformed, Reader, put_counted8, put_counted32},
    crypto::{PublicKey, Signature, sha256},
    merkle::{EntryIndex, Frontier},
};

/// The most bytes of a block's bodies. Large enough for a full batch, small enough to vote on
/// quickly, and to be sent whole in one frame with everything around them.
pub const MAX_BLOCK_BYTES: usize = 8 << 20;
/// The most batches in a block.
pub const MAX_BLOCK_BATCHES: usize = 1024;
/// The most enrolments in a block.
pub const MAX_BLOCK_ENROLMENTS: usize = 256;
/// The most signatures of a certificate: one a node.
pub const MAX_SIGNATURES: usize = 64;

/// The most equivocations in a block.
pub const MAX_BLOCK_EQUIVOCATIONS: usize = 16;
/// The most declarations in a block.
pub const MAX_BLOCK_DECLARATIONS: usize = 4;

/// The version of headers without equivocations and declarations, and of blocks.
const VERSION: u8 = 1;
/// The version of headers with equivocations, but no declarations.
const VERSION_EQUIVOCATIONS: u8 = 2;
/// The version of headers with declarations.
const VERSION_DECLARATIONS: u8 = 3;

/// What is voted on: everything about a block, its contents by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// The block's number.
    pub height: Height,
    /// The identifier of the block before.
    pub parent: Hash,
    /// The proposer's time; not before the previous block's.
    pub time: UnixMillis,
    /// Who proposed it.
    pub proposer: NodeName,
    /// The ledger index of its first entry.
    pub first: EntryIndex,
    /// Digests of the enrolments, in order.
    pub enrolments: Vec<Hash>,
    /// Digests of the batches, in order.
    pub batches: Vec<Hash>,
    /// Digests of the equivocations, in order.
    pub equivocations: Vec<Hash>,
    /// Digests of the declarations, in order.
    pub declarations: Vec<Hash>,
    /// The ledger's size after the block.
    pub size: TreeSize,
    /// The ledger's root after the block.
    pub root: Hash,
}

/// Bytes are not a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Too short or too long.
    #[error("the block {0}")]
    Malformed(#[from] Malformed),
    /// A version this program does not know.
    #[error("version {0} of blocks is unknown")]
    Version(u8),
    /// More items than allowed.
    #[error("the block has more items than allowed")]
    Limits,
    /// The proposer's name.
    #[error("the block names no valid proposer")]
    Name,
    /// A body that the header does not name at this place.
    #[error("the block's bodies are not those its header names")]
    Bodies,
    /// A frontier with another number of hashes than its size asks for.
    #[error("a batch's frontier does not fit its place")]
    Frontier,
}

impl BlockHeader {
    /// The binary form; its digest is the block's identifier.
    pub fn encode(&self) -> Vec<u8> {
        let version = self.version();
        let mut out = vec![version];
        out.extend_from_slice(&self.height.0.to_be_bytes());
        out.extend_from_slice(&self.parent.0);
        out.extend_from_slice(&self.time.0.to_be_bytes());
        put_counted8(&mut out, self.proposer.as_str().as_bytes());
        out.extend_from_slice(&self.first.0.to_be_bytes());
        put_digests(&mut out, &self.enrolments);
        put_digests(&mut out, &self.batches);
        if version >= VERSION_EQUIVOCATIONS {
            put_digests(&mut out, &self.equivocations);
        }
        if version >= VERSION_DECLARATIONS {
            put_digests(&mut out, &self.declarations);
        }
        out.extend_from_slice(&self.size.0.to_be_bytes());
        out.extend_from_slice(&self.root.0);
        out
    }

    /// The least version that has room for what it names: a header is what it was before there was more.
    fn version(&self) -> u8 {
        if !self.declarations.is_empty() {
            VERSION_DECLARATIONS
        } else if !self.equivocations.is_empty() {
            VERSION_EQUIVOCATIONS
        } else {
            VERSION
        }
    }

    /// Parses the binary form.
    ///
    /// # Errors
    /// When the bytes are not exactly one header.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let mut reader = Reader::new(bytes);
        let header = Self::take(&mut reader)?;
        reader.finish()?;
        Ok(header)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, BlockError> {
        let version = reader.u8()?;
        if !(VERSION..=VERSION_DECLARATIONS).contains(&version) {
            return Err(BlockError::Version(version));
        }
        let (height, parent, time) = (reader.u64()?, reader.array()?, reader.u64()?);
        let name = std::str::from_utf8(reader.counted8()?).map_err(|_| BlockError::Name)?;
        let header = BlockHeader {
            height: Height(height),
            parent: Hash(parent),
            time: UnixMillis(time),
            proposer: name.parse().map_err(|_| BlockError::Name)?,
            first: EntryIndex(reader.u64()?),
            enrolments: take_digests(reader, MAX_BLOCK_ENROLMENTS)?,
            batches: take_digests(reader, MAX_BLOCK_BATCHES)?,
            equivocations: match version {
                VERSION => vec![],
                _ => take_digests(reader, MAX_BLOCK_EQUIVOCATIONS)?,
            },
            declarations: match version {
                VERSION_DECLARATIONS => take_digests(reader, MAX_BLOCK_DECLARATIONS)?,
                _ => vec![],
            },
            size: TreeSize(reader.u64()?),
            root: Hash(reader.array()?),
        };
        // A block has one binary form only.
        if header.version() == version { Ok(header) } else { Err(BlockError::Version(version)) }
    }

    /// The digests of all bodies: batches, enrolments, equivocations, declarations.
    pub fn digests(&self) -> impl Iterator<Item = &Hash> {
        let own = self.enrolments.iter().chain(&self.equivocations).chain(&self.declarations);
        self.batches.iter().chain(own)
    }

    /// True if nobody waits for what it names: it may come only once in a while.
    pub fn is_bare(&self) -> bool {
        self.batches.is_empty() && self.enrolments.is_empty() && self.declarations.is_empty()
    }

    /// The block's identifier: SHA-256 over a domain and the binary form.
    pub fn id(&self) -> Hash {
        Hash(sha256(&[b"logseal/block/v1\n", &self.encode()]))
    }
}

/// The precommits that decided a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The round in which it was decided.
    pub round: u32,
    /// Consensus keys and their precommit signatures.
    pub signatures: Vec<(PublicKey, Signature)>,
}

/// A batch as a block keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockBatch {
    /// A [`SealedBatch`] in its binary form.
    pub encoded: Bytes,
    /// The agent's log before the batch: with it, and the batch, the proof of any of the batch's
    /// records in the agent's log can be made without reading anything else.
    pub before: Frontier,
}

/// A decided block with its bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What was voted on.
    pub header: BlockHeader,
    /// Who voted for it.
    pub certificate: Certificate,
    /// Enrolments in their binary form.
    pub enrolments: Vec<Bytes>,
    /// Batches.
    pub batches: Vec<BlockBatch>,
    /// Equivocations in their binary form.
    pub equivocations: Vec<Bytes>,
    /// Declarations in their binary form.
    pub declarations: Vec<Bytes>,
}

impl Block {
    /// The binary form in pieces, so that bodies need not be copied to be written.
    pub fn encode_parts(&self) -> Vec<std::borrow::Cow<'_, [u8]>> {
        let mut head = vec![VERSION];
        put_counted32(&mut head, &self.header.encode());
        head.extend_from_slice(&self.certificate.round.to_be_bytes());
        head.push(u8::try_from(self.certificate.signatures.len()).expect("at most 64 nodes"));
        for (key, signature) in &self.certificate.signatures {
            head.extend_from_slice(&key.0);
            head.extend_from_slice(&signature.0);
        }
        for enrolment in &self.enrolments {
            put_counted32(&mut head, enrolment);
        }
        let mut parts = vec![head.into()];
        for batch in &self.batches {
            let mut prefix = Vec::with_capacity(5 + 32 * batch.before.hashes().len());
            prefix.push(batch.before.hashes().len() as u8);
            batch.before.hashes().for_each(|hash| prefix.extend_from_slice(&hash.0));
            let len = u32::try_from(batch.encoded.len()).expect("a batch is bounded");
            prefix.extend_from_slice(&len.to_be_bytes());
            parts.push(prefix.into());
            parts.push(batch.encoded.as_ref().into());
        }
        let mut tail = vec![];
        let last = self.equivocations.iter().chain(&self.declarations);
        last.for_each(|body| put_counted32(&mut tail, body));
        parts.push(tail.into());
        parts
    }

    /// Parses the binary form and checks that the bodies are those the header names.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let block = Self::decode_unchecked(bytes)?;
        let header = &block.header;
        let enrolments = header.enrolments.iter().zip(&block.enrolments);
        let batches = block.batches.iter().map(|batch| &batch.encoded);
        let equivocations = header.equivocations.iter().zip(&block.equivocations);
        let declarations = header.declarations.iter().zip(&block.declarations);
        let own = enrolments.chain(equivocations).chain(declarations);
        let named = own.chain(header.batches.iter().zip(batches));
        for (digest, body) in named {
            if *digest != SealedBatch::digest(body) {
                return Err(BlockError::Bodies);
            }
        }
        Ok(block)
    }

    /// Parses the binary form without comparing the bodies with the header: only for finding out
    /// what is wrong with a block that does not decode.
    pub fn decode_unchecked(bytes: &[u8]) -> Result<Self, BlockError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(BlockError::Version(other)),
        }
        let header = BlockHeader::decode(reader.counted32()?)?;
        let round = reader.u32()?;
        let signatures = usize::from(reader.u8()?);
        if signatures > MAX_SIGNATURES {
            return Err(BlockError::Limits);
        }
        let signatures = (0..signatures)
            .map(|_| Ok((PublicKey(reader.array()?), Signature(reader.array()?))))
            .collect::<Result<_, Malformed>>()?;
        let enrolments = take_bodies(&mut reader, &header.enrolments)?;
        let mut batches = Vec::with_capacity(header.batches.len());
        for _ in &header.batches {
            batches.push(take_batch(&mut reader)?);
        }
        let equivocations = take_bodies(&mut reader, &header.equivocations)?;
        let declarations = take_bodies(&mut reader, &header.declarations)?;
        reader.finish()?;
        let certificate = Certificate { round, signatures };
        Ok(Block { header, certificate, enrolments, batches, equivocations, declarations })
    }
}

fn take_bodies(reader: &mut Reader<'_>, named: &[Hash]) -> Result<Vec<Bytes>, Malformed> {
    named.iter().map(|_| reader.counted32().map(Bytes::copy_from_slice)).collect()
}

fn take_batch(reader: &mut Reader<'_>) -> Result<BlockBatch, BlockError> {
    let count = reader.u8()?;
    let hashes =
        (0..count).map(|_| reader.array().map(Hash)).collect::<Result<Vec<_>, Malformed>>()?;
    let encoded = reader.counted32()?;
    let start = SealedBatch::decode(encoded).map_err(|_| BlockError::Bodies)?.start;
    let before = Frontier::from_hashes(TreeSize(start.0), &hashes);
    let encoded = Bytes::copy_from_slice(encoded);
    Ok(BlockBatch { encoded, before: before.map_err(|_| BlockError::Frontier)? })
}

fn put_digests(out: &mut Vec<u8>, digests: &[Hash]) {
    let count = u16::try_from(digests.len()).expect("a block's items are bounded");
    out.extend_from_slice(&count.to_be_bytes());
    digests.iter().for_each(|digest| out.extend_from_slice(&digest.0));
}

fn take_digests(reader: &mut Reader<'_>, max: usize) -> Result<Vec<Hash>, BlockError> {
    let count = usize::from(reader.u16()?);
    if count > max {
        return Err(BlockError::Limits);
    }
    Ok((0..count).map(|_| reader.array().map(Hash)).collect::<Result<_, Malformed>>()?)
}
