//! Messages as bytes: bincode in its legacy configuration (little-endian,
//! integers of fixed size). For messages between programs only; nothing that is
//! hashed or signed is ever encoded this way.

use bincode::{
    Decode, Encode,
    config::{self, Configuration, Fixint, Limit, LittleEndian},
    error::{DecodeError, EncodeError},
};

/// The longest message, in bytes: about twice the largest block, which is the
/// largest thing sent at once. Decoding never takes more memory than this in one
/// piece, whatever lengths the bytes claim.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_MESSAGE_BYTES>> =
    config::legacy().with_limit::<MAX_MESSAGE_BYTES>();

/// Bytes and messages that do not belong together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Peer: the bytes are no such message.
    #[error("the peer sent bytes that are no message: {0}; do both ends run the same version?")]
    Decode(#[from] DecodeError),
    /// Peer: the message ends before the bytes do.
    #[error(
        "the peer sent {0} bytes behind the end of a message; do both ends run the same version?"
    )]
    Trailing(usize),
    /// This program: the message has no encoding.
    #[error("a message cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// This program: the message is longer than any peer takes.
    #[error("a message of {0} bytes is longer than the {MAX_MESSAGE_BYTES} that may be sent")]
    TooLong(usize),
}

/// Encodes a message.
///
/// # Errors
/// [`CodecError::TooLong`] beyond [`MAX_MESSAGE_BYTES`]; [`CodecError::Encode`]
/// when a part of it has no encoding, as a poisoned lock has none.
pub fn to_bytes<T: Encode>(message: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::encode_to_vec(message, CONFIG)?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(CodecError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// Decodes a message that takes up all of `bytes`.
///
/// # Errors
/// When the bytes are no `T`, or more than one.
pub fn from_bytes<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let (message, used) = bincode::decode_from_slice(bytes, CONFIG)?;
    match bytes.len() - used {
        0 => Ok(message),
        rest => Err(CodecError::Trailing(rest)),
    }
}
