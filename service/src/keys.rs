//! Private keys in files: made once, readable by their owner only, never overwritten.

use crate::disk::advice;
use record::{
    crypto::SEED_LEN,
    note::{KeyName, NoteSigner, SignatureType, VkeyError},
};
use ring::rand::{SecureRandom, SystemRandom};
use std::{
    fs::{File, OpenOptions, hard_link, remove_file},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// A key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read or made.
    #[error("{}: {source}{}", path.display(), advice(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is there already.
    #[error("{} exists: a private key is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others can read it.
    #[error("{} can be read by others: run 'chmod 600 {}'", path.display(), path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
    },
    /// It is no key.
    #[error("{}: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: VkeyError,
    },
    /// It is the key of somebody else.
    #[error("{} is the key of '{found}', but '{expected}' is needed here", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// Whose key is needed.
        expected: String,
        /// Whose key it is.
        found: String,
    },
    /// The system has no random numbers.
    #[error("the system's random numbers cannot be had")]
    Random,
}

/// The largest key file that is read.
const MAX_KEY_FILE: u64 = 4096;

/// Makes a new key and writes it to `path`, mode 0600; its directory must exist. Under this name there is the whole key,
/// durably, or nothing: not even a full disk or a crash leaves a part, which nobody could use and nothing overwrites.
pub fn create(path: &Path, name: &KeyName, kind: SignatureType) -> Result<NoteSigner, KeyError> {
    let mut seed = Zeroizing::new([0; SEED_LEN]);
    SystemRandom::new().fill(seed.as_mut()).map_err(|_| KeyError::Random)?;
    let text = NoteSigner::encode_private(name, kind, &seed);
    let at = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
        _ => KeyError::Io { path: path.to_owned(), source },
    };
    let unfinished = unfinished(path);
    let made = write_new(&unfinished, text.as_bytes())
        // Unlike a rename, this replaces nothing.
        .and_then(|()| hard_link(&unfinished, path))
        .and_then(|()| sync_parent(path));
    // The first error is the one to report; what stays behind the next one who makes this key removes.
    let _ = remove_file(&unfinished);
    made.map_err(at)?;
    Ok(NoteSigner::new(name.clone(), kind, &seed))
}

/// The name under which a key is written.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Writes a file anew, durably.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all())
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads the key of `name` from `path`.
pub fn load(path: &Path, name: &KeyName, kind: SignatureType) -> Result<NoteSigner, KeyError> {
    let at = |source| KeyError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(at)?;
    if file.metadata().map_err(at)?.mode() & 0o077 != 0 {
        return Err(KeyError::Permissions { path: path.to_owned() });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_KEY_FILE).read_to_string(&mut text).map_err(at)?;
    let signer = NoteSigner::parse(&text)
        .map_err(|source| KeyError::Format { path: path.to_owned(), source })?;
    if signer.vkey().name() != name || signer.vkey().kind() != kind {
        let (expected, found) = (name.to_string(), signer.vkey().name().to_string());
        return Err(KeyError::Name { path: path.to_owned(), expected, found });
    }
    Ok(signer)
}

/// Reads the key, or makes it if there is none.
pub fn load_or_create(
    path: &Path,
    name: &KeyName,
    kind: SignatureType,
) -> Result<NoteSigner, KeyError> {
    if path.exists() { load(path, name, kind) } else { create(path, name, kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_a_crash_left_of_a_key_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        std::fs::write(dir.path().join("seal.key.new"), "PRIVATE+KEY+").unwrap();
        let name: KeyName = "l.example/agent/gw01".parse().unwrap();
        let made = create(&path, &name, SignatureType::CosignatureV1).unwrap();
        let read = load(&path, &name, SignatureType::CosignatureV1).unwrap();
        assert_eq!(made.vkey(), read.vkey());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the key and nothing else");
    }

    #[test]
    fn a_key_is_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        let name: KeyName = "l.example/agent/gw01".parse().unwrap();
        let kind = SignatureType::CosignatureV1;
        let made = create(&path, &name, kind).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(create(&path, &name, kind), Err(KeyError::Exists { .. })));
        let read = load_or_create(&path, &name, kind).unwrap();
        assert_eq!(read.vkey(), made.vkey());
        let other: KeyName = "l.example/agent/gw02".parse().unwrap();
        assert!(matches!(load(&path, &other, kind), Err(KeyError::Name { .. })));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(load(&path, &name, kind), Err(KeyError::Permissions { .. })));
    }
}
