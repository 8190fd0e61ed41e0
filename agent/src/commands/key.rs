//! `key`: prints the agent's vkey, and makes its key if there is none.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use record::note::SignatureType;
use serde::Serialize;
use service::{
    config::ConfigError,
    keys::{self, KeyError},
};

use crate::{cli::ReportArgs, config::Config};

/// The key cannot be printed or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyCommandError {
    /// Configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Machine: its directory.
    #[error("cannot make {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The key is gone, and what it sealed is still there.
    #[error(
        "{} is missing, but the spool in {} was sealed with it: restore the file from its copy; a new key would not \
         be accepted under this agent's name", key.display(), spool.display()
    )]
    Lost {
        /// The key file.
        key: PathBuf,
        /// The spool.
        spool: PathBuf,
    },
}

#[derive(Debug, Serialize)]
struct Answer {
    agent: String,
    vkey: String,
    key: PathBuf,
    created: bool,
}

/// Prints the vkey.
///
/// # Errors
/// When the configuration or the key file cannot be used.
pub fn execute(args: &ReportArgs) -> Result<(), KeyCommandError> {
    let config = Config::load(&args.config.config)?;
    let (vkey, created) = load_or_create(&config)?;
    if args.json {
        let key = config.seal_key.clone();
        let answer = Answer { agent: config.name.to_string(), vkey, key, created };
        super::print(&serde_json::to_string(&answer).expect("plain strings are JSON"));
        return Ok(());
    }
    if created {
        let (file, name) = (config.seal_key.display(), &config.name);
        eprintln!(
            "logseal-agent: made the key of agent '{name}' in {file}: keep a copy of it, offline and encrypted"
        );
    }
    super::print(&vkey);
    Ok(())
}

/// The agent's vkey, and whether its key was made just now.
///
/// # Errors
/// As [`execute`].
pub fn load_or_create(config: &Config) -> Result<(String, bool), KeyCommandError> {
    let path = &config.seal_key;
    let name = config.origin.agent(&config.name).key_name().clone();
    if path.exists() {
        let signer = keys::load(path, &name, SignatureType::CosignatureV1)?;
        return Ok((signer.vkey().to_string(), false));
    }
    if holds_records(&config.spool.dir) {
        return Err(KeyCommandError::Lost { key: path.clone(), spool: config.spool.dir.clone() });
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(|source| KeyCommandError::Directory { path: parent.to_owned(), source })?;
    }
    let signer = keys::create(path, &name, SignatureType::CosignatureV1)?;
    Ok((signer.vkey().to_string(), true))
}

/// Whether something was sealed into this spool. What cannot be looked at is taken for empty here;
/// the start looks at it properly.
fn holds_records(spool: &Path) -> bool {
    journal::open_read_only(spool).is_ok_and(|(_, found)| found.next_seq.0 > 0)
}
