//! What `check` looks at and `run` starts with: certificates that belong to this agent.

use link::{Identity, Role, tls::Credentials};
use service::{
    clock,
    config::{ConfigError, file_key},
};

use crate::config::{Config, SourceKind, SyslogConfig};

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

/// Loads the certificate files of a syslog listener.
///
/// # Errors
/// As [`uplink_credentials`].
pub fn syslog_credentials(
    config: &Config,
    syslog: &SyslogConfig,
) -> Result<Credentials, ConfigError> {
    let loaded = syslog.tls.load(&[Role::Agent], clock::now().seconds());
    loaded.map_err(|error| config.error(&file_key(&syslog.tls_table, error.kind), error))
}

/// The listeners among the sources, with their sources' indices.
pub fn listeners(config: &Config) -> impl Iterator<Item = (usize, &SyslogConfig)> {
    config.sources.iter().enumerate().filter_map(|(index, source)| match &source.kind {
        SourceKind::Syslog(syslog) => Some((index, syslog)),
        SourceKind::Files(_) => None,
    })
}
