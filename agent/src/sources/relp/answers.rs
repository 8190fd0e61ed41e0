//! Answers a client, in order, each message after it is durable.
//!
//! Whatever is durable by the time something can be written goes out in one write. When the
//! client is gone, what is under way is still waited for: another session of the client may have
//! to know when it is durable.

use std::time::Duration;

use pipeline::relp::{frame::write_ok, resend::Place};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt, WriteHalf},
    sync::{Notify, mpsc::UnboundedReceiver, oneshot::error::TryRecvError},
    time::timeout,
};

use super::{flight::Flight, registry::Registry};
use crate::tickets::Settled;

/// How long a client may take to receive answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is answered together.
pub(super) struct Group {
    /// What comes first.
    pub(super) wait: Wait,
    /// The frames.
    pub(super) what: What,
    /// How many bytes of messages they were.
    pub(super) bytes: usize,
}

/// What an answer waits for, beside the answers in front of it.
pub(super) enum Wait {
    Nothing,
    /// New messages.
    Stored(Settled, Place),
    /// Copies.
    Copied(Place),
    /// Something that never comes.
    Forever,
}

pub(super) enum What {
    /// Messages, by their transaction numbers.
    Messages(Vec<u32>),
    /// Something else, as it is written.
    Frames(Vec<u8>),
}

/// Nothing becomes durable any more.
struct Ended;

/// The writing side of a connection.
pub(super) struct Answers<'a, S> {
    groups: UnboundedReceiver<Group>,
    stream: WriteHalf<S>,
    flight: &'a Flight,
    registry: &'a Registry,
    /// Answers that are not written yet.
    out: Vec<u8>,
    /// The client takes no answers any more.
    gone: bool,
}

impl<'a, S: AsyncWrite> Answers<'a, S> {
    pub(super) fn new(
        groups: UnboundedReceiver<Group>,
        stream: WriteHalf<S>,
        flight: &'a Flight,
        registry: &'a Registry,
    ) -> Self {
        Answers { groups, stream, flight, registry, out: Vec::new(), gone: false }
    }

    /// Answers until there is nothing more to come.
    pub(super) async fn run(mut self, lost: &Notify) -> WriteHalf<S> {
        let mut next = self.groups.recv().await;
        while let Some(mut group) = next.take() {
            if self.wait(&mut group.wait).await.is_err() {
                lost.notify_one();
                break;
            }
            self.answer(group);
            while let Ok(mut more) = self.groups.try_recv() {
                match self.is_ready(&mut more.wait) {
                    true => self.answer(more),
                    false => {
                        next = Some(more);
                        break;
                    }
                }
            }
            if self.write().await.is_err() {
                self.gone = true;
                lost.notify_one();
            }
            if next.is_none() {
                next = self.groups.recv().await;
            }
        }
        self.stream
    }

    async fn wait(&mut self, wait: &mut Wait) -> Result<(), Ended> {
        match wait {
            Wait::Nothing => {}
            Wait::Stored(settled, place) => {
                settled.await.map_err(|_| Ended)?;
                self.registry.settle(*place);
            }
            Wait::Copied(place) => self.registry.settled(*place).await,
            Wait::Forever => return Err(Ended),
        }
        *wait = Wait::Nothing;
        Ok(())
    }

    /// True if there is nothing left to wait for.
    fn is_ready(&mut self, wait: &mut Wait) -> bool {
        match wait {
            Wait::Nothing => return true,
            Wait::Stored(settled, place) => match settled.try_recv() {
                Ok(()) => self.registry.settle(*place),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Closed) => {
                    *wait = Wait::Forever;
                    return false;
                }
            },
            Wait::Copied(place) => return self.registry.is_settled(*place),
            Wait::Forever => return false,
        }
        *wait = Wait::Nothing;
        true
    }

    fn answer(&mut self, group: Group) {
        match group.what {
            What::Messages(txnrs) => {
                txnrs.iter().for_each(|txnr| write_ok(&mut self.out, *txnr));
                self.flight.land(txnrs.len(), group.bytes);
            }
            What::Frames(frames) => self.out.extend_from_slice(&frames),
        }
    }

    async fn write(&mut self) -> Result<(), ()> {
        let written = async {
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await
        };
        let result = match self.gone {
            true => Ok(()),
            false => timeout(PATIENCE, written).await.map_err(drop).and_then(|r| r.map_err(drop)),
        };
        self.out.clear();
        result
    }
}
