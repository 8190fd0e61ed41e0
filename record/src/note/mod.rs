//! C2SP signed notes: <https://c2sp.org/signed-note>.
//!
//! A [`SignedNote`] is parsed, not trusted: its text is worth nothing until
//! [`SignedNote::verify`] has found a signature of a known key.

mod key;

pub use key::{KeyId, KeyName, NoteSigner, SignatureType, VerifierKey, VkeyError};

use crate::base64;

/// The most signatures a note may have here (the specification asks for at least 16).
pub const MAX_SIGNATURES: usize = 128;
/// The most bytes a note may have here.
pub const MAX_NOTE_LEN: usize = 1 << 20;

/// Bytes are not a signed note, or a known key's signature does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Larger than [`MAX_NOTE_LEN`].
    #[error("the note is longer than {MAX_NOTE_LEN} bytes")]
    TooLong,
    /// Not UTF-8, or an ASCII control character other than newline.
    #[error("the note has a control character or is not UTF-8")]
    Characters,
    /// No blank line in front of the signatures, or no signature.
    #[error("the note has no signature lines behind a blank line")]
    NoSignatures,
    /// A line behind the blank line is not a signature line.
    #[error("signature line {0} of the note is malformed")]
    SignatureLine(usize),
    /// More than [`MAX_SIGNATURES`].
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// A signature that names a known key does not verify: the whole note is refused.
    #[error("the signature of the known key '{0}' does not hold: the note was altered or forged")]
    BadSignature(KeyName),
    /// No signature is from a known key.
    #[error("the note has no signature of a known key")]
    Unknown,
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// Who is said to have signed.
    pub name: KeyName,
    /// The key that is said to have signed.
    pub id: KeyId,
    /// What follows the key ID: for Ed25519 the signature, for cosignatures a timestamp first.
    pub bytes: Vec<u8>,
}

/// A text and its signatures, none of them verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl SignedNote {
    /// A note over `text` without signatures yet.
    ///
    /// # Panics
    /// If `text` does not end in a newline or has control characters: only our own text comes here.
    pub fn new(text: String) -> Self {
        assert!(
            text.ends_with('\n') && !has_control(&text),
            "a note's text is lines of plain text"
        );
        SignedNote { text, signatures: vec![] }
    }

    /// Parses a signed note; at most [`MAX_NOTE_LEN`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_LEN {
            return Err(NoteError::TooLong);
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Characters)?;
        if has_control(note) {
            return Err(NoteError::Characters);
        }
        let blank = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, lines) = (&note[..blank + 1], &note[blank + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let mut signatures = Vec::new();
        for (number, line) in lines.split('\n').enumerate() {
            if number == MAX_SIGNATURES {
                return Err(NoteError::TooManySignatures);
            }
            let signature = parse_signature(line).ok_or(NoteError::SignatureLine(number + 1))?;
            signatures.push(signature);
        }
        Ok(SignedNote { text: text.to_owned(), signatures })
    }

    /// The text, its last newline included.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures in the order of their lines.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature line, or replaces the one of the same key.
    pub fn put(&mut self, signature: NoteSignature) {
        let same = |s: &&mut NoteSignature| s.name == signature.name && s.id == signature.id;
        match self.signatures.iter_mut().find(same) {
            Some(old) => *old = signature,
            None => self.signatures.push(signature),
        }
    }

    /// Verifies every signature of a key in `known` and returns those keys, in the order of their
    /// lines. Signatures of other keys are ignored; one bad signature of a known key refuses the note.
    pub fn verify<'k>(
        &self,
        known: impl IntoIterator<Item = &'k VerifierKey> + Clone,
    ) -> Result<Vec<(&'k VerifierKey, &NoteSignature)>, NoteError> {
        let mut verified: Vec<(&VerifierKey, &NoteSignature)> = Vec::new();
        for signature in &self.signatures {
            let key = known
                .clone()
                .into_iter()
                .find(|key| key.id() == signature.id && *key.name() == signature.name);
            let Some(key) = key else { continue };
            if !key.verifies(&self.text, &signature.bytes) {
                return Err(NoteError::BadSignature(signature.name.clone()));
            }
            if !verified.iter().any(|(seen, _)| *seen == key) {
                verified.push((key, signature));
            }
        }
        if verified.is_empty() { Err(NoteError::Unknown) } else { Ok(verified) }
    }
}

impl std::fmt::Display for SignedNote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl std::fmt::Display for NoteSignature {
    /// The signature line, without its newline.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = self.id.0.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.bytes);
        write!(f, "\u{2014} {} {}", self.name, base64::encode(&bytes))
    }
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|b| b < 0x20 && b != b'\n')
}

fn parse_signature(line: &str) -> Option<NoteSignature> {
    let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = base64::decode(encoded)?;
    let (id, rest) = bytes.split_first_chunk()?;
    if rest.is_empty() {
        return None;
    }
    Some(NoteSignature {
        name: name.parse().ok()?,
        id: KeyId(u32::from_be_bytes(*id)),
        bytes: rest.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPEC_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const SPEC_NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    #[test]
    fn the_example_of_the_specification_verifies() {
        let key: VerifierKey = SPEC_KEY.parse().unwrap();
        let note = SignedNote::parse(SPEC_NOTE.as_bytes()).unwrap();
        assert_eq!(note.verify([&key]).unwrap().len(), 1);
        assert_eq!(note.to_string(), SPEC_NOTE);
        assert_eq!(key.to_string(), SPEC_KEY);
    }

    #[test]
    fn a_forged_signature_of_a_known_key_refuses_the_note() {
        let key: VerifierKey = SPEC_KEY.parse().unwrap();
        let altered = SPEC_NOTE.replace("example message", "altered message");
        let note = SignedNote::parse(altered.as_bytes()).unwrap();
        assert_eq!(note.verify([&key]), Err(NoteError::BadSignature(key.name().clone())));
    }

    #[test]
    fn signatures_of_unknown_keys_are_ignored_and_do_not_count() {
        let key: VerifierKey = SPEC_KEY.parse().unwrap();
        let stranger = "\u{2014} example.com/bar AAAAAAAA\n";
        let both = format!("{SPEC_NOTE}{stranger}");
        assert!(SignedNote::parse(both.as_bytes()).unwrap().verify([&key]).is_ok());
        let alone = format!("text\n\n{stranger}");
        let note = SignedNote::parse(alone.as_bytes()).unwrap();
        assert_eq!(note.verify([&key]), Err(NoteError::Unknown));
    }

    #[test]
    fn malformed_notes_are_refused() {
        let bad = [
            "",
            "\n",
            "text\n",
            "text\n\n",
            "text\n\n\u{2014} a AAAAAAAA",
            "text\n\n- a AAAAAAAA\n",
            "text\n\n\u{2014} a AAAA\n",
            "text\n\n\u{2014} a+b AAAAAAAA\n",
            "text\n\n\u{2014}  AAAAAAAA\n",
            "text\n\n\u{2014} a AAAAAAA\n",
            "text\n\n\u{2014} a AAAAAAAA \n",
            "te\txt\n\n\u{2014} a AAAAAAAA\n",
            "text\r\n\n\u{2014} a AAAAAAAA\n",
        ];
        for note in bad {
            assert!(SignedNote::parse(note.as_bytes()).is_err(), "{note:?}");
        }
        assert!(SignedNote::parse(b"te\xffxt\n\n\xe2\x80\x94 a AAAAAAAA\n").is_err());
    }

    proptest! {
        #[test]
        fn whatever_parses_is_written_back_the_same(text in "[a-z\u{2014} \n]{0,40}", name in "[a-z/.]{1,9}") {
            let note = format!("{text}\n\n\u{2014} {name} AAAAAAAA\n");
            if let Ok(parsed) = SignedNote::parse(note.as_bytes()) {
                prop_assert_eq!(parsed.to_string(), note);
            }
        }
    }
}
