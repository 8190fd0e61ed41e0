//! Exports as Apache Parquet: a table with a column for each access field, and the entry whole in the
//! last one.

use super::{
    files::{Found, Hashed, HashedRead},
    row::Row,
};
use crate::{
    output::{Failure, fail},
    times::Moment,
};
use parquet::{
    basic::{Compression, ZstdLevel},
    column::writer::ColumnWriter,
    data_type::{ByteArray, ByteArrayType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        reader::{FileReader, SerializedFileReader},
        writer::SerializedFileWriter,
    },
    record::{Field, Row as Read},
    schema::parser::parse_message_type,
};
use std::{
    fs::File,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

/// Rows of a group are held in memory: no more than these,
const GROUP_ROWS: usize = 50_000;
/// and no more than about so many bytes of entries.
const GROUP_BYTES: usize = 16 << 20;

/// The columns: their types and names, and where their values come from.
const COLUMNS: [(&str, &str, From); 28] = [
    ("INT64", "index (INTEGER(64,false))", From::Index),
    ("BYTE_ARRAY", "leaf", From::Leaf),
    ("BYTE_ARRAY", "kind (STRING)", From::Kind),
    ("INT64", "time (TIMESTAMP(MILLIS,true))", From::Time),
    ("BYTE_ARRAY", "host (STRING)", From::Header(1)),
    ("BYTE_ARRAY", "app (STRING)", From::Header(2)),
    ("BYTE_ARRAY", "agent (STRING)", From::Param("agent")),
    ("INT64", "n (INTEGER(64,false))", From::Number),
    ("BYTE_ARRAY", "source (STRING)", From::Param("source")),
    ("BYTE_ARRAY", "received (STRING)", From::Param("received")),
    ("BYTE_ARRAY", "peer (STRING)", From::Param("peer")),
    ("BYTE_ARRAY", "transport (STRING)", From::Param("transport")),
    ("BYTE_ARRAY", "part (STRING)", From::Param("part")),
    ("BYTE_ARRAY", "form (STRING)", From::Param("form")),
    ("BYTE_ARRAY", "user_id (STRING)", From::Field("user.id")),
    ("BYTE_ARRAY", "source_ip (STRING)", From::Field("source.ip")),
    ("BYTE_ARRAY", "http_request_method (STRING)", From::Field("http.request.method")),
    ("BYTE_ARRAY", "url_path (STRING)", From::Field("url.path")),
    ("BYTE_ARRAY", "http_response_status_code (STRING)", From::Field("http.response.status_code")),
    ("BYTE_ARRAY", "event_duration (STRING)", From::Field("event.duration")),
    ("BYTE_ARRAY", "purpose (STRING)", From::Field("purpose")),
    ("BYTE_ARRAY", "subject (STRING)", From::Field("subject")),
    ("BYTE_ARRAY", "transaction_id (STRING)", From::Field("transaction.id")),
    ("BYTE_ARRAY", "action (STRING)", From::Field("action")),
    ("BYTE_ARRAY", "items (STRING)", From::Field("items")),
    ("BYTE_ARRAY", "party (STRING)", From::Field("party")),
    ("BYTE_ARRAY", "line", From::Line),
    ("BYTE_ARRAY", "entry", From::Entry),
];

/// Where a column's value comes from.
#[derive(Clone, Copy)]
enum From {
    Index,
    Leaf,
    Kind,
    Time,
    Header(usize),
    Param(&'static str),
    Number,
    Field(&'static str),
    Line,
    Entry,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cell {
    Number(i64),
    Bytes(Vec<u8>),
}

impl From {
    fn cell(self, row: &Row) -> Option<Cell> {
        let text = |text: &str| Cell::Bytes(text.as_bytes().to_vec());
        match self {
            From::Index => Some(Cell::Number(row.index.cast_signed())),
            From::Leaf => Some(Cell::Bytes(row.leaf.0.to_vec())),
            From::Kind => Some(text(row.kind)),
            From::Time => {
                let moment: Moment = row.header[0].parse().ok()?;
                Some(Cell::Number(moment.0.0.cast_signed()))
            }
            From::Header(at) => Some(text(&row.header[at])),
            From::Param(name) => row.param(name).map(text),
            From::Number => row.number().map(|n| Cell::Number(n.cast_signed())),
            From::Field(name) => {
                let found = row.fields.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| text(value))
            }
            From::Line => row.line.clone().map(Cell::Bytes),
            From::Entry => Some(Cell::Bytes(row.entry.clone())),
        }
    }
}

/// A table that is being written.
pub struct Table {
    writer: SerializedFileWriter<Hashed>,
    rows: Vec<Row>,
    held: usize,
}

impl Table {
    /// Begins a table in a new file.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn new(file: Hashed) -> Result<Self, Failure> {
        let columns: String =
            COLUMNS.iter().map(|(kind, name, _)| format!("OPTIONAL {kind} {name};\n")).collect();
        let schema = parse_message_type(&format!("message entry {{\n{columns}}}")).map_err(fail)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(format!("logseal {}", env!("CARGO_PKG_VERSION")))
            .build();
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties));
        Ok(Table { writer: writer.map_err(fail)?, rows: Vec::new(), held: 0 })
    }

    /// Adds a row; about how many bytes the file has.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn put(&mut self, row: &Row) -> Result<u64, Failure> {
        self.held += row.entry.len();
        self.rows.push(row.clone());
        if self.rows.len() >= GROUP_ROWS || self.held >= GROUP_BYTES {
            self.group().map_err(fail)?;
        }
        Ok(self.writer.bytes_written() as u64)
    }

    fn group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        let mut columns = COLUMNS.iter();
        while let Some(mut column) = group.next_column()?
            && let Some((_, _, from)) = columns.next()
        {
            let cells: Vec<Option<Cell>> = self.rows.iter().map(|row| from.cell(row)).collect();
            let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
            let cells = cells.into_iter().flatten();
            match column.untyped() {
                ColumnWriter::Int64ColumnWriter(_) => {
                    let numbers = cells.filter_map(|cell| match cell {
                        Cell::Number(number) => Some(number),
                        Cell::Bytes(_) => None,
                    });
                    let numbers: Vec<i64> = numbers.collect();
                    column.typed::<Int64Type>().write_batch(&numbers, Some(&levels), None)?;
                }
                _ => {
                    let bytes = cells.filter_map(|cell| match cell {
                        Cell::Bytes(bytes) => Some(ByteArray::from(bytes)),
                        Cell::Number(_) => None,
                    });
                    let bytes: Vec<ByteArray> = bytes.collect();
                    column.typed::<ByteArrayType>().write_batch(&bytes, Some(&levels), None)?;
                }
            }
            column.close()?;
        }
        group.close()?;
        (self.rows, self.held) = (Vec::new(), 0);
        Ok(())
    }

    /// Ends the table.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn finish(mut self) -> Result<Hashed, Failure> {
        if !self.rows.is_empty() {
            self.group().map_err(fail)?;
        }
        self.writer.into_inner().map_err(fail)
    }
}

/// As [`files::read`](super::files::read). Every column is compared with what the entry says.
///
/// # Errors
/// The outer one: it cannot be read. The inner one: what is wrong with it.
pub fn read(
    path: &Path,
    each: impl FnMut(Found) -> Result<(), String>,
) -> Result<Result<(String, u64), String>, Failure> {
    let mut hashed = HashedRead::open(path)?;
    io::copy(&mut hashed, &mut io::sink()).map_err(Failure::file(path))?;
    let file = File::open(path).map_err(Failure::file(path))?;
    // The decoder is somebody else's, and the file may be anybody's.
    let read = catch_unwind(AssertUnwindSafe(|| rows(file, each)));
    let read = read.unwrap_or_else(|_| Err("it is no Parquet that can be decoded".to_owned()));
    Ok(read.map(|()| hashed.finish()))
}

fn rows(file: File, mut each: impl FnMut(Found) -> Result<(), String>) -> Result<(), String> {
    let malformed = |error: ParquetError| format!("it is no such table: {error}");
    let reader = SerializedFileReader::new(file).map_err(malformed)?;
    for row in reader.get_row_iter(None).map_err(malformed)? {
        let cells = cells(&row.map_err(malformed)?);
        let at = |wanted: fn(&From) -> bool| {
            let column = COLUMNS.iter().position(|(_, _, from)| wanted(from))?;
            cells.get(column).cloned().flatten()
        };
        let (index, entry) =
            (at(|from| matches!(from, From::Index)), at(|from| matches!(from, From::Entry)));
        let (Some(Cell::Number(index)), Some(Cell::Bytes(entry))) = (index, entry) else {
            return Err("a row has no index or no entry".to_owned());
        };
        let row = Row::of(index.cast_unsigned(), &entry);
        let expected: Vec<Option<Cell>> =
            COLUMNS.iter().map(|(_, _, from)| from.cell(&row)).collect();
        if cells != expected {
            return Err("the row is not what its entry says".to_owned());
        }
        each(Found { entry, row: Some(row.to_json()) })?;
    }
    Ok(())
}

fn cells(row: &Read) -> Vec<Option<Cell>> {
    let cell = |field: &Field| match field {
        Field::Long(number) | Field::TimestampMillis(number) => Some(Cell::Number(*number)),
        Field::ULong(number) => Some(Cell::Number(number.cast_signed())),
        Field::Str(text) => Some(Cell::Bytes(text.as_bytes().to_vec())),
        Field::Bytes(bytes) => Some(Cell::Bytes(bytes.data().to_vec())),
        _ => None,
    };
    row.get_column_iter().map(|(_, field)| cell(field)).collect()
}
