//! Lines of each gateway, and what must come of them.

use super::*;

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

/// The rest as nginx 1.22, Apache 2.4.71 and HAProxy 2.6 wrote it, asked with odd names and agents.
#[test]
fn what_nginx_escapes_comes_back_and_is_never_taken_for_another_part() {
    let line = r#"127.0.0.1 - clerk\x2207 [x [21/Nov/2026:14:59:29 +0000] "GET /v1/\xE6\x88\xB6/A1?x=\x221\x22 HTTP/1.1" 200 3 "-" "cu\x22rl\x22 [1] \x22GET / HTTP/1.1\x22 500""#;
    assert_eq!(
        extracted(Format::NginxCombined, line),
        [
            "time=2026-11-21T14:59:29.000Z",
            "user.id=clerk\"07 [x",
            "source.ip=127.0.0.1",
            "http.request.method=GET",
            "url.path=/v1/戶/A1",
            "http.response.status_code=200",
        ]
    );
    let line = r#"{"msec":"1795273169.186","remote_addr":"127.0.0.1","remote_user":"clerk\"07 [x","request_method":"GET","request_uri":"/v1/household/A1?x=\"1\"","status":"200","request_time":"0.012","request_id":"af3e688a9e070a812575c5d04eff54d4","http_x_purpose":"戶籍查詢","http_x_subject":"A123456789","http_x_transaction_id":"t-1","http_x_action":"","http_x_items":"name,address","http_x_party":"\"city\\hall\""}"#;
    assert_eq!(
        extracted(Format::NginxJson, line),
        [
            "time=2026-11-21T14:59:29.186Z",
            "user.id=clerk\"07 [x",
            "source.ip=127.0.0.1",
            "http.request.method=GET",
            "url.path=/v1/household/A1",
            "http.response.status_code=200",
            "event.duration=12000000",
            "purpose=戶籍查詢",
            "subject=A123456789",
            "transaction.id=t-1",
            "items=name,address",
            "party=\"city\\hall\"",
        ]
    );
}

#[test]
fn a_request_that_is_none_leaves_the_rest() {
    let line = r#"::1 - - [01/Jan/2024:00:00:00 -0330] "\x16\x03" 400 0 "-" "-""#;
    let wanted =
        ["time=2024-01-01T03:30:00.000Z", "source.ip=::1", "http.response.status_code=400"];
    assert_eq!(extracted(Format::NginxCombined, line), wanted);
}

#[test]
fn apaches_common_and_combined_formats_are_read() {
    for tail in [r#" "-" "cu\"rl\" \\x""#, ""] {
        let line =
            r#"127.0.0.1 - - [21/Nov/2026:14:59:29 +0000] "GET /v1/\"x\"?y=1 HTTP/1.1" 404 236"#;
        assert_eq!(
            extracted(Format::Clf, &format!("{line}{tail}")),
            [
                "time=2026-11-21T14:59:29.000Z",
                "source.ip=127.0.0.1",
                "http.request.method=GET",
                "url.path=/v1/\"x\"",
                "http.response.status_code=404",
            ]
        );
    }
}

#[test]
fn an_apisix_line_is_read() {
    let line = r#"{"apisix_latency":18.00001335144,"service_id":"","server":{"version":"3.7.0","hostname":"localhost"},"request":{"method":"GET","headers":{"connection":"close","host":"localhost","x-purpose":"audit","x-request-id":"77b1"},"url":"http://localhost:1984/v1/a?b","size":65,"querystring":{"b":true},"uri":"/v1/a?b"},"start_time":1704527399740,"client_ip":"127.0.0.1","response":{"status":200,"size":136,"headers":{"server":"APISIX/3.7.0"}},"upstream":"127.0.0.1:1982","route_id":"1","upstream_latency":12,"latency":30.5,"consumer":{"username":"clerk07"}}"#;
    assert_eq!(
        extracted(Format::Apisix, line),
        [
            "time=2024-01-06T07:49:59.740Z",
            "user.id=clerk07",
            "source.ip=127.0.0.1",
            "http.request.method=GET",
            "url.path=/v1/a",
            "http.response.status_code=200",
            "event.duration=30500000",
            "purpose=audit",
            "transaction.id=77b1",
            "action=1",
        ]
    );
    // What the plugin writes if only its metadata is set.
    let line = r#"{"host":"localhost","@timestamp":"2020-09-23T19:05:05-04:00","client_ip":"127.0.0.1","route_id":"1"}"#;
    let wanted = ["time=2020-09-23T23:05:05.000Z", "source.ip=127.0.0.1", "action=1"];
    assert_eq!(extracted(Format::Apisix, line), wanted);
}

#[test]
fn envoys_default_line_is_read() {
    let line = r#"[2016-04-15T20:17:00.310Z] "POST /api/v1/locations HTTP/2" 204 - 154 0 226 100 "9.9.9.9,10.0.35.28" "nsq2http" "cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2" "locations" "tcp://10.0.2.1:80""#;
    assert_eq!(
        extracted(Format::Envoy, line),
        [
            "time=2016-04-15T20:17:00.310Z",
            "source.ip=10.0.35.28",
            "http.request.method=POST",
            "url.path=/api/v1/locations",
            "http.response.status_code=204",
            "event.duration=226000000",
            "transaction.id=cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2",
        ]
    );
}

#[test]
fn envoys_json_is_read_as_istio_and_envoy_gateway_write_it() {
    let istio = r#"{"bytes_sent":502,"downstream_remote_address":"172.17.0.1:48499","authority":"catalog.istioinaction.io","path":"/items?x=1","protocol":"HTTP/1.1","duration":420,"route_name":null,"user_agent":"curl/7.86.0","response_code":200,"response_flags":"-","start_time":"2023-03-23T04:09:46.421Z","method":"GET","request_id":"722ef34b-553e-9b82-8a73-a716de0b14fc","x_forwarded_for":"9.9.9.9","user_id":"clerk07","x_purpose":"-","x_subject":"A1"}"#;
    assert_eq!(
        extracted(Format::EnvoyJson, istio),
        [
            "time=2023-03-23T04:09:46.421Z",
            "user.id=clerk07",
            "source.ip=172.17.0.1",
            "http.request.method=GET",
            "url.path=/items",
            "http.response.status_code=200",
            "event.duration=420000000",
            "subject=A1",
            "transaction.id=722ef34b-553e-9b82-8a73-a716de0b14fc",
        ]
    );
    let gateway = r#"{":authority":"reviews:9080","downstream_remote_address":"10.244.0.44:40937","duration":0,"method":"GET","response_code":429,"route_name":"httproute/default/reviews/rule/0","start_time":"2025-05-01T08:34:27.573Z","x-envoy-origin-path":"/reviews/0","x-forwarded-for":null,"x-request-id":"c5"}"#;
    assert_eq!(
        extracted(Format::EnvoyJson, gateway),
        [
            "time=2025-05-01T08:34:27.573Z",
            "source.ip=10.244.0.44",
            "http.request.method=GET",
            "url.path=/reviews/0",
            "http.response.status_code=429",
            "event.duration=0",
            "transaction.id=c5",
            "action=httproute/default/reviews/rule/0",
        ]
    );
}

#[test]
fn traefiks_json_is_read() {
    let line = r#"{"ClientAddr":"142.93.236.18:41694","ClientHost":"142.93.236.18","ClientPort":"41694","ClientUsername":"-","DownstreamContentSize":19,"DownstreamStatus":404,"Duration":176911,"Overhead":176911,"RequestAddr":"3.252.206.74:443","RequestMethod":"GET","RequestPath":"/a?b=1","RequestProtocol":"HTTP/1.1","RouterName":"house@file","StartLocal":"2023-07-18T08:03:58.009808429Z","StartUTC":"2023-07-18T08:03:58.009808429Z","level":"info","msg":"","request_X-Purpose":"audit","time":"2023-07-18T08:03:58Z"}"#;
    assert_eq!(
        extracted(Format::TraefikJson, line),
        [
            "time=2023-07-18T08:03:58.009Z",
            "source.ip=142.93.236.18",
            "http.request.method=GET",
            "url.path=/a",
            "http.response.status_code=404",
            "event.duration=176911",
            "purpose=audit",
            "action=house@file",
        ]
    );
}

#[test]
fn traefiks_common_log_format_is_read() {
    let line = r#"10.1.2.3 - clerk07 [21/Nov/2026:08:02:27 +0000] "GET /v1/a?b HTTP/2.0" 200 1403 "-" "curl/8.0" 42 "house@file" "http://10.0.0.7:80" 12ms"#;
    assert_eq!(
        extracted(Format::Traefik, line),
        [
            "time=2026-11-21T08:02:27.000Z",
            "user.id=clerk07",
            "source.ip=10.1.2.3",
            "http.request.method=GET",
            "url.path=/v1/a",
            "http.response.status_code=200",
            "event.duration=12000000",
            "action=house@file",
        ]
    );
    let refused =
        r#"10.1.2.3 - - [21/Nov/2026:08:02:27 +0000] "GET / HTTP/1.1" - - "-" "-" 7 - - 0ms"#;
    assert_eq!(extracted(Format::Traefik, refused).len(), 5);
}

#[test]
fn haproxys_line_is_read_with_and_without_what_stands_around_it() {
    let documented = r#"10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /index.html HTTP/1.1""#;
    for front in ["", "Feb  6 12:14:14 localhost haproxy[14389]: "] {
        assert_eq!(
            extracted(Format::Haproxy, &format!("{front}{documented}")),
            [
                "source.ip=10.0.1.2",
                "http.request.method=GET",
                "url.path=/index.html",
                "http.response.status_code=200",
                "event.duration=109000000",
            ]
        );
    }
    let bad = r#"::1:39222 [21/Nov/2026:14:59:29.426] api~ api/<NOSRV> -1/-1/-1/-1/+5 400 +187 - - PR-- 1/1/0/0/0 0/0 "<BADREQ>" 0/0000000000000000/0/0/0 -/TLSv1.3/X"#;
    let wanted = ["source.ip=::1", "http.response.status_code=400", "event.duration=5000000"];
    assert_eq!(extracted(Format::Haproxy, bad), wanted);
    let tcp =
        "10.0.1.2:33313 [06/Feb/2009:12:12:51.443] fnt bck/srv1 0/0/5007 212 -- 0/0/0/0/3 0/0";
    assert!(extracted(Format::Haproxy, tcp).is_empty());
}

#[test]
fn haproxys_captured_headers_become_fields_by_their_place() {
    let line = r#"127.0.0.1:39222 [21/Nov/2026:14:59:29.426] api households/<NOSRV> 0/-1/-1/-1/0 200 73 - - LR-- 1/1/0/0/0 0/0 {clerk07|#E6#88#B6#E7#B1#8D#7C#E6#9F#A5#7B#E8#A9#A2#7D#22 #231|A1|} "GET /v1/household/A1?x=#221#22 HTTP/1.1""#;
    let own = user(&[("user.id", "request_header.1"), ("purpose", "request_header.2")]);
    let extractor = Extractor::new(Format::Haproxy, &own).unwrap();
    assert_eq!(
        shown(&extractor, line),
        [
            "user.id=clerk07",
            "source.ip=127.0.0.1",
            "http.request.method=GET",
            "url.path=/v1/household/A1",
            "http.response.status_code=200",
            "event.duration=0",
            "purpose=戶籍|查{詢}\" #1",
        ]
    );
}

#[test]
fn an_api_gateway_line_of_aws_is_read() {
    let line = r#"{"requestId":"c6af9ac6-7b61-11e6-9a41-93e8deadbeef","ip":"198.51.100.7","caller":"-","user":"-","principalId":"clerk07","requestTime":"21/Nov/2026:08:02:27 +0000","requestTimeEpoch":"1795248147125","httpMethod":"GET","resourcePath":"/household/{id}","path":"/prod/household/A1","status":"200","protocol":"HTTP/1.1","responseLength":"1403","responseLatency":"12","purpose":"audit"}"#;
    assert_eq!(
        extracted(Format::AwsApigw, line),
        [
            "time=2026-11-21T08:02:27.125Z",
            "user.id=clerk07",
            "source.ip=198.51.100.7",
            "http.request.method=GET",
            "url.path=/prod/household/A1",
            "http.response.status_code=200",
            "event.duration=12000000",
            "purpose=audit",
            "transaction.id=c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "action=/household/{id}",
        ]
    );
}

#[test]
fn a_caddy_line_is_read() {
    let line = r#"{"level":"info","ts":1646861401.5241024,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":"127.0.0.1","remote_port":"41342","client_ip":"10.1.2.3","proto":"HTTP/2.0","method":"GET","host":"localhost","uri":"/a?b","headers":{"User-Agent":["curl/7.82.0"],"X-Purpose":["audit"]}},"bytes_read":0,"user_id":"clerk07","duration":0.000929675,"size":10900,"status":200}"#;
    assert_eq!(
        extracted(Format::Caddy, line),
        [
            "time=2022-03-09T21:30:01.524Z",
            "user.id=clerk07",
            "source.ip=10.1.2.3",
            "http.request.method=GET",
            "url.path=/a",
            "http.response.status_code=200",
            "event.duration=929675",
            "purpose=audit",
        ]
    );
}

/// Envoy and Traefik escape nothing in their text formats: a client may write the end of a value, and
/// whatever it likes behind it.
#[test]
fn a_line_that_could_mean_anything_has_no_fields() {
    let envoy = |agent: &str| {
        format!(
            r#"[2016-04-15T20:17:00.310Z] "GET / HTTP/2" 403 - 0 0 1 - "10.0.35.28" "{agent}" "id" "a" "-""#
        )
    };
    assert_eq!(extracted(Format::Envoy, &envoy("curl")).len(), 7);
    assert!(extracted(Format::Envoy, &envoy(r#"x" "forged" "a" "-"#)).is_empty());
    let traefik = |path: &str| {
        format!(
            r#"10.1.2.3 - - [21/Nov/2026:08:02:27 +0000] "GET {path} HTTP/2.0" 403 0 "-" "-" 42 "r" "u" 12ms"#
        )
    };
    assert_eq!(extracted(Format::Traefik, &traefik("/a")).len(), 7);
    let forged = r#"/a HTTP/1.1" 200 0 "-" "-" 42 "r" "u" 12ms"#;
    assert!(extracted(Format::Traefik, &traefik(forged)).is_empty());
}

#[test]
fn a_byte_that_is_no_utf_8_costs_only_itself() {
    let line = b"{\"remote_addr\":\"10.1.2.3\",\"http_x_purpose\":\"a\xff\",\"agent\":\"\xfe\"}";
    let extractor = Extractor::new(Format::NginxJson, &UserTable::default()).unwrap();
    let access = extractor.extract(line);
    let wanted = [("source.ip", "10.1.2.3".into()), ("purpose", "a\u{fffd}".into())];
    assert_eq!(access.fields, wanted);
}

#[test]
fn a_line_of_another_format_has_no_fields() {
    for format in
        Format::ALL.into_iter().filter(|format| !matches!(format, Format::Json | Format::Regex))
    {
        for line in
            ["", "plain", "[1]", "{}", "{\"request\":", "{}{}", "\u{0}", "\"\"", "1 2 [3] \"4\" 5"]
        {
            assert!(extracted(format, line).is_empty(), "{format}: {line}");
        }
    }
}

/// `docs/gateways.md` names every place that is looked at, and every part of a text format.
#[test]
fn every_place_is_in_the_documentation() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/gateways.md");
    let page = std::fs::read_to_string(page).unwrap();
    for format in Format::ALL {
        assert!(page.contains(&format!("`{format}`")), "{format}");
        let (shape, table) = format.shape();
        let parts = match shape {
            format::Shape::Text(text) => text.parts,
            _ => &[],
        };
        let places = table.iter().flat_map(|entry| entry.from).chain(parts);
        // Of numbered parts the first and the last are named.
        for place in places.filter(|place| !place.contains("_header.")) {
            assert!(page.contains(&format!("`{place}`")), "{format}: {place}");
        }
    }
}
