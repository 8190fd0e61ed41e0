//! `logseal forward`: follows the ledger and hands its entries on, to a file or to a receiver of syslog.
//!
//! What is guaranteed: nothing is handed on that a node made up. Each new checkpoint satisfies the policy
//! and extends the ones before; each run of entries leads to its root before the first of them is handed
//! on. Into a file every entry goes exactly once, in order, also when this program is killed. The state is
//! written after what it covers, and one run of entries is in memory at a time.

mod config;
mod file;
mod follow;
mod metrics;
mod state;
mod syslog;

use crate::output::{Failure, Outcome, fail};
use clap::Args;
use config::{Config, Output};
use file::FileSink;
use follow::Follower;
use metrics::Metrics;
use serde_json::json;
use service::signals::{self, Reload, Shutdown};
use state::StateFile;
use std::{path::PathBuf, time::Duration};
use syslog::SyslogSink;
use tokio::runtime::Handle;

/// The longest pause after something failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Follow the ledger and hand its entries on, to a file or to a SIEM over TLS syslog.
///
/// Runs until SIGTERM or SIGINT; SIGHUP opens the file again, or reads certificates again. Needs a
/// certificate with the role auditor, operator or privacy-officer.
#[derive(Args, Clone, Debug)]
pub struct ForwardArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/logseal/forward.toml")]
    config: PathBuf,
    /// Only check the configuration and the files that it names
    #[arg(long)]
    check: bool,
    /// Go on behind entries that the ledger gave up before they were forwarded; without it that is an error
    #[arg(long)]
    skip_pruned: bool,
}

/// Where entries go.
enum Sink {
    File(FileSink),
    Syslog(Box<SyslogSink>),
}

/// Carries the command out.
pub fn run(args: ForwardArgs) -> Result<Outcome, Failure> {
    let config = Config::load(&args.config)?;
    config.client.check_files(&[])?;
    config.client.policy()?;
    if args.check {
        let text = format!("{}: ok\n", args.config.display());
        return Ok(Outcome { text, json: json!({ "ok": true }), code: service::exit::OK });
    }
    service::logging::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(fail)?;
    let (shutdown, reload) = runtime.block_on(async { signals::listen() }).map_err(fail)?;
    let next = forward(&config, args.skip_pruned, runtime.handle(), shutdown, reload)?;
    let text = format!("stopped in front of entry {next}\n");
    Ok(Outcome { text, json: json!({ "next": next }), code: service::exit::OK })
}

fn forward(
    config: &Config,
    skip_pruned: bool,
    handle: &Handle,
    mut shutdown: Shutdown,
    mut reload: Reload,
) -> Result<u64, Failure> {
    let (_, policy) = config.client.policy()?;
    let state_file = StateFile::take(&config.state)?;
    let state = state_file.load()?;
    let place = state.as_ref().and_then(|state| state.file);
    let mut sink = match &config.output {
        Output::File(file) => Sink::File(FileSink::open(file, place)?),
        Output::Syslog(syslog) => {
            Sink::Syslog(Box::new(SyslogSink::new(syslog, handle, &shutdown)?))
        }
    };
    let metrics = Metrics::start(config.metrics, handle, &shutdown)?;
    let mut follower = Follower::new(config, handle, &policy, state);
    follower.skip_pruned = skip_pruned;
    handle.block_on(async { signals::ready() });
    tracing::info!(next = follower.next(), "forwarding");
    let mut pause = Duration::ZERO;
    while !shutdown.requested() {
        if reload.has_changed().unwrap_or(false) {
            reload.mark_unchanged();
            reopen(&mut sink, &mut follower, &state_file)?;
        }
        let wait = match follower.step(&mut sink, &state_file, &metrics) {
            Ok(true) => {
                pause = Duration::ZERO;
                continue;
            }
            Ok(false) => {
                pause = Duration::ZERO;
                config.poll
            }
            Err(_) if shutdown.requested() => break,
            // Nobody has what would be next.
            Err(_) if follower.missed().is_some() => {
                return Err(Failure(follower.missed().unwrap_or_default()));
            }
            Err(failure) => {
                metrics.failed();
                pause = (pause * 2).clamp(Duration::from_millis(100), LONGEST_PAUSE);
                tracing::warn!(%failure, again_in = ?pause, "cannot go on");
                pause
            }
        };
        handle.block_on(async {
            tokio::select! {
                () = shutdown.wait() => {}
                _ = reload.changed() => reload.mark_changed(),
                () = tokio::time::sleep(wait) => {}
            }
        });
    }
    if let Sink::Syslog(syslog) = &mut sink {
        syslog.close();
    }
    Ok(follower.next())
}

/// Takes up a rotated file, or new certificates.
fn reopen(sink: &mut Sink, follower: &mut Follower<'_>, state: &StateFile) -> Result<(), Failure> {
    match sink {
        Sink::Syslog(syslog) => syslog.reload(),
        Sink::File(file) => {
            file.reopen()?;
            follower.save(state, Some(file.place()))?;
            tracing::info!("the output file was opened again");
        }
    }
    Ok(())
}
