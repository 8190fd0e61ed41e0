//! What a RELP client may ask, and when.
//!
//! A session begins with `open`, goes on with `syslog` in the order of transaction numbers, and
//! ends with `close`. Whatever else a client does ends the connection: it is told so with a 500
//! that names its fault, as far as the fault is in a frame that can be answered. Nothing that is
//! answered with a 500 is stored; nothing that was stored is answered with one.

use super::frame::{Command, Frame, MAX_TXNR, RelpFrameError, write_answer};

/// What a client broke, other than the framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The framing itself.
    #[error(transparent)]
    Frame(#[from] RelpFrameError),
    /// A message came before `open`.
    #[error("the client did not open a session first")]
    NotOpen,
    /// A second `open`.
    #[error("the client opened its session twice")]
    AlreadyOpen,
    /// The numbers of transactions have a gap.
    #[error("the client's frame has the number {txnr}, and {expected} was to come next")]
    Order {
        /// The number that came.
        txnr: u32,
        /// The number that was due.
        expected: u32,
    },
    /// A command that we do not offer.
    #[error("the client uses a command that was not offered to it")]
    Command,
    /// The client's `open` does not say which version of RELP it speaks.
    #[error("the client names no version of RELP that we know; 0 is known here")]
    Version,
    /// The client does not offer to send messages.
    #[error("the client does not offer the command 'syslog'")]
    Offers,
}

/// What a frame means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The session is open: answer with [`OPENED`].
    Opened,
    /// A message, to be stored and answered.
    Message,
    /// The client has said all it had to say: answer everything, then this, and close.
    Close,
}

/// What we offer in return.
pub const OPENED: &str = "200 OK\nrelp_version=0\nrelp_software=logseal\ncommands=syslog";

/// One client's session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Session {
    open: bool,
    /// The number that is due; any before the first frame.
    expected: Option<u32>,
}

impl Session {
    /// True once the client has opened it.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Takes a frame with its data.
    ///
    /// # Errors
    /// When the client broke the rules: answer it with [`refuse`], and close.
    pub fn handle(&mut self, frame: &Frame, data: &[u8]) -> Result<Step, SessionError> {
        let (txnr, expected) = (frame.txnr, self.expected.unwrap_or(frame.txnr.max(1)));
        if txnr != expected {
            return Err(SessionError::Order { txnr, expected });
        }
        self.expected = Some(if txnr == MAX_TXNR { 1 } else { txnr + 1 });
        match (frame.command, self.open) {
            (Command::Open, true) => Err(SessionError::AlreadyOpen),
            (Command::Open, false) => {
                judge(data)?;
                self.open = true;
                Ok(Step::Opened)
            }
            (Command::Syslog, true) => Ok(Step::Message),
            (Command::Syslog, false) => Err(SessionError::NotOpen),
            (Command::Close, _) => Ok(Step::Close),
            (Command::Other, _) => Err(SessionError::Command),
        }
    }
}

/// Appends the answer that a frame was refused.
pub fn refuse(out: &mut Vec<u8>, txnr: u32, error: &SessionError) {
    write_answer(out, txnr, &format!("500 {error}"));
}

/// Looks at what a client offers: lines of `name=value,value`.
fn judge(offers: &[u8]) -> Result<(), SessionError> {
    let values = |wanted: &[u8]| {
        offers.split(|byte| *byte == b'\n').find_map(|line| {
            let equals = line.iter().position(|byte| *byte == b'=')?;
            (&line[..equals] == wanted).then_some(&line[equals + 1..])
        })
    };
    let number = |text: &[u8]| {
        let text = text.split(|byte| *byte == b',').next().unwrap_or_default();
        !text.is_empty() && text.iter().all(u8::is_ascii_digit)
    };
    // Versions are numbered upwards, and each knows those in front of it.
    if !values(b"relp_version").is_some_and(number) {
        return Err(SessionError::Version);
    }
    let commands = values(b"commands").unwrap_or_default();
    match commands.split(|byte| *byte == b',').any(|command| command == b"syslog") {
        true => Ok(()),
        false => Err(SessionError::Offers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::LineSpan;

    const OFFERS: &[u8] = b"relp_version=0\nrelp_software=1,2,x\ncommands=other,syslog";

    fn frame(txnr: u32, command: Command) -> Frame {
        Frame { txnr, command, data: LineSpan { start: 0, end: 0, next: 1 } }
    }

    #[test]
    fn a_session_is_opened_used_and_closed() {
        let mut session = Session::default();
        assert_eq!(session.handle(&frame(1, Command::Open), OFFERS), Ok(Step::Opened));
        assert!(session.is_open());
        assert_eq!(session.handle(&frame(2, Command::Syslog), b"x"), Ok(Step::Message));
        assert_eq!(session.handle(&frame(3, Command::Close), b""), Ok(Step::Close));
    }

    #[test]
    fn numbers_begin_again_at_1() {
        let mut session = Session::default();
        session.handle(&frame(MAX_TXNR - 1, Command::Open), OFFERS).unwrap();
        for txnr in [MAX_TXNR, 1, 2] {
            assert_eq!(session.handle(&frame(txnr, Command::Syslog), b""), Ok(Step::Message));
        }
        let order = Err(SessionError::Order { txnr: 4, expected: 3 });
        assert_eq!(session.handle(&frame(4, Command::Syslog), b""), order);
    }

    #[test]
    fn who_breaks_the_rules_is_told_which() {
        use Command::{Close, Open, Other, Syslog};
        let first = |command, data: &[u8]| Session::default().handle(&frame(1, command), data);
        assert_eq!(first(Syslog, b"x"), Err(SessionError::NotOpen));
        assert_eq!(first(Other, b""), Err(SessionError::Command));
        assert_eq!(first(Close, b""), Ok(Step::Close), "who wants to leave may");
        assert_eq!(first(Open, b"commands=syslog"), Err(SessionError::Version));
        assert_eq!(first(Open, b"relp_version=\ncommands=syslog"), Err(SessionError::Version));
        assert_eq!(first(Open, b"relp_version=0\ncommands=sys"), Err(SessionError::Offers));
        assert_eq!(first(Open, b"relp_version=1\ncommands=syslog"), Ok(Step::Opened));
        let mut session = Session::default();
        let order = Err(SessionError::Order { txnr: 0, expected: 1 });
        assert_eq!(session.handle(&frame(0, Open), OFFERS), order, "clients have no hints to give");
        session.handle(&frame(1, Open), OFFERS).unwrap();
        assert_eq!(session.handle(&frame(2, Open), OFFERS), Err(SessionError::AlreadyOpen));
        let mut out = Vec::new();
        refuse(&mut out, 2, &SessionError::AlreadyOpen);
        assert_eq!(out, b"2 rsp 39 500 the client opened its session twice\n");
    }
}
