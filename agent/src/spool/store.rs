//! The spool itself: one journal, and what its records add up to.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
};

use journal::{Journal, Options, Reader, Seq};
use pipeline::{LogPosition, Outgoing, line::SourceId};
use record::{
    AgentName, Origin, TreeSize, UnixMillis, UnixSeconds, crypto::PublicKey, merkle::Frontier,
};

use super::{
    Backlog, NamedChange, Positions, SpoolError, StateRecord,
    format::{batch_head, changes_record},
    recover::{Recovered, recover},
};
use crate::sources::Known;

/// Whose spool it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The agent.
    pub agent: AgentName,
    /// The ledger.
    pub ledger: Origin,
    /// The key that seals.
    pub key: PublicKey,
}

/// How far a spool is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// One past the last durable record.
    pub seq: Seq,
    /// The size of the agent's log behind the last durable batch.
    pub size: TreeSize,
}

/// How a spool is kept.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// The journal's own options.
    pub journal: Options,
    /// A state is written whenever so many bytes of batches follow the last one. Space is released
    /// up to the last state at most, so this much, and a segment, stay in use.
    pub state_every_bytes: u64,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        let journal = Options {
            segment_bytes: 8 << 20,
            max_record_bytes: 8 << 20,
            buffer_bytes: 64 << 10,
            ..Options::default()
        };
        SpoolOptions { journal, state_every_bytes: 4 << 20 }
    }
}

/// A spool that is open for writing.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    journal: Journal,
    options: SpoolOptions,
    owner: Owner,
    sources: SourceNames,
    frontier: Frontier,
    sealed: UnixSeconds,
    positions: Positions,
    /// All batches in records below this one have verified receipts.
    released: Seq,
    /// The newest state; none before the spool is established.
    last_state: Option<Seq>,
    /// Bytes of batches behind it.
    since_state: u64,
    /// How long the newest state was, in bytes.
    state_len: u64,
    backlog: Backlog,
}

/// The names of the sources; a [`SourceId`] is an index into them. It only grows. Cheap to clone;
/// all clones are one list.
#[derive(Clone, Debug, Default)]
pub struct SourceNames(Arc<RwLock<Vec<Arc<str>>>>);

impl SourceNames {
    /// A list of these names.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        SourceNames(Arc::new(RwLock::new(names.into_iter().map(Into::into).collect())))
    }

    /// Takes other names. Only before any of these is in use.
    pub fn replace<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        *self.write() = names.into_iter().map(Into::into).collect();
    }

    /// Adds a name; `None` when there are as many as can be numbered.
    pub fn add(&self, name: &str) -> Option<SourceId> {
        let mut names = self.write();
        let id = SourceId(u16::try_from(names.len()).ok()?);
        names.push(name.into());
        Some(id)
    }

    /// The name of a source.
    ///
    /// # Panics
    /// When it was never added.
    pub fn get(&self, id: SourceId) -> Arc<str> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&names[usize::from(id.0)])
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Arc<str>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool {
    /// Opens the spool in `dir`, which is made if there is none, and recovers what it holds.
    ///
    /// # Errors
    /// When it cannot be read or written, is damaged where it matters, or is somebody else's.
    pub fn open(
        dir: &Path,
        options: SpoolOptions,
        owner: Owner,
        sources: SourceNames,
    ) -> Result<Self, SpoolError> {
        let (journal, recovery) = Journal::open(dir, options.journal)?;
        let recovered = recover(dir, &journal.reader(), &recovery, &owner)?;
        let mut spool = Spool {
            dir: dir.to_owned(),
            journal,
            options,
            owner,
            sources,
            frontier: Frontier::default(),
            sealed: UnixSeconds(0),
            positions: Positions::default(),
            released: recovery.next_seq,
            last_state: None,
            since_state: 0,
            state_len: 0,
            backlog: Backlog::default(),
        };
        if let Some(recovered) = recovered {
            spool.adopt(recovered);
            spool.write_first_state()?;
        }
        Ok(spool)
    }

    /// True once a first state was written. Before that the agent's log must be known to be empty
    /// in the ledger: a log never begins again at 0.
    pub fn is_established(&self) -> bool {
        self.last_state.is_some()
    }

    /// Begins the agent's log at 0, durably.
    ///
    /// # Errors
    /// When that cannot be written; the spool then still is as it was.
    ///
    /// # Panics
    /// If the spool is established.
    pub fn establish(&mut self) -> Result<(), SpoolError> {
        assert!(!self.is_established(), "a log begins once");
        self.append_state()?;
        self.journal.sync()?;
        self.backlog.from = self.journal.next_seq();
        self.backlog.root = Some(self.frontier.root());
        Ok(())
    }

    /// Where the agent's log stands.
    pub fn log(&self) -> LogPosition {
        LogPosition { frontier: self.frontier.clone(), sealed: self.sealed }
    }

    /// What is known of every source, those included that are no longer configured.
    pub fn known(&self) -> BTreeMap<String, Known> {
        self.positions.known()
    }

    /// What waited for a receipt when the spool was opened.
    pub fn backlog(&self) -> Backlog {
        self.backlog.clone()
    }

    /// Reads records that are durable, from any thread.
    pub fn reader(&self) -> Reader {
        self.journal.reader()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> u64 {
        self.journal.bytes()
    }

    /// What is durable, when nothing was appended since the last sync.
    pub fn durable(&self) -> Durable {
        Durable { seq: self.journal.durable(), size: self.frontier.size() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Appends a batch and its positions as one record; durable after [`Spool::sync`]. Answers with
    /// its length in bytes.
    ///
    /// A seal without records that is no newer than the last one says nothing, and the ledger could
    /// not tell it from that: it goes no further, and its positions are written without it.
    ///
    /// # Errors
    /// After [`journal::Error::Full`] the batch is not in the spool and may be appended again;
    /// after every other error the process must stop.
    ///
    /// # Panics
    /// If the spool is not established, or the batch does not follow the last one.
    pub fn append(
        &mut self,
        outgoing: &Outgoing,
        received: Option<UnixMillis>,
        sealed: UnixMillis,
    ) -> Result<u64, journal::Error> {
        assert!(self.is_established(), "nothing is sealed before the log begins");
        let batch = &outgoing.sealed.batch;
        assert_eq!(batch.start.0, self.frontier.size().0, "batches follow each other");
        // A long state comes less often, or there would soon be nothing but states; but it must
        // come, because space is released only up to it.
        let every = self.options.state_every_bytes;
        if self.since_state >= every.max((4 * self.state_len).min(4 * every)) {
            self.append_state()?;
        }
        let names: Vec<Arc<str>> =
            outgoing.positions.iter().map(|change| self.sources.get(change.source())).collect();
        let named = names.iter().zip(&outgoing.positions);
        let changes: Vec<NamedChange<'_>> =
            named.map(|(name, change)| NamedChange::new(name, change)).collect();
        let (head, encoded) = match batch.count == 0 && batch.seal.time <= self.sealed {
            true if changes.is_empty() => return Ok(0),
            true => (changes_record(&changes), Vec::new()),
            false => {
                let head = batch_head(received, sealed, &outgoing.sealed.after, &changes);
                (head, batch.encode())
            }
        };
        self.journal.append(&[&head, &encoded])?;
        for change in &changes {
            self.positions.apply(change);
        }
        self.frontier.clone_from(&outgoing.sealed.after);
        self.sealed = batch.seal.time;
        let len = (head.len() + encoded.len()) as u64;
        self.since_state += len;
        Ok(len)
    }

    /// Makes everything appended durable, with one fdatasync.
    ///
    /// # Errors
    /// As [`Journal::sync`].
    pub fn sync(&mut self) -> Result<Durable, journal::Error> {
        let seq = self.journal.sync()?;
        Ok(Durable { seq, size: self.frontier.size() })
    }

    /// All batches in records below `seq` have verified receipts: their space is given up, as far as
    /// the newest state is not in it.
    ///
    /// # Errors
    /// As [`Journal::release`].
    pub fn release(&mut self, seq: Seq) -> Result<(), journal::Error> {
        self.released = self.released.max(seq);
        match self.last_state {
            Some(state) if state < self.journal.durable() => {
                self.journal.release(self.released.min(state))
            }
            // A state that is not durable yet must not cost the one before it.
            _ => Ok(()),
        }
    }

    /// Writes a last state, so that the next start resends nothing that has a receipt, and closes the journal.
    ///
    /// # Errors
    /// As [`Journal::close`].
    pub fn close(mut self) -> Result<(), journal::Error> {
        if self.is_established() {
            match self.append_state() {
                // The states and batches that are there are enough.
                Err(journal::Error::Full { .. }) => {}
                result => result?,
            }
        }
        self.journal.close()
    }

    fn adopt(&mut self, recovered: Recovered) {
        let Recovered { state, last_state, since_state, backlog } = recovered;
        self.frontier = state.frontier;
        self.sealed = state.sealed;
        self.positions = state.positions;
        self.released = state.released;
        self.last_state = Some(last_state);
        self.since_state = since_state;
        self.backlog = backlog;
    }

    /// A state at every start: the next one has less to read. On a full disk the last one serves.
    fn write_first_state(&mut self) -> Result<(), SpoolError> {
        match self.append_state().and_then(|()| self.journal.sync()) {
            Ok(_) => {}
            Err(error @ journal::Error::Full { .. }) => {
                tracing::warn!(%error, "the spool was opened without writing to it");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn append_state(&mut self) -> Result<(), journal::Error> {
        let state = StateRecord {
            agent: self.owner.agent.clone(),
            ledger: self.owner.ledger.clone(),
            key: self.owner.key,
            sealed: self.sealed,
            released: self.released,
            frontier: self.frontier.clone(),
            positions: self.positions.clone(),
        };
        let state = state.encode();
        self.last_state = Some(self.journal.append(&[&state])?);
        self.since_state = 0;
        self.state_len = state.len() as u64;
        Ok(())
    }
}
