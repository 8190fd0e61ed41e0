//! A request in protobuf, written out as OTLP's JSON mapping by tables of its messages: integers of
//! 64 bits as text, identifiers of traces in hexadecimal, other bytes in base64, names in lower
//! camel case (opentelemetry-proto, `logs.proto`, `common.proto`, `resource.proto`).

use super::{Around, Lines};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// How deep values may be nested, as protobuf's own decoders have it.
const MAX_DEPTH: usize = 100;

type Problem = &'static str;

/// A field of a message.
struct Field {
    number: u64,
    name: &'static str,
    kind: Kind,
    repeated: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Base64,
    Hex,
    Bool,
    /// As a JSON number.
    Small,
    /// As text.
    Int64,
    Fixed32,
    Fixed64,
    Double,
    Message(&'static [Field]),
}

const fn one(number: u64, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, repeated: false }
}

const fn many(number: u64, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, repeated: true }
}

static ANY_VALUE: [Field; 7] = [
    one(1, "stringValue", Kind::Text),
    one(2, "boolValue", Kind::Bool),
    one(3, "intValue", Kind::Int64),
    one(4, "doubleValue", Kind::Double),
    one(5, "arrayValue", Kind::Message(&ARRAY_VALUE)),
    one(6, "kvlistValue", Kind::Message(&KEY_VALUE_LIST)),
    one(7, "bytesValue", Kind::Base64),
];
static ARRAY_VALUE: [Field; 1] = [many(1, "values", Kind::Message(&ANY_VALUE))];
static KEY_VALUE_LIST: [Field; 1] = [many(1, "values", Kind::Message(&KEY_VALUE))];
static KEY_VALUE: [Field; 2] =
    [one(1, "key", Kind::Text), one(2, "value", Kind::Message(&ANY_VALUE))];
static ENTITY_REF: [Field; 4] = [
    one(1, "schemaUrl", Kind::Text),
    one(2, "type", Kind::Text),
    many(3, "idKeys", Kind::Text),
    many(4, "descriptionKeys", Kind::Text),
];
static RESOURCE: [Field; 3] = [
    many(1, "attributes", Kind::Message(&KEY_VALUE)),
    one(2, "droppedAttributesCount", Kind::Small),
    many(3, "entityRefs", Kind::Message(&ENTITY_REF)),
];
static SCOPE: [Field; 4] = [
    one(1, "name", Kind::Text),
    one(2, "version", Kind::Text),
    many(3, "attributes", Kind::Message(&KEY_VALUE)),
    one(4, "droppedAttributesCount", Kind::Small),
];
static LOG_RECORD: [Field; 11] = [
    one(1, "timeUnixNano", Kind::Fixed64),
    one(11, "observedTimeUnixNano", Kind::Fixed64),
    one(2, "severityNumber", Kind::Small),
    one(3, "severityText", Kind::Text),
    one(12, "eventName", Kind::Text),
    one(5, "body", Kind::Message(&ANY_VALUE)),
    many(6, "attributes", Kind::Message(&KEY_VALUE)),
    one(7, "droppedAttributesCount", Kind::Small),
    one(8, "flags", Kind::Fixed32),
    one(9, "traceId", Kind::Hex),
    one(10, "spanId", Kind::Hex),
];

/// A value on the wire.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn bytes(&self) -> Option<&'a [u8]> {
        match *self {
            Wire::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

pub(super) fn read(request: &[u8], lines: &mut Lines) -> Result<(), Problem> {
    for resource_logs in parts(request, 1)? {
        let what = optional(resource_logs, 1, Kind::Message(&RESOURCE))?;
        let schema = optional(resource_logs, 3, Kind::Text)?;
        let resource = Around { what: &what, schema: &schema };
        for scope_logs in parts(resource_logs, 2)? {
            let what = optional(scope_logs, 1, Kind::Message(&SCOPE))?;
            let schema = optional(scope_logs, 3, Kind::Text)?;
            let scope = Around { what: &what, schema: &schema };
            for record in parts(scope_logs, 2)? {
                let mut out = Vec::new();
                write_message(&mut out, &[record], &LOG_RECORD, 0)?;
                lines.push(&out, &scope, &resource);
            }
        }
    }
    Ok(())
}

/// All fields of a message, in the order in which they are there.
fn fields(mut message: &[u8]) -> Result<Vec<(u64, Wire<'_>)>, Problem> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let wire = match tag & 7 {
            0 => Wire::Varint(varint(&mut message)?),
            1 => Wire::Fixed64(u64::from_le_bytes(fixed(&mut message)?)),
            2 => {
                let len = usize::try_from(varint(&mut message)?).map_err(|_| TRUNCATED)?;
                let (bytes, rest) = message.split_at_checked(len).ok_or(TRUNCATED)?;
                message = rest;
                Wire::Bytes(bytes)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(fixed(&mut message)?)),
            _ => return Err("it has a wire type that is not in use"),
        };
        match tag >> 3 {
            0 => return Err("it has a field with the number 0"),
            number => fields.push((number, wire)),
        }
    }
    Ok(fields)
}

const TRUNCATED: Problem = "it ends inside a field";

fn varint(bytes: &mut &[u8]) -> Result<u64, Problem> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(TRUNCATED)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("it has a number that does not end")
}

fn fixed<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Problem> {
    let (value, rest) = bytes.split_first_chunk().ok_or(TRUNCATED)?;
    *bytes = rest;
    Ok(*value)
}

/// The embedded messages of a field.
fn parts(message: &[u8], wanted: u64) -> Result<Vec<&[u8]>, Problem> {
    let of_field = |(number, wire)| match wire {
        Wire::Bytes(bytes) if number == wanted => Some(Ok(bytes)),
        _ if number == wanted => Some(Err("a message was expected, and there is a number")),
        _ => None,
    };
    fields(message)?.into_iter().filter_map(of_field).collect()
}

/// A field as JSON; nothing if it is absent. A message that is there twice is one, as protobuf says.
fn optional(message: &[u8], number: u64, kind: Kind) -> Result<Vec<u8>, Problem> {
    let (mut out, found) = (Vec::new(), parts(message, number)?);
    match (kind, found.last()) {
        (_, None) => {}
        (Kind::Message(table), Some(_)) => write_message(&mut out, &found, table, 0)?,
        (_, Some(last)) => write(&mut out, Wire::Bytes(last), kind, 0)?,
    }
    Ok(out)
}

/// Writes one message, that may have come in several pieces.
fn write_message(
    out: &mut Vec<u8>,
    pieces: &[&[u8]],
    table: &'static [Field],
    depth: usize,
) -> Result<(), Problem> {
    if depth > MAX_DEPTH {
        return Err("it is nested too deeply");
    }
    let mut found = Vec::new();
    for piece in pieces {
        found.extend(fields(piece)?);
    }
    out.push(b'{');
    let mut first = true;
    for field in table {
        let values = found.iter().filter(|(number, _)| *number == field.number);
        let values: Vec<Wire<'_>> = values.map(|(_, wire)| *wire).collect();
        if values.is_empty() {
            continue;
        }
        out.extend_from_slice(if first { b"\"" } else { b",\"" });
        first = false;
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(b"\":");
        write_field(out, &values, field, depth + 1)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_field(
    out: &mut Vec<u8>,
    values: &[Wire<'_>],
    field: &Field,
    depth: usize,
) -> Result<(), Problem> {
    if !field.repeated {
        // Of several the last counts; of messages, all together.
        return match (field.kind, values) {
            (Kind::Message(table), values) => {
                let bytes = values.iter().map(Wire::bytes);
                let pieces = bytes.collect::<Option<Vec<&[u8]>>>().ok_or(MISMATCH)?;
                write_message(out, &pieces, table, depth)
            }
            (kind, [.., last]) => write(out, *last, kind, depth),
            (_, []) => Ok(()),
        };
    }
    out.push(b'[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, *value, field.kind, depth)?;
    }
    out.push(b']');
    Ok(())
}

const MISMATCH: Problem = "a field has another type than it should";

fn write(out: &mut Vec<u8>, wire: Wire<'_>, kind: Kind, depth: usize) -> Result<(), Problem> {
    match (kind, wire) {
        (Kind::Message(table), Wire::Bytes(bytes)) => write_message(out, &[bytes], table, depth)?,
        (Kind::Text, Wire::Bytes(bytes)) => {
            let text = std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")?;
            quote(out, text);
        }
        (Kind::Base64, Wire::Bytes(bytes)) => quote(out, &STANDARD.encode(bytes)),
        (Kind::Hex, Wire::Bytes(bytes)) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            quote(out, &hex);
        }
        (Kind::Bool, Wire::Varint(value)) => {
            out.extend_from_slice(if value == 0 { b"false" } else { b"true" });
        }
        (Kind::Small, Wire::Varint(value)) => {
            out.extend_from_slice((value as u32).to_string().as_bytes());
        }
        (Kind::Int64, Wire::Varint(value)) => quote(out, &(value as i64).to_string()),
        (Kind::Fixed64, Wire::Fixed64(value)) => quote(out, &value.to_string()),
        (Kind::Fixed32, Wire::Fixed32(value)) => {
            out.extend_from_slice(value.to_string().as_bytes());
        }
        (Kind::Double, Wire::Fixed64(value)) => double(out, f64::from_bits(value)),
        _ => return Err(MISMATCH),
    }
    Ok(())
}

/// As protobuf's JSON mapping writes numbers that JSON has none for.
fn double(out: &mut Vec<u8>, value: f64) {
    match value {
        _ if value.is_nan() => out.extend_from_slice(b"\"NaN\""),
        f64::INFINITY => out.extend_from_slice(b"\"Infinity\""),
        f64::NEG_INFINITY => out.extend_from_slice(b"\"-Infinity\""),
        _ => out.extend_from_slice(format!("{value:?}").as_bytes()),
    }
}

fn quote(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a text is written to memory");
}
