//! Receives syslog by UDP from old devices, through a relay on this machine: on loopback only.
//!
//! What it guarantees: every datagram that the system kept for it is handed over, and marked as
//! what it is, from nobody knows whom; datagrams that the system dropped because the receive
//! buffer was full are counted, and said with an error. UDP holds back no sender: while the
//! pipeline is slow the buffer fills, and then it loses. Nothing on this way proves anything about
//! a sender: whoever may send packets on this machine can write such a line.

use std::{io, net::SocketAddr, os::fd::AsFd, sync::atomic::Ordering::Relaxed, time::Duration};

use nix::sys::socket::{
    getsockopt, setsockopt,
    sockopt::{RcvBuf, RcvBufForce},
};
use pipeline::MAX_LINE;
use tokio::{net::UdpSocket, time::timeout};
use tracing::{error, warn};

use super::{Outlet, datagram::Datagrams, stats::add};

/// What the records say of how their lines came.
pub const TRANSPORT: &str = "udp-unauthenticated";

/// How often it is looked whether the system dropped something.
const LOOK: Duration = Duration::from_secs(1);

/// Where to receive, and how much may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpConfig {
    /// The address and port; loopback.
    pub listen: SocketAddr,
    /// How many bytes of datagrams the system is asked to keep while nobody takes them.
    pub receive_buffer: usize,
}

/// The address cannot be received on.
#[derive(Debug, thiserror::Error)]
#[error("cannot receive on {address} by UDP: {error}")]
pub struct BindError {
    address: SocketAddr,
    /// What the system said.
    #[source]
    pub error: io::Error,
}

/// Makes the socket.
///
/// # Errors
/// When the address is in use, is not this machine's, or needs a privilege.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn bind(config: &UdpConfig) -> Result<UdpSocket, BindError> {
    let bound = || {
        let socket = std::net::UdpSocket::bind(config.listen)?;
        socket.set_nonblocking(true)?;
        enlarge(&socket, config.receive_buffer);
        UdpSocket::from_std(socket)
    };
    bound().map_err(|error| BindError { address: config.listen, error })
}

/// Asks for a large buffer, beyond what is allowed to everybody if this program may, and says so
/// in the log if the system gives less.
pub(crate) fn enlarge(socket: &impl AsFd, bytes: usize) {
    let _ = setsockopt(socket, RcvBufForce, &bytes).or_else(|_| setsockopt(socket, RcvBuf, &bytes));
    // The system answers with twice the size: it counts its own use in.
    let got = getsockopt(socket, RcvBuf).unwrap_or_default() / 2;
    if got < bytes {
        warn!(
            wanted = bytes,
            got, "the receive buffer for UDP is smaller than configured: raise net.core.rmem_max"
        );
    }
}

/// Receives until it is to stop.
pub async fn serve(socket: UdpSocket, outlet: Outlet) {
    let mut drops = Drops::new(&socket, &outlet);
    {
        let datagrams = Datagrams::new(&socket, TRANSPORT, MAX_LINE, outlet.clone());
        let mut serving = std::pin::pin!(datagrams.serve(|| ()));
        while timeout(LOOK, &mut serving).await.is_err() {
            drops.look();
        }
    }
    drops.look();
}

/// What the system dropped.
struct Drops<'a> {
    outlet: &'a Outlet,
    /// The socket, as the system's table names it.
    inode: Option<u64>,
    /// How much was received at the last look, and dropped.
    received: u64,
    dropped: u64,
}

impl<'a> Drops<'a> {
    fn new(socket: &UdpSocket, outlet: &'a Outlet) -> Self {
        let inode = rustix::fs::fstat(socket).map(|found| found.st_ino).ok();
        Drops { outlet, inode, received: 0, dropped: 0 }
    }

    /// Counts and names what was dropped since the last look. While nothing is received nothing
    /// can have been: there is room.
    fn look(&mut self) {
        let received = self.outlet.stats.chunks.load(Relaxed);
        if std::mem::replace(&mut self.received, received) == received {
            return;
        }
        let source = self.outlet.id.0;
        let Some(dropped) = self.inode.and_then(dropped) else {
            if self.inode.take().is_some() {
                warn!(source, "this system does not tell what it drops: it is not counted");
            }
            return;
        };
        let lost = dropped.saturating_sub(std::mem::replace(&mut self.dropped, dropped));
        if lost > 0 {
            add(&self.outlet.stats.lost_messages, lost);
            error!(
                source,
                lost,
                "datagrams were lost: they came faster than they could be taken; \
                 slow the senders down, raise receive_buffer_kib, or use another kind of source"
            );
        }
    }
}

/// How many datagrams the system has dropped at a socket, by its own table. None if it does not tell.
pub(crate) fn dropped(inode: u64) -> Option<u64> {
    ["/proc/self/net/udp", "/proc/self/net/udp6"]
        .iter()
        .find_map(|table| find_drops(&std::fs::read_to_string(table).ok()?, inode))
}

/// The last column of the socket's row.
fn find_drops(table: &str, inode: u64) -> Option<u64> {
    table.lines().skip(1).find_map(|row| {
        let mut columns = row.split_ascii_whitespace().skip(9);
        let found = columns.next()?.parse() == Ok(inode);
        found.then(|| columns.last()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sources::{Phase, SourceStats},
        tickets::Tickets,
    };
    use pipeline::line::{ChunkOrigin, SourceEvent, SourceId};
    use std::sync::Arc;
    use tokio::sync::{mpsc, watch};

    const BOUND: Duration = Duration::from_secs(30);

    #[test]
    fn the_kernels_count_of_dropped_datagrams_is_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n \
             3571: 0100007F:158A 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 51234 2 0000000000000000 17\n";
        assert_eq!(find_drops(table, 51_234), Some(17));
        assert_eq!(find_drops(table, 51_235), None);
    }

    #[tokio::test]
    async fn what_the_system_drops_is_counted_and_the_rest_is_whole() {
        let config = UdpConfig { listen: ([127, 0, 0, 1], 0).into(), receive_buffer: 64 << 10 };
        let socket = bind(&config).unwrap();
        let (address, inode) = (socket.local_addr().unwrap(), rustix::fs::fstat(&socket).unwrap());
        let (events, mut rx) = mpsc::channel(8);
        let (stop, shutdown) = watch::channel(Phase::Run);
        let (stats, tickets) = (Arc::new(SourceStats::default()), Tickets::default());
        let outlet =
            Outlet { id: SourceId(1), events, shutdown, stats: Arc::clone(&stats), tickets };
        // Nobody receives yet, so the buffer fills.
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let message = [&b"<13>"[..], &[b'x'; 4000]].concat();
        let (mut sent, mut lost) = (0, 0);
        while lost < 10 {
            sender.send_to(&message, address).unwrap();
            sent += 1;
            lost = dropped(inode.st_ino).unwrap();
        }
        let serving = tokio::spawn(serve(socket, outlet));
        let mut received = 0;
        while received < sent - lost {
            let event = timeout(BOUND, rx.recv()).await.unwrap().unwrap();
            let SourceEvent::Chunk(chunk) = event else { panic!("{event:?}") };
            let origin = ChunkOrigin::Sender { peer: None, transport: Some(TRANSPORT) };
            assert_eq!(chunk.origin, origin);
            assert!(chunk.iter().all(|line| line == message));
            received += chunk.lines.len() as u64;
        }
        stop.send_replace(Phase::Stop);
        timeout(BOUND, serving).await.unwrap().unwrap();
        assert_eq!(received, sent - lost);
        assert_eq!(stats.lost_messages.load(Relaxed), lost);
    }
}
