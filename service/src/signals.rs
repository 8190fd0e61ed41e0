//! Signals and the service manager: when to stop, when to reload, and how to say that all is well.

use std::{io, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Tells every part of a program to stop.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// The other end of a [`Shutdown`].
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Tells parts of a program to read their files again; counts the requests.
pub type Reload = watch::Receiver<u64>;

impl Shutdown {
    /// A shutdown that its stopper triggers.
    pub fn pair() -> (Stopper, Shutdown) {
        let (sender, receiver) = watch::channel(false);
        (Stopper(sender), Shutdown(receiver))
    }

    /// True once the program is to stop.
    pub fn requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the program is to stop.
    pub async fn wait(&mut self) {
        // A stopper that is gone means the same.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

impl Stopper {
    /// Tells everybody to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Listens for SIGTERM and SIGINT (stop) and SIGHUP (reload) on the current runtime.
pub fn listen() -> io::Result<(Shutdown, Reload)> {
    let (stopper, shutdown) = Shutdown::pair();
    let (reloads, reload) = watch::channel(0);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => reloads.send_modify(|count| *count += 1),
            }
        }
        tracing::info!("stopping");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        stopper.stop();
        // Hold the reload channel open until the program ends.
        reloads.closed().await;
    });
    Ok((shutdown, reload))
}

/// Tells the service manager that the program is ready, and from then on that it lives, as often
/// as it asks. Without a service manager nothing happens.
pub fn ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "the service manager could not be told that the program is ready");
    }
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let period = (limit / 2).max(Duration::from_millis(100));
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(period);
        loop {
            ticks.tick().await;
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    });
}

/// How much longer the service manager is asked to wait for a start that goes on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells the service manager how far a long start is, and that it should go on waiting.
pub fn starting(status: &str) {
    let more = sd_notify::NotifyState::ExtendTimeoutUsec(PATIENCE.as_micros() as u32);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(status), more]);
}

/// Tells the service manager that the program is reading its files again; [`reloaded`] must follow.
pub fn reloading() {
    let _ = sd_notify::NotifyState::monotonic_usec_now()
        .map(|since| sd_notify::notify(&[sd_notify::NotifyState::Reloading, since]));
}

/// Tells the service manager that the program has read its files again.
pub fn reloaded() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}
