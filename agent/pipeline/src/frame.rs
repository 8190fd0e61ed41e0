//! Finds the syslog messages in what a TCP or TLS connection delivers.
//!
//! RFC 5425 counts a message's octets (`17 <13>1 …`), older senders end it with
//! a line feed, and some mix both on one connection. The framing is therefore
//! detected for each frame: a digit from 1 to 9 begins a count, anything else,
//! also digits that no space follows, begins a frame that a line feed ends. On a
//! local socket a NUL ends it as well: that is how `syslog(3)` writes to one.
//!
//! What this module guarantees to the pipeline: the frames do not depend on how
//! the input was cut into reads; every octet a sender put into a message is in
//! exactly one frame, but for one line feed at the end (rsyslog and syslog-ng
//! count one in) and for frames that are empty; and no input makes it hold more
//! than one message and one read.

use crate::{entries::MAX_LINE, line::LineSpan};

/// The longest count that is read, in digits.
const MAX_DIGITS: usize = 9;

/// The longest message that may be configured, in bytes: a message is a line.
pub const MAX_MESSAGE: usize = MAX_LINE;

/// The shortest limit that may be configured, in bytes: every receiver of
/// syslog must take messages that one entry can hold.
pub const MIN_MESSAGE: usize = 64 << 10;

/// How long a message may be by default, in bytes.
pub const DEFAULT_MESSAGE: usize = 1 << 20;

/// The sender broke the framing; nothing behind this can be understood, so the
/// connection must be closed. [`FrameDecoder::finish`] has what had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message is announced that is longer than the limit. `count` is what
    /// was announced, or its first ten digits.
    #[error(
        "the sender announces a message of {count} bytes and the limit is {limit}: \
         shorten its messages, or raise max_message here"
    )]
    TooLong {
        /// The announced length.
        count: u64,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A message without a count does not end within the limit.
    #[error(
        "the sender began a message that does not end within {limit} bytes: let it count \
         octets or end messages with a line feed, or raise max_message here"
    )]
    Endless {
        /// The limit, in bytes.
        limit: usize,
    },
}

/// What was left when a connection ended inside a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// What had come of the message; it may be empty.
    pub line: LineSpan,
    /// How many octets of a counted message are missing; `None` when the
    /// message was to be ended by a line feed.
    pub missing: Option<u64>,
}

/// A decoder for one connection. Feed it, take frames until there is none,
/// and [`take`](FrameDecoder::take) the buffer they lie in.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    /// Frames were handed out up to here.
    at: usize,
    /// No line feed lies before here that could end the frame at `at`.
    searched: usize,
    max_message: usize,
    /// True if a NUL ends a message, too.
    nul: bool,
    error: Option<FrameError>,
}

/// What begins at some place of the buffer.
enum Head {
    /// Too little has come to say.
    Undecided,
    /// A counted message of `count` octets after `header` octets.
    Counted { header: usize, count: u64 },
    /// A message that a line feed ends.
    Line,
}

impl FrameDecoder {
    /// A decoder that takes messages of up to `max_message` bytes.
    ///
    /// # Panics
    /// When `max_message` is above [`MAX_MESSAGE`].
    pub fn new(max_message: usize) -> Self {
        assert!(max_message <= MAX_MESSAGE, "the configuration bounds max_message");
        FrameDecoder {
            buffer: Vec::new(),
            at: 0,
            searched: 0,
            max_message,
            nul: false,
            error: None,
        }
    }

    /// The same, where not only a line feed but also a NUL ends a message without a count.
    ///
    /// # Panics
    /// As [`FrameDecoder::new`].
    pub fn local(max_message: usize) -> Self {
        FrameDecoder { nul: true, ..Self::new(max_message) }
    }

    /// Adds what came next on the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The buffer, to append to it without a copy. Bytes in it must stay as they are.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// How many bytes the frames handed out since the last [`take`](Self::take) span.
    pub fn consumed(&self) -> usize {
        self.at
    }

    /// How many bytes the frame that has begun may take, with its header: what must fit into
    /// memory so that it can become whole. At most a few more than the limit.
    pub fn needs(&self) -> usize {
        let limit = self.max_message as u64;
        match head(&self.buffer[self.at..]) {
            Head::Undecided => MAX_DIGITS + 1,
            Head::Counted { header, count } => header + count.min(limit) as usize,
            Head::Line => self.max_message + 1,
        }
    }

    /// The next whole frame that is not empty, as its place in the buffer.
    /// After an error there is none.
    pub fn next_frame(&mut self) -> Option<Result<LineSpan, FrameError>> {
        while self.error.is_none() {
            let line = match self.step() {
                Ok(line) => line?,
                Err(error) => {
                    self.error = Some(error);
                    return Some(Err(error));
                }
            };
            if line.start < line.end {
                return Some(Ok(line));
            }
        }
        None
    }

    /// Takes out the bytes that hold all frames handed out so far; their spans
    /// count from its beginning. What follows stays, and moves to the front.
    pub fn take(&mut self) -> Vec<u8> {
        // A large buffer goes along as it is, so that a long message is never there twice.
        let taken = if self.at > self.buffer.capacity() / 2 {
            let rest = self.buffer.split_off(self.at);
            std::mem::replace(&mut self.buffer, rest)
        } else {
            let taken = self.buffer[..self.at].to_vec();
            self.buffer.drain(..self.at);
            taken
        };
        self.searched = self.searched.saturating_sub(self.at);
        self.at = 0;
        taken
    }

    /// What is left when the connection has ended, or must end because of an
    /// error: no octet of it was handed out. It counts as handed out now.
    pub fn finish(&mut self) -> Option<Rest> {
        let (start, end) = (self.at, self.buffer.len());
        if start == end {
            return None;
        }
        let rest = match head(&self.buffer[start..]) {
            Head::Counted { header, count } if self.error.is_none() => Rest {
                line: span(start + header, end, end),
                missing: Some(count - (end - start - header) as u64),
            },
            _ => Rest { line: span(start, end, end), missing: None },
        };
        self.at = end;
        Some(rest)
    }

    /// The frame at `at`, if it is whole; it may be empty.
    fn step(&mut self) -> Result<Option<LineSpan>, FrameError> {
        let limit = self.max_message;
        match head(&self.buffer[self.at..]) {
            Head::Undecided => Ok(None),
            Head::Counted { count, .. } if count > limit as u64 => {
                Err(FrameError::TooLong { count, limit })
            }
            Head::Counted { header, count } => {
                let start = self.at + header;
                let next = start + count as usize;
                if next > self.buffer.len() {
                    return Ok(None);
                }
                self.at = next;
                let end = next - usize::from(self.buffer[next - 1] == b'\n');
                Ok(Some(span(start, end, next)))
            }
            Head::Line => {
                let start = self.at;
                let from = self.searched.max(start);
                let searched = &self.buffer[from..];
                let end = match self.nul {
                    true => memchr::memchr2(b'\n', b'\0', searched),
                    false => memchr::memchr(b'\n', searched),
                };
                let end = end.map(|found| from + found);
                if end.unwrap_or(self.buffer.len()) - start > limit {
                    return Err(FrameError::Endless { limit });
                }
                let Some(end) = end else {
                    self.searched = self.buffer.len();
                    return Ok(None);
                };
                self.at = end + 1;
                Ok(Some(span(start, end, end + 1)))
            }
        }
    }
}

fn head(bytes: &[u8]) -> Head {
    match bytes.first() {
        None => return Head::Undecided,
        Some(b'1'..=b'9') => {}
        Some(_) => return Head::Line,
    }
    let mut count = 0;
    for (place, &byte) in bytes.iter().take(MAX_DIGITS + 1).enumerate() {
        match byte {
            b'0'..=b'9' => count = count * 10 + u64::from(byte - b'0'),
            b' ' => return Head::Counted { header: place + 1, count },
            _ => return Head::Line,
        }
    }
    if bytes.len() <= MAX_DIGITS {
        return Head::Undecided;
    }
    // Ten digits exceed every limit, so the header's length is never used.
    Head::Counted { header: MAX_DIGITS + 1, count }
}

fn span(start: usize, end: usize, next: usize) -> LineSpan {
    let narrow =
        |place: usize| u32::try_from(place).expect("the buffer is bounded well below 4 GiB");
    LineSpan { start: narrow(start), end: narrow(end), next: narrow(next) }
}

/// What a whole input decodes to, for tests and fuzzing.
#[doc(hidden)]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    pub lines: Vec<Vec<u8>>,
    pub error: Option<FrameError>,
    pub rest: Option<(Vec<u8>, Option<u64>)>,
}

/// Decodes `parts` one after the other, taking the buffer after each.
#[doc(hidden)]
pub fn decode<'a>(parts: impl IntoIterator<Item = &'a [u8]>, max_message: usize) -> Decoded {
    let mut decoder = FrameDecoder::new(max_message);
    let mut out = Decoded::default();
    for part in parts {
        decoder.push(part);
        let mut spans = Vec::new();
        while let Some(frame) = decoder.next_frame() {
            match frame {
                Ok(line) => spans.push(line),
                Err(error) => out.error = Some(error),
            }
        }
        let bytes = decoder.take();
        assert!(spans.last().is_none_or(|last| last.next as usize <= bytes.len()));
        assert!(spans.windows(2).all(|pair| pair[0].next <= pair[1].start));
        out.lines.extend(spans.iter().map(|line| line.of(&bytes).to_vec()));
        if out.error.is_some() {
            break;
        }
    }
    if let Some(rest) = decoder.finish() {
        let bytes = decoder.take();
        out.rest = Some((rest.line.of(&bytes).to_vec(), rest.missing));
    }
    out
}

/// For a fuzz target: the first bytes choose how the rest is cut into reads.
///
/// # Panics
/// When the cuts change what is decoded.
#[doc(hidden)]
pub fn check_any_cut(data: &[u8]) {
    let Some((&[size, limit], input)) = data.split_first_chunk::<2>() else { return };
    let limit = usize::from(limit) + 1;
    let cut = decode(input.chunks(usize::from(size) + 1), limit);
    // After an error only what had come by then is left over, and that depends on the reads.
    let whole = decode([input], limit);
    assert_eq!((&cut.lines, cut.error), (&whole.lines, whole.error));
    if whole.error.is_none() {
        assert_eq!(cut.rest, whole.rest);
    }
    assert!(cut.lines.iter().all(|line| !line.is_empty() && line.len() <= limit));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 40;

    fn lines(input: &[u8]) -> Vec<String> {
        let decoded = decode([input], LIMIT);
        assert_eq!((decoded.error, decoded.rest), (None, None), "{input:?}");
        decoded.lines.into_iter().map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
    }

    #[test]
    fn messages_of_every_sender_arrive_as_they_were_sent() {
        for (input, expected) in [
            (&b"5 <1>ab3 <2>"[..], &["<1>ab", "<2>"][..]),
            (b"<1>a\n<2>b\n", &["<1>a", "<2>b"]),
            // rsyslog and syslog-ng count the line feed in; only one goes.
            (b"6 <1>ab\n7 <2>ab\n\n", &["<1>ab", "<2>ab\n"]),
            // Mixed framing, and a count right behind a message.
            (b"<1>a\n4 <2>b<3>c\n4 <4>d", &["<1>a", "<2>b", "<3>c", "<4>d"]),
            // A counted message may hold line feeds and things that look like counts.
            (b"9 a\n3 b\n\nc d<1>\n", &["a\n3 b\n\nc ", "d<1>"]),
            // Digits that no space follows are a message's own.
            (b"12:30 up\n1\n123456789x\n0 x\n", &["12:30 up", "1", "123456789x", "0 x"]),
            // Empty frames hold nothing; blanks, CR, NUL and BOM are evidence.
            (b"\n\n1 \n<1>a \r\n\r\n\x00\n\xEF\xBB\xBFx\n", &["<1>a \r", "\r", "\0", "\u{feff}x"]),
        ] {
            assert_eq!(lines(input), expected, "{:?}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn a_sender_that_announces_too_much_is_named_with_its_count() {
        let count = |input: &[u8]| decode([input], LIMIT).error;
        let too_long = |count| Some(FrameError::TooLong { count, limit: LIMIT });
        assert_eq!(count(b"40 x"), None);
        assert_eq!(count(b"41 x"), too_long(41));
        assert_eq!(count(b"999999999 x"), too_long(999_999_999));
        assert_eq!(count(b"1234567890123 x"), too_long(1_234_567_890));
        assert_eq!(count(&[b'x'; LIMIT]), None);
        let endless = Some(FrameError::Endless { limit: LIMIT });
        assert_eq!(count(&[b'x'; LIMIT + 1]), endless);
        let ended = [&[b'x'; LIMIT + 1][..], b"\n"].concat();
        assert_eq!(count(&ended), endless, "it must not depend on how the input was cut");
    }

    #[test]
    fn what_came_before_a_connection_broke_is_not_lost() {
        let rest = |input: &[u8]| decode([input], LIMIT).rest.unwrap();
        assert_eq!(rest(b"<1>a\n<2>b"), (b"<2>b".to_vec(), None));
        assert_eq!(rest(b"10 <1>ab"), (b"<1>ab".to_vec(), Some(5)));
        assert_eq!(rest(b"10 <1>ab\n"), (b"<1>ab\n".to_vec(), Some(4)));
        assert_eq!(rest(b"10 "), (vec![], Some(10)));
        assert_eq!(rest(b"10"), (b"10".to_vec(), None));
        assert_eq!(rest(b"41 <1>ab"), (b"41 <1>ab".to_vec(), None));
        assert_eq!(rest(&[b'x'; LIMIT + 3]), (vec![b'x'; LIMIT + 3], None));
    }

    #[test]
    fn a_nul_ends_a_local_message_and_no_other() {
        let lines = |mut decoder: FrameDecoder| {
            decoder.push(b"<1>a\0<2>b\n5 <3>\0c<4>d\0\0");
            let spans: Vec<_> = std::iter::from_fn(|| decoder.next_frame()).collect();
            let bytes = decoder.take();
            spans.into_iter().map(|span| span.unwrap().of(&bytes).to_vec()).collect::<Vec<_>>()
        };
        let local = lines(FrameDecoder::local(LIMIT));
        assert_eq!(local, [&b"<1>a"[..], b"<2>b", b"<3>\0c", b"<4>d"]);
        assert_eq!(lines(FrameDecoder::new(LIMIT)), [&b"<1>a\0<2>b"[..], b"<3>\0c"]);
    }

    #[test]
    fn nothing_is_handed_out_after_an_error() {
        let mut decoder = FrameDecoder::new(LIMIT);
        decoder.push(b"<1>a\n99 <2>b\n<3>c\n");
        assert!(decoder.next_frame().unwrap().is_ok());
        assert!(decoder.next_frame().unwrap().is_err());
        assert_eq!(decoder.next_frame(), None);
        assert_eq!(decoder.take(), b"<1>a\n");
        let rest = decoder.finish().unwrap();
        assert_eq!(rest.line.of(&decoder.take()), b"99 <2>b\n<3>c\n");
        assert_eq!(decoder.finish(), None);
    }

    /// Decodes with the whole input at hand and no care for speed.
    fn naive(input: &[u8]) -> Decoded {
        let mut out = Decoded::default();
        let mut left = input;
        while !left.is_empty() && out.error.is_none() && out.rest.is_none() {
            let digits = left.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let counted = left[0] != b'0' && digits > 0;
            let number = |digits: usize| {
                left[..digits].iter().fold(0, |all, digit| all * 10 + u64::from(digit - b'0'))
            };
            if counted && digits >= 10 {
                out.error = Some(FrameError::TooLong { count: number(10), limit: LIMIT });
            } else if counted && digits == left.len() {
                out.rest = Some((left.to_vec(), None));
            } else if counted && left[digits] == b' ' {
                let (count, body) = (number(digits), &left[digits + 1..]);
                if count > LIMIT as u64 {
                    out.error = Some(FrameError::TooLong { count, limit: LIMIT });
                } else if (body.len() as u64) < count {
                    out.rest = Some((body.to_vec(), Some(count - body.len() as u64)));
                } else {
                    let (message, after) = body.split_at(count as usize);
                    let message = message.strip_suffix(b"\n").unwrap_or(message);
                    out.lines.extend((!message.is_empty()).then(|| message.to_vec()));
                    left = after;
                }
            } else {
                let end = left.iter().position(|&byte| byte == b'\n');
                if end.unwrap_or(left.len()) > LIMIT {
                    out.error = Some(FrameError::Endless { limit: LIMIT });
                } else if let Some(end) = end {
                    out.lines.extend((end > 0).then(|| left[..end].to_vec()));
                    left = &left[end + 1..];
                } else {
                    out.rest = Some((left.to_vec(), None));
                }
            }
        }
        out
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let text =
            proptest::collection::vec(prop::sample::select(&b"0129 <a\n\r\0\xFF"[..]), 0..45);
        prop_oneof![
            4 => text.clone().prop_map(|text| [text.len().to_string().as_bytes(), b" ", &text].concat()),
            3 => text.clone().prop_map(|text| [&text[..], b"\n"].concat()),
            2 => text,
            1 => (0u64..20_000_000_000).prop_map(|number| number.to_string().into_bytes()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn no_way_of_cutting_the_input_changes_the_messages(
            pieces in proptest::collection::vec(piece(), 0..12),
            cuts in proptest::collection::vec(1usize..30, 1..20),
        ) {
            let input = pieces.concat();
            let mut parts = Vec::new();
            let (mut left, mut cut) = (&input[..], cuts.iter().cycle());
            while !left.is_empty() {
                let size = cut.next().map_or(1, |&size| size.min(left.len()));
                let (part, after) = left.split_at(size);
                parts.push(part);
                left = after;
            }
            let mut decoded = decode(parts, LIMIT);
            let expected = naive(&input);
            if expected.error.is_some() {
                decoded.rest = None;
            }
            prop_assert_eq!(decoded, expected);
        }

        #[test]
        fn no_bytes_upset_the_decoder(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            check_any_cut(&data);
        }
    }
}
