//! Entries: the bytes that are hashed, signed and kept for ever.
//!
//! Every entry is one RFC 5424 syslog message of at most [`MAX_ENTRY_LEN`]
//! bytes. Its first structured-data element decides what it is: `log@` makes
//! it a record, `seal@`, `block@` and `enrol@` make it one of the ledger's own.
//! A record gives back the line it was made of, byte for byte: [`restore`].

mod build;
mod parse;
mod restore;

pub use build::{Built, Field, Header, LogElement, Part, push_element, push_param};
pub use parse::{
    Element, Entry, EntryError, Kind, Message, Sd, is_record_of, parse_priority, record_of,
};
pub use restore::{RestoreError, Restored, restore};

/// The most bytes of an entry: its length is a 16-bit number in an entry bundle.
pub const MAX_ENTRY_LEN: usize = 65_535;

/// The private enterprise number behind `@` in the names of our elements (RFC 5424, section 7.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enterprise(pub u32);

impl Default for Enterprise {
    /// 32473, the number reserved for documentation (RFC 5612).
    fn default() -> Self {
        Enterprise(32_473)
    }
}
