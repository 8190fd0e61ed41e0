//! What a witness cosigned last, one file a log.
//!
//! The file is the checkpoint itself, with the log's signatures and the witness's own cosignature,
//! so it proves what it is. It is replaced as a whole, and synced with its directory, before the
//! cosignature leaves. From the judgement until then the log is locked.

use super::config::WatchedLog;
use record::{
    UnixSeconds,
    cosignature::Cosignature,
    note::{MAX_NOTE_LEN, NoteSignature, NoteSigner, SignedNote, VerifierKey},
    witness::{self, AddCheckpoint, AddCheckpointError, Refusal, TreeHead},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// The witness's memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// A file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The folder is not there.
    #[error(
        "{} is missing. A witness that forgot what it cosigned could cosign another history: \
         restore the folder as it was last, or make a new witness with a new key", path.display()
    )]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// Somebody else uses it.
    #[error("{} is in use by another witness", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file is not what this witness wrote.
    #[error(
        "{} is not a checkpoint of '{origin}' that this witness cosigned: it was altered or \
         damaged, or belongs to another key. Restore it as it was last", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The log.
        origin: String,
    },
}

/// A request that gets no cosignature.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is no request.
    #[error("{0}")]
    Malformed(#[from] AddCheckpointError),
    /// The note in it is no checkpoint.
    #[error("the note is no checkpoint: origin, size and root are needed")]
    NoCheckpoint,
    /// The log is not one of ours.
    #[error("the log '{0}' is not witnessed here")]
    UnknownLog(String),
    /// The specification says no.
    #[error(transparent)]
    Judged(#[from] Refusal),
    /// It could not be written; nothing has changed.
    #[error("the checkpoint cannot be written: {0}")]
    Disk(BookError),
    /// It may or may not be on disk: the witness must start again to know.
    #[error("whether the checkpoint is on disk is not known: {0}")]
    Lost(BookError),
}

impl Refused {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Refused::Malformed(AddCheckpointError::TooLong) => 413,
            Refused::Malformed(_) | Refused::NoCheckpoint => 400,
            Refused::UnknownLog(_) => 404,
            Refused::Judged(refusal) => refusal.status(),
            Refused::Disk(_) | Refused::Lost(_) => 500,
        }
    }
}

/// A witness's memory and key.
#[derive(Debug)]
pub struct Book {
    signer: NoteSigner,
    dir: PathBuf,
    logs: BTreeMap<String, Page>,
    _lock: File,
}

#[derive(Debug)]
struct Page {
    keys: Vec<VerifierKey>,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
enum Latest {
    Nothing,
    Cosigned {
        note: SignedNote,
        head: TreeHead,
        time: UnixSeconds,
    },
    /// A write failed where it may have been done.
    Unknown,
}

impl Book {
    /// Opens the memory in `dir`, which must exist, for these logs.
    ///
    /// # Errors
    /// It is missing, in use, or not what this key wrote.
    pub fn open(signer: NoteSigner, dir: &Path, logs: &[WatchedLog]) -> Result<Self, BookError> {
        if !dir.is_dir() {
            return Err(BookError::Missing { path: dir.to_owned() });
        }
        let path = dir.join("LOCK");
        let lock = File::options().create(true).append(true).open(&path).map_err(at(&path))?;
        if lock.try_lock().is_err() {
            return Err(BookError::InUse { path: dir.to_owned() });
        }
        let mut pages = BTreeMap::new();
        for log in logs {
            let latest = match read(dir, &log.origin, signer.vkey())? {
                None => Latest::Nothing,
                Some((note, time)) => {
                    let path = dir.join(witness::origin_hash(&log.origin));
                    let damaged = BookError::Damaged { path, origin: log.origin.clone() };
                    let head = TreeHead::of(&note).ok_or(damaged)?;
                    Latest::Cosigned { note, head, time }
                }
            };
            let page = Page { keys: log.vkeys.clone(), latest: Mutex::new(latest) };
            pages.insert(log.origin.clone(), page);
        }
        Ok(Book { signer, dir: dir.to_owned(), logs: pages, _lock: lock })
    }

    /// Answers an `add-checkpoint` request with a signature line. Waits for the disk.
    ///
    /// # Errors
    /// Why the checkpoint is not cosigned.
    pub fn add(&self, body: &[u8], now: UnixSeconds) -> Result<String, Refused> {
        let request = AddCheckpoint::parse(body)?;
        let head = TreeHead::of(&request.checkpoint).ok_or(Refused::NoCheckpoint)?;
        let page = self.logs.get(&head.origin);
        let page = page.ok_or_else(|| Refused::UnknownLog(head.origin.clone()))?;
        // Nobody else judges against what is about to be replaced.
        let mut latest = page.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, last) = match &*latest {
            Latest::Nothing => (None, UnixSeconds(0)),
            Latest::Cosigned { head, time, .. } => (Some(head), *time),
            Latest::Unknown => return Err(self.lost()),
        };
        witness::judge(&request, &head, &page.keys, before)?;
        let time = now.max(last);
        let mut note = SignedNote::new(request.checkpoint.text().to_owned());
        let verified = request.checkpoint.verify(&page.keys).map_err(Refusal::Signature)?;
        verified.into_iter().for_each(|(_, signature)| note.put(signature.clone()));
        let cosignature = self.signer.sign(note.text(), time);
        note.put(cosignature.clone());
        let path = self.dir.join(witness::origin_hash(&head.origin));
        let new = path.with_extension("new");
        write(&new, note.to_string().as_bytes()).map_err(Refused::Disk)?;
        let replaced = std::fs::rename(&new, &path).map_err(at(&path));
        let synced = replaced.and_then(|()| {
            File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(at(&self.dir))
        });
        if let Err(error) = synced {
            *latest = Latest::Unknown;
            return Err(Refused::Lost(error));
        }
        *latest = Latest::Cosigned { note, head, time };
        Ok(format!("{cosignature}\n"))
    }

    /// The newest checkpoint that was cosigned of the log whose origin has this hash.
    pub fn latest(&self, hash: &str) -> Option<String> {
        let mut logs = self.logs.iter();
        let (_, page) = logs.find(|(origin, _)| witness::origin_hash(origin) == hash)?;
        match &*page.latest.lock().unwrap_or_else(PoisonError::into_inner) {
            Latest::Cosigned { note, .. } => Some(note.to_string()),
            Latest::Nothing | Latest::Unknown => None,
        }
    }

    fn lost(&self) -> Refused {
        let source = io::Error::other("an earlier write failed");
        Refused::Lost(BookError::Io { path: self.dir.clone(), source })
    }
}

/// Reads what was cosigned last of `origin`, and when.
///
/// # Errors
/// The file cannot be read, or is not what the key wrote.
pub(super) fn read(
    dir: &Path,
    origin: &str,
    key: &VerifierKey,
) -> Result<Option<(SignedNote, UnixSeconds)>, BookError> {
    let path = dir.join(witness::origin_hash(origin));
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(at(&path))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_NOTE_LEN as u64).read_to_end(&mut bytes).map_err(at(&path))?;
    let found = SignedNote::parse(&bytes).ok().and_then(|note| {
        let head = TreeHead::of(&note).filter(|head| head.origin == origin);
        let own = |signature: &NoteSignature| Cosignature::from_bytes(&signature.bytes);
        let time = note.verify([key]).ok()?.first().and_then(|(_, own_line)| own(own_line))?.time;
        head.map(|_| (note, time))
    });
    found.map(Some).ok_or(BookError::Damaged { path, origin: origin.to_owned() })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BookError> {
    let mut file = File::create(path).map_err(at(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BookError {
    let path = path.to_owned();
    move |source| BookError::Io { path, source }
}
