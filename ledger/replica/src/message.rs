//! What nodes say to one another. `docs/protocol.md` says when, `docs/formats.md` has the bytes.
//!
//! Decoding checks form and bounds only. Nothing here is believed: votes and
//! proposals are signed, bodies are named by digest, blocks carry certificates.

use bytes::Bytes;
use record::{
    Hash, TreeSize, UnixMillis, UnixSeconds,
    block::Height,
    bytes::{Malformed, Reader, put_counted32},
    crypto::Signature,
};

/// The most digests of a request for bodies, or of a list of them.
pub const MAX_DIGESTS: usize = 1408;
/// The most bytes of a message that must not wait behind others: a proposal with a full header.
pub const MAX_CONTROL: usize = 256 << 10;

/// The most bytes of a part of a base.
pub const MAX_BASE_PART: usize = 4 << 20;

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BodyKind {
    /// A sealed batch.
    Batch,
    /// An enrolment.
    Enrolment,
    /// Equivocation against a node or an agent.
    Equivocation,
    /// An operator's declaration.
    Declaration,
}

/// A node's word on where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its newest durable block.
    pub height: Height,
    /// Entries of its ledger.
    pub size: TreeSize,
    /// The height up to which it must not vote, because it lost what it voted before; 0 if it may.
    pub abstains_until: Height,
    /// Its clock.
    pub clock: UnixMillis,
    /// The newest clock it had from the receiver; 0 if none.
    pub echo: UnixMillis,
    /// Milliseconds between having that and sending this.
    pub held: u64,
}

/// A cosignature on the checkpoint of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// The block after which the tree has this size.
    pub height: Height,
    /// The tree's size.
    pub size: TreeSize,
    /// Its root.
    pub root: Hash,
    /// When it was cosigned.
    pub time: UnixSeconds,
    /// The cosignature.
    pub signature: Signature,
}

/// A message between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A vote, or a certificate of votes, as the consensus engine encodes it.
    Consensus(Bytes),
    /// A signed proposal, as the engine encodes it, and the header that it is for.
    Proposal {
        /// The signed proposal.
        signed: Bytes,
        /// The block's header in its binary form.
        header: Bytes,
    },
    /// Where the sender stands.
    Status(Status),
    /// The sender's cosignature.
    Cosigned(Cosigned),
    /// The sender waits for these bodies to be decided on, and has them.
    Have(Vec<Hash>),
    /// Send these bodies.
    Fetch(Vec<Hash>),
    /// Send decided blocks from this height on.
    FetchBlocks(Height),
    /// A body.
    Body(BodyKind, Bytes),
    /// A decided block in its binary form.
    Block(Bytes),
    /// Those were all blocks that the sender sends for one request.
    Served,
    /// The blocks that were asked for were given up: the decided block that holds the declaration, in its binary form.
    Pruned(Bytes),
    /// Send the base with this digest, from this byte on.
    FetchBase(Hash, u64),
    /// A part of a base.
    BasePart {
        /// Bytes of the whole base.
        total: u64,
        /// The first byte of the part.
        offset: u64,
        /// The part.
        part: Bytes,
    },
    /// Send the leaf hashes of the chunk with this number ([`crate::CHUNK`] to a chunk).
    FetchLeaves(u64),
    /// The leaf hashes of a chunk.
    Leaves {
        /// The chunk's number.
        chunk: u64,
        /// The hashes, one behind the other.
        hashes: Bytes,
    },
}

/// Bytes are no message: their sender is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Too short or too long.
    #[error("the message {0}")]
    Malformed(#[from] Malformed),
    /// A kind that does not exist.
    #[error("messages of kind {0} are unknown")]
    Kind(u8),
    /// More digests than allowed.
    #[error("the message names {0} bodies, at most {MAX_DIGESTS} are allowed")]
    Digests(usize),
}

impl Message {
    /// True for what may be large: it travels apart, so that votes never wait behind it.
    pub fn is_bulk(&self) -> bool {
        matches!(
            self,
            Message::Body(..)
                | Message::Block(_)
                | Message::Served
                | Message::Pruned(_)
                | Message::BasePart { .. }
                | Message::Leaves { .. }
        )
    }

    /// The binary form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size_hint());
        match self {
            Message::Consensus(bytes) => tagged(&mut out, 1, bytes),
            Message::Proposal { signed, header } => {
                out.push(2);
                put_counted32(&mut out, signed);
                put_counted32(&mut out, header);
            }
            Message::Status(status) => {
                out.push(3);
                let fields = [
                    status.height.0,
                    status.size.0,
                    status.abstains_until.0,
                    status.clock.0,
                    status.echo.0,
                    status.held,
                ];
                fields.iter().for_each(|field| out.extend_from_slice(&field.to_be_bytes()));
            }
            Message::Cosigned(c) => {
                out.push(4);
                out.extend_from_slice(&c.height.0.to_be_bytes());
                out.extend_from_slice(&c.size.0.to_be_bytes());
                out.extend_from_slice(&c.root.0);
                out.extend_from_slice(&c.time.0.to_be_bytes());
                out.extend_from_slice(&c.signature.0);
            }
            Message::Have(digests) => put_digests(&mut out, 5, digests),
            Message::Fetch(digests) => put_digests(&mut out, 6, digests),
            Message::FetchBlocks(from) => tagged(&mut out, 7, &from.0.to_be_bytes()),
            Message::Body(kind, bytes) => {
                let kind = match kind {
                    BodyKind::Batch => 8,
                    BodyKind::Enrolment => 9,
                    BodyKind::Equivocation => 10,
                    BodyKind::Declaration => 13,
                };
                tagged(&mut out, kind, bytes);
            }
            Message::Block(bytes) => tagged(&mut out, 11, bytes),
            Message::Served => out.push(12),
            Message::Pruned(bytes) => tagged(&mut out, 14, bytes),
            Message::FetchBase(digest, offset) => {
                tagged(&mut out, 15, &digest.0);
                out.extend_from_slice(&offset.to_be_bytes());
            }
            Message::BasePart { total, offset, part } => {
                tagged(&mut out, 16, &total.to_be_bytes());
                out.extend_from_slice(&offset.to_be_bytes());
                out.extend_from_slice(part);
            }
            Message::FetchLeaves(chunk) => tagged(&mut out, 17, &chunk.to_be_bytes()),
            Message::Leaves { chunk, hashes } => {
                tagged(&mut out, 18, &chunk.to_be_bytes());
                out.extend_from_slice(hashes);
            }
        }
        out
    }

    fn size_hint(&self) -> usize {
        match self {
            Message::Body(_, bytes)
            | Message::Block(bytes)
            | Message::Pruned(bytes)
            | Message::Consensus(bytes) => bytes.len() + 1,
            Message::BasePart { part: bytes, .. } | Message::Leaves { hashes: bytes, .. } => {
                bytes.len() + 17
            }
            Message::Proposal { signed, header } => signed.len() + header.len() + 9,
            Message::Have(digests) | Message::Fetch(digests) => 1 + 32 * digests.len(),
            Message::Status(_)
            | Message::Cosigned(_)
            | Message::FetchBlocks(_)
            | Message::FetchBase(..)
            | Message::FetchLeaves(_)
            | Message::Served => 128,
        }
    }

    /// Parses the binary form. Bodies are slices of `frame`, not copies.
    ///
    /// # Errors
    /// When the bytes are not exactly one message.
    pub fn decode(frame: &Bytes) -> Result<Self, MessageError> {
        let mut reader = Reader::new(frame);
        let kind = reader.u8()?;
        let rest = || frame.slice(1..);
        let message = match kind {
            1 => return Ok(Message::Consensus(rest())),
            2 => {
                let signed = frame.slice_ref(reader.counted32()?);
                let header = frame.slice_ref(reader.counted32()?);
                Message::Proposal { signed, header }
            }
            3 => Message::Status(Status {
                height: Height(reader.u64()?),
                size: TreeSize(reader.u64()?),
                abstains_until: Height(reader.u64()?),
                clock: UnixMillis(reader.u64()?),
                echo: UnixMillis(reader.u64()?),
                held: reader.u64()?,
            }),
            4 => Message::Cosigned(Cosigned {
                height: Height(reader.u64()?),
                size: TreeSize(reader.u64()?),
                root: Hash(reader.array()?),
                time: UnixSeconds(reader.u64()?),
                signature: Signature(reader.array()?),
            }),
            5 => Message::Have(take_digests(&mut reader)?),
            6 => Message::Fetch(take_digests(&mut reader)?),
            7 => Message::FetchBlocks(Height(reader.u64()?)),
            8 => return Ok(Message::Body(BodyKind::Batch, rest())),
            9 => return Ok(Message::Body(BodyKind::Enrolment, rest())),
            10 => return Ok(Message::Body(BodyKind::Equivocation, rest())),
            11 => return Ok(Message::Block(rest())),
            12 => Message::Served,
            13 => return Ok(Message::Body(BodyKind::Declaration, rest())),
            14 => return Ok(Message::Pruned(rest())),
            15 => Message::FetchBase(Hash(reader.array()?), reader.u64()?),
            16 => {
                let (total, offset) = (reader.u64()?, reader.u64()?);
                let part = frame.slice_ref(reader.take(reader.left())?);
                return Ok(Message::BasePart { total, offset, part });
            }
            17 => Message::FetchLeaves(reader.u64()?),
            18 => {
                let chunk = reader.u64()?;
                let hashes = frame.slice_ref(reader.take(reader.left())?);
                return Ok(Message::Leaves { chunk, hashes });
            }
            other => return Err(MessageError::Kind(other)),
        };
        reader.finish()?;
        Ok(message)
    }
}

fn tagged(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    out.extend_from_slice(bytes);
}

fn put_digests(out: &mut Vec<u8>, kind: u8, digests: &[Hash]) {
    out.push(kind);
    digests.iter().for_each(|digest| out.extend_from_slice(&digest.0));
}

fn take_digests(reader: &mut Reader<'_>) -> Result<Vec<Hash>, MessageError> {
    let count = reader.left() / 32;
    if count > MAX_DIGESTS {
        return Err(MessageError::Digests(count));
    }
    Ok((0..count).map(|_| reader.array().map(Hash)).collect::<Result<_, Malformed>>()?)
}
