//! Frames onto a stream.

use std::io::{self, IoSlice};

use bincode::Encode;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{FrameError, HEADER_BYTES, checked_max, to_bytes};

/// Frames are gathered up to this size before they are written, in bytes: one
/// TLS record. A larger payload is not copied.
const GATHER_BYTES: usize = 16 << 10;

/// Writes frames. Small ones are gathered, so nothing is sure to leave before
/// [`FrameWriter::flush`]. If a call is dropped before it is done, the frame
/// may be half written, and every later call fails.
#[derive(Debug)]
pub struct FrameWriter<W> {
    io: W,
    max: u32,
    gathered: Vec<u8>,
    busy: bool,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes frames of at most `max` bytes.
    ///
    /// # Panics
    /// When `max` is zero or does not fit into a `u32`.
    pub fn new(io: W, max: usize) -> Self {
        let gathered = Vec::with_capacity(GATHER_BYTES);
        FrameWriter { io, max: checked_max(max), gathered, busy: false }
    }

    /// Writes one frame, or gathers it.
    ///
    /// # Errors
    /// [`FrameError::TooLongToSend`] leaves the stream as it was; every other
    /// error is final.
    ///
    /// # Panics
    /// When the payload is empty: no message is.
    pub async fn write(&mut self, payload: &[u8]) -> Result<(), FrameError> {
        assert!(!payload.is_empty(), "a frame holds a message, and no message is empty");
        let length = u32::try_from(payload.len()).ok().filter(|length| *length <= self.max);
        let Some(length) = length else {
            return Err(FrameError::TooLongToSend { length: payload.len(), max: self.max });
        };
        self.begin()?;
        let fits = self.gathered.len() + HEADER_BYTES + payload.len() <= GATHER_BYTES;
        let large = payload.len() >= GATHER_BYTES / 2;
        if !fits && !large {
            self.write_out(&[]).await?;
        }
        self.gathered.extend_from_slice(&length.to_be_bytes());
        if !fits && large {
            self.write_out(payload).await?;
        } else {
            self.gathered.extend_from_slice(payload);
        }
        self.busy = false;
        Ok(())
    }

    /// Encodes a message and writes or gathers it as one frame.
    ///
    /// # Errors
    /// Those of [`FrameWriter::write`], and [`FrameError::Codec`].
    pub async fn send<T: Encode>(&mut self, message: &T) -> Result<(), FrameError> {
        self.write(&to_bytes(message)?).await
    }

    /// Writes an empty frame and sends everything on its way: a sign of life,
    /// for readers made with [`FrameReader::with_beats`](super::FrameReader::with_beats).
    ///
    /// # Errors
    /// Every error is final: drop the connection.
    pub async fn beat(&mut self) -> Result<(), FrameError> {
        self.begin()?;
        if self.gathered.len() + HEADER_BYTES > GATHER_BYTES {
            self.write_out(&[]).await?;
        }
        self.gathered.extend_from_slice(&0u32.to_be_bytes());
        self.busy = false;
        self.flush().await
    }

    /// Sends everything written so far on its way.
    ///
    /// # Errors
    /// Every error is final: drop the connection.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        self.begin()?;
        self.write_out(&[]).await?;
        self.io.flush().await?;
        self.busy = false;
        Ok(())
    }

    /// Flushes, and tells the peer that nothing will follow.
    ///
    /// # Errors
    /// When the peer may not have received everything.
    pub async fn shutdown(mut self) -> Result<(), FrameError> {
        self.flush().await?;
        Ok(self.io.shutdown().await?)
    }

    fn begin(&mut self) -> Result<(), FrameError> {
        if std::mem::replace(&mut self.busy, true) { Err(FrameError::HalfWritten) } else { Ok(()) }
    }

    /// Writes what was gathered and then `more`, in as few pieces as the stream takes.
    async fn write_out(&mut self, more: &[u8]) -> io::Result<()> {
        let (mut first, mut second) = (&self.gathered[..], more);
        while !(first.is_empty() && second.is_empty()) {
            let slices = [IoSlice::new(first), IoSlice::new(second)];
            let written = self.io.write_vectored(&slices).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let of_first = written.min(first.len());
            first = &first[of_first..];
            second = &second[written - of_first..];
        }
        self.gathered.clear();
        Ok(())
    }
}
