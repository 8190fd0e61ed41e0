//! Apache APISIX's `file-logger`, `http-logger` and their like, without a `log_format` of their own:
//! <https://apisix.apache.org/docs/apisix/plugins/file-logger/>, `get_full_log` in
//! <https://github.com/apache/apisix/blob/master/apisix/utils/log-util.lua>.
//!
//! `client_ip` is what APISIX itself takes for the client, by its `real-ip` plugin.

use crate::extract::{
    table::{Entry, at, of, took},
    value::{Clock, Unit},
};

pub(in crate::extract) const TABLE: &[Entry] = &[
    of("user.id", &["/consumer/username"]),
    of("source.ip", &["/client_ip"]),
    of("http.request.method", &["/request/method"]),
    of("url.path", &["/request/uri"]),
    of("http.response.status_code", &["/response/status"]),
    took(Unit::Millis, &["/latency"]),
    of("purpose", &["/request/headers/x-purpose"]),
    of("subject", &["/request/headers/x-subject"]),
    of("transaction.id", &["/request/headers/x-transaction-id", "/request/headers/x-request-id"]),
    of("action", &["/request/headers/x-action", "/route_id"]),
    of("items", &["/request/headers/x-items"]),
    of("party", &["/request/headers/x-party"]),
    at(Clock::Epoch(Unit::Millis), &["/start_time"]),
    at(Clock::Rfc3339, &["/@timestamp"]),
];
