//! The witness's HTTP side.
//!
//! Anybody may connect: a request that no key of a known log signed changes nothing. What one
//! connection may take of memory and time is bounded, and so are the connections.

use super::{
    Config,
    book::{Book, Refused},
};
use crate::output::{Failure, Outcome, fail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use link::tls::PublicServer;
use record::witness::{MAX_REQUEST, Refusal, SIZE_TYPE};
use service::signals::{self, Reload, Shutdown};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};

/// The most connections at one time.
const MAX_CONNECTIONS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may take for the next request's head, and as long again for its body.
const PATIENCE: Duration = Duration::from_secs(30);
const TEXT: &str = "text/plain; charset=utf-8";

/// Serves until it is told to stop, or until it is not known any more what is on disk.
pub(super) async fn run(config: Config) -> Result<Outcome, Failure> {
    let signer = config.load_key().map_err(fail)?;
    let (shutdown, reload) = signals::listen().map_err(fail)?;
    let tls = match &config.tls {
        None => None,
        Some((cert, key)) => {
            Some(Arc::new(PublicServer::open(cert.clone(), key.clone()).map_err(fail)?))
        }
    };
    let vkey = signer.vkey().to_string();
    let book = Arc::new(Book::open(signer, &config.state, &config.logs).map_err(fail)?);
    let listener = service::metrics::bind(config.listen, "witness").await.map_err(fail)?;
    if let Some(tls) = &tls {
        tokio::spawn(reload_certificate(Arc::clone(tls), reload, shutdown.clone()));
    }
    signals::ready();
    tracing::info!(%vkey, listen = %config.listen, logs = config.logs.len(), "witnessing");
    let (lost, mut is_lost) = watch::channel(false);
    let serving = serve(listener, tls, book, lost, shutdown);
    tokio::select! {
        () = serving => Ok(ended(service::exit::OK)),
        _ = is_lost.wait_for(|lost| *lost) => Ok(ended(service::exit::FAILED)),
    }
}

fn ended(code: u8) -> Outcome {
    Outcome { text: String::new(), json: serde_json::json!({ "stopped": true }), code }
}

async fn serve(
    listener: TcpListener,
    tls: Option<Arc<PublicServer>>,
    book: Arc<Book>,
    lost: watch::Sender<bool>,
    mut shutdown: Shutdown,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let lost = Arc::new(lost);
    loop {
        let accepted = tokio::select! {
            () = shutdown.wait() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!(%peer, "a connection was refused: {MAX_CONNECTIONS} are open");
            continue;
        };
        let (tls, book, lost) = (tls.clone(), Arc::clone(&book), Arc::clone(&lost));
        tokio::spawn(async move {
            let _slot = slot;
            connection(stream, tls, book, lost).await;
        });
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<Arc<PublicServer>>,
    book: Arc<Book>,
    lost: Arc<watch::Sender<bool>>,
) {
    match tls {
        None => requests(stream, book, lost).await,
        Some(tls) => match tls.accept(stream, HANDSHAKE).await {
            Ok(stream) => requests(stream, book, lost).await,
            Err(error) => tracing::debug!(%error, "a connection was refused"),
        },
    }
}

async fn requests<S>(stream: S, book: Arc<Book>, lost: Arc<watch::Sender<bool>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |request| {
        let (book, lost) = (Arc::clone(&book), Arc::clone(&lost));
        async move { Ok::<_, Infallible>(respond(request, book, &lost).await) }
    });
    let server = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_REQUEST)
        .serve_connection(TokioIo::new(stream), answer);
    // How a client ends its connection is its own affair.
    let _ = server.await;
}

async fn respond(
    request: Request<Incoming>,
    book: Arc<Book>,
    lost: &watch::Sender<bool>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if path == "/add-checkpoint" {
        return match *request.method() {
            Method::POST => add_checkpoint(request, book, lost).await,
            _ => not_allowed("POST"),
        };
    }
    let hash = path.strip_prefix('/').and_then(|path| path.strip_suffix("/checkpoint"));
    let hash = hash.map(str::to_owned);
    // The log may be locked by somebody who waits for the disk.
    let latest = tokio::task::spawn_blocking(move || hash.and_then(|hash| book.latest(&hash)));
    match latest.await.ok().flatten() {
        None => plain(StatusCode::NOT_FOUND, "there is nothing at this address\n".into()),
        Some(note) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            let mut response = plain(StatusCode::OK, note);
            let fresh = HeaderValue::from_static("no-cache, max-age=0");
            response.headers_mut().insert(header::CACHE_CONTROL, fresh);
            response
        }
        Some(_) => not_allowed("GET, HEAD"),
    }
}

async fn add_checkpoint(
    request: Request<Incoming>,
    book: Arc<Book>,
    lost: &watch::Sender<bool>,
) -> Response<Full<Bytes>> {
    let body = Limited::new(request.into_body(), MAX_REQUEST).collect();
    let body = match timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let problem = format!("a request has at most {MAX_REQUEST} bytes\n");
            return plain(StatusCode::PAYLOAD_TOO_LARGE, problem);
        }
        Err(_) => {
            return plain(StatusCode::REQUEST_TIMEOUT, "the request came too slowly\n".into());
        }
    };
    let now = service::clock::now().seconds();
    // What was begun is finished, even if the client goes away.
    let added = tokio::task::spawn_blocking(move || book.add(&body, now)).await;
    let refused = match added {
        Ok(Ok(line)) => return plain(StatusCode::OK, line),
        Ok(Err(refused)) => refused,
        Err(_) => return plain(StatusCode::INTERNAL_SERVER_ERROR, "the witness failed\n".into()),
    };
    match &refused {
        Refused::Judged(Refusal::Conflict { latest }) => {
            let mut response = plain(StatusCode::CONFLICT, format!("{latest}\n"));
            let kind = HeaderValue::from_static(SIZE_TYPE);
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            return response;
        }
        Refused::Judged(Refusal::Inconsistent) => {
            tracing::error!(
                "a log's own signature is on a checkpoint that does not extend the one cosigned before"
            );
        }
        Refused::Disk(error) => tracing::error!(%error, "a checkpoint was not cosigned"),
        Refused::Lost(error) => {
            tracing::error!(%error, "stopping: the next start reads what is on disk");
            lost.send_replace(true);
        }
        _ => tracing::debug!(%refused, "a request was refused"),
    }
    let status = StatusCode::from_u16(refused.status());
    plain(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), format!("{refused}\n"))
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
    response
}

fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed}\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Reads the certificate again on SIGHUP; a bad file changes nothing.
async fn reload_certificate(tls: Arc<PublicServer>, mut reload: Reload, mut shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            changed = reload.changed() => if changed.is_err() { return },
        }
        match tls.reload() {
            Ok(()) => tracing::info!("the certificate was read again"),
            Err(error) => tracing::error!(%error, "kept the certificate that was in use"),
        }
    }
}
