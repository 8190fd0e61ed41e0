//! Key names, key IDs, verifier keys (vkeys) and signers of notes.

use super::NoteSignature;
use crate::{
    base64, cosignature,
    crypto::{PublicKey, SEED_LEN, Signature, SigningKey, sha256},
    time::UnixSeconds,
};
use std::{fmt, str::FromStr};
use zeroize::Zeroizing;

/// The name of a key: non-empty, without Unicode spaces and without `+`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyName {
    type Err = VkeyError;

    fn from_str(text: &str) -> Result<Self, VkeyError> {
        let bad = |c: char| c.is_whitespace() || c == '+' || (c as u32) < 0x20;
        if text.is_empty() || text.contains(bad) {
            return Err(VkeyError::Name);
        }
        Ok(KeyName(text.to_owned()))
    }
}

/// The short identifier of a key; never a proof of identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

/// The kinds of signature that logseal makes and checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignatureType {
    /// `0x01`: Ed25519 over the note's text.
    Ed25519,
    /// `0x04`: timestamped Ed25519 `cosignature/v1` of a checkpoint.
    CosignatureV1,
}

impl SignatureType {
    fn byte(self) -> u8 {
        match self {
            SignatureType::Ed25519 => 0x01,
            SignatureType::CosignatureV1 => 0x04,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0x01 => Some(SignatureType::Ed25519),
            0x04 => Some(SignatureType::CosignatureV1),
            _ => None,
        }
    }
}

/// Text is not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VkeyError {
    /// Not `<name>+<id>+<base64>`.
    #[error("not a key: expected '<name>+<8 hex digits>+<base64>'")]
    Format,
    /// Empty, or with spaces or '+'.
    #[error("a key's name must not be empty or have spaces, control characters or '+'")]
    Name,
    /// A type other than Ed25519 (0x01) and cosignature/v1 (0x04).
    #[error("unsupported key type: only Ed25519 (0x01) and cosignature/v1 (0x04) are known")]
    Type,
    /// The ID is not the one that name, type and key give.
    #[error("the key ID does not belong to this name and key: the text was damaged or mistyped")]
    Id,
}

/// A public key with its name and type: a vkey.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: KeyName,
    kind: SignatureType,
    key: PublicKey,
    id: KeyId,
}

impl VerifierKey {
    /// Names `key` for signatures of the given kind.
    pub fn new(name: KeyName, kind: SignatureType, key: PublicKey) -> Self {
        let id = key_id(&name, kind, &key);
        VerifierKey { name, kind, key, id }
    }

    /// The key's name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The key's ID.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What kind of signature the key makes.
    pub fn kind(&self) -> SignatureType {
        self.kind
    }

    /// The bare public key.
    pub fn public(&self) -> PublicKey {
        self.key
    }

    /// True if `bytes` (what follows the key ID) is this key's signature of the note `text`.
    pub fn verifies(&self, text: &str, bytes: &[u8]) -> bool {
        match self.kind {
            SignatureType::Ed25519 => <[u8; 64]>::try_from(bytes)
                .is_ok_and(|s| self.key.verifies(text.as_bytes(), &Signature(s))),
            SignatureType::CosignatureV1 => cosignature::Cosignature::from_bytes(bytes)
                .is_some_and(|c| c.verifies(&self.key, text)),
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.kind.byte()];
        bytes.extend_from_slice(&self.key.0);
        write!(f, "{}+{:08x}+{}", self.name, self.id.0, base64::encode(&bytes))
    }
}

impl FromStr for VerifierKey {
    type Err = VkeyError;

    fn from_str(text: &str) -> Result<Self, VkeyError> {
        let (name, id, kind, key) = split_key(text)?;
        let vkey = VerifierKey::new(name, kind, PublicKey(*key));
        if vkey.id == id { Ok(vkey) } else { Err(VkeyError::Id) }
    }
}

/// A private key with its name and type. Written as Go's `golang.org/x/mod/sumdb/note` does:
/// `PRIVATE+KEY+<name>+<id>+<base64(type || seed)>`.
#[derive(Debug)]
pub struct NoteSigner {
    vkey: VerifierKey,
    key: SigningKey,
}

const PRIVATE: &str = "PRIVATE+KEY+";

impl NoteSigner {
    /// Names the key of `seed` for signatures of the given kind.
    pub fn new(name: KeyName, kind: SignatureType, seed: &Zeroizing<[u8; SEED_LEN]>) -> Self {
        let key = SigningKey::from_seed(seed);
        NoteSigner { vkey: VerifierKey::new(name, kind, key.public()), key }
    }

    /// Parses the private form; surrounding white space is allowed.
    pub fn parse(text: &str) -> Result<Self, VkeyError> {
        let text = text.trim().strip_prefix(PRIVATE).ok_or(VkeyError::Format)?;
        let (name, id, kind, seed) = split_key(text)?;
        let signer = NoteSigner::new(name, kind, &seed);
        if signer.vkey.id == id { Ok(signer) } else { Err(VkeyError::Id) }
    }

    /// The private form of a key, to be written to a file that only its owner can read.
    pub fn encode_private(
        name: &KeyName,
        kind: SignatureType,
        seed: &Zeroizing<[u8; SEED_LEN]>,
    ) -> Zeroizing<String> {
        let id = key_id(name, kind, &SigningKey::from_seed(seed).public());
        let mut bytes = Zeroizing::new(vec![kind.byte()]);
        bytes.extend_from_slice(seed.as_ref());
        let encoded = Zeroizing::new(base64::encode(&bytes));
        Zeroizing::new(format!("{PRIVATE}{name}+{:08x}+{}\n", id.0, *encoded))
    }

    /// The public half.
    pub fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    /// The bare signing key.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The bare signing key, without its name.
    pub fn into_key(self) -> SigningKey {
        self.key
    }

    /// Signs the note `text`; `now` is used by cosignatures only.
    pub fn sign(&self, text: &str, now: UnixSeconds) -> NoteSignature {
        let bytes = match self.vkey.kind {
            SignatureType::Ed25519 => self.key.sign(text.as_bytes()).0.to_vec(),
            SignatureType::CosignatureV1 => {
                cosignature::Cosignature::sign(&self.key, text, now).to_bytes().to_vec()
            }
        };
        NoteSignature { name: self.vkey.name.clone(), id: self.vkey.id, bytes }
    }
}

fn key_id(name: &KeyName, kind: SignatureType, key: &PublicKey) -> KeyId {
    let hash = sha256(&[name.0.as_bytes(), b"\n", &[kind.byte()], &key.0]);
    KeyId(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]))
}

type SplitKey = (KeyName, KeyId, SignatureType, Zeroizing<[u8; 32]>);

fn split_key(text: &str) -> Result<SplitKey, VkeyError> {
    let mut fields = text.splitn(3, '+');
    let mut field = || fields.next().ok_or(VkeyError::Format);
    let (name, id, encoded) = (field()?, field()?, field()?);
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if id.len() != 8 || !id.bytes().all(lower_hex) {
        return Err(VkeyError::Format);
    }
    let id = u32::from_str_radix(id, 16).map_err(|_| VkeyError::Format)?;
    let bytes = Zeroizing::new(base64::decode(encoded).ok_or(VkeyError::Format)?);
    let (kind, key) = bytes.split_first().ok_or(VkeyError::Format)?;
    let kind = SignatureType::from_byte(*kind).ok_or(VkeyError::Type)?;
    let key = <[u8; 32]>::try_from(key).map_err(|_| VkeyError::Format)?;
    Ok((name.parse()?, KeyId(id), kind, Zeroizing::new(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_survives_its_text_form_and_damage_is_noticed() {
        let seed = Zeroizing::new([7; 32]);
        let name: KeyName = "ledger.example/log".parse().unwrap();
        let text = NoteSigner::encode_private(&name, SignatureType::CosignatureV1, &seed);
        let signer = NoteSigner::parse(&text).unwrap();
        assert_eq!(signer.vkey().public(), SigningKey::from_seed(&seed).public());
        assert!(!format!("{signer:?}").contains("BwcHBw"));
        let renamed = text.replace("/log", "/lug");
        assert_eq!(NoteSigner::parse(&renamed).unwrap_err(), VkeyError::Id);
        let vkey = signer.vkey().to_string();
        assert_eq!(vkey.parse::<VerifierKey>().unwrap(), *signer.vkey());
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for bad in [
            "",
            "a",
            "a+00000000",
            "a+0000000g+AAAA",
            "a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        ] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
    }
}
