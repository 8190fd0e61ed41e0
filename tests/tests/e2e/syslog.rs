//! Syslog over TLS: who may send, and that every byte of what was sent is kept.

use certs::{Pki, Reason, Request, Timestamp, Validity, Which};
use logseal::site::{AgentOptions, LedgerOptions, Site, SyslogSender};
use logseal_tests::{Running, new_site, wait_for};
use std::{
    io::{Read, Write},
    path::PathBuf,
    time::SystemTime,
};

fn running() -> Running {
    Running::start(Site::syslog_source)
}

/// The certificate and key of a sender, in a role and for a time of the test's choice.
fn issue(pki: &Pki, role: &str, name: &str, validity: Validity) -> (PathBuf, PathBuf) {
    pki.issue(&Request::new(role, name, validity).unwrap()).unwrap();
    let file = |end| pki.dir().join(format!("issued/{role}-{name}.{end}"));
    (file("pem"), file("key"))
}

#[test]
fn only_a_valid_certificate_of_a_syslog_client_may_send() {
    let (dir, site) = new_site();
    let now = Timestamp::from(SystemTime::now());
    let month = Validity::days(now, 30).unwrap();
    let at = |seconds_ago| {
        Timestamp::from(SystemTime::now() - std::time::Duration::from_secs(seconds_ago))
    };
    let past = Validity { not_before: at(3600), not_after: at(1800) };
    let expired = issue(&site.pki, "syslog-client", "expired", past);
    let revoked = issue(&site.pki, "syslog-client", "revoked", month);
    let which = Which::identity("syslog-client", "revoked").unwrap();
    site.pki.revoke(&which, Reason::KeyCompromise, now).unwrap();
    let wrong_role = issue(&site.pki, "auditor", "curious", month);
    let (_other_dir, other) = new_site();
    let foreign = (other.cert("syslog-client", "web01"), other.key("syslog-client", "web01"));
    let running = Running::on(dir, site, LedgerOptions::default(), |s| {
        AgentOptions::new("gw01", s.syslog_source())
    });
    let cases = [
        (None, "no certificate"),
        (Some(expired), "expired"),
        (Some(revoked), "revoked"),
        (Some(foreign), "CA"),
        (Some(wrong_role), "role"),
    ];
    for (files, reason) in cases {
        let files = files.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        let before = running.agent.log_text().len();
        // With TLS 1.3 a client learns of its refusal only after its own handshake is over.
        let refused = SyslogSender::connect_as(&running.site, files).and_then(|mut sender| {
            let _ = sender.send(b"<13>1 - - - - - - forged");
            sender.wait_closed()
        });
        assert!(refused.is_err(), "{reason}");
        let text = wait_for("a word about it", || {
            let text = running.agent.log_text().get(before..)?.to_owned();
            text.contains("WARN").then_some(text)
        });
        assert!(text.contains(reason), "{reason}: {text}");
    }
    let mut sender = SyslogSender::connect(&running.site, "web01").unwrap();
    sender.send(b"<13>1 - - - - - - genuine").unwrap();
    sender.close().unwrap();
    let records = running.wait_records(1);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].line, b"<13>1 - - - - - - genuine");
    assert!(records[0].peer.contains("web01"), "{}", records[0].peer);
}

#[test]
fn plaintext_on_the_tls_port_is_refused_and_named() {
    let running = running();
    let mut stream = running.site.reach_syslog().unwrap();
    stream.write_all(b"<13>Nov 21 08:00:00 host program: spoofed\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    wait_for("the agent to name it", || running.agent.log_text().contains("TLS").then_some(()));
    assert!(running.records().is_empty());
}

#[test]
fn messages_of_every_kind_are_kept_byte_for_byte() {
    let running = running();
    let big: Vec<u8> = b"<13>1 - - - - - - "
        .iter()
        .copied()
        .chain((0..70u32 << 10).map(|i| (i % 251) as u8))
        .collect();
    let messages: Vec<Vec<u8>> = vec![
        b"<34>1 2003-10-11T22:14:15.003Z host su - ID47 - \xef\xbb\xbfwith BOM ".to_vec(),
        b"<165>1 2003-10-11T22:14:15.003Z h e - - [x@1 a=\"\\]\"][y@2] trailing\t ".to_vec(),
        b"<34>Oct 11 22:14:15 mymachine su: old style".to_vec(),
        b"no priority".to_vec(),
        b"<13>1 - - - - - - NUL \x00 and \x01\x1b[31m and \xff\xfe invalid".to_vec(),
        b"<13>1 - - - - - - two\nlines\r".to_vec(),
        b"<13>1 - - - - - [broken".to_vec(),
        big,
    ];
    let mut sender = SyslogSender::connect(&running.site, "web01").unwrap();
    for message in &messages {
        sender.send(message).unwrap();
    }
    // A line feed inside the count, as rsyslog and syslog-ng put it, is not part of the message;
    // framing by line feed may be mixed with counting.
    sender.send_raw(b"26 <13>1 - - - - - - counted\n<13>1 - - - - - - LF framed\n\n27 <13>1 - - - - - - counted 2").unwrap();
    sender.close().unwrap();
    running.wait_records(messages.len() + 4);
    let lines = running.lines("syslog");
    assert_eq!(lines[..messages.len()], messages[..]);
    let rest: Vec<_> = lines[messages.len()..].iter().map(|l| String::from_utf8_lossy(l)).collect();
    assert_eq!(
        rest,
        ["<13>1 - - - - - - counted", "<13>1 - - - - - - LF framed", "<13>1 - - - - - - counted 2"]
    );
}

#[test]
fn a_count_that_lies_is_huge_or_never_ends_costs_no_message() {
    let running = running();
    let connect = || SyslogSender::connect(&running.site, "web01").unwrap();
    let good = b"25 <13>1 - - - - - - before.";
    let mut lying = connect();
    lying.send_raw(good).unwrap();
    lying.send_raw(b"5 <13>1 - - - - - - short count\n").unwrap();
    lying.close().unwrap();
    let mut huge = connect();
    huge.send_raw(good).unwrap();
    let _ = huge.send_raw(b"99999999 <13>1 - - - - - - huge");
    assert!(huge.wait_closed().is_ok() || running.agent.log_text().contains("99999999"));
    let mut endless = connect();
    endless.send_raw(good).unwrap();
    let noise = vec![b'x'; 64 << 10];
    let ended = (0..200).any(|_| endless.send_raw(&noise).is_err());
    assert!(ended, "a message that never ends must not be read for ever");
    let mut cut = connect();
    cut.send_raw(good).unwrap();
    cut.send_raw(b"500 <13>1 - - - - - - cut off").unwrap();
    cut.close().unwrap();
    let lines = wait_for("all that was sent", || {
        let lines = running.lines("syslog");
        let whole = lines.iter().filter(|l| *l == b"<13>1 - - - - - - before.").count();
        let cut = lines.iter().any(|l| l == b"<13>1 - - - - - - cut off");
        (whole == 4 && cut).then_some(lines)
    });
    let lied: Vec<&[u8]> = lines
        .iter()
        .map(Vec::as_slice)
        .filter(|l| l.starts_with(b"<13>1") && l.len() == 5 || l.ends_with(b"short count"))
        .collect();
    assert_eq!(lied.concat(), b"<13>1 - - - - - - short count");
    let log = running.agent.log_text();
    assert!(log.contains("99999999") && log.contains("web01"), "{log}");
}
