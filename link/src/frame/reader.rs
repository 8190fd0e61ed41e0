//! Frames off a stream.

use std::io;

use bincode::Decode;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};

use super::{FrameError, HEADER_BYTES, checked_max, from_bytes};

/// What is read from the stream at once when frames are small, in bytes: one
/// TLS record.
const READ_BYTES: usize = 16 << 10;
/// The least that the buffer of a payload grows by, in bytes; from there on it
/// at most doubles. This is all that a lying length can cost.
const GROW_BYTES: usize = 64 << 10;

/// Reads frames. [`FrameReader::next`] may be dropped at any time and called
/// again: no byte is lost, so it can stand in a `select!`.
#[derive(Debug)]
pub struct FrameReader<R> {
    io: BufReader<R>,
    max: u32,
    beats: bool,
    header: Vec<u8>,
    payload: Vec<u8>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames of at most `max` bytes.
    ///
    /// # Panics
    /// When `max` is zero or does not fit into a `u32`.
    pub fn new(io: R, max: usize) -> Self {
        FrameReader {
            io: BufReader::with_capacity(READ_BYTES, io),
            max: checked_max(max),
            beats: false,
            header: Vec::with_capacity(HEADER_BYTES),
            payload: Vec::new(),
        }
    }

    /// Takes empty frames too, as [`FrameWriter::beat`](super::FrameWriter::beat)
    /// writes them: they come out of [`FrameReader::next`] as no bytes.
    #[must_use]
    pub fn with_beats(mut self) -> Self {
        self.beats = true;
        self
    }

    /// Takes frames of at most `max` bytes from the next one on: what a peer may
    /// send grows when it has said who it is.
    ///
    /// # Panics
    /// Those of [`FrameReader::new`].
    pub fn set_max(&mut self, max: usize) {
        self.max = checked_max(max);
    }

    /// The next frame's payload, or `None` when the stream has ended between frames.
    ///
    /// # Errors
    /// Every error is final: drop the connection.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        if !self.fill_header().await? {
            return Ok(None);
        }
        let wanted = self.length()?;
        while self.payload.len() < wanted {
            let missing = wanted - self.payload.len();
            if self.payload.len() == self.payload.capacity() {
                self.payload.reserve_exact(missing.min(self.payload.len().max(GROW_BYTES)));
            }
            let mut rest = (&mut self.io).take(missing as u64);
            if ended(rest.read_buf(&mut self.payload).await)? == 0 {
                return Err(FrameError::Truncated { had: self.payload.len(), wanted });
            }
        }
        self.header.clear();
        Ok(Some(std::mem::take(&mut self.payload)))
    }

    /// The next frame as a message, or `None` when the stream has ended between
    /// frames. May be dropped and called again like [`FrameReader::next`].
    ///
    /// # Errors
    /// Those of [`FrameReader::next`], and [`FrameError::Codec`] when the
    /// payload is no `T`.
    pub async fn receive<T: Decode<()>>(&mut self) -> Result<Option<T>, FrameError> {
        match self.next().await? {
            Some(payload) => Ok(Some(from_bytes(&payload)?)),
            None => Ok(None),
        }
    }

    /// Whether a header is there; not, when the stream has ended before one.
    async fn fill_header(&mut self) -> Result<bool, FrameError> {
        while self.header.len() < HEADER_BYTES {
            let had = self.header.len();
            let mut rest = (&mut self.io).take((HEADER_BYTES - had) as u64);
            let got = ended(rest.read_buf(&mut self.header).await)?;
            match (got, had) {
                (0, 0) => return Ok(false),
                (0, _) => return Err(FrameError::Truncated { had, wanted: HEADER_BYTES }),
                _ => {}
            }
        }
        Ok(true)
    }

    fn length(&self) -> Result<usize, FrameError> {
        let header = self.header[..].try_into().expect("the header was filled");
        match u32::from_be_bytes(header) {
            0 if !self.beats => Err(FrameError::Empty),
            length if length > self.max => Err(FrameError::TooLong { length, max: self.max }),
            length => Ok(length as usize),
        }
    }
}

/// TLS reports a stream that ended without a farewell as an error. For frames
/// it is an end like any other: whoever can cut a connection between two of
/// them gains what a cut cable would give, and within one it is noticed.
fn ended(read: io::Result<usize>) -> io::Result<usize> {
    read.or_else(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Ok(0),
        _ => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_length_that_lies_costs_no_memory() {
        let (mut peer, io) = tokio::io::duplex(1 << 20);
        let mut reader = FrameReader::new(io, u32::MAX as usize);
        let mut context = Context::from_waker(Waker::noop());
        peer.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        for (sent, most) in [(0, GROW_BYTES), (10, GROW_BYTES), (300_000, 600_020)] {
            peer.write_all(&vec![1; sent]).await.unwrap();
            assert!(pin!(reader.next()).poll(&mut context).is_pending());
            assert!(reader.payload.capacity() <= most, "{}", reader.payload.capacity());
        }
    }
}
