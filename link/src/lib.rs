//! How logseal's programs reach each other: mutual TLS, the identities in
//! certificates, and frames.
//!
//! - [`identity`]: who the holder of a certificate is. Bytes become an
//!   [`Identity`] once, here, and nothing else decides about roles.
//! - [`tls`]: connections whose other end is known. A stream that
//!   [`tls::accept`] or [`tls::connect`] returns has a peer whose certificate
//!   was verified for this very connection, against the revocation list as it
//!   was then, and whose role is one of those asked for.
//! - [`frame`]: messages on such a stream, with a bound that holds before any
//!   memory is taken.

pub mod frame;
pub mod identity;
pub mod message;
pub mod peer;
pub mod statement;
pub mod tls;

pub use identity::{Identity, Name, Role};
