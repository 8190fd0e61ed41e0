//! Timestamped Ed25519 cosignatures, `cosignature/v1`: <https://c2sp.org/tlog-cosignature>.

use crate::{
    crypto::{PublicKey, SIGNATURE_LEN, Signature, SigningKey},
    time::UnixSeconds,
};

/// Bytes of a `timestamped_signature`: an 8-byte time and the signature.
pub const COSIGNATURE_LEN: usize = 8 + SIGNATURE_LEN;

/// A statement that, as of `time`, a checkpoint was the largest its signer had seen, and consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// When it was made; at most 2^63 - 1.
    pub time: UnixSeconds,
    /// Over the header, the time and the checkpoint's text.
    pub signature: Signature,
}

impl Cosignature {
    /// Cosigns the checkpoint `text` (its last newline included).
    pub fn sign(key: &SigningKey, text: &str, time: UnixSeconds) -> Self {
        Cosignature { time, signature: key.sign(&Cosignature::statement(text, time)) }
    }

    /// True if `key` made this cosignature of the checkpoint `text`.
    pub fn verifies(&self, key: &PublicKey, text: &str) -> bool {
        self.time.0 <= i64::MAX as u64
            && key.verifies(&Self::statement(text, self.time), &self.signature)
    }

    /// What is signed: a header, the time, the checkpoint's text.
    pub fn statement(text: &str, time: UnixSeconds) -> Vec<u8> {
        format!("cosignature/v1\ntime {}\n{text}", time.0).into_bytes()
    }

    /// The `timestamped_signature` structure.
    pub fn to_bytes(&self) -> [u8; COSIGNATURE_LEN] {
        let mut out = [0; COSIGNATURE_LEN];
        out[..8].copy_from_slice(&self.time.0.to_be_bytes());
        out[8..].copy_from_slice(&self.signature.0);
        out
    }

    /// Parses a `timestamped_signature` structure.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; COSIGNATURE_LEN] = bytes.try_into().ok()?;
        let (time, signature) = bytes.split_first_chunk()?;
        let time = UnixSeconds(u64::from_be_bytes(*time));
        Some(Cosignature { time, signature: Signature(signature.try_into().ok()?) })
    }
}
