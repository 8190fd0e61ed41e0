//! Exporters of OpenTelemetry, by requests as the specification (OTLP 1.x) has them.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
};

use logseal::site::free_ports;
use logseal_tests::{Running, wait_for};
use record::entry::Entry;
use serde_json::{Value, json};

struct Exporter(u16);

/// Status, headers and body.
pub struct Answer {
    pub status: u16,
    head: String,
    body: Vec<u8>,
}

impl Exporter {
    fn post(&self, content_type: &str, more: &str, body: &[u8]) -> Answer {
        self.ask("POST /v1/logs", &format!("Content-Type: {content_type}\r\n{more}"), body)
    }

    fn ask(&self, what: &str, headers: &str, body: &[u8]) -> Answer {
        let stream = TcpStream::connect(("127.0.0.1", self.0)).unwrap();
        ask_on(stream, what, headers, body).expect("an answer")
    }
}

/// Sends a request in JSON over a connection that may break at any moment; nothing without an
/// answer.
pub fn post_on(stream: impl Read + Write, body: &[u8]) -> Option<Answer> {
    ask_on(stream, "POST /v1/logs", "Content-Type: application/json\r\n", body)
}

/// Sends a request, and gives back its answer if there is one, whole.
fn ask_on(mut stream: impl Read + Write, what: &str, headers: &str, body: &[u8]) -> Option<Answer> {
    let head = format!(
        "{what} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    // Whoever sends too much is not read to the end, and answered all the same.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head, body: answer[end + 4..].to_vec() })
}

/// A request with these records, of one service.
pub fn request(records: &[Value]) -> Vec<u8> {
    let resource =
        json!({ "attributes": [{ "key": "service.name", "value": { "stringValue": "shop" } }] });
    let scopes = json!([{ "scope": { "name": "lib" }, "logRecords": records }]);
    let request = json!({ "resourceLogs": [{ "resource": resource, "scopeLogs": scopes }] });
    serde_json::to_vec_pretty(&request).unwrap()
}

/// A log record with this text.
pub fn log_record(text: &str) -> Value {
    let time = "1795248147000000001";
    json!({ "timeUnixNano": time, "severityNumber": 17, "body": { "stringValue": text } })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let feeding = std::thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = gzip.wait_with_output().unwrap();
    feeding.join().unwrap();
    output.stdout
}

fn running(more: &str) -> (Running, Exporter) {
    let [port] = free_ports().unwrap();
    let source = format!(
        "[[source.otlp]]\nname = \"otlp\"\nlisten = \"127.0.0.1:{port}\"\nplain = true\n{more}"
    );
    let running = Running::start(|_| source);
    wait_for("the listener", || TcpStream::connect(("127.0.0.1", port)).ok());
    (running, Exporter(port))
}

#[test]
fn a_request_is_answered_when_its_records_are_kept_and_each_is_a_record() {
    let (running, exporter) = running("format = \"kong\"\n");
    let kong = r#"{"consumer":{"username":"alice"},"request":{"method":"GET","uri":"/x"},"response":{"status":200}}"#;
    let answer = exporter.post(
        "application/json; charset=utf-8",
        "",
        &request(&[log_record(kong), log_record("two")]),
    );
    assert_eq!((answer.status, &answer.body[..]), (200, &b"{}"[..]), "{}", answer.head);
    let packed = gzip(&request(&[log_record("three")]));
    assert_eq!(
        exporter.post("application/json", "Content-Encoding: gzip\r\n", &packed).status,
        200
    );
    // {resource_logs: [{scope_logs: [{log_records: [{body: {string_value: "four"}}]}]}]}
    let protobuf = b"\x0a\x0c\x12\x0a\x12\x08\x2a\x06\x0a\x04four";
    let answer = exporter.post("application/x-protobuf", "", protobuf);
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{}", answer.head);
    assert!(answer.head.contains("content-type: application/x-protobuf"));
    let records = running.wait_records(4);
    let lines: Vec<Value> =
        records.iter().map(|record| serde_json::from_slice(&record.line).unwrap()).collect();
    let body = |line: &Value| {
        line["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["body"]["stringValue"].clone()
    };
    let bodies: Vec<Value> = lines.iter().map(body).collect();
    assert_eq!(bodies, [kong, "two", "three", "four"]);
    let entry = Entry::parse(&records[0].entry).unwrap();
    let header = String::from_utf8_lossy(entry.message().header()).into_owned();
    assert!(header.starts_with("<107>1 2026-11-21T08:02:27.000Z "), "{header}");
    assert!(header.contains(" shop "), "{header}");
    assert_eq!(entry.element().param("transport").unwrap(), "otlp-loopback");
    assert!(entry.access().iter().any(|(name, value)| *name == "user.id" && value == "alice"));
}

#[test]
fn what_cannot_be_taken_is_refused_in_the_words_of_the_protocol() {
    let (running, exporter) = running("max_request_kib = 64\n");
    let json = "application/json";
    let bomb = gzip(&vec![b' '; 50 << 20]);
    assert!(bomb.len() < 64 << 10);
    let gzipped = "Content-Encoding: gzip\r\n";
    for (answer, status) in [
        (exporter.post(json, "", b"{"), 400),
        (exporter.post("application/x-protobuf", "", b"\x0f"), 400),
        (exporter.post(json, gzipped, b"no gzip"), 400),
        (exporter.post(json, gzipped, &bomb), 413),
        (exporter.post(json, "", &vec![b' '; 65 << 10]), 413),
        (exporter.post(json, "Content-Encoding: br\r\n", b"{}"), 415),
        (exporter.post("text/plain", "", b"{}"), 415),
        (exporter.ask("GET /v1/logs", "", b""), 405),
        (exporter.ask("POST /v1/traces", "Content-Type: application/json\r\n", b"{}"), 404),
    ] {
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, status, "{} {said}", answer.head);
        assert!(!said.is_empty());
        if answer.head.contains("content-type: application/json") {
            let status: Value = serde_json::from_slice(&answer.body).unwrap();
            assert!(status["code"] == 3 && status["message"].is_string(), "{status}");
        }
    }
    let partial = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityText":"x"},7]}]}]}"#;
    let answer = exporter.post(json, "", partial);
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(said["partialSuccess"]["rejectedLogRecords"], "1");
    assert!(said["partialSuccess"]["errorMessage"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(exporter.post(json, "", b"{}").status, 200, "nothing is a success");
    assert_eq!(running.wait_records(1).len(), 1);
}

#[test]
fn exporters_elsewhere_show_who_they_are_and_nobody_else_is_let_in() {
    let [port] = free_ports().unwrap();
    let running = Running::start(|_| {
        format!("[[source.otlp]]\nname = \"otlp\"\nlisten = \"127.0.0.1:{port}\"\n")
    });
    let site = &running.site;
    let connect = || wait_for("the listener", || TcpStream::connect(("127.0.0.1", port)).ok());
    let post = |files: Option<(&Path, &Path)>, text: &str| {
        post_on(site.secure(connect(), files).ok()?, &request(&[log_record(text)]))
    };
    let files = |role, name| (site.cert(role, name), site.key(role, name));
    let (exporter, auditor) = (files("syslog-client", "web01"), files("auditor", "auditor"));
    for (files, reason) in [(None, "no certificate"), (Some(&auditor), "role")] {
        let before = running.agent.log_text().len();
        let files = files.map(|(cert, key)| (cert.as_path(), key.as_path()));
        assert!(post(files, "forged").is_none(), "{reason}");
        wait_for("a word about it", || {
            let text = running.agent.log_text().get(before..)?.to_owned();
            text.lines().any(|line| line.contains("WARN") && line.contains(reason)).then_some(())
        });
    }
    assert!(post_on(connect(), &request(&[log_record("without TLS")])).is_none());
    let answer = post(Some((&exporter.0, &exporter.1)), "genuine").expect("an answer");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"{}"[..]), "{}", answer.head);
    let records = running.wait_records(1);
    assert_eq!(records.len(), 1, "{records:?}");
    assert!(String::from_utf8_lossy(&records[0].line).contains("genuine"));
    assert_eq!(records[0].peer, "web01");
    let entry = Entry::parse(&records[0].entry).unwrap();
    assert_eq!(entry.element().param("transport"), None, "its certificate vouches for it");
}
