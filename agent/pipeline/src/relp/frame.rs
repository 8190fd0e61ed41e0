//! RELP's frames: `TXNR SP COMMAND SP DATALEN [SP DATA] LF`.
//!
//! What this module guarantees: the frames do not depend on how the input was cut into reads, no
//! input makes it hold more than one frame and one read, and a frame's data is exactly what the
//! client counted. Numbers have at most nine digits, commands at most 32 letters, as in librelp.

use crate::{entries::MAX_LINE, line::LineSpan};

/// The longest number, in digits.
const MAX_DIGITS: usize = 9;

/// The longest command, in bytes.
const MAX_COMMAND: usize = 32;

/// The longest header, with the octet behind it.
const MAX_HEADER: usize = MAX_DIGITS + 1 + MAX_COMMAND + 1 + MAX_DIGITS + 1;

/// The highest transaction number; 1 follows it.
pub const MAX_TXNR: u32 = 999_999_999;

/// How long the data of an `open` may be, in bytes: offers are short.
pub const MAX_OFFERS: usize = 4096;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// To begin a session.
    Open,
    /// To store a message.
    Syslog,
    /// To end the session.
    Close,
    /// Something we do not know.
    Other,
}

/// A whole frame; its data lies in the decoder's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its transaction number, 0 for a hint.
    pub txnr: u32,
    /// What is asked for.
    pub command: Command,
    /// The data, and where the next frame begins.
    pub data: LineSpan,
}

/// The client broke the framing; nothing behind this can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelpFrameError {
    /// What should be a frame's header is none.
    #[error("the client sent no RELP frame: use omrelp, or another port")]
    Header,
    /// A frame is announced that is longer than the limit.
    #[error(
        "the client announces {length} bytes and the limit is {limit}: shorten its messages \
         (maxMessageSize in rsyslog), or raise max_message_kib here"
    )]
    TooLong {
        /// The frame's transaction number.
        txnr: u32,
        /// What was announced, in bytes.
        length: u32,
        /// The limit, in bytes.
        limit: usize,
    },
    /// No line feed follows a frame's data.
    #[error("the client counted the bytes of frame {txnr} wrong: this is a fault in the client")]
    Trailer {
        /// The frame's transaction number.
        txnr: u32,
    },
}

impl RelpFrameError {
    /// Whose frame it is, if that could be read.
    pub fn txnr(&self) -> Option<u32> {
        match self {
            RelpFrameError::Header => None,
            RelpFrameError::TooLong { txnr, .. } | RelpFrameError::Trailer { txnr } => Some(*txnr),
        }
    }
}

/// A decoder for one connection. Feed it, take frames until there is none, and
/// [`take`](RelpDecoder::take) the buffer they lie in.
#[derive(Debug)]
pub struct RelpDecoder {
    buffer: Vec<u8>,
    /// Frames were handed out up to here.
    at: usize,
    max_message: usize,
    error: Option<RelpFrameError>,
}

/// The head of a frame: up to and with the octet behind DATALEN if that is a blank.
struct Header {
    txnr: u32,
    command: Command,
    length: u32,
    /// Where the data begins, or the line feed if there is none.
    len: usize,
}

impl RelpDecoder {
    /// A decoder that takes messages of up to `max_message` bytes, without the line feed that
    /// clients count in.
    ///
    /// # Panics
    /// When `max_message` is above [`MAX_LINE`].
    pub fn new(max_message: usize) -> Self {
        assert!(max_message <= MAX_LINE, "the configuration bounds max_message");
        RelpDecoder { buffer: Vec::new(), at: 0, max_message, error: None }
    }

    /// The buffer, to append to it without a copy. Bytes in it must stay as they are.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// What is in the buffer; the frames' data lies in it.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// How many bytes the frames handed out since the last [`take`](Self::take) span.
    pub fn consumed(&self) -> usize {
        self.at
    }

    /// How long the buffer must become for the frame that has begun to be whole, as far as that
    /// is known: 0 if none has begun.
    pub fn needs(&self) -> usize {
        let begun = &self.buffer[self.at..];
        match header(begun, self.max_message) {
            _ if begun.is_empty() => 0,
            Ok(Some(header)) => self.at + header.len + header.length as usize + 1,
            Ok(None) | Err(_) => self.buffer.len() + 1,
        }
    }

    /// The next whole frame. After an error there is none.
    pub fn next_frame(&mut self) -> Option<Result<Frame, RelpFrameError>> {
        if self.error.is_some() {
            return None;
        }
        let frame = self.step();
        self.error = frame.err();
        frame.transpose()
    }

    /// Takes out the bytes that hold all frames handed out so far; their spans count from its
    /// beginning. What follows stays, and moves to the front.
    pub fn take(&mut self) -> Vec<u8> {
        let taken = self.buffer[..self.at].to_vec();
        self.discard();
        taken
    }

    /// The same where nobody wants the bytes.
    pub fn discard(&mut self) {
        self.buffer.drain(..self.at);
        self.at = 0;
    }

    fn step(&mut self) -> Result<Option<Frame>, RelpFrameError> {
        let Some(header) = header(&self.buffer[self.at..], self.max_message)? else {
            return Ok(None);
        };
        let Header { txnr, command, length, len } = header;
        let start = self.at + len;
        let end = start + length as usize;
        match self.buffer.get(end) {
            None => return Ok(None),
            Some(b'\n') => self.at = end + 1,
            Some(_) => return Err(RelpFrameError::Trailer { txnr }),
        }
        let narrow =
            |place: usize| u32::try_from(place).expect("the buffer is bounded well below 4 GiB");
        let data = LineSpan { start: narrow(start), end: narrow(end), next: narrow(end + 1) };
        Ok(Some(Frame { txnr, command, data }))
    }
}

/// Reads a header; nothing if too little has come.
fn header(bytes: &[u8], max_message: usize) -> Result<Option<Header>, RelpFrameError> {
    let bytes = &bytes[..bytes.len().min(MAX_HEADER)];
    let whole = |parsed: Parsed| match parsed {
        Parsed::Whole(header) => Ok(Some(header)),
        Parsed::Partial => Ok(None),
        Parsed::Wrong => Err(RelpFrameError::Header),
    };
    let Some(header) = whole(parse(bytes))? else { return Ok(None) };
    let limit = match header.command {
        // The line feed is counted, and is not part of the message.
        Command::Syslog => max_message + 1,
        Command::Open | Command::Close | Command::Other => MAX_OFFERS,
    };
    let Header { txnr, length, .. } = header;
    if length as usize > limit {
        return Err(RelpFrameError::TooLong { txnr, length, limit });
    }
    Ok(Some(header))
}

enum Parsed {
    Whole(Header),
    Partial,
    Wrong,
}

fn parse(bytes: &[u8]) -> Parsed {
    let Some((txnr, mut at)) = number(bytes, 0) else { return unfinished(bytes, MAX_DIGITS) };
    if bytes[at] != b' ' {
        return Parsed::Wrong;
    }
    at += 1;
    let letters = bytes[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let name = &bytes[at..at + letters];
    at += letters;
    match bytes.get(at) {
        _ if letters > MAX_COMMAND => return Parsed::Wrong,
        None => return Parsed::Partial,
        Some(b' ') if letters > 0 => at += 1,
        Some(_) => return Parsed::Wrong,
    }
    let command = match name {
        b"open" => Command::Open,
        b"syslog" => Command::Syslog,
        b"close" => Command::Close,
        _ => Command::Other,
    };
    let Some((length, end)) = number(bytes, at) else {
        return unfinished(&bytes[at..], MAX_DIGITS);
    };
    match (length, bytes[end]) {
        (0, b'\n') => Parsed::Whole(Header { txnr, command, length, len: end }),
        (1.., b' ') => Parsed::Whole(Header { txnr, command, length, len: end + 1 }),
        _ => Parsed::Wrong,
    }
}

/// The number that begins at `at`, and where the octet behind it is; nothing if that has not
/// come, or if it is no number.
fn number(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    let digits = bytes.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=MAX_DIGITS).contains(&digits) || at + digits == bytes.len() {
        return None;
    }
    let value = |all: u32, digit: &u8| all * 10 + u32::from(digit - b'0');
    Some((bytes[at..at + digits].iter().fold(0, value), at + digits))
}

/// What is no number with something behind it may become one, if it has only digits so far.
fn unfinished(bytes: &[u8], most: usize) -> Parsed {
    match bytes.len() <= most && bytes.iter().all(u8::is_ascii_digit) {
        true => Parsed::Partial,
        false => Parsed::Wrong,
    }
}

/// Appends the answer that a message is stored.
pub fn write_ok(out: &mut Vec<u8>, txnr: u32) {
    write_answer(out, txnr, "200 OK");
}

/// Appends an answer.
pub fn write_answer(out: &mut Vec<u8>, txnr: u32, text: &str) {
    write_number(out, txnr);
    out.extend_from_slice(b" rsp ");
    write_number(out, text.len() as u32);
    if !text.is_empty() {
        out.push(b' ');
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'\n');
}

/// Appends the hint that we are about to close the session.
pub fn write_server_close(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0 serverclose 0\n");
}

fn write_number(out: &mut Vec<u8>, number: u32) {
    let mut digits = [0; 10];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// What a whole input decodes to: transaction numbers, commands and data.
type Decoded = (Vec<(u32, Command, Vec<u8>)>, Option<RelpFrameError>);

/// Decodes `parts` one after the other, taking the buffer after each, for tests and fuzzing.
#[doc(hidden)]
pub fn decode<'a>(parts: impl IntoIterator<Item = &'a [u8]>, max_message: usize) -> Decoded {
    let mut decoder = RelpDecoder::new(max_message);
    let (mut out, mut error) = (Vec::new(), None);
    for part in parts {
        decoder.buffer().extend_from_slice(part);
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next_frame() {
            match frame {
                Ok(frame) => frames.push(frame),
                Err(found) => error = Some(found),
            }
        }
        let bytes = decoder.take();
        let owned = |frame: &Frame| (frame.txnr, frame.command, frame.data.of(&bytes).to_vec());
        out.extend(frames.iter().map(owned));
        if error.is_some() {
            break;
        }
        let (needs, has) = (decoder.needs(), decoder.bytes().len());
        assert!((has == 0 && needs == 0) || needs > has, "else the frame would be whole");
    }
    (out, error)
}

/// For a fuzz target: the first bytes choose how the rest is cut into reads.
///
/// # Panics
/// When the cuts change what is decoded.
#[doc(hidden)]
pub fn check_any_cut(data: &[u8]) {
    let Some((&[size, limit], input)) = data.split_first_chunk::<2>() else { return };
    let limit = usize::from(limit);
    let cut = decode(input.chunks(usize::from(size) + 1), limit);
    assert_eq!(cut, decode([input], limit));
}

#[cfg(test)]
mod tests;
