//! What exporters are answered, in the encoding that they asked in.

use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};

/// How a request is encoded, and so its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    /// `application/x-protobuf`.
    #[default]
    Protobuf,
    /// `application/json`.
    Json,
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

/// After how many seconds an exporter may come back.
const COME_BACK: HeaderValue = HeaderValue::from_static("2");

impl Encoding {
    /// By the content type, whatever parameters it has.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/x-protobuf" => Some(Encoding::Protobuf),
            "application/json" => Some(Encoding::Json),
            _ => None,
        }
    }

    fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        })
    }
}

/// An `ExportLogsServiceResponse`; with a partial success if records were rejected.
pub(super) fn success(encoding: Encoding, rejected: u64) -> Response<Full<Bytes>> {
    let message = "records were too long, were no objects, or the request would have become too \
                   large with its resource in each record: send fewer at a time";
    let body = match encoding {
        _ if rejected == 0 && encoding == Encoding::Protobuf => Vec::new(),
        _ if rejected == 0 => b"{}".to_vec(),
        Encoding::Protobuf => {
            let partial = [varint_field(1, rejected), bytes_field(2, message.as_bytes())].concat();
            bytes_field(1, &partial)
        }
        Encoding::Json => {
            let partial = serde_json::json!({
                "partialSuccess": { "rejectedLogRecords": rejected.to_string(), "errorMessage": message }
            });
            partial.to_string().into_bytes()
        }
    };
    respond(encoding, StatusCode::OK, body)
}

/// A `google.rpc.Status`, and when to come back if that makes sense.
pub(super) fn refusal(encoding: Encoding, refusal: &Refusal) -> Response<Full<Bytes>> {
    let Refusal { status, message } = refusal;
    let again = *status == StatusCode::SERVICE_UNAVAILABLE;
    // UNAVAILABLE or INVALID_ARGUMENT.
    let code = if again { 14 } else { 3 };
    let body = match encoding {
        Encoding::Protobuf => [varint_field(1, code), bytes_field(2, message.as_bytes())].concat(),
        Encoding::Json => {
            serde_json::json!({ "code": code, "message": message }).to_string().into_bytes()
        }
    };
    let mut response = respond(encoding, *status, body);
    if again {
        response.headers_mut().insert(RETRY_AFTER, COME_BACK);
    }
    response
}

fn respond(encoding: Encoding, status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, encoding.name());
    response
}

fn varint_field(number: u8, value: u64) -> Vec<u8> {
    [vec![number << 3], varint(value)].concat()
}

fn bytes_field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(content.len() as u64), content].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
