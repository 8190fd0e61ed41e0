//! Who plays: nodes and agents with their names and keys, the same in every world.

use crate::disk::Shelf;
use record::{
    AgentName, FaultModel, UnixMillis, UnixSeconds,
    batch::{BatchBuilder, Codec, Sealed},
    crypto::SigningKey,
    declaration::{Declaration, Matter},
    enrolment::Enrolment,
    entry::{Enterprise, Header, LogElement},
    merkle::Frontier,
    note::{NoteSigner, SignatureType, VerifierKey},
    policy::{Policy, write_policy},
};
use replica::{Identity, LedgerState, Member, Members, Objection, Params, Vouch};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

const LEDGER: &str = "l.example/x";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

/// What all nodes share.
pub fn params() -> Params {
    Params { origin: LEDGER.parse().expect("a valid origin"), enterprise: Enterprise::default() }
}

/// A node's name and checkpoint keys.
pub fn identity(node: usize) -> Identity {
    let signer = |name: &str, kind, seed| {
        NoteSigner::new(name.parse().expect("a valid name"), kind, &Zeroizing::new([seed; 32]))
    };
    let cosigner = format!("{LEDGER}/node/n{node}");
    Identity {
        name: format!("n{node}").parse().expect("a valid name"),
        log: signer(LEDGER, SignatureType::Ed25519, 10 + node as u8),
        cosigner: signer(&cosigner, SignatureType::CosignatureV1, 30 + node as u8),
    }
}

/// Signs a node's votes.
pub fn consensus_key(node: usize) -> SigningKey {
    key(50 + node as u8)
}

/// The nodes of a ledger; the place of each is its number.
pub fn members(count: usize, model: FaultModel) -> Members {
    let member = |node| {
        let identity = identity(node);
        Member {
            name: identity.name,
            consensus: consensus_key(node).public(),
            cosigner: identity.cosigner.vkey().clone(),
        }
    };
    Members::new((0..count).map(member).collect(), model).expect("different nodes")
}

/// What agents believe.
pub fn policy(members: &Members) -> Policy {
    let logs: Vec<VerifierKey> =
        (0..members.count()).map(|node| identity(node).log.vkey().clone()).collect();
    let cosigners: Vec<(String, VerifierKey)> =
        members.iter().map(|(_, m)| (m.name.to_string(), m.cosigner.clone())).collect();
    let text = write_policy(&logs, &cosigners, members.quorum());
    Policy::parse(text.as_bytes()).expect("a policy that was just written")
}

/// What an operator's signature looks like here.
pub const SIGNATURE: &[u8] = &[2];

/// Believes every enrolment, and declarations that are signed and fit its node's store.
pub struct Operators {
    /// The store.
    pub shelf: Arc<Mutex<Shelf>>,
    /// How many days the node keeps entries for.
    pub retention: u32,
    /// It agrees to anything.
    pub lies: bool,
}

impl Vouch for Operators {
    fn operator_signed(&self, _: &Enrolment) -> bool {
        true
    }

    fn declaration(&self, declaration: &Declaration, _: &LedgerState) -> Result<(), Objection> {
        if self.lies {
            return Ok(());
        }
        if declaration.signature != SIGNATURE {
            return Err(Objection::Unsigned);
        }
        let Matter::Prune(prune) = &declaration.matter else { return Ok(()) };
        if prune.days < self.retention {
            return Err(Objection::Policy("this node keeps entries for longer".into()));
        }
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.agrees(prune).map_err(Objection::Policy)
    }
}

/// What an operator declares.
pub fn declaration(matter: Matter, time: UnixSeconds) -> Declaration {
    Declaration { matter, time, certificate: vec![1], signature: SIGNATURE.to_vec() }
}

/// An agent's name.
pub fn agent_name(agent: usize) -> AgentName {
    format!("gw{agent}").parse().expect("a valid name")
}

/// An agent's enrolment; an operator signs no two the same.
pub fn enrolment(agent: usize, time: UnixSeconds) -> Enrolment {
    Enrolment {
        agent: agent_name(agent),
        key: agent_key(agent).public(),
        time,
        certificate: vec![1],
        signature: vec![2],
    }
}

fn agent_key(agent: usize) -> SigningKey {
    key(100 + agent as u8)
}

/// Seals a batch of `lines` behind `log`.
pub fn seal(
    agent: usize,
    log: Frontier,
    lines: &[String],
    time: UnixSeconds,
    codec: &mut Codec,
) -> Sealed {
    let name = agent_name(agent);
    let mut builder = BatchBuilder::new(params().origin, name.clone(), log);
    for line in lines {
        let element = LogElement {
            enterprise: Enterprise::default(),
            agent: &name,
            n: builder.next(),
            source: "sim",
            received: UnixMillis(time.0 * 1000),
            peer: None,
            transport: None,
            part: None,
        };
        let header =
            Header { priority: 110, time: None, host: b"h", app: b"a", procid: b"", msgid: b"" };
        builder.push(|out| element.wrap(out, &header, &[], line.as_bytes()));
    }
    builder.seal(&agent_key(agent), time, codec)
}
