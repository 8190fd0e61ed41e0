//! Handshakes with a deadline, and the farewell to those that fail.

use std::{fmt, io, time::Duration};

use pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, ToSocketAddrs},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{Identity, Role};

use super::{HandshakeError, Problem, ReloadingClient, ReloadingServer, verify::admit};

/// How long a peer that was refused has to take the alert, beyond the handshake's own time.
const FAREWELL: Duration = Duration::from_millis(500);
/// How many bytes of such a peer are read and thrown away.
const FAREWELL_BYTES: usize = 64 << 10;

/// Accepts a client that shows a certificate in one of the server's accepted
/// roles. Takes at most `limit` and half a second.
///
/// # Errors
/// What happened, with the peer's address. The peer has been sent an alert
/// where TLS has one for it.
pub async fn accept(
    stream: TcpStream,
    server: &ReloadingServer,
    limit: Duration,
) -> Result<(TlsStream<TcpStream>, Identity), HandshakeError> {
    let peer = address(&stream);
    let (mut stream, identity) = accept_optional(stream, server, limit).await?;
    match identity {
        Some(identity) => Ok((stream, identity)),
        None => {
            let _ = timeout(FAREWELL, stream.shutdown()).await;
            Err(HandshakeError::new(peer, Problem::NoCertificate))
        }
    }
}

/// As [`accept`], for listeners made with
/// [`ServerSettings::https`](super::ServerSettings::https): answers `None` for a
/// client that shows no certificate.
///
/// # Errors
/// Those of [`accept`].
pub async fn accept_optional(
    stream: TcpStream,
    server: &ReloadingServer,
    limit: Duration,
) -> Result<(TlsStream<TcpStream>, Option<Identity>), HandshakeError> {
    let peer = address(&stream);
    let fail = |problem| HandshakeError::new(&peer, problem);
    stream.set_nodelay(true).map_err(|e| fail(Problem::Io(e)))?;
    let handshake = TlsAcceptor::from(server.config()).accept(stream).into_fallible();
    let done = timeout(limit, handshake).await.map_err(|_| fail(Problem::TimedOut(limit)))?;
    let stream = match done {
        Ok(stream) => TlsStream::from(stream),
        Err((error, stream)) => return Err(fail(give_up(error, stream).await)),
    };
    let identity = identity(&stream, server.accepts()).map_err(fail)?;
    Ok((stream, identity))
}

/// A connection to the server at `addr`, on which nothing was said yet, and the name that its certificate must be for.
pub(super) async fn reach(
    addr: impl ToSocketAddrs,
    server_name: &str,
) -> Result<(ServerName<'static>, TcpStream), Problem> {
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|_| Problem::BadServerName(server_name.chars().take(100).collect()))?;
    let tcp = TcpStream::connect(addr).await.map_err(Problem::Unreachable)?;
    tcp.set_nodelay(true).map_err(Problem::Io)?;
    Ok((name, tcp))
}

/// Connects to the server at `addr`, whose certificate must be for
/// `server_name` (a DNS name or IP address) and in the role `required`. Takes
/// at most `limit` and half a second.
///
/// # Errors
/// What happened, with `addr`. That the server refuses *our* certificate shows
/// only in the first read: see [`Problem::from_io`].
pub async fn connect(
    addr: impl ToSocketAddrs + fmt::Display,
    server_name: &str,
    client: &ReloadingClient,
    required: Role,
    limit: Duration,
) -> Result<(TlsStream<TcpStream>, Identity), HandshakeError> {
    let peer = addr.to_string();
    let fail = |problem| HandshakeError::new(&peer, problem);
    let deadline = Instant::now() + limit;
    let late = |_| fail(Problem::TimedOut(limit));
    let (name, tcp) =
        timeout_at(deadline, reach(addr, server_name)).await.map_err(late)?.map_err(fail)?;
    let connector = TlsConnector::from(client.config(&[required]));
    let handshake = connector.connect(name, tcp).into_fallible();
    let stream = match timeout_at(deadline, handshake).await.map_err(late)? {
        Ok(stream) => TlsStream::from(stream),
        Err((error, stream)) => return Err(fail(give_up(error, stream).await)),
    };
    match identity(&stream, &[required]).map_err(fail)? {
        Some(identity) => Ok((stream, identity)),
        None => Err(fail(Problem::NoCertificate)),
    }
}

/// The identity in the certificate that the handshake verified.
fn identity(stream: &TlsStream<TcpStream>, accepts: &[Role]) -> Result<Option<Identity>, Problem> {
    let (_, connection) = stream.get_ref();
    match connection.peer_certificates() {
        None | Some([]) => Ok(None),
        Some([leaf, ..]) => admit(leaf, accepts).map(Some).map_err(Problem::NotAccepted),
    }
}

/// Closing a socket with unread input resets the connection, and a reset
/// overtakes the alert that says why. So input is read and thrown away until
/// the peer has taken the alert and gone, within bounds.
async fn give_up(error: io::Error, mut stream: TcpStream) -> Problem {
    let farewell = async {
        stream.shutdown().await?;
        let mut left = FAREWELL_BYTES;
        let mut sink = [0; 4096];
        while left > 0 {
            match stream.read(&mut sink).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        io::Result::Ok(())
    };
    let _ = timeout(FAREWELL, farewell).await;
    Problem::from_io(error)
}

fn address(stream: &TcpStream) -> String {
    stream.peer_addr().map_or_else(|_| "a peer that has gone".to_owned(), |addr| addr.to_string())
}
