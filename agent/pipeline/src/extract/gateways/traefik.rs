//! Traefik's access log, as JSON and in its extended Common Log Format:
//! <https://doc.traefik.io/traefik/observability/access-logs/>,
//! <https://github.com/traefik/traefik/tree/master/pkg/middlewares/accesslog>.
//!
//! `ClientHost` is what Traefik itself takes for the client: the address of the connection, or
//! `X-Forwarded-For` from one of `forwardedHeaders.trustedIPs`, of which the last address is taken.
//!
//! The text format escapes nothing. A line with more quotes in it than the format
//! has could mean anything, and is not taken for one of this format.

use crate::extract::{
    gateways::clf::head,
    table::{Entry, at, of, took},
    text::{self, Rest, is_status, request},
    value::{Clock, Unit, Value},
};

pub(in crate::extract) const JSON_TABLE: &[Entry] = &[
    of("user.id", &["/ClientUsername"]),
    of("source.ip", &["/ClientHost", "/ClientAddr"]),
    of("http.request.method", &["/RequestMethod"]),
    of("url.path", &["/RequestPath"]),
    of("http.response.status_code", &["/DownstreamStatus", "/OriginStatus"]),
    took(Unit::Nanos, &["/Duration"]),
    of("purpose", &["/request_X-Purpose"]),
    of("subject", &["/request_X-Subject"]),
    of("transaction.id", &["/request_X-Transaction-Id", "/request_X-Request-Id"]),
    of("action", &["/request_X-Action", "/RouterName"]),
    of("items", &["/request_X-Items"]),
    of("party", &["/request_X-Party"]),
    at(Clock::Rfc3339, &["/StartUTC", "/StartLocal", "/time"]),
];

pub(in crate::extract) const FORMAT: text::Format = text::Format {
    parts: &[
        "ClientHost",
        "ClientUsername",
        "StartUTC",
        "RequestMethod",
        "RequestPath",
        "OriginStatus",
        "OriginContentSize",
        "request_Referer",
        "request_User-Agent",
        "RequestCount",
        "RouterName",
        "ServiceURL",
        "Duration",
    ],
    read,
};

pub(in crate::extract) const TABLE: &[Entry] = &[
    of("user.id", &["ClientUsername"]),
    of("source.ip", &["ClientHost"]),
    of("http.request.method", &["RequestMethod"]),
    of("url.path", &["RequestPath"]),
    of("http.response.status_code", &["OriginStatus"]),
    took(Unit::Millis, &["Duration"]),
    of("action", &["RouterName"]),
    at(Clock::Clf, &["StartUTC"]),
];

fn read<'a>(line: &'a str, parts: &mut [Value<'a>]) -> Option<()> {
    let [client, user, start, method, path, status, size, behind @ ..] = parts else { return None };
    let mut rest = Rest(line.trim_end());
    let head = head(&mut rest)?;
    let asked = rest.quoted_plainly()?;
    rest.skip(" ")?;
    let code = rest.word()?;
    if head.ident != "-" || !(is_status(code) || code == "-") {
        return None;
    }
    *size = Value::text(rest.word()?);
    let [referer, agent, count, router, service, duration] = behind else { return None };
    for part in [referer, agent] {
        *part = Value::text(maybe_quoted(&mut rest)?);
    }
    *count = Value::text(rest.word()?);
    for part in [router, service] {
        *part = Value::text(maybe_quoted(&mut rest)?);
    }
    *duration = Value::text(rest.0.strip_suffix("ms").filter(|rest| !rest.contains('"'))?);
    *client = Value::text(head.address);
    *user = Value::text(head.user);
    *start = Value::text(head.time);
    *status = Value::text(code);
    if let Some((asked_by, asked_for)) = request(asked) {
        *method = Value::text(asked_by);
        *path = Value::text(asked_for);
    }
    Some(())
}

/// `"…" `, or `- ` for what is not there.
fn maybe_quoted<'a>(rest: &mut Rest<'a>) -> Option<&'a str> {
    if rest.skip("- ").is_some() {
        return Some("-");
    }
    let part = rest.quoted_plainly()?;
    rest.skip(" ")?;
    Some(part)
}
