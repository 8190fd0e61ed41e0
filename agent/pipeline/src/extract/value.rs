//! What was found in a line, and how it becomes the value of an access field.

use super::time;
use record::{UnixMillis, time::MAX_MILLIS};
use std::borrow::Cow;

/// The longest duration that is believed, in nanoseconds: over thirty years.
const MAX_DURATION: u128 = 1_000_000_000_000_000_000;
/// Numbers are reckoned with in billionths.
const BILLION: u128 = 1_000_000_000;

/// What was found at a place in a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Value<'a> {
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

/// What a value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the field says by itself: an address, a request's target, or text.
    Plain,
    /// How long it took.
    Duration(Unit),
    /// When it was.
    Time(Clock),
}

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// Since 1970, in this unit.
    Epoch(Unit),
    /// `2026-11-21T16:02:27.125+08:00`.
    Rfc3339,
    /// `21/Nov/2026:16:02:27 +0800`.
    Clf,
}

impl Unit {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "s" => Unit::Seconds,
            "ms" => Unit::Millis,
            "us" => Unit::Micros,
            "ns" => Unit::Nanos,
            _ => return None,
        })
    }

    fn nanos(self) -> u64 {
        match self {
            Unit::Seconds => 1_000_000_000,
            Unit::Millis => 1_000_000,
            Unit::Micros => 1000,
            Unit::Nanos => 1,
        }
    }
}

impl<'a> Value<'a> {
    pub(super) fn text(text: &'a str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }

    /// The value of `field`; empty if there is none.
    pub(super) fn field(&self, field: &str, kind: Kind) -> Cow<'a, str> {
        match (field, kind) {
            (_, Kind::Duration(unit)) => {
                self.nanos(unit).map_or(Cow::Borrowed(""), |nanos| nanos.to_string().into())
            }
            ("url.path", _) => cut(self.written(), path),
            ("source.ip", _) => cut(self.written(), address),
            _ => self.written(),
        }
    }

    /// The value as text. All gateways write `-` for what is not there.
    fn written(&self) -> Cow<'a, str> {
        match self {
            Value::Text(text) if text == "-" => Cow::Borrowed(""),
            Value::Text(text) => text.clone(),
            Value::Unsigned(number) => number.to_string().into(),
            Value::Signed(number) => number.to_string().into(),
            Value::Float(number) => number.to_string().into(),
            Value::Nothing => Cow::Borrowed(""),
        }
    }

    /// The value as a time.
    pub(super) fn time(&self, clock: Clock) -> Option<UnixMillis> {
        let millis = match (clock, self) {
            (Clock::Epoch(Unit::Millis), Value::Unsigned(millis)) => *millis,
            (Clock::Epoch(unit), _) => {
                let nanos = self.billionths()? * u128::from(unit.nanos()) / BILLION;
                u64::try_from((nanos + 500_000) / 1_000_000).ok()?
            }
            (Clock::Rfc3339, Value::Text(text)) => time::rfc3339(text)?,
            (Clock::Clf, Value::Text(text)) => time::clf(text)?,
            _ => return None,
        };
        (millis <= MAX_MILLIS).then_some(UnixMillis(millis))
    }

    /// The value as a duration, in nanoseconds.
    fn nanos(&self, unit: Unit) -> Option<u128> {
        let nanos = match self {
            Value::Unsigned(number) => u128::from(*number) * u128::from(unit.nanos()),
            _ => (self.billionths()? * u128::from(unit.nanos()) + BILLION / 2) / BILLION,
        };
        (nanos <= MAX_DURATION).then_some(nanos)
    }

    /// The value as a number that is not negative, in billionths: below 2^94, so that it can be
    /// multiplied with a unit.
    fn billionths(&self) -> Option<u128> {
        match self {
            Value::Unsigned(number) => Some(u128::from(*number) * BILLION),
            Value::Float(number) if (0.0..1e18).contains(number) => {
                let fraction = (number.fract() * 1e9).round();
                Some(number.trunc() as u128 * BILLION + fraction as u128)
            }
            Value::Text(text) => decimal(text),
            _ => None,
        }
    }
}

/// `12`, `0.012`, `1795248147.125`.
fn decimal(text: &str) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let places = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let fraction = places.fold(0, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    Some(u128::from(whole) * BILLION + fraction)
}

fn cut<'a>(text: Cow<'a, str>, part: fn(&str) -> &str) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(part(text)),
        Cow::Owned(text) => Cow::Owned(part(&text).to_owned()),
    }
}

/// The path of a request target: everything in front of the query.
fn path(target: &str) -> &str {
    let end = target.bytes().position(|b| matches!(b, b'?' | b'#'));
    &target[..end.unwrap_or(target.len())]
}

/// An address without its port. Of a list, as X-Forwarded-For is one, the last: that is what the
/// nearest proxy saw, and what is in front of it is only what a client said.
fn address(text: &str) -> &str {
    let last = text.rsplit(',').next().unwrap_or_default().trim();
    if let Some((inside, _)) = last.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inside;
    }
    match last.split_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_the_nearest_proxys_word_without_a_port() {
        for (text, wanted) in [
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3:4711", "10.1.2.3"),
            ("9.9.9.9, 10.1.2.3", "10.1.2.3"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("2001:db8::7", "2001:db8::7"),
            ("unix:", "unix:"),
            ("", ""),
        ] {
            assert_eq!(address(text), wanted);
        }
    }

    #[test]
    fn durations_of_every_unit_become_nanoseconds() {
        let nanos =
            |value: Value<'static>, unit| value.field("event.duration", Kind::Duration(unit));
        assert_eq!(nanos(Value::Unsigned(12), Unit::Millis), "12000000");
        assert_eq!(nanos(Value::Float(12.5), Unit::Millis), "12500000");
        assert_eq!(nanos(Value::Float(0.29), Unit::Seconds), "290000000");
        assert_eq!(nanos(Value::text("0.012"), Unit::Seconds), "12000000");
        assert_eq!(nanos(Value::text("7"), Unit::Nanos), "7");
        for none in [Value::Signed(-1), Value::text("-"), Value::text(""), Value::Nothing] {
            assert_eq!(nanos(none, Unit::Micros), "");
        }
        assert_eq!(nanos(Value::Unsigned(u64::MAX), Unit::Seconds), "");
    }

    #[test]
    fn times_since_1970_may_have_fractions() {
        let epoch = |value: Value<'_>, unit| value.time(Clock::Epoch(unit)).map(|time| time.0);
        let wanted = Some(1_795_248_147_123);
        assert_eq!(epoch(Value::Float(1_795_248_147.123), Unit::Seconds), wanted);
        assert_eq!(epoch(Value::text("1795248147.123"), Unit::Seconds), wanted);
        assert_eq!(epoch(Value::Unsigned(1_795_248_147_123), Unit::Millis), wanted);
        assert_eq!(epoch(Value::Float(1_795_248_147_122.999_8), Unit::Millis), wanted);
        assert_eq!(epoch(Value::Unsigned(1_795_248_147_123_000), Unit::Micros), wanted);
        assert_eq!(epoch(Value::Unsigned(1_795_248_147_123_000_000), Unit::Nanos), wanted);
        assert_eq!(epoch(Value::Unsigned(u64::MAX), Unit::Millis), None);
    }

    proptest! {
        #[test]
        fn no_number_makes_it_panic(whole: u64, float: f64, text in "[0-9.+-]{0,40}") {
            for unit in [Unit::Seconds, Unit::Millis, Unit::Micros, Unit::Nanos] {
                for value in [Value::Unsigned(whole), Value::Float(float), Value::text(&text)] {
                    let _ = value.nanos(unit);
                    let _ = value.time(Clock::Epoch(unit));
                }
            }
        }
    }
}
