//! Requests as exporters send them, and what nobody should.

use super::*;
use proptest::prelude::*;

/// A field of bytes.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let (low, high) = (content.len() as u8 & 0x7f, (content.len() >> 7) as u8);
    let len = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
    [&[number << 3 | 2][..], &len, content].concat()
}

fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
    bytes(1, &[bytes(1, key.as_bytes()), bytes(2, value)].concat())
}

fn texts(lines: &Lines) -> Vec<String> {
    let text = |span: &LineSpan| String::from_utf8_lossy(span.of(&lines.bytes)).into_owned();
    lines.spans.iter().map(text).collect()
}

#[test]
fn a_record_in_protobuf_is_written_as_the_json_mapping_says() {
    let resource = attribute("service.name", &bytes(1, b"shop"));
    let time = [&[1 << 3 | 1][..], &1_795_248_147_000_000_001u64.to_le_bytes()].concat();
    let double = [&[4 << 3 | 1][..], &0.5f64.to_le_bytes()].concat();
    let numbers = [bytes(1, &double), bytes(1, &[3 << 3, 0x7f]), bytes(1, &[2 << 3, 1])].concat();
    let record = [
        time,
        vec![2 << 3, 9],
        bytes(5, &bytes(1, "hé \"x\"\n".as_bytes())),
        bytes(6, &[bytes(1, b"k"), bytes(2, &bytes(5, &numbers))].concat()),
        bytes(9, &[0xab; 16]),
    ]
    .concat();
    let scope_logs = [bytes(1, &bytes(1, b"lib")), bytes(2, &record), bytes(2, b"")].concat();
    let logs = [bytes(1, &resource), bytes(2, &scope_logs), bytes(3, b"http://u")].concat();
    let request = bytes(1, &logs);
    let lines = from_protobuf(&request).unwrap();
    let first = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeLogs":[{"scope":{"name":"lib"},"logRecords":[{"timeUnixNano":"1795248147000000001","severityNumber":9,"body":{"stringValue":"hé \"x\"\n"},"attributes":[{"key":"k","value":{"arrayValue":{"values":[{"doubleValue":0.5},{"intValue":"127"},{"boolValue":true}]}}}],"traceId":"abababababababababababababababab"}]}],"schemaUrl":"http://u"}]}"#;
    let found = texts(&lines);
    assert_eq!((found[0].as_str(), found.len(), lines.rejected), (first, 2, 0));
    // What came as JSON is the same, whatever white space is in it.
    let spaced = first.replace("[{", "[ {\n").replace(":{", " : {\t");
    assert_eq!(from_json(spaced.as_bytes()).unwrap().spans.len(), 1);
    assert_eq!(texts(&from_json(spaced.as_bytes()).unwrap())[0], first);
}

#[test]
fn what_is_no_request_is_refused_and_what_is_no_record_rejected() {
    for bad in [&b"\x0a\x05ab"[..], b"\x0f", b"\x00\x00", b"\x08\x01", b"\xff"] {
        assert!(from_protobuf(bad).is_err(), "{bad:?}");
    }
    for bad in ["", "[]x", r#"{"resourceLogs":1}"#, r#"{"resourceLogs":[{"scopeLogs":{}}]}"#] {
        assert!(from_json(bad.as_bytes()).is_err(), "{bad}");
    }
    assert_eq!(from_protobuf(b"").unwrap(), Lines::default());
    assert_eq!(from_json(br#"{"resourceLogs":null,"more":1}"#).unwrap(), Lines::default());
    let some = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[1,{},"x"]}]}]}"#;
    let lines = from_json(some).unwrap();
    assert_eq!(
        (lines.rejected, texts(&lines)),
        (2, vec![r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}"#.to_owned()])
    );
}

#[test]
fn what_would_become_too_much_is_rejected() {
    let record = |len: usize| format!(r#"{{"body":{{"stringValue":"{}"}}}}"#, "x".repeat(len));
    let records = [record(MAX_LINE), record(10), record(2 << 20)];
    let many = [records[2].as_str(); 8].join(",");
    let request = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{},{},{many}]}}]}}]}}"#,
        records[0], records[1]
    );
    let lines = from_json(request.as_bytes()).unwrap();
    assert_eq!((lines.spans.len(), lines.rejected), (1 + 7, 2));
    assert!(lines.bytes.len() <= MAX_LINES);
}

proptest! {
    #[test]
    fn no_bytes_upset_it(
        data in proptest::collection::vec(any::<u8>(), 0..200),
        near in proptest::collection::vec(prop::sample::select(&b"\x0a\x12\x1a\x2a\x32\x09\x10\x02\x04\x08a"[..]), 0..80),
    ) {
        for data in [&data, &near] {
            let lines = from_protobuf(data);
            for text in lines.iter().flat_map(texts) {
                prop_assert_eq!(texts(&from_json(text.as_bytes()).unwrap()), [text]);
            }
            let _ = from_json(data);
        }
    }
}
