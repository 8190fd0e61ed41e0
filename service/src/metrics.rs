//! Metrics over HTTP on loopback, in the OpenMetrics text format that Prometheus reads.

use crate::signals::Shutdown;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Bytes, header, service::service_fn};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;

/// A listener's address is in use, or not this machine's.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {purpose}: {hint}")]
pub struct BindError {
    address: SocketAddr,
    purpose: &'static str,
    hint: String,
}

/// Binds a listener; the error says which address and what to do.
pub async fn bind(address: SocketAddr, purpose: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another program uses this port; stop it or configure another port".to_owned()
            }
            io::ErrorKind::AddrNotAvailable => "this machine does not have this address".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need a privilege; configure a higher one".to_owned()
            }
            _ => error.to_string(),
        };
        BindError { address, purpose, hint }
    })
}

/// Serves `/metrics` until shutdown.
pub async fn serve(listener: TcpListener, registry: Arc<Registry>, mut shutdown: Shutdown) {
    loop {
        let stream = tokio::select! {
            () = shutdown.wait() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                    continue;
                }
            },
        };
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let response = respond(&request, &registry);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer);
            // A scraper that goes away early is nobody's fault.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(10), connection).await;
        });
    }
}

fn respond<B>(request: &Request<B>, registry: &Registry) -> Response<Full<Bytes>> {
    let mut text = String::new();
    let (status, kind, body) = if request.uri().path() != "/metrics" {
        (StatusCode::NOT_FOUND, "text/plain", "metrics are at /metrics\n".to_owned())
    } else if prometheus_client::encoding::text::encode(&mut text, registry).is_err() {
        (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "metrics cannot be written\n".to_owned())
    } else {
        (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
