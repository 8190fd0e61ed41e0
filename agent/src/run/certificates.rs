//! Certificates and revocation lists while the agent runs: taken up again on request, and
//! complained about before they run out.

use std::{sync::Arc, time::Duration};

use link::tls::{ClientSettings, FilesError, ReloadingClient, ReloadingServer, Warning};
use service::signals::{Reload, Shutdown};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::{config::Config, metrics::Metrics, prepare, sources::syslog_tls};

/// How often the log says what an operator should look at.
const REMIND: Duration = Duration::from_secs(6 * 3600);

/// The configurations of all connections.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    pub(super) client: Arc<ReloadingClient>,
    /// One for each listener, with its source's index.
    pub(super) servers: Vec<(usize, Arc<ReloadingServer>)>,
    metrics: Metrics,
}

impl Certificates {
    /// Loads everything.
    pub(super) fn open(config: &Config, metrics: Metrics) -> Result<Self, super::RunError> {
        // Says more than the files alone can: which line names them, and whose they must be.
        drop(prepare::uplink_credentials(config)?);
        let settings = ClientSettings::new(config.tls.clone(), &[link::Role::Agent]);
        let client = Arc::new(ReloadingClient::open(settings)?);
        let mut servers = Vec::new();
        for (index, syslog) in prepare::listeners(config) {
            drop(prepare::syslog_credentials(config, syslog)?);
            let settings = syslog_tls::tls_settings(syslog.tls.clone());
            servers.push((index, Arc::new(ReloadingServer::open(settings)?)));
        }
        let certificates = Certificates { client, servers, metrics };
        certificates.remind();
        Ok(certificates)
    }

    /// Reloads on request and reminds now and then, until shutdown.
    pub(super) async fn watch(self, mut reload: Reload, mut shutdown: Shutdown) {
        let mut ticks = interval_at(Instant::now() + REMIND, REMIND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                asked = reload.changed() => match asked {
                    Ok(()) => self.reload(),
                    Err(_) => return,
                },
                _ = ticks.tick() => self.remind(),
            }
        }
    }

    fn reload(&self) {
        let mut all_well = true;
        let mut take = |result: Result<Vec<Warning>, FilesError>| {
            if let Err(error) = result {
                all_well = false;
                tracing::error!(%error, "certificates were not taken up: the old ones stay in use");
            }
        };
        take(self.client.reload());
        self.servers.iter().for_each(|(_, server)| take(server.reload()));
        if all_well {
            tracing::info!("certificates and revocation lists were taken up");
        }
        self.remind();
    }

    fn remind(&self) {
        let expires = self.client.not_after().0;
        self.metrics.certificate_expires.set(i64::try_from(expires).unwrap_or(i64::MAX));
        let mut warnings = self.client.warnings();
        for (_, server) in &self.servers {
            warnings.extend(server.warnings());
        }
        warnings.dedup();
        for warning in warnings {
            tracing::warn!(%warning, "certificates need attention");
        }
    }
}
