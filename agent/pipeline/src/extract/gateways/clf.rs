//! The Common Log Format, with or without what `combined` adds, as nginx and Apache write it:
//! `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`,
//! <https://nginx.org/en/docs/http/ngx_http_log_module.html#log_format>,
//! <https://httpd.apache.org/docs/2.4/logs.html#accesslog>.
//!
//! Both write a quote inside a value behind a backslash (`\x22`, `\"`), so what
//! a client sends cannot look like another part of the line.

use crate::extract::{
    table::{Entry, at, of},
    text::{self, Rest, is_status, request, unescape},
    value::{Clock, Value},
};

pub(in crate::extract) const FORMAT: text::Format = text::Format {
    parts: &[
        "remote_addr",
        "ident",
        "remote_user",
        "time_local",
        "method",
        "target",
        "status",
        "body_bytes_sent",
        "http_referer",
        "http_user_agent",
    ],
    read,
};

pub(in crate::extract) const TABLE: &[Entry] = &[
    of("user.id", &["remote_user"]),
    of("source.ip", &["remote_addr"]),
    of("http.request.method", &["method"]),
    of("url.path", &["target"]),
    of("http.response.status_code", &["status"]),
    at(Clock::Clf, &["time_local"]),
];

fn read<'a>(line: &'a str, parts: &mut [Value<'a>]) -> Option<()> {
    let [address, ident, user, time, method, target, status, bytes, referer, agent] = parts else {
        return None;
    };
    let mut rest = Rest(line);
    let head = head(&mut rest)?;
    let asked = rest.quoted()?;
    rest.skip(" ")?;
    let (code, tail) = rest.0.split_once(' ')?;
    if !is_status(code) {
        return None;
    }
    *address = Value::text(head.address);
    *ident = Value::text(head.ident);
    *user = Value::Text(plain(head.user));
    *time = Value::text(head.time);
    *status = Value::text(code);
    if let Some((asked_by, asked_for)) = request(asked) {
        *method = Value::text(asked_by);
        *target = Value::Text(plain(asked_for));
    }
    let mut rest = Rest(tail);
    *bytes = Value::text(rest.word().unwrap_or(tail));
    for part in [referer, agent] {
        let text = rest.quoted().unwrap_or_default();
        *part = Value::Text(plain(text));
        let _ = rest.skip(" ");
    }
    Some(())
}

/// What stands in front of the request.
pub(super) struct Head<'a> {
    pub(super) address: &'a str,
    pub(super) ident: &'a str,
    pub(super) user: &'a str,
    pub(super) time: &'a str,
}

/// `10.1.2.3 - clerk07 [21/Nov/2026:16:02:27 +0800] `, up to the quote of the request. A user's name
/// may have spaces and brackets in it, but no quote.
pub(super) fn head<'a>(rest: &mut Rest<'a>) -> Option<Head<'a>> {
    let end = rest.0.find('"')?;
    let (head, request) = rest.0.split_at(end);
    rest.0 = request;
    let (who, time) = head.strip_suffix("] ")?.rsplit_once(" [")?;
    let (address, who) = who.split_once(' ')?;
    let (ident, user) = who.split_once(' ')?;
    Some(Head { address, ident, user, time })
}

fn plain(text: &str) -> std::borrow::Cow<'_, str> {
    unescape(text, b'\\', b"x")
}
