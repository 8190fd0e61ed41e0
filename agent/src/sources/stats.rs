//! What a source counts, for the metrics.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::control::FileStatus;

/// A source's counters and gauges. Counters only grow; gauges are marked.
#[derive(Debug, Default)]
pub struct SourceStats {
    /// Lines handed over.
    pub lines: AtomicU64,
    /// Bytes handed over, with what separates the lines.
    pub bytes: AtomicU64,
    /// Chunks handed over.
    pub chunks: AtomicU64,
    /// Places at which a line longer than the limit was cut into two lines.
    pub cut_lines: AtomicU64,
    /// Files open for reading (gauge).
    pub open_files: AtomicU64,
    /// Bytes in open files that were not handed over yet, at the last look (gauge).
    pub lag_bytes: AtomicU64,
    /// Files that wait because too many are open (gauge).
    pub waiting_files: AtomicU64,
    /// Files found to have been truncated or rewritten in place.
    pub truncated_files: AtomicU64,
    /// Files that were rotated away and read to their end.
    pub finished_files: AtomicU64,
    /// Files that went away before they were read to their end, or of which nobody can tell.
    pub lost_files: AtomicU64,
    /// Bytes that were known to be in a file and went away unread.
    pub lost_bytes: AtomicU64,
    /// Messages that came to this machine and were lost, whole or in part.
    pub lost_messages: AtomicU64,
    /// Times at which what was to be read next was not there any more.
    pub gaps: AtomicU64,
    /// Files or directories that could not be read, counted at each attempt.
    pub read_errors: AtomicU64,
    /// Paths that cannot be read now (gauge).
    pub unreadable_paths: AtomicU64,
    /// Connections whose handshake succeeded.
    pub accepted_connections: AtomicU64,
    /// Connections open after their handshake (gauge).
    pub open_connections: AtomicU64,
    /// Connections refused: no or bad certificate, wrong role, too many.
    pub refused_connections: AtomicU64,
    /// Connections closed because the sender broke the framing.
    pub frame_errors: AtomicU64,
    /// Requests that were refused.
    pub refused_requests: AtomicU64,
    /// Records of requests that were taken, that were not.
    pub rejected_records: AtomicU64,
    /// Connections that ended inside a message.
    pub partial_messages: AtomicU64,
    /// Messages that were sent again, and recognised as stored already.
    pub resent_messages: AtomicU64,
    /// Messages that were stored although they may be copies: their sender stopped in the middle.
    pub doubtful_messages: AtomicU64,
    /// When the last line was sealed, milliseconds since 1970; 0 before the first (gauge).
    pub last_line_ms: AtomicU64,
    /// When a receipt for lines of it was last verified, likewise (gauge).
    pub last_receipt_ms: AtomicU64,
    /// The files being read, at the last look.
    pub files: Mutex<Vec<FileStatus>>,
}

impl SourceStats {
    /// Shows the files that are being read; of very many the first.
    pub(super) fn show_files(&self, shown: impl Iterator<Item = FileStatus>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.clear();
        files.extend(shown.take(FileStatus::MOST));
    }

    /// Counts a chunk that was handed over.
    pub(super) fn handed_over(&self, lines: usize, bytes: usize) {
        add(&self.chunks, 1);
        add(&self.lines, lines as u64);
        add(&self.bytes, bytes as u64);
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Relaxed);
}

/// Sets a gauge.
pub(super) fn set(gauge: &AtomicU64, value: u64) {
    gauge.store(value, Relaxed);
}

/// Raises a gauge by one for as long as it lives.
pub(super) struct Raised<'a>(&'a AtomicU64);

impl<'a> Raised<'a> {
    pub(super) fn new(gauge: &'a AtomicU64) -> Self {
        gauge.fetch_add(1, Relaxed);
        Raised(gauge)
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
