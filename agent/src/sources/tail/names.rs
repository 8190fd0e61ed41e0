//! What the names of rotated files say about them. Pure.
//!
//! A rotated file's name goes on from that of the file it was:
//! `access.log.1`, `access.log-20261121`, `access.log.2.gz`. Only names made of
//! digits say which of two is older, and only to others of their kind.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

/// Suffixes of compressed files. The first two can be read.
const COMPRESSED: [&[u8]; 8] =
    [b".gz", b".zst", b".xz", b".bz2", b".Z", b".lz4", b".lzma", b".lzo"];

/// A number with more digits than these is a date.
const COUNTER_DIGITS: usize = 4;

/// What a rotated name says about its age. It compares as the files' ages do: what is newer is greater.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// The n-th last one: `.1` is newer than `.2`.
    Counter(u32),
    /// From such a time: all its digits, whatever is between them.
    Date(Vec<u8>),
}

impl PartialOrd for Age {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Age::Counter(a), Age::Counter(b)) => Some(b.cmp(a)),
            (Age::Date(a), Age::Date(b)) => Some(a.cmp(b)),
            (Age::Counter(_), Age::Date(_)) | (Age::Date(_), Age::Counter(_)) => None,
        }
    }
}

/// True if the name is one that compressed files have.
pub(super) fn is_compressed(path: &Path) -> bool {
    plain(file_name(path)).len() < file_name(path).len()
}

/// The names that `path`'s name goes on from, the shortest first.
pub(super) fn stems(path: &Path) -> impl Iterator<Item = &OsStr> {
    let name = plain(file_name(path));
    let ends = name.iter().enumerate().skip(1);
    let ends = ends.filter(|(_, byte)| matches!(byte, b'.' | b'-' | b'_'));
    ends.map(|(end, _)| OsStr::from_bytes(&name[..end]))
}

/// True if the one is the other, compressed.
pub(super) fn is_twin(compressed: &Path, plain_one: &Path) -> bool {
    is_compressed(compressed)
        && compressed.parent() == plain_one.parent()
        && plain(file_name(compressed)) == file_name(plain_one)
}

/// How old a file is by its name, if `path` is a rotated name of `base`.
pub(super) fn age(path: &Path, base: &Path) -> Option<Age> {
    let rest = rest(path, base)?;
    let between = |byte: &u8| matches!(byte, b'.' | b'-' | b'_' | b':' | b'T');
    let digits: Vec<u8> = rest.iter().copied().filter(u8::is_ascii_digit).collect();
    if digits.is_empty() || !rest.iter().all(|byte| byte.is_ascii_digit() || between(byte)) {
        return None;
    }
    if digits.len() > COUNTER_DIGITS {
        return Some(Age::Date(digits));
    }
    let number = str::from_utf8(&digits).ok()?.parse().ok()?;
    // A counter stands alone: `.1`, and not `.1.2`.
    (rest.len() == digits.len() + 1).then_some(Age::Counter(number))
}

/// What `path`'s name, without a compressed one's suffix, has more than `base`'s.
fn rest<'a>(path: &'a Path, base: &Path) -> Option<&'a [u8]> {
    let base = file_name(base);
    let rest = plain(file_name(path)).strip_prefix(base)?;
    let separated = matches!(rest.first()?, b'.' | b'-' | b'_');
    (separated && !base.is_empty()).then_some(rest)
}

fn plain(name: &[u8]) -> &[u8] {
    let stripped = COMPRESSED.iter().find_map(|suffix| name.strip_suffix(*suffix));
    stripped.filter(|name| !name.is_empty()).unwrap_or(name)
}

fn file_name(path: &Path) -> &[u8] {
    path.file_name().map_or(&[], OsStr::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn age_of(name: &str) -> Option<Age> {
        age(Path::new(name), Path::new("/var/log/a.log"))
    }

    #[test]
    fn a_rotated_name_tells_its_age_and_any_other_name_none() {
        for (name, expected) in [
            ("/var/log/a.log.1", Some(Age::Counter(1))),
            ("/var/log/a.log.12.gz", Some(Age::Counter(12))),
            ("/old/a.log-3", Some(Age::Counter(3))),
            ("a.log-20261121", Some(Age::Date(b"20261121".to_vec()))),
            ("a.log.2026-11-21T10:00:00.zst", Some(Age::Date(b"20261121100000".to_vec()))),
            ("a.log", None),
            ("a.log.gz", None),
            ("a.log.old", None),
            ("a.log.1.bak", None),
            ("a.log.1.2", None),
            ("a.log1", None),
            ("a.log.", None),
            ("b.log.1", None),
        ] {
            assert_eq!(age_of(name), expected, "{name}");
        }
    }

    #[test]
    fn names_of_different_kinds_are_not_compared() {
        assert!(age_of("a.log.1") > age_of("a.log.2"));
        assert!(age_of("a.log-20261122") > age_of("a.log-20261121.gz"));
        let (counter, date) = (age_of("a.log.1").unwrap(), age_of("a.log-20261121").unwrap());
        assert_eq!(counter.partial_cmp(&date), None);
    }

    #[test]
    fn names_are_recognised_in_any_directory() {
        let path = Path::new;
        let stems: Vec<_> = stems(path("/old/a.log-1.gz")).collect();
        assert_eq!(stems, ["a", "a.log"]);
        assert!(is_twin(path("/l/a.log.1.gz"), path("/l/a.log.1")));
        assert!(!is_twin(path("/l/a.log.1.gz"), path("/l/a.log.2")));
        assert!(!is_twin(path("/l/a.log.1"), path("/l/a.log.1")));
    }

    proptest! {
        #[test]
        fn of_two_counters_the_smaller_is_newer(a in 0u32..9999, b in 0u32..9999) {
            let (one, other) = (age_of(&format!("a.log.{a}")), age_of(&format!("a.log.{b}.gz")));
            prop_assert_eq!(one.partial_cmp(&other), b.partial_cmp(&a));
        }

        #[test]
        fn no_name_is_too_strange(name in "[a.log0-9_:T\u{e9}-]{0,20}") {
            let _ = age_of(&name);
            for stem in stems(Path::new(&name)) {
                prop_assert!(name.starts_with(stem.to_str().unwrap_or_default()));
            }
        }
    }
}
