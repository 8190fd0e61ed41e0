//! What is in a file, be it compressed or not.
//!
//! Offsets count the bytes of the log, not those of the compressed file. Those
//! of a compressed file are read one after the other, in bounded memory;
//! whoever goes back makes it begin anew.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, BufReader, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use flate2::bufread::MultiGzDecoder;
use pipeline::line::Fingerprint;

use super::names;

/// The largest window of a zstd file, as a power of two: 128 MiB, what `zstd` itself takes at most
/// unless it is told otherwise.
const ZSTD_WINDOW: u32 = 27;

/// How much is thrown away at a time on the way to an offset, in bytes.
const SKIP: usize = 64 << 10;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zstd,
    /// In a way that this program cannot read.
    Unknown,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Body {
    file: Arc<File>,
    packed: Option<Packed>,
}

struct Packed {
    packing: Packing,
    reader: Option<Box<dyn Read + Send>>,
    /// Where the reader is, in bytes of the log.
    offset: u64,
    ended: bool,
}

/// Reads a file without touching the place that others who share it read at.
struct FromStart {
    file: Arc<File>,
    offset: u64,
}

impl Body {
    /// Opens a file for reading, without waiting for the other end should it be a pipe.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Metadata)> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits();
        let flags = i32::try_from(nonblocking).expect("a file flag fits");
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        let packing = match metadata.is_file() {
            true => packing(&file, path)?,
            false => None,
        };
        let packed =
            packing.map(|packing| Packed { packing, reader: None, offset: 0, ended: false });
        Ok((Body { file: Arc::new(file), packed }, metadata))
    }

    #[cfg(test)]
    pub(super) fn plain(file: File) -> Self {
        Body { file: Arc::new(file), packed: None }
    }

    pub(super) fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// What the system says about the file.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// The bytes that a fingerprint is taken of.
    pub(super) fn head(&mut self) -> io::Result<Vec<u8>> {
        let mut head = vec![0; Fingerprint::MAX_LEN];
        let read = self.read_at(&mut head, 0)?;
        head.truncate(read);
        Ok(head)
    }

    /// Reads until the buffer is full or the file ends.
    pub(super) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &mut self.packed {
            None => read_plain(&self.file, buffer, offset),
            Some(packed) => packed.read_at(&self.file, buffer, offset),
        }
    }

    /// True if nothing is behind what was read last. A file that is not compressed never says so:
    /// it may grow.
    pub(super) fn ended(&self) -> bool {
        self.packed.as_ref().is_some_and(|packed| packed.ended)
    }

    /// True if the log has so many bytes at least.
    pub(super) fn reaches(&mut self, offset: u64) -> io::Result<bool> {
        match &mut self.packed {
            None => Ok(self.file.metadata()?.len() >= offset),
            Some(packed) => packed.go_to(&self.file, offset),
        }
    }

    /// True if it is known, without unpacking it, that the log ends at `offset`. gzip says how many
    /// bytes there are, modulo 2^32; with the beginning compared, that is enough.
    pub(super) fn ends_at(&self, offset: u64) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        match &self.packed {
            None => Ok(length == offset),
            Some(Packed { packing: Packing::Gzip, .. }) if length >= 18 => {
                let mut size = [0; 4];
                self.file.read_exact_at(&mut size, length - 4)?;
                Ok(u64::from(u32::from_le_bytes(size)) == offset & 0xffff_ffff)
            }
            Some(_) => Ok(false),
        }
    }
}

impl Packed {
    fn read_at(
        &mut self,
        file: &Arc<File>,
        mut buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        if !self.go_to(file, offset)? {
            return Ok(0);
        }
        let wanted = buffer.len();
        while !buffer.is_empty() {
            match self.next(buffer)? {
                0 => break,
                read => buffer = &mut buffer[read..],
            }
        }
        Ok(wanted - buffer.len())
    }

    /// Goes to an offset; false if the log ends before it.
    fn go_to(&mut self, file: &Arc<File>, offset: u64) -> io::Result<bool> {
        if self.reader.is_none() || offset < self.offset {
            let raw = BufReader::new(FromStart { file: Arc::clone(file), offset: 0 });
            self.reader = Some(decoder(self.packing, raw)?);
            (self.offset, self.ended) = (0, false);
        }
        let mut thrown_away = vec![0; SKIP.min((offset - self.offset) as usize)];
        while self.offset < offset {
            let step = (offset - self.offset).min(SKIP as u64) as usize;
            if self.next(&mut thrown_away[..step])? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(reader) = &mut self.reader else { return Ok(0) };
        loop {
            match reader.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.reader = None;
                    return Err(error);
                }
                Ok(read) => {
                    self.ended = read == 0;
                    self.offset += read as u64;
                    return Ok(read);
                }
            }
        }
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Packed { packing, offset, ended, .. } = self;
        write!(f, "{packing:?} at {offset}, ended: {ended}")
    }
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

fn decoder(packing: Packing, raw: BufReader<FromStart>) -> io::Result<Box<dyn Read + Send>> {
    Ok(match packing {
        Packing::Gzip => Box::new(MultiGzDecoder::new(raw)),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(raw)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Packing::Unknown => {
            let problem = "it is compressed, and neither with gzip nor with zstd: logseal-agent \
                           reads only these";
            return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
        }
    })
}

/// By its name or by its first bytes a file is compressed: what is being compressed has a name first.
fn packing(file: &File, path: &Path) -> io::Result<Option<Packing>> {
    let mut magic = [0; 10];
    let read = read_plain(file, &mut magic, 0)?;
    Ok(match &magic[..read] {
        [0x1f, 0x8b, 8, 0..=0x1f, ..] => Some(Packing::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packing::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Packing::Unknown),
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', b'S', b'Y'] => {
            Some(Packing::Unknown)
        }
        _ if names::is_compressed(path) => Some(Packing::Unknown),
        _ => None,
    })
}

fn read_plain(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<usize> {
    let wanted = buffer.len();
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => break,
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted - buffer.len())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::{fs, io::Write};

    pub(in super::super) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    pub(in super::super) fn zstd(bytes: &[u8]) -> Vec<u8> {
        ::zstd::encode_all(bytes, 1).unwrap()
    }

    fn body(name: &str, bytes: &[u8]) -> Body {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        Body::open(&path).unwrap().0
    }

    #[test]
    fn a_compressed_file_is_read_like_the_file_it_was() {
        let log: Vec<u8> = (0..300_000u32).flat_map(|n| n.to_be_bytes()).collect();
        let (front, back) = log.split_at(400_001);
        let two_members = [gzip(front), gzip(back)].concat();
        for (name, packed) in [
            ("a.gz", gzip(&log)),
            ("a.gz", two_members),
            ("a.zst", zstd(&log)),
            ("a.1", zstd(&log)),
        ] {
            let mut body = body(name, &packed);
            assert!(body.is_packed());
            assert_eq!(body.head().unwrap(), log[..1024]);
            let mut buffer = vec![0; 70_000];
            for offset in [500_000, 570_000, 3, 1_199_990] {
                let read = body.read_at(&mut buffer, offset).unwrap();
                let expected = &log[offset as usize..log.len().min(offset as usize + 70_000)];
                assert_eq!((read, &buffer[..read]), (expected.len(), expected), "{name} {offset}");
            }
            assert!(body.ended());
            assert!(body.reaches(1_200_000).unwrap() && !body.reaches(1_200_001).unwrap());
        }
    }

    #[test]
    fn a_gzip_file_tells_its_length_without_being_unpacked() {
        let body = body("a.gz", &gzip(&[b'x'; 5000]));
        assert!(body.ends_at(5000).unwrap() && !body.ends_at(4999).unwrap());
        assert!(self::body("a", b"12345").ends_at(5).unwrap());
    }

    #[test]
    fn a_torn_or_foreign_file_is_an_error_and_never_taken_for_a_log() {
        let whole = gzip(&[b'x'; 5000]);
        assert!(body("a.gz", &whole[..whole.len() - 5]).reaches(6000).is_err());
        for (name, bytes) in [("a.xz", &b""[..]), ("a.bz2", b"BZh91AY&SY"), ("a", b"\xfd7zXZ\0")] {
            let error = body(name, bytes).head().unwrap_err();
            assert!(error.to_string().contains("neither with gzip nor with zstd"), "{error}");
        }
        assert!(!body("a.log", b"plain").is_packed());
    }
}
