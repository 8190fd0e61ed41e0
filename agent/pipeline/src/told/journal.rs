//! An entry of the systemd journal, as `journalctl --output=json` writes it: one object, whose
//! values are text, bytes as an array of numbers where they are no text, or an array of such if a
//! field was given several times (systemd.journal-fields(7), `journalctl(1)`).

use super::Told;
use record::UnixMillis;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// What an entry says of itself; nothing if it is none.
pub(crate) fn journal(line: &[u8]) -> Told<'_> {
    serde_json::from_slice::<Entry<'_>>(line).map(Entry::told).unwrap_or_default()
}

/// The fields that are of interest.
#[derive(Default)]
struct Entry<'a> {
    time: Value<'a>,
    host: Value<'a>,
    identifier: Value<'a>,
    comm: Value<'a>,
    pid: Value<'a>,
    syslog_pid: Value<'a>,
    priority: Value<'a>,
    facility: Value<'a>,
    message: Value<'a>,
}

/// A field's value; of several the first.
#[derive(Default)]
struct Value<'a>(Option<Cow<'a, [u8]>>);

impl<'a> Entry<'a> {
    fn told(self) -> Told<'a> {
        let micros: Option<u64> = self.time.number();
        let at_most = |value: Value<'_>, most: u8| value.number().filter(|value| *value <= most);
        Told {
            severity: at_most(self.priority, 7),
            facility: at_most(self.facility, 23),
            time: micros.map(|micros| UnixMillis(micros / 1000)),
            host: self.host.0,
            app: self.identifier.0.or(self.comm.0),
            procid: self.pid.0.or(self.syslog_pid.0),
            message: self.message.0,
        }
    }

    fn field(&mut self, name: &str) -> Option<&mut Value<'a>> {
        Some(match name {
            "__REALTIME_TIMESTAMP" => &mut self.time,
            "_HOSTNAME" => &mut self.host,
            "SYSLOG_IDENTIFIER" => &mut self.identifier,
            "_COMM" => &mut self.comm,
            "_PID" => &mut self.pid,
            "SYSLOG_PID" => &mut self.syslog_pid,
            "PRIORITY" => &mut self.priority,
            "SYSLOG_FACILITY" => &mut self.facility,
            "MESSAGE" => &mut self.message,
            _ => return None,
        })
    }
}

impl Value<'_> {
    fn number<T: std::str::FromStr>(&self) -> Option<T> {
        std::str::from_utf8(self.0.as_deref()?).ok()?.trim().parse().ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Entry<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry of the journal")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry<'de>, A::Error> {
        let mut entry = Entry::default();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match entry.field(&name) {
                Some(value) => *value = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(entry)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value of a field of the journal")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value(Some(Cow::Borrowed(text.as_bytes()))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value(Some(Cow::Owned(text.as_bytes().to_vec()))))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value(Some(Cow::Owned(number.to_string().into_bytes()))))
    }

    /// A field that is too large is null, unless it was asked for.
    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value<'de>, E> {
        Ok(Value(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value<'de>, A::Error> {
        let (mut bytes, mut first) = (Vec::new(), None);
        while let Some(item) = list.next_element::<Item<'de>>()? {
            match item {
                Item::Byte(byte) => bytes.push(byte),
                Item::Value(value) => first = first.or(value.0),
            }
        }
        Ok(Value(first.or(Some(Cow::Owned(bytes)))))
    }
}

/// What is in an array: a byte, or a whole value.
enum Item<'a> {
    Byte(u8),
    Value(Value<'a>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(match value.number() {
            Some(byte) if matches!(value.0, Some(Cow::Owned(_))) => Item::Byte(byte),
            _ => Item::Value(value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: &Option<Cow<'_, [u8]>>) -> String {
        value
            .as_deref()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .unwrap_or_default()
    }

    #[test]
    fn an_entry_says_when_where_and_who() {
        let told = journal(
            br#"{"_PID":"12","__REALTIME_TIMESTAMP":"1795248147000999","_COMM":"sh","PRIORITY":"3",
            "SYSLOG_IDENTIFIER":"app","SYSLOG_FACILITY":"10","_HOSTNAME":"web","MESSAGE":"a \"b\"","X":[1,{"a":[]}]}"#,
        );
        assert_eq!((told.severity, told.facility), (Some(3), Some(10)));
        assert_eq!(told.time, Some(UnixMillis(1_795_248_147_000)));
        assert_eq!(
            [&told.host, &told.app, &told.procid, &told.message].map(text),
            ["web", "app", "12", "a \"b\""]
        );
    }

    #[test]
    fn bytes_lists_and_nonsense_are_borne() {
        let message = |json: &str| text(&journal(json.as_bytes()).message);
        assert_eq!(message(r#"{"MESSAGE":[104,105,10,255]}"#), "hi\n\u{fffd}");
        assert_eq!(message(r#"{"MESSAGE":["one","two"]}"#), "one");
        assert_eq!(message(r#"{"MESSAGE":[[104,105],"two"]}"#), "hi");
        assert_eq!(message(r#"{"MESSAGE":["1","2"]}"#), "1");
        for nonsense in ["", "x", "[]", "1", r#"{"MESSAGE":null}"#, r#"{"MESSAGE":{"a":1}}"#] {
            assert_eq!(message(nonsense), "", "{nonsense}");
        }
        let told =
            journal(br#"{"PRIORITY":"8","SYSLOG_FACILITY":"99","__REALTIME_TIMESTAMP":"x"}"#);
        assert_eq!(told, Told::default());
        assert_eq!(text(&journal(br#"{"_COMM":"sh","MESSAGE":"x"}"#).app), "sh");
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            json in r#"\{("(MESSAGE|PRIORITY|_PID|X)":[\[\]{}0-9a",:nul]{0,12},?){0,4}\}?"#,
        ) {
            let _ = (journal(&bytes), journal(json.as_bytes()));
        }
    }
}
