//! Finds the entries in what `journalctl --output=json` writes, one a line, and their cursors. Pure.

use pipeline::{
    MAX_LINE,
    line::{Bookmark, Keep, LineSpan},
};

use super::CURSOR;
use crate::sources::tail::split::split;

/// What has come and was not handed over, and where in the journal that is.
#[derive(Debug, Default)]
pub(super) struct Entries {
    held: Vec<u8>,
    searched: usize,
    /// That of the newest whole entry that was taken out.
    cursor: Vec<u8>,
    /// The entry that must come first: it was taken over by an earlier run.
    expected: Option<Vec<u8>>,
    /// True between the pieces of one long entry.
    inside: bool,
    /// True for the pieces of the entry that was taken over already.
    skipping: bool,
}

/// Some entries, as parts of a chunk.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: Vec<LineSpan>,
    pub(super) bookmark: Bookmark,
    /// How often an entry was cut into two lines.
    pub(super) cuts: u64,
    /// True if the journal does not begin with the expected entry.
    pub(super) gap: bool,
}

impl Entries {
    /// The journal is read beginning with the entry of this cursor, if there is one.
    pub(super) fn from(cursor: Option<&[u8]>) -> Self {
        let expected = cursor.map(<[u8]>::to_vec);
        Entries { cursor: cursor.unwrap_or_default().to_vec(), expected, ..Entries::default() }
    }

    /// Where to append what comes next.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.held
    }

    /// The cursor of the newest whole entry that was taken out.
    pub(super) fn cursor(&self) -> Option<&[u8]> {
        Some(self.cursor.as_slice()).filter(|cursor| !cursor.is_empty())
    }

    /// Takes out all whole entries; of one that is too long, the pieces that there are.
    pub(super) fn take(&mut self) -> Taken {
        let split = split(&self.held, self.searched, MAX_LINE);
        let rest = self.held.split_off(split.used);
        let bytes = std::mem::replace(&mut self.held, rest);
        self.searched = self.held.len();
        let (data, ends) = (Vec::new(), Vec::new());
        let bookmark = Bookmark { key: CURSOR.into(), keep: Keep::Last, data, ends };
        let mut taken = Taken { bytes, lines: vec![], bookmark, cuts: split.cuts, gap: false };
        for line in split.lines {
            self.take_line(line, &mut taken);
        }
        taken
    }

    fn take_line(&mut self, line: LineSpan, taken: &mut Taken) {
        let cursor = cursor(line.of(&taken.bytes));
        if !self.inside
            && let Some(expected) = self.expected.take()
        {
            self.skipping = cursor == Some(&expected);
            taken.gap |= !self.skipping;
        }
        let whole = line.end < line.next;
        self.inside = !whole;
        if self.skipping {
            self.skipping = !whole;
            return;
        }
        // A piece does not move the place at which a restart goes on: that reads the entry again.
        if let Some(cursor) = cursor
            && whole
        {
            self.cursor = cursor.to_vec();
        }
        taken.lines.push(line);
        taken.bookmark.data.extend_from_slice(&self.cursor);
        let end = u32::try_from(taken.bookmark.data.len()).expect("cursors are short, lines few");
        taken.bookmark.ends.push(end);
    }
}

/// An entry's cursor. Quotes in text are escaped, so what is found is the field's name.
pub(super) fn cursor(entry: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"\"__CURSOR\"";
    memchr::memmem::find_iter(entry, NAME).find_map(|at| {
        let rest = entry[at + NAME.len()..].trim_ascii_start().strip_prefix(b":")?;
        let value = rest.trim_ascii_start().strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', value)?;
        let plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'\\';
        Some(&value[..end]).filter(|value| (1..=255).contains(&end) && value.iter().all(plain))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(number: usize) -> Vec<u8> {
        format!(r#"{{"MESSAGE":"\"__CURSOR\":\"no\"","A":"__CURSOR","__CURSOR":"s=1;i={number}"}}"#)
            .into_bytes()
    }

    fn texts(taken: &Taken) -> Vec<Vec<u8>> {
        taken.lines.iter().map(|line| line.of(&taken.bytes).to_vec()).collect()
    }

    #[test]
    fn a_cursor_is_the_fields_value_and_nothing_else() {
        assert_eq!(cursor(&entry(7)), Some(&b"s=1;i=7"[..]));
        assert_eq!(cursor(br#"{ "__CURSOR" : "s=2" }"#), Some(&b"s=2"[..]));
        for none in [&b"{}"[..], br#"{"A":"__CURSOR"}"#, br#"{"__CURSOR":"#, br#"{"__CURSOR":""}"#]
        {
            assert_eq!(cursor(none), None);
        }
    }

    #[test]
    fn the_entry_that_was_taken_over_is_left_out_and_a_missing_one_is_noticed() {
        let all = [entry(1), entry(2), vec![]].join(&b'\n');
        let mut entries = Entries::from(Some(b"s=1;i=1"));
        entries.buffer().extend_from_slice(&all);
        let taken = entries.take();
        assert_eq!((texts(&taken), taken.gap), (vec![entry(2)], false));
        assert_eq!(taken.bookmark.of_line(0), b"s=1;i=2");
        let mut entries = Entries::from(Some(b"s=1;i=0"));
        entries.buffer().extend_from_slice(&all);
        let taken = entries.take();
        assert_eq!((texts(&taken).len(), taken.gap), (2, true));
        assert_eq!(entries.cursor(), Some(&b"s=1;i=2"[..]));
    }

    #[test]
    fn a_piece_of_an_entry_does_not_move_the_cursor() {
        let long = [&entry(2)[..entry(2).len() - 1], &vec![b' '; MAX_LINE], b"}\n"].concat();
        let mut entries = Entries::from(None);
        entries.buffer().extend_from_slice(&[&entry(1)[..], b"\n", &long[..MAX_LINE + 1]].concat());
        let mut taken = entries.take();
        assert_eq!((taken.lines.len(), taken.cuts), (2, 1));
        assert_eq!([taken.bookmark.of_line(0), taken.bookmark.of_line(1)], [b"s=1;i=1"; 2]);
        entries.buffer().extend_from_slice(&long[MAX_LINE + 1..]);
        taken = entries.take();
        assert_eq!(taken.lines.len(), 1);
        assert_eq!(entries.cursor(), Some(&b"s=1;i=1"[..]), "its cursor was in the other piece");
    }

    proptest! {
        #[test]
        fn no_way_of_cutting_the_input_changes_the_entries(
            count in 1usize..20, skip in any::<bool>(), size in 1usize..90,
        ) {
            let all: Vec<u8> = (0..count).flat_map(|n| [entry(n), b"\n".to_vec()].concat()).collect();
            let mut entries = Entries::from(skip.then_some(&b"s=1;i=0"[..]));
            let mut found = Vec::new();
            for part in all.chunks(size) {
                entries.buffer().extend_from_slice(part);
                let taken = entries.take();
                prop_assert_eq!(taken.bookmark.ends.len(), taken.lines.len());
                prop_assert!(!taken.gap);
                found.extend(texts(&taken));
            }
            let expected: Vec<_> = (usize::from(skip)..count).map(entry).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_bytes_upset_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = cursor(&bytes);
            let mut entries = Entries::from(Some(b"x"));
            entries.buffer().extend_from_slice(&bytes);
            let _ = entries.take();
        }
    }
}
