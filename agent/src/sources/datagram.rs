//! Receives datagrams, each of them a message, until the source is to stop.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg},
    unistd::close,
};
use tokio::{
    io::Interest,
    net::{UdpSocket, UnixDatagram},
    select,
    time::sleep,
};
use tracing::{error, info, warn};

use super::{
    Outlet,
    gather::{Gather, Gone},
    stats::add,
    stopped,
};

/// The longest datagram that can be received, in bytes. The system gives memory for what is used
/// of it, and lets no sender without privileges send more than a fraction.
const ROOM: usize = 4 << 20;

/// As many descriptors as the system passes along with a datagram (SCM_MAX_FD). There must be room
/// for them: a sender that passes some would otherwise not be named.
const MAX_DESCRIPTORS: usize = 253;

/// For how long a stop goes on receiving what has come already.
const DRAIN: Duration = Duration::from_secs(1);

/// How long it pauses when the system reports a fault of the socket.
const PAUSE: Duration = Duration::from_secs(1);

/// A socket for datagrams.
pub(super) trait Socket: AsRawFd + Sync {
    /// Waits until there is one.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    /// Tries to take one; if there is none, the socket is not readable any more.
    fn try_io<T>(&self, take: impl FnOnce() -> io::Result<T>) -> io::Result<T>;
}

impl Socket for UnixDatagram {
    async fn readable(&self) -> io::Result<()> {
        self.readable().await
    }

    fn try_io<T>(&self, take: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.try_io(Interest::READABLE, take)
    }
}

impl Socket for UdpSocket {
    async fn readable(&self) -> io::Result<()> {
        self.readable().await
    }

    fn try_io<T>(&self, take: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.try_io(Interest::READABLE, take)
    }
}

/// Receives from one socket.
pub(super) struct Datagrams<'a, S: Socket> {
    socket: &'a S,
    gather: Gather,
    room: Vec<u8>,
    control: Vec<u8>,
    /// The newest sender, and how it is written.
    last: Option<(Sender, Arc<str>)>,
    outlet: Outlet,
    failing: bool,
    stopping: bool,
}

/// A program's user and process; 0 if this one cannot see it, as from inside of a container.
type Sender = (u32, i32);

/// One datagram, in the buffer it was received into.
struct Received {
    len: usize,
    sender: Option<Sender>,
    /// True if there was more of it.
    cut: bool,
}

/// Why nothing can be received.
enum End {
    /// Nobody takes it.
    Gone,
    /// The system's fault.
    Failed(io::Error),
}

impl From<Gone> for End {
    fn from(Gone: Gone) -> Self {
        End::Gone
    }
}

/// Who a program is, by the system's word.
pub(super) fn program(uid: u32, pid: Option<i32>) -> Arc<str> {
    match pid.filter(|pid| *pid != 0) {
        Some(pid) => format!("uid={uid},pid={pid}").into(),
        None => format!("uid={uid}").into(),
    }
}

impl<'a, S: Socket> Datagrams<'a, S> {
    /// Messages of more than `max_message` bytes are cut into pieces.
    pub(super) fn new(
        socket: &'a S,
        transport: &'static str,
        max_message: usize,
        outlet: Outlet,
    ) -> Self {
        Datagrams {
            socket,
            gather: Gather::new(transport, max_message),
            room: vec![0; ROOM],
            control: cmsg_space!(UnixCredentials, [RawFd; MAX_DESCRIPTORS]),
            last: None,
            outlet,
            failing: false,
            stopping: false,
        }
    }

    /// Receives until the source is to stop; then calls `stopping`, and takes what has come.
    pub(super) async fn serve(mut self, stopping: impl FnOnce()) {
        let mut shutdown = self.outlet.shutdown.clone();
        loop {
            let ready = select! {
                biased;
                () = stopped(&mut shutdown) => break,
                ready = self.socket.readable() => ready,
            };
            let result = match ready {
                Ok(()) => self.receive_some().await,
                Err(error) => Err(End::Failed(error)),
            };
            match result {
                Ok(_) => self.recovered(),
                Err(End::Gone) => return,
                Err(End::Failed(error)) => {
                    self.failed(&error);
                    sleep(PAUSE).await;
                }
            }
        }
        stopping();
        self.stopping = true;
        self.drain().await;
    }

    async fn drain(&mut self) {
        let until = Instant::now() + DRAIN;
        while let Ok(true) = self.receive_some().await {
            if Instant::now() >= until {
                let source = self.outlet.id.0;
                warn!(source, "somebody goes on sending: what comes now is lost");
                break;
            }
        }
    }

    /// Receives and hands over up to about a chunk. False if nothing more was there.
    async fn receive_some(&mut self) -> Result<bool, End> {
        let mut more = true;
        while more && !self.gather.is_full() {
            let socket = self.socket.as_raw_fd();
            let mut take =
                || receive(socket, &mut self.room, &mut self.control).map_err(Into::into);
            // At the end the socket itself is asked: the runtime may not have heard of the newest.
            let received = if self.stopping { take() } else { self.socket.try_io(take) };
            match received {
                Ok(received) => self.take(&received).await?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => more = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.gather.hand_over(&self.outlet).await?;
                    return Err(End::Failed(error));
                }
            }
        }
        self.gather.hand_over(&self.outlet).await?;
        Ok(more)
    }

    async fn take(&mut self, received: &Received) -> Result<(), Gone> {
        if let Some(sender @ (uid, pid)) = received.sender
            && self.last.as_ref().is_none_or(|(last, _)| *last != sender)
        {
            self.last = Some((sender, program(uid, Some(pid))));
        }
        let peer = received.sender.and(self.last.as_ref()).map(|(_, peer)| peer);
        if received.cut {
            add(&self.outlet.stats.lost_messages, 1);
            let source = self.outlet.id.0;
            error!(source, ?peer, limit = ROOM, "the end of a datagram is lost: it was too long");
        }
        self.gather.take(peer, &self.room[..received.len], &self.outlet).await
    }

    fn failed(&mut self, error: &io::Error) {
        add(&self.outlet.stats.read_errors, 1);
        if !std::mem::replace(&mut self.failing, true) {
            let source = self.outlet.id.0;
            error!(source, %error, "the socket cannot be read: it is tried again every second");
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            info!(source = self.outlet.id.0, "the socket can be read again");
        }
    }
}

fn receive(socket: RawFd, room: &mut [u8], control: &mut [u8]) -> Result<Received, Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let len = room.len();
    let mut room = [IoSliceMut::new(room)];
    let received = recvmsg::<()>(socket, &mut room, Some(control), flags)?;
    let mut sender = None;
    for message in received.cmsgs().into_iter().flatten() {
        match message {
            ControlMessageOwned::ScmCredentials(who) => sender = Some((who.uid(), who.pid())),
            // Nobody was asked for them. An error says that it is not open, which is as well.
            ControlMessageOwned::ScmRights(descriptors) => {
                for descriptor in descriptors {
                    let _ = close(descriptor);
                }
            }
            _ => {}
        }
    }
    let cut = received.flags.contains(MsgFlags::MSG_TRUNC);
    Ok(Received { len: received.bytes.min(len), sender, cut })
}
