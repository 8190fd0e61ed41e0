//! Among the other nodes: hears what they send, and sends them what no honest node sends.

use super::{Failure, LIMIT, Liar, chance, lane};
use link::{
    Role,
    frame::{FrameReader, FrameWriter},
    peer::{Lane, MAX_BULK, MAX_GREETING, PEER_PROTOCOL, PeerAnswer, PeerHello, PeerWelcome},
    tls::{ReloadingClient, ReloadingServer, TlsStream},
};
use replica::Message;
use service::members::Member;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

/// The pause between two lies to one peer.
const PAUSE: Duration = Duration::from_millis(30);
/// How often the nonsense of one connection is repeated.
const FLOOD: usize = 20;
/// How often it shows that it lives.
const BEAT: Duration = Duration::from_millis(500);

/// Accepts the other nodes and hears all they have to say.
pub(super) async fn listen(
    liar: Arc<Liar>,
    listener: TcpListener,
    tls: Arc<ReloadingServer>,
) -> Result<(), Failure> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (liar, tls) = (Arc::clone(&liar), Arc::clone(&tls));
        tokio::spawn(async move { hear(&liar, stream, &tls).await });
    }
}

async fn hear(liar: &Liar, stream: TcpStream, tls: &ReloadingServer) -> Result<(), Failure> {
    let (stream, identity) = link::tls::accept(stream, tls, LIMIT).await?;
    let from = identity.node().ok_or("it is no node")?;
    let (read, write) = tokio::io::split(stream);
    let mut reader = FrameReader::new(read, MAX_GREETING).with_beats();
    let mut writer = FrameWriter::new(write, MAX_BULK);
    let hello: PeerHello = reader.receive().await?.ok_or("it ended")?;
    reader.set_max(hello.lane.max_frame());
    let version = "lying".to_owned();
    writer.send(&PeerAnswer::Welcome(PeerWelcome { version })).await?;
    writer.flush().await?;
    let beats = tokio::spawn(async move {
        while writer.beat().await.is_ok() {
            sleep(BEAT).await;
        }
    });
    while let Ok(Some(frame)) = reader.next().await {
        if let Ok(message) = Message::decode(&frame.into()) {
            liar.learn(&from, message);
        }
    }
    beats.abort();
    Ok(())
}

/// Lies to a peer in one way after the other, for ever.
pub(super) async fn pester(liar: Arc<Liar>, peer: Member, client: Arc<ReloadingClient>) {
    for round in 0.. {
        // It ends as the peer wishes.
        let _ = timeout(LIMIT, liar.lie_to(&peer, &client, round)).await;
        sleep(PAUSE).await;
    }
}

impl Liar {
    async fn lie_to(
        &self,
        peer: &Member,
        client: &ReloadingClient,
        round: u64,
    ) -> Result<(), Failure> {
        let host = peer.peers.rsplit_once(':').ok_or("no port")?.0;
        let address = peer.peers.as_str();
        if round % 20 == 19 {
            let mut stream = TcpStream::connect(address).await?;
            return Ok(stream.write_all(&chance(round, 4000)).await?);
        }
        let (mut stream, _) = link::tls::connect(address, host, client, Role::Node, LIMIT).await?;
        let lane = lane(round);
        match round / 2 % 10 {
            1 => stream.write_all(&chance(round, 4000)).await?,
            3 => return self.greet(&mut stream, lane, true).await,
            5 => {
                self.greet(&mut stream, lane, false).await?;
                let length = lane.max_frame() as u32 + 1;
                stream.write_all(&length.to_be_bytes()).await?;
                stream.write_all(&vec![6; lane.max_frame()]).await?;
            }
            7 => {
                self.greet(&mut stream, lane, false).await?;
                stream.write_all(&u32::MAX.to_be_bytes()).await?;
            }
            9 => {
                self.greet(&mut stream, lane, false).await?;
                stream.write_all(&1000_u32.to_be_bytes()).await?;
                stream.write_all(&[6; 500]).await?;
            }
            _ => {
                self.greet(&mut stream, lane, false).await?;
                return self.flood(stream, lane, round).await;
            }
        }
        stream.flush().await?;
        // What the peer says to it; it has read the lie when it hangs up.
        let _ = stream.read_to_end(&mut Vec::new()).await;
        Ok(())
    }

    async fn greet(
        &self,
        stream: &mut TlsStream<TcpStream>,
        lane: Lane,
        wrong: bool,
    ) -> Result<(), Failure> {
        let membership = if wrong { [6; 32] } else { self.membership.0 };
        let hello = PeerHello {
            protocol: PEER_PROTOCOL,
            origin: self.config.params.origin.to_string(),
            membership,
            lane,
            version: "lying".into(),
        };
        let mut writer = FrameWriter::new(&mut *stream, MAX_GREETING);
        writer.send(&hello).await?;
        writer.flush().await?;
        let mut reader = FrameReader::new(stream, MAX_GREETING).with_beats();
        match reader.receive::<PeerAnswer>().await? {
            Some(PeerAnswer::Welcome(_)) => Ok(()),
            _ => Err("it was not welcome".into()),
        }
    }

    async fn flood(
        &self,
        stream: TlsStream<TcpStream>,
        lane: Lane,
        round: u64,
    ) -> Result<(), Failure> {
        let mut writer = FrameWriter::new(stream, lane.max_frame());
        for repeat in 0..FLOOD {
            for message in self.nonsense(round * FLOOD as u64 + repeat as u64) {
                writer.write(&message).await?;
            }
            writer.flush().await?;
            sleep(PAUSE).await;
        }
        Ok(())
    }
}
