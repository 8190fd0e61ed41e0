//! A backup repository: objects named by their bytes, and snapshots that name objects.
//!
//! Everything gets its name by being renamed, once it is whole and on the disk, objects before the
//! snapshot that names them. So a crash at any moment leaves a repository in which every snapshot is
//! complete; what was left half way is nobody's, and does no harm. Only [`Repo::prune`] removes anything:
//! snapshots first, then the objects that none of those left names.

use super::{
    sealing,
    snapshot::{Object, Snapshot},
};
use crate::{
    export::{hex, private_dir, sync_dir, write_file},
    output::{Failure, fail},
};
use age::x25519::Identity;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, TryLockError},
    io::Read,
    path::{Path, PathBuf},
};

/// The version of repositories.
const VERSION: u32 = 1;
/// The version of snapshots that this program writes. It reads all up to it: version 1 knew no bases.
pub const SNAPSHOT_VERSION: u32 = 2;
const DESCRIPTION: &str = "repository.json";
const SNAPSHOTS: &str = "snapshots";
const OBJECTS: &str = "objects";
/// What is being written.
const UNFINISHED: &str = "unfinished";
/// The largest snapshot: a ledger of 16 TiB.
const MAX_JSON: u64 = 1 << 30;

/// What a repository says of itself.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Description {
    format: String,
    version: u32,
    /// Everything in it is of this ledger.
    ledger: String,
    /// Whom objects are encrypted to; nobody: they are not.
    recipients: Vec<String>,
}

/// The version of a snapshot, whatever else is in it.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

const FORMAT: &str = "logseal backup repository";

/// A repository in a folder.
pub struct Repo {
    dir: PathBuf,
    description: Description,
    /// Held while something is written.
    lock: Option<File>,
}

impl Repo {
    /// Opens a repository to read it.
    ///
    /// # Errors
    /// There is none, or none that this program knows.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(DESCRIPTION);
        let description: Description = load(&path)?;
        if description.format != FORMAT || description.version != VERSION {
            let problem = format!("no backup repository of version {VERSION}");
            return Err(Failure(format!("{}: {problem}: use a newer program", path.display())));
        }
        Ok(Repo { dir: dir.to_owned(), description, lock: None })
    }

    /// Opens a repository that is there, to remove something.
    ///
    /// # Errors
    /// There is none, or a backup into it is under way.
    pub fn open_locked(dir: &Path) -> Result<Self, Failure> {
        let mut repo = Self::open(dir)?;
        repo.lock = Some(lock(dir)?);
        Ok(repo)
    }

    /// Opens a repository to add to it, and makes it if the folder is empty or missing. Nobody else can
    /// add to it until this is dropped.
    ///
    /// # Errors
    /// Somebody else does, it is another ledger's, or its objects are encrypted to others.
    pub fn open_to_write(dir: &Path, ledger: &str, to: &[String]) -> Result<Self, Failure> {
        private_dir(dir)?;
        let lock = lock(dir)?;
        let unfinished = dir.join(UNFINISHED);
        if unfinished.exists() {
            fs::remove_file(&unfinished).map_err(Failure::file(&unfinished))?;
        }
        if !dir.join(DESCRIPTION).exists() {
            Self::make(dir, ledger, to)?;
        }
        let mut repo = Self::open(dir)?;
        let shown = dir.display();
        if repo.description.ledger != ledger {
            let other = &repo.description.ledger;
            return Err(Failure(format!("{shown} is of the ledger {other}, not of {ledger}")));
        }
        if !to.is_empty() && to != repo.description.recipients {
            let problem = "is encrypted to other recipients, which --recipient cannot change";
            return Err(Failure(format!("{shown} {problem}: begin a new repository")));
        }
        repo.lock = Some(lock);
        Ok(repo)
    }

    fn make(dir: &Path, ledger: &str, to: &[String]) -> Result<(), Failure> {
        for entry in dir.read_dir().map_err(Failure::file(dir))? {
            let name = entry.map_err(Failure::file(dir))?.file_name();
            if ![LOCK, SNAPSHOTS, OBJECTS, "lost+found"].iter().any(|known| name == **known) {
                let problem = "is no backup repository and not empty: choose another folder";
                return Err(Failure(format!("{} {problem}", dir.display())));
            }
        }
        for name in [SNAPSHOTS, OBJECTS] {
            private_dir(&dir.join(name))?;
        }
        let description = Description {
            format: FORMAT.to_owned(),
            version: VERSION,
            ledger: ledger.to_owned(),
            recipients: to.to_vec(),
        };
        let text = serde_json::to_string_pretty(&description).map_err(fail)? + "\n";
        place(dir, Path::new(DESCRIPTION), text.as_bytes())
    }

    /// True if objects are encrypted.
    pub fn is_encrypted(&self) -> bool {
        !self.description.recipients.is_empty()
    }

    /// The names of the snapshots, oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn ids(&self) -> Result<Vec<String>, Failure> {
        let dir = self.dir.join(SNAPSHOTS);
        let mut ids = Vec::new();
        for entry in dir.read_dir().map_err(Failure::file(&dir))? {
            let name = entry.map_err(Failure::file(&dir))?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
            ids.extend(id.map(ToOwned::to_owned));
        }
        ids.sort();
        Ok(ids)
    }

    /// The newest snapshot of a store that was whole, or else the newest; nothing if there is none.
    ///
    /// # Errors
    /// A snapshot cannot be read.
    pub fn newest(&self) -> Result<Option<Snapshot>, Failure> {
        let mut newest = None;
        for id in self.ids()?.iter().rev() {
            let snapshot = self.snapshot(Some(id))?;
            if snapshot.proven {
                return Ok(Some(snapshot));
            }
            newest = newest.or(Some(snapshot));
        }
        Ok(newest)
    }

    /// A snapshot: the named one, or as [`Repo::newest`].
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn snapshot(&self, id: Option<&str>) -> Result<Snapshot, Failure> {
        let none = || Failure(format!("{} has no snapshot", self.dir.display()));
        let Some(id) = id else { return self.newest()?.ok_or_else(none) };
        let path = self.dir.join(SNAPSHOTS).join(format!("{id}.json"));
        if Path::new(id).file_name().is_none_or(|name| *name != *id) || !path.exists() {
            let list = "'logseal backup list' names those that there are";
            return Err(Failure(format!("{} has no snapshot '{id}': {list}", self.dir.display())));
        }
        let Version { version } = load(&path)?;
        if !(1..=SNAPSHOT_VERSION).contains(&version) {
            let problem = format!("it is of version {version}: use a newer program");
            return Err(Failure(format!("{}: {problem}", path.display())));
        }
        let snapshot: Snapshot = load(&path)?;
        if snapshot.id != id {
            return Err(Failure(format!("{}: it is another snapshot", path.display())));
        }
        Ok(snapshot)
    }

    /// The objects of the newest snapshots, by what their bytes are meant to be: what a backup need not
    /// add again.
    ///
    /// # Errors
    /// A snapshot cannot be read.
    pub fn known(&self) -> Result<BTreeMap<String, Object>, Failure> {
        let mut known = BTreeMap::new();
        let last = self.ids()?.pop().map(|id| self.snapshot(Some(&id))).transpose()?;
        for snapshot in last.into_iter().chain(self.newest()?) {
            for (_, object) in snapshot.objects() {
                known.insert(object.sha256.clone(), object.clone());
            }
        }
        Ok(known)
    }

    /// Removes all snapshots but the newest `keep`, and then every object that none of those names; the
    /// numbers of both. The newest snapshot of a whole store always stays.
    ///
    /// # Errors
    /// A snapshot cannot be read: nothing is removed then.
    pub fn prune(&self, keep: usize) -> Result<(usize, usize), Failure> {
        let (ids, mut named) = (self.ids()?, BTreeSet::new());
        let newest = self.newest()?.map(|snapshot| snapshot.id);
        let (old, kept): (Vec<(usize, &String)>, Vec<_>) = ids
            .iter()
            .enumerate()
            .partition(|(at, id)| at + keep.max(1) < ids.len() && newest.as_ref() != Some(id));
        for (_, id) in &kept {
            let snapshot = self.snapshot(Some(id))?;
            named.extend(snapshot.objects().map(|(_, object)| object.name.clone()));
        }
        for (_, id) in &old {
            let path = self.dir.join(SNAPSHOTS).join(format!("{id}.json"));
            fs::remove_file(&path).map_err(Failure::file(&path))?;
        }
        // Before any object goes: no snapshot may come back that has lost one.
        sync_dir(&self.dir.join(SNAPSHOTS))?;
        let mut removed = 0;
        for folder in self.list(OBJECTS)? {
            for path in self.list(&format!("{OBJECTS}/{folder}"))? {
                if !named.contains(&path) {
                    let path = self.dir.join(OBJECTS).join(&folder).join(path);
                    fs::remove_file(&path).map_err(Failure::file(&path))?;
                    removed += 1;
                }
            }
        }
        Ok((old.len(), removed))
    }

    /// The names in a folder of the repository.
    fn list(&self, folder: &str) -> Result<Vec<String>, Failure> {
        let dir = self.dir.join(folder);
        let mut names = Vec::new();
        for entry in dir.read_dir().map_err(Failure::file(&dir))? {
            let name = entry.map_err(Failure::file(&dir))?.file_name();
            names.extend(name.to_str().map(ToOwned::to_owned));
        }
        Ok(names)
    }

    /// Adds bytes, durably; the object, and whether it is new.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn put(
        &self,
        known: &mut BTreeMap<String, Object>,
        bytes: &[u8],
    ) -> Result<(Object, bool), Failure> {
        let sha256 = sha256(bytes);
        if let Some(object) = known.get(&sha256) {
            return Ok((object.clone(), false));
        }
        let sealed = match self.is_encrypted() {
            true => Some(sealing::seal(&self.description.recipients, bytes)?),
            false => None,
        };
        let stored = sealed.as_deref().unwrap_or(bytes);
        let name = if sealed.is_some() { self::sha256(stored) } else { sha256.clone() };
        let object = Object {
            stored: stored.len() as u64,
            bytes: bytes.len() as u64,
            sha256: sha256.clone(),
            name,
        };
        let path = object_path(&object.name);
        if !self.dir.join(&path).exists() {
            let folder = self.dir.join(&path).with_file_name("");
            if !folder.exists() {
                private_dir(&folder)?;
                sync_dir(&self.dir.join(OBJECTS))?;
            }
            place(&self.dir, &path, stored)?;
        }
        known.insert(sha256, object.clone());
        Ok((object, true))
    }

    /// Adds a snapshot whose objects are all there, durably.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn add(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(snapshot).map_err(fail)? + "\n";
        let path = Path::new(SNAPSHOTS).join(format!("{}.json", snapshot.id));
        place(&self.dir, &path, text.as_bytes())
    }

    /// The bytes of an object as they are stored, which are what its name says.
    ///
    /// # Errors
    /// It is not there, or damaged.
    pub fn stored(&self, object: &Object) -> Result<Vec<u8>, Failure> {
        let path = self.dir.join(object_path(&object.name));
        let file = File::open(&path).map_err(Failure::file(&path))?;
        let mut bytes = Vec::new();
        file.take(object.stored.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(Failure::file(&path))?;
        if bytes.len() as u64 != object.stored || sha256(&bytes) != object.name {
            let problem = "it is damaged: its bytes are not those that it is named after";
            return Err(Failure(format!("{}: {problem}", path.display())));
        }
        Ok(bytes)
    }

    /// The bytes of an object as they are meant.
    ///
    /// # Errors
    /// It is not there, damaged, or encrypted to others.
    pub fn get(&self, object: &Object, with: &[Identity]) -> Result<Vec<u8>, Failure> {
        let stored = self.stored(object)?;
        let bytes = match self.is_encrypted() {
            true => sealing::open(with, &stored, object.bytes).map_err(|problem| {
                let path = self.dir.join(object_path(&object.name));
                Failure(format!("{}: {problem}", path.display()))
            })?,
            false => stored,
        };
        if bytes.len() as u64 != object.bytes || sha256(&bytes) != object.sha256 {
            let problem = "it is not what the snapshot names";
            return Err(Failure(format!("object {}: {problem}", object.name)));
        }
        Ok(bytes)
    }
}

/// The file that is locked while something is added.
const LOCK: &str = "lock";

fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join(LOCK);
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(Failure::file(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let problem = "another backup into this repository is under way";
            Err(Failure(format!("{}: {problem}", dir.display())))
        }
        Err(TryLockError::Error(error)) => Err(Failure::file(&path)(error)),
    }
}

/// Where an object of this name is in its repository, and nowhere else: a snapshot from elsewhere must
/// not lead out of it.
pub fn object_path(name: &str) -> PathBuf {
    let plain = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let (folder, name) = if plain { (&name[..2], name) } else { ("xx", "not-an-object") };
    Path::new(OBJECTS).join(folder).join(name)
}

/// Writes a file of the repository whole, or not at all.
fn place(dir: &Path, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let (unfinished, path) = (dir.join(UNFINISHED), dir.join(path));
    write_file(&unfinished, bytes)?;
    fs::rename(&unfinished, &path).map_err(Failure::file(&path))?;
    sync_dir(path.parent().unwrap_or(dir))
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let file = File::open(path).map_err(Failure::file(path))?;
    let mut bytes = Vec::new();
    file.take(MAX_JSON).read_to_end(&mut bytes).map_err(Failure::file(path))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure(format!("{}: it is damaged: {error}", path.display())))
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}
