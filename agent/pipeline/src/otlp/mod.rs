//! Log records of OpenTelemetry (OTLP 1.x), from a request of an exporter to lines. Pure.
//!
//! Each log record becomes one line: a `LogsData` in OTLP's JSON mapping that holds this record
//! alone, with its resource and scope, as the OTLP file exporter writes it; so whatever reads such
//! files reads our lines. What came as JSON is kept as it was written, but for white space; what
//! came as protobuf is written out field by field, and fields that are not in the protocol are left
//! out, as it says.
//!
//! A resource is repeated in each of its records, so a small request can become much: what is
//! beyond [`MAX_LINES`] is rejected, and so is a record that is longer than a line can be.

mod json;
mod protobuf;

use crate::{entries::MAX_LINE, line::LineSpan};

/// How much a request may become, in bytes.
pub const MAX_LINES: usize = 16 << 20;

/// The lines of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The lines, one behind the other.
    pub bytes: Vec<u8>,
    /// Where each of them is.
    pub spans: Vec<LineSpan>,
    /// How many records became no line.
    pub rejected: u64,
}

/// A request is not what its content type says. Its sender is at fault, and sending it again
/// changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be decoded: {0}")]
pub struct OtlpError(String);

/// Reads an `ExportLogsServiceRequest` in protobuf.
///
/// # Errors
/// When it is none.
pub fn from_protobuf(request: &[u8]) -> Result<Lines, OtlpError> {
    let mut lines = Lines::default();
    protobuf::read(request, &mut lines).map_err(|problem| OtlpError(problem.into()))?;
    Ok(lines)
}

/// Reads an `ExportLogsServiceRequest` in OTLP's JSON mapping.
///
/// # Errors
/// When it is none.
pub fn from_json(request: &[u8]) -> Result<Lines, OtlpError> {
    let mut lines = Lines::default();
    json::read(request, &mut lines).map_err(|problem| OtlpError(problem.to_string()))?;
    Ok(lines)
}

impl Lines {
    /// Appends one record with what it belongs to; all parts are JSON, and empty if they are absent.
    fn push(&mut self, record: &[u8], scope: &Around<'_>, resource: &Around<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(b"{\"resourceLogs\":[{");
        member(&mut self.bytes, "resource", resource.what);
        self.bytes.extend_from_slice(b"\"scopeLogs\":[{");
        member(&mut self.bytes, "scope", scope.what);
        self.bytes.extend_from_slice(b"\"logRecords\":[");
        self.bytes.extend_from_slice(record);
        self.bytes.push(b']');
        last_member(&mut self.bytes, "schemaUrl", scope.schema);
        self.bytes.extend_from_slice(b"}]");
        last_member(&mut self.bytes, "schemaUrl", resource.schema);
        self.bytes.extend_from_slice(b"}]}");
        let end = self.bytes.len();
        if end - start > MAX_LINE || end > MAX_LINES {
            self.bytes.truncate(start);
            self.rejected += 1;
            return;
        }
        let narrow = |place: usize| u32::try_from(place).expect("MAX_LINES is far below 4 GiB");
        self.spans.push(LineSpan { start: narrow(start), end: narrow(end), next: narrow(end) });
    }
}

/// A resource or scope, and the URL of its schema, as JSON.
#[derive(Clone, Copy, Debug, Default)]
struct Around<'a> {
    what: &'a [u8],
    schema: &'a [u8],
}

fn member(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !value.is_empty() {
        out.extend_from_slice(format!("\"{name}\":").as_bytes());
        out.extend_from_slice(value);
        out.push(b',');
    }
}

fn last_member(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !value.is_empty() {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        out.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests;
