//! Certificates and revocation lists that change while the program runs.
//!
//! A connection uses the configuration that is current when it begins. A reload
//! that fails changes nothing, so a half-finished renewal does no harm.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use pki_types::{CertificateDer, UnixTime};
use record::UnixSeconds;
use rustls::{
    ClientConfig, ServerConfig,
    client::{Resumption, WebPkiServerVerifier},
    server::{NoServerSessionStorage, danger::ClientCertVerifier},
    sign::SingleCertAndKey,
};

use crate::{Identity, Role};

use super::{
    ClientSettings, Credentials, FilesError, ServerSettings, TlsFiles, Warning, provider,
    stamp::Stamp,
    verify::{Clients, Servers, webpki_servers},
};

/// The configuration of a listener.
#[derive(Debug)]
pub struct ReloadingServer {
    settings: ServerSettings,
    current: Current<ServerConfig>,
}

/// The configuration of a connector.
#[derive(Debug)]
pub struct ReloadingClient {
    settings: ClientSettings,
    current: Current<ClientParts>,
}

struct ClientParts {
    config: ClientConfig,
    webpki: Arc<WebPkiServerVerifier>,
}

struct Current<C> {
    loaded: ArcSwap<Loaded<C>>,
    /// What the files looked like when they were read for `loaded`. Held
    /// during a reload, so that two never overtake each other.
    stamps: Mutex<Vec<Stamp>>,
}

struct Loaded<C> {
    config: Arc<C>,
    credentials: Credentials,
}

impl ReloadingServer {
    /// Loads the files for the first time. What an operator should look at is
    /// in [`ReloadingServer::warnings`].
    ///
    /// # Errors
    /// The first file that cannot be used, and why.
    pub fn open(settings: ServerSettings) -> Result<Self, FilesError> {
        let current = Current::open(&settings.files, &settings.own, |c| settings.config(c))?;
        Ok(ReloadingServer { settings, current })
    }

    /// Reads the files again. Connections that begin from now on use them.
    ///
    /// # Errors
    /// The first file that cannot be used; everything stays as it was.
    pub fn reload(&self) -> Result<Vec<Warning>, FilesError> {
        let settings = &self.settings;
        self.current.reload(&settings.files, &settings.own, |c| settings.config(c))
    }

    /// Reloads if a file looks different from when it was last read with
    /// success; else costs a few system calls and answers `None`.
    ///
    /// # Errors
    /// Those of [`ReloadingServer::reload`], at every call until the files can
    /// be used.
    pub fn reload_if_changed(&self) -> Result<Option<Vec<Warning>>, FilesError> {
        if self.current.unchanged(&self.settings.files) {
            return Ok(None);
        }
        self.reload().map(Some)
    }

    /// The configuration for a connection that begins now.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.loaded.load().config.clone()
    }

    /// Who our certificate says we are.
    pub fn identity(&self) -> Option<Identity> {
        self.current.loaded.load().credentials.identity().cloned()
    }

    /// The last second of our certificate.
    pub fn not_after(&self) -> UnixSeconds {
        self.current.loaded.load().credentials.not_after()
    }

    /// What an operator should look at now. Certificates and lists age without
    /// changing, so ask regularly.
    pub fn warnings(&self) -> Vec<Warning> {
        self.current.loaded.load().credentials.warnings(now())
    }

    /// True if a client with this certificate (DER) in this role would be let in today: issued by
    /// our CA, valid, and not revoked.
    pub fn would_admit(&self, certificate: &[u8], role: Role) -> bool {
        let loaded = self.current.loaded.load();
        let clients = Clients::new(&loaded.credentials, &[role], false);
        let certificate = CertificateDer::from(certificate);
        clients.verify_client_cert(&certificate, &[], UnixTime::now()).is_ok()
    }

    pub(super) fn accepts(&self) -> &[Role] {
        &self.settings.accepts
    }
}

impl ReloadingClient {
    /// Loads the files for the first time. What an operator should look at is
    /// in [`ReloadingClient::warnings`].
    ///
    /// # Errors
    /// The first file that cannot be used, and why.
    pub fn open(settings: ClientSettings) -> Result<Self, FilesError> {
        let current = Current::open(&settings.files, &settings.own, |c| settings.parts(c))?;
        Ok(ReloadingClient { settings, current })
    }

    /// Reads the files again. Connections that begin from now on use them.
    ///
    /// # Errors
    /// The first file that cannot be used; everything stays as it was.
    pub fn reload(&self) -> Result<Vec<Warning>, FilesError> {
        let settings = &self.settings;
        self.current.reload(&settings.files, &settings.own, |c| settings.parts(c))
    }

    /// Reloads if a file looks different from when it was last read with
    /// success; else costs a few system calls and answers `None`.
    ///
    /// # Errors
    /// Those of [`ReloadingClient::reload`], at every call until the files can
    /// be used.
    pub fn reload_if_changed(&self) -> Result<Option<Vec<Warning>>, FilesError> {
        if self.current.unchanged(&self.settings.files) {
            return Ok(None);
        }
        self.reload().map(Some)
    }

    /// The configuration for a connection that begins now, to a server in one
    /// of the roles of `accepts`.
    pub fn config(&self, accepts: &[Role]) -> Arc<ClientConfig> {
        let parts = self.current.loaded.load().config.clone();
        let mut config = parts.config.clone();
        let verifier = Servers::new(parts.webpki.clone(), accepts);
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        Arc::new(config)
    }

    /// Who our certificate says we are.
    pub fn identity(&self) -> Option<Identity> {
        self.current.loaded.load().credentials.identity().cloned()
    }

    /// The last second of our certificate.
    pub fn not_after(&self) -> UnixSeconds {
        self.current.loaded.load().credentials.not_after()
    }

    /// What an operator should look at now. Certificates and lists age without
    /// changing, so ask regularly.
    pub fn warnings(&self) -> Vec<Warning> {
        self.current.loaded.load().credentials.warnings(now())
    }
}

impl<C> Current<C> {
    fn open(
        files: &TlsFiles,
        own: &[Role],
        build: impl FnOnce(&Credentials) -> C,
    ) -> Result<Self, FilesError> {
        // Looked at before they are read: a change in between is noticed later.
        let stamps = Mutex::new(files.stamps());
        let loaded = ArcSwap::from_pointee(Loaded::read(files, own, build)?);
        Ok(Current { loaded, stamps })
    }

    fn reload(
        &self,
        files: &TlsFiles,
        own: &[Role],
        build: impl FnOnce(&Credentials) -> C,
    ) -> Result<Vec<Warning>, FilesError> {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = files.stamps();
        let loaded = Loaded::read(files, own, build)?;
        let warnings = loaded.credentials.warnings(now());
        self.loaded.store(Arc::new(loaded));
        *stamps = seen;
        Ok(warnings)
    }

    fn unchanged(&self, files: &TlsFiles) -> bool {
        *self.stamps.lock().unwrap_or_else(PoisonError::into_inner) == files.stamps()
    }
}

impl<C> Loaded<C> {
    fn read(
        files: &TlsFiles,
        own: &[Role],
        build: impl FnOnce(&Credentials) -> C,
    ) -> Result<Self, FilesError> {
        let credentials = files.load(own, now())?;
        Ok(Loaded { config: Arc::new(build(&credentials)), credentials })
    }
}

impl ServerSettings {
    fn config(&self, credentials: &Credentials) -> ServerConfig {
        let verifier = Clients::new(credentials, &self.accepts, self.optional);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(self.versions)
            .expect("ring has suites for TLS 1.2 and 1.3")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.certified.clone())));
        config.alpn_protocols.clone_from(&self.alpn);
        // A resumed session would skip the verification of the certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config
    }
}

impl ClientSettings {
    fn parts(&self, credentials: &Credentials) -> ClientParts {
        let webpki = webpki_servers(credentials);
        let nobody = Servers::new(webpki.clone(), &[]);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring has suites for TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(nobody))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(
                credentials.certified.clone(),
            )));
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = Resumption::disabled();
        ClientParts { config, webpki }
    }
}

impl<C> fmt::Debug for Current<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.loaded.load().credentials.fmt(f)
    }
}

/// The machine's clock, as rustls reads it too.
pub(super) fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixSeconds(since.unwrap_or_default().as_secs())
}
