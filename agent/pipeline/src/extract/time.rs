//! Times as gateways write them, in milliseconds since 1970. A time without a year and a zone of its
//! own is none: it would have to be guessed.

use record::time::days_from_civil;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `21/Nov/2026:16:02:27 +0800`.
pub(super) fn clf(text: &str) -> Option<u64> {
    let (local, zone) = text.split_once(' ')?;
    let (date, clock) = local.split_once(':')?;
    let mut date = date.split('/');
    let day = number(date.next()?, 2)?;
    let name = date.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year = number(date.next()?, 4)?;
    if date.next().is_some() {
        return None;
    }
    let (sign, offset) = (zone.get(..1)?, number(zone.get(1..)?, 4)?);
    let offset = offset / 100 * 60 + offset % 100;
    utc(days_from_civil(year, month, day)?, seconds(clock)?, sign, offset)
}

/// `2026-11-21T16:02:27.125+08:00`, `2026-11-21T08:02:27Z` (RFC 3339).
pub(super) fn rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = (text.get(..10)?, text.get(11..)?);
    if !matches!(text.get(10..11)?, "T" | "t" | " ") {
        return None;
    }
    let year = number(date.get(..4)?, 4)?;
    let (month, day) = (number(date.get(5..7)?, 2)?, number(date.get(8..)?, 2)?);
    let dashes = date.get(4..5)? == "-" && date.get(7..8)? == "-";
    let (clock, rest) = (rest.get(..8)?, rest.get(8..)?);
    let (millis, zone) = fraction(rest)?;
    let (sign, offset) = match zone {
        "Z" | "z" => ("+", 0),
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            (zone.get(..1)?, number(hours, 2)? * 60 + number(minutes, 2)?)
        }
    };
    let days = days_from_civil(year, month, day).filter(|_| dashes)?;
    Some(utc(days, seconds(clock)?, sign, offset)? + millis)
}

/// The milliseconds of a fraction of any length, and what is behind it.
fn fraction(text: &str) -> Option<(u64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = rest.bytes().position(|b| !b.is_ascii_digit()).filter(|end| *end > 0)?;
    let places = rest[..end].bytes().chain(std::iter::repeat(b'0')).take(3);
    let millis = places.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some((millis, &rest[end..]))
}

/// `16:02:27`; a leap second is the last one of its minute, counted on.
fn seconds(clock: &str) -> Option<u64> {
    let mut clock = clock.split(':');
    let (hour, minute) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    let second = number(clock.next()?, 2)?;
    let right = clock.next().is_none() && hour <= 23 && minute <= 59 && second <= 60;
    right.then_some(hour * 3600 + minute * 60 + second)
}

fn utc(days: u64, seconds: u64, sign: &str, offset_minutes: u64) -> Option<u64> {
    let local = days * 86_400 + seconds;
    let utc = match sign {
        "+" => local.checked_sub(offset_minutes * 60)?,
        "-" => local + offset_minutes * 60,
        _ => return None,
    };
    Some(utc * 1000)
}

fn number(text: &str, width: usize) -> Option<u64> {
    let digits = text.len() == width && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use record::UnixMillis;

    fn shown(millis: Option<u64>) -> String {
        millis.map(|millis| UnixMillis(millis).to_string()).unwrap_or_default()
    }

    #[test]
    fn a_time_of_any_zone_is_the_same_moment() {
        assert_eq!(shown(clf("21/Nov/2026:16:02:27 +0800")), "2026-11-21T08:02:27.000Z");
        assert_eq!(shown(clf("01/Jan/2024:00:00:00 -0330")), "2024-01-01T03:30:00.000Z");
        for text in [
            "2026-11-21T16:02:27.125+08:00",
            "2026-11-21T08:02:27.125999999Z",
            "2026-11-21T04:32:27.125-03:30",
        ] {
            assert_eq!(shown(rfc3339(text)), "2026-11-21T08:02:27.125Z", "{text}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_none() {
        for text in ["2026-11-21T16:02:27", "2026-11-21T16:02:27.Z", "2026/11/21T16:02:27Z"] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
        assert_eq!(clf("06/Feb/2009:12:14:14.655"), None);
        assert_eq!(clf("31/Feb/2009:12:14:14 +0000"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in r"([0-9]{2,4}|[-/:TZ+. ]|é|Nov|21/Nov/2026:08:02:27|2026-11-21T08:02:27){0,14}"
        ) {
            let _ = (clf(&text), rfc3339(&text));
        }
    }
}
