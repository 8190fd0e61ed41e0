//! SHA-256 and Ed25519, the only two primitives that evidence rests on.
//!
//! Nothing outside this module names the library that implements them.

use ring::{digest, signature, signature::KeyPair as _};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of an Ed25519 seed (RFC 8032, section 5.1.5).
pub const SEED_LEN: usize = 32;
/// Bytes of an Ed25519 signature (RFC 8032, section 5.1.6).
pub const SIGNATURE_LEN: usize = 64;

/// SHA-256 of the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// An Ed25519 public key, 32 bytes (RFC 8032, section 5.1.5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", crate::base64::encode(&self.0))
    }
}

/// An Ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; SIGNATURE_LEN]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", crate::base64::encode(&self.0))
    }
}

impl PublicKey {
    /// True if `signature` is this key's signature of `message`.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        signature::UnparsedPublicKey::new(&signature::ED25519, &self.0)
            .verify(message, &signature.0)
            .is_ok()
    }
}

/// An Ed25519 private key. It never shows itself in `Debug`.
pub struct SigningKey {
    pair: signature::Ed25519KeyPair,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?}, private part hidden)", self.public)
    }
}

impl SigningKey {
    /// The key that belongs to `seed`. The caller's copy of the seed is erased when dropped.
    pub fn from_seed(seed: &Zeroizing<[u8; SEED_LEN]>) -> Self {
        let pair = signature::Ed25519KeyPair::from_seed_unchecked(seed.as_ref())
            .expect("any 32 bytes are an Ed25519 seed");
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        SigningKey { pair, public: PublicKey(public) }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs `message`; the same message always gives the same signature.
    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut out = [0; SIGNATURE_LEN];
        out.copy_from_slice(self.pair.sign(message).as_ref());
        Signature(out)
    }
}
