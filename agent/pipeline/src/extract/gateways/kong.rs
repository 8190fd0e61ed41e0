//! Kong's `file-log`, `http-log` and their like:
//! <https://developer.konghq.com/plugins/file-log/#log-format>.
//!
//! `client_ip` is what Kong itself takes for the client, by its `trusted_ips` and `real_ip_header`.

use crate::extract::{
    table::{Entry, at, of, took},
    value::{Clock, Unit},
};

pub(in crate::extract) const TABLE: &[Entry] = &[
    of("user.id", &["/consumer/custom_id", "/consumer/username", "/consumer/id"]),
    of("source.ip", &["/client_ip"]),
    of("http.request.method", &["/request/method"]),
    of("url.path", &["/request/uri"]),
    of("http.response.status_code", &["/response/status"]),
    took(Unit::Millis, &["/latencies/request"]),
    of("purpose", &["/request/headers/x-purpose"]),
    of("subject", &["/request/headers/x-subject"]),
    of("transaction.id", &["/request/headers/x-transaction-id", "/request/id"]),
    of("action", &["/request/headers/x-action", "/route/name"]),
    of("items", &["/request/headers/x-items"]),
    of("party", &["/request/headers/x-party"]),
    at(Clock::Epoch(Unit::Millis), &["/started_at"]),
];
