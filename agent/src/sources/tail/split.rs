//! Finds the lines in what was read. Pure.
//!
//! The lines do not depend on how the file was cut into reads, and together
//! with their line feeds they are every byte of it.

use pipeline::line::LineSpan;

/// What [`split`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::sources) struct Split {
    /// The whole lines.
    pub(in crate::sources) lines: Vec<LineSpan>,
    /// How many bytes they span, with their line feeds.
    pub(in crate::sources) used: usize,
    /// How many of them go on in the next one, because a line was too long.
    pub(in crate::sources) cuts: u64,
}

/// Splits `bytes`, of which the first `searched` hold no line feed, into lines
/// of at most `max_line` bytes. A last line without a line feed waits for it,
/// unless it is too long already.
pub(in crate::sources) fn split(bytes: &[u8], searched: usize, max_line: usize) -> Split {
    let mut split = Split::default();
    for found in memchr::memchr_iter(b'\n', &bytes[searched..]) {
        let end = searched + found;
        split.cut(end, max_line);
        split.push(end, end + 1);
    }
    split.cut(bytes.len(), max_line);
    split
}

/// Splits all of `bytes`: the last line needs no line feed.
pub(in crate::sources) fn split_all(bytes: &[u8], max_line: usize) -> Split {
    let mut split = split(bytes, 0, max_line);
    if split.used < bytes.len() {
        split.push(bytes.len(), bytes.len());
    }
    split
}

impl Split {
    /// Takes pieces of `max_line` bytes while more than that lies before `end`.
    fn cut(&mut self, end: usize, max_line: usize) {
        while end - self.used > max_line {
            let piece = self.used + max_line;
            self.push(piece, piece);
            self.cuts += 1;
        }
    }

    fn push(&mut self, end: usize, next: usize) {
        let narrow = |place: usize| u32::try_from(place).expect("a chunk is far below 4 GiB");
        let line = LineSpan { start: narrow(self.used), end: narrow(end), next: narrow(next) };
        self.lines.push(line);
        self.used = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(bytes: &[u8], split: &Split) -> Vec<Vec<u8>> {
        split.lines.iter().map(|line| line.of(bytes).to_vec()).collect()
    }

    /// Feeds `bytes` in reads of the given sizes, as the tail does.
    fn in_reads(bytes: &[u8], sizes: &[usize], max_line: usize) -> (Vec<Vec<u8>>, u64) {
        let (mut lines, mut cuts, mut held) = (Vec::new(), 0, Vec::new());
        let (mut left, mut sizes) = (bytes, sizes.iter().cycle());
        while !left.is_empty() {
            let size = sizes.next().map_or(1, |&size| size.min(left.len()));
            let searched = held.len();
            held.extend_from_slice(&left[..size]);
            left = &left[size..];
            let split = split(&held, searched, max_line);
            lines.extend(texts(&held, &split));
            cuts += split.cuts;
            held.drain(..split.used);
        }
        let split = split_all(&held, max_line);
        lines.extend(texts(&held, &split));
        (lines, cuts + split.cuts)
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_however_the_file_is_read(
            bytes in proptest::collection::vec(prop::sample::select(&b"ab\r\0\n"[..]), 0..200),
            sizes in proptest::collection::vec(1usize..40, 1..10),
            max_line in 1usize..12,
        ) {
            let mut expected = Vec::new();
            let mut cuts = 0;
            let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
            if lines.last().is_some_and(|last| last.is_empty()) {
                lines.pop();
            }
            for line in lines {
                let pieces = line.chunks(max_line).map(<[u8]>::to_vec);
                cuts += pieces.len().saturating_sub(1) as u64;
                expected.extend(pieces);
                if line.is_empty() {
                    expected.push(Vec::new());
                }
            }
            prop_assert_eq!(in_reads(&bytes, &sizes, max_line), (expected, cuts));
        }
    }

    #[test]
    fn a_line_as_long_as_the_limit_stays_whole() {
        for (text, expected, cuts) in [
            (&b"1234\n"[..], &[&b"1234"[..]][..], 0),
            (b"12345\n", &[b"1234", b"5"], 1),
            (b"123456789", &[b"1234", b"5678"], 2),
            (b"1234", &[], 0),
            (b"\n\n", &[b"", b""], 0),
        ] {
            let found = split(text, 0, 4);
            assert_eq!(
                (texts(text, &found), found.cuts),
                (expected.iter().map(|line| line.to_vec()).collect(), cuts)
            );
        }
    }
}
