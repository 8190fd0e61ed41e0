//! A request in OTLP's JSON mapping: only its frame is read, what is in it is copied.

use super::{Around, Lines};
use serde::Deserialize;
use serde_json::value::RawValue;

/// In protobuf's JSON mapping null is the same as nothing.
type List<T> = Option<Vec<T>>;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, rename = "resourceLogs", alias = "resource_logs")]
    resources: List<OfResource<'a>>,
}

#[derive(Deserialize)]
struct OfResource<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow, rename = "scopeLogs", alias = "scope_logs")]
    scopes: List<OfScope<'a>>,
    #[serde(borrow, rename = "schemaUrl", alias = "schema_url")]
    schema: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OfScope<'a> {
    #[serde(borrow)]
    scope: Option<&'a RawValue>,
    #[serde(borrow, rename = "logRecords", alias = "log_records")]
    records: List<&'a RawValue>,
    #[serde(borrow, rename = "schemaUrl", alias = "schema_url")]
    schema: Option<&'a RawValue>,
}

pub(super) fn read(request: &[u8], lines: &mut Lines) -> Result<(), serde_json::Error> {
    let request: Request<'_> = serde_json::from_slice(request)?;
    for of_resource in request.resources.into_iter().flatten() {
        let (what, schema) = (compact(of_resource.resource), compact(of_resource.schema));
        let resource = Around { what: &what, schema: &schema };
        for of_scope in of_resource.scopes.into_iter().flatten() {
            let (what, schema) = (compact(of_scope.scope), compact(of_scope.schema));
            let scope = Around { what: &what, schema: &schema };
            for record in of_scope.records.into_iter().flatten() {
                match compact(Some(record)) {
                    record if record.starts_with(b"{") => lines.push(&record, &scope, &resource),
                    _ => lines.rejected += 1,
                }
            }
        }
    }
    Ok(())
}

/// A value without white space between its parts, so that it is one line; nothing if it is null.
fn compact(value: Option<&RawValue>) -> Vec<u8> {
    let text = value.map(RawValue::get).filter(|text| *text != "null").unwrap_or_default();
    let (mut out, mut quoted, mut escaped) = (Vec::with_capacity(text.len()), false, false);
    for byte in text.bytes() {
        if !quoted && byte.is_ascii_whitespace() {
            continue;
        }
        out.push(byte);
        quoted ^= byte == b'"' && !escaped;
        escaped = quoted && byte == b'\\' && !escaped;
    }
    out
}
