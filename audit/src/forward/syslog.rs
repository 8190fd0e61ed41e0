//! A receiver of syslog over TLS as the output (RFC 5425).
//!
//! The protocol has no answers. What the system's socket took counts as delivered: if the receiver, or
//! the way to it, dies then, what it had not read is lost, and nobody can know. Nothing comes twice but
//! what was under way when the connection broke, or this program was killed.

use super::config::SyslogOutput;
use crate::output::{Failure, fail};
use pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use service::signals::Shutdown;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The longest time to connect.
const LIMIT: Duration = Duration::from_secs(20);
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// A receiver.
pub struct SyslogSink {
    output: SyslogOutput,
    handle: Handle,
    shutdown: Shutdown,
    stream: Option<TlsStream<TcpStream>>,
}

impl SyslogSink {
    /// Reads the certificate files; connects later.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn new(
        output: &SyslogOutput,
        handle: &Handle,
        shutdown: &Shutdown,
    ) -> Result<Self, Failure> {
        config(output)?;
        let (handle, shutdown) = (handle.clone(), shutdown.clone());
        Ok(SyslogSink { output: output.clone(), handle, shutdown, stream: None })
    }

    /// Hands bytes to the system's socket, and waits for as long as the receiver holds back.
    ///
    /// # Errors
    /// It cannot be reached, ended the connection, or this program is to stop.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut shutdown = self.shutdown.clone();
        let handle = self.handle.clone();
        let result = handle.block_on(async {
            tokio::select! {
                biased;
                result = self.hand_over(bytes) => result,
                () = shutdown.wait() => Err(Failure("stopping".into())),
            }
        });
        if result.is_err() {
            self.stream = None;
        }
        result.map_err(|failure| Failure(format!("{}: {failure}", self.output.server)))
    }

    async fn hand_over(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(connect(&self.output).await?),
        };
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut nothing = [0; 256];
        let heard = async {
            loop {
                // A receiver has nothing to say but its farewell.
                match reader.read(&mut nothing).await {
                    Ok(0) => return Failure("the receiver ended the connection".into()),
                    Ok(_) => {}
                    Err(error) => return fail(error),
                }
            }
        };
        tokio::select! {
            biased;
            failure = heard => Err(failure),
            written = async {
                writer.write_all(bytes).await?;
                writer.flush().await
            } => written.map_err(fail),
        }
    }

    /// Connects again at the next write, with the certificate files as they are then.
    pub fn reload(&mut self) {
        self.close();
    }

    /// Ends the connection in order.
    pub fn close(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            // All was handed over; what the receiver makes of the farewell is its own affair.
            let _ = self.handle.block_on(async {
                let _ = timeout(FAREWELL, stream.shutdown()).await;
                timeout(FAREWELL, stream.read(&mut [0; 16])).await
            });
        }
    }
}

/// Puts a message into a frame: its length, a space, and its bytes.
pub fn frame(entry: &[u8], out: &mut Vec<u8>) {
    out.extend(entry.len().to_string().bytes());
    out.push(b' ');
    out.extend_from_slice(entry);
}

async fn connect(output: &SyslogOutput) -> Result<TlsStream<TcpStream>, Failure> {
    let host = output.server.rsplit_once(':').map_or(&*output.server, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = output.name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name).map_err(fail)?;
    let connector = TlsConnector::from(Arc::new(config(output)?));
    let connected = timeout(LIMIT, async {
        let stream = TcpStream::connect(&output.server).await?;
        stream.set_nodelay(true)?;
        connector.connect(name, stream).await
    });
    match connected.await {
        Ok(connected) => connected.map_err(fail),
        Err(_) => Err(Failure(format!("no connection within {LIMIT:?}"))),
    }
}

fn config(output: &SyslogOutput) -> Result<ClientConfig, Failure> {
    let named = |path: &Path, error: &dyn std::fmt::Display| {
        Failure(format!("{}: {error}", path.display()))
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(&output.ca)? {
        roots.add(root).map_err(|error| named(&output.ca, &error))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .map_err(fail)?
        .with_root_certificates(roots);
    let Some((cert, key)) = output.cert.as_ref().zip(output.key.as_ref()) else {
        return Ok(builder.with_no_client_auth());
    };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, &error))?;
    builder.with_client_auth_cert(certificates(cert)?, private).map_err(|error| named(cert, &error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let named = |error: pki_types::pem::Error| Failure(format!("{}: {error}", path.display()));
    let found = CertificateDer::pem_file_iter(path).map_err(named)?;
    found.collect::<Result<_, _>>().map_err(named)
}
