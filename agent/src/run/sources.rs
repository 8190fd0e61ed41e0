//! Starts the configured sources, notices when one ends, lets others take their places, and stops
//! them.
//!
//! A source keeps its number for as long as the agent runs, so that events that are under way stay
//! what they are. A source that is changed while the agent runs ends first, and begins again
//! behind what it has handed over.

use std::{collections::BTreeMap, time::Duration};

use pipeline::line::{SourceEvent, SourceId};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{RunError, certificates::Certificates};
#[cfg(feature = "otlp")]
use crate::sources::otlp;
use crate::{
    board::Board,
    config::{Config, SourceConfig, SourceKind, SyslogConfig},
    sources::{
        Known, Outlet, Phase, journald, listener, relp, stdin,
        syslog_tls::{self, SyslogTlsConfig},
        tail, udp, unix,
    },
    spool::{SourceNames, Spool},
    tickets::Tickets,
};

/// For how long an address is tried that another source is just leaving.
const LEAVING: Duration = Duration::from_secs(5);

/// The sources while they run.
pub(super) struct Sources {
    events: mpsc::Sender<SourceEvent>,
    tickets: Tickets,
    names: SourceNames,
    board: Board,
    /// By name.
    running: BTreeMap<String, Running>,
    /// What is known of sources that do not run, by name.
    dormant: BTreeMap<String, Known>,
    /// The numbers of sources of this run, by name.
    numbers: BTreeMap<String, SourceId>,
    tasks: JoinSet<Ended>,
    /// Those whose places others have taken.
    retired: Vec<watch::Sender<Phase>>,
    started: u64,
}

struct Running {
    config: SourceConfig,
    phase: watch::Sender<Phase>,
    /// The how many-th started source it is.
    instance: u64,
    /// True if it has come to its end.
    finished: bool,
}

/// Why the sources need somebody's attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// This one ended although nobody asked it to.
    Failed(String),
    /// All have come to their end.
    All,
}

struct Ended {
    name: String,
    instance: u64,
    /// Nothing if it failed.
    known: Option<Known>,
    /// True if there is nothing left to read.
    finished: bool,
}

impl Sources {
    /// Starts all sources. Listeners come first: they are what can fail.
    pub(super) fn start(
        config: &Config,
        spool: &Spool,
        names: SourceNames,
        certificates: &Certificates,
        board: Board,
        tickets: Tickets,
        events: mpsc::Sender<SourceEvent>,
    ) -> Result<Self, RunError> {
        let numbered = (0..).map(SourceId).zip(&config.sources);
        let mut sources = Sources {
            events,
            tickets,
            names,
            board,
            running: BTreeMap::new(),
            dormant: spool.known(),
            numbers: numbered.map(|(id, source)| (source.name.clone(), id)).collect(),
            tasks: JoinSet::new(),
            retired: Vec::new(),
            started: 0,
        };
        let (listeners, others): (Vec<_>, Vec<_>) =
            config.sources.iter().partition(|source| source.kind.place().is_some());
        for source in listeners.into_iter().chain(others) {
            sources.start_one(source, certificates)?;
        }
        Ok(sources)
    }

    fn start_one(
        &mut self,
        source: &SourceConfig,
        certificates: &Certificates,
    ) -> Result<(), RunError> {
        let id = self.numbers[&source.name];
        let (phase, shutdown) = watch::channel(Phase::Run);
        let (kind, from) = (source.kind.label(), source.kind.from());
        let stats = self.board.enter(id, &source.name, kind, from);
        let known = self.dormant.get(&source.name).cloned().unwrap_or_default();
        let outlet = Outlet {
            id,
            events: self.events.clone(),
            shutdown,
            stats,
            tickets: self.tickets.clone(),
        };
        self.started += 1;
        let ended = Ended {
            name: source.name.clone(),
            instance: self.started,
            known: None,
            finished: false,
        };
        self.spawn(&source.kind, outlet, known, certificates, ended)?;
        self.dormant.remove(&source.name);
        let running =
            Running { config: source.clone(), phase, instance: self.started, finished: false };
        self.running.insert(source.name.clone(), running);
        Ok(())
    }

    fn spawn(
        &mut self,
        kind: &SourceKind,
        outlet: Outlet,
        known: Known,
        certificates: &Certificates,
        ended: Ended,
    ) -> Result<(), RunError> {
        match kind {
            SourceKind::Syslog(syslog) => {
                let server = certificates.server(&syslog.tls)?;
                let listener = listener::bind(syslog.listen)?;
                let serving = syslog_tls::serve(listener, server, syslog_config(syslog), outlet);
                self.run(serving, known, ended);
            }
            SourceKind::Unix(config) => {
                let serving = unix::serve(unix::bind(config)?, config.clone(), outlet);
                self.run(serving, known, ended);
            }
            SourceKind::Udp(config) => {
                self.run(udp::serve(udp::bind(config)?, outlet), known, ended);
            }
            SourceKind::Journald(config) => {
                let reading = journald::serve(config.clone(), known, outlet);
                self.tasks.spawn(async move { Ended { known: Some(reading.await), ..ended } });
            }
            #[cfg(feature = "otlp")]
            SourceKind::Otlp(config) => {
                let server = config.tls.as_ref().map(|(files, _)| certificates.server(files));
                let listener = listener::bind(config.listen)?;
                let serving = otlp::serve(listener, server.transpose()?, config.clone(), outlet);
                self.run(serving, known, ended);
            }
            SourceKind::Stdin(config) => {
                let reading = stdin::start(config.clone(), outlet);
                let reading = reading.map_err(RunError::machine("start a thread"))?;
                self.tasks.spawn(async move {
                    let end = reading.await;
                    let known = (end != stdin::End::Failed).then_some(known);
                    Ended { known, finished: end == stdin::End::Input, ..ended }
                });
            }
            SourceKind::Relp(settings) => {
                let tls = settings.tls.as_ref();
                let server = tls.map(|tls| certificates.server(&tls.files)).transpose()?;
                let listener = listener::bind(settings.relp.listen)?;
                let serving = relp::serve(listener, server, settings.relp.clone(), known, outlet);
                self.tasks.spawn(async move { Ended { known: Some(serving.await), ..ended } });
            }
            SourceKind::Files(files) => {
                let files = tail::TailConfig { id: outlet.id, ..files.clone() };
                let Outlet { events, shutdown, stats, .. } = outlet;
                let tailing = tail::start(files, known.files, events, shutdown, stats);
                let tailing = tailing.map_err(RunError::machine("start a thread"))?;
                self.tasks.spawn(async move {
                    let files = tailing.await.ok();
                    let known = files.map(|files| Known { files, ..Known::default() });
                    Ended { known, ..ended }
                });
            }
        }
        Ok(())
    }

    /// Runs a source that remembers nothing but what it was given.
    fn run(
        &mut self,
        serving: impl Future<Output = ()> + Send + 'static,
        known: Known,
        ended: Ended,
    ) {
        self.tasks.spawn(async move {
            serving.await;
            Ended { known: Some(known), ..ended }
        });
    }

    /// Returns when a source ended although nobody asked it to, or all have come to their end.
    pub(super) async fn ended(&mut self) -> Over {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(ended)) => {
                    if let Some(over) = self.note(&ended) {
                        return over;
                    }
                }
                Some(Err(error)) => return Over::Failed(error.to_string()),
                // Without any source there is nothing to wait for.
                None => std::future::pending().await,
            }
        }
    }

    /// Takes up another configuration: sources that are the same go on undisturbed.
    ///
    /// # Errors
    /// What else happened to the sources meanwhile.
    pub(super) async fn reload(
        &mut self,
        config: &Config,
        certificates: &Certificates,
    ) -> Result<(), Over> {
        let wanted = |name: &str| config.sources.iter().find(|source| source.name == name);
        let differs = |running: &Running| wanted(&running.config.name) != Some(&running.config);
        let ending: Vec<String> = self
            .running
            .iter()
            .filter(|(_, running)| differs(running))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &ending {
            self.end_one(name, wanted(name).is_some()).await?;
        }
        for source in &config.sources {
            if !self.running.contains_key(&source.name) {
                self.begin_one(source, certificates).await;
            }
        }
        Ok(())
    }

    /// Ends a source and keeps what it knows.
    async fn end_one(&mut self, name: &str, stays: bool) -> Result<(), Over> {
        let Some(ending) = self.running.remove(name) else { return Ok(()) };
        let phase = ending.config.kind.last_phase();
        ending.phase.send_replace(phase);
        if !stays {
            self.board.leave(name);
            tracing::info!(source = name, "the source was taken out of the configuration");
        }
        if phase == Phase::Retire {
            // It lives on until its senders have gone or the agent stops.
            self.retired.retain(|phase| !phase.is_closed());
            self.retired.push(ending.phase);
            return Ok(());
        }
        while !ending.finished
            && let Some(ended) = self.tasks.join_next().await
        {
            let ended = ended.map_err(|error| Over::Failed(error.to_string()))?;
            if ended.instance == ending.instance {
                self.dormant
                    .insert(ended.name, ended.known.ok_or_else(|| Over::Failed(name.to_owned()))?);
                return Ok(());
            }
            if let Some(over) = self.note(&ended) {
                return Err(over);
            }
        }
        Ok(())
    }

    /// Starts a source that is new, or changed. If that fails the agent goes on without it.
    async fn begin_one(&mut self, source: &SourceConfig, certificates: &Certificates) {
        let name = source.name.as_str();
        let Some(id) = self.numbers.get(name).copied().or_else(|| self.names.add(name)) else {
            tracing::error!(source = name, "there were too many sources in one run: restart");
            return;
        };
        self.numbers.insert(name.to_owned(), id);
        let configure = SourceEvent::Configure { source: id, settings: source.settings() };
        if self.events.send(configure).await.is_err() {
            // The agent is stopping.
            return;
        }
        let until = Instant::now() + LEAVING;
        loop {
            match self.start_one(source, certificates) {
                Ok(()) => {
                    tracing::info!(source = name, "the source was started");
                    return;
                }
                Err(error) if error.is_in_use() && Instant::now() < until => {
                    sleep(Duration::from_millis(20)).await;
                }
                Err(error) => {
                    tracing::error!(
                        source = name, %error,
                        "the source does not run: mend this and reload the agent again"
                    );
                    self.board.failed(name, &error);
                    return;
                }
            }
        }
    }

    /// Takes in that a source has ended. Nothing is to be done if it was asked to, or others go on.
    fn note(&mut self, ended: &Ended) -> Option<Over> {
        let current = |running: &&mut Running| running.instance == ended.instance;
        let running = self.running.get_mut(&ended.name).filter(current)?;
        if !ended.finished {
            return Some(Over::Failed(ended.name.clone()));
        }
        running.finished = true;
        self.running.values().all(|running| running.finished).then_some(Over::All)
    }

    /// Stops all sources and waits for them. What they have received is handed over first.
    pub(super) async fn stop(mut self) {
        let running = std::mem::take(&mut self.running);
        for phase in running.values().map(|running| &running.phase).chain(&self.retired) {
            phase.send_replace(Phase::Stop);
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

fn syslog_config(syslog: &SyslogConfig) -> SyslogTlsConfig {
    let SyslogConfig { listen, max_message, max_connections, max_buffered, .. } = *syslog;
    let defaults = SyslogTlsConfig::new(listen);
    SyslogTlsConfig { max_message, max_connections, max_buffered, ..defaults }
}
