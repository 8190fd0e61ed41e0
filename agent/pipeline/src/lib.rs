//! The agent's pipeline: from the bytes of a source to sealed batches.
//!
//! Pure: it names no clock, file, socket, runtime or random source. It
//! guarantees to the agent that every line becomes at least one record, byte
//! for byte, that records are numbered without gaps, and that a batch carries
//! exactly the source positions that are safe once it is durable.

pub mod entries;
pub mod extract;
pub mod frame;
pub mod line;
pub mod otlp;
pub mod pipeline;
pub mod relp;
pub mod shadow;
mod syslog;
mod told;

pub use entries::{MAX_LINE, RecordSettings, SourceSettings, Syntax};
pub use extract::{Extractor, Format};
pub use pipeline::{LogPosition, Now, Outgoing, Pipeline, PositionChange, Sealing};
