use super::*;
use crate::sources::tail::plan::Found;
use std::{
    fs::File,
    io::{Seek, Write},
    path::PathBuf,
};

fn tailed(file: &File, max_line: usize) -> TailedFile {
    let node = Node { device: 1, inode: 1 };
    let mut body = Body::plain(file.try_clone().unwrap());
    let head = body.head().unwrap();
    let (path, modified) = (PathBuf::new(), SystemTime::UNIX_EPOCH);
    let found = Found { path, node, size: 0, modified, matched: true, packed: false };
    TailedFile::new(Heir { found, body, head }, 0, SourceId(0), max_line).unwrap()
}

#[test]
fn a_long_line_that_comes_slowly_takes_no_memory_and_stays_whole() {
    let mut file = tempfile::tempfile().unwrap();
    let mut tail = tailed(&file, 1 << 20);
    let mut expected = Vec::new();
    for step in 0..40u8 {
        let piece = [b'a' + step % 26; 20_000];
        file.write_all(&piece).unwrap();
        expected.extend_from_slice(&piece);
        tail.look().unwrap();
        assert!(tail.read().unwrap().chunk.is_none());
        assert_eq!(tail.reached(), Reached::PartialLine);
        assert!(tail.held.len() <= KEPT, "{}", tail.held.len());
    }
    file.write_all(b"\nnext\npart").unwrap();
    tail.look().unwrap();
    let chunk = tail.read().unwrap().chunk.unwrap();
    assert_eq!(chunk.iter().collect::<Vec<_>>(), [&expected[..], b"next"]);
    let (rest, lost) = tail.rest(false);
    assert_eq!(rest.chunk.unwrap().iter().collect::<Vec<_>>(), [b"part"]);
    assert_eq!((lost, tail.reached()), (0, Reached::End));
}

#[test]
fn an_endless_line_is_handed_over_in_pieces() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[b'x'; 300_000]).unwrap();
    let mut tail = tailed(&file, 100_000);
    tail.look().unwrap();
    let (mut lengths, mut cuts) = (Vec::new(), 0);
    while tail.reached() == Reached::More {
        let got = tail.read().unwrap();
        cuts += got.cuts;
        lengths.extend(got.chunk.iter().flat_map(Chunk::iter).map(<[u8]>::len));
    }
    assert_eq!((lengths, cuts), (vec![100_000, 100_000], 2));
    let (rest, lost) = tail.rest(false);
    assert_eq!((rest.chunk.unwrap().bytes.len(), lost), (100_000, 0));
}

#[test]
fn a_start_at_the_end_does_not_tear_the_line_that_is_being_written() {
    for (content, expected) in
        [(&b""[..], 0), (b"a\nb\n", 4), (b"a\nbc", 2), (b"abc", 0), (b"a\nbcdefghi", 10)]
    {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let end = end_of_lines(&mut Body::plain(file), content.len() as u64, 8).unwrap();
        assert_eq!(end, expected, "{content:?}");
    }
}

#[test]
fn a_file_written_anew_with_the_same_first_kilobyte_is_told_by_what_was_read_last() {
    let mut file = tempfile::tempfile().unwrap();
    let head = [b'h'; 2000];
    file.write_all(&head).unwrap();
    file.write_all(b"\nold\n").unwrap();
    let mut tail = tailed(&file, 1 << 20);
    tail.look().unwrap();
    assert_eq!(tail.read().unwrap().chunk.unwrap().lines.len(), 2);
    file.write_all(b"more\n").unwrap();
    assert_eq!(tail.look().unwrap(), Change::None);
    file.rewind().unwrap();
    file.set_len(0).unwrap();
    file.write_all(&head).unwrap();
    file.write_all(b"\nnew\nand longer\n").unwrap();
    // Whoever had looked before would read in the middle of what is new.
    assert!(tail.read().unwrap().chunk.is_none());
    assert_eq!(tail.look().unwrap(), Change::Replaced);
}
