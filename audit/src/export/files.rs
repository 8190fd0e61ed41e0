//! The files that entries are written to and read from, in each format.

use super::{manifest::FileInfo, row::Row};
use crate::output::{Failure, fail};
use clap::ValueEnum;
use ring::digest;
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The longest line of a JSON export: an entry several times, escaped.
const MAX_JSON_LINE: u64 = 4 << 20;
const MAX_ENTRY: usize = record::entry::MAX_ENTRY_LEN;

/// How entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The entries byte for byte, with octet counting (RFC 6587), each with a line feed behind it
    Syslog,
    /// A JSON object a line
    Jsonl,
    /// Apache Parquet
    #[cfg(feature = "parquet")]
    Parquet,
}

impl Format {
    /// The name in manifests and file names.
    pub fn name(self) -> &'static str {
        match self {
            Format::Syslog => "syslog",
            Format::Jsonl => "jsonl",
            #[cfg(feature = "parquet")]
            Format::Parquet => "parquet",
        }
    }

    /// The format of this name.
    ///
    /// # Errors
    /// This program does not have it.
    pub fn of(name: &str) -> Result<Self, Failure> {
        Format::from_str(name, false).map_err(|_| {
            Failure(format!("this program was built without the format '{name}', or is too old"))
        })
    }
}

/// A file that is hashed as it is written.
pub struct Hashed {
    file: BufWriter<File>,
    context: digest::Context,
    /// Bytes so far.
    pub bytes: u64,
}

impl Hashed {
    /// Makes a new file, for this user alone: entries say who looked at whom.
    ///
    /// # Errors
    /// It exists, or the machine refuses.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::options().write(true).create_new(true).mode(0o600).open(path);
        let file = BufWriter::with_capacity(1 << 18, file.map_err(Failure::file(path))?);
        Ok(Hashed { file, context: digest::Context::new(&digest::SHA256), bytes: 0 })
    }

    /// Brings it to the disk; its SHA-256 in hexadecimal, and its length.
    ///
    /// # Errors
    /// That of the system.
    pub fn finish(mut self) -> io::Result<(String, u64)> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok((hex(self.context.finish().as_ref()), self.bytes))
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.context.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is hashed as it is read.
pub struct HashedRead {
    file: File,
    context: digest::Context,
    bytes: u64,
}

impl HashedRead {
    /// Opens a file.
    ///
    /// # Errors
    /// That of the system.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(Failure::file(path))?;
        Ok(HashedRead { file, context: digest::Context::new(&digest::SHA256), bytes: 0 })
    }

    /// SHA-256 in hexadecimal, and length, of what was read.
    pub fn finish(self) -> (String, u64) {
        (hex(self.context.finish().as_ref()), self.bytes)
    }
}

impl Read for HashedRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.context.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One file as it is written.
enum Open {
    Plain(Box<Hashed>),
    #[cfg(feature = "parquet")]
    Parquet(Box<super::parquet::Table>),
}

/// Writes rows into files, and begins a new one when one has grown to its size.
pub struct Rolled {
    dir: PathBuf,
    format: Format,
    limit: u64,
    open: Option<(Open, FileInfo)>,
    done: Vec<FileInfo>,
}

impl Rolled {
    /// Files of about `limit` bytes in `dir`.
    pub fn new(dir: &Path, format: Format, limit: u64) -> Self {
        Rolled { dir: dir.to_owned(), format, limit, open: None, done: Vec::new() }
    }

    /// Writes a row.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn put(&mut self, row: &Row) -> Result<(), Failure> {
        let (open, info) = match self.open.take() {
            Some((open, info)) if info.bytes < self.limit => self.open.insert((open, info)),
            full => {
                self.done.extend(full.map(|full| close(&self.dir, full)).transpose()?);
                let begun = self.begin()?;
                self.open.insert(begun)
            }
        };
        let path = self.dir.join(&info.name);
        info.entries += 1;
        match open {
            Open::Plain(file) => {
                write_plain(file, self.format, row).map_err(Failure::file(&path))?;
                info.bytes = file.bytes;
            }
            #[cfg(feature = "parquet")]
            Open::Parquet(table) => info.bytes = table.put(row)?,
        }
        Ok(())
    }

    fn begin(&self) -> Result<(Open, FileInfo), Failure> {
        let name = format!("entries-{:06}.{}", self.done.len() + 1, self.format.name());
        let file = Hashed::create(&self.dir.join(&name))?;
        let open = match self.format {
            Format::Syslog | Format::Jsonl => Open::Plain(Box::new(file)),
            #[cfg(feature = "parquet")]
            Format::Parquet => Open::Parquet(Box::new(super::parquet::Table::new(file)?)),
        };
        Ok((open, FileInfo { name, bytes: 0, entries: 0, sha256: String::new() }))
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn finish(mut self) -> Result<Vec<FileInfo>, Failure> {
        let last = self.open.take().map(|open| close(&self.dir, open)).transpose()?;
        self.done.extend(last);
        Ok(self.done)
    }
}

fn close(dir: &Path, (open, mut info): (Open, FileInfo)) -> Result<FileInfo, Failure> {
    let file = match open {
        Open::Plain(file) => *file,
        #[cfg(feature = "parquet")]
        Open::Parquet(table) => table.finish()?,
    };
    (info.sha256, info.bytes) = file.finish().map_err(Failure::file(&dir.join(&info.name)))?;
    Ok(info)
}

fn write_plain(file: &mut Hashed, format: Format, row: &Row) -> io::Result<()> {
    if format == Format::Jsonl {
        return writeln!(file, "{}", row.to_json());
    }
    write!(file, "{} ", row.entry.len())?;
    file.write_all(&row.entry)?;
    file.write_all(b"\n")
}

/// An entry as it was found in a file.
pub struct Found {
    /// Its bytes.
    pub entry: Vec<u8>,
    /// The row it was found in, where the format has rows.
    pub row: Option<serde_json::Value>,
}

/// Reads a file of an export and gives each entry to `each`; its SHA-256 and length.
///
/// # Errors
/// The outer one: it cannot be read. The inner one: what is wrong with it.
pub fn read(
    path: &Path,
    format: Format,
    each: impl FnMut(Found) -> Result<(), String>,
) -> Result<Result<(String, u64), String>, Failure> {
    #[cfg(feature = "parquet")]
    if format == Format::Parquet {
        return super::parquet::read(path, each);
    }
    let mut file = BufReader::with_capacity(1 << 18, HashedRead::open(path)?);
    let read = read_plain(&mut file, format, each).map_err(Failure::file(path))?;
    Ok(read.map(|()| file.into_inner().finish()))
}

/// Reads frames, or with [`Format::Jsonl`] lines, and gives each entry to `each`. One entry is in memory
/// at a time, whatever its length says.
///
/// # Errors
/// The outer one: it cannot be read. The inner one: what is wrong with it, or what `each` says.
pub fn read_plain(
    file: &mut impl BufRead,
    format: Format,
    mut each: impl FnMut(Found) -> Result<(), String>,
) -> io::Result<Result<(), String>> {
    loop {
        let next = if format == Format::Jsonl { next_json(file) } else { next_frame(file) };
        let given = match next? {
            Ok(None) => return Ok(Ok(())),
            Ok(Some(found)) => each(found),
            Err(problem) => Err(problem),
        };
        if given.is_err() {
            return Ok(given);
        }
    }
}

/// The next frame, nothing at the end, or what is wrong.
type Next = io::Result<Result<Option<Found>, String>>;

fn next_frame(file: &mut impl BufRead) -> Next {
    let mut digits = Vec::new();
    file.take(6).read_until(b' ', &mut digits)?;
    if digits.is_empty() {
        return Ok(Ok(None));
    }
    let length = digits
        .strip_suffix(b" ")
        .filter(|digits| !digits.starts_with(b"0") && digits.iter().all(u8::is_ascii_digit))
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok())
        .filter(|length| *length <= MAX_ENTRY);
    let Some(length) = length else {
        return Ok(Err("a frame does not begin with its length".into()));
    };
    let mut entry = vec![0; length + 1];
    match file.read_exact(&mut entry) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(Err("it ends within an entry".into()));
        }
        read => read?,
    }
    if entry.pop() != Some(b'\n') {
        return Ok(Err("an entry does not end where its length says".into()));
    }
    Ok(Ok(Some(Found { entry, row: None })))
}

fn next_json(file: &mut impl BufRead) -> Next {
    let mut line = Vec::new();
    file.take(MAX_JSON_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(Ok(None));
    }
    let row: Option<serde_json::Value> =
        line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok());
    let entry = row.as_ref().and_then(Row::entry_of);
    Ok(match (entry, row) {
        (Some(entry), row) => Ok(Some(Found { entry, row })),
        (None, _) => Err("a line is no JSON object with an entry".into()),
    })
}

/// Writes a small file, durably.
///
/// # Errors
/// It exists, or the machine refuses.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = Hashed::create(path)?;
    file.write_all(bytes).map_err(Failure::file(path))?;
    file.finish().map(drop).map_err(Failure::file(path))
}

/// Makes a folder, for this user alone.
///
/// # Errors
/// The machine refuses.
pub fn private_dir(dir: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Failure::file(dir))
}

/// Makes the names in a folder durable.
///
/// # Errors
/// The machine refuses.
pub fn sync_dir(dir: &Path) -> Result<(), Failure> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_frame_is_refused_and_never_a_panic() {
        let frames = |bytes: &[u8]| {
            let mut entries = Vec::new();
            let read = read_plain(&mut &bytes[..], Format::Syslog, |found| {
                entries.push(found.entry);
                Ok(())
            });
            read.unwrap().map(|()| entries)
        };
        assert_eq!(frames(b"").unwrap().len(), 0);
        assert_eq!(frames(b"3 abc\n1  \n").unwrap(), [b"abc".to_vec(), b" ".to_vec()]);
        for bad in [" ", " 3 abc\n", "03 abc\n", "+3 abc\n", "3", "3 abc", "3 abcd\n", "65536 "] {
            assert!(frames(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
