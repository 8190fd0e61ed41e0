//! How far a forwarder came: written after what it covers, whole or not at all.

use crate::{
    export::{sync_dir, write_file},
    output::{Failure, fail},
};
use record::{Checkpoint, Hash, TreeSize, merkle::Frontier};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

const VERSION: u32 = 1;

/// The state as it is written.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    ledger: String,
    /// Entries in front of this one were delivered, or are not wanted.
    next: u64,
    /// The ledger's frontier there.
    frontier: Vec<String>,
    /// The newest checkpoint that was verified.
    size: u64,
    root: String,
    /// Where the output file ends.
    file: Option<Place>,
}

/// An end of an output file.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The file's device.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Its length with everything that was delivered, and nothing else.
    pub length: u64,
}

/// How far a forwarder came.
#[derive(Clone, Debug)]
pub struct State {
    /// The tree of all entries that were delivered, or are not wanted.
    pub tree: Frontier,
    /// The newest checkpoint that was verified; all that follow must extend it.
    pub checkpoint: Checkpoint,
    /// Where the output file ends.
    pub file: Option<Place>,
}

/// The state file, held so that no second forwarder uses it.
pub struct StateFile {
    path: PathBuf,
    _lock: File,
}

impl StateFile {
    /// Takes the state file.
    ///
    /// # Errors
    /// Another forwarder has it, or the machine refuses.
    pub fn take(path: &Path) -> Result<Self, Failure> {
        let lock = path.with_extension("lock");
        let file = File::options().write(true).create(true).truncate(false).open(&lock);
        let file = file.map_err(Failure::file(&lock))?;
        match file.try_lock() {
            Ok(()) => Ok(StateFile { path: path.to_owned(), _lock: file }),
            Err(TryLockError::WouldBlock) => {
                let problem = "another forwarder is running with this state";
                Err(Failure(format!("{}: {problem}", path.display())))
            }
            Err(TryLockError::Error(error)) => Err(Failure::file(&lock)(error)),
        }
    }

    /// Reads it; nothing if there is none yet.
    ///
    /// # Errors
    /// It cannot be read, or is damaged: nothing is guessed then.
    pub fn load(&self) -> Result<Option<State>, Failure> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(Failure::file(&self.path))?,
        };
        let written: Option<Written> = serde_json::from_slice(&bytes).ok();
        let state = written.filter(|written| written.version == VERSION).and_then(Written::read);
        state.map(Some).ok_or_else(|| {
            let problem = "is no state of a forwarder of this version";
            Failure(format!(
                "{} {problem}: restore it, or begin anew without it",
                self.path.display()
            ))
        })
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// The machine refuses; what was there is there.
    pub fn save(&self, state: &State) -> Result<(), Failure> {
        let new = self.path.with_extension("new");
        if new.exists() {
            fs::remove_file(&new).map_err(Failure::file(&new))?;
        }
        let text = serde_json::to_string(&Written::of(state)).map_err(fail)? + "\n";
        write_file(&new, text.as_bytes())?;
        fs::rename(&new, &self.path).map_err(Failure::file(&self.path))?;
        sync_dir(self.path.parent().unwrap_or(Path::new("")))
    }
}

impl Written {
    fn of(state: &State) -> Self {
        Written {
            version: VERSION,
            ledger: state.checkpoint.origin.to_string(),
            next: state.tree.size().0,
            frontier: state.tree.hashes().map(|hash| hash.to_string()).collect(),
            size: state.checkpoint.size.0,
            root: state.checkpoint.root.to_string(),
            file: state.file,
        }
    }

    fn read(self) -> Option<State> {
        let hashes: Option<Vec<Hash>> =
            self.frontier.iter().map(|text| Hash::from_base64(text)).collect();
        let root = Hash::from_base64(&self.root)?;
        Some(State {
            tree: Frontier::from_hashes(TreeSize(self.next), &hashes?).ok()?,
            checkpoint: Checkpoint::new(self.ledger.parse().ok()?, TreeSize(self.size), root),
            file: self.file,
        })
    }
}
