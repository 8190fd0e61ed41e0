//! What `check` looks at and `run` starts with: certificates that belong to this agent.

use link::{
    Identity, Role,
    tls::{Credentials, TlsFiles},
};
use service::{
    clock,
    config::{ConfigError, file_key},
};

use crate::config::{Config, SourceConfig};

/// Loads the certificate files of the uplink and checks that they are this agent's.
///
/// # Errors
/// What is wrong, with the line of the configuration that names the file.
pub fn uplink_credentials(config: &Config) -> Result<Credentials, ConfigError> {
    let loaded = config.tls.load(&[Role::Agent], clock::now().seconds());
    let credentials = loaded.map_err(|error| config.error(&file_key("tls", error.kind), error))?;
    match credentials.identity().and_then(Identity::agent) {
        Some(agent) if agent == config.name => Ok(credentials),
        found => {
            let found = found.map_or("nobody".to_owned(), |agent| format!("agent '{agent}'"));
            let (cert, name) = (config.tls.cert.display(), &config.name);
            let problem =
                format!("the certificate {cert} is that of {found}, not of agent '{name}'");
            Err(config.error("name", format!("{problem}: the two names must be equal")))
        }
    }
}

/// The TLS files of a listener, and where they are written.
#[derive(Clone, Copy, Debug)]
pub struct Listener<'a> {
    /// The files.
    pub files: &'a TlsFiles,
    /// Their table in the configuration.
    pub table: &'a str,
}

/// Loads the certificate files of a listener.
///
/// # Errors
/// As [`uplink_credentials`].
pub fn listener_credentials(
    config: &Config,
    listener: Listener<'_>,
) -> Result<Credentials, ConfigError> {
    let loaded = listener.files.load(&[Role::Agent], clock::now().seconds());
    loaded.map_err(|error| config.error(&file_key(listener.table, error.kind), error))
}

/// The sources that listen with TLS.
pub fn listeners(config: &Config) -> impl Iterator<Item = (&SourceConfig, Listener<'_>)> {
    config.sources.iter().filter_map(|source| Some((source, source.kind.listener()?)))
}
