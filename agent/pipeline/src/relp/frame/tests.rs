use super::*;
use proptest::prelude::*;

const LIMIT: usize = 40;

fn decode<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    super::decode(parts, LIMIT)
}

#[test]
fn the_frames_of_a_stock_sender_are_read() {
    let input = b"1 open 14 relp_version=0\n2 syslog 6 <13>a\n\n3 syslog 0\n4 close 0\n";
    let (frames, error) = decode([&input[..]]);
    assert_eq!(error, None);
    assert_eq!(
        frames,
        [
            (1, Command::Open, b"relp_version=0".to_vec()),
            (2, Command::Syslog, b"<13>a\n".to_vec()),
            (3, Command::Syslog, vec![]),
            (4, Command::Close, vec![]),
        ]
    );
    let other = decode([&b"999999999 starttls 2 \n\n\n"[..]]);
    assert_eq!(other, (vec![(MAX_TXNR, Command::Other, b"\n\n".to_vec())], None));
}

#[test]
fn what_is_no_frame_is_found_out_at_once_and_named() {
    let error = |input: &[u8]| decode([input]).1;
    for header in [
        &b"<13>1 plain syslog"[..],
        b"GET / HTTP/1.1",
        b"\x16\x03\x01",
        b" 1 syslog 1 a\n",
        b"1234567890",
        b"1  syslog 1 a\n",
        b"1 sys1og 1 a\n",
        b"1 syslog x",
        b"1 syslog 1\n",
        b"1 syslog 0 \n",
        b"1 syslog 1234567890",
        b"1 abcdefghijabcdefghijabcdefghijabc",
    ] {
        let shown = String::from_utf8_lossy(header);
        assert_eq!(error(header), Some(RelpFrameError::Header), "{shown}");
    }
    let limit = LIMIT + 1;
    let too_long = RelpFrameError::TooLong { txnr: 7, length: 42, limit };
    assert_eq!(error(b"7 syslog 42 "), Some(too_long));
    assert_eq!(error(b"7 syslog 41 "), None, "a line feed more than the longest message");
    let huge = RelpFrameError::TooLong { txnr: 7, length: 5000, limit: MAX_OFFERS };
    assert_eq!(error(b"7 open 5000 "), Some(huge));
    assert_eq!(error(b"7 syslog 1 ab"), Some(RelpFrameError::Trailer { txnr: 7 }));
    for partial in [&b""[..], b"1", b"1 ", b"1 sys", b"1 syslog ", b"1 syslog 12", b"1 syslog 2 a"]
    {
        assert_eq!(error(partial), None);
    }
}

#[test]
fn answers_are_frames_too() {
    let mut out = Vec::new();
    write_ok(&mut out, 1);
    write_ok(&mut out, MAX_TXNR);
    write_answer(&mut out, 10, "");
    write_server_close(&mut out);
    let expected = "1 rsp 6 200 OK\n999999999 rsp 6 200 OK\n10 rsp 0\n0 serverclose 0\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

fn frame_bytes() -> impl Strategy<Value = Vec<u8>> {
    let command = prop_oneof![Just("syslog"), Just("open"), Just("close"), Just("noop")];
    (0..=MAX_TXNR, command, proptest::collection::vec(any::<u8>(), 0..=LIMIT)).prop_map(
        |(txnr, command, data)| {
            let mut out = format!("{txnr} {command} {}", data.len()).into_bytes();
            if !data.is_empty() {
                out.push(b' ');
                out.extend_from_slice(&data);
            }
            out.push(b'\n');
            out
        },
    )
}

proptest! {
    #[test]
    fn frames_do_not_depend_on_reads(
        frames in proptest::collection::vec(frame_bytes(), 0..8),
        noise in proptest::collection::vec(any::<u8>(), 0..20),
        size in 1usize..30,
    ) {
        let input = [frames.concat(), noise].concat();
        let whole = decode([&input[..]]);
        prop_assert!(whole.0.len() >= frames.len());
        prop_assert_eq!(decode(input.chunks(size)), whole);
    }
}
