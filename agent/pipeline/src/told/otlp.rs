//! A log record of OpenTelemetry, as [`crate::otlp`] writes it: one record with its resource.

use super::Told;
use record::UnixMillis;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a record says of itself; nothing if it is none.
pub(crate) fn otlp(line: &[u8]) -> Told<'_> {
    serde_json::from_slice::<Data<'_>>(line).ok().and_then(Data::told).unwrap_or_default()
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, rename = "resourceLogs")]
    resources: Vec<OfResource<'a>>,
}

#[derive(Deserialize)]
struct OfResource<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow, rename = "scopeLogs")]
    scopes: Vec<OfScope<'a>>,
}

#[derive(Deserialize)]
struct OfScope<'a> {
    #[serde(borrow, rename = "logRecords")]
    records: Vec<LogRecord<'a>>,
}

#[derive(Deserialize)]
struct LogRecord<'a> {
    #[serde(borrow, rename = "timeUnixNano", alias = "time_unix_nano")]
    time: Option<&'a RawValue>,
    #[serde(borrow, rename = "observedTimeUnixNano", alias = "observed_time_unix_nano")]
    observed: Option<&'a RawValue>,
    #[serde(borrow, rename = "severityNumber", alias = "severity_number")]
    severity: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Resource<'a> {
    #[serde(borrow, default)]
    attributes: Vec<Attribute<'a>>,
}

#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Value<'a> {
    #[serde(borrow, rename = "stringValue", alias = "string_value")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "intValue", alias = "int_value")]
    int: Option<&'a RawValue>,
}

impl<'a> Data<'a> {
    fn told(self) -> Option<Told<'a>> {
        let of_resource = self.resources.into_iter().next()?;
        let record = of_resource.scopes.into_iter().next()?.records.into_iter().next()?;
        let nanos = |value: Option<&RawValue>| number(value?).filter(|nanos| *nanos > 0);
        let time = nanos(record.time).or(nanos(record.observed));
        let resource = of_resource.resource.map(RawValue::get);
        let resource: Option<Resource<'a>> =
            resource.and_then(|text| serde_json::from_str(text).ok());
        let attributes = resource.map(|resource| resource.attributes).unwrap_or_default();
        let attribute = |name: &str| {
            let found = attributes.iter().find(|attribute| attribute.key == name)?;
            text(found.value?).map(bytes)
        };
        Some(Told {
            severity: record.severity.and_then(number).and_then(severity),
            facility: None,
            time: time.map(|nanos| UnixMillis(nanos / 1_000_000)),
            host: attribute("host.name"),
            app: attribute("service.name"),
            procid: attribute("process.pid"),
            message: record.body.and_then(text).map(bytes),
        })
    }
}

/// A number, which may be written as text.
fn number(value: &RawValue) -> Option<u64> {
    value.get().trim_matches('"').parse().ok()
}

/// The text of an `AnyValue`.
fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let value: Value<'_> = serde_json::from_str(value.get()).ok()?;
    value.text.or_else(|| Some(Cow::Borrowed(value.int?.get().trim_matches('"'))))
}

fn bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// The syslog severity, by the table in OpenTelemetry's data model of logs, read backwards.
fn severity(number: u64) -> Option<u8> {
    Some(match number {
        1..=8 => 7,
        9 => 6,
        10..=12 => 5,
        13..=16 => 4,
        17 => 3,
        18 => 2,
        19 | 20 => 1,
        21..=24 => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_says_when_where_who_and_how_bad() {
        let told = otlp(br#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"sh\"op"}},
            {"key":"host.name","value":{"stringValue":"web"}},{"key":"process.pid","value":{"intValue":"12"}}]},
            "scopeLogs":[{"logRecords":[{"timeUnixNano":"1795248147000000001","severityNumber":13,"body":{"stringValue":"x"}}]}]}]}"#);
        let text = |value: &Option<Cow<'_, [u8]>>| {
            String::from_utf8_lossy(value.as_deref().unwrap()).into_owned()
        };
        assert_eq!((told.severity, told.time), (Some(4), Some(UnixMillis(1_795_248_147_000))));
        assert_eq!(
            [&told.app, &told.host, &told.procid, &told.message].map(text),
            ["sh\"op", "web", "12", "x"]
        );
        let other = otlp(br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"arrayValue":{}},"severityNumber":"INFO"}]}]}]}"#);
        assert_eq!(other, Told::default());
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = otlp(&data);
        }
    }
}
