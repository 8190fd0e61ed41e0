//! Keeping two connections to a peer: one task a peer, from start to shutdown.

use super::{Event, Peer, Shared, Timings, error::PeerError, outbox::Outbox, wire::Wire};
use link::{
    Role,
    peer::{Lane, PEER_PROTOCOL, PeerAnswer, PeerHello},
};
use service::signals::Shutdown;
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// The connections to a peer, greeted: control and bulk.
type Pair = (Wire, Wire);

struct Dialler {
    shared: Arc<Shared>,
    peer: Peer,
    outbox: Arc<Outbox>,
}

/// Keeps a peer connected until shutdown.
pub(super) async fn run(
    shared: Arc<Shared>,
    peer: Peer,
    outbox: Arc<Outbox>,
    mut shutdown: Shutdown,
) {
    let dialler = Dialler { shared, peer, outbox };
    tokio::select! {
        () = shutdown.wait() => {}
        () = dialler.keep() => {}
    }
    dialler.outbox.close();
}

impl Dialler {
    async fn keep(&self) {
        let timings = self.timings();
        let name = self.peer.name.as_str();
        let mut pause = timings.pause_min;
        loop {
            match self.connect().await {
                Ok((pair, version)) => {
                    let began = Instant::now();
                    self.shared.report.well(name);
                    let lost = self.stay(pair, version).await;
                    self.shared.report.problem(name, "lost a node", &lost);
                    if began.elapsed() > timings.pause_max {
                        pause = timings.pause_min;
                    }
                }
                Err(error) => self.shared.report.problem(name, "a node cannot be reached", &error),
            }
            sleep(pause - by_chance(pause / 2)).await;
            pause = (pause * 2).min(timings.pause_max);
        }
    }

    async fn connect(&self) -> Result<(Pair, String), PeerError> {
        let lane = async |lane| self.greet(self.handshake(lane).await?, lane).await;
        let ((control, version), (bulk, _)) =
            tokio::try_join!(lane(Lane::Control), lane(Lane::Bulk))?;
        Ok(((control, bulk), version))
    }

    /// From the first frame that may be sent to the loss of a connection.
    async fn stay(&self, (control, bulk): Pair, version: String) -> PeerError {
        let Shared { inlets, metrics, .. } = &*self.shared;
        let peer = self.peer.name.clone();
        tracing::info!(peer = %peer, address = self.peer.address, version, "connected to a node");
        let _connected = Lane::ALL.map(|lane| metrics.peers.connected(lane, "out"));
        self.outbox.open();
        // Nobody listens any more only when the node is stopping.
        let _ = inlets.events.send(Event::Up { peer: peer.clone(), version }).await;
        let lost = tokio::select! {
            lost = self.send(control, Lane::Control) => lost,
            lost = self.send(bulk, Lane::Bulk) => lost,
        };
        self.outbox.close();
        let _ = inlets.events.send(Event::Down { peer }).await;
        lost
    }

    /// Sends on one connection after the other. A peer whose certificate no longer holds when it is
    /// time for a new one, or that no longer takes ours, is lost.
    async fn send(&self, mut wire: Wire, lane: Lane) -> PeerError {
        let timings = self.timings();
        let sent = self.shared.metrics.peers.sent(&self.peer.name);
        loop {
            let renewal = async {
                let tenth = timings.renew / 10;
                sleep(timings.renew + tenth - by_chance(tenth * 2)).await;
                self.handshake(lane).await
            };
            let renewed = wire.send_all(&self.outbox, lane, timings, &sent, renewal).await;
            let greeted = match renewed {
                Ok(fresh) => self.greet(fresh, lane).await,
                Err(lost) => return lost,
            };
            match greeted {
                Ok((fresh, _)) => wire = fresh,
                Err(lost) => return lost,
            }
        }
    }

    async fn handshake(&self, lane: Lane) -> Result<Wire, PeerError> {
        let Peer { name, address } = &self.peer;
        let limit = self.timings().handshake;
        let client = &self.shared.client;
        let connecting =
            link::tls::connect(address.as_str(), host(address), client, Role::Node, limit);
        let (stream, identity) = connecting.await?;
        if identity.node().as_ref() != Some(name) {
            return Err(PeerError::WrongNode {
                address: address.clone(),
                expected: name.clone(),
                found: identity.name.to_string(),
            });
        }
        Ok(Wire::new(stream, lane.max_frame()))
    }

    async fn greet(&self, mut wire: Wire, lane: Lane) -> Result<(Wire, String), PeerError> {
        let settings = &self.shared.settings;
        let hello = PeerHello {
            protocol: PEER_PROTOCOL,
            origin: settings.origin.to_string(),
            membership: settings.membership.0,
            lane,
            version: settings.version.clone(),
        };
        let limit = settings.timings.handshake;
        let asked = async {
            wire.writer.send(&hello).await?;
            wire.writer.flush().await?;
            let answer = wire.reader.receive::<PeerAnswer>().await?;
            answer.ok_or(PeerError::Ended)
        };
        match timeout(limit, asked).await.map_err(|_| PeerError::Silent(limit))?? {
            PeerAnswer::Welcome(welcome) => Ok((wire, welcome.version)),
            PeerAnswer::Refused(refused) => Err(PeerError::Refused(refused)),
        }
    }

    fn timings(&self) -> &Timings {
        &self.shared.settings.timings
    }
}

/// The host of HOST:PORT, as certificates have it.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Between nothing and all of `most`, so that nodes that lost one another together do not meet in
/// step. It protects no secret.
fn by_chance(most: Duration) -> Duration {
    let byte = RandomState::new().hash_one(0).to_be_bytes()[0];
    most * u32::from(byte) / 255
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn the_host_of_an_address_is_found_whatever_it_is() {
        let cases = [
            ("node2.city.example:7515", "node2.city.example"),
            ("10.0.0.2:7515", "10.0.0.2"),
            ("[fd00::2]:7515", "fd00::2"),
        ];
        cases.iter().for_each(|(address, expected)| assert_eq!(host(address), *expected));
    }
}
