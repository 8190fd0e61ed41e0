//! The key that seals, out of its file and into the pipeline.
//!
//! [`service::keys::load`] checks the file: its permissions, its format, whose
//! key it is. The pipeline wants the bare key for itself, so the seed is taken
//! out of the same text here and compared with what was checked.

use base64::{Engine, engine::general_purpose::STANDARD};
use record::{
    crypto::{SEED_LEN, SigningKey},
    note::{SignatureType, VerifierKey},
};
use service::{
    config::ConfigError,
    keys::{self, KeyError},
};
use zeroize::Zeroizing;

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
        let fail = |problem: String| config.error("seal.key", problem);
        let name = config.origin.agent(&config.name).key_name().clone();
        let checked = keys::load(&config.seal_key, &name, SignatureType::CosignatureV1);
        let vkey = match checked {
            Ok(signer) => signer.vkey().clone(),
            Err(error) => return Err(fail(format!("{error}{}", hint(config, &error)))),
        };
        let path = config.seal_key.display();
        let text = std::fs::read_to_string(&config.seal_key).map(Zeroizing::new);
        let text = text.map_err(|error| fail(format!("{path}: {error}")))?;
        match signing_key(&text) {
            Some(key) if key.public() == vkey.public() => Ok(SealKey { vkey, key }),
            _ => Err(fail(format!("{path} was changed while it was read"))),
        }
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

/// `PRIVATE+KEY+<name>+<id>+<base64(type || seed)>`; base64 has '+' of its own.
fn signing_key(text: &str) -> Option<SigningKey> {
    let encoded = text.trim().splitn(5, '+').nth(4)?;
    let bytes = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let seed = Zeroizing::new(<[u8; SEED_LEN]>::try_from(bytes.get(1..)?).ok()?);
    Some(SigningKey::from_seed(&seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::note::NoteSigner;

    #[test]
    fn the_key_that_seals_is_the_key_that_was_enrolled() {
        // Seeds whose base64 has '+' and '/' are the ones that a careless reader cuts.
        for byte in [0, 0xfb, 0xff, 0x3e] {
            let seed = Zeroizing::new([byte; SEED_LEN]);
            let name = "l.example/x/agent/gw01".parse().unwrap();
            let text = NoteSigner::encode_private(&name, SignatureType::CosignatureV1, &seed);
            let enrolled = NoteSigner::parse(&text).unwrap().vkey().public();
            assert_eq!(signing_key(&text).unwrap().public(), enrolled);
        }
        assert!(signing_key("PRIVATE+KEY+a+00000000+AA==").is_none());
    }
}
