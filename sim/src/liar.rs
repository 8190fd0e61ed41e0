//! Nodes that lie: an honest replica, and between it and the network somebody who changes, adds
//! and leaves out what it says, and who has its keys.

use crate::{cast, plan::Lie, rng::Rng};
use bytes::Bytes;
use record::{
    Checkpoint, Hash, TreeSize, UnixMillis, UnixSeconds,
    block::Height,
    cosignature::Cosignature,
    crypto::SigningKey,
    declaration::{Drill, Matter},
};
use replica::{
    BlockHeader, Message, Replica,
    forge::{Said, Step, said, sign},
    message::{BodyKind, Cosigned},
};
use std::collections::VecDeque;

/// How many messages are kept to be said again.
const STASH: usize = 64;

/// A lying node's other self.
pub struct Liar {
    node: usize,
    lies: Vec<Lie>,
    key: SigningKey,
    stash: VecDeque<Message>,
    /// The second proposal of the newest round in which there is one, and what it is second to.
    second: Option<(Said, Message)>,
    /// Decided blocks by which others gave something up.
    pruned: Vec<Bytes>,
    /// Counts lies that were told.
    pub told: u64,
    /// Votes or proposals that contradict others that were sent to the same node.
    pub contradictions: u64,
}

impl Liar {
    /// A node that lies in these ways.
    pub fn new(node: usize, lies: Vec<Lie>) -> Self {
        let (key, stash) = (cast::consensus_key(node), VecDeque::new());
        Liar { node, lies, key, stash, second: None, pruned: vec![], told: 0, contradictions: 0 }
    }

    fn does(&self, lie: Lie) -> bool {
        self.lies.contains(&lie)
    }

    /// Remembers what others say, to say it again.
    pub fn overhear(&mut self, message: &Message) {
        if let Message::Pruned(bytes) = message
            && self.pruned.len() < STASH
            && !self.pruned.contains(bytes)
        {
            self.pruned.push(bytes.clone());
        }
        if self.does(Lie::Replay) || self.does(Lie::Vote) {
            self.stash.push_back(message.clone());
            if self.stash.len() > STASH {
                self.stash.pop_front();
            }
        }
    }

    /// What one node is told instead of `message`.
    pub fn twist(&mut self, replica: &Replica, rng: &mut Rng, message: &Message) -> Vec<Message> {
        self.overhear(message);
        let mut told = vec![message.clone()];
        for at in 0..self.lies.len() {
            let lie = self.lies[at];
            let before = std::mem::take(&mut told);
            for message in before {
                told.extend(self.tell(lie, replica, rng, message));
            }
        }
        if told.len() != 1 || told.first() != Some(message) {
            self.told += 1;
        }
        told
    }

    fn tell(&mut self, lie: Lie, replica: &Replica, rng: &mut Rng, m: Message) -> Vec<Message> {
        match (lie, &m) {
            (Lie::Vote, Message::Consensus(bytes)) => self.second_vote(rng, bytes, &m),
            (Lie::Proposal, Message::Proposal { signed, .. }) => {
                let second = self.second_proposal(replica, signed, &m);
                self.either(rng, m, second)
            }
            (Lie::Root, Message::Proposal { signed, header }) if rng.permille(700) => {
                self.wrong_root(signed, header).map_or(vec![m.clone()], |wrong| vec![wrong])
            }
            (Lie::Withhold, Message::Body(BodyKind::Batch, _)) if rng.permille(850) => vec![],
            (Lie::Sync, Message::Block(bytes)) => self.wrong_block(rng, bytes),
            (Lie::Sync, Message::Served) if rng.permille(300) => vec![],
            (Lie::Sync | Lie::Status, Message::Status(status)) => {
                let mut status = *status;
                let real = status.height.0;
                let far = if lie == Lie::Sync { real.saturating_add(3) } else { u64::MAX };
                status.height = Height(rng.pick(&[
                    real,
                    real.saturating_add(1),
                    0,
                    real.saturating_add(1000),
                    far,
                ]));
                if lie == Lie::Status {
                    status.abstains_until =
                        Height(rng.pick(&[0, real.saturating_add(5), u64::MAX]));
                    status.echo.0 ^= rng.bits() >> rng.within(0..64);
                    status.held ^= rng.bits() >> rng.within(0..64);
                    status.clock.0 ^= rng.bits() >> rng.within(0..64);
                }
                vec![Message::Status(status)]
            }
            (Lie::Base, _) => self.lie_about_the_past(rng, m),
            (Lie::Silent, _) if rng.permille(950) => vec![],
            (Lie::Cosign, Message::Cosigned(cosigned)) => {
                let second = self.second_cosignature(cosigned);
                self.either(rng, m, Some(second))
            }
            (Lie::Replay, _) if rng.permille(300) && !self.stash.is_empty() => {
                let again = self.stash[rng.index(self.stash.len())].clone();
                vec![m, again]
            }
            (Lie::Noise, _) if rng.permille(100) => vec![m, noise(rng)],
            _ => vec![m],
        }
    }

    /// One of two, or both.
    fn either(&mut self, rng: &mut Rng, one: Message, other: Option<Message>) -> Vec<Message> {
        let Some(other) = other else { return vec![one] };
        match rng.within(0..4) {
            0 | 1 => vec![one],
            2 => vec![other],
            _ => {
                self.contradictions += 1;
                vec![one, other]
            }
        }
    }

    fn second_vote(&mut self, rng: &mut Rng, bytes: &Bytes, m: &Message) -> Vec<Message> {
        let Some(mut other) = said(bytes).filter(|said| said.signer == self.key.public()) else {
            return vec![m.clone()];
        };
        let values = self.stash.iter().filter_map(|message| match message {
            Message::Proposal { signed, .. } | Message::Consensus(signed) => said(signed)?.value,
            _ => None,
        });
        let found: Vec<Hash> = values.filter(|value| other.value != Some(*value)).collect();
        other.value = match other.value {
            Some(_) if found.is_empty() || rng.permille(500) => None,
            None if found.is_empty() => Some(Hash([7; 32])),
            _ => Some(found[rng.index(found.len())]),
        };
        let other = Message::Consensus(sign(&self.key, &other));
        self.either(rng, m.clone(), Some(other))
    }

    fn second_proposal(
        &mut self,
        replica: &Replica,
        signed: &Bytes,
        m: &Message,
    ) -> Option<Message> {
        let mine = said(signed).filter(|said| said.signer == self.key.public())?;
        if let Some((first, second)) = &self.second
            && *first == mine
        {
            return Some(second.clone());
        }
        let Message::Proposal { header, .. } = m else { return None };
        let header = BlockHeader::decode(header).ok()?;
        if header.height.0 != replica.state().height.0 + 1 {
            return None;
        }
        let other = replica.forge_block(UnixMillis(header.time.0 + 1));
        let second = self.propose(&mine, &other);
        self.second = Some((mine, second.clone()));
        Some(second)
    }

    fn wrong_root(&self, signed: &Bytes, header: &Bytes) -> Option<Message> {
        let mine = said(signed).filter(|said| said.signer == self.key.public())?;
        let mut header = BlockHeader::decode(header).ok()?;
        header.root.0[0] ^= 1;
        Some(self.propose(&mine, &header))
    }

    fn propose(&self, place: &Said, header: &BlockHeader) -> Message {
        let said = Said { step: Step::Propose, value: Some(header.id()), ..*place };
        Message::Proposal { signed: sign(&self.key, &said), header: header.encode().into() }
    }

    fn wrong_block(&self, rng: &mut Rng, bytes: &Bytes) -> Vec<Message> {
        match rng.within(0..4) {
            0 => vec![],
            1 => vec![Message::Block(bytes.slice(..bytes.len() / 2))],
            2 => {
                let mut wrong = bytes.to_vec();
                let at = rng.index(wrong.len());
                wrong[at] ^= 1 << rng.within(0..8);
                vec![Message::Block(wrong.into())]
            }
            _ => vec![Message::Block(bytes.clone())],
        }
    }

    /// Something else than what it gave up and keeps of that, or nothing.
    fn lie_about_the_past(&self, rng: &mut Rng, m: Message) -> Vec<Message> {
        match &m {
            Message::BasePart { total, offset, part } if rng.permille(800) => {
                vec![wrong_part(rng, (*total, *offset), part)]
            }
            Message::BasePart { .. } | Message::Leaves { .. } if rng.permille(200) => vec![],
            Message::Leaves { chunk, hashes } if rng.permille(800) => {
                let hashes = wrong_bytes(rng, hashes);
                vec![Message::Leaves { chunk: *chunk, hashes }]
            }
            Message::Pruned(bytes) if rng.permille(300) => {
                vec![Message::Pruned(wrong_bytes(rng, bytes))]
            }
            // What gives nothing up, or gave up something else.
            Message::Block(bytes) if rng.permille(300) => vec![Message::Pruned(bytes.clone())],
            Message::Served | Message::Pruned(_) | Message::Status(_)
                if rng.permille(300) && !self.pruned.is_empty() =>
            {
                let other = self.pruned[rng.index(self.pruned.len())].clone();
                vec![Message::Pruned(other), m]
            }
            Message::Status(_) if rng.permille(50) => vec![forged(rng), m],
            _ => vec![m],
        }
    }

    fn second_cosignature(&self, cosigned: &Cosigned) -> Message {
        let mut other = *cosigned;
        other.root.0[0] ^= 1;
        let text = Checkpoint::new(cast::params().origin, other.size, other.root).text();
        let identity = cast::identity(self.node);
        other.signature = Cosignature::sign(identity.cosigner.key(), &text, other.time).signature;
        Message::Cosigned(other)
    }
}

fn wrong_part(rng: &mut Rng, (total, offset): (u64, u64), part: &Bytes) -> Message {
    let cut = |len: usize| part.slice(..len.min(part.len()));
    let (total, offset, part) = match rng.within(0..7) {
        0 => (total + 1, offset, part.clone()),
        1 => (u64::MAX, offset, part.clone()),
        2 => (total, offset, cut(1)),
        3 => (total, offset, cut(0)),
        4 => (total, offset + 1, part.clone()),
        5 => (total / 2, offset, cut(part.len() / 2)),
        _ => (total, offset, wrong_bytes(rng, part)),
    };
    Message::BasePart { total, offset, part }
}

fn wrong_bytes(rng: &mut Rng, bytes: &Bytes) -> Bytes {
    let mut wrong = bytes.to_vec();
    match rng.within(0..4) {
        0 => wrong.truncate(bytes.len() / 2),
        1 => wrong.extend_from_slice(&[7; 32]),
        _ if wrong.is_empty() => {}
        _ => {
            let at = rng.index(wrong.len());
            wrong[at] ^= 1 << rng.within(0..8);
        }
    }
    wrong.into()
}

/// A declaration that no operator signed.
fn forged(rng: &mut Rng) -> Message {
    let drill = Drill {
        verified: true,
        snapshot: "forged".into(),
        size: TreeSize(1),
        root: Hash([0; 32]),
        begun: UnixMillis(0),
        millis: 0,
        report: Hash([0; 32]),
    };
    let time = UnixSeconds(rng.bits() >> 20);
    let mut declaration = cast::declaration(Matter::Drill(drill), time);
    declaration.signature = vec![3];
    Message::Body(BodyKind::Declaration, declaration.encode().into())
}

fn noise(rng: &mut Rng) -> Message {
    let bytes: Bytes = (0..rng.within(0..200)).map(|_| rng.bits() as u8).collect::<Vec<_>>().into();
    let digests = || (0..5).map(|n| Hash([n; 32])).collect();
    match rng.within(0..8) {
        0 => Message::Consensus(bytes),
        1 => Message::Proposal { signed: bytes.clone(), header: bytes },
        2 => Message::Block(bytes),
        3 => Message::Body(BodyKind::Batch, bytes),
        4 => Message::Body(BodyKind::Equivocation, bytes),
        5 => Message::Fetch(digests()),
        6 => Message::Have(digests()),
        _ => Message::FetchBlocks(Height(rng.pick(&[0, 1, u64::MAX]))),
    }
}
