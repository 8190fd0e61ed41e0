//! One request, from its head to its answer.

use std::{convert::Infallible, io::Read, sync::Arc, time::Duration};

use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use pipeline::{
    line::{Chunk, ChunkOrigin, LineSpan, SourceEvent},
    otlp::{self, Lines},
};
use tokio::{select, time::timeout};

use super::{
    Door, TRANSPORT,
    answer::{Encoding, Refusal, refusal, success},
};
use crate::{
    sources::{CHUNK_BYTES, now, stats::add},
    tickets::Settled,
};

/// How long a request may take to come in.
const BODY: Duration = Duration::from_secs(30);

/// For how long a pipeline that takes nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers a request.
pub(super) async fn handle(
    door: &Door,
    request: Request<Incoming>,
    peer: Option<Arc<str>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let encoding = content_type.and_then(Encoding::of);
    let taken = match head(&request, encoding) {
        Ok(encoding) => take(door, request, encoding, peer).await,
        Err(refusal) => Err(refusal),
    };
    let encoding = encoding.unwrap_or_default();
    Ok(match taken {
        Ok(rejected) => success(encoding, rejected),
        Err(reason) => {
            add(&door.outlet.stats.refused_requests, 1);
            door.say("request", &reason.message);
            refusal(encoding, &reason)
        }
    })
}

fn refuse<T>(status: StatusCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, message: message.into() })
}

fn head(request: &Request<Incoming>, encoding: Option<Encoding>) -> Result<Encoding, Refusal> {
    if request.uri().path() != "/v1/logs" {
        return refuse(StatusCode::NOT_FOUND, "only logs are taken, at /v1/logs");
    }
    if request.method() != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "send logs with POST");
    }
    let hint = "the content type must be application/x-protobuf or application/json";
    encoding.map_or_else(|| refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, hint), Ok)
}

/// Takes a request over: all of it is durable when this returns how many records were rejected.
async fn take(
    door: &Door,
    request: Request<Incoming>,
    encoding: Encoding,
    peer: Option<Arc<str>>,
) -> Result<u64, Refusal> {
    let settled = {
        // So many at a time bound what is held, however many connections there are.
        let Ok(_room) = door.room.acquire().await else { return unavailable() };
        let body = body(door, request).await?;
        let lines = match encoding {
            Encoding::Protobuf => otlp::from_protobuf(&body),
            Encoding::Json => otlp::from_json(&body),
        };
        drop(body);
        let lines = lines.or_else(|error| refuse(StatusCode::BAD_REQUEST, error.to_string()))?;
        add(&door.outlet.stats.rejected_records, lines.rejected);
        let rejected = lines.rejected;
        match hand_over(door, &lines, peer).await? {
            Some(settled) => (settled, rejected),
            None => return Ok(rejected),
        }
    };
    let (settled, rejected) = settled;
    match settled.await {
        Ok(()) => Ok(rejected),
        Err(_) => unavailable(),
    }
}

fn unavailable<T>() -> Result<T, Refusal> {
    let problem = "the agent cannot take more at the moment: send this again later";
    refuse(StatusCode::SERVICE_UNAVAILABLE, problem)
}

/// The request's body, unpacked, within bounds.
async fn body(door: &Door, request: Request<Incoming>) -> Result<Vec<u8>, Refusal> {
    let limit = door.config.max_request;
    let packed = request.headers().get(CONTENT_ENCODING).map(|value| value.as_bytes().to_vec());
    let collected = Limited::new(request.into_body(), limit).collect();
    let collected = select! {
        biased;
        () = door.stopping() => return unavailable(),
        collected = timeout(BODY, collected) => collected,
    };
    let too_large = || {
        let hint = "send fewer records at a time, or raise max_request_kib";
        refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a request has more than {limit} bytes: {hint}"),
        )
    };
    let bytes = match collected {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return too_large(),
        Ok(Err(error)) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
        Err(_) => {
            return refuse(StatusCode::REQUEST_TIMEOUT, "the request did not come to its end");
        }
    };
    match packed.as_deref() {
        None | Some(b"identity") => Ok(bytes.to_vec()),
        Some(b"gzip") => {
            let mut unpacked = Vec::new();
            let mut reader = MultiGzDecoder::new(&bytes[..]).take(limit as u64 + 1);
            match reader.read_to_end(&mut unpacked) {
                Ok(_) if unpacked.len() > limit => too_large(),
                Ok(_) => Ok(unpacked),
                Err(error) => refuse(StatusCode::BAD_REQUEST, format!("it is no gzip: {error}")),
            }
        }
        Some(_) => refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content encoding must be gzip"),
    }
}

/// Hands over all lines, in chunks; the last one has the ticket. Nothing if there is no line.
///
/// If the pipeline takes the first ones and not the others, the exporter sends all again.
async fn hand_over(
    door: &Door,
    lines: &Lines,
    peer: Option<Arc<str>>,
) -> Result<Option<Settled>, Refusal> {
    let transport = if peer.is_none() { Some(TRANSPORT) } else { None };
    let origin = ChunkOrigin::Sender { peer, transport };
    let mut left = &lines.spans[..];
    while let Some(first) = left.first() {
        let base = first.start;
        let fits = |span: &&LineSpan| (span.end - base) as usize <= CHUNK_BYTES;
        let count = left.iter().take_while(fits).count().max(1);
        let (spans, rest) = left.split_at(count);
        left = rest;
        let end = spans.last().map_or(base, |span| span.end);
        let bytes = lines.bytes[base as usize..end as usize].to_vec();
        let moved = |span: &LineSpan| LineSpan {
            start: span.start - base,
            end: span.end - base,
            next: span.next - base,
        };
        let waiting = left.is_empty().then(|| door.outlet.tickets.issue());
        let (ticket, settled) = waiting.unzip();
        let chunk = Chunk {
            source: door.outlet.id,
            bytes,
            lines: spans.iter().map(moved).collect(),
            origin: origin.clone(),
            received: now(),
            bookmark: None,
            ticket,
        };
        let counts = (chunk.lines.len(), chunk.bytes.len());
        let sent = door.outlet.events.send_timeout(SourceEvent::Chunk(chunk), PATIENCE).await;
        if sent.is_err() {
            return unavailable();
        }
        door.outlet.stats.handed_over(counts.0, counts.1);
        if settled.is_some() {
            return Ok(settled);
        }
    }
    Ok(None)
}
