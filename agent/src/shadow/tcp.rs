//! Receives a copy of the old feed by TCP, framed in either way of RFC 6587.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use pipeline::frame::FrameDecoder;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::sleep,
};
use tracing::{error, info, warn};

use super::{Delivery, Messages, ShadowError};

/// How many senders at a time: a copy of one feed needs one.
const MAX_CONNECTIONS: usize = 64;

/// The longest message, in bytes.
const MAX_MESSAGE: usize = 256 << 10;

/// How much is read at a time, in bytes.
const READ: usize = 64 << 10;

/// How long the system refuses connections when it has no room for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) fn bind(address: SocketAddr) -> Result<StdListener, ShadowError> {
    let bound = StdListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| ShadowError::Bind(address, error))
}

/// Serves until the runtime ends.
pub(super) async fn serve(listener: StdListener, deliveries: mpsc::Sender<Delivery>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "shadow.tcp does not run"),
    };
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a sender of the old feed's copy could not connect");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            warn!(%address, "too many send copies of the old feed: {MAX_CONNECTIONS} may");
            let _ = deliveries.send(Delivery::Missed).await;
            continue;
        };
        let deliveries = deliveries.clone();
        tokio::spawn(async move {
            info!(%address, "a sender of the old feed's copy connected");
            receive(stream, address, &deliveries).await;
            drop(place);
        });
    }
}

async fn receive(mut stream: TcpStream, address: SocketAddr, deliveries: &mpsc::Sender<Delivery>) {
    let mut decoder = FrameDecoder::new(MAX_MESSAGE);
    loop {
        decoder.buffer().reserve(READ);
        let read = stream.read_buf(decoder.buffer()).await;
        let broken = hand_over(&mut decoder, deliveries).await;
        match (read, broken) {
            (_, Some(error)) => {
                warn!(%address, %error, "a sender of the old feed's copy was disconnected");
                let _ = deliveries.send(Delivery::Missed).await;
                return;
            }
            (Ok(0), None) => break,
            (Ok(_), None) => {}
            (Err(error), None) => {
                info!(%address, %error, "a sender of the old feed's copy failed");
                break;
            }
        }
    }
    // The beginning of a message that was cut off is what the old way delivered.
    if let Some(rest) = decoder.finish()
        && rest.line.start < rest.line.end
    {
        let (bytes, lines) = (decoder.take(), vec![rest.line]);
        let _ = deliveries.send(Delivery::Messages(Messages { bytes, lines })).await;
    }
}

/// Hands over all whole messages; answers with what is wrong behind them.
async fn hand_over(
    decoder: &mut FrameDecoder,
    deliveries: &mpsc::Sender<Delivery>,
) -> Option<pipeline::frame::FrameError> {
    let (mut lines, mut broken) = (Vec::new(), None);
    while let Some(frame) = decoder.next_frame() {
        match frame {
            Ok(line) => lines.push(line),
            Err(error) => broken = Some(error),
        }
    }
    let bytes = decoder.take();
    if !lines.is_empty() {
        // The keeper is gone only when the agent stops.
        let _ = deliveries.send(Delivery::Messages(Messages { bytes, lines })).await;
    }
    broken
}
