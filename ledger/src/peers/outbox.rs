//! What waits to be sent to a peer: a bounded queue a lane, open while the peer is connected.

use bytes::Bytes;
use link::peer::Lane;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Frames and bytes that may wait for a peer. Control: all votes of 64 nodes for many rounds. Bulk:
/// four of the largest frames, or a pool of ordinary batches; frames are shared by all peers.
fn bounds(lane: Lane) -> (usize, usize) {
    match lane {
        Lane::Control => (4096, 8 << 20),
        Lane::Bulk => (512, 48 << 20),
    }
}

/// Bytes that are taken at once, so that what is being written is bounded too.
const CHUNK: usize = 256 << 10;

/// The queues of one peer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    filled: [Notify; 2],
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    queues: [Queue; 2],
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    /// False, and nothing happens, while it is closed or when there is no room.
    pub(super) fn put(&self, lane: Lane, frame: Bytes) -> bool {
        let mut state = self.state();
        let (frames, bytes) = bounds(lane);
        let open = state.open;
        let queue = &mut state.queues[lane as usize];
        if !open || queue.frames.len() == frames || queue.bytes + frame.len() > bytes {
            return false;
        }
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        drop(state);
        self.filled[lane as usize].notify_one();
        true
    }

    /// The next frames in order, at least one; waits for it. One caller a lane at a time.
    /// Nothing is lost when it is dropped while it waits.
    pub(super) async fn take(&self, lane: Lane) -> Vec<Bytes> {
        loop {
            let taken = self.state().queues[lane as usize].take();
            if !taken.is_empty() {
                return taken;
            }
            self.filled[lane as usize].notified().await;
        }
    }

    /// Takes frames from now on.
    pub(super) fn open(&self) {
        self.state().open = true;
    }

    /// Forgets what waits, and takes nothing more.
    pub(super) fn close(&self) {
        *self.state() = State::default();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn take(&mut self) -> Vec<Bytes> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < CHUNK
            && let Some(frame) = self.frames.pop_front()
        {
            bytes += frame.len();
            taken.push(frame);
        }
        self.bytes -= bytes;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_outbox_is_bounded_in_frames_and_bytes_and_a_closed_one_forgets() {
        let outbox = Outbox::default();
        let (small, large) = (Bytes::from_static(b"vote"), Bytes::from(vec![0; 12 << 20]));
        assert!(!outbox.put(Lane::Control, small.clone()), "it is closed");
        outbox.open();
        let put =
            |lane, frame: &Bytes| (0..10_000).filter(|_| outbox.put(lane, frame.clone())).count();
        assert_eq!((put(Lane::Control, &small), put(Lane::Bulk, &large)), (4096, 4));
        assert_eq!(outbox.take(Lane::Bulk).await.len(), 1);
        assert_eq!((put(Lane::Control, &small), put(Lane::Bulk, &large)), (0, 1));
        assert_eq!(outbox.take(Lane::Control).await.len(), 4096);
        outbox.close();
        assert!(!outbox.put(Lane::Bulk, small.clone()));
        outbox.open();
        assert_eq!((put(Lane::Control, &small), put(Lane::Bulk, &large)), (4096, 4));
    }
}
