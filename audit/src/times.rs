//! Times as people write them on the command line.

use record::{UnixMillis, time::days_from_civil};
use std::str::FromStr;

/// A point in time: RFC 3339 with an offset, or a date, which means its first moment in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub UnixMillis);

/// Text is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no time: write 2026-11-21, 2026-11-21T08:00:00Z or 2026-11-21T16:00:00+08:00")]
pub struct NoMoment(String);

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        let moment = text.is_ascii().then(|| parse(text)).flatten();
        moment.ok_or_else(|| NoMoment(text.chars().take(60).collect()))
    }
}

fn parse(text: &str) -> Option<Moment> {
    let (date, rest) = (text.get(..10)?, &text[10..]);
    let day = date.as_bytes();
    if day[4] != b'-' || day[7] != b'-' {
        return None;
    }
    let days = days_from_civil(number(&date[..4])?, number(&date[5..7])?, number(&date[8..])?)?;
    let midnight = days * 86_400_000;
    if rest.is_empty() {
        return Some(Moment(UnixMillis(midnight)));
    }
    let time = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = (time.get(..8)?, &time[8..]);
    let (within, rest) = (of_day(clock)?, rest);
    let (millis, offset) = fraction(rest)?;
    let local = i64::try_from(midnight + within + millis).ok()?;
    u64::try_from(local - offset_millis(offset)?).ok().map(|at| Moment(UnixMillis(at)))
}

/// Milliseconds of `HH:MM:SS`.
fn of_day(clock: &str) -> Option<u64> {
    let bytes = clock.as_bytes();
    let (hours, minutes, seconds) =
        (number(&clock[..2])?, number(&clock[3..5])?, number(&clock[6..])?);
    let shaped = bytes[2] == b':' && bytes[5] == b':' && hours < 24 && minutes < 60 && seconds < 60;
    shaped.then_some(((hours * 60 + minutes) * 60 + seconds) * 1000)
}

/// Milliseconds of a fraction, if there is one, and what stands behind it.
fn fraction(text: &str) -> Option<(u64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let shown: String = rest[..digits].chars().chain("00".chars()).take(3).collect();
    let millis = number(&shown).filter(|_| (1..=9).contains(&digits))?;
    Some((millis, &rest[digits..]))
}

fn offset_millis(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text[1..].split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let millis = i64::try_from((hours * 60 + minutes) * 60_000).ok()?;
    (hours < 24 && minutes < 60).then_some(sign * millis)
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_meant() {
        let at = |text: &str| text.parse::<Moment>().unwrap().0.to_string();
        assert_eq!(at("2026-11-21"), "2026-11-21T00:00:00.000Z");
        assert_eq!(at("2026-11-21T08:02:27.5Z"), "2026-11-21T08:02:27.500Z");
        assert_eq!(at("2026-11-21T08:02:27.123456+08:00"), "2026-11-21T00:02:27.123Z");
        assert_eq!(at("2026-12-31T23:30:00-01:00"), "2027-01-01T00:30:00.000Z");
        for bad in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-11-21T08:00",
            "2026-11-21T24:00:00Z",
            "2026-11-21T08:00:00",
            "2026-11-21T08:00:00.Z",
            "1969-12-31",
            "2026-11-21T08:00:00+8:00",
            "1970-01-01T00:00:00+01:00",
            "２026-11-21",
        ] {
            assert!(bad.parse::<Moment>().is_err(), "{bad}");
        }
    }
}
