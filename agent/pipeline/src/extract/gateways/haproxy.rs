//! HAProxy's `option httplog` and `option httpslog`, with captured headers:
//! <https://docs.haproxy.org/3.0/configuration.html#8.2.3>.
//!
//! The line may begin with what a syslog daemon put in front of it. The client's
//! address is that of the connection, or what the PROXY protocol says. Its time has no
//! zone, so it is not used. HAProxy writes quotes, braces, bars and all that is not ASCII as `#`
//! and two digits, so what a client sends cannot look like another part of the line.

use crate::extract::{
    table::{Entry, of, took},
    text::{self, Rest, request, unescape},
    value::{Unit, Value},
};

/// Parts in front of the captured headers.
const FIXED: usize = 17;
/// Captured request headers that have names.
const REQUEST_HEADERS: usize = 16;

pub(in crate::extract) const FORMAT: text::Format = text::Format {
    parts: &[
        "client_ip",
        "client_port",
        "accept_date",
        "frontend_name",
        "backend_name",
        "server_name",
        "TR",
        "Tw",
        "Tc",
        "Tr",
        "Ta",
        "status_code",
        "bytes_read",
        "captured_request_cookie",
        "captured_response_cookie",
        "method",
        "target",
        "request_header.1",
        "request_header.2",
        "request_header.3",
        "request_header.4",
        "request_header.5",
        "request_header.6",
        "request_header.7",
        "request_header.8",
        "request_header.9",
        "request_header.10",
        "request_header.11",
        "request_header.12",
        "request_header.13",
        "request_header.14",
        "request_header.15",
        "request_header.16",
        "response_header.1",
        "response_header.2",
        "response_header.3",
        "response_header.4",
    ],
    read,
};

pub(in crate::extract) const TABLE: &[Entry] = &[
    of("source.ip", &["client_ip"]),
    of("http.request.method", &["method"]),
    of("url.path", &["target"]),
    of("http.response.status_code", &["status_code"]),
    took(Unit::Millis, &["Ta"]),
];

fn read<'a>(line: &'a str, parts: &mut [Value<'a>]) -> Option<()> {
    let (fixed, headers) = parts.split_at_mut_checked(FIXED)?;
    let mut rest = Rest(line.trim_end());
    client(&mut rest, &mut fixed[..3])?;
    fixed[3] = Value::text(rest.word()?.trim_end_matches('~'));
    let (backend, server) = rest.word()?.split_once('/')?;
    (fixed[4], fixed[5]) = (Value::text(backend), Value::text(server));
    let mut timers = rest.word()?.split('/');
    for timer in &mut fixed[6..11] {
        // With `option logasap` there is a plus in front of what was still going on.
        *timer = Value::text(timers.next()?.trim_start_matches('+'));
    }
    for word in &mut fixed[11..15] {
        *word = Value::text(rest.word()?.trim_start_matches('+'));
    }
    for _not_needed in ["termination_state", "connections", "queues"] {
        rest.word()?;
    }
    let (of_request, of_response) = headers.split_at_mut_checked(REQUEST_HEADERS)?;
    for headers in [of_request, of_response] {
        if rest.skip("{").is_some() {
            for (value, header) in rest.until("} ")?.split('|').zip(headers) {
                *header = Value::Text(unescape(value, b'#', b""));
            }
        }
    }
    if let Some((asked_by, asked_for)) = request(rest.quoted_plainly()?) {
        fixed[15] = Value::text(asked_by);
        fixed[16] = Value::Text(unescape(asked_for, b'#', b""));
    }
    Some(())
}

/// `… 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] `.
fn client<'a>(rest: &mut Rest<'a>, parts: &mut [Value<'a>]) -> Option<()> {
    let [address, port, date] = parts else { return None };
    let head = rest.until(" [")?;
    let (host, number) = head.rsplit(' ').next()?.rsplit_once(':')?;
    (*address, *port) = (Value::text(host), Value::text(number));
    *date = Value::text(rest.until("] ")?);
    Some(())
}
