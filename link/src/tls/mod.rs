//! TLS connections whose other end is known.
//!
//! What holds for every stream that [`accept`] and [`connect`] return:
//!
//! - The peer's certificate was verified in this very handshake, against the
//!   CA and the revocation list that were in force when it began. Sessions are
//!   never resumed: resuming would skip exactly that.
//! - The peer's certificate names one [`Identity`](crate::Identity), and its
//!   role is one of those asked for. This is checked within the handshake, so a
//!   peer that is refused learns it from a TLS alert and not from a silence.
//! - A revocation list that has run out refuses everybody. Who must not be
//!   stopped by that watches [`Warning::CrlExpires`], or configures no list.
//!
//! With TLS 1.3 a client is done before the server has judged its certificate.
//! [`connect`] can therefore succeed and the first read fail:
//! [`Problem::from_io`] says from that error why the server refused.
//!
//! No process-wide cryptographic provider is used or installed.

mod files;
mod handshake;
mod problem;
mod public;
mod reload;
mod settings;
mod stamp;
mod verify;
mod warning;

pub use files::{Credentials, FileKind, FileProblem, FilesError, TlsFiles};
pub use handshake::{accept, accept_optional, connect};
pub use problem::{Fault, HandshakeError, Problem};
pub use public::{PublicClient, PublicServer};
pub use reload::{ReloadingClient, ReloadingServer};
pub use settings::{ClientSettings, ServerSettings};
pub use tokio_rustls::TlsStream;
pub use verify::NotAccepted;
pub use warning::{EXPIRY_WARNING_DAYS, Warning};

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The cryptography of all our connections.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
