//! Tells sources when what they handed over is durable.
//!
//! A source that must answer its senders takes a ticket, puts it on a chunk, and
//! waits. The thread that writes the spool settles the ticket after the fdatasync
//! behind the chunk's last line, never before.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use pipeline::line::Ticket;
use tokio::sync::oneshot;

/// Resolves when the ticket's chunk is durable; fails when the agent stops without that.
pub type Settled = oneshot::Receiver<()>;

/// All tickets of this run. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Tickets(Arc<Mutex<Inner>>);

/// As many wait as chunks are under way: the channel to the pipeline and the spool's inbox bound them.
#[derive(Debug, Default)]
struct Inner {
    next: u64,
    ended: bool,
    waiting: BTreeMap<Ticket, oneshot::Sender<()>>,
}

impl Tickets {
    /// A ticket for one chunk, and what to wait for.
    pub fn issue(&self) -> (Ticket, Settled) {
        let (sender, settled) = oneshot::channel();
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = Ticket(inner.next);
        inner.next += 1;
        if !inner.ended {
            inner.waiting.insert(ticket, sender);
        }
        (ticket, settled)
    }

    /// The chunks of these tickets are durable.
    pub fn settle(&self, tickets: &[Ticket]) {
        if tickets.is_empty() {
            return;
        }
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ticket in tickets {
            if let Some(waiting) = inner.waiting.remove(ticket) {
                // Whoever does not wait any more has lost its sender.
                let _ = waiting.send(());
            }
        }
    }

    /// Nothing becomes durable any more.
    pub fn end(&self) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.ended = true;
        inner.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_ever() {
        let tickets = Tickets::default();
        let ((first, mut one), (second, mut two)) = (tickets.issue(), tickets.issue());
        tickets.settle(&[first]);
        assert_eq!(one.try_recv(), Ok(()));
        assert!(two.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
        tickets.end();
        let closed = Err(oneshot::error::TryRecvError::Closed);
        assert_eq!(two.try_recv(), closed);
        assert_eq!(tickets.issue().1.try_recv(), closed, "nor whoever comes later");
        tickets.settle(&[second]);
    }
}
