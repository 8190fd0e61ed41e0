//! A certificate authority, and two ends that meet.

use std::{path::PathBuf, sync::Arc, time::Duration};

use certs::{Issued, LEAF_DAYS, Pki, Reason, Request, Timestamp, Validity, Which};
use logseal_link::{
    Identity, Role,
    tls::{
        ClientSettings, HandshakeError, Problem, ReloadingClient, ReloadingServer, ServerSettings,
        TlsFiles, TlsStream, accept, connect,
    },
};
use pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Longer than any handshake takes, short enough for a test that hangs.
pub const LIMIT: Duration = Duration::from_secs(20);

pub type Met = Result<(TlsStream<TcpStream>, Identity), HandshakeError>;

/// An authority in a temporary directory.
pub struct World {
    pub pki: Pki,
    _dir: tempfile::TempDir,
}

impl World {
    pub fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let validity = Validity::days(now(), 3650).unwrap();
        let pki = Pki::init(&dir.path().join("pki"), name, validity, now()).unwrap();
        World { pki, _dir: dir }
    }

    pub fn issue(&self, role: Role, name: &str) -> TlsFiles {
        self.issue_for(role, name, Validity::days(now(), LEAF_DAYS).unwrap())
    }

    pub fn issue_for(&self, role: Role, name: &str, validity: Validity) -> TlsFiles {
        let request = Request::new(role.as_str(), name, validity).unwrap();
        self.files(self.pki.issue(&request).unwrap())
    }

    pub fn revoke(&self, role: Role, name: &str) {
        let which = Which::identity(role.as_str(), name).unwrap();
        self.pki.revoke(&which, Reason::KeyCompromise, now()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.pki.dir().join(name)
    }

    fn files(&self, issued: Issued) -> TlsFiles {
        TlsFiles {
            ca: self.pki.ca(),
            cert: issued.certificate,
            key: issued.key,
            crl: Some(self.pki.crl()),
        }
    }
}

pub fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// A day that is over.
pub fn past() -> Validity {
    let end = now().minus_seconds(1000);
    Validity { not_before: end.minus_seconds(86_400), not_after: end }
}

/// A node's listener for agents and nodes.
pub fn server(files: TlsFiles) -> ReloadingServer {
    let settings = ServerSettings::internal(files, &[Role::Node], &[Role::Agent, Role::Node]);
    ReloadingServer::open(settings).unwrap()
}

pub fn client(files: TlsFiles) -> ReloadingClient {
    ReloadingClient::open(ClientSettings::new(files, &[])).unwrap()
}

/// A client that checks nothing of its own files, as a stranger's would.
pub fn raw_client(
    world: &World,
    own: Option<&TlsFiles>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(world.pki.ca()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain = vec![CertificateDer::from_pem_file(&files.cert).unwrap()];
            let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

/// What the two ends make of each other: the server, and the client.
pub async fn meet(
    server: &ReloadingServer,
    client: &ReloadingClient,
    required: Role,
) -> (Met, Met) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        accept(stream, server, LIMIT).await
    };
    tokio::join!(serve, connect(addr, "localhost", client, required, LIMIT))
}

/// What the server makes of a stranger, and what the stranger is told.
pub async fn meet_raw(
    server: &ReloadingServer,
    config: Arc<ClientConfig>,
) -> (Met, Option<Problem>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut met = accept(stream, server, LIMIT).await;
        if let Ok((stream, _)) = &mut met {
            // Otherwise the stranger would wait for a word that never comes.
            stream.shutdown().await.unwrap();
        }
        met
    };
    let approach = async {
        let stream = TcpStream::connect(addr).await.unwrap();
        let name = "localhost".try_into().unwrap();
        match tokio_rustls::TlsConnector::from(config).connect(name, stream).await {
            Err(error) => Some(Problem::from_io(error)),
            Ok(stream) => told(stream).await,
        }
    };
    let (met, told) = tokio::join!(serve, async { tokio::time::timeout(LIMIT, approach).await });
    (met, told.unwrap_or(None))
}

/// What the other end says by way of a TLS alert.
pub async fn told(mut stream: impl tokio::io::AsyncRead + Unpin) -> Option<Problem> {
    let mut buffer = [0; 1];
    let read = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut buffer)).await;
    read.ok()?.err().map(Problem::from_io)
}
