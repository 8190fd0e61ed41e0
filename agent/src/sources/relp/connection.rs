//! The reading side of a connection: frames in, messages judged, stored, and queued for answers.

use std::io;

use pipeline::{
    line::{Chunk, ChunkOrigin, LineSpan},
    relp::{
        frame::{Frame, RelpDecoder, write_answer, write_server_close},
        resend::{Digest, Place, Verdict},
        session::{OPENED, Session, SessionError, Step, refuse},
    },
};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadHalf},
    select,
    sync::{Notify, SemaphorePermit, mpsc::UnboundedSender},
    time::{Instant, sleep, sleep_until},
};
use tracing::warn;

use super::{
    Client, Door, MAX_WAITING, MAX_WAITING_BYTES, PIECE,
    answers::{Group, Wait, What},
    flight::Flight,
    registry::{Handle, NotTaken},
};
use crate::sources::{Shutdown, now, stats::add, stopped};

/// How much is read at a time, in bytes.
const READ: usize = 64 << 10;

/// How much of a buffer is not counted against the budget, in bytes.
const FREE: usize = 2 * READ;

/// The same for a client that has been idle.
const IDLE_READ: usize = 4 << 10;

/// The records of clients without a certificate say so.
const PLAIN: &str = "relp-loopback";

/// Why a connection ended.
pub(super) enum End {
    /// The client closed its session.
    Closed,
    /// The connection ended or failed.
    Gone(Option<io::Error>),
    /// The client broke the rules.
    Broken(SessionError),
    /// The client did not do this in time.
    Late(&'static str),
    /// Another connection goes on with the session.
    Replaced,
    /// We are to stop.
    Stopped,
}

/// A message that was received.
#[derive(Clone, Copy)]
struct Message {
    txnr: u32,
    line: LineSpan,
    digest: Digest,
}

pub(super) struct Connection<'a, S> {
    door: &'a Door,
    stream: ReadHalf<S>,
    client: Client,
    handle: Handle,
    flight: &'a Flight,
    /// The answering side has lost the client.
    lost: &'a Notify,
    queue: UnboundedSender<Group>,
    shutdown: Shutdown,
    decoder: RelpDecoder,
    session: Session,
    /// Received and neither stored nor known as copies; they lie in the decoder's buffer.
    messages: Vec<Message>,
    /// So many of them are held.
    held: usize,
    /// Nothing was stored or recognised yet.
    fresh: bool,
    budget: Option<SemaphorePermit<'a>>,
    /// What must happen by when.
    due: Option<(Instant, &'static str)>,
}

impl<'a, S: AsyncRead> Connection<'a, S> {
    pub(super) fn new(
        door: &'a Door,
        stream: ReadHalf<S>,
        client: Client,
        handle: Handle,
        (flight, lost): (&'a Flight, &'a Notify),
        queue: UnboundedSender<Group>,
    ) -> Self {
        Connection {
            door,
            stream,
            client,
            handle,
            flight,
            lost,
            queue,
            shutdown: door.outlet.shutdown.clone(),
            decoder: RelpDecoder::new(door.config.max_message),
            session: Session::default(),
            messages: Vec::new(),
            held: 0,
            fresh: true,
            budget: None,
            due: Some((Instant::now() + door.config.patience, "open a session")),
        }
    }

    /// The stream, when [`Connection::run`] has returned. Lets the answering side end.
    pub(super) fn into_stream(self) -> ReadHalf<S> {
        self.stream
    }

    /// Receives to the connection's end.
    pub(super) async fn run(&mut self) -> End {
        loop {
            let end = match self.receive().await {
                Ok(()) => self.process().await.err(),
                Err(end) => Some(end),
            };
            if let Some(end) = end {
                self.farewell(&end);
                return end;
            }
        }
    }

    /// Reads once, when there is room; or gives up what is held.
    async fn receive(&mut self) -> Result<(), End> {
        self.wait_for_room().await?;
        // What is held is decided by silence, too.
        let silence = (self.held > 0).then(|| Instant::now() + self.door.config.undecided);
        let (decoder, stream) = (&mut self.decoder, &mut self.stream);
        let due = self.due;
        let read = select! {
            biased;
            () = stopped(&mut self.shutdown) => return Err(End::Stopped),
            () = self.handle.replaced.notified() => return Err(End::Replaced),
            () = self.lost.notified() => return Err(End::Gone(None)),
            read = stream.read_buf(decoder.buffer()) => read,
            () = until(silence) => return self.give_up().await,
            () = until(due.map(|due| due.0)) => {
                return Err(End::Late(due.map_or("go on", |due| due.1)));
            }
        };
        match read {
            Ok(0) => return Err(End::Gone(None)),
            Ok(_) => {}
            // Some clients end without saying so in TLS.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(End::Gone(None));
            }
            Err(error) => return Err(End::Gone(Some(error))),
        }
        // Without this a client that waits for our acknowledgement before it sends its next small
        // segment waits for the kernel's patience. It has to be said after each read.
        let _ = sockopt::set_tcp_quickack(&self.client.socket, true);
        Ok(())
    }

    /// Makes room to receive: not too much without an answer, and within the budget.
    async fn wait_for_room(&mut self) -> Result<(), End> {
        let too_many = self.held >= MAX_WAITING || self.decoder.consumed() >= MAX_WAITING_BYTES;
        if self.held > 0 && too_many {
            self.give_up().await?;
        }
        loop {
            let has = self.decoder.bytes().len();
            let idle = self.decoder.buffer().capacity() <= IDLE_READ && has == 0;
            let wanted = self.decoder.needs().max(has + if idle { IDLE_READ } else { READ });
            let had = self.budget.as_ref().map_or(0, SemaphorePermit::num_permits);
            let more = wanted.saturating_sub(FREE).div_ceil(PIECE).saturating_sub(had);
            if (more == 0 && !self.flight.is_full()) || self.acquire(more).await? {
                self.decoder.buffer().reserve_exact(wanted - has);
                return Ok(());
            }
            self.give_up().await?;
        }
    }

    /// Takes so many pieces of the budget when there is room for what is received into them.
    /// False if it took too long while messages are held: others may wait for what those occupy.
    async fn acquire(&mut self, pieces: usize) -> Result<bool, End> {
        let (door, flight, held) = (self.door, self.flight, self.held > 0);
        let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
        let permit = select! {
            biased;
            () = stopped(&mut self.shutdown) => return Err(End::Stopped),
            () = self.handle.replaced.notified() => return Err(End::Replaced),
            () = self.lost.notified() => return Err(End::Gone(None)),
            permit = async {
                flight.room().await;
                door.budget.acquire_many(pieces).await
            } => permit.map_err(|_| End::Stopped)?,
            () = sleep(door.config.patience), if held => return Ok(false),
        };
        match &mut self.budget {
            Some(budget) => budget.merge(permit),
            budget => *budget = Some(permit),
        }
        // That was our time, not the client's.
        let fresh = Instant::now() + self.door.config.patience;
        self.due = self.due.map(|(_, what)| (fresh, what));
        Ok(true)
    }

    /// Takes what was received as far as it is whole.
    async fn process(&mut self) -> Result<(), End> {
        let before = self.decoder.consumed();
        let mut ended = Ok(());
        while ended.is_ok() {
            ended = match self.decoder.next_frame() {
                None => break,
                Some(Ok(frame)) => self.frame(&frame).await,
                Some(Err(error)) => {
                    let mut out = Vec::new();
                    if let Some(txnr) = error.txnr() {
                        refuse(&mut out, txnr, &error.into());
                    }
                    self.take_over().await.map(|()| self.frames(out))?;
                    Err(End::Broken(error.into()))
                }
            };
        }
        if self.session.is_open() && self.decoder.consumed() != before {
            self.due = None;
        }
        // Whatever ends the connection: what came in front of it counts.
        self.take_over().await?;
        if self.decoder.needs() > 0 && self.due.is_none() {
            self.due = Some((Instant::now() + self.door.config.patience, "finish a frame"));
        }
        ended
    }

    async fn frame(&mut self, frame: &Frame) -> Result<(), End> {
        let data = frame.data.of(self.decoder.bytes());
        match self.session.handle(frame, data) {
            Ok(Step::Message) => {
                let line = LineSpan {
                    end: frame.data.end - u32::from(data.last() == Some(&b'\n')),
                    ..frame.data
                };
                let digest = Digest::of(line.of(self.decoder.bytes()));
                self.messages.push(Message { txnr: frame.txnr, line, digest });
                Ok(())
            }
            Ok(Step::Opened) => {
                let mut out = Vec::new();
                write_answer(&mut out, frame.txnr, OPENED);
                self.frames(out);
                Ok(())
            }
            Ok(Step::Close) => {
                self.take_over().await?;
                self.give_up().await?;
                let mut out = Vec::new();
                write_answer(&mut out, frame.txnr, "");
                self.frames(out);
                Err(End::Closed)
            }
            Err(error) => {
                self.take_over().await?;
                let mut out = Vec::new();
                refuse(&mut out, frame.txnr, &error);
                self.frames(out);
                Err(End::Broken(error))
            }
        }
    }

    /// Judges what was received, and stores what is new.
    async fn take_over(&mut self) -> Result<(), End> {
        while self.held < self.messages.len() {
            let waiting = self.messages[self.held..].iter().map(|message| message.digest);
            let (judged, verdict) = self.door.registry.judge(&self.handle, waiting);
            self.held += judged;
            match verdict {
                // What is not judged as anything else is new, down to the last.
                Verdict::New => self.decided(0, None).await?,
                Verdict::Undecided => {}
                Verdict::Copies { count, original, .. } => self.decided(count, original).await?,
                Verdict::Replaced => return Err(End::Replaced),
            }
        }
        if self.messages.is_empty() {
            self.decoder.discard();
            self.relax();
        }
        Ok(())
    }

    /// Stores what is held, unless it is known by now to be copies.
    async fn give_up(&mut self) -> Result<(), End> {
        if self.held == 0 {
            return Ok(());
        }
        let held = self.held;
        match self.door.registry.give_up(&self.handle) {
            Verdict::Copies { count, original, .. } => {
                if count < held {
                    let (source, peer) = (self.door.outlet.id.0, &self.client.name);
                    let messages = held - count;
                    add(&self.door.outlet.stats.doubtful_messages, messages as u64);
                    warn!(
                        source, %peer, messages,
                        "a RELP client began as if it sent again what is stored, and stopped in \
                         the middle: these messages may be stored twice"
                    );
                }
                self.decided(count, original).await?;
            }
            Verdict::Replaced => return Err(End::Replaced),
            Verdict::New | Verdict::Undecided => self.decided(0, None).await?,
        }
        self.take_over().await
    }

    /// Of the messages held the first so many are copies, the others are new.
    async fn decided(&mut self, copies: usize, original: Option<Place>) -> Result<(), End> {
        let held = std::mem::take(&mut self.held);
        let first = std::mem::take(&mut self.fresh);
        if let Some(place) = original {
            add(&self.door.outlet.stats.resent_messages, copies as u64);
            let copied = &self.messages[..copies];
            let (txnrs, bytes) = (numbers(copied), size(copied));
            self.flight.rise(txnrs.len(), bytes);
            self.queue(Group { wait: Wait::Copied(place), what: What::Messages(txnrs), bytes });
        } else if first {
            self.door.registry.missed(&self.handle).await;
        }
        if copies < held {
            self.store(copies..held).await?;
        }
        self.messages.drain(..held);
        Ok(())
    }

    async fn store(&mut self, range: std::ops::Range<usize>) -> Result<(), End> {
        let stored = &self.messages[range];
        let digests: Vec<Digest> = stored.iter().map(|message| message.digest).collect();
        let (txnrs, size) = (numbers(stored), size(stored));
        let (bytes, lines) = cut_out(self.decoder.bytes(), stored);
        let peer = self.client.peer.clone();
        let transport = if peer.is_some() { None } else { Some(PLAIN) };
        let chunk = Chunk {
            source: self.door.outlet.id,
            bytes,
            lines,
            origin: ChunkOrigin::Sender { peer, transport },
            received: now(),
            bookmark: None,
            ticket: None,
        };
        let storing = self.door.registry.store(&self.handle, chunk, &digests);
        let (settled, place) = storing.await.map_err(|reason| match reason {
            NotTaken::Replaced => End::Replaced,
            NotTaken::Stopped => End::Stopped,
        })?;
        self.flight.rise(txnrs.len(), size);
        let (wait, what) = (Wait::Stored(settled, place), What::Messages(txnrs));
        self.queue(Group { wait, what, bytes: size });
        Ok(())
    }

    /// Gives back memory that is not needed any more.
    fn relax(&mut self) {
        if self.decoder.needs() <= FREE {
            let buffer = self.decoder.buffer();
            if buffer.capacity() > FREE {
                buffer.shrink_to(READ);
            }
            self.budget = None;
        }
    }

    fn frames(&self, frames: Vec<u8>) {
        self.queue(Group { wait: Wait::Nothing, what: What::Frames(frames), bytes: 0 });
    }

    fn queue(&self, group: Group) {
        // The answering side lives as long as this one, unless nothing is answered any more.
        let _ = self.queue.send(group);
    }

    fn farewell(&self, end: &End) {
        if matches!(end, End::Closed | End::Broken(_) | End::Stopped | End::Late(_)) {
            let mut out = Vec::new();
            write_server_close(&mut out);
            self.frames(out);
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn numbers(messages: &[Message]) -> Vec<u32> {
    messages.iter().map(|message| message.txnr).collect()
}

fn size(messages: &[Message]) -> usize {
    messages.iter().map(|message| (message.line.next - message.line.start) as usize).sum()
}

/// The part of a buffer that messages lie in, and where they lie in that.
fn cut_out(buffer: &[u8], messages: &[Message]) -> (Vec<u8>, Vec<LineSpan>) {
    let (Some(first), Some(last)) = (messages.first(), messages.last()) else {
        return (Vec::new(), Vec::new());
    };
    let base = first.line.start;
    let bytes = buffer[base as usize..last.line.next as usize].to_vec();
    let moved = |line: LineSpan| LineSpan {
        start: line.start - base,
        end: line.end - base,
        next: line.next - base,
    };
    (bytes, messages.iter().map(|message| moved(message.line)).collect())
}
