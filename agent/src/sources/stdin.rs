//! Reads the lines of standard input.
//!
//! What it guarantees: every line is handed over, byte for byte, the last one also without a line
//! feed; a slow pipeline lets whoever writes wait; the end of the input is the source's own end,
//! and then all its lines are durable. What it cannot guarantee: a pipe forgets what was read from
//! it, so what was not durable yet when the agent is killed is lost.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    thread,
};

use pipeline::line::{ChunkOrigin, SourceEvent};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::{
    Outlet, now,
    stats::add,
    stopped,
    tail::split::{Split, split, split_all},
};

/// What the records say of how their lines came.
const TRANSPORT: &str = "stdin";

/// How much is read at a time, in bytes.
const READ: usize = 64 << 10;

/// Within which limits it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StdinConfig {
    /// A longer line is cut into pieces of so many bytes.
    pub max_line: usize,
}

/// How the source ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The input has ended, and everything in it is durable.
    Input,
    /// It was asked to.
    Asked,
    /// It could not go on.
    Failed,
}

/// Starts a thread that reads; the answer is how it ended.
///
/// # Errors
/// When the system has no thread or pipe to give.
pub fn start(config: StdinConfig, outlet: Outlet) -> io::Result<impl Future<Output = End> + Send> {
    let input = rustix::stdio::stdin().try_clone_to_owned()?;
    start_on(input, config, outlet)
}

fn start_on(
    input: OwnedFd,
    config: StdinConfig,
    outlet: Outlet,
) -> io::Result<impl Future<Output = End> + Send> {
    let (wake, waker) = pipe_with(PipeFlags::CLOEXEC)?;
    let (tell, ended) = oneshot::channel();
    let (reader_outlet, max_line) = (outlet.clone(), config.max_line);
    thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut reader = Reader { held: Vec::new(), max_line, outlet: reader_outlet };
        // Whoever does not wait for it does not need to know.
        let _ = tell.send(reader.read_all(&input, &wake));
    })?;
    Ok(async move { finish(ended, waker, outlet).await })
}

/// Waits for the end, or lets it come.
async fn finish(mut ended: oneshot::Receiver<End>, waker: OwnedFd, outlet: Outlet) -> End {
    let mut shutdown = outlet.shutdown.clone();
    let end = tokio::select! {
        end = &mut ended => end,
        () = stopped(&mut shutdown) => {
            drop(waker);
            ended.await
        }
    };
    let end = end.unwrap_or(End::Failed);
    if end != End::Input {
        return end;
    }
    let (ticket, settled) = outlet.tickets.issue();
    let flush = SourceEvent::Flush { source: outlet.id, ticket };
    // Without an answer the agent is stopping for another reason.
    if outlet.events.send(flush).await.is_err() || settled.await.is_err() {
        return End::Asked;
    }
    info!(source = outlet.id.0, "standard input has ended, and all of it is kept");
    End::Input
}

struct Reader {
    /// What was read and not handed over: a line that has not ended.
    held: Vec<u8>,
    max_line: usize,
    outlet: Outlet,
}

impl Reader {
    fn read_all(&mut self, input: &OwnedFd, wake: &OwnedFd) -> End {
        let end = loop {
            match self.read_some(input, wake) {
                Ok(None) => {}
                Ok(Some(end)) => break end,
                Err(error) => {
                    let source = self.outlet.id.0;
                    error!(source, %error, "standard input cannot be read any more");
                    break End::Failed;
                }
            }
        };
        let split = split_all(&self.held, self.max_line);
        match self.hand_over(split) {
            true => end,
            false => End::Asked,
        }
    }

    /// Reads once, and hands over the lines that are whole.
    fn read_some(&mut self, input: &OwnedFd, wake: &OwnedFd) -> Result<Option<End>, Errno> {
        let mut ready = [
            PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Err(Errno::INTR) => return Ok(None),
            polled => polled?,
        };
        if !ready[0].revents().is_empty() {
            return Ok(Some(End::Asked));
        }
        let searched = self.held.len();
        self.held.resize(searched + READ, 0);
        let read = rustix::io::read(input, &mut self.held[searched..]);
        self.held.truncate(searched + read.unwrap_or(0));
        match read {
            Ok(0) => return Ok(Some(End::Input)),
            Ok(_) => {}
            Err(Errno::INTR | Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        let split = split(&self.held, searched, self.max_line);
        Ok((!self.hand_over(split)).then_some(End::Asked))
    }

    /// Hands over lines. False if nobody takes them.
    fn hand_over(&mut self, split: Split) -> bool {
        if split.lines.is_empty() {
            return true;
        }
        let rest = self.held.split_off(split.used);
        let bytes = std::mem::replace(&mut self.held, rest);
        let counts = (split.lines.len(), bytes.len());
        let origin = ChunkOrigin::Sender { peer: None, transport: Some(TRANSPORT) };
        let event = SourceEvent::lines(self.outlet.id, bytes, split.lines, origin, now());
        if self.outlet.events.blocking_send(event).is_err() {
            return false;
        }
        add(&self.outlet.stats.cut_lines, split.cuts);
        self.outlet.stats.handed_over(counts.0, counts.1);
        true
    }
}

#[cfg(test)]
mod tests;
