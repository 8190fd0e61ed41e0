//! nginx's predefined format `combined`:
//! `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`.

use super::{Access, path};
use record::{UnixMillis, time::days_from_civil};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `None` if the line is not in this format.
pub(super) fn extract(line: &[u8]) -> Option<Access<'_>> {
    let line = std::str::from_utf8(line).ok()?;
    let (address, rest) = line.split_once(" - ")?;
    let (user, rest) = rest.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    // nginx writes a quote inside a variable as \x22, so the first quote ends the request.
    let (request, rest) = rest.split_once("\" ")?;
    let (status, _) = rest.split_once(' ')?;
    let numeric = status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit());
    if address.contains(' ') || !numeric {
        return None;
    }
    let mut access = Access { time: Some(parse_time(time)?), fields: Vec::with_capacity(5) };
    access.put("user.id", if user == "-" { "" } else { user });
    access.put("source.ip", address);
    if let Some((method, target)) = request.split_once(' ') {
        let target = target.rsplit_once(" HTTP/").map_or(target, |(target, _)| target);
        access.put("http.request.method", method);
        access.put("url.path", path(target));
    }
    access.put("http.response.status_code", status);
    Some(access)
}

/// `21/Nov/2026:08:02:27 +0800`.
fn parse_time(text: &str) -> Option<UnixMillis> {
    let (local, zone) = text.split_once(' ')?;
    let (date, clock) = local.split_once(':')?;
    let mut date = date.split('/');
    let day = number(date.next()?, 2)?;
    let name = date.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year = number(date.next()?, 4)?;
    let mut clock = clock.split(':');
    let (hour, minute) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    let second = number(clock.next()?, 2)?;
    if date.next().is_some() || clock.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (sign, offset) = (zone.get(..1)?, zone.get(1..)?);
    let offset = number(offset, 4)?;
    let offset = (offset / 100 * 60 + offset % 100) * 60;
    let local = days_from_civil(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second;
    let utc = match sign {
        "+" => local.checked_sub(offset)?,
        "-" => local + offset,
        _ => return None,
    };
    Some(UnixMillis(utc * 1000))
}

fn number(text: &str, width: usize) -> Option<u64> {
    let digits = text.len() == width && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_combined_line_tells_who_asked_for_what() {
        let line = br#"10.1.2.3 - clerk07 [21/Nov/2026:16:02:27 +0800] "GET /v1/household/A1?x=1 HTTP/1.1" 200 512 "-" "curl/8.0 \x22q\x22""#;
        let access = extract(line).unwrap();
        assert_eq!(access.time.unwrap().to_string(), "2026-11-21T08:02:27.000Z");
        let fields: Vec<_> = access.fields.iter().map(|(n, v)| (*n, v.as_ref())).collect();
        assert_eq!(
            fields,
            [
                ("user.id", "clerk07"),
                ("source.ip", "10.1.2.3"),
                ("http.request.method", "GET"),
                ("url.path", "/v1/household/A1"),
                ("http.response.status_code", "200")
            ]
        );
    }

    #[test]
    fn a_request_that_is_none_leaves_the_rest() {
        let line = br#"::1 - - [01/Jan/2024:00:00:00 -0330] "\x16\x03" 400 0 "-" "-""#;
        let access = extract(line).unwrap();
        assert_eq!(access.time.unwrap().to_string(), "2024-01-01T03:30:00.000Z");
        assert_eq!(access.fields.len(), 2);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in r#"(1\.2\.3\.4| - |\[|\]|"| |-|21/Nov/2026:08:02:27|\+0000|200|GET|é|/){0,14}"#) {
            let _ = extract(line.as_bytes());
        }
    }
}
