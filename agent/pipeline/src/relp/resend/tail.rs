//! A session's tail, and what its bookmark is called.

use super::{SessionId, TailId};
use record::crypto::sha256;
use std::{collections::VecDeque, sync::Arc};

/// So many sessions of a client begin with other messages than a tail's before the tail is dropped.
pub(super) const CHANCES: u8 = 16;

/// How many bytes of a digest are kept.
pub(super) const DIGEST: usize = 16;

/// What is remembered of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub(super) [u8; DIGEST]);

impl Digest {
    /// The digest of a message: the first half of its SHA-256.
    pub fn of(message: &[u8]) -> Self {
        let mut digest = [0; DIGEST];
        digest.copy_from_slice(&sha256(&[message])[..DIGEST]);
        Digest(digest)
    }
}

/// The newest messages that were stored from a session.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) client: Arc<str>,
    pub(super) key: Arc<[u8]>,
    pub(super) digests: VecDeque<Digest>,
    /// How many messages were stored in it.
    pub(super) stored: u64,
    /// How many of these are durable.
    pub(super) durable: u64,
    pub(super) owner: Option<SessionId>,
    /// The newest session there was when it was added to last.
    pub(super) touched: SessionId,
    /// For how many more sessions it is kept that begin otherwise.
    pub(super) chances: u8,
}

impl Tail {
    pub(super) fn new(client: Arc<str>, key: Arc<[u8]>, owner: Option<SessionId>) -> Self {
        let (digests, touched) = (VecDeque::new(), SessionId(0));
        Tail { client, key, digests, stored: 0, durable: 0, owner, touched, chances: CHANCES }
    }

    pub(super) fn known(client: Arc<str>, key: Arc<[u8]>, value: &[u8], window: usize) -> Self {
        let mut tail = Tail::new(client, key, None);
        let (digests, _) = value.as_chunks::<DIGEST>();
        digests.iter().for_each(|digest| tail.push(Digest(*digest), window));
        tail.durable = tail.stored;
        tail
    }

    pub(super) fn push(&mut self, digest: Digest, window: usize) {
        if self.digests.len() >= window {
            self.digests.pop_front();
        }
        self.digests.push_back(digest);
        self.stored += 1;
    }

    /// How many messages are in front of those that are remembered.
    pub(super) fn first(&self) -> u64 {
        self.stored - self.digests.len() as u64
    }

    /// The message behind so many.
    pub(super) fn at(&self, messages: u64) -> Option<Digest> {
        let index = usize::try_from(messages.checked_sub(self.first())?).ok()?;
        self.digests.get(index).copied()
    }

    pub(super) fn has_once(&self, digest: Digest) -> bool {
        self.digests.iter().filter(|at| **at == digest).count() == 1
    }

    /// True if a session may go on with it: it is orphaned, or has been silent since then.
    pub(super) fn is_free_for(&self, id: SessionId) -> bool {
        self.owner.is_none() || self.touched <= id
    }

    pub(super) fn is_orphan_of(&self, client: &str) -> bool {
        self.owner.is_none() && *self.client == *client
    }
}

/// A bookmark's name: the tail's number, then the client's name.
pub(super) fn make_key(tail: TailId, client: &str) -> Arc<[u8]> {
    let mut key = tail.0.to_be_bytes().to_vec();
    key.extend_from_slice(client.as_bytes());
    key.into()
}

pub(super) fn parse_key(key: &[u8]) -> Option<(TailId, Arc<str>)> {
    let (number, client) = key.split_first_chunk::<8>()?;
    let client = std::str::from_utf8(client).ok()?;
    Some((TailId(u64::from_be_bytes(*number)), client.into()))
}
