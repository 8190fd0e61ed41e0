//! The agent from its start to its end.
//!
//! Order is what makes it safe: the spool is open, and the ledger known to hold
//! no other history, before a source is read; a stop goes the way of a line,
//! from the sources through the pipeline to the spool.

mod certificates;
mod report;
mod sources;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use link::tls::FilesError;
use pipeline::{Pipeline, RecordSettings};
use prometheus_client::metrics::gauge::Gauge;
use record::crypto::SigningKey;
use service::{
    config::ConfigError,
    exit,
    metrics::BindError,
    signals::{self, Reload, Shutdown},
};
use tokio::sync::{mpsc, watch};

use self::{
    certificates::Certificates,
    report::Reporter,
    sources::{Over, Sources},
};
use crate::{
    board::Board,
    config::{Config, SourceConfig},
    control::{Control, Tap},
    fatal::{Alarm, Alarms, Fatal},
    leaves::LeafHashes,
    metrics::Metrics,
    pulse::Pulse,
    seal_key::SealKey,
    seal_loop::{Clock, MAX_EVENTS, SealLoop},
    shadow,
    sources::{listener, udp, unix},
    spool::{Inbox, Owner, SourceNames, Spool, SpoolError, SpoolOptions, Writer, WriterParts},
    tickets::Tickets,
    uplink::{Feed, StopReason, Timing, Uplink, UplinkSettings, establish},
};

/// How often it is looked whether the last receipts have come.
const RECEIPTS: Duration = Duration::from_millis(20);

/// How long a stop waits for threads that cannot end because the machine does not let them.
const JOIN_LIMIT: Duration = Duration::from_secs(30);

/// The agent did not start, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificate files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The address for metrics.
    #[error(transparent)]
    Metrics(#[from] BindError),
    /// The address for syslog.
    #[error(transparent)]
    Syslog(#[from] listener::BindError),
    /// A local socket.
    #[error(transparent)]
    Unix(#[from] unix::BindError),
    /// The address for UDP.
    #[error(transparent)]
    Udp(#[from] udp::BindError),
    /// The ledger and the spool contradict each other.
    #[error(transparent)]
    Stop(#[from] StopReason),
    /// It ended while it ran.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// Machine.
    #[error("cannot {action}: {source}")]
    Machine {
        /// What was attempted.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl RunError {
    /// The program's exit code: whether starting it again can help.
    pub fn code(&self) -> u8 {
        match self {
            RunError::Config(_)
            | RunError::Files(_)
            | RunError::Stop(_)
            | RunError::Fatal(Fatal::Stop(_)) => exit::USAGE,
            RunError::Spool(_)
            | RunError::Metrics(_)
            | RunError::Syslog(_)
            | RunError::Unix(_)
            | RunError::Udp(_)
            | RunError::Fatal(_)
            | RunError::Machine { .. } => exit::FAILED,
        }
    }

    /// True if another program or source has the address, and may be about to leave it.
    fn is_in_use(&self) -> bool {
        match self {
            RunError::Syslog(error) => error.error.kind() == io::ErrorKind::AddrInUse,
            RunError::Unix(error) => error.in_use,
            RunError::Udp(error) => error.error.kind() == io::ErrorKind::AddrInUse,
            _ => false,
        }
    }

    fn machine(action: &'static str) -> impl FnOnce(io::Error) -> RunError {
        move |source| RunError::Machine { action, source }
    }
}

/// Runs the agent until a signal ends it, or all of its sources have come to their end; then it
/// waits up to `drain` for the ledger's receipts.
///
/// # Errors
/// Why it did not start or had to end. Everything that was durable is as it was.
pub fn run(config: Config, drain: Duration) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(RunError::machine("start the runtime"))?;
    runtime.block_on(async {
        let (shutdown, reload) =
            signals::listen().map_err(RunError::machine("listen for signals"))?;
        let agent = Agent::open(config)?;
        tokio::spawn(agent.certificates.clone().watch(shutdown.clone()));
        agent.serve_metrics(shutdown.clone()).await?;
        agent.serve_control(&shutdown);
        agent.run(shutdown, reload, drain).await
    })
}

/// Everything that is there before anything runs.
struct Agent {
    config: Config,
    key: SealKey,
    certificates: Certificates,
    spool: Spool,
    names: SourceNames,
    board: Board,
    tap: Tap,
    /// True while the ledger does not know the agent.
    waiting: Arc<AtomicBool>,
    metrics: Metrics,
}

impl Agent {
    fn open(config: Config) -> Result<Self, RunError> {
        let metrics = Metrics::default();
        let key = SealKey::load(&config)?;
        let certificates = Certificates::open(&config, metrics.clone())?;
        let owner = Owner {
            agent: config.name.clone(),
            ledger: config.origin.clone(),
            key: key.vkey.public(),
        };
        let names = SourceNames::new(config.sources.iter().map(|source| source.name.as_str()));
        let (dir, options) = (&config.spool.dir, SpoolOptions::default());
        let spool = Spool::open(dir, options, owner, names.clone())?;
        let (board, tap, waiting) = (Board::default(), Tap::default(), Arc::default());
        Ok(Agent { config, key, certificates, spool, names, board, tap, waiting, metrics })
    }

    async fn serve_metrics(&self, shutdown: Shutdown) -> Result<(), RunError> {
        let Some(address) = self.config.metrics else { return Ok(()) };
        let listener = service::metrics::bind(address, "metrics").await?;
        let registry = Arc::new(self.metrics.registry(self.board.clone()));
        tokio::spawn(service::metrics::serve(listener, registry, shutdown));
        Ok(())
    }

    /// Records matter more than whoever wants to look: without a socket the agent works as well.
    fn serve_control(&self, shutdown: &Shutdown) {
        let (metrics, board, pulse) = (self.metrics.clone(), self.board.clone(), Pulse::default());
        tokio::spawn(pulse.clone().run(metrics.clone(), board.clone(), shutdown.clone()));
        let reporter =
            Reporter::new(&self.config, Arc::clone(&self.waiting), metrics, board, pulse);
        let answer = move || reporter.status();
        match Control::bind(&self.config.socket(), answer, self.tap.clone()) {
            Ok(control) => drop(tokio::spawn(control.serve(shutdown.clone()))),
            Err(error) => tracing::error!(%error, "'status', 'top' and 'tap' will not work"),
        }
    }

    async fn run(
        mut self,
        mut shutdown: Shutdown,
        mut reload: Reload,
        drain: Duration,
    ) -> Result<(), RunError> {
        let settings = self.uplink_settings();
        let ready_early = !self.spool.is_established();
        if ready_early {
            signals::ready();
            self.waiting.store(true, Relaxed);
            tracing::info!("the spool is empty: sources start when the ledger knows this agent");
            let mut establishing = std::pin::pin!(establish(&settings));
            loop {
                tokio::select! {
                    established = &mut establishing => break established?,
                    () = shutdown.wait() => return Ok(()),
                    _ = reload.changed() => self.reload(),
                }
            }
            self.spool.establish()?;
            self.waiting.store(false, Relaxed);
        }
        let (alarm, alarms) = Alarm::pair();
        let running = self.start(Arc::new(settings), &alarm)?;
        if !ready_early {
            signals::ready();
        }
        running.until(shutdown, reload, alarms, drain).await
    }

    /// Before there are sources: all of the configuration that can be taken up is.
    fn reload(&mut self) {
        signals::reloading();
        self.certificates.reload();
        if let Some(config) = reread(&self.config) {
            self.names.replace(config.sources.iter().map(|source| source.name.as_str()));
            self.config.sources = config.sources;
        }
        signals::reloaded();
    }

    /// Starts everything that runs, in the order in which nothing is waited for in vain.
    fn start(self, settings: Arc<UplinkSettings>, alarm: &Alarm) -> Result<Running, RunError> {
        let inbox = Arc::new(Inbox::default());
        let leaves = Arc::new(LeafHashes::default());
        let (durable, durably) = watch::channel(self.spool.durable());
        let backlog = self.spool.backlog();
        let behind = backlog.end.0.saturating_sub(backlog.base.0);
        self.metrics.spool_records_waiting.set(i64::try_from(behind).unwrap_or(i64::MAX));
        self.metrics.receipted_size.set(i64::try_from(backlog.base.0).unwrap_or(i64::MAX));
        let (inlet, shadow) = shadow::start(&self.config, &self.board, &self.metrics).unzip();
        let feed = Feed {
            reader: self.spool.reader(),
            durable: durably,
            inbox: Arc::clone(&inbox),
            leaves: Arc::clone(&leaves),
            backlog,
        };
        let waiting = self.metrics.spool_records_waiting.clone();
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let tickets = Tickets::default();
        let sources = Sources::start(
            &self.config,
            &self.spool,
            self.names,
            &self.certificates,
            self.board.clone(),
            tickets.clone(),
            sender,
        )?;
        let clock = Clock::start();
        let sealing = self.config.sealing;
        let seal = SealLoop {
            pipeline: pipeline(&self.config, self.key.key, &self.spool, clock),
            clock,
            heartbeat_ms: sealing.heartbeat_ms,
            events,
            inbox: Arc::clone(&inbox),
            leaves,
            shadow: inlet,
            metrics: self.metrics.clone(),
            board: self.board,
            tap: self.tap,
            alarm: alarm.clone(),
        };
        let writer = WriterParts {
            spool: self.spool,
            inbox: Arc::clone(&inbox),
            durable,
            max_bytes: self.config.spool.max_bytes,
            metrics: self.metrics,
            tickets,
            alarm: alarm.clone(),
        };
        let machine = || RunError::machine("start a thread");
        let mut threads =
            vec![Writer::start(writer).map_err(machine())?, seal.start().map_err(machine())?];
        threads.extend(shadow);
        let (config, certificates) = (self.config, self.certificates);
        let uplink = Uplink::new(settings, feed);
        Ok(Running { waiting, config, certificates, uplink, sources, threads, inbox })
    }

    fn uplink_settings(&self) -> UplinkSettings {
        let config = &self.config;
        let beside = config.spool.dir.parent().map(|parent| parent.join("evidence"));
        UplinkSettings {
            agent: config.name.clone(),
            vkey: self.key.vkey.clone(),
            origin: config.origin.clone(),
            enterprise: config.enterprise,
            policy: config.policy.clone(),
            nodes: config.nodes.clone(),
            tls: Arc::clone(&self.certificates.client),
            spool: config.spool.dir.clone(),
            evidence: beside.unwrap_or_else(|| "evidence".into()),
            timing: Timing { patience: config.patience, ..Timing::default() },
            metrics: self.metrics.clone(),
            board: self.board.clone(),
        }
    }
}

/// The agent while it runs.
struct Running {
    config: Config,
    certificates: Certificates,
    uplink: Uplink,
    sources: Sources,
    /// The spool's and the seal's, and shadow mode's.
    threads: Vec<JoinHandle<()>>,
    inbox: Arc<Inbox>,
    /// Records without a receipt.
    waiting: Gauge,
}

impl Running {
    /// Runs until it is asked to stop or cannot go on, and stops in order either way.
    async fn until(
        self,
        mut shutdown: Shutdown,
        reload: Reload,
        mut alarms: Alarms,
        drain: Duration,
    ) -> Result<(), RunError> {
        let Running { mut config, certificates, uplink, mut sources, threads, inbox, waiting } =
            self;
        let mut uplink = std::pin::pin!(uplink.run());
        let ended: Result<(), RunError> = tokio::select! {
            () = shutdown.wait() => Ok(()),
            Some(fatal) = alarms.recv() => Err(fatal.into()),
            reason = &mut uplink => Err(reason.into()),
            over = watch(&mut sources, &mut config, &certificates, reload) => match over {
                Over::Failed(name) => Err(Fatal::Source(name).into()),
                Over::All => tokio::select! {
                    () = shutdown.wait() => Ok(()),
                    Some(fatal) = alarms.recv() => Err(fatal.into()),
                    reason = &mut uplink => Err(reason.into()),
                    () = receipts(&waiting, drain) => Ok(()),
                },
            },
        };
        if let Err(error) = &ended {
            tracing::error!(%error, "the agent stops");
        }
        inbox.stop();
        sources.stop().await;
        // Their last sender is gone, so the seal thread ends, and then the spool's.
        join(threads).await;
        match alarms.try_recv() {
            Ok(fatal) if ended.is_ok() => Err(fatal.into()),
            _ => ended,
        }
    }
}

/// Waits for the receipts of all records, within limits.
async fn receipts(waiting: &Gauge, limit: Duration) {
    tracing::info!("all sources have come to their end: the agent waits for the last receipts");
    let until = tokio::time::Instant::now() + limit;
    while waiting.get() > 0 {
        if tokio::time::Instant::now() >= until {
            let records = waiting.get();
            tracing::warn!(
                records,
                "these records wait for receipts in the spool: the next start sends them"
            );
            return;
        }
        tokio::time::sleep(RECEIPTS).await;
    }
}

/// Looks after the sources, and reloads on request. Returns when they need attention.
async fn watch(
    sources: &mut Sources,
    config: &mut Config,
    certificates: &Certificates,
    mut reload: Reload,
) -> Over {
    loop {
        tokio::select! {
            over = sources.ended() => return over,
            asked = reload.changed() => if asked.is_err() { return std::future::pending().await },
        }
        signals::reloading();
        certificates.reload();
        if let Some(new) = reread(config) {
            if let Err(ended) = sources.reload(&new, certificates).await {
                return ended;
            }
            config.sources = new.sources;
        }
        signals::reloaded();
    }
}

/// Reads the configuration again. Nothing if it is wrong: then all stays as it is.
fn reread(config: &Config) -> Option<Config> {
    let new = Config::load(config.file()).inspect_err(|error| {
        tracing::error!(%error, "the configuration was not taken up: all sources go on as they are");
    });
    let new = new.ok()?;
    let keys = config.needs_restart(&new);
    if !keys.is_empty() {
        let keys = keys.join(", ");
        tracing::warn!(%keys, "these changes are taken up by a restart only");
    }
    Some(new)
}

fn pipeline(config: &Config, key: SigningKey, spool: &Spool, clock: Clock) -> Pipeline {
    let settings = RecordSettings {
        agent: config.name.clone(),
        enterprise: config.enterprise,
        host: config.host.clone(),
        sources: config.sources.iter().map(SourceConfig::settings).collect(),
    };
    let (sealing, origin) = (config.sealing, config.origin.clone());
    Pipeline::new(settings, sealing, origin, key, spool.log(), clock.now())
}

/// Waits for threads to end, though not for ever.
async fn join(threads: Vec<JoinHandle<()>>) {
    let joined = tokio::task::spawn_blocking(move || {
        for thread in threads {
            // A thread that panicked has raised the alarm itself.
            let _ = thread.join();
        }
    });
    if tokio::time::timeout(JOIN_LIMIT, joined).await.is_err() {
        tracing::error!("some threads do not end; the agent ends without them");
    }
}
