//! The monitor's folder: what it knows, and evidence.
//!
//! The state is replaced as a whole and synced: whenever the monitor is killed, the next start
//! knows all that an earlier one had gone on from.

use super::Word;
use crate::output::{Failure, fail};
use record::{Origin, follow::History};
use serde_json::json;
use std::{
    fs::{DirBuilder, File},
    io::{ErrorKind, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// The largest state that is read: of the most agents with the longest frontiers.
const MAX_STATE: u64 = 256 << 20;
/// The most folders of evidence; what comes later is told, and not kept.
const MAX_EVIDENCE: usize = 100;

/// The folder, used by this monitor alone.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    saved: Vec<u8>,
    _lock: File,
}

impl Folder {
    /// Opens the folder of a monitor of `origin`, making it if need be.
    ///
    /// # Errors
    /// It is in use, cannot be used, or holds what another ledger's monitor wrote.
    pub fn open(dir: &Path, origin: &Origin) -> Result<(Self, History), Failure> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(Failure::file(dir))?;
        let path = dir.join("LOCK");
        let lock = File::options().create(true).append(true).open(&path);
        let lock = lock.map_err(Failure::file(&path))?;
        if lock.try_lock().is_err() {
            return Err(Failure(format!("{} is in use by another monitor", dir.display())));
        }
        let saved = read(&dir.join("state"))?;
        let history = match saved.is_empty() {
            true => History::new(origin.clone()),
            false => History::decode(&saved).map_err(|error| {
                let path = dir.join("state");
                let what = "Keep it, and start a new monitor in another folder";
                Failure(format!("{}: {error}. {what}", path.display()))
            })?,
        };
        if history.follower.origin() != origin {
            let other = history.follower.origin();
            let problem = format!("is of a monitor of {other}, not of {origin}");
            return Err(Failure(format!("{} {problem}", dir.display())));
        }
        Ok((Folder { dir: dir.to_owned(), saved, _lock: lock }, history))
    }

    /// Replaces the state, durably, if it has changed.
    pub(super) fn save(&mut self, history: &History) -> Result<(), Failure> {
        let bytes = history.encode();
        if bytes == self.saved {
            return Ok(());
        }
        let (path, new) = (self.dir.join("state"), self.dir.join("state.new"));
        write(&new, &bytes)?;
        std::fs::rename(&new, &path).map_err(Failure::file(&path))?;
        sync_dir(&self.dir)?;
        self.saved = bytes;
        Ok(())
    }

    /// Keeps files that prove something in a folder of their own; `None` if there are too many.
    pub(super) fn keep_evidence(
        &self,
        word: Word,
        node: &str,
        problem: &str,
        files: &[(&str, Vec<u8>)],
    ) -> Result<Option<PathBuf>, Failure> {
        let all = self.dir.join("evidence");
        std::fs::create_dir_all(&all).map_err(Failure::file(&all))?;
        if std::fs::read_dir(&all).map_err(Failure::file(&all))?.count() >= MAX_EVIDENCE {
            return Ok(None);
        }
        let now = service::clock::now();
        let dir = all.join(format!("{}-{}", word.as_str(), now.0));
        match std::fs::create_dir(&dir) {
            // Two of one millisecond: one folder is enough to say so.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Some(dir)),
            made => made.map_err(Failure::file(&dir))?,
        }
        for (name, bytes) in files {
            write(&dir.join(name), bytes)?;
        }
        let about = json!({
            "word": word.as_str(), "node": node, "problem": problem, "time": now.seconds().0,
        });
        write(&dir.join("about.json"), format!("{about}\n").as_bytes())?;
        sync_dir(&dir)?;
        sync_dir(&all)?;
        Ok(Some(dir))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(Failure::file(path))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_STATE + 1).read_to_end(&mut bytes).map_err(Failure::file(path))?;
    if bytes.len() as u64 > MAX_STATE || bytes.is_empty() {
        return Err(Failure(format!("{}: {} bytes are no state", path.display(), bytes.len())));
    }
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let file = File::create(path);
    let written = file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(Failure::file(path))
}

fn sync_dir(dir: &Path) -> Result<(), Failure> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail)
}
