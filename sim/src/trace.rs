//! What happened, line by line: hashed always, kept or printed when somebody wants to read it.

use std::fmt;

/// The trace of one world.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    print: bool,
    text: String,
}

impl Trace {
    /// A trace that is printed as it grows, or only hashed.
    pub fn new(print: bool) -> Self {
        Trace { hash: 0xcbf2_9ce4_8422_2325, print, text: String::new() }
    }

    /// Adds a line, as of a time in microseconds.
    pub fn line(&mut self, time: u64, what: fmt::Arguments<'_>) {
        use fmt::Write as _;
        self.text.clear();
        let (seconds, micros) = (time / 1_000_000, time % 1_000_000);
        // Memory does not fail to be written.
        let _ = write!(self.text, "{seconds:3}.{micros:06} {what}");
        for byte in self.text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.print {
            println!("{}", self.text);
        }
    }

    /// FNV-1a over all lines.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}
