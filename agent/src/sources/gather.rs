//! Collects messages that come one by one into chunks.

use std::sync::Arc;

use pipeline::line::{ChunkOrigin, LineSpan, SourceEvent};

use super::{CHUNK_BYTES, Outlet, now, stats::add};

/// Lines of one sender that nobody has been given yet.
#[derive(Debug)]
pub(super) struct Gather {
    peer: Option<Arc<str>>,
    transport: Option<&'static str>,
    /// A longer line is cut into pieces of so many bytes.
    max_line: usize,
    bytes: Vec<u8>,
    lines: Vec<LineSpan>,
}

/// Nobody takes lines any more: the agent is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Gather {
    /// Nothing so far.
    pub(super) fn new(transport: &'static str, max_line: usize) -> Self {
        let (bytes, lines) = (Vec::new(), Vec::new());
        Gather { peer: None, transport: Some(transport), max_line, bytes, lines }
    }

    /// True if there is enough for a chunk.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= CHUNK_BYTES
    }

    /// True if these lines, if any, are from the same sender.
    pub(super) fn is_from(&self, peer: Option<&Arc<str>>) -> bool {
        self.lines.is_empty() || self.peer.as_ref() == peer
    }

    /// Adds a message. Without its terminator it is a line, unless that is empty: answers with at
    /// how many places it was cut.
    pub(super) fn push(&mut self, peer: Option<&Arc<str>>, message: &[u8]) -> u64 {
        let line = message.strip_suffix(b"\n").or(message.strip_suffix(b"\0")).unwrap_or(message);
        if line.is_empty() {
            return 0;
        }
        self.peer = peer.cloned();
        for piece in line.chunks(self.max_line) {
            let start = narrow(self.bytes.len());
            self.bytes.extend_from_slice(piece);
            let end = narrow(self.bytes.len());
            self.lines.push(LineSpan { start, end, next: end });
        }
        line.len().div_ceil(self.max_line) as u64 - 1
    }

    /// Hands over what there is.
    pub(super) async fn hand_over(&mut self, outlet: &Outlet) -> Result<(), Gone> {
        let (bytes, lines) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.lines));
        if lines.is_empty() {
            return Ok(());
        }
        let counts = (lines.len(), bytes.len());
        let origin = ChunkOrigin::Sender { peer: self.peer.clone(), transport: self.transport };
        let event = SourceEvent::lines(outlet.id, bytes, lines, origin, now());
        outlet.events.send(event).await.map_err(|_| Gone)?;
        outlet.stats.handed_over(counts.0, counts.1);
        Ok(())
    }

    /// Adds a message of any sender, and hands over what must not wait with it.
    pub(super) async fn take(
        &mut self,
        peer: Option<&Arc<str>>,
        message: &[u8],
        outlet: &Outlet,
    ) -> Result<(), Gone> {
        if !self.is_from(peer) {
            self.hand_over(outlet).await?;
        }
        let cuts = self.push(peer, message);
        if cuts > 0 {
            add(&outlet.stats.cut_lines, cuts);
        }
        if self.is_full() {
            self.hand_over(outlet).await?;
        }
        Ok(())
    }
}

fn narrow(place: usize) -> u32 {
    u32::try_from(place).expect("a chunk is far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(gather: &Gather) -> Vec<&[u8]> {
        gather.lines.iter().map(|line| line.of(&gather.bytes)).collect()
    }

    #[test]
    fn a_message_is_a_line_without_its_terminator() {
        let mut gather = Gather::new("unix", 1 << 10);
        for message in [&b"<13>a"[..], b"b\n", b"c\0", b"d\n\n", b"", b"\0", b"\x00e"] {
            assert_eq!(gather.push(None, message), 0);
        }
        assert_eq!(lines(&gather), [&b"<13>a"[..], b"b", b"c", b"d\n", b"\x00e"]);
    }

    #[test]
    fn a_long_message_is_cut_and_whole() {
        let mut gather = Gather::new("unix", 4);
        assert_eq!(gather.push(None, b"0123456789"), 2);
        assert_eq!(gather.push(None, b"0123"), 0);
        assert_eq!(lines(&gather), [&b"0123"[..], b"4567", b"89", b"0123"]);
    }
}
