//! The key that seals: checked by [`service::keys::load`], and named for those who must enrol it.

use record::{
    crypto::SigningKey,
    note::{SignatureType, VerifierKey},
};
use service::{
    config::ConfigError,
    keys::{self, KeyError},
};

use crate::config::Config;

/// The agent's key, checked.
#[derive(Debug)]
pub struct SealKey {
    /// Its public half, as operators enrol it.
    pub vkey: VerifierKey,
    /// The key itself.
    pub key: SigningKey,
}

impl SealKey {
    /// Loads the key of the configured agent.
    ///
    /// # Errors
    /// What is wrong with it; if there is none, the command that makes it.
    pub fn load(config: &Config) -> Result<Self, ConfigError> {
        let name = config.origin.agent(&config.name).key_name().clone();
        let signer = keys::load(&config.seal_key, &name, SignatureType::CosignatureV1);
        let signer = signer.map_err(|error| {
            config.error("seal.key", format!("{error}{}", hint(config, &error)))
        })?;
        Ok(SealKey { vkey: signer.vkey().clone(), key: signer.into_key() })
    }
}

fn hint(config: &Config, error: &KeyError) -> String {
    match error {
        KeyError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            let file = config.file().display();
            format!("; make it with 'logseal-agent key --config {file}' and have it enrolled")
        }
        _ => String::new(),
    }
}
