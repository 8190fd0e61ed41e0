//! Shadow mode in the program: senders of either framing, and what must not disturb the agent.

use std::{fs::OpenOptions, io::Write, net::TcpListener, path::Path};

use logseal_agent::shadow::folder::load_all;
use pipeline::shadow::{Report, Verdict};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UdpSocket},
};

use crate::{
    fake_node::{Ledger, Mood},
    process::{Agent, enrolled},
    support::*,
};

const LINES: usize = 500;

fn line(index: usize) -> String {
    format!("{index:06} GET /v1/household/{}", index * 7919)
}

/// A port on loopback that nobody uses.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn sum(dir: &Path) -> Report {
    load_all(dir, |_| true).map(|(reports, _)| Verdict::of(&reports).sum).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_by_tcp_and_udp_are_compared_in_every_framing() {
    let ledger = Ledger::new();
    let (mut machine, _node) = enrolled(&ledger, Mood::Honest).await;
    let (port, dir) = (free_port(), machine.dir.path().join("lib/shadow"));
    machine.text.push_str(&format!(
        "[shadow]\ntcp = \"127.0.0.1:{port}\"\nudp = \"127.0.0.1:{port}\"\ndir = {dir:?}\n\
         settle_s = 1\nperiod_s = 1\n"
    ));
    let path = machine.dir.path().join("log/access.log");
    let mut log = OpenOptions::new().append(true).open(&path).unwrap();
    let agent = Agent::start(&machine.file());
    until("the agent listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let lines: Vec<String> = (0..LINES).map(line).collect();
    log.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let mut counted = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut ended = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for (index, line) in lines.iter().enumerate() {
        let new = format!("<134>1 2026-11-21T08:00:00Z gw01 kong - - - {line}");
        let old = format!("<134>Nov 21 08:00:00 gw01 kong: {line}\n");
        match index % 3 {
            0 => counted.write_all(format!("{} {new}", new.len()).as_bytes()).await.unwrap(),
            1 => ended.write_all(old.as_bytes()).await.unwrap(),
            _ => drop(datagrams.send_to(old.as_bytes(), ("127.0.0.1", port)).await.unwrap()),
        }
    }
    until("all lines are paired", || sum(&dir).delivered == LINES as u64).await;
    until("and in the ledger", || sum(&dir).sealed.in_ledger == LINES as u64).await;
    agent.signal(rustix::process::Signal::TERM);
    let (code, said) = agent.end();
    assert_eq!(code, Some(0), "{said}");
    let told = sum(&dir);
    assert_eq!((told.old_feed.lines, told.lost, told.only_there), (LINES as u64, 0, 0));
    assert!(said.contains("the old way lost none of"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_cannot_run_does_not_keep_the_agent_from_sealing() {
    let ledger = Ledger::new();
    let (mut machine, _node) = enrolled(&ledger, Mood::Honest).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, dir) = (taken.local_addr().unwrap(), machine.dir.path().join("lib/shadow"));
    machine.text.push_str(&format!("[shadow]\ntcp = \"{address}\"\ndir = {dir:?}\n"));
    std::fs::write(machine.dir.path().join("log/access.log"), "a line\n").unwrap();
    let agent = Agent::start(&machine.file());
    until("the line is in the ledger", || ledger.records() == 1).await;
    agent.signal(rustix::process::Signal::TERM);
    let (code, said) = agent.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("shadow mode does not run") && said.contains("shadow.tcp"), "{said}");
}
