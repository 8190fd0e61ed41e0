//! Declarations: what an operator states before everybody, other than an enrolment.
//!
//! That the entries of old blocks may go ([`Prune`]), or that a drill was held ([`Drill`]). As with an
//! enrolment, the statement is signed with the key of the operator's certificate, and both are kept in the entry.

use crate::{
    base64,
    block::Height,
    bytes::{Malformed, Reader, put_counted8, put_counted32},
    checkpoint::{Origin, parse_decimal},
    enrolment::{MAX_CERTIFICATE_LEN, MAX_SIGNATURE_LEN},
    entry::{Enterprise, Entry, Header, Kind, push_element},
    merkle::{EntryIndex, Frontier, Hash, TreeSize},
    seal::LEDGER_PRIORITY,
    time::{UnixMillis, UnixSeconds},
};

/// Entries are kept at least so many days, whatever anybody declares.
pub const MIN_RETENTION_DAYS: u32 = 365;
/// The most bytes of the name of a snapshot.
pub const MAX_SNAPSHOT_LEN: usize = 64;

const VERSION: u8 = 1;
const PRUNE: u8 = 1;
const DRILL: u8 = 2;
const DAY_MS: u64 = 86_400_000;
/// Entries of a full bundle (C2SP tlog-tiles).
const BUNDLE: u64 = 256;

/// A statement that an operator signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// What is stated.
    pub matter: Matter,
    /// When the operator signed.
    pub time: UnixSeconds,
    /// The operator's certificate, DER.
    pub certificate: Vec<u8>,
    /// The operator's signature of [`Declaration::statement`], DER.
    pub signature: Vec<u8>,
}

/// What is stated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matter {
    /// Old entries go.
    Prune(Prune),
    /// A drill was held.
    Drill(Drill),
}

/// The entries of all blocks up to one go; their leaf hashes stay, and so do all proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prune {
    /// The first entry that goes: all before it went earlier.
    pub from: EntryIndex,
    /// The last block whose entries go.
    pub height: Height,
    /// Its identifier.
    pub block: Hash,
    /// Its time: nothing that goes is younger.
    pub before: UnixMillis,
    /// How many days entries are kept under the policy that this follows, at least [`MIN_RETENTION_DAYS`].
    pub days: u32,
    /// The ledger's frontier behind that block; its size is the number of entries that are gone then.
    pub frontier: Frontier,
    /// The digest of the base: of all that is kept of these blocks.
    pub base: Hash,
}

/// A backup was restored, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// True if everything held.
    pub verified: bool,
    /// The snapshot that was restored: printable ASCII without spaces, at most [`MAX_SNAPSHOT_LEN`] bytes.
    pub snapshot: String,
    /// The ledger's size in it; 0 if that was not found out.
    pub size: TreeSize,
    /// The root at that size; zeroes if that was not found out.
    pub root: Hash,
    /// When the drill began.
    pub begun: UnixMillis,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// SHA-256 of the report.
    pub report: Hash,
}

/// Bytes are not a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeclarationError {
    /// Too short or too long.
    #[error("the declaration {0}")]
    Malformed(#[from] Malformed),
    /// A version this program does not know.
    #[error("version {0} of declarations is unknown")]
    Version(u8),
    /// A matter this program does not know.
    #[error("declarations of kind {0} are unknown")]
    Kind(u8),
    /// The name of the snapshot.
    #[error("the declaration names no valid snapshot")]
    Snapshot,
    /// A certificate or signature that is too large.
    #[error("the declaration's certificate or signature is too large")]
    TooLarge,
}

impl Prune {
    /// How many entries are gone then, counted from the first one of the ledger.
    pub fn size(&self) -> TreeSize {
        self.frontier.size()
    }

    /// How many entries go.
    pub fn count(&self) -> u64 {
        self.size().0.saturating_sub(self.from.0)
    }

    /// The minimum index (C2SP tlog-tiles): the first entry that is still published in a full bundle. Entries between
    /// [`Prune::size`] and this one are kept, too.
    pub fn minimum_index(&self) -> EntryIndex {
        EntryIndex(self.size().0.div_ceil(BUNDLE).saturating_mul(BUNDLE))
    }

    /// The first moment, in milliseconds since 1970, at which this may be decided.
    pub fn allowed_from(&self) -> UnixMillis {
        UnixMillis(self.before.0.saturating_add(u64::from(self.days).saturating_mul(DAY_MS)))
    }

    /// True if it keeps the least retention, and something goes.
    pub fn is_sound(&self) -> bool {
        self.days >= MIN_RETENTION_DAYS && self.count() > 0 && self.height.0 > 0
    }
}

impl Matter {
    /// The word for it: the name of the entry's element.
    pub fn word(&self) -> &'static str {
        match self {
            Matter::Prune(_) => "prune",
            Matter::Drill(_) => "drill",
        }
    }

    /// What is stated, as names and values: the same in the signed text and in the entry.
    fn params(&self) -> Vec<(&'static str, String)> {
        match self {
            Matter::Prune(prune) => vec![
                ("from", prune.from.to_string()),
                ("to", prune.size().to_string()),
                ("count", prune.count().to_string()),
                ("height", prune.height.to_string()),
                ("block", prune.block.to_string()),
                ("before", prune.before.0.to_string()),
                ("days", prune.days.to_string()),
                ("root", prune.frontier.root().to_string()),
                ("frontier", join(prune.frontier.hashes())),
                ("base", prune.base.to_string()),
            ],
            Matter::Drill(drill) => vec![
                ("verified", drill.verified.to_string()),
                ("snapshot", drill.snapshot.clone()),
                ("size", drill.size.to_string()),
                ("root", drill.root.to_string()),
                ("begun", drill.begun.0.to_string()),
                ("milliseconds", drill.millis.to_string()),
                ("report", drill.report.to_string()),
            ],
        }
    }

    /// Writes the binary form.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Matter::Prune(prune) => {
                out.push(PRUNE);
                out.extend_from_slice(&prune.from.0.to_be_bytes());
                out.extend_from_slice(&prune.height.0.to_be_bytes());
                out.extend_from_slice(&prune.block.0);
                out.extend_from_slice(&prune.before.0.to_be_bytes());
                out.extend_from_slice(&prune.days.to_be_bytes());
                prune.frontier.put(out);
                out.extend_from_slice(&prune.base.0);
            }
            Matter::Drill(drill) => {
                out.push(DRILL);
                out.push(drill.verified.into());
                put_counted8(out, drill.snapshot.as_bytes());
                out.extend_from_slice(&drill.size.0.to_be_bytes());
                out.extend_from_slice(&drill.root.0);
                out.extend_from_slice(&drill.begun.0.to_be_bytes());
                out.extend_from_slice(&drill.millis.to_be_bytes());
                out.extend_from_slice(&drill.report.0);
            }
        }
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// When the bytes do not begin with one.
    pub fn take(reader: &mut Reader<'_>) -> Result<Self, DeclarationError> {
        match reader.u8()? {
            PRUNE => Ok(Matter::Prune(Prune {
                from: EntryIndex(reader.u64()?),
                height: Height(reader.u64()?),
                block: Hash(reader.array()?),
                before: UnixMillis(reader.u64()?),
                days: reader.u32()?,
                frontier: Frontier::take(reader)?,
                base: Hash(reader.array()?),
            })),
            DRILL => {
                let verified = match reader.u8()? {
                    0 => false,
                    1 => true,
                    other => return Err(DeclarationError::Kind(other)),
                };
                let snapshot = std::str::from_utf8(reader.counted8()?).ok();
                let snapshot = snapshot.filter(|name| is_snapshot(name));
                Ok(Matter::Drill(Drill {
                    verified,
                    snapshot: snapshot.ok_or(DeclarationError::Snapshot)?.to_owned(),
                    size: TreeSize(reader.u64()?),
                    root: Hash(reader.array()?),
                    begun: UnixMillis(reader.u64()?),
                    millis: reader.u64()?,
                    report: Hash(reader.array()?),
                }))
            }
            other => Err(DeclarationError::Kind(other)),
        }
    }

    fn from_entry(entry: &Entry<'_>) -> Option<Self> {
        let param = |name| entry.element().param(name);
        let number = |name| parse_decimal(&param(name)?);
        let hash = |name| Hash::from_base64(&param(name)?);
        match entry.kind() {
            Kind::Prune => {
                let hashes = split(&param("frontier")?)?;
                let frontier = Frontier::from_hashes(TreeSize(number("to")?), &hashes).ok()?;
                Some(Matter::Prune(Prune {
                    from: EntryIndex(number("from")?),
                    height: Height(number("height")?),
                    block: hash("block")?,
                    before: UnixMillis(number("before")?),
                    days: number("days")?.try_into().ok()?,
                    frontier,
                    base: hash("base")?,
                }))
            }
            Kind::Drill => Some(Matter::Drill(Drill {
                verified: param("verified")?.parse().ok()?,
                snapshot: param("snapshot").filter(|name| is_snapshot(name))?.into_owned(),
                size: TreeSize(number("size")?),
                root: hash("root")?,
                begun: UnixMillis(number("begun")?),
                millis: number("milliseconds")?,
                report: hash("report")?,
            })),
            _ => None,
        }
    }
}

impl Declaration {
    /// The text that the operator signs.
    pub fn statement(ledger: &Origin, matter: &Matter, time: UnixSeconds) -> String {
        let mut text = format!("logseal {} v1\nledger {ledger}\n", matter.word());
        for (name, value) in matter.params() {
            text += &format!("{name} {value}\n");
        }
        text + &format!("time {}\n", time.0)
    }

    /// The binary form that nodes exchange and keep.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.matter.put(&mut out);
        out.extend_from_slice(&self.time.0.to_be_bytes());
        put_counted32(&mut out, &self.certificate);
        put_counted32(&mut out, &self.signature);
        out
    }

    /// Parses the binary form. The signature is not verified.
    ///
    /// # Errors
    /// When the bytes are not exactly one.
    pub fn decode(bytes: &[u8]) -> Result<Self, DeclarationError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(DeclarationError::Version(other)),
        }
        let declaration = Declaration {
            matter: Matter::take(&mut reader)?,
            time: UnixSeconds(reader.u64()?),
            certificate: bounded(reader.counted32()?, MAX_CERTIFICATE_LEN)?,
            signature: bounded(reader.counted32()?, MAX_SIGNATURE_LEN)?,
        };
        reader.finish()?;
        Ok(declaration)
    }

    /// The ledger entry, the same on every node.
    pub fn entry(&self, enterprise: Enterprise) -> Vec<u8> {
        let mut out = Vec::with_capacity(2400);
        let word = self.matter.word();
        let header = Header {
            priority: LEDGER_PRIORITY,
            time: Some(self.time.millis()),
            host: b"",
            app: b"logseal",
            procid: b"",
            msgid: word.as_bytes(),
        };
        header.write(&mut out);
        let mut params = self.matter.params();
        params.push(("time", self.time.0.to_string()));
        params.push(("certificate", base64::encode(&self.certificate)));
        params.push(("signature", base64::encode(&self.signature)));
        let params: Vec<(&str, &str)> =
            params.iter().map(|(name, value)| (*name, value.as_str())).collect();
        push_element(&mut out, word, enterprise, &params);
        out
    }

    /// Reads a declaration out of an entry; `None` if the entry is no well-formed one.
    pub fn from_entry(entry: &Entry<'_>) -> Option<Self> {
        let param = |name| entry.element().param(name);
        Some(Declaration {
            matter: Matter::from_entry(entry)?,
            time: UnixSeconds(parse_decimal(&param("time")?)?),
            certificate: base64::decode(&param("certificate")?)?,
            signature: base64::decode(&param("signature")?)?,
        })
    }
}

/// True if this may be the name of a snapshot.
pub fn is_snapshot(name: &str) -> bool {
    (1..=MAX_SNAPSHOT_LEN).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn join(hashes: impl Iterator<Item = Hash>) -> String {
    hashes.map(|hash| hash.to_string()).collect::<Vec<_>>().join(",")
}

fn split(text: &str) -> Option<Vec<Hash>> {
    text.split(',').filter(|part| !part.is_empty()).map(Hash::from_base64).collect()
}

fn bounded(bytes: &[u8], max: usize) -> Result<Vec<u8>, DeclarationError> {
    if bytes.len() > max { Err(DeclarationError::TooLarge) } else { Ok(bytes.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;

    fn declarations() -> [Declaration; 2] {
        let mut frontier = Frontier::default();
        (0..300u64).for_each(|i| frontier.push(leaf_hash(&i.to_be_bytes())));
        let prune = Prune {
            from: EntryIndex(100),
            height: Height(12),
            block: Hash([1; 32]),
            before: UnixMillis(1_763_712_147_125),
            days: 400,
            frontier,
            base: Hash([2; 32]),
        };
        let drill = Drill {
            verified: true,
            snapshot: "2026-11-21T10:15:47Z-4021".to_owned(),
            size: TreeSize(4021),
            root: Hash([3; 32]),
            begun: UnixMillis(1_795_248_147_125),
            millis: 61_204,
            report: Hash([4; 32]),
        };
        [Matter::Prune(prune), Matter::Drill(drill)].map(|matter| Declaration {
            matter,
            time: UnixSeconds(1_798_358_400),
            certificate: vec![1, 2, 3],
            signature: vec![4, 5],
        })
    }

    #[test]
    fn a_declaration_survives_both_of_its_forms() {
        let ledger = "l.example/x".parse().unwrap();
        let mut shown = String::new();
        for declaration in declarations() {
            let encoded = declaration.encode();
            assert_eq!(Declaration::decode(&encoded).unwrap(), declaration);
            for len in 0..encoded.len() {
                assert!(Declaration::decode(&encoded[..len]).is_err());
            }
            let bytes = declaration.entry(Enterprise::default());
            let entry = Entry::parse(&bytes).unwrap();
            assert_eq!(Declaration::from_entry(&entry).unwrap(), declaration);
            shown += &Declaration::statement(&ledger, &declaration.matter, declaration.time);
            shown += &(String::from_utf8(bytes).unwrap() + "\n\n");
        }
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn a_prune_keeps_whole_bundles_and_at_least_a_year() {
        let [Declaration { matter: Matter::Prune(prune), .. }, _] = declarations() else {
            unreachable!()
        };
        assert_eq!((prune.count(), prune.size()), (200, TreeSize(300)));
        assert_eq!(prune.minimum_index(), EntryIndex(512));
        assert_eq!(prune.allowed_from().0 - prune.before.0, 400 * 24 * 3600 * 1000);
        assert!(prune.is_sound());
        assert!(!Prune { days: 364, ..prune.clone() }.is_sound());
        assert!(!Prune { from: EntryIndex(300), ..prune }.is_sound());
    }
}
