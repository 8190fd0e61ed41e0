//! What is kept of a line, and how much two lines are alike.
//!
//! Lines are compared by their skeletons: their visible ASCII without escapes and
//! question marks. A line that went through another encoding, or whose control
//! characters were escaped, replaced or dropped, has the same skeleton as before.

use super::forms::escape_at;
use std::sync::Arc;

/// Of a longer line only so many bytes of the beginning are kept ...
const HEAD: usize = 2048;
/// ... and so many of the end.
const TAIL: usize = 256;

/// A skeleton that is shorter says nothing when it is equal to another.
const MIN_EQUAL: usize = 8;
/// A shorter beginning does not tell whose beginning it is.
const MIN_PREFIX: usize = 32;
/// Lines that share less are not alike.
const MIN_SHARED: usize = 24;
/// Nor are those that share a smaller part, in thousandths.
const MIN_PART: usize = 750;

/// What is kept of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// All of it, or its beginning.
    head: Box<[u8]>,
    /// Its end, if that is not in `head`.
    tail: Box<[u8]>,
    len: usize,
}

/// How the old way altered a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Its end is missing; so many bytes are left.
    Truncated(usize),
    /// Control characters were escaped, replaced or dropped.
    Escaped,
    /// Other characters than ASCII were.
    Encoded,
    /// Anything else.
    Other,
}

/// What is compared of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Skeleton {
    /// From the front.
    pub(super) forward: Arc<[u8]>,
    /// From the end.
    pub(super) backward: Arc<[u8]>,
    /// The line's middle was not kept.
    cut: bool,
    len: usize,
}

/// How much two lines are alike: the more the higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Likeness(u16);

impl Likeness {
    const EQUAL: Likeness = Likeness(1000);
    const BEGINNING: Likeness = Likeness(950);
    const END: Likeness = Likeness(940);
    const MOST_SHARED: u16 = 930;
}

impl Text {
    pub(super) fn of(content: &[u8]) -> Self {
        let len = content.len();
        if len <= HEAD + TAIL {
            return Text { head: content.into(), tail: Box::default(), len };
        }
        Text { head: content[..HEAD].into(), tail: content[len - TAIL..].into(), len }
    }

    /// How many bytes the line has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many bytes are kept of it.
    pub(super) fn kept(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    pub(super) fn skeleton(&self) -> Skeleton {
        let forward = bones(&self.head);
        let cut = !self.tail.is_empty();
        let mut backward = if cut { bones(&self.tail) } else { forward.clone() };
        backward.reverse();
        Skeleton { forward: forward.into(), backward: backward.into(), cut, len: self.len }
    }

    /// So much of it as a person needs, from shortly before `at`: control characters escaped.
    pub(super) fn excerpt(&self, at: usize, most: usize) -> String {
        let start = if at < most / 2 { 0 } else { (at - most / 4).min(self.head.len()) };
        let end = (start + most).min(self.head.len());
        let mut out = String::from(if start > 0 { "…" } else { "" });
        for character in String::from_utf8_lossy(&self.head[start..end]).chars() {
            match character.is_control() {
                true => out.extend(character.escape_default()),
                false => out.push(character),
            }
        }
        out.push_str(if end < self.len { "…" } else { "" });
        out
    }

    /// The first byte in which two lines differ, as far as they are kept.
    pub(super) fn differs_at(&self, other: &Text) -> usize {
        shared(&self.head, &other.head)
    }

    /// How `theirs` was altered, if it was this line.
    pub(super) fn change(&self, theirs: &Text) -> Change {
        let (ours, found) = (self.skeleton(), theirs.skeleton());
        if ours.is_beginning(&found) {
            return Change::Truncated(theirs.len);
        }
        if ours.alike(&found) != Some(Likeness::EQUAL) {
            return Change::Other;
        }
        match &self.head {
            head if head.iter().any(u8::is_ascii_control) => Change::Escaped,
            head if !head.is_ascii() => Change::Encoded,
            _ => Change::Other,
        }
    }
}

impl Skeleton {
    /// How much a line of the old feed is alike this line of ours, if it is enough to say that it was this one.
    pub(super) fn alike(&self, theirs: &Skeleton) -> Option<Likeness> {
        let front = shared(&self.forward, &theirs.forward);
        let back = shared(&self.backward, &theirs.backward);
        let whole = |skeleton: &Skeleton| {
            front == skeleton.forward.len() && back == skeleton.backward.len()
        };
        if whole(self) && whole(theirs) && self.cut == theirs.cut && front >= MIN_EQUAL {
            return Some(Likeness::EQUAL);
        }
        if self.is_beginning(theirs) {
            return Some(Likeness::BEGINNING);
        }
        // A header that nobody understood is in front of it.
        if !self.cut && back == self.backward.len() && back >= MIN_PREFIX {
            return Some(Likeness::END);
        }
        let (less, more) = (self.size().min(theirs.size()), self.size().max(theirs.size()));
        let shared = (front + back).min(less);
        let part = shared * 1000 / more.max(1);
        let alike = shared >= MIN_SHARED && part >= MIN_PART;
        alike.then(|| Likeness((part as u16).min(Likeness::MOST_SHARED)))
    }

    /// True if `theirs` is how this line begins, and shorter.
    fn is_beginning(&self, theirs: &Skeleton) -> bool {
        let front = shared(&self.forward, &theirs.forward);
        let ends = front == theirs.forward.len() && front >= MIN_PREFIX;
        let longer = self.cut || self.forward.len() > theirs.forward.len();
        ends && longer && theirs.len < self.len
    }

    fn size(&self) -> usize {
        self.forward.len() + if self.cut { self.backward.len() } else { 0 }
    }
}

fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Visible ASCII, without escapes and what stands for a character that could not be written.
fn bones(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let skip = match byte {
            b'#' if escape_at(text, at).is_some() => 4,
            b'\\' => match text.get(at + 1) {
                Some(b'n' | b'r' | b't') => 2,
                Some(b'x') => 4,
                Some(b'u') => 6,
                _ => 0,
            },
            b'?' => 1,
            byte if !byte.is_ascii_graphic() => 1,
            _ => 0,
        };
        if skip == 0 {
            out.push(*byte);
        }
        at += skip.max(1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: u32) -> String {
        format!(
            r#"{{"request":{{"method":"GET","uri":"/v1/household/A{id}","id":"{:032x}"}},"user":"職員 {id}","time":{}}}"#,
            u128::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835),
            1_795_248_147_000_u64 + u64::from(id)
        )
    }

    fn change(ours: &[u8], theirs: &[u8]) -> Option<Change> {
        let (ours, theirs) = (Text::of(ours), Text::of(theirs));
        ours.skeleton().alike(&theirs.skeleton())?;
        Some(ours.change(&theirs))
    }

    #[test]
    fn what_was_done_to_a_line_is_named() {
        let ours = line(7);
        let mut changed = ours.clone();
        changed.replace_range(60..61, "~");
        assert_eq!(change(ours.as_bytes(), &ours.as_bytes()[..90]), Some(Change::Truncated(90)));
        assert_eq!(change(ours.as_bytes(), changed.as_bytes()), Some(Change::Other));
        let questions = ours.replace('職', "???").replace('員', "?");
        assert_eq!(change(ours.as_bytes(), questions.as_bytes()), Some(Change::Encoded));
        let tabs = ours.replace(' ', "\t");
        assert_eq!(change(tabs.as_bytes(), ours.as_bytes()), Some(Change::Escaped));
        let header = format!("<134>Nov 2? 08:x gw01 kong: {ours}");
        assert_eq!(change(ours.as_bytes(), header.as_bytes()), Some(Change::Other));
        let (long, cut) = ("x1".repeat(5000), "x1".repeat(4048));
        assert_eq!(change(long.as_bytes(), cut.as_bytes()), Some(Change::Truncated(8096)));
    }

    #[test]
    fn lines_of_one_gateway_are_not_alike_for_their_format() {
        assert_eq!(change(line(7).as_bytes(), line(8).as_bytes()), None);
        assert_eq!(change(b"short", b"shirt"), None);
        assert_eq!(change(line(7).as_bytes(), b"{\"request\":{"), None);
    }

    #[test]
    fn excerpts_are_short_and_safe_to_print() {
        let text = Text::of(format!("a\x1b[31m{}", "戶".repeat(5000)).as_bytes());
        let shown = text.excerpt(0, 100);
        assert!(shown.starts_with("a\\u{1b}[31m戶") && shown.ends_with('…') && shown.len() < 120);
        assert!(text.excerpt(1000, 100).starts_with('…'));
        assert!(text.excerpt(9000, 100).len() < 10);
    }
}
