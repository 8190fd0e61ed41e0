//! Where a daemon's log goes: to the systemd journal if that started it, else to standard error.

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

const USUAL: &str = "info,arc_malachitebft=warn,sled=warn";

/// Starts logging at level `info`, or as the environment variable `LOGSEAL_LOG` says
/// (`debug`, `warn`, `logseal_agent=trace`, …). What the libraries say at `info` is left out. A malformed filter is reported and ignored.
pub fn start() {
    let (filter, problem) = match std::env::var("LOGSEAL_LOG") {
        Ok(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new(USUAL), Some(error.to_string())),
        },
        Err(_) => (EnvFilter::new(USUAL), None),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    match journal {
        Some(journal) => registry.with(journal).init(),
        None => {
            let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
            registry.with(stderr.with_ansi(false)).init();
        }
    }
    if let Some(problem) = problem {
        tracing::warn!(%problem, "LOGSEAL_LOG is no log filter and is ignored");
    }
}
