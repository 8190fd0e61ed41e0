//! A client over TLS, and a syslog sender, as any device with a certificate of the role
//! syslog-client could be.

use super::{Site, SiteError};
use pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::{
    fmt::Display,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long the receiver may take to answer a goodbye.
const FAREWELL: Duration = Duration::from_secs(10);

/// A client's end of a TLS connection.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A connection to the agent's syslog port.
#[derive(Debug)]
pub struct SyslogSender {
    tls: TlsStream,
}

impl Site {
    /// Connects to the agent's syslog port. It listens once the agent's place in the ledger is
    /// known, a moment after it started.
    pub fn reach_syslog(&self) -> Result<TcpStream, SiteError> {
        let deadline = Instant::now() + FAREWELL;
        loop {
            match TcpStream::connect(("127.0.0.1", self.syslog_port)) {
                Err(error)
                    if error.kind() == ErrorKind::ConnectionRefused
                        && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                other => return other.map_err(failed),
            }
        }
    }

    /// Makes a TLS connection of one to a listener of the site, with a certificate and its key from
    /// these files, or with none, and waits until the handshake is over. With TLS 1.3 a refusal
    /// shows only later, when something is read.
    pub fn secure(
        &self,
        stream: TcpStream,
        files: Option<(&Path, &Path)>,
    ) -> Result<TlsStream, SiteError> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.path("pki/ca.pem")).map_err(failed)?;
        roots.add(ca).map_err(failed)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_root_certificates(roots);
        let config = match files {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = vec![CertificateDer::from_pem_file(cert).map_err(failed)?];
                let key = PrivateKeyDer::from_pem_file(key).map_err(failed)?;
                builder.with_client_auth_cert(chain, key).map_err(failed)?
            }
        };
        let name = ServerName::try_from("localhost").map_err(failed)?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(failed)?;
        stream.set_read_timeout(Some(FAREWELL)).map_err(failed)?;
        let mut tls = StreamOwned::new(connection, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).map_err(failed)?;
        }
        Ok(tls)
    }
}

impl SyslogSender {
    /// Connects with the certificate of a syslog client of the site.
    pub fn connect(site: &Site, name: &str) -> Result<Self, SiteError> {
        let files = (site.cert("syslog-client", name), site.key("syslog-client", name));
        Self::connect_as(site, Some((&files.0, &files.1)))
    }

    /// Connects with a certificate and its key from these files, or with none, and waits until the
    /// handshake is over. A refusal may show only later, in [`SyslogSender::close`].
    pub fn connect_as(site: &Site, files: Option<(&Path, &Path)>) -> Result<Self, SiteError> {
        Ok(SyslogSender { tls: site.secure(site.reach_syslog()?, files)? })
    }

    /// Sends a message counted in octets (RFC 5425, section 4.3).
    pub fn send(&mut self, message: &[u8]) -> Result<(), SiteError> {
        let mut frame = format!("{} ", message.len()).into_bytes();
        frame.extend_from_slice(message);
        self.send_raw(&frame)
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), SiteError> {
        self.tls.write_all(bytes).and_then(|()| self.tls.flush()).map_err(failed)
    }

    /// Says goodbye and waits for the receiver's, so that nothing is cut off on the way.
    pub fn close(mut self) -> Result<(), SiteError> {
        self.tls.conn.send_close_notify();
        self.tls.flush().map_err(failed)?;
        self.wait_closed()
    }

    /// Waits until the receiver closes the connection; an error if it does so with an alert.
    pub fn wait_closed(&mut self) -> Result<(), SiteError> {
        let mut nothing = [0; 64];
        match self.tls.read(&mut nothing) {
            Ok(0) => Ok(()),
            Ok(_) => Err(SiteError::Other("syslog: the receiver said something".into())),
            Err(error) => Err(failed(error)),
        }
    }
}

fn failed(error: impl Display) -> SiteError {
    SiteError::Other(format!("syslog: {error}"))
}
