//! The HTTPS side: C2SP checkpoints and tiles (<https://c2sp.org/tlog-tiles>).
//!
//! `/checkpoint` and hash tiles reveal no content and may be open to anybody;
//! entry bundles say who looked at whom and need a certificate with a role
//! that may read.

mod encoding;
mod tiles;

use crate::{
    store::ReadError,
    store::StoreReader,
    view::{Head, Unserved, View},
};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use link::{Identity, Role, message::NodeState, tls::ReloadingServer};
use service::signals::Shutdown;
use std::{sync::Arc, time::Duration};
use tiles::{Rest, Tile, TileError};
use tokio::{net::TcpListener, sync::Semaphore};

/// The most connections at one time.
const MAX_CONNECTIONS: usize = 512;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A checkpoint is new every few seconds at most.
const MUTABLE: HeaderValue = HeaderValue::from_static("no-cache, max-age=0");
/// On a checkpoint that is older than those of others: the height that the node is on its way to.
const LAGGING: HeaderName = HeaderName::from_static("logseal-lagging-behind");
/// What a tile holds never changes.
const PUBLIC: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// Nor what only some may see.
const PRIVATE: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

/// What requests are answered from.
#[derive(Clone)]
pub struct Site {
    /// The node's public side.
    pub view: Arc<View>,
    /// The store.
    pub store: Arc<StoreReader>,
    /// True if checkpoint and hash tiles need no certificate.
    pub open_hashes: bool,
}

/// Who asks, as TLS has it.
#[derive(Clone, Debug)]
struct Client(Option<Identity>);

/// Serves until shutdown.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ReloadingServer>,
    site: Site,
    mut shutdown: Shutdown,
) {
    let router = router(site);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.wait() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let (tls, router) = (Arc::clone(&tls), router.clone());
        tokio::spawn(async move {
            let _slot = slot;
            match link::tls::accept_optional(stream, &tls, HANDSHAKE).await {
                Ok((stream, identity)) => {
                    let router = router.layer(axum::Extension(Client(identity)));
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let service = TowerToHyperService::new(router);
                    // How a client ends its connection is its own affair.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                }
                Err(error) => tracing::debug!(%error, "an HTTPS connection was refused"),
            }
        });
    }
}

/// All that is served; HEAD is answered as GET, without the bytes.
fn router(site: Site) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*path}", get(tile))
        .route("/minimum-index", get(minimum_index))
        .route("/first-entry", get(first_entry))
        .route("/entries-from/{index}", get(entries_from))
        .route("/base", get(base))
        .fallback(|| async { Refused::NotFound })
        .with_state(site)
}

/// A request that gets no tile.
#[derive(Debug)]
enum Refused {
    NotFound,
    /// The entries were given up.
    Pruned(u64),
    /// What is kept of them is not here yet.
    NoBase,
    /// A certificate, or one with another role, is needed.
    Forbidden,
    /// There is no checkpoint to serve.
    Unserved(Unserved),
    Failed,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Refused::Pruned(minimum) => {
                let text = format!(
                    "entries in front of {minimum} were given up; their hashes are still here\n"
                );
                return (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, MUTABLE)], text)
                    .into_response();
            }
            Refused::NotFound => (StatusCode::NOT_FOUND, "there is nothing at this address\n"),
            Refused::NoBase => (
                StatusCode::SERVICE_UNAVAILABLE,
                "this node waits for what is kept of pruned blocks; ask again or ask another node\n",
            ),
            Refused::Forbidden => (
                StatusCode::FORBIDDEN,
                "a client certificate with the role auditor, operator, privacy-officer or node is needed\n",
            ),
            Refused::Unserved(Unserved::NotWitnessed) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too few outside witnesses have cosigned a checkpoint yet; 'logseal status' says why\n",
            ),
            Refused::Unserved(Unserved::NoQuorum) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "this node has not heard yet that a quorum stands behind a checkpoint; ask again or ask another node\n",
            ),
            Refused::Failed => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the store cannot be read; see the node's log\n",
            ),
        };
        (status, [(header::CACHE_CONTROL, MUTABLE)], text).into_response()
    }
}

async fn checkpoint(
    State(site): State<Site>,
    axum::Extension(client): axum::Extension<Client>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    may_see_hashes(&site, &client)?;
    let text = site.view.served().map_err(Refused::Unserved)?.to_string();
    let resource = Resource {
        kind: HeaderValue::from_static("text/plain; charset=utf-8"),
        caching: MUTABLE,
        packed: None,
        bytes: text.into_bytes(),
    };
    let mut response = resource.respond(&headers);
    if let Some(NodeState::Syncing { to }) = site.view.cluster().map(|cluster| cluster.state) {
        // What is served is right, but others have more.
        response.headers_mut().insert(LAGGING, HeaderValue::from(to));
    }
    Ok(response)
}

/// The minimum index (C2SP tlog-tiles), in decimal: which bundles are not there any more.
async fn minimum_index(
    State(site): State<Site>,
    axum::Extension(client): axum::Extension<Client>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    may_see_hashes(&site, &client)?;
    Ok(number(site.store.minimum_index().0).respond(&headers))
}

/// The first entry that is still here, in decimal: at most 255 in front of the minimum index.
async fn first_entry(
    State(site): State<Site>,
    axum::Extension(client): axum::Extension<Client>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    may_see_hashes(&site, &client)?;
    Ok(number(site.store.dropped().0).respond(&headers))
}

fn number(number: u64) -> Resource {
    Resource {
        kind: HeaderValue::from_static("text/plain; charset=utf-8"),
        caching: MUTABLE,
        packed: None,
        bytes: format!("{number}\n").into_bytes(),
    }
}

/// The end of a full bundle, from an entry on: what is still here in front of the minimum index is in no bundle any more.
async fn entries_from(
    State(site): State<Site>,
    axum::Extension(client): axum::Extension<Client>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let rest = uri.path().strip_prefix("/entries-from/").and_then(Rest::parse);
    let rest = rest.ok_or(Refused::NotFound)?;
    may_read(&client)?;
    let bytes = read(&site, &uri, move |store, head| rest.read(store, head)).await?;
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok(Resource { kind, caching: PRIVATE, packed: None, bytes }.respond(&headers))
}

/// What is kept of entries that were given up: the base, without a digest behind it.
async fn base(
    State(site): State<Site>,
    axum::Extension(client): axum::Extension<Client>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    may_read(&client)?;
    let missing = if site.store.dropped().0 > 0 { Refused::NoBase } else { Refused::NotFound };
    let kept = site.store.base().ok_or(missing)?;
    let resource = Resource {
        kind: HeaderValue::from_static("application/octet-stream"),
        caching: MUTABLE,
        packed: None,
        bytes: kept.encoded.to_vec(),
    };
    Ok(resource.respond(&headers))
}

async fn tile(
    State(site): State<Site>,
    axum::Extension(client): axum::Extension<Client>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    // Of each tile, only the one spelling of the specification is there.
    let tile = uri.path().strip_prefix("/tile/").and_then(Tile::parse);
    let tile = tile.ok_or(Refused::NotFound)?;
    match tile {
        Tile::Hashes { .. } => may_see_hashes(&site, &client)?,
        Tile::Entries { .. } => may_read(&client)?,
    }
    let caching = match tile {
        Tile::Hashes { .. } if site.open_hashes => PUBLIC,
        Tile::Hashes { .. } | Tile::Entries { .. } => PRIVATE,
    };
    // Hashes do not shrink.
    let is_bundle = matches!(tile, Tile::Entries { .. });
    let pack = is_bundle && encoding::accepts_gzip(&headers);
    let bytes = read(&site, &uri, move |store, head| {
        let bytes = tile.read(store, head)?;
        Ok(if pack { encoding::gzip(&bytes) } else { bytes })
    });
    let bytes = bytes.await?;
    let kind = HeaderValue::from_static("application/octet-stream");
    let packed = is_bundle.then_some(pack);
    Ok(Resource { kind, caching, packed, bytes }.respond(&headers))
}

/// Reads something out of the store, beside the threads that answer.
async fn read(
    site: &Site,
    uri: &Uri,
    read: impl FnOnce(&StoreReader, &Head) -> Result<Vec<u8>, TileError> + Send + 'static,
) -> Result<Vec<u8>, Refused> {
    let (store, view) = (Arc::clone(&site.store), Arc::clone(&site.view));
    let read = tokio::task::spawn_blocking(move || read(&store, &view.head()));
    match read.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(TileError::NotFound)) => Err(Refused::NotFound),
        Ok(Err(TileError::Pruned | TileError::Read(ReadError::Pruned(_)))) => {
            Err(Refused::Pruned(site.store.minimum_index().0))
        }
        Ok(Err(TileError::Read(error))) => {
            tracing::error!(%error, path = uri.path(), "entries or hashes cannot be read");
            Err(Refused::Failed)
        }
        Err(_) => Err(Refused::Failed),
    }
}

/// Something that is there.
struct Resource {
    kind: HeaderValue,
    caching: HeaderValue,
    /// Whether the bytes are gzip, where that depends on who asks.
    packed: Option<bool>,
    bytes: Vec<u8>,
}

impl Resource {
    /// The answer; without the bytes if whoever asks has them.
    fn respond(self, asked: &HeaderMap) -> Response {
        let tag = encoding::tag(&self.bytes);
        let mut response = match encoding::has(asked, &tag) {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => ([(header::CONTENT_TYPE, self.kind)], Body::from(self.bytes)).into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, self.caching);
        headers.insert(header::ETAG, tag);
        if self.packed.is_some() {
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        if self.packed == Some(true) {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

fn may_see_hashes(site: &Site, client: &Client) -> Result<(), Refused> {
    if site.open_hashes || client.0.is_some() { Ok(()) } else { Err(Refused::Forbidden) }
}

fn may_read(client: &Client) -> Result<(), Refused> {
    let role = client.0.as_ref().map(|identity| identity.role);
    if role.is_some_and(Role::may_read_records) { Ok(()) } else { Err(Refused::Forbidden) }
}

#[cfg(test)]
mod tests;
