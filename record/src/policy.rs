//! Trust policies: <https://c2sp.org/tlog-policy>.
//!
//! A policy is all that an agent or an auditor must be given to trust a
//! ledger. [`Policy::verify`] is the one way to a [`VerifiedCheckpoint`].

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    cosignature::Cosignature,
    note::{NoteError, SignatureType, SignedNote, VerifierKey, VkeyError},
    time::UnixSeconds,
};
use std::collections::BTreeMap;

/// The most bytes of a policy file.
pub const MAX_POLICY_LEN: usize = 1 << 20;
/// The most log lines, witness lines and group lines, each.
pub const MAX_LINES: usize = 256;

/// A policy file is not one; the line is counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy line {line}: {problem}")]
pub struct PolicyError {
    /// The line at fault, or the one behind the last.
    pub line: usize,
    /// What is wrong with it.
    pub problem: PolicyProblem,
}

/// What is wrong with a line of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyProblem {
    /// A control character other than tab and newline, or a missing last newline.
    #[error("control characters are not allowed, and every line ends in a newline")]
    Characters,
    /// An unknown first word, or a wrong number of words.
    #[error(
        "expected 'log VKEY [URL]', 'witness NAME VKEY [URL]', 'group NAME all|any|K NAME…' or 'quorum NAME'"
    )]
    Syntax,
    /// Not a verifier key.
    #[error("{0}")]
    Key(#[from] VkeyError),
    /// A witness key that does not cosign.
    #[error("a witness needs a key of type cosignature/v1 (0x04)")]
    WitnessKey,
    /// The same key twice.
    #[error("this key is already given on an earlier line")]
    DuplicateKey,
    /// The same name twice, or the reserved name `none`.
    #[error("the name is already taken")]
    DuplicateName,
    /// A name that no earlier line defines.
    #[error("'{0}' is not defined on an earlier line")]
    Undefined(String),
    /// A name that is a member of two groups.
    #[error("'{0}' is already a member of a group")]
    MemberTwice(String),
    /// A threshold outside 1..=n.
    #[error("the threshold must be a decimal number from 1 to the number of members")]
    Threshold,
    /// None or several quorum lines.
    #[error("a policy has exactly one quorum line")]
    Quorum,
    /// Beyond [`MAX_POLICY_LEN`] or [`MAX_LINES`].
    #[error("the policy is larger than this program allows")]
    TooLarge,
}

/// A checkpoint is not acceptable under a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The note itself, or a known key's signature on it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note's text.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// No log of the policy has this origin and a signature on it.
    #[error("the checkpoint of '{0}' is not signed by a log of the policy")]
    Log(String),
    /// Too few cosignatures.
    #[error("too few cosignatures: only {found:?} of the policy's witnesses cosigned")]
    Quorum {
        /// The witnesses that did.
        found: Vec<String>,
    },
}

/// Whose cosignature was found on a checkpoint, and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// The witness's name in the policy.
    pub witness: String,
    /// When it cosigned.
    pub time: UnixSeconds,
}

/// A checkpoint that satisfied a policy. It can be made by [`Policy::verify`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCheckpoint {
    checkpoint: Checkpoint,
    witnessed: Vec<Witnessed>,
    fresh: Option<UnixSeconds>,
}

impl VerifiedCheckpoint {
    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Every known witness that cosigned, and when.
    pub fn witnessed(&self) -> &[Witnessed] {
        &self.witnessed
    }

    /// The latest time such that the cosignatures made then or later satisfy the policy without
    /// the others: how fresh the quorum, not its quickest member, says the checkpoint is. `None`
    /// if the policy asks for no cosignature.
    pub fn fresh(&self) -> Option<UnixSeconds> {
        self.fresh
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group { threshold: usize, members: Vec<Member> },
}

/// A parsed policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<VerifierKey>,
    witnesses: Vec<(String, VerifierKey)>,
    /// `None` is `quorum none`.
    quorum: Option<Member>,
}

impl Policy {
    /// Parses a policy file. Names that are not UTF-8 are shown with replacement characters but
    /// compared as bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        Parser::default().run(bytes)
    }

    /// The keys of the logs.
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// The witnesses' names and keys.
    pub fn witnesses(&self) -> impl ExactSizeIterator<Item = (&str, &VerifierKey)> {
        self.witnesses.iter().map(|(name, key)| (name.as_str(), key))
    }

    /// Checks a signed checkpoint: a log's signature (if the policy names logs), the quorum of
    /// cosignatures, and that no known key's signature is bad.
    pub fn verify(&self, note: &SignedNote) -> Result<VerifiedCheckpoint, TrustError> {
        let checkpoint = Checkpoint::parse(note.text())?;
        let origin = checkpoint.origin.key_name();
        let logs = self.logs.iter().filter(|key| key.name() == origin);
        let witnesses = self.witnesses.iter().map(|(_, key)| key);
        let verified = match note.verify(logs.chain(witnesses)) {
            Err(NoteError::Unknown) => vec![],
            other => other?,
        };
        let signed_by_log =
            verified.iter().any(|(key, _)| key.name() == origin && self.logs.contains(key));
        if !self.logs.is_empty() && !signed_by_log {
            return Err(TrustError::Log(checkpoint.origin.to_string()));
        }
        let time_of = |witness: usize| {
            let (_, signature) =
                verified.iter().find(|(key, _)| **key == self.witnesses[witness].1)?;
            Cosignature::from_bytes(&signature.bytes).map(|cosignature| cosignature.time)
        };
        let witnessed: Vec<Witnessed> = (0..self.witnesses.len())
            .filter_map(|index| {
                let witness = self.witnesses[index].0.clone();
                time_of(index).map(|time| Witnessed { witness, time })
            })
            .collect();
        let since = |since: UnixSeconds| {
            self.quorum.as_ref().is_none_or(|quorum| met(quorum, &|w| time_of(w) >= Some(since)))
        };
        if !since(UnixSeconds(0)) {
            let found = witnessed.into_iter().map(|w| w.witness).collect();
            return Err(TrustError::Quorum { found });
        }
        let times = witnessed.iter().map(|w| w.time).filter(|time| since(*time));
        let fresh = self.quorum.as_ref().and_then(|_| times.max());
        Ok(VerifiedCheckpoint { checkpoint, witnessed, fresh })
    }
}

fn met(member: &Member, cosigned: &dyn Fn(usize) -> bool) -> bool {
    match member {
        Member::Witness(index) => cosigned(*index),
        Member::Group { threshold, members } => {
            members.iter().filter(|member| met(member, cosigned)).count() >= *threshold
        }
    }
}

/// Writes the policy of a ledger: its logs' keys, one witness a node, and a quorum of `threshold`.
///
/// # Panics
/// If there is no witness, or `threshold` is not within 1 and their number.
pub fn write_policy(
    logs: &[VerifierKey],
    witnesses: &[(String, VerifierKey)],
    threshold: usize,
) -> String {
    assert!((1..=witnesses.len()).contains(&threshold), "a quorum is 1 to all witnesses");
    let mut text = String::new();
    for log in logs {
        text += &format!("log {log}\n");
    }
    for (name, key) in witnesses {
        text += &format!("witness {name} {key}\n");
    }
    match witnesses {
        [(name, _)] => text += &format!("quorum {name}\n"),
        _ => {
            let names: Vec<&str> = witnesses.iter().map(|(name, _)| name.as_str()).collect();
            text += &format!("group nodes {threshold} {}\nquorum nodes\n", names.join(" "));
        }
    }
    text
}

/// A witness outside the ledger, for a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideWitness {
    /// Its key.
    pub key: VerifierKey,
    /// Where it takes checkpoints, its submission prefix.
    pub url: String,
}

/// Adds to a policy written by [`write_policy`] that `needed` of these outside witnesses must have
/// cosigned, too.
///
/// # Errors
/// A witness whose key's name, or key, is taken.
///
/// # Panics
/// If there is no witness, or `needed` is not within 1 and their number.
pub fn with_outside_witnesses(
    policy: &str,
    outside: &[OutsideWitness],
    needed: usize,
) -> Result<String, PolicyError> {
    assert!((1..=outside.len()).contains(&needed), "a quorum is 1 to all witnesses");
    let inner = |line: &&str| line.starts_with("quorum ");
    let quorum = policy.lines().find(inner).and_then(|line| line.split_once(' '));
    let (_, nodes) = quorum.expect("a policy has a quorum");
    let mut text: String =
        policy.lines().filter(|line| !inner(line)).map(|line| format!("{line}\n")).collect();
    for OutsideWitness { key, url } in outside {
        text += &format!("witness {} {key} {url}\n", key.name());
    }
    let names: Vec<&str> = outside.iter().map(|w| w.key.name().as_str()).collect();
    // No node's name has a '+'.
    text += &format!("group outside+witnesses {needed} {}\n", names.join(" "));
    text +=
        &format!("group nodes+witnesses all {nodes} outside+witnesses\nquorum nodes+witnesses\n");
    Policy::parse(text.as_bytes()).map(|_| text)
}

#[derive(Default)]
struct Parser {
    logs: Vec<VerifierKey>,
    witnesses: Vec<(String, VerifierKey)>,
    /// Defined names, and whether a group has the name as a member.
    names: BTreeMap<Vec<u8>, (Member, bool)>,
    groups: usize,
    quorum: Option<Option<Member>>,
}

impl Parser {
    fn run(mut self, bytes: &[u8]) -> Result<Policy, PolicyError> {
        let at = |line, problem| PolicyError { line, problem };
        if bytes.len() > MAX_POLICY_LEN {
            return Err(at(1, PolicyProblem::TooLarge));
        }
        let mut number = 0;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            number += 1;
            let text = line.strip_suffix(b"\n").ok_or(at(number, PolicyProblem::Characters))?;
            if text.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f) {
                return Err(at(number, PolicyProblem::Characters));
            }
            self.line(text).map_err(|problem| at(number, problem))?;
        }
        let quorum = self.quorum.ok_or(at(number + 1, PolicyProblem::Quorum))?;
        Ok(Policy { logs: self.logs, witnesses: self.witnesses, quorum })
    }

    fn line(&mut self, line: &[u8]) -> Result<(), PolicyProblem> {
        let mut words = line.split(|b| matches!(b, b' ' | b'\t')).filter(|w| !w.is_empty());
        let Some(first) = words.next().filter(|w| w[0] != b'#') else { return Ok(()) };
        let words: Vec<&[u8]> = words.collect();
        match (first, words.as_slice()) {
            (b"log", [key] | [key, _]) => self.log(key),
            (b"witness", [name, key] | [name, key, _]) => self.witness(name, key),
            (b"group", [name, threshold, members @ ..]) => self.group(name, threshold, members),
            (b"quorum", [name]) => self.quorum(name),
            _ => Err(PolicyProblem::Syntax),
        }
    }

    fn log(&mut self, key: &[u8]) -> Result<(), PolicyProblem> {
        let key = parse_key(key)?;
        if self.logs.iter().any(|k| k.public() == key.public()) {
            return Err(PolicyProblem::DuplicateKey);
        }
        self.logs.push(key);
        limit(self.logs.len())
    }

    fn witness(&mut self, name: &[u8], key: &[u8]) -> Result<(), PolicyProblem> {
        let key = parse_key(key)?;
        if key.kind() != SignatureType::CosignatureV1 {
            return Err(PolicyProblem::WitnessKey);
        }
        if self.witnesses.iter().any(|(_, k)| k.public() == key.public()) {
            return Err(PolicyProblem::DuplicateKey);
        }
        self.define(name, Member::Witness(self.witnesses.len()))?;
        self.witnesses.push((shown(name), key));
        limit(self.witnesses.len())
    }

    fn group(
        &mut self,
        name: &[u8],
        threshold: &[u8],
        members: &[&[u8]],
    ) -> Result<(), PolicyProblem> {
        let count = members.len();
        let threshold = match threshold {
            b"all" => count,
            b"any" => 1,
            number => std::str::from_utf8(number)
                .ok()
                .and_then(crate::checkpoint::parse_decimal)
                .and_then(|k| usize::try_from(k).ok())
                .ok_or(PolicyProblem::Threshold)?,
        };
        if !(1..=count).contains(&threshold) {
            return Err(PolicyProblem::Threshold);
        }
        let members = members.iter().map(|m| self.take_member(m)).collect::<Result<_, _>>()?;
        self.groups += 1;
        self.define(name, Member::Group { threshold, members })?;
        limit(self.groups)
    }

    fn quorum(&mut self, name: &[u8]) -> Result<(), PolicyProblem> {
        if self.quorum.is_some() {
            return Err(PolicyProblem::Quorum);
        }
        self.quorum = Some(match (name, self.names.get(name)) {
            (b"none", _) => None,
            (_, Some((member, _))) => Some(member.clone()),
            (_, None) => return Err(PolicyProblem::Undefined(shown(name))),
        });
        Ok(())
    }

    fn define(&mut self, name: &[u8], member: Member) -> Result<(), PolicyProblem> {
        if name == b"none" || self.names.contains_key(name) {
            return Err(PolicyProblem::DuplicateName);
        }
        self.names.insert(name.to_vec(), (member, false));
        Ok(())
    }

    /// A name can be a member once, so a witness counts in one way only.
    fn take_member(&mut self, name: &[u8]) -> Result<Member, PolicyProblem> {
        match self.names.get_mut(name) {
            None => Err(PolicyProblem::Undefined(shown(name))),
            Some((_, true)) => Err(PolicyProblem::MemberTwice(shown(name))),
            Some((member, taken)) => {
                *taken = true;
                Ok(member.clone())
            }
        }
    }
}

fn parse_key(word: &[u8]) -> Result<VerifierKey, PolicyProblem> {
    let text = std::str::from_utf8(word).map_err(|_| VkeyError::Format)?;
    Ok(text.parse::<VerifierKey>()?)
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn limit(count: usize) -> Result<(), PolicyProblem> {
    if count > MAX_LINES { Err(PolicyProblem::TooLarge) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        merkle::{Hash, TreeSize},
        note::NoteSigner,
    };
    use zeroize::Zeroizing;

    fn signer(name: &str, kind: SignatureType, seed: u8) -> NoteSigner {
        NoteSigner::new(name.parse().unwrap(), kind, &Zeroizing::new([seed; 32]))
    }

    fn log() -> NoteSigner {
        signer("ledger.example/x", SignatureType::Ed25519, 1)
    }

    fn witness(n: u8) -> NoteSigner {
        signer(&format!("ledger.example/x/node/n{n}"), SignatureType::CosignatureV1, 10 + n)
    }

    fn note(signers: &[&NoteSigner]) -> SignedNote {
        let origin = "ledger.example/x".parse().unwrap();
        let mut note = SignedNote::new(Checkpoint::new(origin, TreeSize(3), Hash([9; 32])).text());
        for signer in signers {
            note.put(signer.sign(note.text().to_owned().as_str(), UnixSeconds(77)));
        }
        note
    }

    fn four_nodes() -> Policy {
        let nodes: Vec<_> = (0..4).map(|n| (format!("n{n}"), witness(n).vkey().clone())).collect();
        Policy::parse(write_policy(&[log().vkey().clone()], &nodes, 3).as_bytes()).unwrap()
    }

    #[test]
    fn a_quorum_of_cosignatures_is_needed() {
        let (l, w) = (log(), [witness(0), witness(1), witness(2)]);
        let good = four_nodes().verify(&note(&[&l, &w[0], &w[1], &w[2]])).unwrap();
        assert_eq!(good.witnessed().len(), 3);
        assert_eq!(good.witnessed()[2].time, UnixSeconds(77));
        let few = four_nodes().verify(&note(&[&l, &w[0], &w[1]]));
        assert_eq!(few, Err(TrustError::Quorum { found: vec!["n0".into(), "n1".into()] }));
        let same_twice = four_nodes().verify(&note(&[&l, &w[0], &w[1], &w[1]]));
        assert!(same_twice.is_err());
    }

    #[test]
    fn a_checkpoint_is_as_fresh_as_a_quorum_says_and_no_quicker() {
        let mut signed = note(&[&log()]);
        let text = signed.text().to_owned();
        for (n, time) in [(0, 90), (1, 20), (2, 50), (3, 99)] {
            signed.put(witness(n).sign(&text, UnixSeconds(time)));
        }
        let fresh = |policy: &Policy| policy.verify(&signed).unwrap().fresh();
        assert_eq!(fresh(&four_nodes()), Some(UnixSeconds(50)));
        assert_eq!(fresh(&Policy::parse(b"quorum none\n").unwrap()), None);
    }

    #[test]
    fn outside_witnesses_are_needed_besides_the_nodes_and_not_instead_of_them() {
        let nodes: Vec<_> = (0..3).map(|n| (format!("n{n}"), witness(n).vkey().clone())).collect();
        let own = write_policy(&[log().vkey().clone()], &nodes, 2);
        let outside = |n: u8| OutsideWitness {
            key: signer(&format!("w.example/{n}"), SignatureType::CosignatureV1, 40 + n)
                .vkey()
                .clone(),
            url: "https://w.example".into(),
        };
        let with =
            |witnesses: &[OutsideWitness], needed| with_outside_witnesses(&own, witnesses, needed);
        let text = with(&[outside(0), outside(1)], 1).unwrap();
        let policy = Policy::parse(text.as_bytes()).unwrap();
        let w = |n: u8| signer(&format!("w.example/{n}"), SignatureType::CosignatureV1, 40 + n);
        let check = |signers: &[&NoteSigner]| policy.verify(&note(signers)).is_ok();
        let (l, n) = (log(), [witness(0), witness(1), witness(2)]);
        assert!(check(&[&l, &n[0], &n[2], &w(1)]));
        assert!(!check(&[&l, &n[0], &n[1], &n[2]]), "nobody outside");
        assert!(!check(&[&l, &n[0], &w(0), &w(1)]), "too few nodes");
        let taken = OutsideWitness { key: witness(0).vkey().clone(), ..outside(0) };
        assert_eq!(with(&[taken], 1).unwrap_err().problem, PolicyProblem::DuplicateKey);
        assert!(with(&[outside(0), outside(0)], 1).is_err());
        let one = write_policy(&[log().vkey().clone()], &nodes[..1], 1);
        assert!(with_outside_witnesses(&one, &[outside(0)], 1).is_ok());
    }

    #[test]
    fn the_log_itself_must_have_signed() {
        let w = [witness(0), witness(1), witness(2)];
        let error = four_nodes().verify(&note(&[&w[0], &w[1], &w[2]])).unwrap_err();
        assert!(matches!(error, TrustError::Log(_)));
    }

    #[test]
    fn nested_groups_are_counted_as_the_specification_says() {
        let key = |n: u8| witness(n).vkey().to_string();
        let text = format!(
            "# two companies\nlog {}\n\twitness X1 {}\nwitness X2 {} https://x2.example/\n\
             witness Y1 {}\nwitness Y2 {}\ngroup X all X1 X2\ngroup Y any Y1 Y2\n\
             group both all X Y\n  quorum   both  \n",
            log().vkey(),
            key(0),
            key(1),
            key(2),
            key(3)
        );
        let policy = Policy::parse(text.as_bytes()).unwrap();
        let w: Vec<_> = (0..4).map(witness).collect();
        let check = |signers: &[&NoteSigner]| policy.verify(&note(signers)).is_ok();
        assert!(check(&[&log(), &w[0], &w[1], &w[3]]));
        assert!(!check(&[&log(), &w[0], &w[2], &w[3]]));
        assert!(!check(&[&log(), &w[0], &w[1]]));
    }

    #[test]
    fn policies_that_could_mean_something_else_are_refused() {
        let (l, a, b) = (log().vkey().to_string(), witness(0), witness(1));
        let (a, b) = (a.vkey(), b.vkey());
        let bad = [
            String::new(),
            "quorum none".into(),
            "quorum none\nquorum none\n".into(),
            "quorum a\n".into(),
            format!("witness a {a}\nwitness a {b}\nquorum a\n"),
            format!("witness a {a}\nwitness b {a}\nquorum a\n"),
            format!("witness none {a}\nquorum none\n"),
            format!("witness a {l}\nquorum a\n"),
            format!("log {l}\nlog {l}\nquorum none\n"),
            format!("witness a {a}\ngroup g 2 a\nquorum g\n"),
            format!("witness a {a}\ngroup g 0 a\nquorum g\n"),
            format!("witness a {a}\ngroup g 01 a\nquorum g\n"),
            format!("witness a {a}\ngroup g all\nquorum g\n"),
            format!("witness a {a}\ngroup g any a a\nquorum g\n"),
            format!("witness a {a}\ngroup g any a\ngroup h any a\nquorum g\n"),
            format!("group g any a\nwitness a {a}\nquorum g\n"),
            format!("quorum a\nwitness a {a}\n"),
            format!("log {l} url more\nquorum none\n"),
            "bogus\nquorum none\n".into(),
            "quorum none\r\n".into(),
        ];
        for text in bad {
            assert!(Policy::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(Policy::parse(b"quorum none\nbogus\n").unwrap_err().line, 2);
    }

    #[test]
    fn a_quorum_may_not_count_a_witness_through_two_ways() {
        let a = witness(0).vkey().to_string();
        let named = format!("witness a {a}\ngroup g any a\nquorum a\n");
        assert!(Policy::parse(named.as_bytes()).is_ok(), "only groups have members");
        let text = format!("witness a {a}\ngroup g any a\ngroup h any g a\nquorum h\n");
        let error = Policy::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.problem, PolicyProblem::MemberTwice("a".into()));
    }
}
