//! What can be told of a syslog message that is not RFC 5424.

use crate::entries::DEFAULT_PRIORITY;
use record::{
    UnixMillis,
    entry::{Header, parse_priority},
};
use syslog_loose::{ProcId, Variant};

/// How long `Mmm dd hh:mm:ss ` is.
const STAMP: usize = 16;

/// Its time is not used: without a year and a zone of its own it would have to be guessed, and
/// the time of receipt is the better one to sign.
pub(crate) struct Loose<'a> {
    priority: u8,
    host: Option<&'a str>,
    app: Option<&'a str>,
    procid: Option<String>,
    pub(crate) msg: &'a [u8],
}

impl<'a> Loose<'a> {
    pub(crate) fn parse(line: &'a [u8]) -> Self {
        let priority = parse_priority(line).map(|(value, _)| value);
        let nothing =
            Loose { priority: DEFAULT_PRIORITY, host: None, app: None, procid: None, msg: line };
        let (Some((priority, len)), Ok(text)) = (parse_priority(line), std::str::from_utf8(line))
        else {
            return Loose { priority: priority.unwrap_or(DEFAULT_PRIORITY), ..nothing };
        };
        if let Some((tag, msg)) = text.get(len..).and_then(local) {
            let (app, procid) = tag.split_once('[').unwrap_or((tag, ""));
            let procid = procid.strip_suffix(']').map(str::to_owned);
            return Loose { priority, host: None, app: Some(app), procid, msg: msg.as_bytes() };
        }
        let parsed = syslog_loose::parse_message_with_year_exact(text, |_| 1970, Variant::RFC3164);
        let Ok(parsed) = parsed else { return Loose { priority, ..nothing } };
        let procid = parsed.procid.map(|procid| match procid {
            ProcId::PID(pid) => pid.to_string(),
            ProcId::Name(name) => name.to_owned(),
        });
        Loose {
            priority,
            host: parsed.hostname,
            app: parsed.appname,
            procid,
            msg: parsed.msg.as_bytes(),
        }
    }

    pub(crate) fn header<'h>(
        &'h self,
        host: &'h str,
        received: UnixMillis,
        time: Option<UnixMillis>,
    ) -> Header<'h> {
        Header {
            priority: self.priority,
            time: Some(time.unwrap_or(received)),
            host: self.host.unwrap_or(host).as_bytes(),
            app: self.app.unwrap_or_default().as_bytes(),
            procid: self.procid.as_deref().unwrap_or_default().as_bytes(),
            msgid: b"",
        }
    }
}

/// Tag and text of what `syslog(3)` writes to a local socket: `Nov 21 10:02:27 app[1]: text`. There
/// is no host in it: what follows the time ends in a colon, which no host name does.
fn local(text: &str) -> Option<(&str, &str)> {
    let stamp = text.as_bytes().get(..STAMP)?;
    let shape = b"Aaa 00 00:00:00 ".iter().zip(stamp);
    let fits = |(wanted, byte): (&u8, &u8)| match wanted {
        b'A' | b'a' => byte.is_ascii_alphabetic(),
        b'0' => byte.is_ascii_digit() || *byte == b' ',
        _ => byte == wanted,
    };
    if !shape.into_iter().all(fits) {
        return None;
    }
    let rest = text.get(STAMP..)?;
    let (tag, msg) = rest.split_once(':')?;
    let plain = !tag.is_empty() && !tag.contains(|c: char| c.is_whitespace());
    let ended = msg.is_empty() || msg.starts_with(' ');
    (plain && ended).then(|| (tag, msg.strip_prefix(' ').unwrap_or(msg)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(line: &[u8]) -> (u8, Option<String>, Option<String>, Option<String>, String) {
        let Loose { priority, host, app, procid, msg } = Loose::parse(line);
        let own = |text: Option<&str>| text.map(str::to_owned);
        (priority, own(host), own(app), procid, String::from_utf8_lossy(msg).into_owned())
    }

    #[test]
    fn a_local_message_has_a_tag_and_no_host() {
        let some = |text: &str| Some(text.to_owned());
        for (line, app, procid, msg) in [
            (&b"<13>Nov 21 10:02:27 app[1]: x y"[..], "app", some("1"), "x y"),
            (b"<13>Nov  1 10:02:27 app: x", "app", None, "x"),
            (b"<13>Nov 21 10:02:27 a/b.c-1[7]:", "a/b.c-1", some("7"), ""),
        ] {
            assert_eq!(told(line), (13, None, some(app), procid, msg.into()));
        }
        let remote = told(b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed");
        assert_eq!((remote.1, remote.2), (some("mymachine"), some("su")));
        let six = told(b"<34>Oct 11 22:14:15 2001:db8::7 su: x");
        assert_eq!(six.1, some("2001:db8::7"), "an address is no tag");
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let stamped = [b"<13>Nov 21 10:02:27 ", &line[..]].concat();
            for line in [&line, &stamped] {
                let loose = Loose::parse(line);
                prop_assert!(loose.msg.len() <= line.len());
            }
        }
    }
}
