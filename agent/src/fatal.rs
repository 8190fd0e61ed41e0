//! Why the agent cannot go on, told from any of its threads to the one that ends the process.

use tokio::sync::mpsc;

use crate::uplink::StopReason;

/// The agent must stop. A failed write ends the process; the next start takes the normal path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// Machine: the spool can no longer be written.
    #[error("the spool can no longer be written: {0}")]
    Spool(#[source] journal::Error),
    /// The ledger and this agent's spool contradict each other.
    #[error(transparent)]
    Stop(#[from] StopReason),
    /// This program: a thread ended by a defect.
    #[error("the thread '{0}' failed: this is a defect of the program; its log says where")]
    Thread(&'static str),
    /// A source ended although nobody asked it to.
    #[error("the source '{0}' ended unexpectedly; its log says why")]
    Source(String),
}

/// Tells that the agent cannot go on.
#[derive(Clone, Debug)]
pub struct Alarm(mpsc::Sender<Fatal>);

/// Where alarms arrive.
pub type Alarms = mpsc::Receiver<Fatal>;

impl Alarm {
    /// An alarm, and where it arrives.
    pub fn pair() -> (Alarm, Alarms) {
        // One reason is enough to stop; those behind it follow from it.
        let (sender, receiver) = mpsc::channel(4);
        (Alarm(sender), receiver)
    }

    /// The agent must stop.
    pub fn raise(&self, fatal: Fatal) {
        let _ = self.0.try_send(fatal);
    }

    /// Raises the alarm if the current thread panics while the guard lives.
    pub fn guard(&self, thread: &'static str) -> Guard<'_> {
        Guard { alarm: self, thread }
    }
}

/// See [`Alarm::guard`].
#[derive(Debug)]
pub struct Guard<'a> {
    alarm: &'a Alarm,
    thread: &'static str,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.alarm.raise(Fatal::Thread(self.thread));
        }
    }
}
