//! Envoy's access log, in its default text format and as JSON with the names that Istio and Envoy
//! Gateway use: <https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage>,
//! <https://istio.io/latest/docs/tasks/observability/logs/access-log/>,
//! <https://gateway.envoyproxy.io/docs/tasks/observability/proxy-accesslog/>.
//!
//! `%DOWNSTREAM_REMOTE_ADDRESS%` is what Envoy itself takes for the client, by `xff_num_trusted_hops` and
//! its like. The text format has only `X-Forwarded-For`, to which Envoy appends the
//! connection's address: the last one in it is taken.
//!
//! The text format escapes nothing. A line with more quotes in it than the format
//! has could mean anything, and is not taken for one of this format.

use crate::extract::{
    table::{Entry, at, of, took},
    text::{self, Rest, is_status, request},
    value::{Clock, Unit, Value},
};

pub(in crate::extract) const JSON_TABLE: &[Entry] = &[
    of("user.id", &["/user_id"]),
    of("source.ip", &["/downstream_remote_address"]),
    of("http.request.method", &["/method"]),
    of("url.path", &["/path", "/x-envoy-origin-path"]),
    of("http.response.status_code", &["/response_code"]),
    took(Unit::Millis, &["/duration"]),
    of("purpose", &["/x_purpose"]),
    of("subject", &["/x_subject"]),
    of("transaction.id", &["/x_transaction_id", "/request_id", "/x-request-id"]),
    of("action", &["/x_action", "/route_name"]),
    of("items", &["/x_items"]),
    of("party", &["/x_party"]),
    at(Clock::Rfc3339, &["/start_time"]),
];

pub(in crate::extract) const FORMAT: text::Format = text::Format {
    parts: &[
        "start_time",
        "method",
        "path",
        "response_code",
        "response_flags",
        "bytes_received",
        "bytes_sent",
        "duration",
        "upstream_service_time",
        "x_forwarded_for",
        "user_agent",
        "request_id",
        "authority",
        "upstream_host",
    ],
    read,
};

pub(in crate::extract) const TABLE: &[Entry] = &[
    of("source.ip", &["x_forwarded_for"]),
    of("http.request.method", &["method"]),
    of("url.path", &["path"]),
    of("http.response.status_code", &["response_code"]),
    took(Unit::Millis, &["duration"]),
    of("transaction.id", &["request_id"]),
    at(Clock::Rfc3339, &["start_time"]),
];

fn read<'a>(line: &'a str, parts: &mut [Value<'a>]) -> Option<()> {
    let (front, quoted) = parts.split_at_mut_checked(9)?;
    let [start, method, path, words @ ..] = front else { return None };
    let mut rest = Rest(line.trim_end());
    rest.skip("[")?;
    *start = Value::text(rest.until("] ")?);
    let asked = rest.quoted_plainly()?;
    rest.skip(" ")?;
    for (index, part) in words.iter_mut().enumerate() {
        let word = rest.word()?;
        if index == 0 && !is_status(word) {
            return None;
        }
        *part = Value::text(word);
    }
    for (index, part) in quoted.iter_mut().enumerate() {
        if index > 0 {
            rest.skip(" ")?;
        }
        *part = Value::text(rest.quoted_plainly()?);
    }
    if !rest.0.is_empty() {
        return None;
    }
    if let Some((asked_by, asked_for)) = request(asked) {
        *method = Value::text(asked_by);
        *path = Value::text(asked_for);
    }
    Some(())
}
