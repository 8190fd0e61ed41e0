//! Starts the configured sources, notices when one ends, and stops them.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use pipeline::line::{SourceEvent, SourceId};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{RunError, certificates::Certificates};
use crate::{
    config::{Config, SourceKind, SyslogConfig},
    sources::{
        SourceStats,
        syslog_tls::{self, SyslogTlsConfig},
        tail,
    },
    spool::Spool,
};

/// How often threads are looked at that should be running.
const LOOK: Duration = Duration::from_secs(10);

/// The sources while they run.
pub(super) struct Sources {
    stop: watch::Sender<bool>,
    /// Threads, with their sources' names.
    tails: Vec<(String, JoinHandle<()>)>,
    /// Listeners, which answer with their sources' names.
    listeners: JoinSet<String>,
}

impl Sources {
    /// Starts all sources. Listeners are bound first: that is what can fail.
    pub(super) fn start(
        config: &Config,
        spool: &Spool,
        certificates: &Certificates,
        stats: &[(String, Arc<SourceStats>)],
        events: mpsc::Sender<SourceEvent>,
    ) -> Result<Self, RunError> {
        let (stop, stopped) = watch::channel(false);
        let mut sources = Sources { stop, tails: Vec::new(), listeners: JoinSet::new() };
        let mut bound = Vec::with_capacity(certificates.servers.len());
        for (index, server) in &certificates.servers {
            let SourceKind::Syslog(syslog) = &config.sources[*index].kind else {
                unreachable!("servers are made for listeners")
            };
            let listener = syslog_tls::bind(syslog.listen)?;
            bound.push((*index, syslog_config(*index, syslog), listener, Arc::clone(server)));
        }
        for (index, settings, listener, server) in bound {
            let (name, stats) = stats[index].clone();
            let serving = syslog_tls::serve(
                listener,
                server,
                settings,
                events.clone(),
                stopped.clone(),
                stats,
            );
            sources.listeners.spawn(async move {
                serving.await;
                name
            });
        }
        for (source, (_, stats)) in config.sources.iter().zip(stats) {
            if let SourceKind::Files(files) = &source.kind {
                let known = spool.positions(&source.name);
                let (events, stopped) = (events.clone(), stopped.clone());
                let thread = tail::start(files.clone(), known, events, stopped, Arc::clone(stats));
                let thread = thread.map_err(RunError::machine("start a thread"))?;
                sources.tails.push((source.name.clone(), thread));
            }
        }
        Ok(sources)
    }

    /// Returns the name of a source that ended although nobody asked it to.
    pub(super) async fn ended(&mut self) -> String {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(ended) = self.listeners.join_next() => {
                    return ended.unwrap_or_else(|error| format!("syslog ({error})"));
                }
                _ = looks.tick() => {
                    let ended = self.tails.iter().find(|(_, thread)| thread.is_finished());
                    if let Some((name, _)) = ended {
                        return name.clone();
                    }
                }
            }
        }
    }

    /// Stops all sources and waits for them. What they have received is handed over first.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.listeners.join_next().await.is_some() {}
        super::join(self.tails.into_iter().map(|(_, thread)| thread).collect()).await;
    }
}

fn syslog_config(index: usize, syslog: &SyslogConfig) -> SyslogTlsConfig {
    let id = SourceId(u16::try_from(index).expect("sources are bounded"));
    let SyslogConfig { listen, max_message, max_connections, .. } = *syslog;
    SyslogTlsConfig { id, listen, max_message, max_connections }
}
