//! What the scenarios share: small journals, and images of what a crash leaves of one.

use std::fs;
use std::path::{Path, PathBuf};

use logseal_journal::{Error, Journal, Options, Reader, Recovery, Seq, scan};

/// Segments of this size, and every record written at once, so that a crash can catch it half-written.
pub fn unbuffered(segment_bytes: u64) -> Options {
    Options { segment_bytes, max_record_bytes: 1 << 20, buffer_bytes: 0, ..Options::default() }
}

pub fn open(dir: &Path, options: Options) -> (Journal, Recovery) {
    Journal::open(dir, options).unwrap()
}

/// A payload without zero bytes, so that each part of it that is lost shows.
pub fn payload(n: u64, length: usize) -> Vec<u8> {
    (0..length).map(|index| 1 + ((n * 31 + index as u64 * 7) % 255) as u8).collect()
}

/// Segment files, in order.
pub fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect::<Vec<_>>();
    paths.sort();
    paths
}

pub fn base_of(segment: &Path) -> u64 {
    segment.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// A copy of a journal's segments as they are now.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for segment in segments(from) {
        fs::copy(&segment, to.join(segment.file_name().unwrap())).unwrap();
    }
}

/// Makes, in `to`, what a machine's crash leaves of a journal that was durable up to `durable`: of the bytes written
/// to the last segment since, each chunk reached the disk or not, whatever their order.
pub fn crash_image(
    from: &Path,
    to: &Path,
    durable: Seq,
    chunk: usize,
    mut kept: impl FnMut() -> bool,
) {
    copy(from, to);
    let Some(last) = segments(to).pop() else { return };
    let mut bytes = fs::read(&last).unwrap();
    let found = scan(&bytes, Seq(base_of(&last)));
    let unsynced = found.records.get((durable.0 - found.base) as usize).unwrap_or(&found.end);
    let end = found.content_end.max(found.end) as usize;
    for chunk in bytes[*unsynced as usize..end].chunks_mut(chunk) {
        if !kept() {
            chunk.fill(0);
        }
    }
    fs::write(&last, bytes).unwrap();
}

/// Asserts that these and no other records are there.
pub fn assert_holds(reader: &Reader, first: Seq, expected: &[Vec<u8>]) {
    assert_eq!(reader.durable(), Seq(first.0 + expected.len() as u64));
    for (index, payload) in expected.iter().enumerate() {
        let seq = Seq(first.0 + index as u64);
        assert_eq!(&reader.read(seq).unwrap(), payload, "record {seq}");
    }
    assert!(matches!(reader.read(reader.durable()), Err(Error::NotDurable { .. })));
}
