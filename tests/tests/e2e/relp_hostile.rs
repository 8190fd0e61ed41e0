//! Clients that mean harm: they neither stop other sources nor make the agent grow.

use crate::relp::{lasting_port, plain_source};
use logseal_tests::{Running, kong_source, wait_for};
use std::{
    fs::{self, OpenOptions},
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Memory that the agent may have in the end: 64 MiB of budget, and what it has anyway.
const MOST_MIB: u64 = 160;

const OPEN: &[u8] = b"1 open 30 relp_version=0\ncommands=syslog\n";

fn resident_mib(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.agent.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn connect(port: u16) -> TcpStream {
    let stream = wait_for("the port", || TcpStream::connect(("127.0.0.1", port)).ok());
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    stream
}

/// A well-behaved client's message is stored and answered, and a line of a file arrives.
fn others_go_on(running: &Running, port: u16, name: &str) {
    let mut stream = connect(port);
    stream.set_read_timeout(Some(logseal_tests::LIMIT)).unwrap();
    stream.write_all(OPEN).unwrap();
    stream.write_all(format!("2 syslog {} {name}\n\n", name.len() + 1).as_bytes()).unwrap();
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("2 rsp 6 200 OK\n") {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "closed: {}", running.agent.log_tail());
        got.extend_from_slice(&buffer[..read]);
    }
    stream.write_all(b"3 close 0\n").unwrap();
    let path = running.site.path("kong.log");
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    writeln!(file, "line {name}").unwrap();
    let line = format!("line {name}").into_bytes();
    wait_for("the file's line", || running.lines("kong").contains(&line).then_some(()));
}

#[test]
fn hostile_clients_stop_nobody_and_take_no_memory() {
    let port = lasting_port();
    let running =
        Running::start(|site| kong_source(site) + &plain_source(port) + "max_connections = 48\n");
    others_go_on(&running, port, "before");

    // Large messages that never end, more than the budget has room for.
    let piece = vec![b'x'; 1 << 20];
    let mut large: Vec<TcpStream> = (0..40).map(|_| connect(port)).collect();
    for stream in &mut large {
        stream.write_all(OPEN).unwrap();
        stream.write_all(b"2 syslog 3000000 ").unwrap();
    }
    for stream in &mut large {
        // Whoever is not read any more cannot write: that is the point.
        let _ = stream.write_all(&piece).and_then(|()| stream.write_all(&piece));
    }
    others_go_on(&running, port, "large");
    drop(large);

    // Frames that announce too much, that come octet by octet, and what is no RELP at all.
    for bad in [&b"2 syslog 999999999 "[..], b"2 syslog 99999999999 ", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = connect(port);
        stream.set_read_timeout(Some(logseal_tests::LIMIT)).unwrap();
        stream.write_all(OPEN).unwrap();
        stream.write_all(bad).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.ends_with(b"0 serverclose 0\n"), "{}", String::from_utf8_lossy(&rest));
    }
    let mut slow: Vec<TcpStream> = (0..20).map(|_| connect(port)).collect();
    for octet in OPEN.chunks(1).chain(b"2 syslog 100 slow".chunks(1)) {
        slow.iter_mut().for_each(|stream| {
            let _ = stream.write_all(octet);
        });
    }
    others_go_on(&running, port, "slow");
    drop(slow);

    // Ten thousand connections that say nothing; a thousand at a time of them stay half open.
    let mut open = Vec::new();
    for count in 0..10_000 {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
            open.push(stream);
        }
        if count % 1000 == 999 {
            open.clear();
        }
    }
    drop(open);
    wait_for("a place", || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(OPEN).ok()?;
        stream.read_exact(&mut [0; 6]).ok()
    });
    others_go_on(&running, port, "after");
    let mib = resident_mib(&running);
    assert!(mib < MOST_MIB, "the agent had {mib} MiB");
    std::io::stderr()
        .write_all(format!("hostile clients: the agent had {mib} MiB\n").as_bytes())
        .unwrap();
}
