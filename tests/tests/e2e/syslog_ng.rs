//! A stock syslog-ng with the drop-in as it is shipped.

use crate::rsyslog::send;
use logseal::site::Site;
use logseal_tests::{Running, syslog_ng, wait_for};
use record::entry::Message;
use std::net::TcpStream;

/// MSG of a line, without the byte order mark that syslog-ng puts in front of UTF-8.
fn text(line: &[u8]) -> Vec<u8> {
    let message = Message::parse(line).expect("syslog-ng writes RFC 5424");
    let text = message.msg();
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).to_vec()
}

fn messages() -> Vec<Vec<u8>> {
    let long = "y".repeat(64 << 10);
    let text = |n: usize| match n % 5 {
        0 => format!("plain text {n}"),
        1 => format!("a line\nand another of message {n}\n\nwith an empty one"),
        2 => format!("戶籍 {n}, blanks   "),
        3 => format!("tab\there, {{\"json\":\"\\u{n:04}\",\"n\":{n}}}"),
        _ if n % 100 == 99 => format!("{long} {n}"),
        _ => format!("\u{feff}mark {n}"),
    };
    (0..500).map(|n| text(n).into_bytes()).collect()
}

/// Sends all messages through syslog-ng and waits until each has arrived, once and in order.
fn carries(destination: impl FnOnce(&Site) -> String, messages: &[Vec<u8>]) {
    let running = Running::start(Site::syslog_source);
    let syslog_ng = syslog_ng::start(&running.site, &destination(&running.site));
    let framed: Vec<Vec<u8>> = messages
        .iter()
        .enumerate()
        .map(|(n, text)| {
            let head = format!("<134>1 2026-11-21T08:00:00.{n:06}+00:00 web01 app 77 ID{n} - ");
            [head.as_bytes(), text].concat()
        })
        .collect();
    let mut stream = TcpStream::connect(("127.0.0.1", syslog_ng.port)).unwrap();
    send(&mut stream, &framed);
    let found = wait_for("all messages", || {
        let lines = running.lines("syslog");
        let ours = lines.iter().filter(|line| line.starts_with(b"<134>1 ")).map(|line| text(line));
        let ours: Vec<_> = ours.collect();
        (ours.len() >= messages.len()).then_some(ours)
    });
    for (n, (found, sent)) in found.iter().zip(messages).enumerate() {
        let sent = sent.strip_prefix(b"\xef\xbb\xbf").unwrap_or(sent);
        assert_eq!(found.escape_ascii().to_string(), sent.escape_ascii().to_string(), "{n}");
    }
    assert_eq!(found.len(), messages.len(), "each exactly once");
}

#[test]
fn messages_of_a_stock_syslog_ng_arrive_whole_once_and_in_order() {
    carries(syslog_ng::drop_in, &messages());
}

#[test]
fn its_network_driver_works_as_well_for_messages_of_one_line() {
    let network = |site: &Site| {
        let drop_in = syslog_ng::drop_in(site);
        let driver = "syslog(\"127.0.0.1\"";
        assert!(drop_in.contains(driver));
        drop_in.replace(driver, "network(\"127.0.0.1\" flags(syslog-protocol)")
    };
    let one_line = |text: &Vec<u8>| !text.contains(&b'\n');
    carries(network, &messages().into_iter().filter(one_line).collect::<Vec<_>>());
}
