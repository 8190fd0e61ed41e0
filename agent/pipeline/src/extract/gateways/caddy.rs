//! Caddy's JSON access log: <https://caddyserver.com/docs/caddyfile/directives/log>,
//! <https://caddyserver.com/docs/logging>.
//!
//! `client_ip` is what Caddy itself takes for the client, by `trusted_proxies`; `remote_ip` is
//! the connection's, for releases that have no `client_ip`.

use crate::extract::{
    table::{Entry, at, of, took},
    value::{Clock, Unit},
};

pub(in crate::extract) const TABLE: &[Entry] = &[
    of("user.id", &["/user_id"]),
    of("source.ip", &["/request/client_ip", "/request/remote_ip"]),
    of("http.request.method", &["/request/method"]),
    of("url.path", &["/request/uri"]),
    of("http.response.status_code", &["/status"]),
    took(Unit::Seconds, &["/duration"]),
    of("purpose", &["/request/headers/x-purpose"]),
    of("subject", &["/request/headers/x-subject"]),
    of("transaction.id", &["/request/headers/x-transaction-id", "/request/headers/x-request-id"]),
    of("action", &["/request/headers/x-action"]),
    of("items", &["/request/headers/x-items"]),
    of("party", &["/request/headers/x-party"]),
    at(Clock::Epoch(Unit::Seconds), &["/ts"]),
];
