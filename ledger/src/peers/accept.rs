//! Connections that peers dialled: who may, and taking in what they send.

use super::{Incoming, Shared, error::PeerError, wire};
use crate::listen::accept_all;
use link::{
    Identity,
    peer::{
        Lane, MAX_BULK, PEER_PROTOCOL, PeerAnswer, PeerHello, PeerRefusal, PeerRefused, PeerWelcome,
    },
    tls::Fault,
};
use record::{Hash, NodeName};
use service::signals::Shutdown;
use std::{collections::HashMap, net::SocketAddr, sync::Arc};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, timeout},
};
use wire::Wire;

/// Connections whose greeting is not over yet, at one time. Those that are greeted have seats.
const MAX_UNKNOWN: usize = 256;

/// What a peer may have in an inlet: bytes, and the least that a frame counts as, which bounds their
/// number too. At least two of the largest frames, so that one can be read while one is worked on.
fn share(lane: Lane) -> (usize, usize) {
    match lane {
        Lane::Control => (2 << 20, (2 << 20) / 512),
        Lane::Bulk => (24 << 20, (24 << 20) / 64),
    }
}

/// The one place for a peer's connection of one lane.
struct Seat {
    /// Counts who came; only the newest may stay.
    newest: watch::Sender<u64>,
    taken: Arc<Mutex<()>>,
    share: Arc<Semaphore>,
}

/// A seat that a connection has.
struct Taken<'s> {
    seat: &'s Seat,
    number: u64,
    _guard: OwnedMutexGuard<()>,
}

/// What all connections share.
struct Door {
    shared: Arc<Shared>,
    seats: HashMap<NodeName, [Seat; 2]>,
}

/// Accepts peers until shutdown.
pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener, shutdown: Shutdown) {
    let own = &shared.settings.own;
    let peers = shared.settings.peers.iter().filter(|peer| peer.name != *own);
    let seats = peers.map(|peer| (peer.name.clone(), Lane::ALL.map(Seat::new))).collect();
    let door = Arc::new(Door { shared, seats });
    let full = |_| door.shared.metrics.peers.refused("too-many-connections");
    let serve = |stream, address, permit| {
        let door = Arc::clone(&door);
        async move { door.serve(stream, address, permit).await }
    };
    let failed = "a connection of a node could not be accepted";
    accept_all(listener, shutdown, MAX_UNKNOWN, failed, full, serve).await;
}

impl Door {
    async fn serve(&self, stream: TcpStream, address: SocketAddr, unknown: OwnedSemaphorePermit) {
        let Shared { metrics, report, settings, server, .. } = &*self.shared;
        let (stream, identity) =
            match link::tls::accept(stream, server, settings.timings.handshake).await {
                Ok(accepted) => accepted,
                Err(error) => {
                    metrics.peers.refused(error.problem.label());
                    let who = address.ip().to_string();
                    return report.problem(&who, "refused a connection", &error.into());
                }
            };
        let who = format!("{identity} at {}", address.ip());
        let mut wire = Wire::new(stream, MAX_BULK);
        let (seat, peer, lane) = match self.greet(&mut wire, &identity).await {
            Ok(greeted) => greeted,
            Err(error) => {
                metrics.peers.refused(error.label());
                return report.problem(&who, "refused a connection", &error);
            }
        };
        drop(unknown);
        let began = Instant::now();
        let _connected = metrics.peers.connected(lane, "in");
        let ended = self.receive(wire, &seat, &peer, lane).await;
        if began.elapsed() > settings.timings.silence {
            report.well(&who);
        }
        match ended {
            Ok(()) => tracing::debug!(%peer, %lane, "a node's connection ended"),
            Err(error @ PeerError::Replaced) => tracing::debug!(%peer, %lane, %error),
            Err(error) => {
                if error.fault() == Fault::Peer {
                    metrics.peers.violation(&peer);
                }
                report.problem(&who, "closed a node's connection", &error);
            }
        }
    }

    /// Reads the greeting, answers it, and waits until the peer's older connection is gone.
    async fn greet<'s>(
        &'s self,
        wire: &mut Wire,
        identity: &Identity,
    ) -> Result<(Taken<'s>, NodeName, Lane), PeerError> {
        let limit = self.shared.settings.timings.handshake;
        let silent = |_| PeerError::Silent(limit);
        let hello = timeout(limit, wire.reader.receive::<PeerHello>()).await.map_err(silent)?;
        let hello = hello?.ok_or(PeerError::Ended)?;
        let (peer, seats) = match self.judge(&hello, identity) {
            Ok(known) => known,
            Err(refused) => {
                self.refuse(wire, refused.clone()).await;
                return Err(PeerError::NotTaken(refused));
            }
        };
        let seat = timeout(limit, seats[hello.lane as usize].take()).await.map_err(silent)??;
        wire.reader.set_max(hello.lane.max_frame());
        let version = self.shared.settings.version.clone();
        let welcome = PeerAnswer::Welcome(PeerWelcome { version });
        let answered = timeout(limit, answer(wire, &welcome)).await.map_err(silent)?;
        answered?;
        Ok((seat, peer, hello.lane))
    }

    /// Whether this peer may send to us.
    fn judge(
        &self,
        hello: &PeerHello,
        identity: &Identity,
    ) -> Result<(NodeName, &[Seat; 2]), PeerRefused> {
        let settings = &self.shared.settings;
        let own = &settings.own;
        let refuse = |code, message| Err(PeerRefused { code, message });
        if hello.protocol != PEER_PROTOCOL {
            let message = format!(
                "{own} speaks protocol {PEER_PROTOCOL} with other nodes, {identity} {}: install \
                 the same version on both",
                hello.protocol
            );
            return refuse(PeerRefusal::Protocol, message);
        }
        if hello.origin != settings.origin.as_str() {
            let message = format!(
                "{own} belongs to the ledger '{}', {identity} to '{}': one of them has the wrong \
                 'origin' or the wrong address of the other",
                settings.origin,
                hello.origin.chars().take(200).collect::<String>()
            );
            return refuse(PeerRefusal::Origin, message);
        }
        let known = identity.node().and_then(|name| self.seats.get_key_value(&name));
        let Some((peer, seats)) = known else {
            let message = format!(
                "the members file of {own} names no other node '{}': correct the file, which must \
                 be the same on all nodes, or the certificate's name",
                identity.name
            );
            return refuse(PeerRefusal::Unknown, message);
        };
        if hello.membership != settings.membership.0 {
            let message = format!(
                "the members file of {own} (digest {}) is not that of {identity} (digest {}): copy \
                 the right one to both, then restart the one that had the wrong one",
                settings.membership,
                Hash(hello.membership)
            );
            return refuse(PeerRefusal::Membership, message);
        }
        Ok((peer.clone(), seats))
    }

    /// Says why, and holds the connection until that has been read, within a bound.
    async fn refuse(&self, wire: &mut Wire, refused: PeerRefused) {
        let farewell = async {
            // Whether the peer hears it is its own affair.
            let _ = answer(wire, &PeerAnswer::Refused(refused)).await;
            let _ = wire.reader.next().await;
        };
        let _ = timeout(self.shared.settings.timings.handshake, farewell).await;
    }

    /// Takes in frames until the peer ends the connection, or one of us must.
    async fn receive(
        &self,
        mut wire: Wire,
        seat: &Taken<'_>,
        peer: &NodeName,
        lane: Lane,
    ) -> Result<(), PeerError> {
        let timings = &self.shared.settings.timings;
        tokio::select! {
            ended = self.take_in(&mut wire.reader, seat, peer, lane) => ended,
            lost = wire::beat_on(wire.writer, timings.beat) => Err(lost),
            () = seat.replaced() => Err(PeerError::Replaced),
            () = sleep(timings.oldest) => Err(PeerError::TooOld(timings.oldest)),
        }
    }

    async fn take_in(
        &self,
        reader: &mut wire::Frames,
        seat: &Taken<'_>,
        peer: &NodeName,
        lane: Lane,
    ) -> Result<(), PeerError> {
        let silence = self.shared.settings.timings.silence_on(lane);
        let inlet = self.shared.inlets.of(lane);
        let received = self.shared.metrics.peers.received(peer);
        loop {
            let next = timeout(silence, reader.next()).await;
            let Some(frame) = next.map_err(|_| PeerError::Silent(silence))?? else { return Ok(()) };
            if frame.is_empty() {
                continue;
            }
            received.inc_by(frame.len() as u64);
            let share = seat.seat.share(lane, frame.len()).await?;
            let incoming = Incoming { from: peer.clone(), frame, _share: Some(share) };
            inlet.send(incoming).await.map_err(|_| PeerError::Stopping)?;
        }
    }
}

async fn answer(wire: &mut Wire, answer: &PeerAnswer) -> Result<(), PeerError> {
    wire.writer.send(answer).await?;
    Ok(wire.writer.flush().await?)
}

impl Seat {
    fn new(lane: Lane) -> Self {
        Seat {
            newest: watch::Sender::new(0),
            taken: Arc::default(),
            share: Arc::new(Semaphore::new(share(lane).0)),
        }
    }

    /// Sends the connection that has it away, and takes it when that has gone.
    async fn take(&self) -> Result<Taken<'_>, PeerError> {
        let mut number = 0;
        self.newest.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        let guard = Arc::clone(&self.taken).lock_owned().await;
        let taken = Taken { seat: self, number, _guard: guard };
        if *self.newest.borrow() == number { Ok(taken) } else { Err(PeerError::Replaced) }
    }

    /// Waits until the peer may have one more frame in the inlet.
    async fn share(&self, lane: Lane, bytes: usize) -> Result<OwnedSemaphorePermit, PeerError> {
        let cost = u32::try_from(bytes.max(share(lane).1)).expect("no frame is as long as that");
        let acquired = Arc::clone(&self.share).acquire_many_owned(cost).await;
        acquired.map_err(|_| PeerError::Stopping)
    }
}

impl Taken<'_> {
    /// Returns when a newer connection wants the seat.
    async fn replaced(&self) {
        let mut newest = self.seat.newest.subscribe();
        // The sender lives as long as the seat does.
        let _ = newest.wait_for(|newest| *newest != self.number).await;
    }
}
