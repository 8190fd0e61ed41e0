//! What happens to log files, one story each.

use std::os::unix::fs::symlink;

use super::{
    super::body::tests::{gzip, zstd},
    *,
};
use Step::*;

enum Step {
    /// Appends to a file; creates it if it is not there.
    Append(&'static str, Vec<u8>),
    Rename(&'static str, &'static str),
    Copy(&'static str, &'static str),
    Truncate(&'static str),
    /// Compresses a file, which is gone then, the first name into the second.
    Gzip(&'static str, &'static str),
    Zstd(&'static str, &'static str),
    /// The source's stored positions are on a device with another number.
    Remount,
    Remove(&'static str),
    Mkdir(&'static str),
    /// Points a symbolic link, the second name, at the first.
    Flip(&'static str, &'static str),
    Start,
    Stop,
    /// These lines come next, in this order.
    Expect(Vec<Vec<u8>>),
    /// These lines come next, in any order.
    AnyOrder(Vec<Vec<u8>>),
    /// The next file is read to its end.
    Gone,
    /// The next file is found.
    Found,
}

fn append(name: &'static str, bytes: impl AsRef<[u8]>) -> Step {
    Append(name, bytes.as_ref().to_vec())
}

fn expect<const N: usize>(lines: [impl AsRef<[u8]>; N]) -> Step {
    Expect(lines.iter().map(|line| line.as_ref().to_vec()).collect())
}

fn any_order<const N: usize>(lines: [impl AsRef<[u8]>; N]) -> Step {
    AnyOrder(lines.iter().map(|line| line.as_ref().to_vec()).collect())
}

fn escaped(lines: &[Vec<u8>]) -> Vec<String> {
    lines.iter().map(|line| line.escape_ascii().to_string()).collect()
}

impl Bench {
    fn pack(&self, from: &str, to: &str, packed: impl Fn(&[u8]) -> Vec<u8>) {
        let original = self.path(from);
        let modified = fs::metadata(&original).unwrap().modified().unwrap();
        fs::write(self.path(to), packed(&fs::read(&original).unwrap())).unwrap();
        let file = OpenOptions::new().write(true).open(self.path(to)).unwrap();
        file.set_modified(modified).unwrap();
        fs::remove_file(original).unwrap();
    }

    fn play(&mut self, step: &Step) {
        match step {
            Append(name, bytes) => self.append(name, bytes),
            Rename(from, to) => self.rename(from, to),
            Copy(from, to) => drop(fs::copy(self.path(from), self.path(to)).unwrap()),
            Truncate(name) => {
                OpenOptions::new().write(true).open(self.path(name)).unwrap().set_len(0).unwrap();
            }
            Gzip(from, to) => self.pack(from, to, gzip),
            Zstd(from, to) => self.pack(from, to, zstd),
            Remount => {
                let moved = |(mut file, offset): (FileId, u64)| {
                    file.device += 1;
                    (file, offset)
                };
                self.positions =
                    std::mem::take(&mut self.positions).into_iter().map(moved).collect();
            }
            Remove(name) => fs::remove_file(self.path(name)).unwrap(),
            Mkdir(name) => fs::create_dir(self.path(name)).unwrap(),
            Flip(target, name) => {
                symlink(self.path(target), self.path("flip.tmp")).unwrap();
                self.rename("flip.tmp", name);
            }
            Start => self.start(),
            Stop => self.stop(),
            Expect(lines) => assert_eq!(self.next_lines(lines.len()), escaped(lines)),
            AnyOrder(lines) => {
                let (mut came, mut expected) = (self.next_lines(lines.len()), escaped(lines));
                came.sort();
                expected.sort();
                assert_eq!(came, expected);
            }
            Gone => {
                while self.gone == 0 {
                    self.step();
                }
                self.gone -= 1;
            }
            Found => {
                let before = self.positions.len();
                while self.positions.len() == before {
                    self.step();
                }
            }
        }
    }
}

/// A name, the patterns, and what happens.
type Case = (&'static str, &'static [&'static str], Vec<Step>);

fn play(cases: Vec<Case>) {
    let threads: Vec<_> = cases
        .into_iter()
        .map(|(name, patterns, steps)| {
            let story = move || {
                let mut bench = Bench::new(patterns);
                steps.iter().for_each(|step| bench.play(step));
                bench.finish();
            };
            thread::Builder::new().name(name.to_owned()).spawn(story).unwrap()
        })
        .collect();
    let failed: Vec<_> = threads
        .into_iter()
        .filter_map(|thread| {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            thread.join().err().map(|_| name)
        })
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

const A: &[&str] = &["a.log"];

#[test]
#[rustfmt::skip] // one step after the other, not one a line
fn no_line_of_a_growing_file_is_lost_or_changed() {
    let long = vec![b'x'; 1 << 20];
    let many: Vec<u8> = (0..100_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    let numbered = (0..100_000).map(|n| format!("line {n}").into_bytes()).collect();
    play(vec![
        ("append", A, vec![
            append("a.log", "1\n2\n"), Start, expect(["1", "2"]),
            append("a.log", "3\n"), expect(["3"]),
        ]),
        ("a partial line waits", A, vec![
            append("a.log", "x\npar"), Start, expect(["x"]),
            append("a.log", "tial"), append("a.log", "\ny\n"), expect(["partial", "y"]),
        ]),
        ("the file appears later", A, vec![
            Start, append("a.log", "1\n"), expect(["1"]),
        ]),
        ("its directory appears later", &["d/a.log"], vec![
            Start, Mkdir("d"), append("d/a.log", "1\n"), expect(["1"]),
            append("d/a.log", "2\n"), expect(["2"]),
        ]),
        ("several files", &["*.log", "d/*/[ab].log"], vec![
            append("a.log", "a\n"), append("b.log", "b\n"), append("c.txt", "c\n"),
            Start, any_order(["a", "b"]),
            append("d.log", "d\n"), expect(["d"]),
            Mkdir("d"), Mkdir("d/e"), append("d/e/a.log", "e\n"), expect(["e"]),
            append("b.log", "f\n"), expect(["f"]), append("d/e/a.log", "g\n"), expect(["g"]),
        ]),
        ("a file that two patterns match", &["a.*", "*.log"], vec![
            append("a.log", "1\n"), Start, expect(["1"]), append("a.log", "2\n"), expect(["2"]),
        ]),
        ("every byte", A, vec![
            append("a.log", b"\xEF\xBB\xBFbom\r\n\0nul\0\n\xFF\xC0\x80\n \t. \n\x1b[1m\n"), Start,
            expect([
                &b"\xEF\xBB\xBFbom\r"[..], b"\0nul\0", b"\xFF\xC0\x80", b" \t. ", b"\x1b[1m",
            ]),
        ]),
        ("empty lines", A, vec![
            append("a.log", "\n\n1\n\n\r\n"), Start, expect(["", "", "1", "", "\r"]),
        ]),
        ("a line of 1 MiB", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]),
            append("a.log", &long), append("a.log", "\n2\n"), expect([&long[..], b"2"]),
        ]),
        ("more than a chunk", A, vec![Start, Append("a.log", many), Expect(numbered)]),
    ]);
}

#[test]
#[rustfmt::skip] // one step after the other, not one a line
fn no_line_is_lost_or_read_twice_when_a_file_is_rotated() {
    play(vec![
        ("rename", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]),
            append("a.log", "2\n"), Rename("a.log", "a.log.1"), append("a.log", "3\n"),
            expect(["2", "3"]),
            append("a.log.1", "late\n"), expect(["late"]),
            append("a.log.1", "end"), expect(["end"]), Remove("a.log.1"), Gone,
            append("a.log", "4\n"), expect(["4"]),
        ]),
        ("rename to a name that matches", &["a.log*"], vec![
            append("a.log", "1\n"), Start, expect(["1"]),
            append("a.log", "2\n"), Rename("a.log", "a.log.1"), append("a.log", "3\n"),
            any_order(["2", "3"]), append("a.log.1", "late\n"), expect(["late"]),
        ]),
        ("the same beginning", A, vec![
            append("a.log", "#head\n1\n"), Start, expect(["#head", "1"]),
            Rename("a.log", "a.log.1"), append("a.log", "#head\n1\n2\n"),
            expect(["#head", "1", "2"]),
        ]),
        ("copytruncate", A, vec![
            append("a.log", "1\n2\n"), Start, expect(["1", "2"]),
            Copy("a.log", "a.log.1"), Truncate("a.log"), append("a.log", "3\n"), expect(["3"]),
            Copy("a.log", "a.log.1"), Truncate("a.log"), append("a.log", "4\n5\n6\n"),
            expect(["4", "5", "6"]),
        ]),
        ("copytruncate, the same beginning", A, vec![
            append("a.log", "#head\n1\n2\n"), Start, expect(["#head", "1", "2"]),
            Truncate("a.log"), append("a.log", "#head\n1\n"), expect(["#head", "1"]),
        ]),
        ("truncated in a line", A, vec![
            append("a.log", "1\npart"), Start, expect(["1"]),
            Truncate("a.log"), append("a.log", "2\n"), expect(["part", "2"]),
        ]),
        ("delete and recreate", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]),
            append("a.log", "2\n"), Remove("a.log"), append("a.log", "1\n"), expect(["2", "1"]),
            Gone, append("a.log", "3\n"), expect(["3"]),
        ]),
        ("deleted before it was read", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]),
            append("a.log", "2\n3"), Remove("a.log"), expect(["2", "3"]), Gone,
        ]),
        ("a symbolic link is flipped", &["current"], vec![
            append("1.log", "1\n"), Flip("1.log", "current"), Start, expect(["1"]),
            append("1.log", "2\n"), append("2.log", "3\n"), Flip("2.log", "current"),
            expect(["2", "3"]), append("1.log", "late\n"), expect(["late"]),
            append("2.log", "4\n"), expect(["4"]), Remove("1.log"), Gone,
        ]),
        ("its directory is replaced", &["d/a.log"], vec![
            Mkdir("d"), append("d/a.log", "1\n"), Start, expect(["1"]),
            Rename("d", "old"), Mkdir("d"), append("d/a.log", "2\n"), expect(["2"]),
            append("d/a.log", "3\n"), expect(["3"]),
            append("old/a.log", "late\n"), expect(["late"]),
        ]),
    ]);
}

#[test]
#[rustfmt::skip] // one step after the other, not one a line
fn no_line_is_lost_or_read_twice_over_a_restart() {
    play(vec![
        ("appended", A, vec![
            append("a.log", "1\n2\npar"), Start, expect(["1", "2"]), Stop,
            append("a.log", "tial\n3\n"), Start, expect(["partial", "3"]),
        ]),
        ("rotated", A, vec![
            append("a.log", "1\n2\n"), Start, expect(["1", "2"]), Stop,
            append("a.log", "3\nend"), Rename("a.log", "a.log.1"), append("a.log", "4\n"), Start,
            expect(["3", "4"]), expect(["end"]), Remove("a.log.1"), Gone,
            append("a.log", "5\n"), expect(["5"]),
        ]),
        ("rotated before the first line", A, vec![
            append("a.log", ""), Start, Found, Stop,
            append("a.log", "1\n"), Rename("a.log", "a.log.1"), append("a.log", "2\n"), Start,
            expect(["1", "2"]),
        ]),
        ("rotated twice", &["a.log*"], vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop,
            append("a.log", "2\n"), Rename("a.log", "a.log.2"),
            append("a.log", "3\n"), Rename("a.log", "a.log.1"), append("a.log", "4\n"), Start,
            any_order(["2", "3", "4"]),
        ]),
        ("rotated again before it was read", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop,
            append("a.log", "2\n"), Rename("a.log", "a.log.1"), append("a.log", "3\n"), Start,
            expect(["2", "3"]), Stop,
            append("a.log.1", "late\n"), append("a.log", "4\n"), Rename("a.log.1", "a.log.2"),
            Rename("a.log", "a.log.1"), append("a.log", "5\n"), Start,
            expect(["late", "4", "5"]),
        ]),
        ("truncated", A, vec![
            append("a.log", "1\n2\n"), Start, expect(["1", "2"]), Stop,
            Truncate("a.log"), append("a.log", "3\n4\n5\n"), Start, expect(["3", "4", "5"]), Gone,
        ]),
        ("truncated, the same beginning", A, vec![
            append("a.log", "#head\n1\n2\n"), Start, expect(["#head", "1", "2"]), Stop,
            Truncate("a.log"), append("a.log", "#head\n1\n"), Start, expect(["#head", "1"]),
        ]),
        ("deleted and created again", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop,
            Remove("a.log"), append("a.log", "2\n"), Start, expect(["2"]), Gone,
        ]),
        ("deleted", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop,
            Remove("a.log"), Start, Gone, append("a.log", "2\n"), expect(["2"]),
        ]),
    ]);
}

const STAR: &[&str] = &["a.log*"];

#[test]
#[rustfmt::skip] // one step after the other, not one a line
fn what_was_not_read_before_a_truncation_is_read_in_the_copy() {
    play(vec![
        ("at once", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]),
            append("a.log", "2\n"), Copy("a.log", "a.log.1"), Truncate("a.log"),
            append("a.log", "3\n"), expect(["2", "3"]), append("a.log", "4\n"), expect(["4"]),
        ]),
        ("at once, the copy matches", STAR, vec![
            append("a.log", "1\n"), Start, expect(["1"]),
            append("a.log", "2\n"), Copy("a.log", "a.log.1"), Truncate("a.log"),
            append("a.log", "3\n"), expect(["2", "3"]), append("a.log", "4\n"), expect(["4"]),
        ]),
        ("over and over", A, vec![
            append("a.log", "#head\n1\n"), Start, expect(["#head", "1"]),
            append("a.log", "2\n"), Copy("a.log", "a.log.1"), Truncate("a.log"),
            append("a.log", "#head\n3\n"), expect(["2", "#head", "3"]),
            append("a.log", "4\n"), Rename("a.log.1", "a.log.2"), Copy("a.log", "a.log.1"),
            Truncate("a.log"), append("a.log", "#head\n5\n"), expect(["4", "#head", "5"]),
            append("a.log", "6\n"), Remove("a.log.2"), Rename("a.log.1", "a.log.2"),
            Copy("a.log", "a.log.1"), Truncate("a.log"), expect(["6"]),
        ]),
        ("over and over, the copies match", STAR, vec![
            append("a.log", "#head\n1\n"), Start, expect(["#head", "1"]),
            append("a.log", "2\n"), Copy("a.log", "a.log.1"), Truncate("a.log"),
            append("a.log", "#head\n3\n"), expect(["2", "#head", "3"]),
            append("a.log", "4\n"), Rename("a.log.1", "a.log.2"), Copy("a.log", "a.log.1"),
            Truncate("a.log"), append("a.log", "#head\n5\n"), expect(["4", "#head", "5"]),
            append("a.log", "6\n"), Remove("a.log.2"), Rename("a.log.1", "a.log.2"),
            Copy("a.log", "a.log.1"), Truncate("a.log"), expect(["6"]),
        ]),
        ("always over the same copy", STAR, vec![
            append("a.log", "1\n"), Start, expect(["1"]),
            Copy("a.log", "a.log.1"), Truncate("a.log"), append("a.log", "2\n3\n"),
            expect(["2", "3"]),
            append("a.log", "4\n"), Copy("a.log", "a.log.1"), Truncate("a.log"),
            append("a.log", "5\n"), expect(["4", "5"]),
        ]),
        ("a copy of what goes on", STAR, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Copy("a.log", "a.log.bak"),
            append("a.log", "2\n"), expect(["2"]), Stop, Start, append("a.log", "3\n"),
            expect(["3"]), Remove("a.log"), append("a.log", "4\n"), expect(["4"]),
        ]),
        ("the copy was made before the last line", STAR, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Copy("a.log", "a.log.1"),
            append("a.log", "2\n"), expect(["2"]), Truncate("a.log"), append("a.log", "3\n"),
            expect(["3"]),
        ]),
        ("in a line", A, vec![
            append("a.log", "1\npa"), Start, expect(["1"]),
            append("a.log", "rt\n2"), Copy("a.log", "a.log.1"), Truncate("a.log"),
            append("a.log", "3\n"), any_order(["part", "3", "2"]),
        ]),
        ("while down", A, vec![
            append("a.log", "1\n2\n"), Start, expect(["1", "2"]), Stop,
            append("a.log", "3\n"), Copy("a.log", "a.log.1"), Truncate("a.log"),
            append("a.log", "4\n"), Start, expect(["3", "4"]), Stop, Start,
        ]),
        ("while down, the copy matches", STAR, vec![
            append("a.log", "1\n2\n"), Start, expect(["1", "2"]), Stop,
            append("a.log", "3\n"), Copy("a.log", "a.log.1"), Truncate("a.log"),
            append("a.log", "4\n"), Start, expect(["3", "4"]), Stop, Start,
        ]),
        ("while down, and written beyond the old end", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop,
            append("a.log", "2\n"), Copy("a.log", "a.log.1"), Truncate("a.log"),
            append("a.log", "3\n4\n5\n"), Start, expect(["2", "3", "4", "5"]),
        ]),
        ("between copy and truncation, down", STAR, vec![
            append("a.log", "1\n"), Start, expect(["1"]), append("a.log", "2\n"), Stop,
            Copy("a.log", "a.log.1"), Start, expect(["2"]), Stop, Truncate("a.log"),
            append("a.log", "3\n"), Start, expect(["3"]),
        ]),
        ("twice while down", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop,
            append("a.log", "2\n"), Copy("a.log", "a.log.1"), Truncate("a.log"),
            append("a.log", "3\n"), Rename("a.log.1", "a.log.2"), Copy("a.log", "a.log.1"),
            Truncate("a.log"), append("a.log", "4\n"), Start, any_order(["2", "3", "4"]),
        ]),
        ("twice while down, the copies match", STAR, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop,
            append("a.log", "2\n"), Copy("a.log", "a.log.1"), Truncate("a.log"),
            append("a.log", "3\n"), Rename("a.log.1", "a.log.2"), Copy("a.log", "a.log.1"),
            Truncate("a.log"), append("a.log", "4\n"), Start, any_order(["2", "3", "4"]),
        ]),
    ]);
}

#[test]
#[rustfmt::skip] // one step after the other, not one a line
fn compressed_moved_and_unseen_files_are_read_to_their_end_and_never_raw() {
    play(vec![
        ("compressed while down", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop,
            append("a.log", "2\nend"), Rename("a.log", "a.log.1"), Gzip("a.log.1", "a.log.1.gz"),
            append("a.log", "3\n"), Start, any_order(["2", "3", "end"]), Stop, Start,
        ]),
        ("compressed while down, it matches", STAR, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop,
            append("a.log", "2\n"), Rename("a.log", "a.log.1"), Zstd("a.log.1", "a.log.1.zst"),
            append("a.log", "3\n"), Start, any_order(["2", "3"]), Stop, Start,
        ]),
        ("compressed while down, and not created again", STAR, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop,
            append("a.log", "2\n"), Rename("a.log", "a.log.1"), Zstd("a.log.1", "a.log.1.zst"),
            Start, expect(["2"]), append("a.log", "3\n"), expect(["3"]),
        ]),
        ("compressed by and by", STAR, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Rename("a.log", "a.log.1"),
            append("a.log", "2\n"), expect(["2"]), Gzip("a.log.1", "a.log.2.gz"),
            Rename("a.log", "a.log.1"), append("a.log", "3\n"), expect(["3"]),
        ]),
        ("copied, truncated and compressed while down", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop, append("a.log", "2\n"),
            Copy("a.log", "a.log.1"), Truncate("a.log"), Gzip("a.log.1", "a.log.1.gz"),
            append("a.log", "3\n"), Start, expect(["2", "3"]),
        ]),
        ("an alien compressed file", STAR, vec![
            append("x", "old\n"), Gzip("x", "a.log.7.gz"), append("a.log", "1\n"),
            Start, expect(["1"]), append("x", "old\n"), Gzip("x", "a.log.6"),
            append("a.log", "2\n"), expect(["2"]),
        ]),
        ("rotated twice while down", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop,
            append("a.log", "2\n"), Rename("a.log", "a.log.2"),
            append("a.log", "3\n"), Rename("a.log", "a.log.1"), append("a.log", "4\n"), Start,
            any_order(["2", "3", "4"]), Stop, Start,
        ]),
        ("rotated twice and compressed while down", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop,
            append("a.log", "2\n"), Rename("a.log", "a.log.2"), Gzip("a.log.2", "a.log.2.gz"),
            append("a.log", "3\n"), Rename("a.log", "a.log.1"), append("a.log", "4\n"), Start,
            any_order(["2", "3", "4"]),
        ]),
        ("dates instead of numbers", A, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop,
            append("a.log", "2\n"), Rename("a.log", "a.log-20261120"),
            append("a.log", "3\n"), Rename("a.log", "a.log-20261121"), append("a.log", "4\n"),
            Start, any_order(["2", "3", "4"]),
        ]),
        ("old files that were there before", A, vec![
            append("a.log.2", "older\n"), append("a.log.1", "old\n"), append("a.log", "1\n"),
            Start, expect(["1"]), Stop, append("a.log", "2\n"), Rename("a.log.2", "a.log.3"),
            Rename("a.log.1", "a.log.2"), Rename("a.log", "a.log.1"), append("a.log", "3\n"),
            Start, expect(["2", "3"]),
        ]),
        ("the device has another number", STAR, vec![
            append("a.log", "1\n"), append("a.log.1", "0\n"), Start, any_order(["0", "1"]), Stop,
            Remount, append("a.log", "2\n"), Start, expect(["2"]), Stop, Remount, Start,
            append("a.log", "3\n"), expect(["3"]),
        ]),
        ("moved to another disk while down", STAR, vec![
            append("a.log", "1\n"), Start, expect(["1"]), Stop, append("a.log", "2\n"),
            Copy("a.log", "a.log.1"), Remove("a.log"), append("a.log", "3\n"), Start,
            any_order(["2", "3"]),
        ]),
        ("deleted and created again, the same beginning", STAR, vec![
            append("a.log", "#head\n1\n"), Start, expect(["#head", "1"]), Stop,
            append("x", "y"), Remove("a.log"), append("z", "y"), append("a.log", "#head\n1\n2\n"),
            Start, expect(["#head", "1", "2"]),
        ]),
    ]);
}

#[test]
fn without_any_report_of_the_system_nothing_is_missed() {
    let mut bench = Bench::new(STAR);
    bench.config.watch = Watch::Poll;
    bench.append("a.log", "1\n");
    bench.start();
    assert_eq!(bench.next_lines(1), ["1"]);
    bench.append("a.log", "2\n");
    bench.rename("a.log", "a.log.1");
    bench.append("a.log", "3\n");
    assert_eq!(bench.next_lines(2), ["2", "3"]);
    bench.play(&Copy("a.log", "a.log.2"));
    bench.play(&Truncate("a.log"));
    bench.append("a.log", "4\n");
    assert_eq!(bench.next_lines(1), ["4"]);
    bench.finish();
}

#[test]
fn a_line_that_is_too_long_is_cut_and_not_dropped() {
    let mut bench = Bench::new(A);
    bench.config.max_line = 1024;
    let line: Vec<u8> = (0..2500).map(|n| b'a' + (n % 26) as u8).collect();
    bench.append("a.log", [&line[..], b"\nshort\n"].concat());
    bench.start();
    let text = String::from_utf8(line).unwrap();
    assert_eq!(bench.next_lines(4), [&text[..1024], &text[1024..2048], &text[2048..], "short"]);
    assert_eq!(bench.stats().cut_lines.load(Relaxed), 2);
    bench.append("a.log", &text[..2100]);
    assert_eq!(bench.next_lines(2), [&text[..1024], &text[1024..2048]]);
    bench.stop();
    bench.append("a.log", "!\n");
    bench.start();
    assert_eq!(bench.next_lines(1), [format!("{}!", &text[2048..2100])]);
    bench.finish();
}
