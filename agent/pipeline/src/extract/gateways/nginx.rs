//! nginx with `log_format … escape=json`, each variable under its own name:
//! <https://nginx.org/en/docs/http/ngx_http_log_module.html#log_format>,
//! <https://nginx.org/en/docs/varindex.html>. `docs/gateways.md` has the directive.
//!
//! `$remote_addr` is what nginx itself takes for the client, by `set_real_ip_from`.

use crate::extract::{
    table::{Entry, at, of, took},
    value::{Clock, Unit},
};

pub(in crate::extract) const TABLE: &[Entry] = &[
    of("user.id", &["/user", "/remote_user"]),
    of("source.ip", &["/remote_addr"]),
    of("http.request.method", &["/request_method"]),
    of("url.path", &["/request_uri", "/uri"]),
    of("http.response.status_code", &["/status"]),
    took(Unit::Seconds, &["/request_time"]),
    of("purpose", &["/http_x_purpose"]),
    of("subject", &["/http_x_subject"]),
    of("transaction.id", &["/http_x_transaction_id", "/request_id"]),
    of("action", &["/http_x_action"]),
    of("items", &["/http_x_items"]),
    of("party", &["/http_x_party"]),
    at(Clock::Epoch(Unit::Seconds), &["/msec"]),
    at(Clock::Rfc3339, &["/time_iso8601"]),
    at(Clock::Clf, &["/time_local"]),
];
