//! What became of the files of a source by the events that were sent: what the spool will know
//! when all of them are durable. A source that is started again in the same run begins there.

use std::collections::BTreeMap;

use pipeline::line::{ChunkOrigin, FileId, FilePosition, SourceEvent};

/// Positions, by file.
#[derive(Debug, Default)]
pub(super) struct Sent(BTreeMap<FileId, u64>);

impl Sent {
    pub(super) fn new(known: &[FilePosition]) -> Self {
        Sent(known.iter().map(|known| (known.file, known.offset)).collect())
    }

    /// The event is being sent.
    pub(super) fn take(&mut self, event: &SourceEvent) {
        match event {
            SourceEvent::Chunk(chunk) => {
                if let (ChunkOrigin::File { file, base }, Some(last)) =
                    (&chunk.origin, chunk.lines.last())
                {
                    self.0.insert(*file, base + u64::from(last.next));
                }
            }
            SourceEvent::FileFound { position, .. } => {
                self.0.insert(position.file, position.offset);
            }
            SourceEvent::Refingerprint { old, new, .. } => {
                if let Some(offset) = self.0.remove(old) {
                    self.0.insert(*new, offset);
                }
            }
            SourceEvent::FileGone { file, .. } => {
                self.0.remove(file);
            }
            SourceEvent::Mark { .. }
            | SourceEvent::Unmark { .. }
            | SourceEvent::Flush { .. }
            | SourceEvent::Configure { .. } => {}
        }
    }

    pub(super) fn positions(&self) -> Vec<FilePosition> {
        self.0.iter().map(|(file, offset)| FilePosition { file: *file, offset: *offset }).collect()
    }
}
