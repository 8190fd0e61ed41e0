//! One connection between two nodes, as frames, and the signs of life on it.

use super::{Timings, error::PeerError, outbox::Outbox};
use link::{
    frame::{FrameReader, FrameWriter},
    peer::{Lane, MAX_GREETING},
    tls::TlsStream,
};
use prometheus_client::metrics::counter::Counter;
use std::{
    pin::{Pin, pin},
    time::Duration,
};
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};

type Stream = TlsStream<TcpStream>;
/// Frames as they come in.
pub(super) type Frames = FrameReader<ReadHalf<Stream>>;

/// A connection that has a peer, in frames.
pub(super) struct Wire {
    pub(super) reader: Frames,
    pub(super) writer: FrameWriter<WriteHalf<Stream>>,
}

impl Wire {
    /// A connection on which only greetings may come.
    pub(super) fn new(stream: Stream, lane_max: usize) -> Self {
        let (read, write) = tokio::io::split(stream);
        Wire {
            reader: FrameReader::new(read, MAX_GREETING).with_beats(),
            writer: FrameWriter::new(write, lane_max),
        }
    }

    /// Sends what is put into the outbox until the connection is lost, or `renewal` fails: those
    /// are the errors. When `renewal` succeeds, everything that was taken out has been read by
    /// the peer, and the new connection is given back.
    pub(super) async fn send_all(
        self,
        outbox: &Outbox,
        lane: Lane,
        timings: &Timings,
        sent: &Counter,
        renewal: impl Future<Output = Result<Wire, PeerError>>,
    ) -> Result<Wire, PeerError> {
        let Wire { mut reader, writer } = self;
        let mut listen = pin!(listen(&mut reader, timings.silence_on(lane)));
        let mut renewal = pin!(renewal);
        let write = write(writer, outbox, lane, timings.beat, sent, renewal.as_mut());
        let fresh = tokio::select! {
            lost = &mut listen => return Err(lost),
            written = write => written?,
        };
        // The peer ends the connection when it has read it to its end.
        match timeout(timings.handshake, listen).await {
            Ok(PeerError::Ended) => Ok(fresh),
            Ok(lost) => Err(lost),
            Err(_) => Err(PeerError::Silent(timings.handshake)),
        }
    }
}

/// Hears the peer's signs of life, and says when they end and why.
async fn listen(reader: &mut Frames, silence: Duration) -> PeerError {
    loop {
        match timeout(silence, reader.next()).await {
            Err(_) => return PeerError::Silent(silence),
            Ok(Err(error)) => return error.into(),
            Ok(Ok(None)) => return PeerError::Ended,
            Ok(Ok(Some(frame))) if frame.is_empty() => {}
            Ok(Ok(Some(_))) => return PeerError::Unasked,
        }
    }
}

/// Writes frames and signs of life until there is another connection for them; what was taken out
/// of the outbox is written whole.
async fn write(
    mut writer: FrameWriter<WriteHalf<Stream>>,
    outbox: &Outbox,
    lane: Lane,
    beat: Duration,
    sent: &Counter,
    mut renewal: Pin<&mut impl Future<Output = Result<Wire, PeerError>>>,
) -> Result<Wire, PeerError> {
    let mut beats = ticks(beat);
    loop {
        let frames = tokio::select! {
            biased;
            fresh = &mut renewal => {
                let fresh = fresh?;
                writer.shutdown().await?;
                return Ok(fresh);
            }
            frames = outbox.take(lane) => frames,
            _ = beats.tick() => {
                writer.beat().await?;
                continue;
            }
        };
        for frame in frames {
            writer.write(&frame).await?;
            sent.inc_by(frame.len() as u64);
        }
        writer.flush().await?;
    }
}

/// Shows that we live, until the connection is lost.
pub(super) async fn beat_on(
    mut writer: FrameWriter<WriteHalf<Stream>>,
    beat: Duration,
) -> PeerError {
    let mut beats = ticks(beat);
    loop {
        beats.tick().await;
        if let Err(error) = writer.beat().await {
            return error.into();
        }
    }
}

/// A busy writer does not make up for signs of life that its frames were.
fn ticks(beat: Duration) -> tokio::time::Interval {
    let mut ticks = interval(beat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
