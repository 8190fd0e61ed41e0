//! An entry as a row of a table: what an export in JSON or Parquet shows of it.

use record::{
    Hash,
    entry::{Entry, Kind, restore},
    merkle::leaf_hash,
};
use serde_json::{Map, Value, json};

/// An entry and what can be told from it. Two programs of one version make the same row of the same
/// entry: so a row is checked by making it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place in the ledger.
    pub index: u64,
    /// Its leaf hash.
    pub leaf: Hash,
    /// `record`, `seal`, `enrol`, `block`, `equivocation`, `prune`, `drill`, or `other` of a later version.
    pub kind: &'static str,
    /// TIMESTAMP, HOSTNAME and APP-NAME of the message.
    pub header: [String; 3],
    /// The parameters of the first element, in their order.
    pub params: Vec<(String, String)>,
    /// The access fields, by their names in the Elastic Common Schema where there is one.
    pub fields: Vec<(String, String)>,
    /// Of a record, the line or the part of one.
    pub line: Option<Vec<u8>>,
    /// The bytes.
    pub entry: Vec<u8>,
}

impl Row {
    /// The row of an entry.
    pub fn of(index: u64, bytes: &[u8]) -> Self {
        let mut row = Row {
            index,
            leaf: leaf_hash(bytes),
            kind: "other",
            header: Default::default(),
            params: Vec::new(),
            fields: Vec::new(),
            line: None,
            entry: bytes.to_vec(),
        };
        let Ok(entry) = Entry::parse(bytes) else { return row };
        row.kind = name(entry.kind());
        let [time, host, app, ..] = entry.message().tokens();
        row.header = [time, host, app].map(|token| String::from_utf8_lossy(token).into_owned());
        let owned = |(name, value): (&str, std::borrow::Cow<'_, str>)| {
            (name.to_owned(), value.into_owned())
        };
        row.params = entry.element().params().map(owned).collect();
        if entry.kind() == Kind::Record {
            row.fields = entry.access().into_iter().map(owned).collect();
            row.line = restore(bytes).ok().map(|restored| restored.line);
        }
        row
    }

    /// A parameter of the first element.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Its number in its agent's log, if it is a record.
    pub fn number(&self) -> Option<u64> {
        (self.kind == "record").then(|| self.param("n")?.parse().ok()).flatten()
    }

    /// The row as a JSON object.
    pub fn to_json(&self) -> Value {
        let [time, host, app] = &self.header;
        let pairs = |pairs: &[(String, String)]| -> Map<String, Value> {
            pairs.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect()
        };
        let mut object = json!({
            "index": self.index,
            "leaf": self.leaf.to_string(),
            "kind": self.kind,
            "@timestamp": time,
            "host.hostname": host,
            "process.name": app,
            self.kind: pairs(&self.params),
            "fields": pairs(&self.fields),
        });
        if let Some(line) = &self.line {
            put(&mut object, "line", line);
        }
        put(&mut object, "entry", &self.entry);
        object
    }

    /// The bytes of the entry that a JSON object is about; `None` if it has none.
    pub fn entry_of(object: &Value) -> Option<Vec<u8>> {
        match object.get("entry_base64") {
            Some(text) => base64::Engine::decode(&BASE64, text.as_str()?).ok(),
            None => object.get("entry")?.as_str().map(|text| text.as_bytes().to_vec()),
        }
    }
}

use base64::engine::general_purpose::STANDARD as BASE64;

/// Bytes as text if they are UTF-8. If not, as text for people, and in base64 for programs.
fn put(object: &mut Value, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object[name] = text.into(),
        Err(_) => {
            object[name] = String::from_utf8_lossy(bytes).into();
            object[format!("{name}_base64")] = base64::Engine::encode(&BASE64, bytes).into();
        }
    }
}

/// The name of a kind of entry, as its first element says it.
pub fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Record => "record",
        Kind::Seal => "seal",
        Kind::Block => "block",
        Kind::Enrol => "enrol",
        Kind::Equivocation => "equivocation",
        Kind::Prune => "prune",
        Kind::Drill => "drill",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_from_its_row_whatever_its_bytes_are() {
        let front = br#"<110>1 2026-11-21T10:02:27.125Z gw01 kong - - [log@32473 agent="gw01" n="7" source="kong" received="2026-11-21T10:02:27.180Z"][access@32473 user.id="clerk07"] "#;
        for line in [&b"plain"[..], b"\xff\x00 no UTF-8", "戶籍".as_bytes()] {
            let entry = [front, line].concat();
            let row = Row::of(12, &entry);
            assert_eq!(
                (row.kind, row.number(), row.line.as_deref()),
                ("record", Some(7), Some(line))
            );
            let object: Value = serde_json::from_str(&row.to_json().to_string()).unwrap();
            assert_eq!(object["fields"]["user.id"], "clerk07");
            assert_eq!(Row::entry_of(&object).unwrap(), entry);
            assert_eq!(Row::of(12, &Row::entry_of(&object).unwrap()).to_json(), object);
        }
        assert_eq!(Row::of(0, b"nonsense").kind, "other");
    }
}
