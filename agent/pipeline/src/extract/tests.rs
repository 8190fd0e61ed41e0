//! Lines of each gateway, and what must come of them.

use super::*;

/// The time and the fields of a line, in one text each.
fn extracted(format: Format, line: &str) -> Vec<String> {
    shown(&Extractor::new(format, &UserTable::default()).unwrap(), line)
}

fn shown(extractor: &Extractor, line: &str) -> Vec<String> {
    let access = extractor.extract(line.as_bytes());
    let time = access.time.map(|time| format!("time={time}"));
    let fields = access.fields.iter().map(|(name, value)| format!("{name}={value}"));
    time.into_iter().chain(fields).collect()
}

const KONG: &str = r#"{"request":{"uri":"/v1/household/A123456789?full=1","method":"GET","id":"f3d1","headers":{"host":"api.city.example","x-purpose":"\u6236\u7c4d\u67e5\u8a62","x-subject":"A123456789","accept":["a","b"]},"size":75},"response":{"status":200,"headers":{"content-type":"application/json"},"size":1403},"latencies":{"proxy":10,"kong":2,"request":12.5},"client_ip":"10.1.2.3","consumer":{"username":"clerk07","id":"0f1e"},"route":{"name":"household-read","id":"aa"},"started_at":1795248147125}"#;

#[test]
fn a_kong_line_tells_who_looked_at_whom_and_why() {
    assert_eq!(
        extracted(Format::Kong, KONG),
        [
            "time=2026-11-21T08:02:27.125Z",
            "user.id=clerk07",
            "source.ip=10.1.2.3",
            "http.request.method=GET",
            "url.path=/v1/household/A123456789",
            "http.response.status_code=200",
            "event.duration=12500000",
            "purpose=戶籍查詢",
            "subject=A123456789",
            "transaction.id=f3d1",
            "action=household-read",
        ]
    );
}

#[test]
fn a_field_of_an_odd_type_does_not_cost_the_others() {
    let line = r#"{"request":{"method":7,"uri":["/a?b"],"headers":{"x-purpose":{"a":[1]}}},"response":{"status":"204"},"client_ip":null,"consumer":{"id":true}}"#;
    let wanted = ["http.request.method=7", "url.path=/a", "http.response.status_code=204"];
    assert_eq!(extracted(Format::Kong, line), wanted);
}

#[test]
fn a_combined_line_tells_who_asked_for_what() {
    let line = r#"10.1.2.3 - clerk07 [21/Nov/2026:16:02:27 +0800] "GET /v1/household/A1?x=1 HTTP/1.1" 200 512 "-" "curl/8.0 \x22q\x22""#;
    for format in [Format::NginxCombined, Format::Clf] {
        assert_eq!(
            extracted(format, line),
            [
                "time=2026-11-21T08:02:27.000Z",
                "user.id=clerk07",
                "source.ip=10.1.2.3",
                "http.request.method=GET",
                "url.path=/v1/household/A1",
                "http.response.status_code=200",
            ]
        );
    }
}
