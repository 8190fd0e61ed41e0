//! TLS with parties outside the ledger: their certificates carry no role of ours.
//!
//! What they say is believed for signatures inside it and never for the connection. So a server
//! asks no certificate of whoever connects, and a client checks only that the server is the host
//! that it was told to reach.

use super::{FilesError, HandshakeError, Problem, TlsFiles, handshake::reach, provider};
use crate::Role;
use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig, sign::SingleCertAndKey};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpStream, ToSocketAddrs},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// A listener that anybody may connect to.
#[derive(Debug)]
pub struct PublicServer {
    files: TlsFiles,
    current: ArcSwap<ServerConfig>,
}

/// A connector to servers with a certificate of the given authorities.
#[derive(Clone, Debug)]
pub struct PublicClient(Arc<ClientConfig>);

impl PublicServer {
    /// Loads a certificate, with those that lead to its root behind it, and its private key.
    ///
    /// # Errors
    /// The first file that cannot be used, and why.
    pub fn open(cert: PathBuf, key: PathBuf) -> Result<Self, FilesError> {
        let files = TlsFiles { ca: PathBuf::new(), cert, key, crl: None };
        let current = ArcSwap::from_pointee(Self::load(&files)?);
        Ok(PublicServer { files, current })
    }

    /// Reads the files again. Connections that begin from now on use them.
    ///
    /// # Errors
    /// The first file that cannot be used; everything stays as it was.
    pub fn reload(&self) -> Result<(), FilesError> {
        self.current.store(Arc::new(Self::load(&self.files)?));
        Ok(())
    }

    fn load(files: &TlsFiles) -> Result<ServerConfig, FilesError> {
        let certified = files.load_own()?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Accepts whoever connects. Takes at most `limit`.
    ///
    /// # Errors
    /// The handshake failed or took too long.
    pub async fn accept(
        &self,
        stream: TcpStream,
        limit: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        stream.set_nodelay(true)?;
        let handshake = TlsAcceptor::from(self.current.load_full()).accept(stream);
        Ok(TlsStream::from(timeout(limit, handshake).await??))
    }
}

impl PublicClient {
    /// Trusts the certificate authorities in this PEM file.
    ///
    /// # Errors
    /// The file cannot be used, and why.
    pub fn open(ca: &Path) -> Result<Self, FilesError> {
        let none = PathBuf::new();
        let files = TlsFiles { ca: ca.to_owned(), cert: none.clone(), key: none, crl: None };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3")
            .with_root_certificates(files.load_roots()?)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(PublicClient(Arc::new(config)))
    }

    /// Connects to the server at `addr`, whose certificate must be for `server_name`. Takes at
    /// most `limit`.
    ///
    /// # Errors
    /// What happened, with `addr`.
    pub async fn connect(
        &self,
        addr: impl ToSocketAddrs + fmt::Display,
        server_name: &str,
        limit: Duration,
    ) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let peer = addr.to_string();
        let fail = |problem| HandshakeError::new(&peer, problem);
        let deadline = Instant::now() + limit;
        let late = |_| fail(Problem::TimedOut(limit));
        let (name, tcp) =
            timeout_at(deadline, reach(addr, server_name)).await.map_err(late)?.map_err(fail)?;
        let handshake = TlsConnector::from(Arc::clone(&self.0)).connect(name, tcp);
        let stream = timeout_at(deadline, handshake).await.map_err(late)?;
        Ok(TlsStream::from(stream.map_err(|error| fail(Problem::from_io(error)))?))
    }
}

/// Any role will do for a certificate of our own that strangers see.
pub(super) const ANY: &[Role] = &[];
