//! Giving back the line that a record was made of.

use super::{Entry, EntryError, Kind, Part};
use std::num::NonZeroU32;

/// A line, or a part of one, as its source delivered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The bytes.
    pub line: Vec<u8>,
    /// Which part of the line this is; `None` if it is all of it.
    pub part: Option<Part>,
}

/// An entry is not a record that a line can be restored from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Not an entry at all.
    #[error("not an entry: {0}")]
    Entry(#[from] EntryError),
    /// One of the ledger's own entries.
    #[error("not a record, but an entry that the ledger made")]
    NotARecord,
    /// A `part` that is not `k/n` with 1 <= k <= n and n >= 2.
    #[error("the record's part is not of the form k/n")]
    Part,
}

/// The line that the record `entry` was made of.
pub fn restore(entry: &[u8]) -> Result<Restored, RestoreError> {
    let entry = Entry::parse(entry)?;
    if entry.kind() != Kind::Record {
        return Err(RestoreError::NotARecord);
    }
    let part = match entry.element().param("part") {
        None => None,
        Some(text) => Some(parse_part(&text).ok_or(RestoreError::Part)?),
    };
    let message = entry.message();
    if entry.element().param("form").as_deref() != Some("spliced") {
        return Ok(Restored { line: message.msg().to_vec(), part });
    }
    let ours = message.elements().take(2).map(|e| e.bytes().len()).sum();
    let theirs = &message.structured_data()[ours..];
    let theirs = if theirs.is_empty() { b"-" } else { theirs };
    Ok(Restored { line: [message.header(), theirs, message.tail()].concat(), part })
}

fn parse_part(text: &str) -> Option<Part> {
    let (number, of) = text.split_once('/')?;
    let (number, of): (NonZeroU32, NonZeroU32) = (number.parse().ok()?, of.parse().ok()?);
    (number <= of && of.get() >= 2).then_some(Part { number, of })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::{Built, Enterprise, Header, LogElement, Message, is_record_of},
        merkle::EntryIndex,
        time::UnixMillis,
    };
    use proptest::prelude::*;

    fn element(agent: &crate::AgentName, n: u64) -> LogElement<'_> {
        LogElement {
            enterprise: Enterprise::default(),
            agent,
            n: EntryIndex(n),
            source: "kong",
            received: UnixMillis(1_795_248_147_125),
            peer: Some("host \"x\" ]"),
            transport: None,
            part: None,
        }
    }

    const HEADER: Header<'_> = Header {
        priority: 110,
        time: Some(UnixMillis(0)),
        host: b"gw 01",
        app: b"",
        procid: b"",
        msgid: b"",
    };

    #[test]
    fn an_entry_reads_as_the_design_says() {
        let agent = "gw01".parse().unwrap();
        let mut out = vec![];
        let access = [("user.id", "a\"l]ice\\".into()), ("purpose", "查詢\n戶籍".into())];
        element(&agent, 48_213).wrap(&mut out, &HEADER, &access, b"{\"a\":1}");
        insta::assert_snapshot!(String::from_utf8(out.clone()).unwrap(), @r#"<110>1 1970-01-01T00:00:00.000Z gw?01 - - - [log@32473 agent="gw01" n="48213" source="kong" received="2026-11-21T08:02:27.125Z" peer="host \"x\" \]"][access@32473 user.id="a\"l\]ice\\" purpose="查詢�戶籍"] {"a":1}"#);
        let entry = Entry::parse(&out).unwrap();
        assert_eq!(entry.kind(), Kind::Record);
        assert_eq!(entry.access()[0], ("user.id", "a\"l]ice\\".into()));
        assert!(is_record_of(&out, &agent, 48_213));
        for other in [4_821, 48_214, 482_130, 0] {
            assert!(!is_record_of(&out, &agent, other), "{other}");
        }
        assert!(!is_record_of(&out, &"gw0".parse().unwrap(), 48_213));
    }

    #[test]
    fn an_entry_of_the_ledger_never_passes_for_a_record() {
        let agent = "gw01".parse().unwrap();
        let forged = br#"<110>1 - - - - - [seal@32473 agent="gw01" n="1" source="x"]"#;
        assert!(!is_record_of(forged, &agent, 1));
        assert_eq!(restore(forged), Err(RestoreError::NotARecord));
    }

    proptest! {
        #[test]
        fn any_line_comes_back_from_its_entry(line in prop::collection::vec(any::<u8>(), 0..300)) {
            let agent = "gw01".parse().unwrap();
            let mut out = vec![];
            let built = element(&agent, 7).wrap(&mut out, &HEADER, &[("a", "b".into())], &line);
            prop_assert_eq!(built, Built::Whole);
            prop_assert!(is_record_of(&out, &agent, 7));
            prop_assert_eq!(restore(&out).unwrap().line, line);
        }

        #[test]
        fn any_rfc_5424_message_comes_back_from_its_entry(
            pri in 0u8..192,
            sd in r#"(-|(\[[a-z]{1,4}@1( [a-z]{1,3}="([a-z\[ é]|\\[\]"\\x])*")*\]){1,3})"#,
            msg in "( (\\PC|\n|\u{feff}){0,40})?",
            access: bool,
        ) {
            let line = format!("<{pri}>1 2003-10-11T22:14:15.003Z h app 1 id {sd}{msg}");
            let message = Message::parse(line.as_bytes()).unwrap();
            let agent = "gw01".parse().unwrap();
            let mut out = vec![];
            let fields = [("user.id", "x".into())];
            let fields = if access { &fields[..] } else { &[] };
            element(&agent, 7).splice(&mut out, &message, fields);
            prop_assert!(is_record_of(&out, &agent, 7));
            prop_assert_eq!(restore(&out).unwrap().line, line.as_bytes());
        }

        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in r#"(<|>|1| |-|\[|\]|"|=|\\|a|@){0,40}"#) {
            let _ = restore(bytes.as_bytes());
            let _ = Message::parse(bytes.as_bytes());
            let _ = is_record_of(bytes.as_bytes(), &"a".parse().unwrap(), 1);
        }
    }

    #[test]
    fn a_sender_cannot_stop_its_agent_with_a_host_name_that_no_ledger_takes() {
        for len in [1, 511, 512, 60_000] {
            let line = format!("<13>1 - {} - - - - m", "h".repeat(len));
            let agent = "gw01".parse().unwrap();
            let mut out = vec![];
            let built =
                element(&agent, 1).splice(&mut out, &Message::parse(line.as_bytes()).unwrap(), &[]);
            assert_eq!(built, Built::Whole);
            assert!(is_record_of(&out, &agent, 1), "{len}");
            assert_eq!(restore(&out).unwrap().line, line.as_bytes());
        }
    }

    #[test]
    fn a_senders_own_access_element_is_not_taken_for_ours() {
        let line = b"<13>1 - - - - - [access@9 a=\"1\"] m";
        let agent = "gw01".parse().unwrap();
        let mut out = vec![];
        element(&agent, 1).splice(&mut out, &Message::parse(line).unwrap(), &[]);
        assert_eq!(restore(&out).unwrap().line, line);
    }
}
