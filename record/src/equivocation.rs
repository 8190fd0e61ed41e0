//! Equivocations: two statements, signed with one key, that an honest signer never makes both of.
//!
//! The statements are kept as the very bytes that were signed, so anybody can
//! check both signatures with the signer's public key and nothing else. In
//! the ledger they are an entry.
//!
//! ```text
//! u8 version = 1 | u8 kind | u8 length, culprit | 32 key
//! | u32 length, statement | 64 signature | u32 length, statement | 64 signature
//! ```

use crate::{
    base64,
    bytes::{Malformed, Reader, put_counted8, put_counted32},
    crypto::{PublicKey, Signature},
    entry::{Enterprise, Entry, Header, Kind, push_element},
    name::NodeName,
    seal::LEDGER_PRIORITY,
    time::UnixMillis,
};

const VERSION: u8 = 1;
/// The most bytes of a statement; a checkpoint with the longest names has fewer.
pub const MAX_STATEMENT: usize = 1024;
/// What a vote's signature is over begins with this; then step, height and round, then the rest.
pub const VOTE_DOMAIN: &[u8] = b"logseal/vote/v1\n";
/// What a proposal's signature is over begins with this; then height and round, then the rest.
pub const PROPOSAL_DOMAIN: &[u8] = b"logseal/proposal/v1\n";
const COSIGNATURE_DOMAIN: &[u8] = b"cosignature/v1\n";

/// What was said twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EquivocationKind {
    /// A node voted for two values in one step of one round.
    Votes,
    /// A node made two proposals in one round.
    Proposals,
    /// A node cosigned two roots at one size.
    Cosignatures,
    /// An agent sealed two roots at one size.
    Seals,
}

/// A statement and its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The bytes that were signed, at most [`MAX_STATEMENT`].
    pub bytes: Vec<u8>,
    /// The signature.
    pub signature: Signature,
}

/// Two statements of one signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equivocation {
    /// What they are.
    pub kind: EquivocationKind,
    /// The node's or agent's name.
    pub culprit: NodeName,
    /// The key that both were signed with.
    pub key: PublicKey,
    /// The two, the one whose bytes are smaller first.
    pub statements: [Statement; 2],
}

/// An equivocation that is none: whoever made it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EquivocationError {
    /// Too short or too long.
    #[error("the equivocation {0}")]
    Malformed(#[from] Malformed),
    /// A version this program does not know.
    #[error("version {0} of equivocations is unknown")]
    Version(u8),
    /// A kind that does not exist.
    #[error("equivocations of kind {0} is unknown")]
    Kind(u8),
    /// A statement that is longer than any that is signed.
    #[error("a statement in the equivocation is too long")]
    TooLong,
    /// The culprit's name.
    #[error("the equivocation names nobody")]
    Name,
    /// One of the signatures.
    #[error("a signature in the equivocation does not hold")]
    Signature,
    /// Both statements can be made honestly, or they are not in order.
    #[error("the statements in the equivocation do not contradict each other")]
    NoConflict,
}

impl EquivocationKind {
    const ALL: [(EquivocationKind, u8, &'static str); 4] = [
        (EquivocationKind::Votes, 1, "votes"),
        (EquivocationKind::Proposals, 2, "proposals"),
        (EquivocationKind::Cosignatures, 3, "cosignatures"),
        (EquivocationKind::Seals, 4, "seals"),
    ];

    /// The kind's word, as in entries and metrics.
    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(kind, _, _)| *kind == self);
        found.map_or("", |(_, _, word)| word)
    }

    /// The kind of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, _, known)| *known == word).map(|(kind, _, _)| *kind)
    }

    fn number(self) -> u8 {
        Self::ALL.iter().find(|(kind, _, _)| *kind == self).map_or(0, |(_, number, _)| *number)
    }

    /// What two statements of this kind must share to contradict each other, and the rest.
    fn split(self, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let fixed = |domain: &[u8], len: usize| {
            bytes.starts_with(domain).then(|| bytes.split_at_checked(domain.len() + len)).flatten()
        };
        match self {
            EquivocationKind::Votes => fixed(VOTE_DOMAIN, 17),
            EquivocationKind::Proposals => fixed(PROPOSAL_DOMAIN, 16),
            EquivocationKind::Cosignatures | EquivocationKind::Seals => {
                // Behind the time: origin and size are shared, the root is not.
                let text = bytes.strip_prefix(COSIGNATURE_DOMAIN)?.strip_prefix(b"time ")?;
                let text = &text[text.iter().position(|byte| *byte == b'\n')? + 1..];
                let lines: Vec<usize> = text
                    .iter()
                    .enumerate()
                    .filter(|(_, b)| **b == b'\n')
                    .map(|(at, _)| at)
                    .collect();
                let [_, size, root] = lines[..] else { return None };
                (root + 1 == text.len()).then(|| text.split_at(size + 1))
            }
        }
    }
}

impl Equivocation {
    /// Puts two statements together, in order.
    pub fn new(
        kind: EquivocationKind,
        culprit: NodeName,
        key: PublicKey,
        mut statements: [Statement; 2],
    ) -> Self {
        statements.sort_by(|a, b| a.bytes.cmp(&b.bytes));
        Equivocation { kind, culprit, key, statements }
    }

    /// Checks that the two contradict each other and that both were signed with the key. Whose key
    /// it is must be checked against the ledger's members or agents.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn verify(&self) -> Result<(), EquivocationError> {
        let [a, b] = &self.statements;
        let parts = self.kind.split(&a.bytes).zip(self.kind.split(&b.bytes));
        let ((shared_a, rest_a), (shared_b, rest_b)) =
            parts.ok_or(EquivocationError::NoConflict)?;
        if shared_a != shared_b || rest_a == rest_b || a.bytes > b.bytes {
            return Err(EquivocationError::NoConflict);
        }
        let holds = |s: &Statement| self.key.verifies(&s.bytes, &s.signature);
        if holds(a) && holds(b) { Ok(()) } else { Err(EquivocationError::Signature) }
    }

    /// The binary form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.kind.number()];
        put_counted8(&mut out, self.culprit.as_str().as_bytes());
        out.extend_from_slice(&self.key.0);
        for statement in &self.statements {
            put_counted32(&mut out, &statement.bytes);
            out.extend_from_slice(&statement.signature.0);
        }
        out
    }

    /// Parses the binary form; nothing is verified.
    ///
    /// # Errors
    /// When the bytes are not exactly one.
    pub fn decode(bytes: &[u8]) -> Result<Self, EquivocationError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(EquivocationError::Version(other)),
        }
        let number = reader.u8()?;
        let kind = EquivocationKind::ALL.iter().find(|(_, known, _)| *known == number);
        let (kind, _, _) = *kind.ok_or(EquivocationError::Kind(number))?;
        let name = std::str::from_utf8(reader.counted8()?).map_err(|_| EquivocationError::Name)?;
        let culprit = name.parse().map_err(|_| EquivocationError::Name)?;
        let key = PublicKey(reader.array()?);
        let mut statement = || -> Result<Statement, EquivocationError> {
            let bytes = reader.counted32()?;
            if bytes.len() > MAX_STATEMENT {
                return Err(EquivocationError::TooLong);
            }
            let bytes = bytes.to_vec();
            Ok(Statement { bytes, signature: Signature(reader.array()?) })
        };
        let statements = [statement()?, statement()?];
        reader.finish()?;
        Ok(Equivocation { kind, culprit, key, statements })
    }

    /// The ledger entry, the same on every node; `time` is its block's.
    pub fn entry(&self, time: UnixMillis, enterprise: Enterprise) -> Vec<u8> {
        let mut out = Vec::with_capacity(900);
        let header = Header {
            priority: LEDGER_PRIORITY,
            time: Some(time),
            host: self.culprit.as_str().as_bytes(),
            app: b"logseal",
            procid: b"",
            msgid: b"equivocation",
        };
        header.write(&mut out);
        let [a, b] = &self.statements;
        push_element(
            &mut out,
            "equivocation",
            enterprise,
            &[
                ("kind", self.kind.as_str()),
                ("culprit", self.culprit.as_str()),
                ("key", &base64::encode(&self.key.0)),
                ("first", &base64::encode(&a.bytes)),
                ("first-signature", &base64::encode(&a.signature.0)),
                ("second", &base64::encode(&b.bytes)),
                ("second-signature", &base64::encode(&b.signature.0)),
            ],
        );
        out
    }

    /// Reads an equivocation out of an entry; `None` if the entry is no well-formed one.
    pub fn from_entry(entry: &Entry<'_>) -> Option<Self> {
        if entry.kind() != Kind::Equivocation {
            return None;
        }
        let param = |name| entry.element().param(name);
        let word = param("kind")?;
        let kind = EquivocationKind::from_word(&word)?;
        let statement = |bytes, signature| {
            let bytes = base64::decode(&param(bytes)?).filter(|b| b.len() <= MAX_STATEMENT)?;
            let signature = Signature(base64::decode_array(&param(signature)?)?);
            Some(Statement { bytes, signature })
        };
        Some(Equivocation {
            kind,
            culprit: param("culprit")?.parse().ok()?,
            key: PublicKey(base64::decode_array(&param("key")?)?),
            statements: [
                statement("first", "first-signature")?,
                statement("second", "second-signature")?,
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningKey;
    use zeroize::Zeroizing;

    fn equivocation(kind: EquivocationKind, a: &[u8], b: &[u8]) -> Equivocation {
        let key = SigningKey::from_seed(&Zeroizing::new([3; 32]));
        let statement =
            |bytes: &[u8]| Statement { bytes: bytes.to_vec(), signature: key.sign(bytes) };
        let culprit = "node2".parse().unwrap();
        Equivocation::new(kind, culprit, key.public(), [statement(a), statement(b)])
    }

    fn vote(height: u64, value: u8) -> Vec<u8> {
        [VOTE_DOMAIN, &[1], &height.to_be_bytes(), &0i64.to_be_bytes(), &[value; 33]].concat()
    }

    fn cosigned(time: u64, size: u64, root: &str) -> Vec<u8> {
        format!("cosignature/v1\ntime {time}\nl.example/x\n{size}\n{root}\n").into_bytes()
    }

    #[test]
    fn only_contradictions_are_equivocations() {
        let votes = |a: &[u8], b: &[u8]| equivocation(EquivocationKind::Votes, a, b).verify();
        assert_eq!(votes(&vote(7, 1), &vote(7, 2)), Ok(()));
        assert_eq!(votes(&vote(7, 1), &vote(8, 2)), Err(EquivocationError::NoConflict));
        assert_eq!(votes(&vote(7, 1), &vote(7, 1)), Err(EquivocationError::NoConflict));
        let cosignatures =
            |a: &[u8], b: &[u8]| equivocation(EquivocationKind::Cosignatures, a, b).verify();
        let (a, b) = (cosigned(1, 7, "AAAA"), cosigned(2, 7, "BBBB"));
        assert_eq!(cosignatures(&a, &b), Ok(()));
        let renewed = cosigned(9, 7, "AAAA");
        assert_eq!(
            cosignatures(&a, &renewed),
            Err(EquivocationError::NoConflict),
            "renewed honestly"
        );
        let grown = cosigned(2, 8, "BBBB");
        assert_eq!(cosignatures(&a, &grown), Err(EquivocationError::NoConflict));
    }

    #[test]
    fn a_forged_statement_convicts_nobody() {
        let mut forged = equivocation(EquivocationKind::Votes, &vote(7, 1), &vote(7, 2));
        forged.statements[1].signature.0[5] ^= 1;
        assert_eq!(forged.verify(), Err(EquivocationError::Signature));
    }

    #[test]
    fn an_equivocation_survives_both_of_its_forms() {
        let equivocation = equivocation(EquivocationKind::Votes, &vote(7, 1), &vote(7, 2));
        assert_eq!(Equivocation::decode(&equivocation.encode()).unwrap(), equivocation);
        let bytes = equivocation.entry(UnixMillis(1_795_248_147_000), Enterprise::default());
        insta::assert_snapshot!(String::from_utf8(bytes.clone()).unwrap());
        assert_eq!(Equivocation::from_entry(&Entry::parse(&bytes).unwrap()).unwrap(), equivocation);
        for len in 0..equivocation.encode().len() {
            assert!(Equivocation::decode(&equivocation.encode()[..len]).is_err());
        }
    }
}
