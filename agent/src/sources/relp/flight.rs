//! How much of a client waits for its answers.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;

use super::{MAX_WAITING, MAX_WAITING_BYTES};

/// Messages that were taken over and not answered yet.
#[derive(Debug, Default)]
pub(super) struct Flight {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    landed: Notify,
}

impl Flight {
    /// Messages were taken over.
    pub(super) fn rise(&self, messages: usize, bytes: usize) {
        self.messages.fetch_add(messages, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Messages were answered, or nobody waits for their answers any more.
    pub(super) fn land(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
        // Whoever begins to wait just now finds the permit.
        self.landed.notify_one();
    }

    /// True if no more may be taken over before something is answered.
    pub(super) fn is_full(&self) -> bool {
        self.messages.load(Relaxed) >= MAX_WAITING || self.bytes.load(Relaxed) >= MAX_WAITING_BYTES
    }

    /// Waits until more may be taken over.
    pub(super) async fn room(&self) {
        while self.is_full() {
            self.landed.notified().await;
        }
    }
}
