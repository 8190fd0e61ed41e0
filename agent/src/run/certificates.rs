//! Certificates and revocation lists while the agent runs: taken up again on request, and
//! complained about before they run out.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use link::tls::{ClientSettings, FilesError, ReloadingClient, ReloadingServer, TlsFiles, Warning};
use service::signals::Shutdown;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::{config::Config, metrics::Metrics, prepare, sources::syslog_tls};

/// How often the log says what an operator should look at.
const REMIND: Duration = Duration::from_secs(6 * 3600);

/// Configurations of listeners, with their files.
type Servers = Vec<(TlsFiles, Arc<ReloadingServer>)>;

/// The configurations of all connections. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    pub(super) client: Arc<ReloadingClient>,
    /// Those of listeners, by their files: listeners with the same files share one.
    servers: Arc<Mutex<Servers>>,
    metrics: Metrics,
}

impl Certificates {
    /// Loads everything.
    pub(super) fn open(config: &Config, metrics: Metrics) -> Result<Self, super::RunError> {
        // Says more than the files alone can: which line names them, and whose they must be.
        drop(prepare::uplink_credentials(config)?);
        let settings = ClientSettings::new(config.tls.clone(), &[link::Role::Agent]);
        let client = Arc::new(ReloadingClient::open(settings)?);
        let certificates = Certificates { client, servers: Arc::default(), metrics };
        for (_, listener) in prepare::listeners(config) {
            drop(prepare::listener_credentials(config, listener)?);
            certificates.server(listener.files)?;
        }
        certificates.remind();
        Ok(certificates)
    }

    /// The server side for listeners with these files.
    pub(super) fn server(&self, files: &TlsFiles) -> Result<Arc<ReloadingServer>, FilesError> {
        let mut servers = self.servers();
        if let Some((_, server)) = servers.iter().find(|(known, _)| known == files) {
            return Ok(Arc::clone(server));
        }
        let settings = syslog_tls::tls_settings(files.clone());
        let server = Arc::new(ReloadingServer::open(settings)?);
        servers.push((files.clone(), Arc::clone(&server)));
        Ok(server)
    }

    /// Reminds now and then of what an operator should look at, until shutdown.
    pub(super) async fn watch(self, mut shutdown: Shutdown) {
        let mut ticks = interval_at(Instant::now() + REMIND, REMIND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                _ = ticks.tick() => self.remind(),
            }
        }
    }

    /// Takes up all files again. Where that fails the old ones stay in use.
    pub(super) fn reload(&self) {
        let mut all_well = true;
        let mut take = |result: Result<Vec<Warning>, FilesError>| {
            if let Err(error) = result {
                all_well = false;
                tracing::error!(%error, "certificates were not taken up: the old ones stay in use");
            }
        };
        take(self.client.reload());
        let mut servers = self.servers();
        // Of listeners that are gone, and before the first start, nobody needs them.
        servers.retain(|(_, server)| Arc::strong_count(server) > 1);
        servers.iter().for_each(|(_, server)| take(server.reload()));
        drop(servers);
        if all_well {
            tracing::info!("certificates and revocation lists were taken up");
        }
        self.remind();
    }

    fn remind(&self) {
        let expires = self.client.not_after().0;
        self.metrics.certificate_expires.set(i64::try_from(expires).unwrap_or(i64::MAX));
        let mut warnings = self.client.warnings();
        for (_, server) in self.servers().iter() {
            warnings.extend(server.warnings());
        }
        warnings.dedup();
        for warning in warnings {
            tracing::warn!(%warning, "certificates need attention");
        }
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
