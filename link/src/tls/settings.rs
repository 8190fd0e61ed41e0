//! What a listener or a connector demands, fixed at its start.

use rustls::SupportedProtocolVersion;

use crate::Role;

use super::TlsFiles;

static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
static TLS13_AND_12: &[&SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// What a listener demands.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    pub(super) files: TlsFiles,
    pub(super) own: Vec<Role>,
    pub(super) accepts: Vec<Role>,
    pub(super) versions: &'static [&'static SupportedProtocolVersion],
    pub(super) optional: bool,
    pub(super) alpn: Vec<Vec<u8>>,
}

/// What a connector demands of its own files; whom it talks to is said with
/// every connection.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    pub(super) files: TlsFiles,
    pub(super) own: Vec<Role>,
    pub(super) alpn: Vec<Vec<u8>>,
}

impl ServerSettings {
    /// For our own programs: TLS 1.3, and every client shows a certificate in
    /// one of the roles of `accepts`. Our own must be in one of the roles of
    /// `own`; if that is empty, any will do, with an identity or without.
    pub fn internal(files: TlsFiles, own: &[Role], accepts: &[Role]) -> Self {
        ServerSettings {
            files,
            own: own.to_vec(),
            accepts: accepts.to_vec(),
            versions: TLS13,
            optional: false,
            alpn: Vec::new(),
        }
    }

    /// For syslog senders: as [`ServerSettings::internal`], and TLS 1.2 as well.
    pub fn syslog(files: TlsFiles, own: &[Role], accepts: &[Role]) -> Self {
        ServerSettings { versions: TLS13_AND_12, ..Self::internal(files, own, accepts) }
    }

    /// For browsers and HTTP clients: TLS 1.3; a client may show no
    /// certificate, and one that it does show must be in one of the roles of
    /// `accepts`. Offers HTTP/2 and HTTP/1.1.
    pub fn https(files: TlsFiles, own: &[Role], accepts: &[Role]) -> Self {
        let alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        ServerSettings { optional: true, alpn, ..Self::internal(files, own, accepts) }
    }
}

impl ClientSettings {
    /// TLS 1.3 with our certificate, which must be in one of the roles of
    /// `own`; if that is empty, any will do.
    pub fn new(files: TlsFiles, own: &[Role]) -> Self {
        ClientSettings { files, own: own.to_vec(), alpn: Vec::new() }
    }

    /// Offers these application protocols, `http/1.1` for example.
    #[must_use]
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        self
    }
}
